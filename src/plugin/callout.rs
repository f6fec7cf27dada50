//! HTTP requests that plugins make.

use super::ReplyTo;
use crate::http::Headers;

/// One request of a plugin's own.
#[derive(Debug)]
pub struct HttpCall {
    /// Who gets the reply.
    pub to: ReplyTo,
    /// Where it goes.
    pub upstream: CallTarget,
    /// `POST`.
    pub method: Vec<u8>,
    /// Path and query, starting with `/`.
    pub target: Vec<u8>,
    /// The Host field.
    pub authority: Vec<u8>,
    /// Other fields, without those of framing.
    pub headers: Headers,
    /// The body; may be empty.
    pub body: Vec<u8>,
    /// Trailer fields. With some the body is sent chunked.
    pub trailers: Headers,
    /// How long all of it may take; 0: as long as the upstream's own timeouts allow.
    pub timeout_ms: u64,
    /// A larger response body fails the call.
    pub body_bytes_max: usize,
}

/// Where a callout goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallTarget {
    /// To an upstream of the configuration, by its name or id.
    Upstream(Box<[u8]>),
    /// To `host:port` or `host` (port 80), where the plugin's settings allow that.
    Direct(Box<[u8]>),
}

/// How a callout ended.
#[derive(Debug, Default)]
pub struct HttpReply {
    /// Why there is no response. Everything else is empty then.
    pub failure: Option<CallFailure>,
    /// The response's status.
    pub status: u16,
    /// Its fields.
    pub headers: Headers,
    /// All of its body.
    pub body: Vec<u8>,
    /// Its trailer fields.
    pub trailers: Headers,
}

/// Why a callout has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFailure {
    /// No node of the upstream is left, or its name has no address.
    NoPeer,
    /// No connection could be made.
    Connect,
    /// The connection ended before the response did.
    Closed,
    /// The peer sent what is no HTTP response.
    Garbage,
    /// The response is larger than the plugin may hold.
    TooLarge,
    /// It took too long.
    Timeout,
}

impl CallFailure {
    /// In words, for logs and for the guest's `proxy_get_status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoPeer => "no healthy upstream",
            Self::Connect => "connection failed",
            Self::Closed => "reset",
            Self::Garbage => "protocol error",
            Self::TooLarge => "response too large",
            Self::Timeout => "timeout",
        }
    }
}

impl HttpReply {
    /// The reply of a call without a response.
    #[must_use]
    pub fn failed(failure: CallFailure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }
}
