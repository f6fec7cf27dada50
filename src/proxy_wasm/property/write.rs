//! Attributes that plugins may change where `writable_properties` lets them.

use super::super::abi::{Phase, Status};
use super::super::header_map::Map;
use super::split;
use super::tree::DEPTH_MAX;
use crate::plugin::{Message, PropertyTraits};

/// Changes the attribute at a path; `None` if none there may be changed.
pub(super) fn attribute(
    message: &mut Message,
    phase: Phase,
    path: &[u8],
    value: &[u8],
) -> Option<Result<(), Status>> {
    let (first, rest) = split(path);
    match first {
        b"request" => request(message, phase, rest, value),
        b"response" => response(message, phase, rest, value),
        b"metadata" => Some(metadata(message, phase, rest, value)),
        _ => None,
    }
}

fn request(
    message: &mut Message,
    phase: Phase,
    name: &[u8],
    value: &[u8],
) -> Option<Result<(), Status>> {
    let (map, target) = (Map::RequestHeaders, &message.request.target);
    let at = memchr::memchr(b'?', target).unwrap_or(target.len());
    let made;
    let (key, value): (&[u8], &[u8]) = match split(name) {
        (b"path", b"") => (b":path", value),
        (b"host", b"") => (b":authority", value),
        (b"method", b"") => (b":method", value),
        (b"scheme", b"") => (b":scheme", value),
        (b"url_path", b"") => {
            made = [value, &target[at..]].concat();
            (b":path", if value.contains(&b'?') { b"" } else { &made })
        }
        (b"query", b"") => {
            let mark: &[u8] = if value.is_empty() { b"" } else { b"?" };
            made = [&target[..at], mark, value].concat();
            (b":path", &made)
        }
        (b"headers", key) if !key.is_empty() => (key, value),
        _ => return None,
    };
    let open = matches!(
        phase,
        Phase::RequestHeaders | Phase::RequestBody | Phase::RequestTrailers | Phase::Root
    );
    let open = open && message.attempts.count == 0;
    Some(if open { map.replace(message, key, value) } else { Err(Status::BadArgument) })
}

fn response(
    message: &mut Message,
    phase: Phase,
    name: &[u8],
    value: &[u8],
) -> Option<Result<(), Status>> {
    let open = message.response.status != 0 && phase != Phase::Log;
    let digits;
    let (key, value): (&[u8], &[u8]) = match split(name) {
        (b"code", b"") => {
            digits = code_digits(value);
            (b":status", digits.as_deref().unwrap_or(value))
        }
        (b"headers", key) if !key.is_empty() => (key, value),
        (b"code_details", b"") if open => {
            message.response.details.clear();
            message.response.details.extend_from_slice(value);
            return Some(Ok(()));
        }
        (b"code_details", b"") => return Some(Err(Status::BadArgument)),
        _ => return None,
    };
    let map = Map::ResponseHeaders;
    Some(if open { map.replace(message, key, value) } else { Err(Status::BadArgument) })
}

/// A status as Envoy encodes ints; as text it is fine as it is.
fn code_digits(value: &[u8]) -> Option<Vec<u8>> {
    let bytes: [u8; 8] = value.try_into().ok()?;
    Some(u64::from_le_bytes(bytes).to_string().into_bytes())
}

/// Dynamic metadata: a namespace and at least one field, none of them empty. Nothing can be both a
/// value and a map of others.
fn metadata(message: &mut Message, phase: Phase, path: &[u8], value: &[u8]) -> Result<(), Status> {
    let (b"filter_metadata", leaf) = split(path) else { return Err(Status::BadArgument) };
    let segments = || leaf.split(|byte| *byte == 0);
    let shaped = (2..=DEPTH_MAX).contains(&segments().count()) && segments().all(|s| !s.is_empty());
    let tree = &mut message.metadata;
    let is_above = |above: &[u8], below: &[u8]| {
        below.strip_prefix(above).is_some_and(|rest| rest.first() == Some(&0))
    };
    let clashes = tree.iter().any(|p| is_above(p.name, leaf) || is_above(leaf, p.name));
    if !shaped || clashes || phase == Phase::Log {
        return Err(Status::BadArgument);
    }
    tree.set(leaf, value, PropertyTraits::default()).map_err(|_| Status::BadArgument)
}
