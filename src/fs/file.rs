//! `File`: reading and writing on a thread of the pool.

use std::fmt;
use std::fs::{self, FileTimes, Metadata, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::buffer::spare_capacity;

use crate::threadpool::{Gate, Pass};

/// At most so many bytes are read or written by one job.
///
/// A job owns its buffer (no thread ever touches the caller's), so this bounds what a slow disk
/// makes a thousand waiting greenlets hold; and at this size the pool's toll of some ten microseconds
/// is little beside the copying.
const PIECE: usize = 256 << 10;

const TURN: &str = "turn at the File";

/// An open file: [`std::fs::File`], except that waiting parks the greenlet.
///
/// Calls on one file are made one after the other, first come, first served, also those that say
/// where to read or write ([`FileExt`]). Who wants several at once opens it several times. Clones,
/// and what [`try_clone`](File::try_clone) returns, are handles to the same file and cursor.
///
/// A greenlet that is killed or timed out in the middle of a call loses nothing of the file's: see
/// the [module](super). The cursor is always where the last call that *returned* has left it, also
/// when the call was [`read_exact`](Read::read_exact), [`read_to_end`](Read::read_to_end) or
/// [`read_to_string`](Read::read_to_string), which take all that they return at once.
///
/// It has no buffer of its own, and may be sent to other threads. Dropping the last handle closes
/// it, after calls that were abandoned. gevent's `FileObjectThread`.
///
/// The thread that drops the last handle closes the file itself: a destructor cannot wait, and what
/// was handed to another thread would be open for a while longer. On a disk that takes no time. A
/// network file system may send what was written first: there, call [`sync_all`](File::sync_all)
/// before, which parks.
///
/// # Examples
///
/// ```
/// use greenloom::fs::File;
/// use std::io::{Read, Seek, Write};
///
/// let path = std::env::temp_dir().join(format!("greenloom-file-{}", std::process::id()));
/// let mut file = File::options().read(true).write(true).create(true).open(&path)?;
/// file.write_all(b"some text")?;
/// file.rewind()?;
/// let mut text = String::new();
/// file.read_to_string(&mut text)?;
/// assert_eq!(text, "some text");
/// # greenloom::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct File {
    file: Arc<fs::File>,
    gate: Arc<Gate<Reader>>,
}

/// The file as it is used by one job at a time.
struct Reader {
    file: Arc<fs::File>,
    /// Read, and not fetched: by a call that is under way, or whose greenlet has gone. The system's
    /// cursor is behind it, the user's before it.
    left: Vec<u8>,
    /// Where it begins; before that is what has been fetched.
    start: usize,
}

impl Reader {
    /// Reads once. On a thread of the pool, like all that follows.
    fn fill(&mut self, len: usize) -> io::Result<()> {
        self.clear();
        self.left.reserve_exact(len);
        retrying(|| Ok(rustix::io::read(&*self.file, spare_capacity(&mut self.left))?))?;
        Ok(())
    }

    /// Reads on behind what is left, until there is a piece more (and no more than `wanted`), or to
    /// the end: then true.
    fn fill_up(&mut self, wanted: usize) -> io::Result<bool> {
        let piece = PIECE.min(wanted);
        let room = if wanted <= PIECE {
            wanted
        } else {
            // One byte more than there is, so that the end is found without another buffer.
            let len = self.file.metadata().map_or(0, |metadata| metadata.len());
            let len = usize::try_from(len).unwrap_or(PIECE).saturating_add(1);
            len.clamp(PIECE / 32, PIECE)
        };
        self.left.reserve(room);
        let read = (&*self.file).take(piece as u64).read_to_end(&mut self.left)?;
        Ok(read < piece)
    }

    fn available(&self) -> &[u8] {
        &self.left[self.start..]
    }

    /// Takes out as much as fits.
    fn fetch(&mut self, buf: &mut [u8]) -> usize {
        let len = self.available().len().min(buf.len());
        buf[..len].copy_from_slice(&self.available()[..len]);
        self.start += len;
        if self.available().is_empty() {
            self.clear();
        }
        len
    }

    /// Takes out all of it. Returns its length.
    fn fetch_all(&mut self, buf: &mut Vec<u8>) -> usize {
        let len = self.available().len();
        if buf.capacity() == 0 && self.start == 0 {
            *buf = std::mem::take(&mut self.left);
        } else {
            buf.extend_from_slice(self.available());
        }
        self.clear();
        len
    }

    fn clear(&mut self) {
        self.left = Vec::new(); // with its memory: most files wait to be used
        self.start = 0;
    }

    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Current(by) => {
                let left = i64::try_from(self.available().len()).unwrap_or(i64::MAX);
                let by = by.checked_sub(left).ok_or(io::ErrorKind::InvalidInput)?;
                SeekFrom::Current(by)
            }
            other => other,
        };
        let position = (&*self.file).seek(to)?;
        self.clear();
        Ok(position)
    }

    /// Puts the system's cursor where the user's is.
    fn settle(&mut self) -> io::Result<()> {
        if self.available().is_empty() {
            return Ok(());
        }
        match self.seek(SeekFrom::Current(0)) {
            // A terminal or a pipe has no cursor: what is left stays.
            Err(error) if error.kind() == io::ErrorKind::NotSeekable => Ok(()),
            result => result.map(|_| ()),
        }
    }
}

/// Has a thread of the pool call `f`, and returns with the pass, which it has to itself meanwhile.
#[track_caller]
fn with<T: Send + 'static>(
    pass: Pass<Reader>,
    f: impl FnOnce(&mut Reader) -> io::Result<T> + Send + 'static,
) -> io::Result<(Pass<Reader>, T)> {
    let (pass, result) = pass.lend(f)?;
    Ok((pass, result?))
}

impl File {
    /// Waits for its turn, and has a thread of the pool call `f`.
    #[track_caller]
    fn call<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Reader) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        Ok(with(self.gate.enter()?, f)?.1)
    }

    #[track_caller]
    fn call_file<T: Send + 'static>(
        &self,
        f: impl FnOnce(&fs::File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.call(move |reader| f(&reader.file))
    }

    /// Waits until all that was written, and what is known of the file, is on the disk.
    ///
    /// # Errors
    ///
    /// As the system says.
    #[track_caller]
    pub fn sync_all(&self) -> io::Result<()> {
        self.call_file(fs::File::sync_all)
    }

    /// Waits until all that was written is on the disk.
    ///
    /// # Errors
    ///
    /// As the system says.
    #[track_caller]
    pub fn sync_data(&self) -> io::Result<()> {
        self.call_file(fs::File::sync_data)
    }

    /// Cuts it off, or fills it up with zeros. The cursor stays.
    ///
    /// # Errors
    ///
    /// As the system says, for instance if it is not open for writing.
    #[track_caller]
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        self.call(move |reader| {
            reader.settle()?;
            reader.file.set_len(size)
        })
    }

    /// What is known of it.
    ///
    /// # Errors
    ///
    /// As the system says.
    #[track_caller]
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.call_file(fs::File::metadata)
    }

    /// Sets who may do what with it.
    ///
    /// # Errors
    ///
    /// As the system says.
    #[track_caller]
    pub fn set_permissions(&self, perm: Permissions) -> io::Result<()> {
        self.call_file(move |file| file.set_permissions(perm))
    }

    /// Sets when it was changed and read.
    ///
    /// # Errors
    ///
    /// As the system says.
    #[track_caller]
    pub fn set_times(&self, times: FileTimes) -> io::Result<()> {
        self.call_file(move |file| file.set_times(times))
    }

    /// Sets when it was changed.
    ///
    /// # Errors
    ///
    /// As the system says.
    #[track_caller]
    pub fn set_modified(&self, time: SystemTime) -> io::Result<()> {
        self.set_times(FileTimes::new().set_modified(time))
    }

    /// Another handle to the same file, with the same cursor.
    ///
    /// # Errors
    ///
    /// None; it returns a `Result` as std's does.
    pub fn try_clone(&self) -> io::Result<File> {
        Ok(self.clone())
    }

    /// The same file as std's type, whose calls block. The cursor is where it was.
    ///
    /// It waits for calls that were abandoned. If there are clones, they go on with this
    /// descriptor, and std's gets a duplicate.
    ///
    /// # Errors
    ///
    /// As the system says, if the cursor has to be moved or the descriptor duplicated.
    #[track_caller]
    pub fn into_std(self) -> io::Result<fs::File> {
        let mut pass = self.gate.enter()?;
        pass.settle()?;
        drop(pass);
        let File { file, gate } = self;
        drop(Arc::into_inner(gate)); // with its reader, which has the file, too
        Arc::try_unwrap(file).or_else(|shared| shared.try_clone())
    }
}

impl Read for &File {
    #[track_caller]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut pass = self.gate.enter()?;
        if pass.available().is_empty() && !buf.is_empty() {
            let len = buf.len().min(PIECE);
            (pass, ()) = with(pass, move |reader| reader.fill(len))?;
        }
        Ok(pass.fetch(buf))
    }

    /// All or nothing: until there is enough, what has been read is left with the file.
    #[track_caller]
    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        let mut pass = self.gate.enter()?;
        let mut is_end = false;
        while pass.available().len() < buf.len() && !is_end {
            let wanted = buf.len() - pass.available().len();
            (pass, is_end) = with(pass, move |reader| reader.fill_up(wanted))?;
        }
        if pass.fetch(buf) < buf.len() {
            let text = "failed to fill whole buffer";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        Ok(())
    }

    /// In pieces as large as may be; a small file in one. Until the end is there, what has been read
    /// is left with the file.
    #[track_caller]
    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        let mut pass = self.gate.enter()?;
        loop {
            let (back, is_end) = pass.lend(|reader| reader.fill_up(usize::MAX))?;
            pass = back;
            match is_end {
                Ok(false) => {}
                Ok(true) => return Ok(pass.fetch_all(buf)),
                Err(error) => {
                    pass.fetch_all(buf); // as std does
                    return Err(error);
                }
            }
        }
    }

    #[track_caller]
    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        let text = String::from_utf8(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        buf.push_str(&text);
        Ok(text.len())
    }
}

impl Write for &File {
    #[track_caller]
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let piece = buf[..buf.len().min(PIECE)].to_vec();
        self.call(move |reader| {
            reader.settle()?;
            retrying(|| (&*reader.file).write(&piece))
        })
    }

    /// Nothing is kept back: what was written is with the system. (On the disk it is after
    /// [`sync_all`](File::sync_all).)
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &File {
    /// By the calling thread: moving the cursor does not touch the disk. But where the end is, only
    /// the disk may know, and that of a network file system is far away.
    #[track_caller]
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        match pos {
            SeekFrom::End(_) => self.call(move |reader| reader.seek(pos)),
            SeekFrom::Start(_) | SeekFrom::Current(_) => self.gate.enter()?.seek(pos),
        }
    }
}

impl FileExt for File {
    #[track_caller]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = buf.len().min(PIECE);
        let piece = self.call_file(move |file| {
            let mut piece = vec![0; len];
            let len = retrying(|| file.read_at(&mut piece, offset))?;
            piece.truncate(len);
            Ok(piece)
        })?;
        buf[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }

    #[track_caller]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let piece = buf[..buf.len().min(PIECE)].to_vec();
        self.call(move |reader| {
            reader.settle()?; // what was read may be what is overwritten
            retrying(|| reader.file.write_at(&piece, offset))
        })
    }
}

/// A signal is no reason to come back: nobody here waits for one.
fn retrying<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl Read for File {
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

impl Write for File {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        (&*self).seek(pos)
    }
}

impl From<fs::File> for File {
    fn from(file: fs::File) -> File {
        let file = Arc::new(file);
        let reader = Reader { file: Arc::clone(&file), left: Vec::new(), start: 0 };
        File { file, gate: Arc::new(Gate::new(&TURN, reader)) }
    }
}

impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> File {
        File::from(fs::File::from(fd))
    }
}

impl From<File> for fs::File {
    /// # Panics
    ///
    /// If [`File::into_std`] fails.
    fn from(file: File) -> fs::File {
        file.into_std().expect("a file without clones has nothing that could fail")
    }
}

impl From<File> for OwnedFd {
    /// # Panics
    ///
    /// If [`File::into_std`] fails.
    fn from(file: File) -> OwnedFd {
        fs::File::from(file).into()
    }
}

impl IntoRawFd for File {
    fn into_raw_fd(self) -> RawFd {
        OwnedFd::from(self).into_raw_fd()
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}
