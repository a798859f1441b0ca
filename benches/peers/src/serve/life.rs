//! How a server ends: with its standard input, or by SIGTERM or SIGINT, and always by an exit, so
//! that a debugger or profiler around it can finish its report.
//!
//! The kernel tells by a signal (SIGIO) when something happens on standard input. A thread that
//! reads it would be simpler, but not free: with a second thread in the process the kernel counts
//! references to each descriptor it uses, and the allocator locks.

use std::io;
use std::os::fd::BorrowedFd;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub(super) fn end_with_stdin() -> anyhow::Result<()> {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        on_signal(signal, exit)?;
    }
    on_signal(libc::SIGIO, look)?;
    let me = std::process::id() as libc::c_int;
    // SAFETY: it passes numbers only.
    let owned = unsafe { libc::fcntl(libc::STDIN_FILENO, libc::F_SETOWN, me) };
    // SAFETY: as above.
    let asked = unsafe { libc::fcntl(libc::STDIN_FILENO, libc::F_SETFL, libc::O_ASYNC) };
    if owned == -1 || asked == -1 {
        return Err(io::Error::last_os_error()).context("nothing can be told of standard input");
    }
    // It may have ended before we asked, and a file or /dev/null never tells.
    look(0);
    Ok(())
}

fn on_signal(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    // SAFETY: all zeros is a `sigaction`: no handler, no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as libc::sighandler_t;
    // On the stack for handlers where there is one: coroutines have small ones. Without an
    // interrupted call anywhere, for some peers would report it.
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the handlers above make system calls and nothing else, which is always allowed; the
    // action is live, and the old one is not asked for.
    if unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn exit(_signal: libc::c_int) {
    // SAFETY: it ends the process without running anything of it.
    unsafe { libc::_exit(0) }
}

/// Swallows what there is, and ends the process at the end of it. (rustix makes system calls
/// itself, and does not touch `errno`.)
extern "C" fn look(signal: libc::c_int) {
    // SAFETY: nobody here closes standard input.
    let stdin = unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) };
    let mut swallowed = [0; 256];
    loop {
        let mut input = [PollFd::from_borrowed_fd(stdin, PollFlags::IN)];
        match poll(&mut input, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(0) | Err(_) => return, // the end will send another signal
            Ok(_) => {}
        }
        let has_bytes = input[0].revents().contains(PollFlags::IN);
        if !has_bytes || !matches!(rustix::io::read(stdin, &mut swallowed), Ok(1..)) {
            exit(signal);
        }
    }
}
