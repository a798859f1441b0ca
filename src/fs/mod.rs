//! Files, name for name `std::fs`: the thread pool does what the kernel can only do by blocking.
