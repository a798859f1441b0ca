//! System calls past every function of the C library: what the interposed ones call.
//!
//! Feature `monkey` puts functions of its own in the place of `recv`, `poll` and the like. What they
//! call is neither themselves nor whatever else may have taken those names, so it is the kernel at
//! once. The road not taken: `dlsym(RTLD_NEXT, ..)` for all of them, which has to be done before the
//! first call, finds nothing in a static program, and `syscall` itself is one of the names. Only what
//! is no system call, such as `getaddrinfo`, is looked up by [`next`].

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_long, c_void};
use std::{io, mem, ptr};

use super::local;

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("feature `monkey` knows Linux on x86_64 and on aarch64 only");

/// Makes a system call. What the kernel returns is returned: -1 to -4095 is an error.
///
/// `errno` is left alone.
///
/// # Safety
///
/// What that call demands of its arguments.
#[inline(always)]
pub(crate) unsafe fn call(number: c_long, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the registers are those of the kernel's convention, and the caller answers for what
    // the call does.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a as isize => result,
            in("x1") b,
            in("x2") c,
            in("x3") d,
            in("x4") e,
            in("x5") f,
            options(nostack),
        );
    }
    result
}

/// The function of that name that the program would have got without us. Null: there is none.
pub(crate) fn next(name: &CStr) -> *mut c_void {
    // SAFETY: the name ends with a zero, and the handle is one of the two that are always good.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }
}

/// Do the shared libraries of the program find that function in the object this code is part of? True
/// also if they find none, and in a static program, which has no such libraries.
pub(crate) fn is_in_this_object(name: &CStr) -> bool {
    // SAFETY: as in `next`.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    let here: fn(&CStr) -> bool = is_in_this_object;
    match (object_of(found), object_of(here as *const c_void)) {
        (Some(theirs), Some(ours)) => theirs == ours,
        _ => true,
    }
}

/// Where the object begins in which that address lies.
fn object_of(address: *const c_void) -> Option<usize> {
    let mut info = mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: it compares the address with those of objects, and writes to where there is room.
    let found = unsafe { libc::dladdr(address, info.as_mut_ptr()) };
    // SAFETY: pointers and nothing else, which may all be null.
    let info = unsafe { info.assume_init() };
    (found != 0).then(|| info.dli_fbase.addr())
}

/// Sets this thread's `errno`.
#[inline]
pub(crate) fn set_errno(errno: c_int) {
    // SAFETY: the place of a thread's `errno` is there as long as the thread.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above, and it is this thread's own.
    unsafe { *place = errno };
}

/// This thread's `errno`.
#[inline]
pub(crate) fn errno() -> c_int {
    // SAFETY: the place of a thread's `errno` is there as long as the thread.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above, and it is this thread's own.
    unsafe { *place }
}

/// The number of this process, as the kernel says.
pub(crate) fn process() -> u32 {
    // SAFETY: it takes nothing, and touches no memory.
    let number = unsafe { call(libc::SYS_getpid, [0; 6]) };
    number as u32
}

/// Is that address on the stack that the system has given this thread?
pub(crate) fn is_on_thread_stack(address: usize) -> bool {
    thread_local! {
        /// From, to; looked up once.
        static STACK: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    }
    local::with(&STACK, |stack| {
        if stack.get() == (0, 0) {
            // Nothing but the call itself can fail, without memory: then the next will know.
            stack.set(thread_stack().unwrap_or_default());
        }
        let (from, to) = stack.get();
        (from..to).contains(&address)
    })
}

fn thread_stack() -> Option<(usize, usize)> {
    let mut attributes = mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: it names no thread, and has the place of another's answer.
    let this = unsafe { libc::pthread_self() };
    // SAFETY: the calling thread is alive, and there is room for what is asked.
    let failed = unsafe { libc::pthread_getattr_np(this, attributes.as_mut_ptr()) };
    if failed != 0 {
        return None;
    }
    let (mut start, mut len) = (ptr::null_mut(), 0);
    // SAFETY: they have been filled in.
    let failed =
        unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut start, &raw mut len) };
    // SAFETY: as above, and they are not used again.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    (failed == 0).then(|| (start.addr(), start.addr() + len))
}

/// Calls `f` in each child that `fork` makes from now on.
///
/// # Errors
///
/// As the system says.
pub(crate) fn call_in_children(f: extern "C" fn()) -> io::Result<()> {
    // SAFETY: a plain function, which is never unloaded.
    let failed = unsafe { libc::pthread_atfork(None, None, Some(call_with(f))) };
    if failed == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(failed)) }
}

fn call_with(f: extern "C" fn()) -> unsafe extern "C" fn() {
    f
}
