//! Making listening sockets: on TCP one for each worker, on the same port by `SO_REUSEPORT`; on a
//! unix socket one for all.

use crate::listen::{Address, Held, Options, Place};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt,
};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

/// A listener's address that is ours before the workers listen on it.
#[derive(Debug)]
pub struct Reservation {
    /// What workers open.
    pub place: Place,
    /// Keeps the port.
    _socket: Option<OwnedFd>,
}

/// Makes sure that nobody else listens on an address, and keeps it until the workers do.
/// `SO_REUSEPORT` would let two gateways share a port without a word, so this asks without it
/// first.
///
/// # Errors
/// The address is taken or is not ours, or the kernel does not know one of the options.
pub fn reserve(options: &Options) -> io::Result<Reservation> {
    match &options.address {
        Address::Tcp(address) => reserve_tcp(options, *address),
        Address::Unix(path) => {
            let held = Some(Held(Arc::new(unix_socket(options, path)?)));
            let place = Place { options: options.clone(), held };
            Ok(Reservation { place, _socket: None })
        }
    }
}

fn reserve_tcp(options: &Options, address: SocketAddr) -> io::Result<Reservation> {
    if address.port() != 0 {
        let probe = tcp_socket(address, true)?;
        bind(&probe, &address)?;
        rustix::net::listen(&probe, 1)?;
    }
    // A port the kernel chooses has no old connections that `SO_REUSEADDR` would be for, and
    // without it nobody else can take the port between this and the workers' listening.
    let socket = tcp_socket(address, address.port() != 0)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    set_tcp_options(&socket, options)?;
    let bound = Address::Tcp(SocketAddr::try_from(getsockname(&socket)?)?);
    let place = Place { options: Options { address: bound, ..options.clone() }, held: None };
    Ok(Reservation { place, _socket: Some(socket) })
}

/// A worker's socket there, listening.
pub(super) fn open(place: &Place) -> io::Result<OwnedFd> {
    let Place { options, held } = place;
    let socket = match (&options.address, held) {
        (Address::Tcp(address), _) => {
            let socket = tcp_socket(*address, true)?;
            sockopt::set_socket_reuseport(&socket, true)?;
            set_tcp_options(&socket, options)?;
            bind(&socket, address)?;
            socket
        }
        (Address::Unix(_), Some(held)) => held.0.try_clone()?,
        (Address::Unix(path), None) => unix_socket(options, path)?,
    };
    rustix::net::listen(&socket, i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket)
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
fn set_tcp_options(socket: &OwnedFd, options: &Options) -> io::Result<()> {
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

// SAFETY: the C library has this function, with these parameters (setsockopt(2)).
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

fn unix_socket(options: &Options, path: &Path) -> io::Result<OwnedFd> {
    remove_stale(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    if let Some(mode) = options.mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(socket)
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
    use crate::listen::Probes;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    fn somewhere(text: &str) -> Options {
        Options::new(Address::Tcp(text.parse().expect("an address")))
    }

    fn tcp(place: &Place) -> SocketAddr {
        match &place.options.address {
            Address::Tcp(address) => *address,
            other @ Address::Unix(_) => panic!("{other}"),
        }
    }

    fn is_in_use<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    }

    #[test]
    fn workers_share_a_port_that_nobody_else_has() {
        let reserved = reserve(&somewhere("127.0.0.1:0")).expect("a free port");
        let place = reserved.place.clone();
        let workers = [open(&place), open(&place)].map(|socket| socket.expect("a worker's own"));
        drop(reserved);
        let fixed = somewhere(&tcp(&place).to_string());
        assert!(tcp(&place).port() != 0 && is_in_use(reserve(&fixed)));
        drop(workers);
        assert!(reserve(&fixed).is_ok());
    }

    #[test]
    fn accepted_connections_inherit_the_options() {
        let probes =
            Probes { idle: Duration::from_secs(30), interval: Duration::from_secs(5), count: 3 };
        let options = Options {
            probes: Some(probes),
            fastopen: Some(16),
            defer_accept: Some(Duration::from_secs(1)),
            ..somewhere("127.0.0.1:0")
        };
        let reserved = reserve(&options).expect("a free port");
        let listener = TcpListener::from(open(&reserved.place).expect("it listens"));
        let mut client = TcpStream::connect(tcp(&reserved.place)).expect("connected");
        client.write_all(b"x").expect("data, so that the connection counts");
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
        let mut options = Options::new(Address::Unix(path.clone()));
        options.mode = Some(0o600);
        let reserved = reserve(&options).expect("a socket");
        let mode = path.symlink_metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let worker = open(&reserved.place).expect("it listens");
        assert!(is_in_use(reserve(&options)), "somebody listens there");
        drop((reserved, worker));
        drop(reserve(&options).expect("nobody listens there any more"));
        std::fs::remove_file(&path).expect("a file");
        std::fs::write(&path, "text").expect("a file");
        assert!(is_in_use(reserve(&options)), "it is no socket");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
