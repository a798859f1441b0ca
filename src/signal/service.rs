//! What this thread's hub does about signals: a pair of sockets into which the handlers write, and
//! a greenlet that reads.
//!
//! ```text
//!   kernel --> handler (any thread): arrived = true; write one byte  --.
//!                                                                      v
//!   greenlet "signals":  read the bytes --> swap each `arrived` --> listeners: remember, wake
//!                                                               '-> `on`: a greenlet a delivery
//! ```
//!
//! The flag is set before the byte is written, and looked at after the byte was read: so there is
//! at least one delivery after the last time that a signal was sent, however many bytes were lost
//! to a full socket. Greenlet, sockets and handlers are there only as long as somebody here is
//! interested in a signal.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::mem;
use std::os::unix::net::UnixStream;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::low_level::{pipe, unregister};
use signal_hook::{SigId, flag};

use super::claim::{Claim, keep_default};
use super::number::{Set, Signal};
use crate::error::Unwinding;
use crate::greenlet::{Builder, Greenlet};
use crate::hub::{self, Birth, Side};
use crate::source::{Source, Tried};
use crate::wait::{Limit, WaitList};

thread_local! {
    /// The one of this thread, while there is one. It belongs to its greenlet, and to those who
    /// listen.
    static SERVICE: RefCell<Weak<Service>> = const { RefCell::new(Weak::new()) };
}

/// Before the reader tries again after an error.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Service {
    reader: Source<UnixStream>,
    writer: UnixStream,
    hooks: RefCell<BTreeMap<Signal, Hook>>,
    /// Those who are to be told, in the order in which they came.
    interests: RefCell<BTreeMap<u64, Interest>>,
    interests_ever: Cell<u64>,
    greenlet: RefCell<Option<Greenlet<()>>>,
}

/// Who is to be told of what.
#[derive(Clone)]
enum Interest {
    Listener(Rc<Heard>),
    Handler(Rc<Handler>),
}

/// What a listener has been told and has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Heard {
    wanted: Set,
    pub(super) pending: Cell<Set>,
    pub(super) line: WaitList,
}

/// A function of the user's.
struct Handler {
    signal: Signal,
    f: Option<Box<dyn Fn(Signal)>>,
    site: &'static Location<'static>,
    is_cancelled: Cell<bool>,
}

/// What is installed for one signal.
struct Hook {
    arrived: Arc<AtomicBool>,
    ids: Vec<SigId>,
    users: usize,
    _claim: Option<Claim>,
}

impl Hook {
    fn new(signal: Signal, writer: &UnixStream) -> io::Result<Hook> {
        let number = signal.as_raw();
        let arrived = Arc::new(AtomicBool::new(false));
        let mut hook =
            Hook { arrived: Arc::clone(&arrived), ids: Vec::new(), users: 0, _claim: None };
        keep_default(signal)?;
        // They are called in this order. Whatever fails, what was installed goes with the hook.
        hook.ids.push(flag::register(number, arrived)?);
        hook.ids.push(pipe::register(number, writer.try_clone()?)?);
        hook._claim = Some(Claim::new(signal));
        Ok(hook)
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            unregister(id);
        }
    }
}

impl Service {
    /// This thread's, which comes to be if need be.
    #[track_caller]
    fn current() -> io::Result<Rc<Service>> {
        let existing = SERVICE.try_with(|service| service.borrow().upgrade());
        match existing {
            Ok(Some(service)) => return Ok(service),
            Ok(None) if !hub::has_ended() => {}
            Ok(None) | Err(_) => return Err(Unwinding.into()),
        }
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        let service = Rc::new(Service {
            reader: Source::new(reader),
            writer,
            hooks: RefCell::default(),
            interests: RefCell::default(),
            interests_ever: Cell::new(0),
            greenlet: RefCell::default(),
        });
        // Here, where somebody can still be told that it is not possible.
        service.reader.watch()?;
        let reader = Reader(Rc::clone(&service));
        let greenlet = Builder::new().name("signals").spawn(move || reader.run())?;
        service.greenlet.replace(Some(greenlet));
        let _ = SERVICE.try_with(|current| current.replace(Rc::downgrade(&service)));
        Ok(service)
    }

    #[track_caller]
    pub(super) fn listen(wanted: Set) -> io::Result<(Rc<Service>, u64, Rc<Heard>)> {
        let heard = Rc::new(Heard { wanted, ..Heard::default() });
        let (service, id) = Service::join(wanted, Interest::Listener(Rc::clone(&heard)))?;
        Ok((service, id, heard))
    }

    #[track_caller]
    pub(super) fn handle(signal: Signal, f: Box<dyn Fn(Signal)>) -> io::Result<(Rc<Service>, u64)> {
        let (f, site, is_cancelled) = (Some(f), Location::caller(), Cell::new(false));
        let mut wanted = Set::default();
        wanted.insert(signal);
        Service::join(wanted, Interest::Handler(Rc::new(Handler { signal, f, site, is_cancelled })))
    }

    #[track_caller]
    fn join(wanted: Set, interest: Interest) -> io::Result<(Rc<Service>, u64)> {
        let service = Service::current()?;
        let hooked = service.hook(wanted);
        if let Err(error) = hooked {
            service.end_if_idle();
            return Err(error);
        }
        let id = service.interests_ever.get();
        service.interests_ever.set(id + 1);
        service.interests.borrow_mut().insert(id, interest);
        Ok((service, id))
    }

    /// One user more for each of these signals; for none of them, if one fails.
    fn hook(&self, wanted: Set) -> io::Result<()> {
        let mut hooks = self.hooks.borrow_mut();
        let mut new = Vec::new();
        for signal in wanted.iter().filter(|signal| !hooks.contains_key(signal)) {
            new.push((signal, Hook::new(signal, &self.writer)?));
        }
        hooks.extend(new);
        for signal in wanted.iter() {
            if let Some(hook) = hooks.get_mut(&signal) {
                hook.users += 1;
            }
        }
        Ok(())
    }

    /// False: it has left before.
    pub(super) fn leave(&self, id: u64) -> bool {
        let Some(interest) = self.interests.borrow_mut().remove(&id) else { return false };
        let mut wanted = Set::default();
        match &interest {
            Interest::Listener(heard) => wanted = heard.wanted,
            Interest::Handler(handler) => {
                handler.is_cancelled.set(true);
                wanted.insert(handler.signal);
            }
        }
        {
            let mut hooks = self.hooks.borrow_mut();
            for signal in wanted.iter() {
                if let Some(hook) = hooks.get_mut(&signal) {
                    hook.users -= 1;
                }
            }
            hooks.retain(|_, hook| hook.users > 0);
        }
        self.end_if_idle();
        drop(interest); // with what the user's function has captured
        true
    }

    pub(super) fn has(&self, id: u64) -> bool {
        self.interests.borrow().contains_key(&id)
    }

    /// Nobody is interested any more: the greenlet goes, and the descriptors with the last of us.
    fn end_if_idle(&self) {
        if self.interests.borrow().is_empty() {
            let _ = SERVICE.try_with(|current| current.replace(Weak::new()));
            let greenlet = self.greenlet.take();
            if let Some(greenlet) = greenlet {
                greenlet.kill_nowait();
            }
        }
    }

    /// Tells everybody what has arrived since the last time.
    pub(super) fn look(&self) {
        let mut arrived = Set::default();
        for (signal, hook) in &*self.hooks.borrow() {
            if hook.arrived.swap(false, Ordering::SeqCst) {
                arrived.insert(*signal);
            }
        }
        if arrived.is_empty() {
            return;
        }
        let interests: Vec<_> = self.interests.borrow().values().cloned().collect();
        for interest in interests {
            match interest {
                Interest::Listener(heard) => heard.hear(arrived),
                Interest::Handler(handler) if arrived.contains(handler.signal) => handler.begin(),
                Interest::Handler(_) => {}
            }
        }
    }
}

impl Heard {
    fn hear(&self, arrived: Set) {
        let arrived = arrived.and(self.wanted);
        if !arrived.is_empty() {
            self.pending.set(self.pending.get().or(arrived));
            self.line.wake_all();
        }
    }
}

impl Handler {
    /// A greenlet for one delivery.
    fn begin(self: Rc<Self>) {
        let name = format!("on {}", self.signal);
        let birth = Birth { site: self.site, ..Birth::here(Some(name.into())) };
        let spawned = hub::spawn(birth, move || {
            let result = hub::run_body(|| self.call());
            hub::quietly("panicked in the destructor of a panic", move || drop(result));
        });
        if let Err(error) = spawned {
            hub::report_current("has no stack for a signal handler", error.to_string());
        }
    }

    fn call(&self) {
        if let (false, Some(f)) = (self.is_cancelled.get(), &self.f) {
            f(self.signal);
        }
    }
}

impl Drop for Handler {
    /// Wherever that is: nobody there expects a panic.
    fn drop(&mut self) {
        let f = self.f.take();
        hub::quietly("panicked in a destructor", move || drop(f));
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

/// What the greenlet runs. It holds the service, and when it goes, with its hub at the latest, so
/// does everything that is installed.
struct Reader(Rc<Service>);

impl Reader {
    fn run(&self) {
        let reader = &self.0.reader;
        let drain = |mut stream: &UnixStream| Ok(Tried::Done(stream.read(&mut [0; 64])?));
        loop {
            if let Err(error) = reader.run(Side::Read, &"signals", Limit::Forever, drain) {
                // Those who are interested are so still.
                hub::report_current("cannot wait for signals", error.to_string());
                if let Err(interruption) = hub::sleep_until(hub::after(PAUSE)) {
                    hub::raise(interruption);
                    return;
                }
            }
            self.0.look();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let interests = mem::take(&mut *self.0.interests.borrow_mut());
        let hooks = mem::take(&mut *self.0.hooks.borrow_mut());
        drop(hooks);
        drop(interests);
    }
}
