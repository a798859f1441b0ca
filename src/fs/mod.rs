//! Files, name for name `std::fs`: where std blocks the thread, these park the greenlet.
//!
//! A file cannot be waited for: the system calls it ready at all times, and takes the time the disk
//! takes. So every call here is made by a thread of a [pool](crate::threadpool) while the greenlet
//! parks and the others run. That costs some ten microseconds a call; read and write in pieces of
//! some size (a [`BufReader`](std::io::BufReader), a [`BufWriter`](std::io::BufWriter)).
//!
//! The pool is not the shared one: at most 64 threads that do nothing but this, and a queue of 256
//! calls. So jobs of one's own may wait for a file, however many they are. (On a thread of the shared
//! pool a call is made at once, where it is.) What takes for ever takes one of the 64 for ever: the
//! opening of a named pipe that nobody else opens, say.
//!
//! # When a greenlet is killed meanwhile
//!
//! What the system does cannot be interrupted. The greenlet unwinds at once; the call is completed
//! and its result dropped: a file that was being removed is removed, one that was being opened is
//! closed again. On a [`File`] nothing is lost: bytes that an abandoned read has read are there for the
//! next read, and an abandoned write is over before the next call begins.
//!
//! While a greenlet unwinds, calls are made at once, by its own thread, which is then held up for as
//! long as the disk takes: so a destructor may remove a temporary file or flush a buffer. A call on a
//! [`File`] that somebody else is using fails then; but for a call that was abandoned, by the
//! unwinding greenlet itself as a rule, it waits in the same way.

// This room waits by `threadpool` alone, and names no descriptor.

mod at;

mod dir;
mod file;
mod options;
mod paths;

mod raw_fd;

#[doc(no_inline)]
pub use std::fs::{FileTimes, FileType, Metadata, Permissions};

pub use dir::{DirEntry, ReadDir, read_dir};
pub use file::File;
pub use options::{DirBuilder, OpenOptions};
pub use paths::{
    canonicalize, copy, create_dir, create_dir_all, exists, hard_link, metadata, read, read_link,
    read_to_string, remove_dir, remove_dir_all, remove_file, rename, set_permissions,
    symlink_metadata, write,
};
