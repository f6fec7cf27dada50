//! Making listening sockets: on TCP one for each worker, on the same port by `SO_REUSEPORT`; on a
//! unix socket one for all.

use crate::listen::{Address, Options, Place, Sockets};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt,
};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

/// Takes an address for so many workers: sockets that are bound and that workers will listen on.
/// `SO_REUSEPORT` would let two gateways share a port without a word, so this makes sure first that
/// nobody else listens there.
///
/// # Errors
/// The address is taken or is not ours, or the kernel does not know one of the options.
pub fn reserve(options: &Options, workers: usize) -> io::Result<Place> {
    match &options.address {
        Address::Tcp(address) => {
            if address.port() != 0 {
                let probe = tcp_socket(*address, true)?;
                bind(&probe, address)?;
                rustix::net::listen(&probe, 1)?;
            }
            // A port the kernel chooses has no old connections that `SO_REUSEADDR` would be for,
            // and without it nobody else can take the port.
            let first = worker_socket(options, *address, address.port() != 0)?;
            let bound = SocketAddr::try_from(getsockname(&first)?)?;
            let more = (1..workers).map(|_| worker_socket(options, bound, true));
            let sockets = std::iter::once(Ok(first)).chain(more).collect::<io::Result<Vec<_>>>()?;
            Ok(place(options, Address::Tcp(bound), sockets))
        }
        Address::Unix(path) => {
            let socket = unix_socket(options, path)?;
            Ok(place(options, options.address.clone(), vec![socket]))
        }
    }
}

/// The same with sockets that another process had bound there, most likely listening. More are
/// made where there are fewer than workers; where that can't be done, workers share.
///
/// # Errors
/// The kernel does not know one of the options.
pub fn adopt(
    options: &Options,
    bound: Address,
    mut sockets: Vec<OwnedFd>,
    workers: usize,
) -> io::Result<Place> {
    if let Address::Tcp(address) = &bound {
        sockets.iter().try_for_each(|socket| set_tcp_options(socket, options))?;
        while sockets.len() < workers {
            match worker_socket(options, *address, true) {
                Ok(socket) => sockets.push(socket),
                Err(error) => {
                    log::warn!("{address}: workers share sockets, as there is no other: {error}");
                    break;
                }
            }
        }
    }
    Ok(place(options, bound, sockets))
}

fn place(options: &Options, bound: Address, sockets: Vec<OwnedFd>) -> Place {
    let options = Options { address: bound, ..options.clone() };
    Place { options, sockets: Sockets::new(sockets) }
}

fn worker_socket(options: &Options, address: SocketAddr, reuse: bool) -> io::Result<OwnedFd> {
    let socket = tcp_socket(address, reuse)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    set_tcp_options(&socket, options)?;
    Ok(socket)
}

/// Listens on a bound socket; once more, to change how many connections may wait.
pub(super) fn listen(socket: &OwnedFd, backlog: u32) -> io::Result<()> {
    Ok(rustix::net::listen(socket, i32::try_from(backlog).unwrap_or(i32::MAX))?)
}

/// Makes sockets that are listened on already as the place's options say.
///
/// # Errors
/// The kernel does not know one of them.
pub fn set_options(place: &Place) -> io::Result<()> {
    let options = &place.options;
    if let (Address::Unix(path), Some(mode)) = (&options.address, options.mode) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    place.sockets.for_each(|socket| {
        if matches!(options.address, Address::Tcp(_)) {
            set_tcp_options(socket, options)?;
        }
        listen(socket, options.backlog)
    })
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

/// Accepted sockets inherit these. What is not wanted is turned off: the socket may have had it.
fn set_tcp_options(socket: &OwnedFd, options: &Options) -> io::Result<()> {
    sockopt::set_tcp_nodelay(socket, options.nodelay)?;
    sockopt::set_socket_keepalive(socket, options.probes.is_some())?;
    if let Some(probes) = options.probes {
        sockopt::set_tcp_keepidle(socket, probes.idle)?;
        sockopt::set_tcp_keepintvl(socket, probes.interval)?;
        sockopt::set_tcp_keepcnt(socket, probes.count)?;
    }
    set_tcp_number(socket, TCP_FASTOPEN, options.fastopen.unwrap_or(0))?;
    let whole = |seconds: u64| u32::try_from(seconds).unwrap_or(u32::MAX).max(1);
    let defer_accept = options.defer_accept.map_or(0, |time| whole(time.as_secs()));
    set_tcp_number(socket, TCP_DEFER_ACCEPT, defer_accept)
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
    use crate::listen::{BACKLOG, Probes};
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

    /// A worker's own.
    fn open(place: &Place, index: usize, workers: usize) -> Vec<OwnedFd> {
        let sockets = place.sockets.of_worker(index, workers).expect("descriptors");
        sockets.iter().for_each(|socket| listen(socket, BACKLOG).expect("it listens"));
        sockets
    }

    fn is_in_use<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    }

    #[test]
    fn workers_share_a_port_that_nobody_else_has() {
        let place = reserve(&somewhere("127.0.0.1:0"), 2).expect("a free port");
        let workers = [0, 1].map(|index| open(&place, index, 2));
        assert!(workers.iter().all(|sockets| sockets.len() == 1));
        place.sockets.close();
        let fixed = somewhere(&tcp(&place).to_string());
        assert!(tcp(&place).port() != 0 && is_in_use(reserve(&fixed, 2)));
        drop(workers);
        assert!(reserve(&fixed, 2).is_ok());
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
        let place = reserve(&options, 1).expect("a free port");
        let listener = TcpListener::from(open(&place, 0, 1).remove(0));
        let mut client = TcpStream::connect(tcp(&place)).expect("connected");
        client.write_all(b"x").expect("data, so that the connection counts");
        let (mut accepted, _) = listener.accept().expect("a connection");
        accepted.read_exact(&mut [0]).expect("the data");
        assert!(accepted.nodelay().expect("an option"));
        assert!(sockopt::socket_keepalive(&accepted).expect("an option"));
        assert_eq!(sockopt::tcp_keepidle(&accepted), Ok(probes.idle));
        assert_eq!(sockopt::tcp_keepcnt(&accepted), Ok(probes.count));
        // They change while the socket listens.
        let changed = Options { nodelay: false, ..Options::new(place.options.address.clone()) };
        set_options(&Place { options: changed, ..place.clone() }).expect("changed");
        let _client = TcpStream::connect(tcp(&place)).expect("connected");
        let (accepted, _) = listener.accept().expect("a connection without data");
        assert!(!accepted.nodelay().expect("an option"));
        assert_eq!(sockopt::socket_keepalive(&accepted), Ok(false));
    }

    #[test]
    fn unix_sockets_that_nobody_listens_on_are_replaced() {
        let folder = std::env::temp_dir().join(format!("ringgate-listen-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("a.sock");
        let mut options = Options::new(Address::Unix(path.clone()));
        options.mode = Some(0o600);
        let place = reserve(&options, 2).expect("a socket");
        let mode = || path.symlink_metadata().expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        let workers = [0, 1].map(|index| open(&place, index, 2));
        assert!(workers.iter().all(|sockets| sockets.len() == 1));
        assert!(is_in_use(reserve(&options, 2)), "somebody listens there");
        options.mode = Some(0o660);
        set_options(&Place { options: options.clone(), ..place.clone() }).expect("changed");
        assert_eq!(mode(), 0o660);
        drop((place, workers));
        drop(reserve(&options, 2).expect("nobody listens there any more"));
        std::fs::remove_file(&path).expect("a file");
        std::fs::write(&path, "text").expect("a file");
        assert!(is_in_use(reserve(&options, 2)), "it is no socket");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
