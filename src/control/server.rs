//! HTTP listeners for operators: axum, with the bounds it does not bring along.
//!
//! They answer few and mostly trusted clients (Prometheus, a person with curl, a controller), on
//! the control thread. What a client can hold is bounded all the same: so many connections, none
//! idle for longer than [`PATIENCE`].

use super::upgrade::{Inherited, Role};
use crate::conf::OperatorListen;
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep, timeout};

/// How long a connection may neither read nor write; longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(75);

/// After an error of `accept`, most likely for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// How long answers may take when the process ends.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Connections of one listener; further clients wait.
const CONNECTIONS_MAX: usize = 256;

/// A server that listens and does not answer yet.
pub(super) struct Server {
    listener: std::net::TcpListener,
    /// Another descriptor of the same socket.
    handed: Handed,
    pub(super) address: SocketAddr,
}

/// A listener's socket, for the process that takes over from this one.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) role: Role,
    pub(super) configured: SocketAddr,
    pub(super) bound: SocketAddr,
    pub(super) socket: OwnedFd,
}

/// Servers that answer.
pub(super) struct Servers {
    closing: watch::Sender<bool>,
    running: Vec<JoinHandle<()>>,
    handed: Vec<Handed>,
}

/// Who asks, for handlers that want to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client(pub(super) IpAddr);

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// It is in use, or not ours.
    pub(super) fn bind(
        inherited: &mut Inherited,
        role: Role,
        configured: SocketAddr,
    ) -> io::Result<Self> {
        let given = inherited.listener(role, &configured.to_string());
        let listener = match given.and_then(|(_, sockets)| sockets.into_iter().next()) {
            Some(socket) => std::net::TcpListener::from(socket),
            None => std::net::TcpListener::bind(configured)?,
        };
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        let socket = listener.try_clone()?.into();
        let handed = Handed { role, configured, bound, socket };
        Ok(Self { address: bound, handed, listener })
    }

    /// The same, where a default address that is in use, most likely by another gateway on this
    /// host, is no reason not to run. One that the file names is.
    ///
    /// # Errors
    /// It is named, and can't be had.
    pub(super) fn bind_or_do_without(
        inherited: &mut Inherited,
        role: Role,
        OperatorListen { address, is_named }: OperatorListen,
        what: &str,
        hint: &str,
    ) -> Result<Option<Self>, String> {
        match Self::bind(inherited, role, address) {
            Ok(server) => Ok(Some(server)),
            Err(error) if is_named => Err(format!("{what} on {address}: {error}{hint}")),
            Err(error) => {
                log::warn!("no {what} on {address}: {error}{hint}");
                Ok(None)
            }
        }
    }

    /// Answers until the servers close.
    ///
    /// # Errors
    /// The runtime can't watch the socket.
    pub(super) fn start(self, pages: Router, servers: &mut Servers) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let mut closing = servers.closing.subscribe();
        let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let service = pages.into_make_service_with_connect_info::<Client>();
        let serving = tokio::spawn(async move {
            let serving = axum::serve(Bounded { listener, seats }, service);
            // Nobody left who could close them is a wish as well.
            let closed = async move { drop(closing.wait_for(|closing| *closing).await) };
            let _ = serving.with_graceful_shutdown(closed).await;
        });
        servers.running.push(serving);
        servers.handed.push(self.handed);
        Ok(())
    }
}

impl Servers {
    pub(super) fn new() -> Self {
        let (closing, _) = watch::channel(false);
        Self { closing, running: Vec::new(), handed: Vec::new() }
    }

    /// Their sockets, for who takes over; given once.
    pub(super) fn handed(&mut self) -> Vec<Handed> {
        std::mem::take(&mut self.handed)
    }

    /// They let nobody new in, and connections end after the answer at hand.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Waits for the last answers, but not long.
    pub(super) async fn ended(&mut self) {
        let all = async {
            for serving in &mut self.running {
                let _ = serving.await;
            }
        };
        let _ = timeout(LAST_ANSWERS, all).await;
    }
}

struct Bounded {
    listener: TcpListener,
    seats: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Patient;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Patient, SocketAddr) {
        loop {
            let seat = Arc::clone(&self.seats).acquire_owned().await;
            match (self.listener.accept().await, seat) {
                (Ok((stream, peer)), Ok(seat)) => {
                    return (
                        Patient { stream, idle: Box::pin(sleep(PATIENCE)), _seat: seat },
                        peer,
                    );
                }
                (Err(error), _) => {
                    log::warn!("accept on a listener for operators: {error}");
                    sleep(PAUSE).await;
                }
                // Nobody closes the semaphore.
                (_, Err(_)) => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Client {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(stream.remote_addr().ip().to_canonical())
    }
}

/// A connection that fails once nothing happened on it for too long.
struct Patient {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    _seat: OwnedSemaphorePermit,
}

impl Patient {
    /// What an operation came to, or that its time is up.
    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.idle.as_mut().reset(Instant::now() + PATIENCE);
            return poll;
        }
        match self.idle.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.bounded(context, poll)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(context, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
