//! Whatever else has a descriptor: pipes, terminals, and the three standard streams.
