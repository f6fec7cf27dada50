//! A newer binary takes over from a running one without a connection lost (SIGUSR2, as in nginx).
//!
//! ```text
//! old                                            new
//!  │ files and resources stay as they are          │
//!  │ start the program ──────────────────────────► │ main
//!  │ Hello, Listener (with sockets) …, Started ──► │ reads its configuration
//!  │ ◄──────────────────────────────────── Store?  │ (if the store is one process's)
//!  │ closes it; Part …, Closed ──────────────────► │ opens it; compiles; workers start
//!  │ ◄────────────────────────────────── Prepared  │ nothing is accepted yet
//!  │ workers accept no more; Go ─────────────────► │ workers accept
//!  │ ◄─────────────────────────────────── Serving  │
//!  │ drains, exit 0                                │
//! ```
//!
//! Whatever goes wrong before `Serving` - `Failed`, the end of the process, the time - ends the new
//! one, and the old one goes on as if nothing had been. Connections that come in between wait in
//! the kernel: the sockets are the same.
//!
//! The messages are a contract between versions: fields may be added, names stay.

mod new;
mod old;

pub(super) use new::Inherited;
pub(super) use old::{Upgrade, Upgrades, program};

use crate::net::{MESSAGE_BYTES_MAX, receive_message, send_message};
use serde_json::{Value, json};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// `<pid of the old one>:<descriptor to talk over>`.
const VARIABLE: &str = "RINGGATE_UPGRADE";

/// Characters of a part of a document: some take six bytes in JSON.
const PART_CHARS: usize = MESSAGE_BYTES_MAX / 8;

/// What the two tell each other.
#[derive(Clone, Debug, PartialEq)]
enum Message {
    /// The old one: this many upgrades led to the new one.
    Hello { upgrades: u64 },
    /// The old one: some sockets of a listener; more may follow under the same names.
    Listener {
        role: Role,
        /// The address in the configuration, and the one it became.
        configured: String,
        bound: String,
    },
    /// The old one: that was all.
    Started,
    /// The new one: it wants to open the store.
    Store,
    /// The old one: a piece of the resources that are in no file.
    Part { text: String },
    /// The old one: nobody has the store.
    Closed,
    /// The new one: only connections are missing.
    Prepared,
    /// The old one: they are yours.
    Go,
    /// The new one: it accepts them.
    Serving,
    /// The new one: why it can't.
    Failed { why: String },
}

/// What comes in over a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Traffic,
    Metrics,
    Admin,
    Control,
    Status,
}

const ROLES: [(&str, Role); 5] = [
    ("traffic", Role::Traffic),
    ("metrics", Role::Metrics),
    ("admin", Role::Admin),
    ("control", Role::Control),
    ("status", Role::Status),
];

impl Message {
    fn value(&self) -> Value {
        match self {
            Self::Hello { upgrades } => json!({ "hello": { "upgrades": upgrades } }),
            Self::Listener { role, configured, bound } => {
                let name = ROLES.iter().find(|(_, known)| known == role).map(|(name, _)| *name);
                json!({ "listener": { "role": name, "configured": configured, "bound": bound } })
            }
            Self::Started => json!({ "started": {} }),
            Self::Store => json!({ "store": {} }),
            Self::Part { text } => json!({ "part": { "text": text } }),
            Self::Closed => json!({ "closed": {} }),
            Self::Prepared => json!({ "prepared": {} }),
            Self::Go => json!({ "go": {} }),
            Self::Serving => json!({ "serving": {} }),
            Self::Failed { why } => json!({ "failed": { "why": why } }),
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let (kind, fields) = value.as_object()?.iter().next()?;
        let text = |key: &str| fields[key].as_str().map(str::to_owned);
        Some(match kind.as_str() {
            "hello" => Self::Hello { upgrades: fields["upgrades"].as_u64()? },
            "listener" => {
                let named = text("role")?;
                let role = ROLES.iter().find(|(name, _)| *name == named)?.1;
                Self::Listener { role, configured: text("configured")?, bound: text("bound")? }
            }
            "started" => Self::Started,
            "store" => Self::Store,
            "part" => Self::Part { text: text("text")? },
            "closed" => Self::Closed,
            "prepared" => Self::Prepared,
            "go" => Self::Go,
            "serving" => Self::Serving,
            "failed" => Self::Failed { why: text("why")? },
            _ => return None,
        })
    }
}

fn send(end: impl AsFd, message: &Message, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_message(end, message.value().to_string().as_bytes(), fds)
}

/// The next message; `None`: the other one is gone.
fn receive(end: impl AsFd) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
    let Some((bytes, fds)) = receive_message(end)? else { return Ok(None) };
    let message = Message::read(&bytes).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Some((message, fds)))
}

/// A text in pieces that fit into messages.
fn parts(text: &str) -> impl Iterator<Item = Message> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest.char_indices().nth(PART_CHARS).map_or(rest.len(), |(at, _)| at);
        let (part, more) = rest.split_at(end);
        rest = more;
        (!part.is_empty()).then(|| Message::Part { text: part.to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::letterboxes;

    #[test]
    fn documents_go_in_pieces() {
        let (here, there) = letterboxes().expect("two ends");
        let text = "\u{1}é".repeat(PART_CHARS);
        for part in parts(&text) {
            send(&here, &part, &[]).expect("it fits");
        }
        send(&here, &Message::Closed, &[]).expect("sent");
        let mut whole = String::new();
        while let Some((Message::Part { text }, _)) = receive(&there).expect("a message") {
            whole.push_str(&text);
        }
        assert!(whole == text);
        assert_eq!(parts("").count(), 0);
    }

    #[test]
    fn messages_arrive_as_they_were() {
        let (configured, bound) = ("127.0.0.1:0".to_owned(), "127.0.0.1:80".to_owned());
        let listeners = ROLES.map(|(_, role)| Message::Listener {
            role,
            configured: configured.clone(),
            bound: bound.clone(),
        });
        let others = [
            Message::Hello { upgrades: 7 },
            Message::Started,
            Message::Store,
            Message::Part { text: "\u{0}".to_owned() },
            Message::Closed,
            Message::Prepared,
            Message::Go,
            Message::Serving,
            Message::Failed { why: "no".to_owned() },
        ];
        for message in listeners.into_iter().chain(others) {
            let text = message.value().to_string();
            assert_eq!(Message::read(text.as_bytes()), Some(message));
        }
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (here, there) = letterboxes().expect("two ends");
        let unknown = [&b"{"[..], b"7", b"{}", b"{\"farewell\": {}}", b"{\"hello\": {}}", b"\xff"];
        for bytes in unknown {
            send_message(&here, bytes, &[]).expect("sent");
            assert!(receive(&there).is_err());
        }
    }
}
