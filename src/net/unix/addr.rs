//! Addresses, between std's type and that of the system calls.

use std::ffi::OsStr;
use std::io;
#[cfg(target_os = "android")]
use std::os::android::net::SocketAddrExt;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;

use rustix::net::{SocketAddrAny, SocketAddrUnix};

/// For the system.
///
/// # Errors
///
/// `InvalidInput` for an address without a name, which nobody can be sent to.
pub(super) fn to_system(addr: &SocketAddr) -> io::Result<SocketAddrUnix> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = addr.as_abstract_name() {
        return Ok(SocketAddrUnix::new_abstract_name(name)?);
    }
    match addr.as_pathname() {
        Some(path) => Ok(SocketAddrUnix::new(path)?),
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "the address has no name")),
    }
}

/// From the system, which gives none, or one of no length, for a socket without a name.
///
/// `None`: it has a name that cannot be made into std's type here. That is a path which fills the
/// system's structure to the last byte: the system counts a zero behind it, and std itself makes
/// such an address only from what the system tells it. It is no error, because whatever came from
/// there has been taken already.
pub(super) fn to_std(addr: Option<SocketAddrAny>) -> Option<SocketAddr> {
    let Some(addr) = addr else { return Some(unnamed()) };
    if addr.addr_len() <= FAMILY {
        return Some(unnamed());
    }
    if addr.addr_len() > FAMILY + PATH {
        return None; // rustix would panic
    }
    let addr = SocketAddrUnix::try_from(addr).ok()?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = addr.abstract_name() {
        return SocketAddr::from_abstract_name(name).ok();
    }
    let Some(path) = addr.path_bytes() else { return Some(unnamed()) };
    // One that fills the structure but for the zero comes with the zero.
    let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
    SocketAddr::from_pathname(OsStr::from_bytes(path)).ok()
}

/// What comes before the name in an address.
const FAMILY: u32 = 2;

/// The longest name.
const PATH: u32 = if cfg!(any(target_os = "linux", target_os = "android")) { 108 } else { 104 };

pub(super) fn unnamed() -> SocketAddr {
    SocketAddr::from_pathname("").expect("no name at all is short enough")
}
