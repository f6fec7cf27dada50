//! gRPC calls and streams that plugins make.

use super::{CallTarget, ReplyTo};
use crate::http::Headers;

/// What opens a gRPC call or stream. Messages are without gRPC's five bytes of framing.
#[derive(Debug)]
pub struct GrpcOpen {
    /// Who gets the events.
    pub to: ReplyTo,
    /// Names the call to [`Errand::GrpcSend`](super::Errand::GrpcSend) and `GrpcCancel`.
    pub call: u64,
    /// Where it goes.
    pub upstream: CallTarget,
    /// `package.Service`.
    pub service: Vec<u8>,
    /// The method.
    pub method: Vec<u8>,
    /// Initial metadata.
    pub metadata: Headers,
    /// A unary call's only message; `None` opens a stream.
    pub message: Option<Vec<u8>>,
    /// How long a unary call may take; 0: no bound.
    pub timeout_ms: u64,
    /// A larger message ends the call.
    pub message_bytes_max: usize,
}

/// What arrives on a gRPC call or stream.
#[derive(Debug)]
pub enum GrpcEvent {
    /// The peer's initial metadata.
    InitialMetadata(Headers),
    /// A message.
    Message(Vec<u8>),
    /// The peer's trailing metadata.
    TrailingMetadata(Headers),
    /// The end: a gRPC status and its words.
    Closed {
        /// 0 to 16.
        status: u32,
        /// The peer's or the gateway's.
        message: String,
    },
}
