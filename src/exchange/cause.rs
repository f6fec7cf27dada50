//! Why an exchange did not go as it should, in Envoy's words and bits (Envoy's
//! `stream_info/stream_info.h` and `ResponseCodeDetails`), for properties and logs.

use super::Exchange;
use crate::plugin::ResponseFlags;

/// What the gateway answers for, or ends an exchange for, by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// No route matched.
    NoRoute,
    /// The route has no upstream, or one that does not exist.
    NoUpstream,
    /// The group of the request's consumer does not exist.
    NoConsumerGroup,
    /// The upstream has no node left to ask.
    NoPeer,
    /// No connection to the upstream could be made.
    ConnectFailed,
    /// The upstream's connection ended before its response was whole.
    UpstreamClosed,
    /// The upstream let a timeout pass.
    UpstreamStalled,
    /// The upstream sent what is no response.
    UpstreamMalformed,
    /// The client let a timeout pass.
    ClientStalled,
    /// The client sent what is no request.
    ClientMalformed,
    /// The client went away.
    ClientClosed,
    /// The request, or what a plugin holds back of it, is larger than it may be.
    RequestTooLarge,
    /// What a plugin holds back of a response is larger than it may be.
    ResponseTooLarge,
    /// A plugin held the message for too long.
    HeldTooLong,
    /// A plugin changed a body's length after its head was sent.
    LengthChanged,
    /// A plugin closed the exchange.
    PluginClosed,
}

impl Cause {
    pub(super) fn details(self) -> &'static [u8] {
        match self {
            Self::NoRoute => b"route_not_found",
            Self::NoUpstream => b"cluster_not_found",
            Self::NoConsumerGroup => b"consumer_group_not_found",
            Self::NoPeer => b"no_healthy_upstream",
            Self::ConnectFailed => b"upstream_reset_before_response_started{connection_failure}",
            Self::UpstreamClosed => {
                b"upstream_reset_before_response_started{connection_termination}"
            }
            Self::UpstreamStalled => b"upstream_response_timeout",
            Self::UpstreamMalformed => b"upstream_reset_before_response_started{protocol_error}",
            Self::ClientStalled => b"request_overall_timeout",
            Self::ClientMalformed => b"http1.codec_error",
            Self::ClientClosed => b"downstream_remote_disconnect",
            Self::RequestTooLarge => b"request_payload_too_large",
            Self::ResponseTooLarge => b"response_payload_too_large",
            Self::HeldTooLong => b"stream_idle_timeout",
            Self::LengthChanged => b"content_length_mismatch",
            Self::PluginClosed => b"wasm_close_stream",
        }
    }

    pub(super) fn flags(self) -> ResponseFlags {
        match self {
            Self::NoRoute => ResponseFlags::NO_ROUTE,
            Self::NoUpstream => ResponseFlags::NO_CLUSTER,
            Self::NoPeer => ResponseFlags::NO_HEALTHY_UPSTREAM,
            Self::ConnectFailed => ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
            Self::UpstreamClosed => ResponseFlags::UPSTREAM_CONNECTION_TERMINATION,
            Self::UpstreamStalled => ResponseFlags::UPSTREAM_REQUEST_TIMEOUT,
            Self::UpstreamMalformed => ResponseFlags::UPSTREAM_PROTOCOL_ERROR,
            Self::ClientStalled | Self::HeldTooLong => ResponseFlags::STREAM_IDLE_TIMEOUT,
            Self::ClientMalformed => ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR,
            Self::ClientClosed => ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION,
            Self::PluginClosed => ResponseFlags::LOCAL_RESET,
            Self::RequestTooLarge
            | Self::ResponseTooLarge
            | Self::LengthChanged
            | Self::NoConsumerGroup => ResponseFlags::NONE,
        }
    }
}

impl Exchange {
    /// Remembers what went wrong. The details are those of the response: they stay if one has
    /// begun.
    pub(super) fn note(&mut self, cause: Cause) {
        let begun = self.response.has_begun();
        let response = &mut self.message.response;
        response.flags |= cause.flags();
        if !begun {
            response.details.clear();
            response.details.extend_from_slice(cause.details());
        }
    }
}
