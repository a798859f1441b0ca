//! How a file is opened, and a directory made.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::at::at;
use super::file::File;

/// How a file is to be opened: [`std::fs::OpenOptions`].
///
/// [`OpenOptionsExt`] works on it, too.
///
/// # Examples
///
/// ```
/// use greenloom::fs::OpenOptions;
/// use std::io::Write;
///
/// let path = std::env::temp_dir().join(format!("greenloom-log-{}", std::process::id()));
/// let mut log = OpenOptions::new().append(true).create(true).open(&path)?;
/// writeln!(log, "one more line")?;
/// # greenloom::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct OpenOptions {
    std: fs::OpenOptions,
}

macro_rules! option {
    ($($option:ident: $what:literal;)+) => {
        $(
            #[doc = $what]
            pub fn $option(&mut self, $option: bool) -> &mut OpenOptions {
                self.std.$option($option);
                self
            }
        )+
    };
}

impl OpenOptions {
    /// Nothing is set: at least one of `read`, `write` and `append` has to be.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "std's has none either")]
    pub fn new() -> OpenOptions {
        OpenOptions { std: fs::OpenOptions::new() }
    }

    option! {
        read: "To be read from?";
        write: "To be written to?";
        append: "To be written to at its end, wherever that is by then?";
        truncate: "To be emptied? It must be opened for writing.";
        create: "To be made if there is none? It must be opened for writing.";
        create_new: "To be made, and to fail if there is something?";
    }

    /// Opens a file.
    ///
    /// A named pipe is opened when somebody opens its other end, and until then a thread of the pool
    /// is busy with it; open one with [`custom_flags`](OpenOptionsExt::custom_flags) `O_NONBLOCK`, or
    /// for both directions, and read it by [`io::Io`](crate::io::Io).
    ///
    /// # Errors
    ///
    /// As [`std::fs::OpenOptions::open`].
    #[track_caller]
    pub fn open<P: AsRef<Path>>(&self, path: P) -> io::Result<File> {
        let options = self.std.clone();
        at(path, move |path| options.open(path)).map(File::from)
    }
}

// The ways to open one; here, because `file` is to know nothing of options.
impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// As [`std::fs::File::open`].
    #[track_caller]
    pub fn open<P: AsRef<Path>>(path: P) -> io::Result<File> {
        OpenOptions::new().read(true).open(path)
    }

    /// Opens a file for writing; empties it, or makes it if there is none.
    ///
    /// # Errors
    ///
    /// As [`std::fs::File::create`].
    #[track_caller]
    pub fn create<P: AsRef<Path>>(path: P) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path)
    }

    /// Makes a file, for reading and writing.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if there is something of that name; else as [`std::fs::File::create_new`].
    #[track_caller]
    pub fn create_new<P: AsRef<Path>>(path: P) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    }

    /// How a file is to be opened.
    #[must_use]
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }
}

impl OpenOptionsExt for OpenOptions {
    fn mode(&mut self, mode: u32) -> &mut OpenOptions {
        self.std.mode(mode);
        self
    }

    fn custom_flags(&mut self, flags: i32) -> &mut OpenOptions {
        self.std.custom_flags(flags);
        self
    }
}

/// How a directory is to be made: [`std::fs::DirBuilder`].
///
/// [`DirBuilderExt`] works on it, too.
#[derive(Debug, Default)]
pub struct DirBuilder {
    recursive: bool,
    mode: Option<u32>,
}

impl DirBuilder {
    /// One directory, for whom the process's mask allows it.
    #[must_use]
    pub fn new() -> DirBuilder {
        DirBuilder::default()
    }

    /// Are those above it to be made that are missing? Then it is no error if it is there itself.
    pub fn recursive(&mut self, recursive: bool) -> &mut DirBuilder {
        self.recursive = recursive;
        self
    }

    /// Makes it.
    ///
    /// # Errors
    ///
    /// As [`std::fs::DirBuilder::create`].
    #[track_caller]
    pub fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        let mut std = fs::DirBuilder::new();
        std.recursive(self.recursive);
        if let Some(mode) = self.mode {
            std.mode(mode);
        }
        at(path, move |path| std.create(path))
    }
}

impl DirBuilderExt for DirBuilder {
    fn mode(&mut self, mode: u32) -> &mut DirBuilder {
        self.mode = Some(mode);
        self
    }
}
