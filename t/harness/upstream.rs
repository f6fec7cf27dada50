//! Upstreams on real sockets. Each connection runs a script on a thread of its own.

use super::{DEADLINE, Message, Wire};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A listening socket with a script for its connections.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
}

/// What came in.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: Mutex<Vec<Message>>,
    ended: AtomicUsize,
    stop: AtomicBool,
}

/// One connection of an upstream.
pub(crate) struct Conversation {
    pub(crate) wire: Wire,
    /// Which connection of this upstream it is, from 1.
    pub(crate) number: usize,
    seen: Arc<Seen>,
}

impl Conversation {
    /// The next request, which is recorded; `None` if the gateway closed instead.
    pub(crate) fn request(&mut self) -> Option<Message> {
        let mut message = self.head()?;
        let framing = message.request_framing();
        self.wire.body(&mut message, framing).ok()?;
        let mut requests = self.seen.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push(message.clone());
        Some(message)
    }

    /// The next request's head alone; not recorded.
    pub(crate) fn head(&mut self) -> Option<Message> {
        self.wire.head().ok()
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A gateway that hangs up is what some tests are about.
        let _ = self.wire.send(bytes);
    }

    /// Sends a 200 with a body and its length.
    pub(crate) fn answer(&mut self, body: &str) {
        let length = body.len();
        self.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"));
    }

    /// Counts the connection among those that the gateway ended.
    pub(crate) fn ended(&self) {
        self.seen.ended.fetch_add(1, Ordering::AcqRel);
    }

    /// Says nothing until the gateway hangs up.
    pub(crate) fn stall(&mut self) {
        let _ = self.wire.rest();
    }
}

impl Upstream {
    pub(crate) fn script(script: impl Fn(&mut Conversation) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"), script)
    }

    /// The same with a listener of the test's own.
    pub(crate) fn on(
        listener: TcpListener,
        script: impl Fn(&mut Conversation) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Seen::default());
        let (script, shared) = (Arc::new(script), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let number = shared.connections.fetch_add(1, Ordering::AcqRel) + 1;
                let (script, seen) = (Arc::clone(&script), Arc::clone(&shared));
                std::thread::spawn(move || {
                    script(&mut Conversation { wire: Wire::new(stream), number, seen });
                });
            }
        });
        Self { address, seen }
    }

    /// Answers every request with these bytes.
    pub(crate) fn answering(response: impl AsRef<[u8]>) -> Self {
        let response = response.as_ref().to_vec();
        Self::script(move |conversation| {
            while conversation.request().is_some() {
                conversation.send(&response);
            }
        })
    }

    /// Answers every request with 200 and `hello world`.
    pub(crate) fn hello() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello world\n")
    }

    /// Answers every request with its own body.
    pub(crate) fn echo() -> Self {
        Self::script(|conversation| {
            while let Some(request) = conversation.request() {
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
                conversation.send(head);
                conversation.send(&request.body);
            }
        })
    }

    /// Answers one request of each connection with these bytes, then closes.
    pub(crate) fn once(response: &'static str) -> Self {
        Self::script(move |conversation| {
            if conversation.request().is_some() {
                conversation.send(response);
            }
        })
    }

    /// The address as configuration names it.
    pub(crate) fn node(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Acquire)
    }

    /// How many connections have said that they ended.
    pub(crate) fn ended(&self) -> usize {
        self.seen.ended.load(Ordering::Acquire)
    }

    /// Every request received so far.
    pub(crate) fn requests(&self) -> Vec<Message> {
        self.seen.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The only request received so far.
    #[track_caller]
    pub(crate) fn request(&self) -> Message {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Release);
        // Wakes the thread that accepts, if it still does.
        let _ = TcpStream::connect_timeout(&self.address, DEADLINE);
    }
}

/// A port that is taken and refuses connections: bound, never listened on.
pub(crate) struct Refusing {
    address: SocketAddr,
    _socket: OwnedFd,
}

impl Refusing {
    pub(crate) fn new() -> Self {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};
        // A gateway that inherits it would keep the port.
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
        let socket = socket.expect("a socket");
        bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
        let address = getsockname(&socket).expect("an address").try_into().expect("of IPv4");
        Self { address, _socket: socket }
    }

    pub(crate) fn node(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}
