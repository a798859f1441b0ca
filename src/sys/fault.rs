//! Faults on guard pages: a signal handler in front of whoever was there before.
//!
//! The handler runs in the middle of anything, so it allocates nothing, locks nothing and calls
//! nothing that might. It asks one question, given to [`install`]: is this address a guard of ours?
//! If it is, the question's own report has been written and the process aborts. If it is not, the
//! signal goes to the handler that was there before (std's, as a rule, which knows the guards of
//! threads).

use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;

use super::memory::{Reservation, page_size};

/// Reports a fault on a guard of ours and returns true; false for every other address.
///
/// Called in a signal handler: async-signal-safe functions only.
pub(crate) type Question = fn(address: usize) -> bool;

struct Installed {
    question: Question,
    /// Who was there before, for the two signals.
    segv: libc::sigaction,
    bus: libc::sigaction,
}

static INSTALLED: OnceLock<Installed> = OnceLock::new();

/// Puts our handler before the one that is there, once a process. Later calls do nothing.
pub(crate) fn install(question: Question) {
    INSTALLED.get_or_init(|| {
        // The previous handlers are read first and ours are set afterwards, below: a fault between
        // the two finds the previous ones, and one after them finds this cell filled.
        Installed { question, segv: current(libc::SIGSEGV), bus: current(libc::SIGBUS) }
    });
    static SET: std::sync::Once = std::sync::Once::new();
    SET.call_once(|| {
        set_ours(libc::SIGSEGV);
        set_ours(libc::SIGBUS);
    });
}

fn current(signal: libc::c_int) -> libc::sigaction {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: with no new action given, the call only writes the present one to `action`.
    unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all zero is a valid `sigaction` (the default action), should the call have failed.
    unsafe { action.assume_init() }
}

fn set_ours(signal: libc::c_int) {
    let action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all zero is a valid `sigaction`: default action, no flags, empty mask.
    let mut action = unsafe { action.assume_init() };
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    action.sa_sigaction = handle as extern "C" fn(_, _, _) as usize;
    // SAFETY: `handle` has the signature that SA_SIGINFO asks for and only does what a handler may.
    unsafe { libc::sigaction(signal, &action, ptr::null_mut()) };
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(installed) = INSTALLED.get() else { return };
    // SAFETY: the kernel passes a valid `siginfo_t` to a handler set with SA_SIGINFO.
    let info_ref = unsafe { &*info };
    // SAFETY: for SIGSEGV and SIGBUS the address is the member of the union that is filled.
    let address = unsafe { info_ref.si_addr() } as usize;
    if (installed.question)(address) {
        // SAFETY: `abort` may be called anywhere, a signal handler included.
        unsafe { libc::abort() };
    }
    let before = if signal == libc::SIGBUS { &installed.bus } else { &installed.segv };
    pass_on(before, signal, info, context);
}

/// Does what would have happened without us.
fn pass_on(
    before: &libc::sigaction,
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    match before.sa_sigaction {
        // Back to the default: the faulting instruction runs again and faults for good.
        // (Ignoring a real fault would spin; the kernel does not ignore it either.)
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: `before` is what `sigaction` itself gave us.
            unsafe { libc::sigaction(signal, before, ptr::null_mut()) };
        }
        address if before.sa_flags & libc::SA_SIGINFO != 0 => {
            type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut c_void);
            // SAFETY: with SA_SIGINFO the kernel itself would call this address as this type.
            let handler = unsafe { std::mem::transmute::<usize, Handler>(address) };
            handler(signal, info, context);
        }
        address => {
            // SAFETY: without SA_SIGINFO the kernel itself would call this address as this type.
            let handler =
                unsafe { std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(address) };
            handler(signal);
        }
    }
}

/// Writes to standard error from a signal handler: one system call, no lock, errors ignored.
pub(crate) fn write_stderr(text: &[u8]) {
    // SAFETY: `text` is readable for its length, and `write` may be called in a handler.
    let _ = unsafe { libc::write(2, text.as_ptr().cast::<c_void>(), text.len()) };
}

/// A stack for signal handlers, for threads that have none. std gives one to the threads it
/// starts, but a thread that C started may come without, and a handler that had to run on the
/// stack that has just overflowed would be killed before it could say so.
#[derive(Debug)]
pub(crate) struct HandlerStack {
    memory: Reservation,
}

impl HandlerStack {
    /// Gives the calling thread a handler stack if it has none. `Ok(None)`: it has one.
    pub(crate) fn ensure() -> io::Result<Option<HandlerStack>> {
        let mut present = MaybeUninit::<libc::stack_t>::zeroed();
        // SAFETY: with no new stack given, the call only writes the present one.
        if unsafe { libc::sigaltstack(ptr::null(), present.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: written by the call that has just succeeded.
        let present = unsafe { present.assume_init() };
        if present.ss_flags & libc::SS_DISABLE == 0 {
            return Ok(None);
        }
        let memory = Reservation::new(page_size().max(4096) * 16)?;
        let stack = libc::stack_t {
            ss_sp: memory.start().as_ptr().cast::<c_void>(),
            ss_flags: 0,
            ss_size: memory.len(),
        };
        // SAFETY: the memory is ours alone and stays mapped until `drop` has disabled the stack.
        if unsafe { libc::sigaltstack(&stack, ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Some(HandlerStack { memory }))
    }
}

impl Drop for HandlerStack {
    fn drop(&mut self) {
        let mut present = MaybeUninit::<libc::stack_t>::zeroed();
        // SAFETY: with no new stack given, the call only writes the present one.
        unsafe { libc::sigaltstack(ptr::null(), present.as_mut_ptr()) };
        // SAFETY: all zero is a valid `stack_t`, should the call have failed.
        let present = unsafe { present.assume_init() };
        if present.ss_sp != self.memory.start().as_ptr().cast::<c_void>() {
            return; // somebody has put another in its place
        }
        let none = libc::stack_t {
            ss_sp: ptr::null_mut(),
            ss_flags: libc::SS_DISABLE,
            ss_size: libc::MINSIGSTKSZ,
        };
        // SAFETY: disabling is always allowed outside of a handler; a destructor is not in one.
        unsafe { libc::sigaltstack(&none, ptr::null_mut()) };
    }
}
