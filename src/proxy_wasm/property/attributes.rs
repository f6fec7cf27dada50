//! Envoy's attributes of one exchange (Envoy's `attributes.rst`, `expr/context.cc`).

use super::super::abi::Phase;
use super::super::header_map::{Map, scheme};
use super::super::node::Node;
use super::{Kind, int, is_over, kept, number, some_text, split, text, tree, uint, wall_clock_ns};
use crate::http::{BodyLength, Headers, Version};
use crate::plugin::{Message, RouteFacts};
use rustc_hash::FxHashSet;
use std::io::Write as _;
use std::net::SocketAddr;

/// `xds.listener_direction`: our listeners take requests from outside.
pub(super) const INBOUND: u64 = 1;

/// The first segments that lead to attributes.
pub(in super::super) const ROOTS: [&str; 9] = [
    "request",
    "response",
    "source",
    "destination",
    "connection",
    "upstream",
    "metadata",
    "filter_state",
    "xds",
];

/// The attributes below a first segment, for whoever wants them all.
pub(in super::super) const NAMES: [(&str, &[&str]); 7] = [
    (
        "request",
        &[
            "path",
            "url_path",
            "query",
            "host",
            "scheme",
            "method",
            "headers",
            "headers_bytes",
            "referer",
            "useragent",
            "id",
            "time",
            "protocol",
            "duration",
            "size",
            "total_size",
        ],
    ),
    (
        "response",
        &[
            "code",
            "code_details",
            "flags",
            "grpc_status",
            "headers",
            "headers_bytes",
            "trailers",
            "size",
            "total_size",
            "backend_latency",
        ],
    ),
    ("source", &["address", "port"]),
    ("destination", &["address", "port"]),
    ("connection", &["id", "mtls"]),
    (
        "upstream",
        &[
            "address",
            "port",
            "local_address",
            "local_port",
            "num_endpoints",
            "request_attempt_count",
            "cx_pool_ready_duration",
            "transport_failure_reason",
        ],
    ),
    (
        "xds",
        &[
            "node",
            "route_name",
            "route_metadata",
            "cluster_name",
            "cluster_metadata",
            "virtual_host_name",
            "virtual_host_metadata",
            "listener_direction",
        ],
    ),
];

/// One exchange, as seen from a phase.
pub(super) struct Attributes<'m> {
    pub(super) message: &'m Message,
    pub(super) phase: Phase,
    pub(super) node: &'m Node,
}

impl Attributes<'_> {
    pub(super) fn get(&self, path: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
        let (first, rest) = split(path);
        match first {
            b"request" => self.request(rest, out),
            b"response" => self.response(rest, out),
            b"source" => address(rest, Some(self.message.connection.peer), out),
            b"destination" => address(rest, Some(self.message.connection.local), out),
            b"upstream" => self.upstream(rest, out),
            b"connection" => self.connection(rest, out),
            b"connection_id" if rest.is_empty() => uint(out, self.message.connection.id),
            b"metadata" => tree::metadata(&self.message.metadata, rest, out),
            b"filter_state" => self.filter_state(rest, out),
            b"xds" => self.xds(rest, out),
            _ => None,
        }
    }

    /// The keys of the map at a path.
    pub(super) fn keys(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let names = |map: Map| {
            let (mut names, mut seen) = (Vec::new(), FxHashSet::default());
            map.for_each_name(self.message, |name| {
                let name = name.to_ascii_lowercase();
                if seen.insert(name.clone()) {
                    names.push(name);
                }
            });
            names
        };
        let route = self.message.route.as_deref();
        match path {
            b"request\0headers" => names(Map::RequestHeaders),
            b"response\0headers" => names(Map::ResponseHeaders),
            b"response\0trailers" => names(Map::ResponseTrailers),
            b"filter_state" => self.message.filter_state.iter().map(|p| p.name.to_vec()).collect(),
            _ => {
                let (first, rest) = split(path);
                let (second, below) = split(rest);
                match (first, second) {
                    (b"metadata", _) => tree::keys(Some(&self.message.metadata), rest),
                    (b"xds", b"route_metadata") => tree::keys(route.map(|r| &r.labels), below),
                    (b"xds", b"cluster_metadata") => {
                        tree::keys(route.map(|r| &r.upstream_labels), below)
                    }
                    (b"xds", b"virtual_host_metadata") => {
                        tree::keys(route.map(|r| &r.service_labels), below)
                    }
                    (b"xds", b"node") => self.node.keys(below),
                    _ => Vec::new(),
                }
            }
        }
    }

    fn request(&self, name: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
        let request = &self.message.request;
        match name {
            b"path" => text(out, &request.target),
            b"url_path" => text(out, without_query(&request.target)),
            b"query" => text(out, request.query().unwrap_or_default()),
            b"host" => some_text(out, &request.authority),
            b"scheme" => text(out, scheme(self.message)),
            b"method" => text(out, &request.method),
            b"headers" => self.map(Map::RequestHeaders, out),
            b"referer" => joined(&request.headers, b"referer", out),
            b"useragent" => joined(&request.headers, b"user-agent", out),
            b"id" => joined(&request.headers, b"x-request-id", out),
            b"time" => number(out, self.message.started_ns, Kind::Time),
            b"protocol" => text(out, protocol(request.version)),
            b"duration" if is_over(self.phase) => {
                let duration = wall_clock_ns().saturating_sub(self.message.started_ns);
                number(out, duration, Kind::Duration)
            }
            b"size" => int(out, self.request_size()),
            b"headers_bytes" => int(out, Map::RequestHeaders.byte_len(self.message).into()),
            b"total_size" if is_over(self.phase) => {
                let maps = [Map::RequestHeaders, Map::RequestTrailers];
                int(out, self.message.request_bytes + self.byte_len(maps))
            }
            _ => self.header(name, Map::RequestHeaders, out),
        }
    }

    /// Nothing but what went wrong is known of a response that never was.
    fn response(&self, name: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
        let response = &self.message.response;
        if response.status == 0 && !is_over(self.phase) {
            return None;
        }
        match name {
            b"flags" => int(out, response.flags.bits()),
            b"code_details" => some_text(out, &response.details),
            b"size" => int(out, self.message.response_bytes),
            _ if response.status == 0 => None,
            b"code" => int(out, response.status.into()),
            b"headers" => self.map(Map::ResponseHeaders, out),
            b"trailers" => self.map(Map::ResponseTrailers, out),
            b"grpc_status" => {
                let sections = [&response.trailers, &response.headers];
                let value = sections.into_iter().find_map(|section| section.get(b"grpc-status"))?;
                int(out, std::str::from_utf8(value).ok()?.parse().ok()?)
            }
            b"headers_bytes" => int(out, Map::ResponseHeaders.byte_len(self.message).into()),
            b"total_size" if is_over(self.phase) => {
                let maps = [Map::ResponseHeaders, Map::ResponseTrailers];
                int(out, self.message.response_bytes + self.byte_len(maps))
            }
            b"backend_latency" => number(out, self.message.attempts.latency_ns()?, Kind::Duration),
            _ => self.header(name, Map::ResponseHeaders, out),
        }
    }

    fn map(&self, map: Map, out: &mut Vec<u8>) -> Option<Kind> {
        map.encode(self.message, out);
        Some(Kind::Map)
    }

    /// `headers` and a name, or `trailers` and a name: all values of it, joined by commas.
    fn header(&self, name: &[u8], headers: Map, out: &mut Vec<u8>) -> Option<Kind> {
        let message = self.message;
        let (kind, key) = split(name);
        match (kind, headers) {
            (b"headers", _) if key.first() == Some(&b':') || key == b"host" => {
                headers.get(message, key, out).then_some(Kind::Text)
            }
            (b"headers", Map::RequestHeaders) => joined(&message.request.headers, key, out),
            (b"headers", _) => joined(&message.response.headers, key, out),
            (b"trailers", Map::RequestHeaders) => joined(&message.request.trailers, key, out),
            (b"trailers", _) => joined(&message.response.trailers, key, out),
            _ => None,
        }
    }

    fn upstream(&self, name: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
        let attempts = &self.message.attempts;
        match name {
            b"local_address" => display(attempts.local?, out),
            b"local_port" => int(out, attempts.local?.port().into()),
            b"transport_failure_reason" => some_text(out, &attempts.failure),
            b"cx_pool_ready_duration" => number(out, attempts.until_ready_ns()?, Kind::Duration),
            b"request_attempt_count" if attempts.count > 0 => uint(out, attempts.count.into()),
            b"num_endpoints" if attempts.count > 0 => uint(out, attempts.endpoints.into()),
            _ => address(name, self.message.upstream, out),
        }
    }

    fn connection(&self, name: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
        match name {
            b"id" => uint(out, self.message.connection.id),
            b"mtls" => {
                out.push(0);
                Some(Kind::Bool)
            }
            _ => None,
        }
    }

    /// Also under the old names without `xds`.
    pub(super) fn xds(&self, name: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
        let route = self.message.route.as_deref();
        let (first, rest) = split(name);
        match first {
            b"node" => self.node.get(rest, out),
            b"route_metadata" => tree::metadata(&route?.labels, rest, out),
            b"cluster_metadata" => tree::metadata(&route?.upstream_labels, rest, out),
            b"virtual_host_metadata" => tree::metadata(&route?.service_labels, rest, out),
            _ if !rest.is_empty() => None,
            b"route_name" => some_text(out, name_or_id(route?, Named::Route)),
            b"virtual_host_name" => some_text(out, name_or_id(route?, Named::Service)),
            b"cluster_name" => some_text(out, route?.upstream_name.as_bytes()),
            b"listener_direction" => int(out, INBOUND),
            _ => None,
        }
    }

    /// All that plugins keep, as a map, or one of it. A name may have any bytes, NULs too.
    fn filter_state(&self, name: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
        let state = &self.message.filter_state;
        if name.is_empty() {
            let pairs = || state.iter().map(|property| (property.name, property.value));
            super::super::pairs::encode_exact(pairs, out);
            return Some(Kind::Map);
        }
        let found = state.get(name)?;
        kept(found.value, found.traits, out)
    }

    fn request_size(&self) -> u64 {
        match self.message.request.body {
            BodyLength::Known(bytes) => bytes,
            _ => self.message.request_bytes,
        }
    }

    fn byte_len(&self, maps: [Map; 2]) -> u64 {
        maps.map(|map| u64::from(map.byte_len(self.message))).into_iter().sum()
    }
}

enum Named {
    Route,
    Service,
}

fn name_or_id(route: &RouteFacts, what: Named) -> &[u8] {
    let (name, id) = match what {
        Named::Route => (&route.route_name, &route.route_id),
        Named::Service => (&route.service_name, &route.service_id),
    };
    if name.is_empty() { id.as_bytes() } else { name.as_bytes() }
}

/// `address` is "ip:port", `port` an int.
fn address(name: &[u8], of: Option<SocketAddr>, out: &mut Vec<u8>) -> Option<Kind> {
    match name {
        b"address" => display(of?, out),
        b"port" => int(out, of?.port().into()),
        _ => None,
    }
}

fn display(address: SocketAddr, out: &mut Vec<u8>) -> Option<Kind> {
    // Writing to a vector can't fail.
    write!(out, "{address}").ok()?;
    Some(Kind::Text)
}

fn joined(headers: &Headers, name: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
    let mut found = None;
    for value in headers.values(name) {
        if found.is_some() {
            out.push(b',');
        }
        out.extend_from_slice(value);
        found = Some(Kind::Text);
    }
    found
}

fn without_query(target: &[u8]) -> &[u8] {
    memchr::memchr(b'?', target).map_or(target, |at| &target[..at])
}

fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
    }
}
