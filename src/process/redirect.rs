//! What else may be a child's input or output: files, and the standard streams of this process.

use std::os::fd::OwnedFd;
use std::process::Stdio;

use crate::fs::File;
use crate::io::{Stderr, Stdout};

impl From<File> for Stdio {
    /// As the conversion into a descriptor: clones of the file go on, with the same cursor.
    fn from(file: File) -> Stdio {
        OwnedFd::from(file).into()
    }
}

impl From<Stdout> for Stdio {
    /// The child writes to where this process does.
    fn from(_stdout: Stdout) -> Stdio {
        std::io::stdout().into()
    }
}

impl From<Stderr> for Stdio {
    /// The child writes to where this process does.
    fn from(_stderr: Stderr) -> Stdio {
        std::io::stderr().into()
    }
}
