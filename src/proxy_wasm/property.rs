//! Properties: a path of NUL-joined segments, values in Envoy's binary encodings.
//!
//! | type | bytes |
//! |---|---|
//! | string | as it is |
//! | int, uint, time and duration in ns | 8, little-endian |
//! | bool | 1 |
//! | map | the ABI's map encoding |

use super::abi::{Phase, Status};
use super::guest::Guest;
use super::header_map::{Map, property as set_by_plugin, scheme};
use crate::http::{BodyLength, Headers, Version};
use crate::plugin::{Message, RouteFacts, append_variable};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Values all plugins of one exchange may keep in it, names included.
const PROPERTIES_BYTES_MAX: usize = 1 << 20;

/// Appends the property's value to `out`.
pub(super) fn get(guest: &Guest, path: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    let path = without_last_nul(path);
    if let Some(found) = plugin_property(guest, path, out) {
        return Ok(found);
    }
    let message = guest.stream_message().ok_or(Status::NotFound)?;
    let of = Of { message, phase: guest.phase() };
    of.get(path, out).ok_or(Status::NotFound)
}

/// Keeps a value under the whole path, for every plugin of the exchange.
pub(super) fn set(message: &mut Message, path: &[u8], value: &[u8]) -> Result<(), Status> {
    let path = without_last_nul(path);
    let kept: usize = message.properties.iter().map(|(k, v)| k.len() + v.len()).sum();
    if path.is_empty() || kept + path.len() + value.len() > PROPERTIES_BYTES_MAX {
        return Err(Status::BadArgument);
    }
    super::header_map::set_property(message, path, value);
    Ok(())
}

/// The C++ SDK ends every segment with a NUL, others put one between segments.
fn without_last_nul(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"\0").unwrap_or(path)
}

/// What is known without a stream. C++ plugins abort if `plugin_root_id` is not there while their
/// root context is made.
fn plugin_property(guest: &Guest, path: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match path {
        b"plugin_name" => text(out, guest.facts.name.as_bytes()),
        b"plugin_root_id" => text(out, guest.facts.root_id.as_bytes()),
        b"plugin_vm_id" => text(out, guest.facts.vm_id.as_bytes()),
        b"plugin_vm_memory" => number(out, guest.limiter.memory_bytes_high() as u64),
        _ => None,
    }
}

/// One exchange, as seen from a phase.
struct Of<'m> {
    message: &'m Message,
    phase: Phase,
}

impl Of<'_> {
    fn get(&self, path: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let (first, rest) = split(path);
        match first {
            b"request" => self.request(rest, out),
            b"response" => self.response(rest, out),
            b"source" => address(rest, Some(self.message.connection.peer), out),
            b"destination" => address(rest, Some(self.message.connection.local), out),
            b"upstream" => address(rest, self.message.upstream, out),
            b"connection" => self.connection(rest, out),
            b"connection_id" if rest.is_empty() => number(out, self.message.connection.id),
            b"xds" => self.xds(rest, out),
            b"filter_state" => self.filter_state(rest, out),
            _ => None,
        }
        .or_else(|| self.set_by_plugins(path, first, out))
        .or_else(|| self.xds(path, out))
        .or_else(|| self.nginx_variable(path, out))
    }

    fn request(&self, name: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let request = &self.message.request;
        match name {
            b"path" => text(out, &request.target),
            b"url_path" => text(out, without_query(&request.target)),
            b"query" => text(out, request.query()?),
            b"host" => some_text(out, &request.authority),
            b"scheme" => text(out, scheme(self.message)),
            b"method" => text(out, &request.method),
            b"headers" => self.map(Map::RequestHeaders, out),
            b"referer" => joined(&request.headers, b"referer", out),
            b"useragent" => joined(&request.headers, b"user-agent", out),
            b"id" => joined(&request.headers, b"x-request-id", out),
            b"time" => number(out, self.message.started_ns),
            b"protocol" => text(out, protocol(request.version)),
            b"duration" if self.is_over() => number(out, since(self.message.started_ns)),
            b"size" => number(out, self.request_size()),
            b"headers_bytes" => number(out, Map::RequestHeaders.byte_len(self.message).into()),
            b"total_size" if self.is_over() => {
                let maps = [Map::RequestHeaders, Map::RequestTrailers];
                number(out, self.message.request_bytes + self.byte_len(maps))
            }
            _ => self.header(name, Map::RequestHeaders, out),
        }
    }

    fn response(&self, name: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let response = &self.message.response;
        if response.status == 0 {
            return None;
        }
        match name {
            b"code" => number(out, response.status.into()),
            b"flags" => number(out, 0),
            b"headers" => self.map(Map::ResponseHeaders, out),
            b"trailers" => self.map(Map::ResponseTrailers, out),
            b"grpc_status" => {
                let sections = [&response.trailers, &response.headers];
                let value = sections.into_iter().find_map(|section| section.get(b"grpc-status"))?;
                number(out, std::str::from_utf8(value).ok()?.parse().ok()?)
            }
            b"size" => number(out, self.message.response_bytes),
            b"headers_bytes" => number(out, Map::ResponseHeaders.byte_len(self.message).into()),
            b"total_size" if self.is_over() => {
                let maps = [Map::ResponseHeaders, Map::ResponseTrailers];
                number(out, self.message.response_bytes + self.byte_len(maps))
            }
            _ => self.header(name, Map::ResponseHeaders, out),
        }
    }

    fn map(&self, map: Map, out: &mut Vec<u8>) -> Option<()> {
        map.encode(self.message, out);
        Some(())
    }

    /// `headers` and a name, or `trailers` and a name: all values of it, joined by commas.
    fn header(&self, name: &[u8], headers: Map, out: &mut Vec<u8>) -> Option<()> {
        let message = self.message;
        let (kind, key) = split(name);
        match (kind, headers) {
            (b"headers", _) if key.first() == Some(&b':') || key == b"host" => {
                headers.get(message, key, out).then_some(())
            }
            (b"headers", Map::RequestHeaders) => joined(&message.request.headers, key, out),
            (b"headers", _) => joined(&message.response.headers, key, out),
            (b"trailers", Map::RequestHeaders) => joined(&message.request.trailers, key, out),
            (b"trailers", _) => joined(&message.response.trailers, key, out),
            _ => None,
        }
    }

    fn connection(&self, name: &[u8], out: &mut Vec<u8>) -> Option<()> {
        match name {
            b"id" => number(out, self.message.connection.id),
            b"mtls" => text(out, &[0]),
            _ => None,
        }
    }

    /// Also under the old names without `xds`.
    fn xds(&self, name: &[u8], out: &mut Vec<u8>) -> Option<()> {
        match name {
            b"route_name" => {
                let named =
                    |route: &RouteFacts| [&route.route_name, &route.route_id].map(String::clone);
                let [name, id] = self.message.route.as_deref().map(named)?;
                some_text(out, if name.is_empty() { &id } else { &name }.as_bytes())
            }
            b"cluster_name" => {
                some_text(out, self.message.route.as_ref()?.upstream_name.as_bytes())
            }
            b"listener_direction" => number(out, 1),
            _ => None,
        }
    }

    /// What plugins set is also seen as filter state, as in Envoy.
    fn filter_state(&self, name: &[u8], out: &mut Vec<u8>) -> Option<()> {
        text(out, set_by_plugin(self.message, name.strip_prefix(b"wasm.")?)?)
    }

    fn set_by_plugins(&self, path: &[u8], first: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let whole = set_by_plugin(self.message, path);
        text(out, whole.or_else(|| set_by_plugin(self.message, first))?)
    }

    /// APISIX's host gives nginx variables by their bare names; plugins written for it ask so.
    fn nginx_variable(&self, name: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let name = std::str::from_utf8(name).ok()?;
        append_variable(self.message, name, out).then_some(())
    }

    fn is_over(&self) -> bool {
        self.phase == Phase::Log
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

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(0, path) {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, &[]),
    }
}

fn text(out: &mut Vec<u8>, value: &[u8]) -> Option<()> {
    out.extend_from_slice(value);
    Some(())
}

fn some_text(out: &mut Vec<u8>, value: &[u8]) -> Option<()> {
    if value.is_empty() { None } else { text(out, value) }
}

fn number(out: &mut Vec<u8>, value: u64) -> Option<()> {
    text(out, &value.to_le_bytes())
}

fn display(out: &mut Vec<u8>, value: &dyn std::fmt::Display) -> Option<()> {
    let mut printed = String::new();
    write!(printed, "{value}").ok()?;
    text(out, printed.as_bytes())
}

/// `address` is "ip:port", `port` an int.
fn address(name: &[u8], of: Option<SocketAddr>, out: &mut Vec<u8>) -> Option<()> {
    match name {
        b"address" => display(out, &of?),
        b"port" => number(out, of?.port().into()),
        _ => None,
    }
}

fn joined(headers: &Headers, name: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut found = None;
    for value in headers.values(name) {
        if found.is_some() {
            out.push(b',');
        }
        out.extend_from_slice(value);
        found = Some(());
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

fn since(started_ns: u64) -> u64 {
    wall_clock_ns().saturating_sub(started_ns)
}

/// Nanoseconds since the epoch.
pub(super) fn wall_clock_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
