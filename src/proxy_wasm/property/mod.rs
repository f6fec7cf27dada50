//! Properties: a path of NUL-joined segments, values in Envoy's binary encodings.
//!
//! | kind | bytes |
//! |---|---|
//! | text, bytes | as they are |
//! | int, uint, time and duration in ns | 8, little-endian |
//! | bool | 1 |
//! | map | the ABI's map encoding, values encoded by these rules |
//! | message | protobuf |
//!
//! A path is looked for among the attributes, then among what plugins set, then among the old names
//! without `xds`, then among nginx's variables, by which plugins for APISIX ask.

mod attributes;
pub(super) mod tree;
mod write;

use super::abi::{Phase, Status};
use super::guest::Guest;
use super::node::Node;
use crate::plugin::{Message, PropertyTraits, PropertyType, append_variable};
use attributes::Attributes;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) use attributes::{NAMES, ROOTS};

/// Before the names of what `proxy_set_property` keeps (Envoy's `CelStateKeyPrefix`).
const STATE_PREFIX: &[u8] = b"wasm.";

/// What a property's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Bytes,
    Int,
    Uint,
    Bool,
    /// Since the epoch.
    Time,
    Duration,
    Map,
    Message,
}

/// What a lookup needs of a guest.
#[derive(Clone, Copy)]
pub(super) struct View<'g> {
    guest: &'g Guest,
    node: &'g Node,
}

impl<'g> View<'g> {
    pub(super) fn new(guest: &'g Guest) -> Self {
        Self { guest, node: &guest.facts.node }
    }

    /// Appends a property's value to `out`.
    pub(super) fn get(self, path: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
        let path = without_last_nul(path);
        self.of_plugin(path, out).or_else(|| {
            let Some(attributes) = self.attributes() else { return self.of_node(path, out) };
            attributes
                .get(path, out)
                .or_else(|| of_plugins(attributes.message, path, out))
                .or_else(|| attributes.xds(path, out))
                .or_else(|| nginx_variable(attributes.message, path, out))
        })
    }

    /// The keys of a map, as far as it has any.
    pub(super) fn keys(self, path: &[u8]) -> Vec<Vec<u8>> {
        self.attributes().map(|attributes| attributes.keys(path)).unwrap_or_default()
    }

    fn attributes(self) -> Option<Attributes<'g>> {
        let message = self.guest.stream_message()?;
        Some(Attributes { message, phase: self.guest.phase(), node: self.node })
    }

    /// What is known without a stream. C++ plugins abort if `plugin_root_id` is not there while
    /// their root context is made.
    fn of_plugin(self, path: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
        let facts = &self.guest.facts;
        match path {
            b"plugin_name" => text(out, facts.name.as_bytes()),
            b"plugin_root_id" => text(out, facts.root_id.as_bytes()),
            b"plugin_vm_id" => text(out, facts.vm_id.as_bytes()),
            b"plugin_vm_memory" => uint(out, self.guest.limiter.memory_bytes_high() as u64),
            _ => None,
        }
    }

    /// All that a root context sees of `xds`.
    fn of_node(self, path: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
        let path = path.strip_prefix(b"xds\0").unwrap_or(path);
        match split(path) {
            (b"node", rest) => self.node.get(rest, out),
            (b"listener_direction", b"") => int(out, attributes::INBOUND),
            _ => None,
        }
    }
}

/// Appends a property's value to `out`.
pub(super) fn get(guest: &Guest, path: &[u8], out: &mut Vec<u8>) -> Result<Kind, Status> {
    View::new(guest).get(path, out).ok_or(Status::NotFound)
}

/// Keeps a value under the whole path, for every plugin of the exchange; or changes the attribute
/// of that name, where the plugin may.
pub(super) fn set(guest: &mut Guest, path: &[u8], value: &[u8]) -> Result<(), Status> {
    let path = without_last_nul(path);
    let traits = guest.declared(path);
    let (writable, phase) = (guest.facts.settings.writable_properties, guest.phase());
    let mut name = std::mem::take(&mut guest.scratch);
    name.clear();
    name.extend_from_slice(STATE_PREFIX);
    name.extend_from_slice(path);
    let set = match guest.stream_message_mut() {
        None => Err(Status::NotFound),
        Some(_) if path.is_empty() => Err(Status::BadArgument),
        Some(message) => {
            let written =
                if writable { write::attribute(message, phase, path, value) } else { None };
            written.unwrap_or_else(|| keep(message, &name, value, traits))
        }
    };
    guest.scratch = name;
    set
}

/// Keeps a value under a name of the filter state.
pub(super) fn keep(
    message: &mut Message,
    name: &[u8],
    value: &[u8],
    traits: PropertyTraits,
) -> Result<(), Status> {
    message.filter_state.set(name, value, traits).map_err(|_| Status::BadArgument)
}

/// The C++ SDK ends every segment with a NUL, others put one between segments.
pub(super) fn without_last_nul(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"\0").unwrap_or(path)
}

/// What plugins set: under this path, or under its first segment alone as in Envoy.
fn of_plugins(message: &Message, path: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
    let named = |wanted: &[u8]| {
        let mut all = message.filter_state.iter();
        all.find(|property| property.name.strip_prefix(STATE_PREFIX) == Some(wanted))
    };
    let found = named(path).or_else(|| named(split(path).0))?;
    kept(found.value, found.traits, out)
}

fn kept(value: &[u8], traits: PropertyTraits, out: &mut Vec<u8>) -> Option<Kind> {
    out.extend_from_slice(value);
    Some(if traits.kind == PropertyType::Text { Kind::Text } else { Kind::Bytes })
}

/// APISIX's host gives nginx variables by their bare names; plugins written for it ask so.
fn nginx_variable(message: &Message, name: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
    let name = std::str::from_utf8(name).ok()?;
    append_variable(message, name, out).then_some(Kind::Text)
}

/// The first segment of a path, and the others.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(0, path) {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, &[]),
    }
}

fn text(out: &mut Vec<u8>, value: &[u8]) -> Option<Kind> {
    out.extend_from_slice(value);
    Some(Kind::Text)
}

fn some_text(out: &mut Vec<u8>, value: &[u8]) -> Option<Kind> {
    if value.is_empty() { None } else { text(out, value) }
}

fn int(out: &mut Vec<u8>, value: u64) -> Option<Kind> {
    number(out, value, Kind::Int)
}

fn uint(out: &mut Vec<u8>, value: u64) -> Option<Kind> {
    number(out, value, Kind::Uint)
}

fn number(out: &mut Vec<u8>, value: u64, kind: Kind) -> Option<Kind> {
    out.extend_from_slice(&value.to_le_bytes());
    Some(kind)
}

/// Nanoseconds since the epoch.
pub(super) fn wall_clock_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether everything about the exchange is known.
fn is_over(phase: Phase) -> bool {
    phase == Phase::Log
}
