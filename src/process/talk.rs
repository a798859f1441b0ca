//! Moving data to a child and from it, in both directions at the same time.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

use super::stdio::{ChildStderr, ChildStdin, ChildStdout, Pipe};
use crate::error::Unwinding;
use crate::greenlet::{Builder, Greenlet};

/// How far the conversation has got. It outlives those who are killed in the middle of it.
#[derive(Debug, Default)]
pub(super) struct Talk {
    sent: usize,
    stdout: Rc<RefCell<Vec<u8>>>,
    stderr: Rc<RefCell<Vec<u8>>>,
}

impl Talk {
    /// What has been read so far and was not taken before: standard output, and standard error.
    pub(super) fn take(&mut self) -> (Vec<u8>, Vec<u8>) {
        (self.stdout.take(), self.stderr.take())
    }

    /// Sends the rest of `input` and reads both pipes to their ends.
    ///
    /// A pipe that is full stops the child, so none of the three may wait for another. The caller
    /// does one of them, greenlets do the others; none is there for what there is no pipe for.
    #[track_caller]
    pub(super) fn run(
        &mut self,
        input: &[u8],
        stdin: &mut Option<ChildStdin>,
        stdout: Option<&ChildStdout>,
        stderr: Option<&ChildStderr>,
    ) -> io::Result<()> {
        let mut readers = Readers(Vec::new());
        let has_input = stdin.is_some() && self.sent < input.len();
        if let (Some(stderr), true) = (stderr, has_input || stdout.is_some()) {
            readers.begin("stderr", stderr, &self.stderr)?;
        }
        if let (Some(stdout), true) = (stdout, has_input) {
            readers.begin("stdout", stdout, &self.stdout)?;
        }
        if has_input {
            self.send(input, stdin)?;
        }
        drop(stdin.take());
        if !has_input {
            match (stdout, stderr) {
                (Some(stdout), _) => read_to_end(stdout, &self.stdout)?,
                (None, Some(stderr)) => read_to_end(stderr, &self.stderr)?,
                (None, None) => {}
            }
        }
        readers.join()
    }

    fn send(&mut self, input: &[u8], stdin: &Option<ChildStdin>) -> io::Result<()> {
        let Some(mut stdin) = stdin.as_ref() else { return Ok(()) };
        while self.sent < input.len() {
            match stdin.write(&input[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => self.sent += len,
                // It does not want to know any more; what it has to say is of interest all the same.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn read_to_end(pipe: &impl Pipe, buffer: &RefCell<Vec<u8>>) -> io::Result<()> {
    while pipe.read_into(buffer)? > 0 {}
    Ok(())
}

/// The greenlets that read. When the caller is killed, so are they.
struct Readers(Vec<Greenlet<io::Result<()>>>);

impl Readers {
    #[track_caller]
    fn begin(
        &mut self,
        name: &str,
        pipe: &impl Pipe,
        buffer: &Rc<RefCell<Vec<u8>>>,
    ) -> io::Result<()> {
        let (pipe, buffer) = (pipe.share(), Rc::clone(buffer));
        let reader = Builder::new().name(format!("{name} of a child"));
        self.0.push(reader.spawn(move || read_to_end(&pipe, &buffer))?);
        Ok(())
    }

    #[track_caller]
    fn join(&mut self) -> io::Result<()> {
        // One stays in the list until it has ended: `get` would take it out before.
        self.0.iter().for_each(Greenlet::join);
        for reader in self.0.drain(..) {
            // It is not done if the caller unwinds, or the thread ends.
            reader.try_get().ok().and_then(Result::ok).unwrap_or(Err(Unwinding.into()))?;
        }
        Ok(())
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.0.iter().for_each(Greenlet::kill_nowait);
    }
}
