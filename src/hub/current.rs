//! This thread's hub: where it lives, its loop, and its end.
//!
//! The hub is a loop on the thread's own stack, not a coroutine. A greenlet that waits suspends to
//! that stack, where the loop resumes the next one. When the thread's own stack waits (we call it
//! the *main greenlet*), it runs the loop in place until its turn has come:
//!
//! ```text
//!   main: recv() -> park -> [ loop: resume A .. A parks .. resume B .. B parks .. wait for events ]
//!                           '-- until main's own ticket is answered: return to recv()
//! ```
//!
//! The scheduler lies in a thread-local *without* a destructor, so that it can still be used while
//! those of other thread-locals run. A second one, [`Caretaker`], has the destructor and ends the
//! hub: every greenlet that is left is unwound on its own stack, by making its waits fail.

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::panic::{self, AssertUnwindSafe, Location};
use std::rc::Rc;
use std::thread;

use super::inbox::{Job, Letter, Remote};
use super::scheduler::{Birth, Pause, Scheduler, Start};
use super::tasks::Killed;
use super::ticket::{GreenletId, TaskId};
use crate::coro::{self, Body, Coro, Resumed, StackSize};
use crate::error::{Cause, GreenletError, JoinError, caught, panic_message};
use crate::sys;
use crate::trace;

type Undropped<T> = RefCell<ManuallyDrop<Option<T>>>;

type ErrorHook = Rc<dyn Fn(&GreenletError)>;

thread_local! {
    static HUB: Undropped<Box<Scheduler>> = const { RefCell::new(ManuallyDrop::new(None)) };
    static ON_ERROR: Undropped<ErrorHook> = const { RefCell::new(ManuallyDrop::new(None)) };
    static ENDED: Cell<bool> = const { Cell::new(false) };

    /// Calls that need not wait, until somebody looks closer: see [`Scheduler::spend`]. Outside of
    /// the hub, because most of these calls need nothing else of it.
    static ALLOWANCE: Cell<u32> = const { Cell::new(0) };

    static CARETAKER: Caretaker = const { Caretaker };
}

/// Ends the hub when the thread ends.
struct Caretaker;

impl Drop for Caretaker {
    fn drop(&mut self) {
        close();
    }
}

/// Uses this thread's hub, which comes to be if need be. The law of this room: `f` runs no code of
/// the user's, and nothing that comes back here.
///
/// # Panics
///
/// Once the hub has ended with its thread.
#[inline]
#[track_caller]
pub(super) fn with<R>(f: impl FnOnce(&mut Scheduler) -> R) -> R {
    let mut hub = sys::local::cell(&HUB).borrow_mut();
    // One call of `f`, so that it can be inlined here.
    f(match &mut **hub {
        Some(scheduler) => scheduler,
        empty => empty.insert(open()),
    })
}

/// Uses this thread's hub if it has one: for destructors, and for those who only look.
#[inline(always)]
pub(super) fn with_existing<R>(f: impl FnOnce(&mut Scheduler) -> R) -> Option<R> {
    existing().map(|mut hub| f(&mut hub))
}

/// As [`with_existing`], for the few whose code is to be inlined whole, which no closure can be made
/// to. The same law.
#[inline(always)]
pub(super) fn existing() -> Option<RefMut<'static, Scheduler>> {
    let hub = sys::local::cell(&HUB).borrow_mut();
    RefMut::filter_map(hub, |hub| hub.as_deref_mut()).ok()
}

/// As [`existing`], unless the hub is at work on something: for those whom code may call that runs
/// under the borrow.
#[cfg(feature = "monkey")]
#[inline(always)]
pub(super) fn unless_at_work() -> Option<RefMut<'static, Scheduler>> {
    let hub = sys::local::cell(&HUB).try_borrow_mut().ok()?;
    RefMut::filter_map(hub, |hub| hub.as_deref_mut()).ok()
}

/// Counts a call that need not wait. False: it is time to look closer.
#[inline(always)]
pub(crate) fn is_allowed() -> bool {
    sys::local::with(&ALLOWANCE, |allowance| {
        let left = allowance.get();
        if left == 0 || cfg!(hard_switch) {
            return false;
        }
        allowance.set(left - 1);
        true
    })
}

/// So many more such calls need no closer look.
pub(super) fn allow(calls: u32) {
    ALLOWANCE.set(calls);
}

/// Has this thread's hub ended?
pub(crate) fn has_ended() -> bool {
    sys::local::with(&ENDED, Cell::get)
}

#[cold]
#[track_caller]
fn open() -> Box<Scheduler> {
    let alive = !has_ended() && CARETAKER.try_with(|_| ()).is_ok();
    assert!(alive, "the hub has ended with its thread");
    allow(0); // what was allowed while there was nobody else
    Box::new(Scheduler::new(Location::caller(), coro::catch_overflows()))
}

/// Lets others run until the current task's turn has come. The caller has told the scheduler what
/// the current task waits for. `Err`: it is the main greenlet, and nothing will ever wake it.
#[inline(always)]
pub(super) fn switch_out() -> Result<(), Stuck> {
    if coro::on_thread_stack() {
        run_others()
    } else {
        coro::suspend();
        Ok(())
    }
}

/// The main greenlet waits and nothing can end that wait.
#[derive(Debug)]
pub(super) struct Stuck;

/// The loop.
fn run_others() -> Result<(), Stuck> {
    let mut next = with(Scheduler::next);
    loop {
        next = match next {
            Some(mut coro) => match coro.resume() {
                Resumed::Suspended => with(move |hub| hub.suspended(coro)),
                Resumed::Done => with(move |hub| hub.ended(coro)),
            },
            None => match with(|hub| hub.pause) {
                Pause::Main => return Ok(()),
                Pause::Stuck => return Err(Stuck),
                pause => after(pause),
            },
        };
    }
}

/// Does what the scheduler could not do under the borrow.
#[cold]
fn after(pause: Pause) -> Option<Coro> {
    match pause {
        Pause::Arrivals => with(Scheduler::arrivals).into_iter().for_each(|letter| match letter {
            Letter::Spawn(job) => spawn_job(job),
            Letter::Call(f) => f(),
            Letter::Wake(ticket) => _ = with(|hub| hub.tasks.wake(ticket, 0)),
        }),
        Pause::Main | Pause::Stuck => {}
    }
    with(Scheduler::next)
}

/// Begins what another thread has sent.
fn spawn_job(job: Job) {
    let birth = Birth::here(None);
    let body = move || {
        // A panic has been reported, and nobody waits for its payload.
        let result = run_body(job);
        quietly("panicked in the destructor of a panic", move || drop(result));
        drop_locals();
    };
    let mut body = Some(Body::new(body));
    if let Err(error) = with(|hub| hub.spawn(birth, &mut body)) {
        // We are in the loop: neither a hook nor the destructors of the job may run here.
        #[expect(clippy::mem_forget, reason = "as the line below says")]
        mem::forget(body);
        print(&format!("no stack for what another thread has sent, which is leaked: {error}"));
    }
}

impl Birth {
    #[track_caller]
    pub(crate) fn here(name: Option<Rc<str>>) -> Birth {
        Birth { size: StackSize::DEFAULT, name, site: Location::caller(), start: Start::InTurn }
    }
}

/// Makes a task. It runs when its turn comes, or at `birth.start`.
///
/// `body` should not panic: catching is the business of whoever knows what it runs. What gets out
/// all the same is swallowed at the bottom of the stack.
///
/// # Errors
///
/// If no stack can be had; `body` is dropped.
#[inline]
pub(crate) fn spawn<F>(birth: Birth, body: F) -> std::io::Result<(TaskId, GreenletId)>
where
    F: FnOnce() + 'static,
{
    // `body` moves in without being called or dropped, except when there is no stack.
    let mut body = Some(Body::new(move || {
        body();
        // What was made since the body's own last acts, by a link or by a destructor.
        drop_locals();
    }));
    with(|hub| hub.spawn(birth, &mut body))
}

/// Runs what a greenlet was spawned for, and its last acts: a panic is reported, and its locals are
/// dropped.
pub(crate) fn run_body<T>(body: impl FnOnce() -> T) -> Result<T, JoinError> {
    let result = panic::catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
        match payload.downcast::<Cause>() {
            Ok(cause) => match *cause {
                Cause::Killed => JoinError::Killed,
                Cause::TimedOut(_) => JoinError::Panicked(Box::new(crate::error::Elapsed)),
            },
            Err(payload) => JoinError::Panicked(payload),
        }
    });
    if let Err(JoinError::Panicked(payload)) = &result {
        report_panic("panicked", payload.as_ref());
    }
    drop_locals();
    result
}

/// Drops the current task's locals, the youngest first. A destructor may make new ones; what one
/// goes on making for ever is leaked.
#[inline]
pub(crate) fn drop_locals() {
    if with_existing(|hub| hub.tasks.running().extra.is_some()) == Some(true) {
        drop_locals_slow();
    }
}

fn drop_locals_slow() {
    for _ in 0..1000 {
        let local = with_existing(|hub| hub.tasks.running().extra().locals.pop());
        let Some(Some(local)) = local else { return };
        quietly("panicked in the destructor of a local", || drop(local));
    }
    let left = with_existing(|hub| mem::take(&mut hub.tasks.running().extra().locals));
    #[expect(clippy::mem_forget, reason = "their destructors have had a thousand chances")]
    mem::forget(left);
}

/// Ends a task that has not begun: its body is dropped here and now.
pub(crate) fn discard(killed: Killed) {
    let Killed::Unrun(unrun) = killed else { return };
    quietly("panicked in a destructor", move || drop(unrun.body));
}

// ── errors that nobody is bound to look at ──

/// Runs something of the user's where a panic must go no further: it is reported as `what`.
#[inline]
pub(crate) fn quietly(what: &'static str, f: impl FnOnce()) {
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(f)) {
        // A kill or a timeout has done what it was to do.
        if !payload.is::<Cause>() {
            report_panic(what, payload.as_ref());
        }
        #[expect(clippy::mem_forget, reason = "a payload may panic when it is dropped, too")]
        mem::forget(payload);
    }
}

/// Reports a panic of the current greenlet.
#[cold]
pub(crate) fn report_panic(what: &'static str, payload: &(dyn std::any::Any + Send)) {
    report_current(what, panic_message(payload));
}

/// Reports something about the current greenlet.
#[cold]
pub(crate) fn report_current(what: &'static str, message: String) {
    let about = with_existing(|hub| {
        (hub.tasks.name_of(hub.tasks.current), hub.tasks.site_of(hub.tasks.current))
    });
    let (name, spawned_at) = about.unwrap_or_else(|| ("main".to_owned(), String::new()));
    report(GreenletError { name, spawned_at, what, message });
}

/// Neither the greenlet nor the hub is to pay for a subscriber or a hook that panics.
fn report(error: GreenletError) {
    caught(|| trace::greenlet_failed(&error));
    let hook = sys::local::with(&ON_ERROR, |hook| (**hook.borrow()).clone());
    let told = hook.is_some_and(|hook| caught(|| hook(&error)));
    if !told {
        print(&error);
    }
}

/// The error hook of those who set none. Tests capture what `eprintln` prints, but that panics when
/// standard error is closed.
#[expect(clippy::print_stderr, reason = "a failure that nobody looks at must be seen somewhere")]
pub(super) fn print(message: &dyn fmt::Display) {
    caught(|| eprintln!("{message}"));
}

/// This thread's hub: the scheduler behind [`spawn`](crate::spawn) and every call that waits.
///
/// It comes to be when it is first needed, and ends with its thread. A handle, and local to its
/// thread; only a [`Remote`] of it may go elsewhere.
///
/// When a thread ends whose greenlets have not, they are killed on the way out: each unwinds, so
/// that every destructor runs, and any call of theirs that would wait fails instead. One that
/// catches the kill again and again is leaked, with all it borrows, rather than freed.
#[derive(Clone)]
pub struct Hub {
    _local: PhantomData<Rc<()>>,
}

impl Hub {
    /// The hub of the calling thread.
    #[must_use]
    pub fn current() -> Hub {
        Hub { _local: PhantomData }
    }

    /// A handle by which other threads can reach this hub.
    ///
    /// # Panics
    ///
    /// If the system has no descriptor left to be woken by, or the thread is ending.
    #[must_use]
    pub fn remote(&self) -> Remote {
        match with(|hub| hub.inbox().map(super::inbox::Inbox::remote)) {
            Ok(remote) => remote,
            Err(error) => panic!("no way to be woken by other threads: {error}"),
        }
    }

    /// Sets what is told of failures that nobody is bound to look at: panics of greenlets, of links
    /// and of other callbacks, and greenlets that refuse to be killed. It replaces the default, a
    /// line on standard error; a `tracing` event at level ERROR is emitted in any case.
    ///
    /// The hook runs in the greenlet it is told about, and should be quick. It must not wait, nor do
    /// what others wait for: it may be told in the middle of a wait that is about to begin, and that
    /// would not hear of it. If it panics, the default report is printed instead.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{cell::RefCell, rc::Rc};
    ///
    /// let failures = Rc::new(RefCell::new(Vec::new()));
    /// let log = Rc::clone(&failures);
    /// greenloom::Hub::current().on_error(move |error| log.borrow_mut().push(error.to_string()));
    ///
    /// let _ = greenloom::spawn(|| panic!("oh")).get();
    /// assert!(failures.borrow()[0].ends_with("panicked: oh"));
    /// ```
    pub fn on_error(&self, f: impl Fn(&GreenletError) + 'static) {
        with(|_| ()); // so that somebody ends it
        let hook: ErrorHook = Rc::new(f);
        let before = sys::local::with(&ON_ERROR, |present| present.borrow_mut().replace(hook));
        drop(before);
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

// ── the end ──

/// Rounds of killing, in which those who end may have spawned others.
const ROUNDS: usize = 100;

const AT_THE_END: &str = "panicked in a destructor while its thread ended";

fn close() {
    if !coro::on_thread_stack() || thread::panicking() {
        // The process exits from within a greenlet, or from a destructor or a hook while the main
        // greenlet panics. That stack cannot be unwound from here, and what the others borrow may
        // lie on it: all of it stays as it is.
        return;
    }
    let Some(letters) = with_existing(Scheduler::begin_closing) else { return };
    for letter in letters {
        quietly(AT_THE_END, move || drop(letter));
    }
    for _ in 0..ROUNDS {
        discard_unrun();
        with_existing(|hub| hub.tasks.kill_all());
        if !run_ready() {
            break;
        }
    }
    drop_locals();
    // What the last destructors have spawned. Each is dropped by itself, because each may panic.
    for _ in 0..ROUNDS {
        if !discard_unrun() {
            break;
        }
    }
    sys::local::with(&ENDED, |ended| ended.set(true));
    let scheduler = sys::local::with(&HUB, |hub| hub.borrow_mut().take());
    let hook = sys::local::with(&ON_ERROR, |hook| hook.borrow_mut().take());
    if let Some(mut scheduler) = scheduler {
        let at_end = mem::take(&mut scheduler.at_end);
        scheduler.tasks.leak_left();
        if scheduler.tasks.left() > 0 {
            let left = scheduler.tasks.left();
            caught(|| trace::leaked(left));
        }
        quietly(AT_THE_END, move || drop(scheduler)); // suspended coroutines in it are leaked: see `coro`
        for f in at_end {
            quietly(AT_THE_END, f);
        }
    }
    quietly(AT_THE_END, move || drop(hook));
}

/// Drops the bodies of those who have not begun. False: there was nobody.
fn discard_unrun() -> bool {
    let unrun = with_existing(|hub| hub.tasks.unrun()).unwrap_or_default();
    let any = !unrun.is_empty();
    for id in unrun {
        if let Some(killed) = with_existing(|hub| hub.kill(id, false)) {
            discard(killed);
        }
    }
    any
}

/// Runs those who are ready, and those they make ready. False: there was nobody.
fn run_ready() -> bool {
    let mut any = false;
    while let Some(Some(mut coro)) = with_existing(Scheduler::next_ready) {
        any = true;
        let how = coro.resume();
        with_existing(|hub| hub.take_back(coro, how));
    }
    any
}
