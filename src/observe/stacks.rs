//! The census of stacks, as it is asked for and as it is printed.

use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;

use crate::coro::{Marks, StackSize};
use crate::hub;

/// Notes how deep the stacks of this thread's greenlets are used, as long as it lives.
///
/// It answers "how much stack do they need?" for [`Builder::stack_size`](crate::Builder::stack_size).
/// Greenlets that are spawned from now on are counted, those that end and those that are alive when
/// the [`report`](StackCensus::report) is made; what was there before is not. Two at a time share
/// their books, which are forgotten with the last.
///
/// # How it measures, and what that means
///
/// While it is on, a stack gives its memory back before it is used again, so that what is not zero
/// was written by its present owner; the mark is the lowest such word. It is exact to a few bytes,
/// except that at the very bottom a frame that only reserved room, or wrote nothing but zeros, is
/// either not seen (in a page that was written to) or counted to the end of its page (in one that was
/// touched and nothing else). A page that was swapped out is not seen.
///
/// It costs some microseconds a greenlet: two system calls when it ends, and fresh pages for the
/// next. Nothing while it is off. Beginning one gives back the memory of the stacks that are kept
/// warm, at a microsecond each: a second, if a million greenlets have just gone.
///
/// # Examples
///
/// ```
/// use greenloom::observe::StackCensus;
///
/// let census = StackCensus::start();
/// let greenlets: Vec<_> = (0..10).map(|n| greenloom::spawn(move || n.to_string())).collect();
/// greenloom::joinall(&greenlets);
///
/// let report = census.report();
/// let site = &report.sites()[0];
/// assert_eq!((site.ended, site.alive), (10, 0));
/// assert!(site.deepest > 0 && site.deepest < 16 * 1024);
/// println!("{report}");
/// ```
///
/// ```text
/// spawned at             ended  alive       stack      median     deepest      enough
/// src/main.rs:4:55          10      0   237.9 KiB     0.9 KiB     0.9 KiB    45.9 KiB
/// ```
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct StackCensus {
    _local: PhantomData<Rc<()>>,
}

impl StackCensus {
    /// Begins to note.
    ///
    /// # Panics
    ///
    /// When the thread is ending.
    pub fn start() -> StackCensus {
        hub::begin_census();
        StackCensus { _local: PhantomData }
    }

    /// What has been noted so far. Looks at the stack of every greenlet that is alive, at about a
    /// microsecond each.
    #[must_use]
    pub fn report(&self) -> StackReport {
        let sites = hub::census().into_iter().flat_map(|census| census.into_sites());
        let mut sites: Vec<_> = sites
            .map(|(site, size, marks)| SiteStacks::new(site.to_string(), size, &marks))
            .collect();
        let key = |site: &SiteStacks| (std::cmp::Reverse(site.deepest), site.size);
        sites.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.spawned_at.cmp(&b.spawned_at)));
        StackReport { sites }
    }
}

impl Drop for StackCensus {
    fn drop(&mut self) {
        hub::end_census();
    }
}

/// How deep stacks were used, by the place where their greenlets were spawned. `Display` prints a
/// table.
///
/// Made by [`StackCensus::report`].
#[derive(Clone, Debug)]
pub struct StackReport {
    sites: Vec<SiteStacks>,
}

impl StackReport {
    /// A line for each place and size of stack, the deepest first.
    #[must_use]
    pub fn sites(&self) -> &[SiteStacks] {
        &self.sites
    }
}

/// The stacks of one size of greenlets that were spawned at one place: a line of a [`StackReport`].
/// Sizes are in bytes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SiteStacks {
    /// Where they were spawned: `file:line:column`, as in a [`Dump`](crate::Dump).
    pub spawned_at: String,
    /// How many have run and ended.
    pub ended: usize,
    /// How many are there now, those that have not begun among them.
    pub alive: usize,
    /// What one of these stacks has room for.
    pub size: usize,
    /// Half of them were used no deeper than this (rounded up to a multiple of 64).
    pub median: usize,
    /// None was used deeper than this.
    pub deepest: usize,
    /// What to give to [`Builder::stack_size`](crate::Builder::stack_size): the smallest stack with
    /// room for twice the deepest, and for the report of a panic on top of it. No measurement knows
    /// what will come: leave more to code that recurses as deep as its input says.
    pub enough: usize,
}

/// What the default panic hook needs beside what the panicking greenlet has used, with a backtrace:
/// some 20 KiB.
const ROOM_TO_PANIC: usize = 24 * 1024;

impl SiteStacks {
    fn new(spawned_at: String, size: StackSize, marks: &Marks) -> SiteStacks {
        let wanted = marks.deepest.saturating_mul(2).saturating_add(ROOM_TO_PANIC);
        let enough = StackSize::for_bytes(wanted).map_or(wanted, StackSize::usable);
        SiteStacks {
            spawned_at,
            ended: marks.ended,
            alive: marks.alive,
            size: size.usable(),
            median: marks.median(),
            deepest: marks.deepest,
            enough,
        }
    }
}

impl fmt::Display for StackReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.sites.iter().map(|site| site.spawned_at.len());
        let width = places.max().unwrap_or(0).max("spawned at".len());
        let [ended, alive] = ["ended", "alive"];
        let [stack, median, deepest, enough] = ["stack", "median", "deepest", "enough"];
        write!(f, "{:<width$} {ended:>9} {alive:>9}", "spawned at")?;
        write!(f, " {stack:>11} {median:>11} {deepest:>11} {enough:>11}")?;
        self.sites.iter().try_for_each(|site| {
            let SiteStacks { spawned_at, ended, alive, .. } = site;
            write!(f, "\n{spawned_at:<width$} {ended:>9} {alive:>9}")?;
            let sizes = [site.size, site.median, site.deepest, site.enough];
            sizes.iter().try_for_each(|bytes| write!(f, " {:>7.1} KiB", *bytes as f64 / 1024.0))
        })
    }
}
