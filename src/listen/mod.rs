//! Room `listen`: where the gateway listens and how, as it is configured and handed around.
//!
//! In: an address and what the kernel is to do there.
//! Out: the same, for who opens sockets.
//! May not know: how sockets are opened.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Connections the kernel keeps for us before `accept`, if nobody says otherwise.
pub const BACKLOG: u32 = 4096;

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// On TCP. An IPv6 address takes IPv6 only, as in nginx.
    Tcp(SocketAddr),
    /// On a unix socket; a relative path is one from the working directory.
    Unix(PathBuf),
}

impl Address {
    /// Whether it is the same each time: port 0 is another one.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        !matches!(self, Self::Tcp(address) if address.port() == 0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How the kernel looks for peers that are gone (tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probes {
    /// After so much silence, in whole seconds.
    pub idle: Duration,
    /// So often then, in whole seconds.
    pub interval: Duration,
    /// So many times, before the connection counts as broken.
    pub count: u32,
}

/// A listener. What concerns TCP means nothing to a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where.
    pub address: Address,
    /// Every connection begins with a PROXY protocol header that says who it is from.
    pub proxied: bool,
    /// Connections that wait to be accepted, of each worker; the kernel has a bound of its own
    /// (`net.core.somaxconn`).
    pub backlog: u32,
    /// Small pieces are sent at once (`TCP_NODELAY`).
    pub nodelay: bool,
    /// Peers that are silent are asked whether they are there.
    pub probes: Option<Probes>,
    /// Connections whose first data comes with their first packet, as many as may wait
    /// (`TCP_FASTOPEN`).
    pub fastopen: Option<u32>,
    /// A connection counts once it has data, or after so long (`TCP_DEFER_ACCEPT`).
    pub defer_accept: Option<Duration>,
    /// Permissions of a unix socket.
    pub mode: Option<u32>,
}

impl Options {
    /// An address with everything else as usual.
    #[must_use]
    pub fn new(address: Address) -> Self {
        Self {
            address,
            proxied: false,
            backlog: BACKLOG,
            nodelay: true,
            probes: None,
            fastopen: None,
            defer_accept: None,
            mode: None,
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.proxied { " (PROXY protocol)" } else { "" };
        write!(f, "{}{how}", self.address)
    }
}

/// A listener that workers may open: its address is ours, with the port the kernel chose if none
/// was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The listener.
    pub options: Options,
    /// What is bound there.
    pub sockets: Sockets,
}

/// The sockets of one address: on TCP one for each worker, on a unix socket one for all. Two are
/// the same if they are the same descriptors.
#[derive(Clone, Debug)]
pub struct Sockets(Arc<Mutex<Vec<OwnedFd>>>);

impl Sockets {
    /// Bound sockets.
    #[must_use]
    pub fn new(sockets: Vec<OwnedFd>) -> Self {
        Self(Arc::new(Mutex::new(sockets)))
    }

    /// Those that worker `index` of so many is to accept on, as descriptors of its own. Workers
    /// share where there are fewer sockets, and have several where there are more: no socket is
    /// left without anybody who accepts.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn of_worker(&self, index: usize, workers: usize) -> io::Result<Vec<OwnedFd>> {
        let sockets = self.lock();
        let is_its = |at: usize| at % workers == index || index % sockets.len() == at;
        let its = sockets.iter().enumerate().filter(|(at, _)| is_its(*at));
        its.map(|(_, socket)| socket.try_clone()).collect()
    }

    /// Does something with each of them.
    ///
    /// # Errors
    /// The first of `each`.
    pub fn for_each(&self, each: impl FnMut(&OwnedFd) -> io::Result<()>) -> io::Result<()> {
        self.lock().iter().try_for_each(each)
    }

    /// Closes them here; workers have their own.
    pub fn close(&self) {
        self.lock().clear();
    }

    /// Nothing here is left half done when a thread panics.
    fn lock(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Sockets {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Sockets {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_socket_has_a_worker_and_every_worker_a_socket() {
        for (count, workers, expected) in [
            (2, 2, &[1, 1][..]),
            (1, 3, &[1, 1, 1]),
            (2, 3, &[1, 1, 1]),
            (5, 2, &[3, 2]),
            (3, 1, &[3]),
        ] {
            let open = |_| std::fs::File::open("/dev/null").expect("a descriptor").into();
            let sockets = Sockets::new((0..count).map(open).collect());
            let of = |index| sockets.of_worker(index, workers).expect("descriptors").len();
            assert_eq!((0..workers).map(of).collect::<Vec<_>>(), expected, "{count}, {workers}");
            sockets.close();
            assert_eq!(of(0), 0);
        }
    }
}
