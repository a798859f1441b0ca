//! What is in a directory.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::at::at;
use crate::threadpool::{Gate, blocking};

/// Entries that one job brings. The pool's toll of some ten microseconds is spread over them, and
/// they take some tens of kilobytes.
const BATCH: usize = 128;

const TURN: &str = "turn at the ReadDir";

/// What is in a directory, in no order: [`std::fs::read_dir`].
///
/// # Errors
///
/// As the system says: there is no such directory, or it may not be read.
///
/// # Examples
///
/// ```
/// let mut names = Vec::new();
/// for entry in greenloom::fs::read_dir(".")? {
///     names.push(entry?.file_name());
/// }
/// assert!(names.contains(&"Cargo.toml".into()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn read_dir<P: AsRef<Path>>(path: P) -> io::Result<ReadDir> {
    let (path, listing) = at(path, |path| {
        let mut listing = Listing { rest: Some(fs::read_dir(path)?), batch: VecDeque::new() };
        listing.fill();
        Ok((path.to_path_buf(), listing))
    })?;
    Ok(ReadDir { path, listing: Arc::new(Gate::new(&TURN, listing)) })
}

/// What is in a directory, from [`read_dir`].
///
/// Entries are fetched many at a time. If the greenlet is killed while it waits for some, they are
/// there when somebody goes on with the iterator.
pub struct ReadDir {
    path: PathBuf,
    listing: Arc<Gate<Listing>>,
}

struct Listing {
    /// `None` at the end.
    rest: Option<fs::ReadDir>,
    batch: VecDeque<io::Result<DirEntry>>,
}

impl Listing {
    /// On a thread of the pool.
    fn fill(&mut self) {
        while self.batch.len() < BATCH {
            let Some(rest) = &mut self.rest else { return };
            match rest.next() {
                Some(entry) => self.batch.push_back(entry.map(DirEntry::new)),
                None => self.rest = None,
            }
        }
    }
}

impl Iterator for ReadDir {
    type Item = io::Result<DirEntry>;

    #[track_caller]
    fn next(&mut self) -> Option<io::Result<DirEntry>> {
        self.next_entry().transpose()
    }
}

impl ReadDir {
    #[track_caller]
    fn next_entry(&mut self) -> io::Result<Option<DirEntry>> {
        let mut listing = self.listing.enter()?;
        if listing.batch.is_empty() && listing.rest.is_some() {
            (listing, ()) = listing.lend(Listing::fill)?;
        }
        listing.batch.pop_front().transpose()
    }
}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadDir").field(&self.path).finish()
    }
}

/// Something in a directory: [`std::fs::DirEntry`].
pub struct DirEntry {
    std: Arc<fs::DirEntry>,
    /// Found out where it costs nothing, or a call that may block.
    file_type: Option<FileType>,
}

impl DirEntry {
    /// On a thread of the pool.
    fn new(std: fs::DirEntry) -> DirEntry {
        let file_type = std.file_type().ok();
        DirEntry { std: Arc::new(std), file_type }
    }

    /// Its path: that of the directory as it was given, and its name.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.std.path()
    }

    /// Its name.
    #[must_use]
    pub fn file_name(&self) -> OsString {
        self.std.file_name()
    }

    /// What is known of it, or of the link itself if it is one.
    ///
    /// # Errors
    ///
    /// As the system says.
    #[track_caller]
    pub fn metadata(&self) -> io::Result<Metadata> {
        let std = Arc::clone(&self.std);
        blocking(move || std.metadata())?
    }

    /// A file, a directory, a link, or what else? As a rule that came with the name, and this does
    /// not wait.
    ///
    /// # Errors
    ///
    /// As the system says.
    #[track_caller]
    pub fn file_type(&self) -> io::Result<FileType> {
        match self.file_type {
            Some(file_type) => Ok(file_type),
            None => {
                let std = Arc::clone(&self.std);
                blocking(move || std.file_type())?
            }
        }
    }
}

impl DirEntryExt for DirEntry {
    fn ino(&self) -> u64 {
        self.std.ino()
    }
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirEntry").field(&self.path()).finish()
    }
}
