//! `getaddrinfo` and `getnameinfo`, patched: std's look-ups, by greenlets.
//!
//! A slow look-up is had by standing between the crate and the C library: the crate asks `dlsym` for the
//! C library's functions, and here it is told of ours. They know names that begin with `held`, and
//! answer when they are told to; all else is the C library's to say.

#![cfg(target_env = "gnu")] // the real `dlsym` is found by a function that others do not have
#![allow(unsafe_code, reason = "functions of C are called, and taken the place of")]

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::sync::{Condvar, Mutex};
use std::{fs, io, mem, ptr, thread};

use greenloom::monkey::{self, Patch};
use greenloom::{JoinError, dump, idle, net, sleep, spawn};

mod monkey_util;
use monkey_util::{alone, ms, overlapping};

// ── a slow resolver ──

/// What the slow resolver knows.
struct Resolver {
    /// Look-ups do not end before.
    is_told: bool,
    /// Who is in one now, and who was.
    inside: usize,
    threads: Vec<thread::ThreadId>,
    /// How many lists of addresses were made, and freed.
    lists: (usize, usize),
}

static RESOLVER: Mutex<Resolver> =
    Mutex::new(Resolver { is_told: false, inside: 0, threads: Vec::new(), lists: (0, 0) });
static NEWS: Condvar = Condvar::new();

/// Lets all look-ups end, from now on.
fn tell() {
    RESOLVER.lock().unwrap().is_told = true;
    NEWS.notify_all();
}

/// Waits, by holding up the thread, until so many are in a look-up.
fn until_inside(count: usize) {
    drop(NEWS.wait_while(RESOLVER.lock().unwrap(), |resolver| resolver.inside < count).unwrap());
}

/// What every look-up of a name does that is slow.
fn be_slow() {
    let mut resolver = RESOLVER.lock().unwrap();
    resolver.inside += 1;
    resolver.threads.push(thread::current().id());
    NEWS.notify_all();
    let mut resolver = NEWS.wait_while(resolver, |resolver| !resolver.is_told).unwrap();
    resolver.inside -= 1;
}

/// Which threads have made slow look-ups.
fn threads() -> Vec<thread::ThreadId> {
    RESOLVER.lock().unwrap().threads.clone()
}

/// How many lists of addresses are there that were made and not freed.
fn lists() -> usize {
    let (made, freed) = RESOLVER.lock().unwrap().lists;
    made - freed
}

fn original(name: &CStr) -> *mut c_void {
    // SAFETY: the name of a function and that of the version which has it; null if there is none.
    let find = |version: &CStr| unsafe {
        libc::dlvsym(libc::RTLD_NEXT, c"dlsym".as_ptr(), version.as_ptr())
    };
    let versions = [c"GLIBC_2.34", c"GLIBC_2.2.5", c"GLIBC_2.17"];
    let found = versions.iter().map(|version| find(version)).find(|found| !found.is_null());
    type Find = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;
    // SAFETY: it is the C library's `dlsym`.
    let dlsym = unsafe { mem::transmute::<*mut c_void, Find>(found.expect("there is a `dlsym`")) };
    // SAFETY: a name, and a handle that is always good.
    unsafe { dlsym(libc::RTLD_NEXT, name.as_ptr()) }
}

/// Takes the place of the C library's, for this program alone.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    // SAFETY: the caller has a string there.
    let name = unsafe { CStr::from_ptr(name) };
    match name.to_bytes() {
        b"getaddrinfo" if handle == libc::RTLD_NEXT => slow_getaddrinfo as *mut c_void,
        b"getnameinfo" if handle == libc::RTLD_NEXT => slow_getnameinfo as *mut c_void,
        _ => original(name),
    }
}

/// # Safety
///
/// As for the C library's.
unsafe extern "C" fn slow_getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const libc::addrinfo,
    found: *mut *mut libc::addrinfo,
) -> c_int {
    type Real = unsafe extern "C" fn(
        *const c_char,
        *const c_char,
        *const libc::addrinfo,
        *mut *mut libc::addrinfo,
    ) -> c_int;
    // SAFETY: it is the C library's function of that name.
    let real = unsafe { mem::transmute::<*mut c_void, Real>(original(c"getaddrinfo")) };
    // SAFETY: the caller has a string there.
    let name = (!node.is_null()).then(|| unsafe { CStr::from_ptr(node) }.to_bytes().to_vec());
    // SAFETY: the caller has hints there, if any.
    let flags = unsafe { hints.as_ref() }.map_or(0, |hints| hints.ai_flags);
    let is_held = |name: &Vec<u8>| name.starts_with(b"held") && flags & libc::AI_NUMERICHOST == 0;
    let code = match name.filter(is_held) {
        None => {
            // SAFETY: the caller's arguments, as they are.
            unsafe { real(node, service, hints, found) }
        }
        Some(name) => {
            be_slow();
            match &name[..] {
                b"held.broken" => {
                    set_errno(libc::EMFILE);
                    libc::EAI_SYSTEM
                }
                b"held.unknown" => libc::EAI_NONAME,
                name => {
                    let last = name.split(|byte| *byte == b'.').next_back().unwrap();
                    let address = [b"127.0.0.", last, b"\0"].concat();
                    // SAFETY: the caller's arguments, but for the name, which is a string.
                    unsafe { real(address.as_ptr().cast(), service, hints, found) }
                }
            }
        }
    };
    if code == 0 {
        RESOLVER.lock().unwrap().lists.0 += 1;
        NEWS.notify_all();
    }
    code
}

/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn freeaddrinfo(list: *mut libc::addrinfo) {
    type Real = unsafe extern "C" fn(*mut libc::addrinfo);
    // SAFETY: it is the C library's function of that name.
    let real = unsafe { mem::transmute::<*mut c_void, Real>(original(c"freeaddrinfo")) };
    RESOLVER.lock().unwrap().lists.1 += 1;
    NEWS.notify_all();
    // SAFETY: the caller's argument, as it is.
    unsafe { real(list) };
}

/// # Safety
///
/// As for the C library's.
unsafe extern "C" fn slow_getnameinfo(
    address: *const libc::sockaddr,
    len: libc::socklen_t,
    host: *mut c_char,
    host_len: libc::socklen_t,
    service: *mut c_char,
    service_len: libc::socklen_t,
    flags: c_int,
) -> c_int {
    type Real = unsafe extern "C" fn(
        *const libc::sockaddr,
        libc::socklen_t,
        *mut c_char,
        libc::socklen_t,
        *mut c_char,
        libc::socklen_t,
        c_int,
    ) -> c_int;
    // SAFETY: it is the C library's function of that name.
    let real = unsafe { mem::transmute::<*mut c_void, Real>(original(c"getnameinfo")) };
    if flags & libc::NI_NUMERICHOST == 0 && !host.is_null() {
        be_slow();
    }
    // Nobody is to be asked, whom a machine without a network would wait for.
    let flags = flags | libc::NI_NUMERICHOST;
    // SAFETY: the caller's arguments, as they are.
    unsafe { real(address, len, host, host_len, service, service_len, flags) }
}

// ── what is shown ──

fn set_errno(errno: i32) {
    // SAFETY: the place of a thread's own `errno` is there as long as the thread.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *place = errno };
}

fn look_up(name: &str) -> io::Result<Vec<SocketAddr>> {
    (name, 80).to_socket_addrs().map(Iterator::collect)
}

fn local(last: u8) -> SocketAddr {
    ([127, 0, 0, last], 80).into()
}

/// The names of an address, or what is told instead. So much room is there for the host's.
fn names(addr: SocketAddr, room: usize, flags: c_int) -> Result<(String, String), c_int> {
    let IpAddr::V4(ip) = addr.ip() else { unreachable!("only these are asked for") };
    // SAFETY: numbers.
    let mut address: libc::sockaddr_in = unsafe { mem::zeroed() };
    address.sin_family = libc::AF_INET as libc::sa_family_t;
    address.sin_port = addr.port().to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes(ip.octets());
    let (mut host, mut service) = (vec![0_u8; room], [0_u8; 32]);
    // SAFETY: an address, and places for the names, with their lengths.
    let code = unsafe {
        libc::getnameinfo(
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
            host.as_mut_ptr().cast(),
            room as libc::socklen_t,
            service.as_mut_ptr().cast(),
            32,
            flags,
        )
    };
    let text =
        |bytes: &[u8]| CStr::from_bytes_until_nul(bytes).unwrap().to_str().unwrap().to_owned();
    if code == 0 { Ok((text(&host), text(&service))) } else { Err(code) }
}

fn errno() -> Option<i32> {
    io::Error::last_os_error().raw_os_error()
}

alone! {
    fn look_ups_overlap() {
        monkey::patch_all();
        const N: usize = 32; // as many as there are threads for names
        let found = overlapping(
            N,
            |n| look_up(&format!("held.{n}")).unwrap(),
            || {
                until_inside(N); // all of them at the same time
                tell();
            },
        );
        for (n, addrs) in found.into_iter().enumerate() {
            assert_eq!(addrs, [local(n as u8)]);
        }
        assert!(!threads().contains(&thread::current().id()));
        assert_eq!(lists(), 0);
    }

    /// More than there are threads for names wait for their turn, by parking.
    fn many_take_turns() {
        monkey::patch_all();
        let found = overlapping(100, |n| look_up(&format!("held.{n}")).unwrap(), tell);
        for (n, addrs) in found.into_iter().enumerate() {
            assert_eq!(addrs, [local(n as u8)]);
        }
        assert_eq!(lists(), 0);
    }

    /// They share the threads with look-ups of the crate's own.
    fn the_threads_are_those_of_the_crates_own_look_ups() {
        monkey::patch_all();
        let own = spawn(|| net::lookup("held.1", 80).unwrap());
        let stds = spawn(|| look_up("held.2").unwrap());
        idle();
        until_inside(2);
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap());
        assert_eq!(names.filter(|name| name.trim() == "greenloom-names").count(), 2);
        tell();
        assert_eq!((own.get().unwrap(), stds.get().unwrap()), (vec![local(1)], vec![local(2)]));
    }

    fn reverse_look_ups_overlap() {
        monkey::patch_all();
        const N: usize = 8;
        let found = overlapping(
            N,
            |n| names(local(n as u8), 1025, 0).unwrap(),
            || {
                until_inside(N);
                tell();
            },
        );
        for (n, (host, service)) in found.into_iter().enumerate() {
            assert_eq!(host, format!("127.0.0.{n}"));
            assert!(["http", "80"].contains(&&*service), "{service}");
        }
        assert!(!threads().contains(&thread::current().id()));
    }

    /// Numbers need no thread, whether it is said that they are numbers or not.
    fn numbers_are_read_in_place() {
        monkey::patch_all();
        let others = spawn(|| sleep(ms(60_000)));
        let is_in_place = spawn(move || {
            let ran = Rc::new(RefCell::new(false));
            let other = spawn({
                let ran = Rc::clone(&ran);
                move || ran.replace(true)
            });
            for name in ["127.0.0.1", "::1", "127.1", "0x7f000001"] {
                assert!(look_up(name).unwrap()[0].ip().is_loopback());
            }
            let mut found = ptr::null_mut();
            // SAFETY: strings, and a place for what is found.
            let code = unsafe {
                libc::getaddrinfo(ptr::null(), c"80".as_ptr(), ptr::null(), &raw mut found)
            };
            assert_eq!(code, 0);
            // SAFETY: it was found just now.
            unsafe { libc::freeaddrinfo(found) };
            let (host, service) =
                names(local(9), 1025, libc::NI_NUMERICHOST | libc::NI_NUMERICSERV).unwrap();
            assert_eq!((&*host, &*service), ("127.0.0.9", "80"));
            let is_in_place = !*ran.borrow();
            other.join();
            is_in_place
        });
        assert!(is_in_place.get().unwrap());
        others.kill();
        assert_eq!(lists(), 0);
    }

    /// A canonical name, a service by its name, a kind of socket: what is asked is what is answered.
    fn hints_and_services_reach_the_resolver() {
        monkey::patch_all();
        let greenlet = spawn(|| {
            // SAFETY: numbers and addresses, for which zero is good.
            let mut hints: libc::addrinfo = unsafe { mem::zeroed() };
            hints.ai_socktype = libc::SOCK_DGRAM;
            hints.ai_family = libc::AF_INET;
            hints.ai_flags = libc::AI_CANONNAME;
            let mut found = ptr::null_mut();
            let (node, service) = (c"held.7", c"4711");
            // SAFETY: strings, hints, and a place for what is found.
            let code = unsafe {
                libc::getaddrinfo(node.as_ptr(), service.as_ptr(), &raw const hints, &raw mut found)
            };
            assert_eq!(code, 0);
            // SAFETY: it was found just now.
            let first = unsafe { &*found };
            assert_eq!((first.ai_socktype, first.ai_family), (libc::SOCK_DGRAM, libc::AF_INET));
            assert!(!first.ai_canonname.is_null() && first.ai_next.is_null());
            // SAFETY: it is of that family.
            let address = unsafe { &*first.ai_addr.cast::<libc::sockaddr_in>() };
            assert_eq!(u16::from_be(address.sin_port), 4711);
            // SAFETY: it was found, and is used no more.
            unsafe { libc::freeaddrinfo(found) };
        });
        idle();
        tell();
        greenlet.get().unwrap();
        assert_eq!(lists(), 0);
    }

    fn errors_are_the_resolvers() {
        monkey::patch_all();
        tell();
        let ask = |name: &CStr| {
            let mut found = ptr::null_mut();
            // SAFETY: a string, and a place for what is found.
            let code = unsafe {
                libc::getaddrinfo(name.as_ptr(), ptr::null(), ptr::null(), &raw mut found)
            };
            (code, errno())
        };
        spawn(move || {
            assert_eq!(ask(c"held.broken"), (libc::EAI_SYSTEM, Some(libc::EMFILE)));
            assert_eq!(ask(c"held.unknown").0, libc::EAI_NONAME);
            assert_eq!(names(local(1), 3, 0), Err(libc::EAI_OVERFLOW));
            let error = look_up("held.broken").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        })
        .get()
        .unwrap();
    }

    fn success_leaves_errno_alone() {
        monkey::patch_all();
        tell();
        spawn(|| {
            set_errno(4711);
            let mut found = ptr::null_mut();
            // SAFETY: a string, and a place for what is found.
            let code = unsafe {
                libc::getaddrinfo(c"held.1".as_ptr(), ptr::null(), ptr::null(), &raw mut found)
            };
            assert_eq!((code, errno()), (0, Some(4711)));
            // SAFETY: it was found, and is used no more.
            unsafe { libc::freeaddrinfo(found) };
        })
        .get()
        .unwrap();
    }

    /// The look-up goes on, and what it finds is freed.
    fn a_kill_ends_the_wait_and_leaks_nothing() {
        monkey::patch_all();
        let told = Rc::new(RefCell::new(Vec::new()));
        let greenlet = spawn({
            let told = Rc::clone(&told);
            move || {
                let error = look_up("held.1").unwrap_err();
                told.borrow_mut().push(error.raw_os_error());
                sleep(ms(60_000));
            }
        });
        let reverse = spawn({
            let told = Rc::clone(&told);
            move || {
                assert_eq!(names(local(1), 1025, 0), Err(libc::EAI_SYSTEM));
                told.borrow_mut().push(errno());
                sleep(ms(60_000));
            }
        });
        idle();
        until_inside(2);
        for greenlet in [greenlet, reverse] {
            greenlet.kill();
            assert!(matches!(greenlet.get(), Err(JoinError::Killed)));
        }
        assert_eq!(*told.borrow(), [Some(libc::ECANCELED); 2]);
        assert_eq!(lists(), 0);
        tell();
        // If it were not freed, this would never end.
        let is_left = |resolver: &mut Resolver| resolver.lists != (1, 1);
        drop(NEWS.wait_while(RESOLVER.lock().unwrap(), is_left).unwrap());
    }

    fn a_look_up_is_seen() {
        monkey::patch_dns();
        let greenlets = [
            spawn(|| drop(look_up("held.1").unwrap())),
            spawn(|| drop(names(local(1), 1025, 0).unwrap())),
        ];
        idle();
        let reason = |n: usize| dump().greenlets()[n].reason.clone();
        assert_eq!(reason(1).as_deref(), Some("getaddrinfo"));
        assert_eq!(reason(2).as_deref(), Some("getnameinfo"));
        tell();
        for greenlet in greenlets {
            greenlet.get().unwrap();
        }
    }

    /// The C library's own, which the machine it runs on may answer as it likes.
    fn localhost_is_local() {
        monkey::patch_all();
        let greenlet = spawn(|| look_up("localhost").unwrap());
        assert!(greenlet.get().unwrap().iter().all(|addr| addr.ip().is_loopback()));
        let unknown = spawn(|| look_up("no such host").is_err());
        assert!(unknown.get().unwrap());
    }

    fn unpatched_it_is_the_threads_own() {
        monkey::patch_all_except([Patch::Dns]);
        tell();
        let here = thread::current().id();
        spawn(|| {
            look_up("held.1").unwrap();
            names(local(1), 1025, 0).unwrap();
        })
        .get()
        .unwrap();
        assert_eq!(threads(), [here, here]);
        assert_eq!(lists(), 0);
    }

    fn outside_of_greenlets_it_is_the_threads_own() {
        monkey::patch_all();
        tell();
        let outside = thread::spawn(|| {
            look_up("held.1").unwrap();
            names(local(1), 1025, 0).unwrap();
            thread::current().id()
        });
        let there = outside.join().unwrap();
        assert_eq!(threads(), [there, there]);
    }
}
