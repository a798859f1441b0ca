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
/// A path that fills the system's structure to the last byte, without a zero behind it, cannot be
/// made into std's type, nor can std bind to one; it counts as no name.
///
/// # Errors
///
/// If it is no address of a Unix socket.
pub(super) fn to_std(addr: Option<SocketAddrAny>) -> io::Result<SocketAddr> {
    let Some(addr) = addr else { return unnamed() };
    if addr.addr_len() <= FAMILY || addr.addr_len() > FAMILY + PATH {
        return unnamed();
    }
    let addr = SocketAddrUnix::try_from(addr)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = addr.abstract_name() {
        return SocketAddr::from_abstract_name(name);
    }
    match addr.path() {
        Some(path) => SocketAddr::from_pathname(OsStr::from_bytes(path.to_bytes())),
        None => unnamed(),
    }
}

/// What comes before the name in an address.
const FAMILY: u32 = 2;

/// The longest name.
const PATH: u32 = if cfg!(any(target_os = "linux", target_os = "android")) { 108 } else { 104 };

fn unnamed() -> io::Result<SocketAddr> {
    SocketAddr::from_pathname("")
}
