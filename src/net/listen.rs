//! Making listening sockets: where, and how the kernel is to treat them.

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt,
};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Connections the kernel keeps for us before `accept`, if nobody says otherwise.
pub const BACKLOG: u32 = 4096;

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// On TCP. An IPv6 address takes IPv6 only, as in nginx.
    Tcp(SocketAddr),
    /// On a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
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
    /// After so much silence.
    pub idle: Duration,
    /// So often then.
    pub interval: Duration,
    /// So many times, before the connection counts as broken.
    pub count: u32,
}

/// How a listener's sockets are made. What concerns TCP means nothing to a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Where.
    pub address: ListenAddress,
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

impl ListenOptions {
    /// An address with everything else as usual.
    #[must_use]
    pub fn new(address: ListenAddress) -> Self {
        Self {
            address,
            backlog: BACKLOG,
            nodelay: true,
            probes: None,
            fastopen: None,
            defer_accept: None,
            mode: None,
        }
    }
}

/// A socket that is bound and does not listen yet. Dropped, it gives its address up.
#[derive(Debug)]
pub struct Bound {
    pub(super) socket: OwnedFd,
    /// How it was made; its address has the port the kernel chose if none was asked for.
    pub options: ListenOptions,
}

/// Makes a listener's sockets, one for each worker. On TCP they share the port by `SO_REUSEPORT`,
/// so that the kernel spreads connections; a unix socket is one that all workers hold.
///
/// `SO_REUSEPORT` would let two gateways share a port without a word, so this asks without it first.
///
/// # Errors
/// The address is taken or is not ours, or the kernel does not know one of the options.
pub fn open(options: &ListenOptions, workers: usize) -> io::Result<Vec<Bound>> {
    match &options.address {
        ListenAddress::Tcp(address) => open_tcp(options, *address, workers),
        ListenAddress::Unix(path) => open_unix(options, path, workers),
    }
}

fn open_tcp(
    options: &ListenOptions,
    address: SocketAddr,
    workers: usize,
) -> io::Result<Vec<Bound>> {
    if address.port() != 0 {
        let probe = tcp_socket(address, true)?;
        bind(&probe, &address)?;
        rustix::net::listen(&probe, 1)?;
    }
    let mut options = options.clone();
    let mut at = address;
    let mut all = Vec::with_capacity(workers);
    for _ in 0..workers {
        // A port the kernel chooses has no old connections that `SO_REUSEADDR` would be for, and
        // without it nobody else can take the port between two of these.
        let socket = tcp_socket(address, address.port() != 0)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        bind(&socket, &at)?;
        at = SocketAddr::try_from(getsockname(&socket)?)?;
        options.address = ListenAddress::Tcp(at);
        set_tcp_options(&socket, &options)?;
        all.push(Bound { socket, options: options.clone() });
    }
    Ok(all)
}

fn tcp_socket(address: SocketAddr, reuse: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, reuse)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}

/// Accepted sockets inherit these.
fn set_tcp_options(socket: &OwnedFd, options: &ListenOptions) -> io::Result<()> {
    sockopt::set_tcp_nodelay(socket, options.nodelay)?;
    if let Some(probes) = options.probes {
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, probes.idle)?;
        sockopt::set_tcp_keepintvl(socket, probes.interval)?;
        sockopt::set_tcp_keepcnt(socket, probes.count)?;
    }
    if let Some(queue) = options.fastopen {
        set_tcp_number(socket, TCP_FASTOPEN, queue)?;
    }
    if let Some(time) = options.defer_accept {
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(1);
        set_tcp_number(socket, TCP_DEFER_ACCEPT, seconds)?;
    }
    Ok(())
}

const IPPROTO_TCP: i32 = 6;
const TCP_DEFER_ACCEPT: i32 = 9;
const TCP_FASTOPEN: i32 = 23;

unsafe extern "C" {
    fn setsockopt(fd: i32, level: i32, name: i32, value: *const u32, bytes: u32) -> i32;
}

/// The options that rustix has no words for.
fn set_tcp_number(socket: &OwnedFd, name: i32, value: u32) -> io::Result<()> {
    let bytes = size_of::<u32>() as u32;
    // SAFETY: the descriptor is open, `value` lives until the call returns, and `bytes` is its
    // size.
    match unsafe { setsockopt(socket.as_raw_fd(), IPPROTO_TCP, name, &raw const value, bytes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn open_unix(options: &ListenOptions, path: &Path, workers: usize) -> io::Result<Vec<Bound>> {
    remove_stale(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    if let Some(mode) = options.mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    let copy = |_| Ok(Bound { socket: socket.try_clone()?, options: options.clone() });
    (0..workers).map(copy).collect()
}

/// A socket that nobody listens on any more is in the way of the next one; anything else that is
/// there is somebody's.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(there) = path.symlink_metadata() else { return Ok(()) };
    let is_stale = there.file_type().is_socket()
        && std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if is_stale { std::fs::remove_file(path) } else { Err(io::ErrorKind::AddrInUse.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn somewhere(text: &str) -> ListenOptions {
        ListenOptions::new(ListenAddress::Tcp(text.parse().expect("an address")))
    }

    fn tcp(bound: &Bound) -> SocketAddr {
        match &bound.options.address {
            ListenAddress::Tcp(address) => *address,
            other @ ListenAddress::Unix(_) => panic!("{other}"),
        }
    }

    #[test]
    fn workers_share_a_port_that_nobody_else_has() {
        let bound = open(&somewhere("127.0.0.1:0"), 3).expect("a free port");
        let address = tcp(&bound[0]);
        assert!(bound.iter().all(|bound| tcp(bound) == address) && address.port() != 0);
        let taken = open(&somewhere(&address.to_string()), 1);
        assert_eq!(taken.map(drop).map_err(|e| e.kind()), Err(io::ErrorKind::AddrInUse));
        drop(bound);
        assert!(open(&somewhere(&address.to_string()), 2).is_ok());
    }

    #[test]
    fn accepted_connections_inherit_the_options() {
        let probes =
            Probes { idle: Duration::from_secs(30), interval: Duration::from_secs(5), count: 3 };
        let options = ListenOptions {
            probes: Some(probes),
            fastopen: Some(16),
            defer_accept: Some(Duration::from_secs(1)),
            ..somewhere("127.0.0.1:0")
        };
        let bound = open(&options, 1).expect("a free port").remove(0);
        rustix::net::listen(&bound.socket, 5).expect("it listens");
        let mut client = TcpStream::connect(tcp(&bound)).expect("connected");
        client.write_all(b"x").expect("data, so that the connection counts");
        let listener = TcpListener::from(bound.socket);
        let (mut accepted, _) = listener.accept().expect("a connection");
        accepted.read_exact(&mut [0]).expect("the data");
        assert!(accepted.nodelay().expect("an option"));
        assert!(sockopt::socket_keepalive(&accepted).expect("an option"));
        assert_eq!(sockopt::tcp_keepidle(&accepted), Ok(probes.idle));
        assert_eq!(sockopt::tcp_keepcnt(&accepted), Ok(probes.count));
    }

    #[test]
    fn unix_sockets_that_nobody_listens_on_are_replaced() {
        let folder = std::env::temp_dir().join(format!("ringgate-listen-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("a.sock");
        let mut options = ListenOptions::new(ListenAddress::Unix(path.clone()));
        options.mode = Some(0o600);
        let bound = open(&options, 2).expect("a socket");
        let mode = path.symlink_metadata().expect("it is there").permissions().mode();
        assert_eq!((bound.len(), mode & 0o777), (2, 0o600));
        rustix::net::listen(&bound[0].socket, 5).expect("it listens");
        let in_use = |result: io::Result<Vec<Bound>>| {
            result.map(drop).map_err(|error| error.kind()) == Err(io::ErrorKind::AddrInUse)
        };
        assert!(in_use(open(&options, 1)), "somebody listens there");
        drop(bound);
        drop(open(&options, 1).expect("nobody listens there any more"));
        std::fs::remove_file(&path).expect("a file");
        std::fs::write(&path, "text").expect("a file");
        assert!(in_use(open(&options, 1)), "it is no socket");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
