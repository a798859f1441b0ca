//! Standard input.

use std::fmt;
use std::io::{self, BufRead, IsTerminal, Lines, Read};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use rustix::buffer::spare_capacity;

use super::calls::{Calls, Kind};
use super::pollable::Io;
use crate::threadpool::{Gate, Pass};

/// Read at once: what std's buffer holds, too.
const PIECE: usize = 8 << 10;

/// What was read and not been asked for, of the whole process.
static INPUT: LazyLock<Arc<Gate<Input>>> =
    LazyLock::new(|| Arc::new(Gate::new(&"turn at stdin", Input::default())));

#[derive(Default)]
struct Input {
    buffer: Vec<u8>,
    /// Where it begins; before that is what has been fetched.
    start: usize,
}

impl Input {
    fn available(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn consume(&mut self, len: usize) {
        self.start += len;
        debug_assert!(self.start <= self.buffer.len());
        if self.start >= self.buffer.len() {
            self.start = 0;
            self.buffer.clear();
            self.buffer.shrink_to(PIECE);
        }
    }

    fn make_room(&mut self) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.reserve(PIECE);
    }
}

/// The standard input of the process: [`std::io::stdin`], except that waiting parks the greenlet.
///
/// It may be a terminal, a pipe, a socket or a file, and is never set to non-blocking mode: the
/// shell, and whoever else has it, would find it so. A file is read on the
/// [thread pool](crate::threadpool). See [`Io::shared`] for what can go wrong when another process
/// reads from the same terminal.
///
/// It has one buffer for the whole process, which is not std's: do not read by both. A call either
/// takes from it what it returns, or takes nothing: when a greenlet is killed or timed out in the
/// middle of a line, or of [`read_exact`](Read::read_exact), or before the end of
/// [`read_to_end`](Read::read_to_end), everything is there for the next who reads.
///
/// # Examples
///
/// ```no_run
/// use greenloom::io;
///
/// for line in io::stdin().lines() {
///     let line = line?; // the others run while nobody types
///     println!("{}", line.to_uppercase());
/// }
/// # Ok::<(), io::Error>(())
/// ```
#[must_use]
pub fn stdin() -> Stdin {
    Stdin(())
}

/// A handle to the standard input; see [`stdin`].
#[derive(Debug)]
pub struct Stdin(());

/// The standard input, for one greenlet alone: from [`Stdin::lock`].
pub struct StdinLock<'a> {
    /// `None` while a job has it, which may have been abandoned; and if the lock could not be waited
    /// for.
    pass: Option<Pass<Input>>,
    _lifetime: PhantomData<&'a ()>,
    /// It belongs to its greenlet.
    _local: PhantomData<Rc<()>>,
}

impl Stdin {
    /// Waits until nobody else reads, and returns what may be read from until it is dropped.
    ///
    /// # Panics
    ///
    /// If the greenlet has locked it already. (std's waits for ever then.)
    #[track_caller]
    #[must_use = "it is unlocked when the lock is dropped"]
    pub fn lock(&self) -> StdinLock<'static> {
        // While the caller unwinds it may not be had, and each call will say so.
        StdinLock { pass: enter().ok(), _lifetime: PhantomData, _local: PhantomData }
    }

    /// Reads a line, with the line feed at its end, and appends it to `buf`. Returns its length in
    /// bytes; 0 at the end.
    ///
    /// # Errors
    ///
    /// `InvalidData` if it is not UTF-8, and then it is lost; else as the system says.
    #[track_caller]
    pub fn read_line(&self, buf: &mut String) -> io::Result<usize> {
        self.lock().read_line(buf)
    }

    /// Locks it, and returns its lines.
    #[track_caller]
    pub fn lines(self) -> Lines<StdinLock<'static>> {
        self.lock().lines()
    }

    /// Is it a terminal?
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        io::stdin().is_terminal()
    }
}

#[track_caller]
fn enter() -> io::Result<Pass<Input>> {
    assert!(!INPUT.is_mine(), "this greenlet has locked stdin already, and would wait for itself");
    INPUT.enter()
}

impl StdinLock<'_> {
    #[track_caller]
    fn input(&mut self) -> io::Result<&mut Pass<Input>> {
        if self.pass.is_none() {
            self.pass = Some(enter()?);
        }
        Ok(self.pass.as_mut().expect("put there just now"))
    }

    fn available(&self) -> &[u8] {
        self.pass.as_ref().map_or(&[], |input| input.available())
    }

    /// Reads once, behind what there is. 0: the end.
    #[track_caller]
    fn more(&mut self) -> io::Result<usize> {
        self.input()?.make_room();
        match Kind::of(io::stdin().as_fd()) {
            Ok(Kind::File) => self.more_of_file(),
            Ok(kind) => {
                let mut piece = [0; PIECE];
                let len = Io::with(io::stdin(), Calls::new(kind, false), false).read(&mut piece)?;
                self.input()?.buffer.extend_from_slice(&piece[..len]);
                Ok(len)
            }
            Err(error) => nothing_if_closed(error, 0),
        }
    }

    /// On the pool, and the buffer goes along: if we are killed meanwhile, what was read is in it.
    #[track_caller]
    fn more_of_file(&mut self) -> io::Result<usize> {
        let Some(pass) = self.pass.take() else { return Ok(0) };
        let (pass, result) = pass.lend(|input| {
            loop {
                match rustix::io::read(io::stdin(), spare_capacity(&mut input.buffer)) {
                    Err(rustix::io::Errno::INTR) => {}
                    result => return result,
                }
            }
        })?;
        self.pass = Some(pass);
        Ok(result?)
    }

    /// Reads until there is what `is_enough` looks for, or the end; returns how much of what there is
    /// that comes to.
    #[track_caller]
    fn read_until_enough(
        &mut self,
        mut is_enough: impl FnMut(&[u8]) -> Option<usize>,
    ) -> io::Result<usize> {
        self.input()?;
        loop {
            if let Some(len) = is_enough(self.available()) {
                return Ok(len);
            }
            if self.more()? == 0 {
                return Ok(self.available().len());
            }
        }
    }

    /// Takes out the first `len` bytes.
    fn fetch(&mut self, len: usize) -> Vec<u8> {
        let bytes = self.available()[..len].to_vec();
        self.consume(len);
        bytes
    }
}

/// A process that was started without it: what std does then.
pub(super) fn nothing_if_closed<T>(error: io::Error, instead: T) -> io::Result<T> {
    let closed = rustix::io::Errno::BADF.raw_os_error();
    if error.raw_os_error() == Some(closed) { Ok(instead) } else { Err(error) }
}

/// Appends bytes to a string, if that is what they are.
fn append(buf: &mut String, bytes: Vec<u8>) -> io::Result<usize> {
    let text = String::from_utf8(bytes).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8")
    })?;
    buf.push_str(&text);
    Ok(text.len())
}

impl BufRead for StdinLock<'_> {
    #[track_caller]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.input()?.available().is_empty() {
            self.more()?;
        }
        Ok(self.available())
    }

    fn consume(&mut self, len: usize) {
        if let Some(input) = &mut self.pass {
            input.consume(len);
        }
    }

    #[track_caller]
    fn read_until(&mut self, byte: u8, buf: &mut Vec<u8>) -> io::Result<usize> {
        let mut seen = 0;
        let len = self.read_until_enough(|bytes| {
            let found = bytes[seen..].iter().position(|&b| b == byte).map(|at| seen + at + 1);
            seen = bytes.len();
            found
        })?;
        buf.extend_from_slice(&self.available()[..len]);
        self.consume(len);
        Ok(len)
    }

    #[track_caller]
    fn read_line(&mut self, buf: &mut String) -> io::Result<usize> {
        let mut line = Vec::new();
        self.read_until(b'\n', &mut line)?;
        append(buf, line)
    }
}

impl Read for StdinLock<'_> {
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.fill_buf()?.read(buf)?;
        self.consume(len);
        Ok(len)
    }

    #[track_caller]
    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        let wanted = buf.len();
        let len = self.read_until_enough(|bytes| (bytes.len() >= wanted).then_some(wanted))?;
        if len < wanted {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "failed to fill whole buffer",
            ));
        }
        buf.copy_from_slice(&self.available()[..len]);
        self.consume(len);
        Ok(())
    }

    #[track_caller]
    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        let len = self.read_until_enough(|_| None)?;
        buf.extend_from_slice(&self.available()[..len]);
        self.consume(len);
        Ok(len)
    }

    #[track_caller]
    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        let len = self.read_until_enough(|_| None)?;
        let bytes = self.fetch(len);
        append(buf, bytes)
    }
}

impl Read for &Stdin {
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.lock().read(buf)
    }

    #[track_caller]
    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        self.lock().read_exact(buf)
    }

    #[track_caller]
    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        self.lock().read_to_end(buf)
    }

    #[track_caller]
    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        self.lock().read_to_string(buf)
    }
}

impl Read for Stdin {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        (&*self).read_exact(buf)
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(buf)
    }

    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        (&*self).read_to_string(buf)
    }
}

impl AsFd for Stdin {
    fn as_fd(&self) -> BorrowedFd<'_> {
        descriptor()
    }
}

impl AsRawFd for Stdin {
    fn as_raw_fd(&self) -> RawFd {
        descriptor().as_raw_fd()
    }
}

impl AsFd for StdinLock<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        descriptor()
    }
}

impl AsRawFd for StdinLock<'_> {
    fn as_raw_fd(&self) -> RawFd {
        descriptor().as_raw_fd()
    }
}

fn descriptor() -> BorrowedFd<'static> {
    static STDIN: LazyLock<io::Stdin> = LazyLock::new(io::stdin);
    STDIN.as_fd()
}

impl fmt::Debug for StdinLock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdinLock").finish_non_exhaustive()
    }
}
