//! Accepting connections on a worker's loop.
//!
//! ```text
//! open ─► waiting ◄──────────────► accepting ─► stopped
//!           └── pause(), begin() ──┘   └─ stop()
//! ```

use super::{Socket, listen};
use crate::listen::{Address, Options, Place, Sockets};
use monoio::io::Canceller;
use monoio::net::{TcpListener, TcpStream, UnixListener};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{Shutdown, shutdown};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// One worker's listener on one address.
pub struct Listener {
    kind: Kind,
    address: Address,
    /// What it is one of.
    sockets: Sockets,
    proxied: Cell<bool>,
    state: Cell<State>,
    canceller: RefCell<Canceller>,
}

enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It listens; connections wait in the kernel.
    Waiting,
    Accepting,
    Stopped,
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub socket: Socket,
    /// Who connected.
    pub peer: SocketAddr,
    /// What it connected to, where that takes no system call to know.
    pub local: Option<SocketAddr>,
}

/// What stands for the address of a unix socket's ends: they are on this host.
const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Listener {
    /// Listens on the worker's sockets of a place, and accepts nothing yet. Must be called on the
    /// worker's loop.
    ///
    /// # Errors
    /// Somebody else listens there by now, or no descriptors are left.
    pub fn open(place: &Place, index: usize, workers: usize) -> io::Result<Vec<Self>> {
        let sockets = place.sockets.of_worker(index, workers)?;
        sockets.into_iter().map(|socket| Self::on(socket, place)).collect()
    }

    fn on(socket: OwnedFd, place: &Place) -> io::Result<Self> {
        listen::listen(&socket, place.options.backlog)?;
        let kind = match place.options.address {
            Address::Tcp(_) => Kind::Tcp(TcpListener::from_std(socket.into())?),
            Address::Unix(_) => Kind::Unix(UnixListener::from_std(socket.into())?),
        };
        Ok(Self {
            kind,
            address: place.options.address.clone(),
            sockets: place.sockets.clone(),
            proxied: Cell::new(place.options.proxied),
            state: Cell::new(State::Waiting),
            canceller: RefCell::default(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it listens on a socket of this place.
    #[must_use]
    pub fn is_of(&self, place: &Place) -> bool {
        self.sockets == place.sockets
    }

    /// What of the options concerns who accepts.
    pub fn set_options(&self, options: &Options) {
        self.proxied.set(options.proxied);
    }

    /// Whether its connections begin with a PROXY protocol header.
    #[must_use]
    pub fn is_proxied(&self) -> bool {
        self.proxied.get()
    }

    /// From now on [`Listener::accept`] gives connections.
    ///
    /// # Errors
    /// The kernel does not change the socket's mode.
    pub fn begin(&self) -> io::Result<()> {
        // The ring waits only on blocking sockets; epoll needs the other kind. The mode is shared
        // with another process that has the same socket, so it is set when that one has paused.
        let nonblocking = monoio::utils::is_legacy();
        rustix::io::ioctl_fionbio(self.fd(), nonblocking)?;
        self.state.set(State::Accepting);
        Ok(())
    }

    /// The next connection; `None` once the listener was stopped or paused.
    ///
    /// # Errors
    /// A connection that is gone already, or no file descriptors left.
    pub async fn accept(&self) -> io::Result<Option<Accepted>> {
        if self.state.get() != State::Accepting {
            return Ok(None);
        }
        let wish = self.canceller.borrow().handle();
        let accepted = match &self.kind {
            Kind::Tcp(listener) => listener.cancelable_accept(wish).await.map(|(stream, peer)| {
                keep_from_children(stream.as_raw_fd());
                let (socket, local) = (Socket::of(stream), self.fixed_address());
                Accepted { socket, peer, local }
            }),
            Kind::Unix(listener) => match listener.cancelable_accept(wish).await {
                Ok((stream, _)) => of_unix(stream),
                Err(error) => Err(error),
            },
        };
        match accepted {
            // One that came while we were stopping is a connection like any other.
            Ok(accepted) => Ok(Some(accepted)),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::CANCELED) => Ok(None),
            Err(_) if self.state.get() != State::Accepting => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Our end of every connection, unless the listener takes those to any address.
    fn fixed_address(&self) -> Option<SocketAddr> {
        match &self.address {
            Address::Tcp(address) => Some(*address).filter(|it| !it.ip().is_unspecified()),
            Address::Unix(_) => Some(HERE),
        }
    }

    /// Lets a waiting `accept` return, and listens on: what comes waits in the kernel, for us or
    /// for another process that has the socket. The future of an `accept` is never dropped: a
    /// connection that it was about to give would be lost with its descriptor.
    pub fn pause(&self) {
        if self.state.replace(State::Waiting) == State::Accepting {
            let canceller = self.canceller.take();
            self.canceller.replace(canceller.cancel());
        }
    }

    /// Ends listening, for all who have the socket, and lets a waiting `accept` return.
    pub fn stop(&self) {
        self.state.set(State::Stopped);
        match shutdown(self.fd(), Shutdown::Both) {
            // Another worker stopped the socket that both of them share.
            Err(Errno::NOTCONN | Errno::INVAL) | Ok(()) => {}
            Err(error) => {
                log::warn!("listener {} could not be stopped: {error}", self.address);
            }
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        let fd = match &self.kind {
            Kind::Tcp(listener) => listener.as_raw_fd(),
            Kind::Unix(listener) => listener.as_raw_fd(),
        };
        // SAFETY: the descriptor is open for as long as `self.kind` lives, which is longer than
        // this borrow.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }
}

/// The ring's accept leaves connections open in programs that are started: runners, or a newer
/// gateway. They would hold them when we have closed them.
fn keep_from_children(fd: RawFd) {
    // SAFETY: the caller has the connection that this is the descriptor of.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    if let Err(error) = fcntl_setfd(fd, FdFlags::CLOEXEC) {
        log::warn!("a connection stays open in programs that are started: {error}");
    }
}

fn of_unix(stream: monoio::net::UnixStream) -> io::Result<Accepted> {
    keep_from_children(stream.as_raw_fd());
    // SAFETY: the descriptor was this stream's alone and is this one's from here on.
    let fd = unsafe { OwnedFd::from_raw_fd(stream.into_raw_fd()) };
    // Both drivers read and write stream sockets of any family alike.
    let socket = Socket::of(TcpStream::from_std(std::net::TcpStream::from(fd))?);
    Ok(Accepted { socket, peer: HERE, local: Some(HERE) })
}
