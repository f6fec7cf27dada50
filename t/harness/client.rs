//! A client that sends what a test tells it, byte by byte if need be.

use super::{Cut, Message, Wire};
use std::net::SocketAddr;

/// A connection to the gateway.
pub(crate) struct Client {
    wire: Wire,
}

/// A response that was cut off, as far as it came.
#[derive(Debug)]
pub(crate) struct CutOff {
    pub(crate) message: Message,
    pub(crate) cut: Cut,
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self { wire: Wire::connect(address) }
    }

    pub(crate) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    pub(crate) fn into_wire(self) -> Wire {
        self.wire
    }

    /// Sends exactly these bytes.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(self.wire.send(bytes), "the gateway takes what is sent");
    }

    /// The next response, 1xx included.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Message {
        self.outcome(false).expect("a whole response")
    }

    /// The next response, of a HEAD request.
    #[track_caller]
    pub(crate) fn response_to_head(&mut self) -> Message {
        self.outcome(true).expect("a whole response")
    }

    /// The next response, whole or cut off.
    #[track_caller]
    pub(crate) fn outcome(&mut self, to_head: bool) -> Result<Message, CutOff> {
        let mut message = match self.wire.head() {
            Ok(message) => message,
            Err(cut) => return Err(CutOff { message: Message::default(), cut }),
        };
        let framing = message.response_framing(to_head);
        if message.status() >= 200 {
            assert!(message.field("date").is_some(), "no Date: {:?}", message.fields);
        }
        match self.wire.body(&mut message, framing) {
            Ok(()) => Ok(message),
            Err(cut) => Err(CutOff { message, cut }),
        }
    }

    /// Asks for a path on this connection and reads the answer.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Message {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test.local\r\n\r\n"));
        self.response()
    }

    /// Nothing more comes, and the connection has ended.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let (bytes, cut) = self.wire.rest();
        assert_eq!(String::from_utf8_lossy(&bytes), "", "bytes after the last response");
        assert_ne!(cut, Cut::Late, "the connection stays open");
    }
}

/// Asks for a path on a connection of its own.
#[track_caller]
pub(crate) fn get(address: SocketAddr, path: &str) -> Message {
    Client::connect(address).get(path)
}
