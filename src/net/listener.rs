//! Listening sockets: one per worker and address, on the same port by `SO_REUSEPORT`.

use super::Socket;
use monoio::net::{ListenerOpts, TcpListener};
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, bind, getsockname, shutdown, socket_with,
    sockopt,
};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Connections the kernel keeps for us before `accept`.
const BACKLOG: i32 = 4096;

/// One worker's listener on one address.
pub struct Listener {
    listener: TcpListener,
    local: SocketAddr,
    stopped: Cell<bool>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("local", &self.local).finish_non_exhaustive()
    }
}

/// An address that is ours before the workers listen on it.
#[derive(Debug)]
pub struct Reservation {
    /// The address, with the port the kernel chose if none was asked for.
    pub address: SocketAddr,
    _socket: OwnedFd,
}

/// Makes sure that nobody else listens on an address, and keeps it until the workers do.
/// `SO_REUSEPORT` would let two gateways share a port without a word, so this asks without it
/// first.
///
/// # Errors
/// The address is taken or is not ours.
pub fn reserve(address: SocketAddr) -> io::Result<Reservation> {
    if address.port() != 0 {
        std::net::TcpListener::bind(address)?;
    }
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // A port the kernel chooses has no old connections that `SO_REUSEADDR` would be for, and
    // without it nobody else can take the port between this and the workers' listening.
    sockopt::set_socket_reuseaddr(&socket, address.port() != 0)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    let bound = SocketAddr::try_from(getsockname(&socket)?)?;
    Ok(Reservation { address: bound, _socket: socket })
}

impl Listener {
    /// Listens on an address; must be called on the worker's loop.
    ///
    /// # Errors
    /// The address is taken or is not ours.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let opts = ListenerOpts::new().reuse_port(true).reuse_addr(true).backlog(BACKLOG);
        let listener = TcpListener::bind_with_config(address, &opts)?;
        let local = listener.local_addr()?;
        Ok(Self { listener, local, stopped: Cell::new(false) })
    }

    /// The address listened on, with the port the kernel chose if none was asked for.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The next connection; `None` once the listener was stopped.
    ///
    /// # Errors
    /// A connection that is gone already, or no file descriptors left.
    pub async fn accept(&self) -> io::Result<Option<(Socket, SocketAddr)>> {
        match self.listener.accept().await {
            _ if self.stopped.get() => Ok(None),
            Ok((stream, peer)) => Ok(Some((Socket::new(stream)?, peer))),
            Err(error) => Err(error),
        }
    }

    /// Ends listening and lets a waiting `accept` return. The future of an `accept` is never
    /// dropped: a connection that it was about to give would be lost with its descriptor.
    pub fn stop(&self) {
        self.stopped.set(true);
        // SAFETY: the descriptor is open for as long as `self.listener` lives, which is longer than
        // this borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(self.listener.as_raw_fd()) };
        if let Err(error) = shutdown(fd, Shutdown::Both) {
            log::warn!("listener {} could not be stopped: {error}", self.local);
        }
    }
}
