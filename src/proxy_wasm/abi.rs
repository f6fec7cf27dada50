//! Numbers of the ABI: statuses, enums, versions.

use crate::vm::OutOfBounds;

/// What a host function answers. SDKs panic on values they don't expect: see the ABI reference §8
/// for which may be used where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Status {
    Ok = 0,
    NotFound = 1,
    BadArgument = 2,
    SerializationFailure = 3,
    ParseFailure = 4,
    InvalidMemoryAccess = 6,
    Empty = 7,
    CasMismatch = 8,
    InternalFailure = 10,
}

impl From<OutOfBounds> for Status {
    fn from(_: OutOfBounds) -> Self {
        Self::InvalidMemoryAccess
    }
}

/// The version a module says it has. It decides meanings only; arities come from the exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abi {
    V0_1_0,
    V0_2_0,
    V0_2_1,
    /// Higress: 0.2.1 where StopIteration from headers lets body callbacks go on.
    V0_2_100,
}

impl Abi {
    /// The version of a marker export.
    pub(super) fn from_marker(name: &str) -> Option<Self> {
        Some(match name {
            "proxy_abi_version_0_1_0" => Self::V0_1_0,
            "proxy_abi_version_0_2_0" => Self::V0_2_0,
            "proxy_abi_version_0_2_1" => Self::V0_2_1,
            "proxy_abi_version_0_2_100" => Self::V0_2_100,
            _ => return None,
        })
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_2_1 => "0.2.1",
            Self::V0_2_100 => "0.2.100",
        }
    }

    /// Whether a missing header reads as an empty one.
    pub(super) fn missing_is_empty(self) -> bool {
        self == Self::V0_1_0
    }
}

/// Where in the life of its context a callback stands: decides what it may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// No context yet: instantiation, `_initialize`, `_start`.
    Start,
    /// A root context is made, started, configured.
    Configure,
    /// Anything later on a root context.
    Root,
    RequestHeaders,
    RequestBody,
    RequestTrailers,
    ResponseHeaders,
    ResponseBody,
    ResponseTrailers,
    /// Done, log, delete: everything is readable, nothing can be changed.
    Log,
}

impl Phase {
    /// The callback of this phase, for logs.
    pub(super) fn callback(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Configure => "proxy_on_configure",
            Self::Root => "a root context's callback",
            Self::RequestHeaders => "proxy_on_request_headers",
            Self::RequestBody => "proxy_on_request_body",
            Self::RequestTrailers => "proxy_on_request_trailers",
            Self::ResponseHeaders => "proxy_on_response_headers",
            Self::ResponseBody => "proxy_on_response_body",
            Self::ResponseTrailers => "proxy_on_response_trailers",
            Self::Log => "proxy_on_done, _log or _delete",
        }
    }
}

/// The buffers of `proxy_get_buffer_bytes`.
pub(super) mod buffer {
    pub(in super::super) const REQUEST_BODY: u32 = 0;
    pub(in super::super) const RESPONSE_BODY: u32 = 1;
    pub(in super::super) const CALL_BODY: u32 = 4;
    pub(in super::super) const GRPC_MESSAGE: u32 = 5;
    pub(in super::super) const VM_CONFIG: u32 = 6;
    pub(in super::super) const PLUGIN_CONFIG: u32 = 7;
    pub(in super::super) const LAST: u32 = 8;
}

/// The streams of `proxy_continue_stream`.
pub(super) mod stream {
    pub(in super::super) const REQUEST: u32 = 0;
    pub(in super::super) const RESPONSE: u32 = 1;
    pub(in super::super) const LAST: u32 = 3;
}

/// What the ABI's log levels are to us.
pub(super) fn log_level(level: u32) -> Option<log::Level> {
    Some(match level {
        0 => log::Level::Trace,
        1 => log::Level::Debug,
        2 => log::Level::Info,
        3 => log::Level::Warn,
        4 | 5 => log::Level::Error,
        _ => return None,
    })
}

/// The most verbose of the ABI's levels that is written.
pub(super) fn current_log_level() -> u32 {
    match log::max_level() {
        log::LevelFilter::Trace => 0,
        log::LevelFilter::Debug => 1,
        log::LevelFilter::Info => 2,
        log::LevelFilter::Warn => 3,
        log::LevelFilter::Error => 4,
        log::LevelFilter::Off => 5,
    }
}
