//! Child processes, name for name `std::process`.
