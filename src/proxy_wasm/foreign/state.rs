//! `declare_property` and `set_envoy_filter_state`.

use super::super::abi::Status;
use super::super::guest::Guest;
use super::super::property::{keep, without_last_nul};
use super::super::protobuf::{Fields, Malformed, Value};
use crate::plugin::{LifeSpan, PropertyTraits, PropertyType};

/// Declarations one root context may make.
const DECLARED_MAX: usize = 256;

/// `DeclarePropertyArguments` of Envoy's `declare_property.proto`: what the value at a path will
/// be. A path is declared once.
pub(super) fn declare_property(guest: &mut Guest, args: &[u8]) -> Result<(), Status> {
    let (name, traits) = declaration(args).map_err(|Malformed| Status::BadArgument)?;
    let root = guest.root().ok_or(Status::NotFound)?;
    let path = without_last_nul(name.as_bytes());
    if root.declared.len() == DECLARED_MAX || root.declared.contains_key(path) {
        return Err(Status::BadArgument);
    }
    root.declared.insert(path.to_vec(), traits);
    Ok(())
}

/// `SetEnvoyFilterStateArguments` of Envoy's `set_envoy_filter_state.proto`: a value under a name
/// of its own, without the prefix of properties. Envoy has a factory for each name it knows; here
/// any name is kept.
pub(super) fn set_envoy_filter_state(guest: &mut Guest, args: &[u8]) -> Result<(), Status> {
    let mut fields = Fields::of(args);
    let (mut path, mut value, mut span) = ("", "", 0);
    let mut read = || -> Result<(), Malformed> {
        while let Some((number, content)) = fields.next()? {
            match (number, content) {
                (1, Value::Bytes(bytes)) => path = text(bytes)?,
                (2, Value::Bytes(bytes)) => value = text(bytes)?,
                (3, Value::Varint(number)) => span = number,
                _ => {}
            }
        }
        Ok(())
    };
    read().map_err(|Malformed| Status::BadArgument)?;
    let traits = PropertyTraits { span: life_span(span), ..PropertyTraits::default() };
    let message = guest.stream_message_mut().ok_or(Status::NotFound)?;
    keep(message, path.as_bytes(), value.as_bytes(), traits)
}

/// The path and what is said of it. The schema of a message or table is of no use here: nothing
/// looks into them.
fn declaration(args: &[u8]) -> Result<(&str, PropertyTraits), Malformed> {
    let (mut name, mut traits) = ("", PropertyTraits::default());
    let mut fields = Fields::of(args);
    while let Some((number, content)) = fields.next()? {
        match (number, content) {
            (1, Value::Bytes(bytes)) => name = text(bytes)?,
            (2, Value::Varint(number)) => traits.read_only = number != 0,
            (3, Value::Varint(number)) => traits.kind = kind(number),
            (5, Value::Varint(number)) => traits.span = life_span(number),
            _ => {}
        }
    }
    Ok((name, traits))
}

fn kind(number: u64) -> PropertyType {
    match number {
        1 => PropertyType::Text,
        2 => PropertyType::FlatBuffers,
        3 => PropertyType::Protobuf,
        _ => PropertyType::Bytes,
    }
}

/// Envoy's filter chain and request both end with the exchange here.
fn life_span(number: u64) -> LifeSpan {
    if number == 2 { LifeSpan::Connection } else { LifeSpan::Exchange }
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}
