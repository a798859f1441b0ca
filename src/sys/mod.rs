//! The operating system, as little of it as the floors above need.
//!
//! The only room that calls libc, and with `coro` one of the two that hold `unsafe` code. Each
//! function does one thing and returns [`std::io::Result`] where it can fail; whatever the kernel
//! of the day lacks is decided here, not by the callers.

#![expect(unsafe_code, reason = "memory maps and signal handlers have no safe interface")]

pub(crate) mod disposition;
pub(crate) mod fault;
pub(crate) mod local;
pub(crate) mod memory;
pub(crate) mod native;
#[cfg(feature = "monkey")]
pub(crate) mod patches;
pub(crate) mod prefetch;
#[cfg(feature = "monkey")]
pub(crate) mod real;
pub(crate) mod wait;
