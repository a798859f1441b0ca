//! The names under which checked builds of C call some of the patched functions; and a shared object
//! of C that is loaded when the program runs.

#![expect(unsafe_code, reason = "the functions under test are C's")]

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::{env, fs, io, mem, ptr};

use greenloom::{dump, idle, monkey, spawn, yield_now};
use libc::{POLLIN, nfds_t, off_t, pollfd, sigset_t, sockaddr, socklen_t, timespec};

mod monkey_util;
use monkey_util::{alone, overlapping};

unsafe extern "C" {
    fn __read_chk(fd: c_int, buf: *mut c_void, len: usize, room: usize) -> isize;
    fn __recv_chk(fd: c_int, buf: *mut c_void, len: usize, room: usize, flags: c_int) -> isize;
    fn __recvfrom_chk(
        fd: c_int,
        buf: *mut c_void,
        len: usize,
        room: usize,
        flags: c_int,
        from: *mut sockaddr,
        from_len: *mut socklen_t,
    ) -> isize;
    fn __poll_chk(fds: *mut pollfd, count: nfds_t, timeout: c_int, room: usize) -> c_int;
    fn __ppoll_chk(
        fds: *mut pollfd,
        count: nfds_t,
        timeout: *const timespec,
        mask: *const sigset_t,
        room: usize,
    ) -> c_int;
    fn __pread_chk(fd: c_int, buf: *mut c_void, len: usize, at: off_t, room: usize) -> isize;
    fn __pread64_chk(fd: c_int, buf: *mut c_void, len: usize, at: off_t, room: usize) -> isize;
}

/// Waits until a byte can be read, asking for so much more than there is room for. Returns 1.
type Call = fn(&UnixStream, usize) -> isize;

const CALLS: [(&str, Call); 5] = [
    ("read", |socket, excess| {
        let mut buf = [0_u8; 4];
        // SAFETY: there is as much room as it is told.
        unsafe { __read_chk(socket.as_raw_fd(), buf.as_mut_ptr().cast(), 4 + excess, 4) }
    }),
    ("recv", |socket, excess| {
        let mut buf = [0_u8; 4];
        // SAFETY: as above.
        unsafe { __recv_chk(socket.as_raw_fd(), buf.as_mut_ptr().cast(), 4 + excess, 4, 0) }
    }),
    ("recvfrom", |socket, excess| {
        let (mut buf, nobody) = ([0_u8; 4], ptr::null_mut());
        let (fd, place) = (socket.as_raw_fd(), buf.as_mut_ptr().cast());
        // SAFETY: as above, and nobody wants to know who has sent it.
        unsafe { __recvfrom_chk(fd, place, 4 + excess, 4, 0, nobody, ptr::null_mut()) }
    }),
    ("poll", |socket, excess| {
        let mut fds = [pollfd { fd: socket.as_raw_fd(), events: POLLIN, revents: 0 }];
        let count = 1 + excess as nfds_t;
        // SAFETY: as above.
        unsafe { __poll_chk(fds.as_mut_ptr(), count, -1, size_of_val(&fds)) as isize }
    }),
    ("ppoll", |socket, excess| {
        let mut fds = [pollfd { fd: socket.as_raw_fd(), events: POLLIN, revents: 0 }];
        let (count, room) = (1 + excess as nfds_t, size_of_val(&fds));
        // SAFETY: as above; no time and no mask.
        unsafe { __ppoll_chk(fds.as_mut_ptr(), count, ptr::null(), ptr::null(), room) as isize }
    }),
];

/// Reads a regular file.
type ReadAt = unsafe extern "C" fn(c_int, *mut c_void, usize, off_t, usize) -> isize;

const OF_FILES: [(&str, ReadAt); 2] = [("pread", __pread_chk), ("pread64", __pread64_chk)];

fn read_at(call: ReadAt, excess: usize) -> [u8; 4] {
    let (file, mut buf) = (File::open("/proc/self/exe").unwrap(), [0; 4]);
    // SAFETY: there is as much room as it is told.
    let read = unsafe { call(file.as_raw_fd(), buf.as_mut_ptr().cast(), 3 + excess, 1, 3) };
    assert_eq!(read, 3);
    buf
}

/// Twenty greenlets wait for a socket each; then all are written to.
fn overlap(verb: Option<&str>, wait: impl Fn(&UnixStream) -> isize + 'static) {
    let (mut here, there): (Vec<_>, Vec<_>) = (0..20).map(|_| UnixStream::pair().unwrap()).unzip();
    let results = overlapping(
        20,
        move |n| wait(&there[n]),
        || {
            idle();
            if let Some(verb) = verb {
                assert_eq!(dump().greenlets()[1].reason.as_deref(), Some(verb));
            }
            for socket in &mut here {
                socket.write_all(b"!").unwrap();
            }
        },
    );
    assert_eq!(results, [1; 20]);
}

/// Does that end the process, by the C library's hand?
fn is_ended(f: impl FnOnce()) -> bool {
    // SAFETY: the child does what is to end it, and else ends.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        f();
        // SAFETY: nothing is to be cleaned up.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: it writes the status of a child of ours.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT
}

alone! {
    fn checked_names_overlap() {
        monkey::patch_all();
        for (verb, call) in CALLS {
            overlap(Some(verb), move |socket| call(socket, 0));
        }
    }

    fn unpatched_and_without_a_hub_they_are_the_kernel_s() {
        for patched in [false, true] {
            if patched {
                monkey::patch_all();
            }
            for (_, call) in CALLS {
                let (mut here, there) = UnixStream::pair().unwrap();
                here.write_all(b"!").unwrap();
                assert_eq!(call(&there, 0), 1);
            }
        }
    }

    fn who_asks_for_more_than_there_is_room_for_is_ended() {
        for (_, call) in CALLS {
            let (mut here, there) = UnixStream::pair().unwrap();
            here.write_all(b"!").unwrap();
            assert!(!is_ended(|| _ = call(&there, 0)));
            assert!(is_ended(|| _ = call(&there, 1)));
        }
    }

    #[cfg_attr(hard_switch, ignore = "about who runs when nobody has to wait")]
    fn files_are_read_by_threads() {
        assert_eq!(read_at(__pread_chk, 0), *b"ELF\0");
        monkey::patch_file();
        for (verb, call) in OF_FILES {
            let reader = spawn(move || read_at(call, 0));
            yield_now();
            assert_eq!(dump().greenlets()[1].reason.as_deref(), Some(verb));
            assert_eq!(reader.get().unwrap(), *b"ELF\0");
            let read = overlapping(20, move |_| read_at(call, 0), || {});
            assert_eq!(read, [*b"ELF\0"; 20]);
            assert!(is_ended(|| _ = read_at(call, 1)));
        }
    }

    fn they_are_in_the_report() {
        let report = monkey::report().to_string();
        for verb in CALLS.map(|(verb, _)| verb).into_iter().chain(OF_FILES.map(|(verb, _)| verb)) {
            assert!(report.contains(&format!("__{verb}_chk")), "{report}");
        }
    }
}

// ── a shared object ──

const SOURCE: &str = r#"
#include <poll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

long by_read(int fd, long len) { char buf[16]; return read(fd, buf, len); }
long by_recv(int fd, long len) { char buf[16]; return recv(fd, buf, len, 0); }

long by_recvfrom(int fd, long len) {
    char buf[16];
    struct sockaddr_storage from;
    socklen_t from_len = sizeof from;
    return recvfrom(fd, buf, len, 0, (struct sockaddr *)&from, &from_len);
}

long by_poll(int fd, long len) {
    struct pollfd fds[4];
    for (int n = 0; n < 4; n++) {
        fds[n].fd = n == 0 ? fd : -1;
        fds[n].events = POLLIN;
    }
    return poll(fds, len, -1);
}

long by_select(int fd, long len) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    return select(fd + 1, &set, 0, 0, 0);
}

long by_nanosleep(int fd, long len) {
    struct timespec time = { 0, len * 1000000 };
    return nanosleep(&time, 0) + 1;
}
"#;

type InC = unsafe extern "C" fn(c_int, c_long) -> c_long;

/// Builds it, with checks, and loads it. `None`: there is no compiler.
fn loaded() -> Option<*mut c_void> {
    let folder = tempfile::tempdir().unwrap();
    let (source, object) = (folder.path().join("blocking.c"), folder.path().join("blocking.so"));
    fs::write(&source, SOURCE).unwrap();
    let mut compiler = Command::new(env::var_os("CC").unwrap_or("cc".into()));
    compiler.args(["-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2", "-shared", "-fPIC", "-o"]);
    match compiler.arg(&object).arg(&source).status() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        status => assert!(status.unwrap().success()),
    }
    let built = fs::read(&object).unwrap();
    let calls = |name: &[u8]| built.windows(name.len()).any(|window| window == name);
    assert!(calls(b"__read_chk\0") && calls(b"__poll_chk\0"), "this compiler does not check");
    let path = CString::new(object.as_os_str().as_bytes()).unwrap();
    // SAFETY: a path, and an object that does nothing when it is loaded.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    assert!(!handle.is_null());
    Some(handle)
}

/// A function of it.
fn function(object: *mut c_void, name: &CStr) -> InC {
    let name: *const c_char = name.as_ptr();
    // SAFETY: an object that is loaded, and a name.
    let place = unsafe { libc::dlsym(object, name) };
    assert!(!place.is_null());
    // SAFETY: all of them are of that type.
    unsafe { mem::transmute::<*mut c_void, InC>(place) }
}

alone! {
    #[expect(clippy::print_stderr, reason = "a test that is left out says so")]
    fn a_shared_object_of_c_is_bound_to_ours() {
        monkey::patch_all();
        let Some(object) = loaded() else {
            eprintln!("left out: there is no C compiler");
            return;
        };
        let functions = [
            (c"by_read", Some("read")),
            (c"by_recv", Some("recv")),
            (c"by_recvfrom", Some("recvfrom")),
            (c"by_poll", Some("poll")),
            (c"by_select", Some("select")),
            (c"by_nanosleep", None),
        ];
        for (name, verb) in functions {
            let f = function(object, name);
            // SAFETY: a descriptor, and no more than there is room for.
            overlap(verb, move |socket| unsafe { f(socket.as_raw_fd(), 4) } as isize);
        }
    }
}
