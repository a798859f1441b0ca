//! What our sockets have in common word for word, as macros: every type has a field `shared`, an
//! `Rc<Socket<..>>`, and everything here goes through it. (`FromRawFd` is in `raw_fd`.)

/// Handles to a socket: clones, std's type, and the traits of whoever owns a descriptor. The type
/// itself has to say how it comes from std's.
macro_rules! handle {
    ($type:ident, $std:ty) => {
        impl $type {
            fn std(&self) -> &$std {
                self.shared.inner()
            }

            /// Another handle to the same socket, with the same settings.
            ///
            /// # Errors
            ///
            /// None; it returns a `Result` as std's does.
            pub fn try_clone(&self) -> io::Result<$type> {
                Ok(self.clone())
            }

            /// Takes the error that is pending on the socket, if there is one.
            ///
            /// # Errors
            ///
            /// As the system says.
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                self.std().take_error()
            }

            /// Lets calls fail with `WouldBlock` instead of waiting. All clones share the setting.
            ///
            /// # Errors
            ///
            /// As the system says.
            pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
                self.shared.set_nonblocking(on)
            }

            /// The same socket as std's type, blocking (unless set otherwise) and with the same
            /// time limits: to send it to another thread, for instance.
            ///
            /// If there are clones, they go on with this descriptor, and std's gets a duplicate. (A
            /// listener and its duplicate share their mode, which then has to stay non-blocking for
            /// the clones' sake.)
            ///
            /// # Errors
            ///
            /// As the system says, if a descriptor has to be duplicated or an option set.
            pub fn into_std(self) -> io::Result<$std> {
                self.shared.into_std()
            }
        }

        impl ::std::fmt::Debug for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                self.std().fmt(f)
            }
        }

        impl From<$type> for $std {
            /// # Panics
            ///
            /// If `into_std` fails, which it may only if there are clones.
            fn from(socket: $type) -> $std {
                socket.into_std().expect("a socket without clones has nothing that could fail")
            }
        }

        impl ::std::os::fd::AsFd for $type {
            fn as_fd(&self) -> ::std::os::fd::BorrowedFd<'_> {
                self.std().as_fd()
            }
        }

        impl ::std::os::fd::AsRawFd for $type {
            fn as_raw_fd(&self) -> ::std::os::fd::RawFd {
                self.std().as_raw_fd()
            }
        }

        impl ::std::os::fd::IntoRawFd for $type {
            fn into_raw_fd(self) -> ::std::os::fd::RawFd {
                <$std>::from(self).into_raw_fd()
            }
        }

        impl From<::std::os::fd::OwnedFd> for $type {
            fn from(fd: ::std::os::fd::OwnedFd) -> $type {
                $type::from(<$std>::from(fd))
            }
        }

        impl From<$type> for ::std::os::fd::OwnedFd {
            fn from(socket: $type) -> ::std::os::fd::OwnedFd {
                <$std>::from(socket).into()
            }
        }

        // As std's is: what a panic leaves behind is a socket, and not half of one.
        impl ::std::panic::UnwindSafe for $type {}
        impl ::std::panic::RefUnwindSafe for $type {}
    };
}

/// Limits to how long calls wait.
macro_rules! time_limits {
    ($type:ident) => {
        impl $type {
            /// Lets calls that receive fail with `TimedOut` after so long. `None`: they wait for
            /// ever.
            ///
            /// # Errors
            ///
            /// `InvalidInput` for a limit of zero.
            pub fn set_read_timeout(&self, d: Option<Duration>) -> io::Result<()> {
                self.shared.set_timeout_of(Side::Read, d)
            }

            /// Lets calls that send fail with `TimedOut` after so long. `None`: they wait for ever.
            ///
            /// # Errors
            ///
            /// `InvalidInput` for a limit of zero.
            pub fn set_write_timeout(&self, d: Option<Duration>) -> io::Result<()> {
                self.shared.set_timeout_of(Side::Write, d)
            }

            /// The limit for calls that receive.
            ///
            /// # Errors
            ///
            /// None; it returns a `Result` as std's does.
            pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
                Ok(self.shared.timeout_of(Side::Read))
            }

            /// The limit for calls that send.
            ///
            /// # Errors
            ///
            /// None; it returns a `Result` as std's does.
            pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
                Ok(self.shared.timeout_of(Side::Write))
            }
        }
    };
}

/// Streams: bytes in and out.
macro_rules! bytes {
    ($type:ident) => {
        impl $type {
            /// Shuts down reading, writing or both. Greenlets that wait on that side go on: reads
            /// find the end of the stream, writes fail.
            ///
            /// # Errors
            ///
            /// As the system says, for instance `NotConnected`.
            pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                self.shared.shutdown(how)
            }

            /// Reads without taking anything out: the next read finds it again.
            ///
            /// # Errors
            ///
            /// As a read's.
            pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
                self.shared.peek(buf)
            }

            /// Returns when a read would not wait: there is data, the end of the stream, or an
            /// error.
            ///
            /// For handlers of many quiet connections, which then need no buffer until there is
            /// something to put into it. A buffer that is an array on the stack is touched by the
            /// first read, and its memory stays the greenlet's; one from the heap, made when this has
            /// returned, is gone again while the connection is quiet. Ten thousand such connections
            /// take 55 MB; with 16 KiB of buffer on each stack they would take 160 MB more.
            ///
            /// It makes no call of the system where it has to wait: the event says enough. (So a
            /// read can find that somebody else has been faster, and wait.)
            ///
            /// # Errors
            ///
            /// As a read's.
            ///
            /// # Examples
            ///
            /// More advice is in [`observe`](crate::observe#memory-of-many-quiet-greenlets).
            ///
            /// ```no_run
            /// # use std::io::{self, Read, Write};
            /// # fn handler(mut stream: greenloom::net::TcpStream) -> io::Result<()> {
            /// loop {
            ///     stream.wait_readable()?; // here it spends its life
            ///     let mut buffer = vec![0; 16 * 1024];
            ///     let len = stream.read(&mut buffer)?;
            ///     if len == 0 {
            ///         return Ok(());
            ///     }
            ///     stream.write_all(&buffer[..len])?;
            /// }
            /// # }
            /// ```
            pub fn wait_readable(&self) -> io::Result<()> {
                self.shared.wait_readable()
            }
        }

        bytes!(@in_and_out $type);
        bytes!(@in_and_out &$type);
    };
    (@in_and_out $type:ty) => {
        impl Read for $type {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.shared.read(buf)
            }

            fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                self.shared.read_vectored(bufs)
            }
        }

        impl Write for $type {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.shared.write(buf)
            }

            fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                self.shared.write_vectored(bufs)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
    };
}

/// Listeners: connections one after the other.
macro_rules! connections {
    ($listener:ident, $stream:ident) => {
        impl $listener {
            /// Connections as they come, without end.
            #[must_use]
            pub fn incoming(&self) -> Incoming<'_> {
                Incoming { listener: self }
            }
        }

        #[doc = concat!("The connections of a listener, from [`", stringify!($listener), "::incoming`].")]
        #[derive(Debug)]
        pub struct Incoming<'a> {
            listener: &'a $listener,
        }

        impl Iterator for Incoming<'_> {
            type Item = io::Result<$stream>;

            fn next(&mut self) -> Option<io::Result<$stream>> {
                Some(self.listener.accept().map(|(stream, _)| stream))
            }
        }

        impl ::std::iter::FusedIterator for Incoming<'_> {}
    };
}

/// Options that std's type gets and sets by methods of the same names.
macro_rules! options {
    ($type:ident: $($(#[$about_set:meta])* $set:ident($value:ty); $(#[$about_get:meta])* $get:ident;)+) => {
        impl $type {$(
            $(#[$about_set])*
            ///
            /// # Errors
            ///
            /// As the system says.
            pub fn $set(&self, value: $value) -> io::Result<()> {
                self.std().$set(value)
            }

            $(#[$about_get])*
            ///
            /// # Errors
            ///
            /// As the system says.
            pub fn $get(&self) -> io::Result<$value> {
                self.std().$get()
            }
        )+}
    };
}

pub(super) use {bytes, connections, handle, options, time_limits};
