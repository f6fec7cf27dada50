//! What can be wrong with a message, and the status that says so.

use std::fmt;

/// Why a request can't be served as it was sent. The connection closes after the answer: what
/// follows can't be trusted to begin where we think (RFC 9112 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// 400, with the rule that was broken.
    Bad(&'static str),
    /// 413: the body is longer than allowed.
    BodyTooLarge,
    /// 414: the request line alone is longer than a head may be.
    TargetTooLong,
    /// 417: an expectation other than `100-continue` (RFC 9110 §10.1.1).
    Expectation,
    /// 431: the head is too long or has too many fields.
    HeadTooLarge,
    /// 501: a transfer coding or a method that is not implemented here (RFC 9112 §6.1).
    NotImplemented(&'static str),
    /// 505: a well-formed version that is neither 1.0 nor 1.1.
    Version,
}

impl RequestError {
    /// The status to answer with.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Bad(_) => 400,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLarge => 431,
            Self::NotImplemented(_) => 501,
            Self::Version => 505,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bad(rule) | Self::NotImplemented(rule) => rule,
            Self::BodyTooLarge => "the body is larger than allowed",
            Self::TargetTooLong => "the request line is longer than allowed",
            Self::Expectation => "an expectation other than 100-continue",
            Self::HeadTooLarge => "the head is larger than allowed",
            Self::Version => "an HTTP version other than 1.0 and 1.1",
        })
    }
}

/// Why an upstream's response can't be passed on: always a 502 for the client, and the upstream
/// connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseError(pub &'static str);

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
