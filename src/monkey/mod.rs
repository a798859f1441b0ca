//! Blocking code of others made to wait by parking: gevent's `monkey.patch_all`.
//!
//! (The contract is written here: see issue.)

#![expect(unsafe_code, reason = "functions of C take the place of others, by name and by pointer")]

mod descriptor;
mod futex;
mod gate;
mod lot;
mod offload;
mod own_word;
mod parker;

mod close;
mod connect;
mod dns;
mod file;
mod fortified;
mod lock;
mod many;
mod ours;
mod process;
mod select;
mod socket;
mod stream;
mod thread;
mod time;
mod transfer;

use std::ffi::CString;
use std::fmt;
use std::sync::Once;

pub use crate::sys::patches::Patch;

use crate::sys::{patches, real};

/// Lets everything but files wait by parking: each of [`Patch::ALL`] except [`Patch::File`].
///
/// To be called at the start of `main`, before there are threads that could be in the middle of
/// something. It may be called later, again, and from any thread: what is patched is patched in the
/// whole process, for calls that begin from then on, on whatever socket, and stays so.
/// gevent's `monkey.patch_all()`.
///
/// # Examples
///
/// Two sleeps of std's that overlap: who began later and sleeps less wakes first.
///
/// ```standalone_crate
/// use greenloom::{joinall, monkey, spawn};
/// use std::sync::mpsc::channel;
/// use std::thread;
/// use std::time::Duration;
///
/// monkey::patch_all();
/// let (done, order) = channel();
/// let sleepers = [60, 20, 40].map(|ms| {
///     let done = done.clone();
///     spawn(move || {
///         thread::sleep(Duration::from_millis(ms));
///         done.send(ms).unwrap();
///     })
/// });
/// joinall(&sleepers);
/// drop(done);
/// assert_eq!(order.iter().collect::<Vec<_>>(), [20, 40, 60]);
/// ```
pub fn patch_all() {
    patch_all_except([]);
}

/// As [`patch_all`], leaving some out: those that something else in the program takes care of.
/// gevent's `patch_all(thread=False)`.
///
/// A family that is patched already stays so.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::monkey::{self, Patch};
///
/// monkey::patch_all_except([Patch::Lock, Patch::Process]);
/// assert!(monkey::is_patched(Patch::Socket));
/// assert!(!monkey::is_patched(Patch::Lock));
/// ```
pub fn patch_all_except(except: impl IntoIterator<Item = Patch>) {
    let except: Vec<_> = except.into_iter().chain([Patch::File]).collect();
    Patch::ALL.iter().filter(|patch| !except.contains(patch)).copied().for_each(turn_on);
}

fn turn_on(patch: Patch) {
    static IN_CHILDREN: Once = Once::new();
    IN_CHILDREN.call_once(|| {
        // It fails only without memory. Then a child that goes on without `exec` must patch nothing.
        let _ = real::call_in_children(patches::turn_all_off);
    });
    patches::turn_on(patch);
}

/// Lets sockets and pipes wait by parking: [`Patch::Socket`]. gevent's `patch_socket()`.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::{monkey, spawn};
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
///
/// monkey::patch_socket();
/// let (mut one, mut other) = UnixStream::pair()?;
/// let shouter = spawn(move || {
///     let mut word = [0; 5];
///     other.read_exact(&mut word)?; // parks this greenlet, until `main` has written
///     word.make_ascii_uppercase();
///     other.write_all(&word)
/// });
/// one.write_all(b"hello")?;
/// let mut word = [0; 5];
/// one.read_exact(&mut word)?; // parks `main`, until that greenlet has answered
/// assert_eq!(&word, b"HELLO");
/// shouter.get().unwrap()?;
/// # std::io::Result::Ok(())
/// ```
pub fn patch_socket() {
    turn_on(Patch::Socket);
}

/// Lets sleeping wait by parking: [`Patch::Time`]. gevent's `patch_time()`.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::{dump, idle, monkey, spawn};
/// use std::thread;
/// use std::time::Duration;
///
/// monkey::patch_time();
/// let sleeper = spawn(|| thread::sleep(Duration::from_millis(10)));
/// idle(); // it has begun
/// assert_eq!(dump().greenlets()[1].state, "parked"); // and this thread has not stopped
/// sleeper.join();
/// ```
pub fn patch_time() {
    turn_on(Patch::Time);
}

/// Has threads look up names while the greenlet parks: [`Patch::Dns`]. gevent's `patch_dns()`.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::monkey;
/// use std::net::ToSocketAddrs;
///
/// monkey::patch_dns();
/// assert!("localhost:80".to_socket_addrs()?.any(|address| address.ip().is_loopback()));
/// # std::io::Result::Ok(())
/// ```
pub fn patch_dns() {
    turn_on(Patch::Dns);
}

/// Lets `poll` and `select` wait by parking: [`Patch::Select`]. gevent's `patch_select()`.
///
/// Needed for `TcpStream::connect_timeout` of std, which polls, and by most C libraries.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::monkey::{self, Patch};
///
/// monkey::patch_select();
/// monkey::patch_select(); // once more changes nothing
/// assert!(monkey::is_patched(Patch::Select));
/// ```
pub fn patch_select() {
    turn_on(Patch::Select);
}

/// Lets waiting for children park: [`Patch::Process`]. gevent's `patch_subprocess()`.
///
/// What is read from their pipes is [`Patch::Socket`]'s, and `Command::output` needs
/// [`Patch::Select`] as well.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::{monkey, spawn};
/// use std::process::Command;
///
/// monkey::patch_process();
/// let child = spawn(|| Command::new("sleep").arg("0.02").status());
/// assert!(child.get().unwrap()?.success()); // others would have run meanwhile
/// # std::io::Result::Ok(())
/// ```
pub fn patch_process() {
    turn_on(Patch::Process);
}

/// Lets joining threads park: [`Patch::Thread`]. gevent's `patch_thread()`, which also replaces
/// threads; here they stay threads.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::{monkey, spawn};
/// use std::thread;
/// use std::time::Duration;
///
/// monkey::patch_thread();
/// let thread = thread::spawn(|| {
///     thread::sleep(Duration::from_millis(10)); // no hub here: it is the kernel's
///     6 * 7
/// });
/// let joiner = spawn(move || thread.join().unwrap());
/// assert_eq!(joiner.get().unwrap(), 42);
/// ```
pub fn patch_thread() {
    turn_on(Patch::Thread);
}

/// Lets the locks, condition variables and channels of std wait by parking: [`Patch::Lock`].
///
/// # Examples
///
/// A channel of std's between two greenlets of one thread: without this the first `recv` would
/// stop both.
///
/// ```standalone_crate
/// use greenloom::{monkey, spawn};
/// use std::sync::mpsc::channel;
///
/// monkey::patch_lock();
/// let (sender, receiver) = channel();
/// let reader = spawn(move || receiver.recv());
/// let writer = spawn(move || sender.send("hello"));
/// assert_eq!(reader.get().unwrap(), Ok("hello"));
/// writer.get().unwrap().unwrap();
/// ```
pub fn patch_lock() {
    turn_on(Patch::Lock);
}

/// Has threads read and write regular files while the greenlet parks: [`Patch::File`], the one that
/// [`patch_all`] leaves out.
///
/// Most reads of files are answered from memory, in less time than it takes to send them to a
/// thread. This is for files on slow disks and on the network.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::{monkey, spawn};
/// use std::fs;
///
/// monkey::patch_file();
/// let reader = spawn(|| fs::read_to_string("Cargo.toml"));
/// assert!(reader.get().unwrap()?.contains("[package]"));
/// # std::io::Result::Ok(())
/// ```
pub fn patch_file() {
    turn_on(Patch::File);
}

/// Is that family patched? gevent's `is_module_patched`.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::monkey::{self, Patch};
///
/// assert!(!monkey::is_patched(Patch::Time));
/// monkey::patch_all();
/// assert!(monkey::is_patched(Patch::Time));
/// assert!(!monkey::is_patched(Patch::File)); // only `patch_file` does that
/// ```
#[must_use]
pub fn is_patched(patch: Patch) -> bool {
    patches::is_on(patch)
}

/// What is patched, and by which functions.
///
/// [`dump`](crate::dump) has the names of the families too, in a last line.
///
/// # Examples
///
/// ```standalone_crate
/// use greenloom::monkey::{self, Patch, Report};
///
/// monkey::patch_socket();
/// let report = monkey::report();
/// assert!(report.entries().contains(&(Patch::Socket, true)));
/// assert!(report.to_string().starts_with("socket   patched"));
/// assert!(Report::functions(Patch::Socket).contains(&"recv"));
/// assert_eq!(report.elsewhere(), [""; 0]); // all of them are ours
/// ```
#[must_use]
pub fn report() -> Report {
    let entries = Patch::ALL.iter().map(|patch| (*patch, patches::is_on(*patch))).collect();
    let names = Patch::ALL.iter().flat_map(|patch| Report::functions(*patch));
    let is_elsewhere =
        |name: &&str| CString::new(*name).is_ok_and(|name| !real::is_in_this_object(&name));
    Report { entries, elsewhere: names.filter(is_elsewhere).collect() }
}

/// What [`report`] returns. `Display` prints a paragraph for each family:
///
/// ```text
/// socket   patched      recv ...
/// time     patched      nanosleep ...
/// file     not patched  pread64 ...
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    entries: Vec<(Patch, bool)>,
    elsewhere: Vec<&'static str>,
}

impl Report {
    /// Each family, and whether it is patched.
    #[must_use]
    pub fn entries(&self) -> &[(Patch, bool)] {
        &self.entries
    }

    /// The functions of the C library that belong to a family.
    #[must_use]
    pub fn functions(patch: Patch) -> Vec<&'static str> {
        let names: &[&[&str]] = match patch {
            Patch::Socket => &[
                connect::NAMES,
                socket::NAMES,
                many::NAMES,
                stream::NAMES,
                close::NAMES,
                fortified::SOCKET,
            ],
            Patch::Time => &[time::NAMES],
            Patch::Dns => &[dns::NAMES],
            Patch::Select => &[select::NAMES, fortified::SELECT],
            Patch::Process => &[process::NAMES],
            Patch::Thread => &[thread::NAMES],
            Patch::Lock => &[lock::NAMES],
            Patch::File => &[file::NAMES, fortified::FILE],
        };
        names.concat()
    }

    /// Those of them that the program's shared libraries get from elsewhere, so that calls of theirs
    /// block as ever. None, unless this crate is part of a shared library itself: then those of the
    /// program that has loaded it come first.
    #[must_use]
    pub fn elsewhere(&self) -> &[&'static str] {
        &self.elsewhere
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (patch, on)) in self.entries.iter().enumerate() {
            let state = if *on { "patched" } else { "not patched" };
            let separator = if n == 0 { "" } else { "\n" };
            write!(f, "{separator}{patch:<8} {state:<12}")?;
            write_names(f, &Report::functions(*patch))?;
        }
        if !self.elsewhere.is_empty() {
            write!(f, "\n{:<21}", "not ours:")?;
            write_names(f, &self.elsewhere)?;
        }
        Ok(())
    }
}

/// Writes names behind the first columns of a paragraph, and below each other when a line is full.
fn write_names(f: &mut fmt::Formatter<'_>, names: &[&str]) -> fmt::Result {
    const LEFT: usize = 21;
    const RIGHT: usize = 96;
    let mut column = LEFT;
    for name in names {
        if column + 1 + name.len() > RIGHT {
            write!(f, "\n{:LEFT$}", "")?;
            column = LEFT;
        }
        write!(f, " {name}")?;
        column += 1 + name.len();
    }
    Ok(())
}
