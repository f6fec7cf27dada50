//! HTTP listeners for operators: axum, with the bounds it does not bring along.
//!
//! They answer few and mostly trusted clients (Prometheus, a person with curl, a controller), on
//! the control thread. What a client can hold is bounded all the same: so many connections, none
//! idle for longer than [`PATIENCE`].

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// How long a connection may neither read nor write; longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(75);

/// After an error of `accept`, most likely for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections of one listener; further clients wait.
const CONNECTIONS_MAX: usize = 256;

/// A server that listens and does not answer yet.
pub(super) struct Server {
    listener: std::net::TcpListener,
    pub(super) address: SocketAddr,
}

/// Who asks, for handlers that want to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client(pub(super) IpAddr);

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// It is in use, or not ours.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { address: listener.local_addr()?, listener })
    }

    /// The same, where a default address that is in use, most likely by another gateway on this
    /// host, is no reason not to run. One that the file names is.
    ///
    /// # Errors
    /// It is named, and can't be had.
    pub(super) fn bind_or_do_without(
        address: SocketAddr,
        is_named: bool,
        what: &str,
        hint: &str,
    ) -> Result<Option<Self>, String> {
        match Self::bind(address) {
            Ok(server) => Ok(Some(server)),
            Err(error) if is_named => Err(format!("{what} on {address}: {error}{hint}")),
            Err(error) => {
                log::warn!("no {what} on {address}: {error}{hint}");
                Ok(None)
            }
        }
    }

    /// Answers for as long as the runtime runs.
    ///
    /// # Errors
    /// The runtime can't watch the socket.
    pub(super) fn start(self, pages: Router) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let service = pages.into_make_service_with_connect_info::<Client>();
        tokio::spawn(async move {
            // It ends with the runtime only.
            let _ = axum::serve(Bounded { listener, seats }, service).await;
        });
        Ok(())
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
