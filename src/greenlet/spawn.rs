//! Beginnings: `spawn`, `spawn_later`, and `Builder` for those who need more than the defaults.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::coro::StackSize;
use crate::hub::{self, Birth, Start};

use super::handle::Greenlet;
use super::record::{Body, Record};

/// Makes a greenlet that will run `f`, and schedules it. The caller runs on; `f` begins when the
/// caller waits, after those that were ready before.
///
/// # Panics
///
/// If no stack can be had (see [`Builder::spawn`] for a version that returns an error), or when the
/// thread is ending.
///
/// # Examples
///
/// ```
/// let greenlet = greenloom::spawn(|| "hello");
/// assert_eq!(greenlet.get().unwrap(), "hello");
/// ```
#[inline]
#[track_caller]
pub fn spawn<F, T>(f: F) -> Greenlet<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    expect(spawn_with(Birth::here(None), f, ()))
}

/// As [`spawn`], but it begins once `after` has passed. It may be killed before.
///
/// # Panics
///
/// As [`spawn`].
#[track_caller]
pub fn spawn_later<F, T>(after: Duration, f: F) -> Greenlet<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    expect(spawn_with(Birth { start: Start::At(hub::after(after)), ..Birth::here(None) }, f, ()))
}

/// As [`spawn`]; `membership` is dropped when nothing of the greenlet's own runs any more, and
/// before anybody hears of its end. Its destructor must not panic.
#[track_caller]
pub(crate) fn spawn_member<F, T, M>(birth: Birth, f: F, membership: M) -> Greenlet<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
    M: 'static,
{
    expect(try_spawn_member(birth, f, membership))
}

/// As [`spawn_member`], for those who can do something about it that there is no stack.
pub(crate) fn try_spawn_member<F, T, M>(
    birth: Birth,
    f: F,
    membership: M,
) -> io::Result<Greenlet<T>>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
    M: 'static,
{
    spawn_with(birth, f, membership)
}

#[track_caller]
pub(super) fn expect<T>(spawned: io::Result<Greenlet<T>>) -> Greenlet<T> {
    match spawned {
        Ok(greenlet) => greenlet,
        Err(error) => panic!("no stack for another greenlet: {error}"),
    }
}

#[inline]
pub(super) fn spawn_with<F, T, M>(birth: Birth, f: F, membership: M) -> io::Result<Greenlet<T>>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
    M: 'static,
{
    let record = Rc::new(Record::new(birth.name.clone()));
    let body = Body::new(f, membership, Rc::clone(&record));
    let (task, id) = hub::spawn(birth, move || body.run())?;
    record.born(task, id);
    Ok(Greenlet { record })
}

/// A name and a stack size for a greenlet: [`std::thread::Builder`]'s counterpart.
///
/// # Examples
///
/// ```
/// let greenlet = greenloom::Builder::new()
///     .name("parser")
///     .stack_size(1024 * 1024)
///     .spawn(|| greenloom::current().name())?;
/// assert_eq!(greenlet.get().unwrap(), "parser");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "it does nothing until `spawn` is called"]
pub struct Builder {
    name: Option<Rc<str>>,
    stack_size: Option<usize>,
}

impl Builder {
    /// No name, and the default stack of 240 KiB, less a little.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names it, for dumps, panics and overflow reports.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into().into());
        self
    }

    /// Bytes of stack it can use at least. Rounded up: with a guard of 16 KiB and some 2 KiB of our
    /// own it makes a power of two, 64 KiB at the least.
    ///
    /// Address space is what this reserves; memory is used a page at a time, when it is touched. So a
    /// small stack saves next to nothing (some of the kernel's page tables: 400 bytes a greenlet, for
    /// the smallest), and a large one costs nothing until it is used. Ask for more where code recurses
    /// or has large locals; for less only where there are a hundred thousand greenlets. How much they
    /// do need, a [`StackCensus`](crate::observe::StackCensus) tells:
    ///
    /// ```
    /// use greenloom::Builder;
    /// use greenloom::observe::StackCensus;
    ///
    /// fn depth_of(json: &str) -> usize {
    ///     json.strip_prefix('[').map_or(0, |inner| 1 + depth_of(inner))
    /// }
    ///
    /// let census = StackCensus::start();
    /// greenloom::spawn(|| depth_of(&"[".repeat(100))).join();
    /// let site = census.report().sites()[0].clone();
    /// assert!(site.deepest < 100 * 1024);
    ///
    /// // From then on:
    /// let greenlet = Builder::new().stack_size(site.enough).spawn(|| depth_of("[[[]]]"))?;
    /// assert_eq!(greenlet.get().unwrap(), 3);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_size = Some(bytes);
        self
    }

    /// Makes the greenlet and schedules it, as [`spawn`] does.
    ///
    /// # Errors
    ///
    /// If no stack of that size can be had: `InvalidInput` for a size that no address space could
    /// hold, else what the system says, which is `OutOfMemory` as a rule. `f` is dropped.
    ///
    /// # Panics
    ///
    /// When the thread is ending.
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> io::Result<Greenlet<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let size = self.stack_size.map_or(Ok(StackSize::DEFAULT), StackSize::for_bytes)?;
        spawn_with(Birth { size, ..Birth::here(self.name) }, f, ())
    }
}
