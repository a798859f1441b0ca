//! Names: looked up by threads, of which there are as many as the crate's own look-ups have, and the
//! same ones.
//!
//! What is written as an address needs no thread. Anything else is asked with copies of the arguments,
//! so a kill ends the wait at once (`EAI_SYSTEM` with `ECANCELED`); the thread asks on, and the answer
//! is freed by whoever knows of it last.
//!
//! What is the asking thread's own, such as options set in its `_res`, does not reach the look-up.
//!
//! In a program that is linked statically, there is no way to reach the C library's functions past
//! ours. There ours have no names: look-ups are the C library's, and hold up the thread.

#![cfg_attr(target_feature = "crt-static", expect(dead_code, reason = "see above"))]

use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::{self, ManuallyDrop};
use std::{ptr, slice};

use super::gate::{is_cooperative, keeping_errno};
use super::offload::{self, Original, Verb};
use crate::net::threads_for_names;
use crate::sys::native::natively;
use crate::sys::patches::Patch;
use crate::sys::real;

pub(super) const NAMES: &[&str] =
    if cfg!(target_feature = "crt-static") { &[] } else { &["getaddrinfo", "getnameinfo"] };

/// An error as both functions tell it: what they return, and `errno` if that says so.
#[derive(Clone, Copy)]
struct Failure {
    code: c_int,
    errno: c_int,
}

impl Failure {
    /// What was returned, on the thread on which it was. `None`: it was no error.
    fn of(code: c_int) -> Option<Failure> {
        (code != 0).then(|| Failure { code, errno: real::errno() })
    }

    fn answer(self) -> c_int {
        if self.code == libc::EAI_SYSTEM {
            real::set_errno(self.errno);
        }
        self.code
    }
}

/// Has a thread ask, and answers for errors. `Err`: what the caller is to return.
fn ask<F, T>(verb: Verb, question: F) -> Result<T, c_int>
where
    F: FnOnce() -> Result<T, Failure> + Send + 'static,
    T: Send + 'static,
{
    let lost = |error| Failure { code: libc::EAI_SYSTEM, errno: offload::number(error) };
    let asked = offload::interruptible(threads_for_names(), verb, question);
    asked.map_err(lost).and_then(|answer| answer).map_err(Failure::answer)
}

// ── from names to addresses ──

type ToAddresses = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const libc::addrinfo,
    *mut *mut libc::addrinfo,
) -> c_int;

fn getaddrinfo_of_libc() -> Option<ToAddresses> {
    static GETADDRINFO: Original = Original::new(c"getaddrinfo");
    // SAFETY: it is the C library's function of that name, which is of that type, or null.
    unsafe { mem::transmute::<*mut _, Option<ToAddresses>>(GETADDRINFO.find()) }
}

/// What is asked for, as far as it is read.
#[derive(Clone, Copy)]
struct Hints {
    flags: c_int,
    family: c_int,
    socktype: c_int,
    protocol: c_int,
}

impl Hints {
    /// What stands for none.
    const NONE: Hints = Hints {
        flags: if cfg!(target_env = "gnu") { libc::AI_V4MAPPED | libc::AI_ADDRCONFIG } else { 0 },
        family: libc::AF_UNSPEC,
        socktype: 0,
        protocol: 0,
    };

    fn to_libc(self) -> libc::addrinfo {
        libc::addrinfo {
            ai_flags: self.flags,
            ai_family: self.family,
            ai_socktype: self.socktype,
            ai_protocol: self.protocol,
            ai_addrlen: 0,
            ai_addr: ptr::null_mut(),
            ai_canonname: ptr::null_mut(),
            ai_next: ptr::null_mut(),
        }
    }
}

/// Addresses that were found, until somebody takes them.
struct Found(*mut libc::addrinfo);

// SAFETY: it is memory that one owner has, who may be on any thread.
unsafe impl Send for Found {}

impl Found {
    fn take(self) -> *mut libc::addrinfo {
        ManuallyDrop::new(self).0
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        // SAFETY: `getaddrinfo` has made it, and nobody else has it.
        unsafe { libc::freeaddrinfo(self.0) };
    }
}

/// # Safety
///
/// As for the C library's.
#[cfg_attr(not(target_feature = "crt-static"), unsafe(no_mangle))]
unsafe extern "C" fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const libc::addrinfo,
    found: *mut *mut libc::addrinfo,
) -> c_int {
    let Some(look_up) = getaddrinfo_of_libc() else { return libc::EAI_FAIL };
    // SAFETY: the caller's arguments, with no other hints than his or ours.
    let here = |hints: *const libc::addrinfo| unsafe { look_up(node, service, hints, found) };
    if !is_cooperative(Patch::Dns) {
        return here(hints);
    }
    // SAFETY: the caller has hints there, if it is not null.
    let given = unsafe { hints.as_ref() }.map(|given| Hints {
        flags: given.ai_flags,
        family: given.ai_family,
        socktype: given.ai_socktype,
        protocol: given.ai_protocol,
    });
    let mut numeric = given.unwrap_or(Hints::NONE);
    if node.is_null() || numeric.flags & libc::AI_NUMERICHOST != 0 {
        return natively(|| here(hints));
    }
    numeric.flags |= libc::AI_NUMERICHOST;
    if keeping_errno(|| natively(|| here(&numeric.to_libc()))) == 0 {
        return 0;
    }
    // SAFETY: the caller has a string there, which the C library has just read.
    let node = unsafe { CStr::from_ptr(node) }.to_owned();
    let service = (!service.is_null()).then(|| {
        // SAFETY: the caller has a string there.
        unsafe { CStr::from_ptr(service) }.to_owned()
    });
    match ask(&"getaddrinfo", move || addresses(look_up, &node, service.as_ref(), given)) {
        Ok(addresses) => {
            // SAFETY: the caller has a place there for what is found.
            unsafe { found.write(addresses.take()) };
            0
        }
        Err(code) => code,
    }
}

fn addresses(
    look_up: ToAddresses,
    node: &CStr,
    service: Option<&CString>,
    hints: Option<Hints>,
) -> Result<Found, Failure> {
    let hints = hints.map(Hints::to_libc);
    let hints = hints.as_ref().map_or(ptr::null(), ptr::from_ref);
    let service = service.map_or(ptr::null(), |service| service.as_ptr());
    let mut found = ptr::null_mut();
    // SAFETY: strings, hints and a place that are here until it returns.
    let code = unsafe { look_up(node.as_ptr(), service, hints, &raw mut found) };
    Failure::of(code).map_or(Ok(Found(found)), Err)
}

// ── from addresses to names ──

type ToName = unsafe extern "C" fn(
    *const libc::sockaddr,
    libc::socklen_t,
    *mut c_char,
    libc::socklen_t,
    *mut c_char,
    libc::socklen_t,
    c_int,
) -> c_int;

fn getnameinfo_of_libc() -> Option<ToName> {
    static GETNAMEINFO: Original = Original::new(c"getnameinfo");
    // SAFETY: it is the C library's function of that name, which is of that type, or null.
    unsafe { mem::transmute::<*mut _, Option<ToName>>(GETNAMEINFO.find()) }
}

/// No name is longer, nor is there room for more of one than the caller has.
const LONGEST: libc::socklen_t = 4096;

/// # Safety
///
/// As for the C library's.
#[cfg_attr(not(target_feature = "crt-static"), unsafe(no_mangle))]
unsafe extern "C" fn getnameinfo(
    address: *const libc::sockaddr,
    len: libc::socklen_t,
    host: *mut c_char,
    host_len: libc::socklen_t,
    service: *mut c_char,
    service_len: libc::socklen_t,
    flags: c_int,
) -> c_int {
    let Some(look_up) = getnameinfo_of_libc() else { return libc::EAI_FAIL };
    // SAFETY: the caller's arguments, as they are.
    let here = || unsafe { look_up(address, len, host, host_len, service, service_len, flags) };
    if !is_cooperative(Patch::Dns) {
        return here();
    }
    // The names of services are in a file.
    let asks_for_host = !host.is_null() && host_len > 0 && flags & libc::NI_NUMERICHOST == 0;
    // SAFETY: the caller has an address of that length there.
    if !asks_for_host || !unsafe { is_of_internet(address, len) } {
        return natively(here);
    }
    // SAFETY: as above.
    let bytes = unsafe { slice::from_raw_parts(address.cast::<u8>(), len as usize) };
    let mut sockaddr = Sockaddr::default();
    sockaddr.0[..bytes.len()].copy_from_slice(bytes);
    let room = [host_len, if service.is_null() { 0 } else { service_len }];
    match ask(&"getnameinfo", move || names(look_up, &sockaddr, len, room, flags)) {
        Ok([name, port]) => {
            for (place, room, text) in [(host, room[0], name), (service, room[1], port)] {
                let text = text.as_bytes_with_nul();
                if room > 0 {
                    // SAFETY: it was made to fit into the room that the caller has there.
                    unsafe { place.copy_from_nonoverlapping(text.as_ptr().cast(), text.len()) };
                }
            }
            0
        }
        Err(code) => code,
    }
}

/// Room for any address there is, aligned for all of them.
#[derive(Clone, Copy)]
#[repr(align(16))]
struct Sockaddr([u8; size_of::<libc::sockaddr_storage>()]);

impl Default for Sockaddr {
    fn default() -> Sockaddr {
        Sockaddr([0; size_of::<libc::sockaddr_storage>()])
    }
}

/// Others have no names that must be asked for.
///
/// # Safety
///
/// There is an address of that length.
unsafe fn is_of_internet(address: *const libc::sockaddr, len: libc::socklen_t) -> bool {
    let is_whole = (size_of::<libc::sockaddr>()..=size_of::<Sockaddr>()).contains(&(len as usize));
    // SAFETY: it is there, as the caller says.
    is_whole
        && matches!(c_int::from(unsafe { (*address).sa_family }), libc::AF_INET | libc::AF_INET6)
}

fn names(
    look_up: ToName,
    address: &Sockaddr,
    len: libc::socklen_t,
    room: [libc::socklen_t; 2],
    flags: c_int,
) -> Result<[CString; 2], Failure> {
    let mut places = room.map(|room| vec![0_u8; room.min(LONGEST) as usize]);
    let [(host, host_len), (service, service_len)] = places
        .each_mut()
        .map(|place| (place.as_mut_ptr().cast::<c_char>(), place.len() as libc::socklen_t));
    let address = ptr::from_ref(address).cast::<libc::sockaddr>();
    // SAFETY: an address and places of those lengths, which are here until it returns.
    let code = unsafe { look_up(address, len, host, host_len, service, service_len, flags) };
    let text =
        |place: Vec<u8>| CStr::from_bytes_until_nul(&place).map(CStr::to_owned).unwrap_or_default();
    Failure::of(code).map_or_else(|| Ok(places.map(text)), Err)
}
