//! One call about a path, made by a thread of a pool.

use std::io;
use std::path::Path;

use crate::threadpool::blocking;

/// Has the pool do something to a path.
#[track_caller]
pub(super) fn at<T: Send + 'static>(
    path: impl AsRef<Path>,
    f: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = path.as_ref().to_path_buf();
    blocking(move || f(&path))?
}
