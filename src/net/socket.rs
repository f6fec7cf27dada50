//! Connected sockets. A read and a send may run at the same time, never two of a kind.

use monoio::buf::{IoBuf, IoBufMut, SliceMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::TcpStream;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType,
    getsockname, recv, shutdown, socket_with, sockopt,
};
use std::cell::{OnceCell, UnsafeCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// A handle to a connection; it closes when the last handle and the last operation are gone.
#[derive(Clone)]
pub struct Socket(Rc<Inner>);

struct Inner {
    stream: UnsafeCell<TcpStream>,
    /// Asked of the kernel once; unix sockets have none.
    local: OnceCell<Option<SocketAddr>>,
    /// Whether [`Socket::send_now`] is of use here.
    sends_at_once: bool,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Socket")
    }
}

impl Socket {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::of(stream))
    }

    pub(super) fn of(stream: TcpStream) -> Self {
        let (stream, local) = (UnsafeCell::new(stream), OnceCell::new());
        Self(Rc::new(Inner { stream, local, sends_at_once: monoio::utils::is_legacy() }))
    }

    /// Our end's address, unless the connection is gone or one of a unix socket.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        let ask = || self.with_fd(|fd| getsockname(fd)).ok()?.try_into().ok();
        *self.0.local.get_or_init(ask)
    }

    /// Whether an idle connection has neither data nor an end waiting: a request may be sent on it.
    /// No operation is armed on idle connections, so nobody else would notice.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        let peeked = self.with_fd(|fd| {
            let mut byte = [0; 1];
            recv(fd, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT).map(|_| ())
        });
        peeked == Err(Errno::AGAIN)
    }

    /// Whether nothing can be sent to the peer any more: it reset the connection, or closed a unix
    /// socket. What it sent before stays unread. A peer that only ended its side is not gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = self.with_fd(|fd| rustix::net::send(fd, &[], flags));
        sent.is_err_and(|error| !matches!(error, Errno::AGAIN | Errno::INTR))
    }

    /// Sends what the socket takes without waiting; tells how many bytes that were.
    ///
    /// With epoll a send is a system call in any case, and this leaves out an operation with its
    /// bookkeeping. On the ring it does nothing: there a send costs no call of its own.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        if !self.0.sends_at_once {
            return Ok(0);
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match self.with_fd(|fd| rustix::net::send(fd, bytes, flags)) {
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            result => Ok(result?),
        }
    }

    /// Tells the peer that nothing more comes; it may still send.
    pub fn end_sending(&self) {
        // A connection that is gone needs no end.
        let _ = self.with_fd(|fd| shutdown(fd, Shutdown::Write));
    }

    /// Makes the closing visible as a reset, so that a cut-off body never looks whole.
    pub fn reset_on_close(&self) {
        // A connection that is gone needs no reset.
        let _ = self.with_fd(|fd| sockopt::set_socket_linger(fd, Some(Duration::ZERO)));
    }

    fn with<T>(&self, f: impl FnOnce(&TcpStream) -> T) -> T {
        // SAFETY: sockets stay on their thread (`Rc`), and `f` runs to its end before anything else
        // on this thread can make another reference.
        f(unsafe { &*self.0.stream.get() })
    }

    fn with_fd<T>(&self, f: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        self.with(|stream| {
            // SAFETY: the descriptor is open for as long as `stream` is borrowed.
            f(unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) })
        })
    }
}

/// Connects.
///
/// # Errors
/// As the kernel says.
pub async fn connect(address: SocketAddr) -> io::Result<Socket> {
    Socket::new(TcpStream::connect_addr(address).await?)
}

/// Connects to a unix socket. Such a connection is made or refused at once; it never waits.
///
/// # Errors
/// As the kernel says; `WouldBlock`: as many wait to be accepted as the listener lets wait.
pub fn connect_unix(path: &Path) -> io::Result<Socket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    // Both drivers read and write stream sockets of any family alike. The ring waits for data only
    // on blocking ones; epoll needs the other kind.
    let stream = std::net::TcpStream::from(socket);
    stream.set_nonblocking(monoio::utils::is_legacy())?;
    Ok(Socket::of(TcpStream::from_std(stream)?))
}

/// Reads into the free room of `buffer`, behind what is in it. Gives how many bytes came; 0 is the
/// end. A future dropped before its result may have lost bytes: the connection is then over.
pub async fn read(socket: Socket, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
    let (used, room) = (buffer.len(), buffer.capacity());
    debug_assert!(used < room, "no room to read into");
    // SAFETY: sockets stay on their thread; the reference is used to start the operation only,
    // which keeps the descriptor and not the reference.
    let stream = unsafe { &mut *socket.0.stream.get() };
    let (result, slice) = stream.read(writable(buffer, used, room)).await;
    (result, slice.into_inner())
}

/// Sends all of `buffer`; tells whether that worked.
pub async fn send(socket: Socket, mut buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
    let mut result = socket.send_now(&buffer);
    loop {
        match result {
            Ok(sent) if sent < buffer.len() => {
                (result, buffer) = send_some(socket.clone(), buffer, sent).await;
            }
            done => return (done.map(|_| ()), buffer),
        }
    }
}

/// Sends what is in `buffer` from there on, as much as the kernel takes once there is room, an
/// operation of the loop. Gives how much of the buffer is sent then.
pub async fn send_some(
    socket: Socket,
    buffer: Vec<u8>,
    from: usize,
) -> (io::Result<usize>, Vec<u8>) {
    // SAFETY: as in `read`; a read that runs at the same time holds no reference either.
    let stream = unsafe { &mut *socket.0.stream.get() };
    let (result, slice) = stream.write(buffer.slice(from..)).await;
    let sent = match result {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        result => result.map(|bytes| from + bytes),
    };
    (sent, slice.into_inner())
}

fn writable(buffer: Vec<u8>, from: usize, to: usize) -> SliceMut<Vec<u8>> {
    buffer.slice_mut(from..to)
}
