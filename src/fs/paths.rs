//! What is done to a path, in one call.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::path::{Path, PathBuf};

use super::at::at;
use super::options::DirBuilder;

/// The same for two.
#[track_caller]
fn from_to<T: Send + 'static>(
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    f: impl FnOnce(&Path, &Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let to = to.as_ref().to_path_buf();
    at(from, move |from| f(from, &to))
}

/// Reads a whole file. [`std::fs::read`].
///
/// # Errors
///
/// As [`File::open`](super::File::open), and as reading.
///
/// # Examples
///
/// ```
/// let manifest = greenloom::fs::read("Cargo.toml")?;
/// assert!(manifest.starts_with(b"[package]"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn read<P: AsRef<Path>>(path: P) -> io::Result<Vec<u8>> {
    at(path, |path| fs::read(path))
}

/// Reads a whole file that is text. [`std::fs::read_to_string`].
///
/// # Errors
///
/// `InvalidData` if it is not UTF-8; else as [`read`].
#[track_caller]
pub fn read_to_string<P: AsRef<Path>>(path: P) -> io::Result<String> {
    at(path, |path| fs::read_to_string(path))
}

/// Makes or replaces a file. [`std::fs::write`].
///
/// The contents are copied first, and written by one job: if the caller is killed meanwhile, the
/// file is written all the same, and whole. For contents that should not be in memory twice, write
/// to a [`File`](super::File).
///
/// # Errors
///
/// As [`File::create`](super::File::create), and as writing.
///
/// # Examples
///
/// ```
/// use greenloom::fs;
///
/// let path = std::env::temp_dir().join(format!("greenloom-{}", std::process::id()));
/// fs::write(&path, "text")?;
/// assert_eq!(fs::read_to_string(&path)?, "text");
/// fs::remove_file(&path)?;
/// assert!(!fs::exists(&path)?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn write<P: AsRef<Path>, C: AsRef<[u8]>>(path: P, contents: C) -> io::Result<()> {
    let contents = contents.as_ref().to_vec();
    at(path, move |path| fs::write(path, contents))
}

/// Copies a file with its permissions, and returns its length. [`std::fs::copy`].
///
/// # Errors
///
/// As the system says, of either file.
#[track_caller]
pub fn copy<P: AsRef<Path>, Q: AsRef<Path>>(from: P, to: Q) -> io::Result<u64> {
    from_to(from, to, |from, to| fs::copy(from, to))
}

/// Renames a file or directory, and replaces what had that name. [`std::fs::rename`].
///
/// # Errors
///
/// As the system says; across file systems it cannot be done.
#[track_caller]
pub fn rename<P: AsRef<Path>, Q: AsRef<Path>>(from: P, to: Q) -> io::Result<()> {
    from_to(from, to, |from, to| fs::rename(from, to))
}

/// Gives a file another name beside its first. [`std::fs::hard_link`].
///
/// # Errors
///
/// As the system says.
#[track_caller]
pub fn hard_link<P: AsRef<Path>, Q: AsRef<Path>>(original: P, link: Q) -> io::Result<()> {
    from_to(original, link, |original, link| fs::hard_link(original, link))
}

/// What a symbolic link names. [`std::fs::read_link`].
///
/// # Errors
///
/// As the system says, for instance if it is no link.
#[track_caller]
pub fn read_link<P: AsRef<Path>>(path: P) -> io::Result<PathBuf> {
    at(path, |path| fs::read_link(path))
}

/// The path from the root, without links. [`std::fs::canonicalize`].
///
/// # Errors
///
/// As the system says, for instance if there is no such thing.
#[track_caller]
pub fn canonicalize<P: AsRef<Path>>(path: P) -> io::Result<PathBuf> {
    at(path, |path| fs::canonicalize(path))
}

/// What is known of a file; of what it names, if it is a link. [`std::fs::metadata`].
///
/// # Errors
///
/// As the system says.
#[track_caller]
pub fn metadata<P: AsRef<Path>>(path: P) -> io::Result<Metadata> {
    at(path, |path| fs::metadata(path))
}

/// What is known of a file, or of a link itself. [`std::fs::symlink_metadata`].
///
/// # Errors
///
/// As the system says.
#[track_caller]
pub fn symlink_metadata<P: AsRef<Path>>(path: P) -> io::Result<Metadata> {
    at(path, |path| fs::symlink_metadata(path))
}

/// Is there such a thing? [`std::fs::exists`].
///
/// # Errors
///
/// If it cannot be told, for instance because a directory may not be searched.
#[track_caller]
pub fn exists<P: AsRef<Path>>(path: P) -> io::Result<bool> {
    at(path, |path| fs::exists(path))
}

/// Sets who may do what with a file. [`std::fs::set_permissions`].
///
/// # Errors
///
/// As the system says.
#[track_caller]
pub fn set_permissions<P: AsRef<Path>>(path: P, perm: Permissions) -> io::Result<()> {
    at(path, move |path| fs::set_permissions(path, perm))
}

/// Removes a file. [`std::fs::remove_file`].
///
/// # Errors
///
/// As the system says.
#[track_caller]
pub fn remove_file<P: AsRef<Path>>(path: P) -> io::Result<()> {
    at(path, |path| fs::remove_file(path))
}

/// Removes an empty directory. [`std::fs::remove_dir`].
///
/// # Errors
///
/// As the system says.
#[track_caller]
pub fn remove_dir<P: AsRef<Path>>(path: P) -> io::Result<()> {
    at(path, |path| fs::remove_dir(path))
}

/// Removes a directory and what is in it, following no links. [`std::fs::remove_dir_all`].
///
/// # Errors
///
/// As the system says, of the first that could not be removed.
#[track_caller]
pub fn remove_dir_all<P: AsRef<Path>>(path: P) -> io::Result<()> {
    at(path, |path| fs::remove_dir_all(path))
}

/// Makes a directory. [`std::fs::create_dir`].
///
/// # Errors
///
/// As the system says.
#[track_caller]
pub fn create_dir<P: AsRef<Path>>(path: P) -> io::Result<()> {
    DirBuilder::new().create(path)
}

/// Makes a directory, and those above it that are missing. [`std::fs::create_dir_all`].
///
/// # Errors
///
/// As the system says.
#[track_caller]
pub fn create_dir_all<P: AsRef<Path>>(path: P) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(path)
}
