//! Room `http`: HTTP/1.1 messages as bytes, strictly (RFC 9110, RFC 9112).
//!
//! In: message bytes; heads to send.
//! Out: heads as spans, framing facts, encoded bytes, errors with a status.
//! May not know: which side a message is on, routes, plugins.

pub mod base64;
mod chunked;
mod encode;
mod error;
mod fields;
mod headers;
mod known;
mod method;
mod plain;
mod request;
mod response;
mod scan;
mod seen;
mod status;
pub mod uri;

pub use chunked::{ChunkError, Chunked, Progress};
pub use encode::{write_chunk, write_field, write_last_chunk, write_number_field};
pub use error::{RequestError, ResponseError};
pub use fields::{content_length, is_field_value, is_token, list_members};
pub use headers::{Field, Headers, Line, Span};
pub use known::{Known, KnownSet};
pub use method::{Method, Methods};
pub use request::{HeadLimits, RequestHead, begins_with_head};
pub use response::ResponseHead;
pub use status::{reason, write_error_page, write_status_line};

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
