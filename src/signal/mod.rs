//! Signals, taken by greenlets.
