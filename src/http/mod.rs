//! Room `http`: HTTP/1.1 messages as bytes, strictly (RFC 9110, RFC 9112).
//!
//! In: message bytes; heads to send.
//! Out: heads as spans, framing facts, encoded bytes, errors with a status.
//! May not know: which side a message is on, routes, plugins.

mod headers;
mod method;
pub mod uri;

pub use headers::{Field, Headers, Span};
pub use method::{Method, Methods};

/// The protocol version of a message's start line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

/// How long a body is, as its head says (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    #[default]
    None,
    /// This many bytes, more than none.
    Known(u64),
    /// Chunked.
    Chunked,
    /// Until the connection ends (responses only).
    UntilClose,
}
