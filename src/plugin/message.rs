//! The message of one exchange: everything plugins read and edit.
//!
//! One `Message` is boxed, taken from the worker's pool when an exchange begins and given back when
//! it ends; all its vectors keep their memory.

use super::{Attempts, Consumer, Properties, ResponseFlags};
use crate::http::{BodyLength, Headers, Version};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

/// The downstream connection an exchange came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Unique in this process.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
    /// The proxy that the connection came through and that named both (PROXY protocol).
    pub proxy: Option<IpAddr>,
}

impl Default for Connection {
    fn default() -> Self {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Self { id: 0, peer: nowhere, local: nowhere, proxy: None }
    }
}

/// A request's head in parts that plugins may change.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `GET`.
    pub method: Vec<u8>,
    /// Path and query as received, `/a%20b?c=d`: what goes upstream.
    pub target: Vec<u8>,
    /// The normalised path: percent-decoded, dots resolved, slashes merged (nginx's `$uri`).
    pub path: Vec<u8>,
    /// The Host header's value or the absolute-form's authority; empty if HTTP/1.0 sent none.
    pub authority: Vec<u8>,
    /// The Host sent upstream instead of the authority, where the upstream passes that on; empty:
    /// none.
    pub upstream_host: Vec<u8>,
    /// The scheme a plugin gave it; empty: `http`.
    pub scheme: Vec<u8>,
    /// The version the client speaks.
    pub version: Version,
    /// All fields but Host. Framing fields are still there for plugins to see; framing itself is
    /// re-made from what is really sent.
    pub headers: Headers,
    /// Trailer fields, once the body has ended.
    pub trailers: Headers,
    /// What the head said about the body.
    pub body: BodyLength,
}

/// A response's head.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// 0 until there is a response.
    pub status: u16,
    /// All fields; see [`Request::headers`] about framing.
    pub headers: Headers,
    /// Trailer fields, once the body has ended.
    pub trailers: Headers,
    /// What the head said about the body. A headers callback that sets it where there was none
    /// gets a body callback with nothing in it, to make one.
    pub body: BodyLength,
    /// Who made the response.
    pub source: ResponseSource,
    /// Why it is what it is, in one word: Envoy's response code details, or what the plugin that
    /// made it said.
    pub details: Vec<u8>,
    /// What went wrong.
    pub flags: ResponseFlags,
}

/// Who made a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseSource {
    /// Nobody yet.
    #[default]
    None,
    /// The upstream.
    Upstream,
    /// A plugin's local response.
    Plugin,
    /// The gateway itself: no route, upstream failed, plugin failed.
    Gateway,
}

/// A response made by a plugin.
#[derive(Clone, Debug, Default)]
pub struct LocalResponse {
    /// 200 to 999.
    pub status: u16,
    /// Fields to send; framing, Date and Server are added.
    pub headers: Headers,
    /// `None`: the plugin gave no body, so an error status gets the gateway's error page.
    pub body: Option<Vec<u8>>,
    /// `_meta.error_response` must not replace the body (APISIX wasm reference §1: it applies to
    /// the gateway's own 503, not to a guest's local response).
    pub verbatim: bool,
    /// Why the plugin answers, for [`Response::details`]; may be empty.
    pub details: Vec<u8>,
}

/// What a request's route says of itself, for variables, properties and logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteFacts {
    /// `route_id`; empty if no route matched.
    pub route_id: String,
    /// `route_name`.
    pub route_name: String,
    /// `service_id`.
    pub service_id: String,
    /// `service_name`.
    pub service_name: String,
    /// The upstream's id or name, for the `cluster_name` property.
    pub upstream_name: String,
    /// `labels` of the route, named as [`Message::metadata`] is.
    pub labels: Properties,
    /// `labels` of the service.
    pub service_labels: Properties,
    /// `labels` of the upstream.
    pub upstream_labels: Properties,
}

/// The facts of a route, counted by one worker alone, so that workers share no cache line.
pub type RouteRef = Rc<Arc<RouteFacts>>;

/// A body, or its trailers too, that a paused plugin holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBody {
    /// The plugin's step in the chain.
    pub step: u16,
    /// A response's body; else the request's.
    pub of_response: bool,
    /// The trailers behind it wait there as well.
    pub with_trailers: bool,
}

/// Everything plugins see of one exchange.
#[derive(Debug, Default)]
pub struct Message {
    /// Where the request came from.
    pub connection: Connection,
    /// The request's number in this process, for logs.
    pub request_number: u64,
    /// When the request's head was complete, in nanoseconds since the epoch.
    pub started_ns: u64,
    /// Where the request really came from, if a plugin put another peer into `connection`.
    pub direct_peer: Option<SocketAddr>,
    /// The request.
    pub request: Request,
    /// The response.
    pub response: Response,
    /// In a body callback: the bytes to look at and edit. Empty otherwise.
    pub body: Vec<u8>,
    /// While the exchange waits: whose body is in `body`, the plugin's that holds it back.
    pub held_body: Option<HeldBody>,
    /// With [`Action::Respond`](super::Action::Respond): the response to give.
    pub local: LocalResponse,
    /// What request callbacks set on the response to come, whoever makes it, before its own
    /// callbacks run.
    pub response_fields: Headers,
    /// Who sent the request, once a plugin found out.
    pub consumer: Option<Arc<Consumer>>,
    /// The matched route.
    pub route: Option<RouteRef>,
    /// The upstream node chosen, once one was.
    pub upstream: Option<SocketAddr>,
    /// What was done to get a response from there.
    pub attempts: Attempts,
    /// Values that plugins keep in the exchange, named as in Envoy's filter state: those of
    /// `proxy_set_property` are `wasm.` and their path.
    pub filter_state: Properties,
    /// Dynamic metadata that plugins set: names are paths of NUL-joined segments, beginning with
    /// the namespace.
    pub metadata: Properties,
    /// While the exchange waits: some plugin has asked for `local` to be its answer.
    pub answered: bool,
    /// A plugin asks: choose the route again.
    pub clear_route: bool,
    /// A plugin asks: let the held request go on.
    pub resume_request: bool,
    /// A plugin asks: let the held response go on.
    pub resume_response: bool,
    /// Request body bytes received so far.
    pub request_bytes: u64,
    /// Response body bytes sent so far.
    pub response_bytes: u64,
}

impl Message {
    /// Whose connection the request came over: a proxy's, where that said by the PROXY protocol who
    /// the client is.
    #[must_use]
    pub fn sender(&self) -> IpAddr {
        let peer = || self.direct_peer.unwrap_or(self.connection.peer).ip();
        self.connection.proxy.unwrap_or_else(peer)
    }

    /// Forgets the exchange and keeps the memory.
    pub fn clear(&mut self) {
        self.direct_peer = None;
        self.request.clear();
        self.response.clear();
        self.response_fields.clear();
        self.consumer = None;
        self.body.clear();
        self.held_body = None;
        self.local.clear();
        self.route = None;
        self.upstream = None;
        self.attempts.clear();
        self.filter_state.clear();
        self.metadata.clear();
        self.answered = false;
        self.clear_route = false;
        self.resume_request = false;
        self.resume_response = false;
        self.request_bytes = 0;
        self.response_bytes = 0;
    }

    /// Sets the fields that request callbacks asked for on the response that is there now.
    pub fn apply_response_fields(&mut self) {
        for (name, value) in self.response_fields.iter() {
            self.response.headers.set(name, value);
        }
    }

    /// Sets what [`Action::Respond`](super::Action::Respond) sends, in the memory that is there.
    pub fn respond(&mut self, status: u16, body: Option<&[u8]>) {
        self.local.status = status;
        self.local.verbatim = false;
        self.local.details.clear();
        self.local.headers.clear();
        match (body, &mut self.local.body) {
            (None, kept) => *kept = None,
            (Some(body), Some(kept)) => {
                kept.clear();
                kept.extend_from_slice(body);
            }
            (Some(body), kept @ None) => *kept = Some(body.to_vec()),
        }
    }
}

impl Request {
    fn clear(&mut self) {
        self.method.clear();
        self.target.clear();
        self.path.clear();
        self.authority.clear();
        self.upstream_host.clear();
        self.scheme.clear();
        self.headers.clear();
        self.trailers.clear();
        self.body = BodyLength::None;
    }

    /// The query without `?`, or nothing.
    #[must_use]
    pub fn query(&self) -> Option<&[u8]> {
        let at = memchr::memchr(b'?', &self.target)?;
        Some(&self.target[at + 1..])
    }
}

impl Response {
    fn clear(&mut self) {
        self.status = 0;
        self.headers.clear();
        self.trailers.clear();
        self.body = BodyLength::None;
        self.source = ResponseSource::None;
        self.details.clear();
        self.flags = ResponseFlags::NONE;
    }
}

impl LocalResponse {
    fn clear(&mut self) {
        self.status = 0;
        self.verbatim = false;
        self.details.clear();
        self.headers.clear();
        if let Some(body) = &mut self.body {
            body.clear();
        }
    }
}
