//! Servers: what accepts, whom it calls, how many at a time, and how it ends.
