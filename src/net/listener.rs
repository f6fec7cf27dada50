//! Accepting connections on a worker's loop.

use super::{Socket, listen};
use crate::listen::{Address, Place};
use monoio::net::{TcpListener, TcpStream, UnixListener};
use rustix::net::{Shutdown, shutdown};
use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

/// One worker's listener on one address.
pub struct Listener {
    kind: Kind,
    place: Place,
    stopped: Cell<bool>,
}

enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
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
        f.debug_struct("Listener").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Listener {
    /// Listens; must be called on the worker's loop.
    ///
    /// # Errors
    /// Somebody else listens there by now, or no descriptors are left.
    pub fn open(place: &Place) -> io::Result<Self> {
        let socket = listen::open(place)?;
        // The ring waits only on blocking sockets; epoll needs the other kind.
        let nonblocking = monoio::utils::is_legacy();
        let kind = match place.options.address {
            Address::Tcp(_) => {
                let listener = std::net::TcpListener::from(socket);
                listener.set_nonblocking(nonblocking)?;
                Kind::Tcp(TcpListener::from_std(listener)?)
            }
            Address::Unix(_) => {
                let listener = std::os::unix::net::UnixListener::from(socket);
                listener.set_nonblocking(nonblocking)?;
                Kind::Unix(UnixListener::from_std(listener)?)
            }
        };
        Ok(Self { kind, place: place.clone(), stopped: Cell::new(false) })
    }

    /// Where it listens, and how.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The next connection; `None` once the listener was stopped.
    ///
    /// # Errors
    /// A connection that is gone already, or no file descriptors left.
    pub async fn accept(&self) -> io::Result<Option<Accepted>> {
        let accepted = match &self.kind {
            Kind::Tcp(listener) => listener.accept().await.map(|(stream, peer)| Accepted {
                socket: Socket::of(stream),
                peer,
                local: self.fixed_address(),
            }),
            Kind::Unix(listener) => match listener.accept().await {
                Ok((stream, _)) => of_unix(stream),
                Err(error) => Err(error),
            },
        };
        if self.stopped.get() { Ok(None) } else { accepted.map(Some) }
    }

    /// Our end of every connection, unless the listener takes those to any address.
    fn fixed_address(&self) -> Option<SocketAddr> {
        match &self.place.options.address {
            Address::Tcp(address) => Some(*address).filter(|it| !it.ip().is_unspecified()),
            Address::Unix(_) => Some(HERE),
        }
    }

    /// Ends listening and lets a waiting `accept` return. The future of an `accept` is never
    /// dropped: a connection that it was about to give would be lost with its descriptor.
    pub fn stop(&self) {
        self.stopped.set(true);
        let fd = match &self.kind {
            Kind::Tcp(listener) => listener.as_raw_fd(),
            Kind::Unix(listener) => listener.as_raw_fd(),
        };
        // SAFETY: the descriptor is open for as long as `self.kind` lives, which is longer than
        // this borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        match shutdown(fd, Shutdown::Both) {
            // Another worker stopped the unix socket that all of them share.
            Err(rustix::io::Errno::NOTCONN | rustix::io::Errno::INVAL) | Ok(()) => {}
            Err(error) => {
                let address = &self.place.options.address;
                log::warn!("listener {address} could not be stopped: {error}");
            }
        }
    }
}

fn of_unix(stream: monoio::net::UnixStream) -> io::Result<Accepted> {
    // SAFETY: the descriptor was this stream's alone and is this one's from here on.
    let fd = unsafe { OwnedFd::from_raw_fd(stream.into_raw_fd()) };
    // Both drivers read and write stream sockets of any family alike.
    let socket = Socket::of(TcpStream::from_std(std::net::TcpStream::from(fd))?);
    Ok(Accepted { socket, peer: HERE, local: Some(HERE) })
}
