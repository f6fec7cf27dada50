//! Header and trailer maps.

use super::super::abi::{Phase, Status};
use super::super::guest::Guest;
use super::super::header_map::Map;
use super::super::pairs::{Pairs, encode};
use super::{Host, Outcome, check_answer, give, open};
use crate::plugin::Message;

/// The last map the ABI has.
const MAP_LAST: u32 = 7;

pub(super) fn proxy_get_header_map_pairs(
    mut host: Host<'_>,
    map: u32,
    ptr_at: u32,
    len_at: u32,
) -> Outcome {
    if map > MAP_LAST {
        return Err(Status::BadArgument.into());
    }
    let (memory, guest) = open(&mut host)?;
    check_answer(&memory, ptr_at, len_at)?;
    let mut out = std::mem::take(&mut guest.scratch);
    out.clear();
    // A map that is not there reads as empty.
    match guest.reply.map(map) {
        Some(fields) => encode(|| fields.iter(), &mut out),
        None => {
            if let Ok((map, message)) = readable(guest, map) {
                map.encode(message, &mut out);
            }
        }
    }
    guest.scratch = out;
    give(&mut host, ptr_at, len_at)
}

pub(super) fn proxy_set_header_map_pairs(
    mut host: Host<'_>,
    map: u32,
    pairs: u32,
    len: u32,
) -> Outcome {
    let (memory, guest) = open(&mut host)?;
    let pairs = Pairs::lenient(memory.slice(pairs, len)?, &guest.facts.name);
    let (map, message) = writable(guest, map)?;
    Ok(map.set_all(message, pairs)?)
}

pub(super) fn proxy_get_header_map_value(
    mut host: Host<'_>,
    map: u32,
    key: u32,
    key_len: u32,
    ptr_at: u32,
    len_at: u32,
) -> Outcome {
    let (memory, guest) = open(&mut host)?;
    let key = memory.slice(key, key_len)?;
    check_answer(&memory, ptr_at, len_at)?;
    let mut out = std::mem::take(&mut guest.scratch);
    out.clear();
    let found = match guest.reply.map(map) {
        Some(fields) => Ok(fields.get(key).map(|value| out.extend_from_slice(value)).is_some()),
        None => readable(guest, map).map(|(map, message)| map.get(message, key, &mut out)),
    };
    guest.scratch = out;
    if !found? && !guest.facts.abi.missing_is_empty() {
        return Err(Status::NotFound.into());
    }
    give(&mut host, ptr_at, len_at)
}

pub(super) fn proxy_add_header_map_value(
    mut host: Host<'_>,
    map: u32,
    key: u32,
    key_len: u32,
    value: u32,
    value_len: u32,
) -> Outcome {
    let (memory, guest) = open(&mut host)?;
    let (key, value) = (memory.slice(key, key_len)?, memory.slice(value, value_len)?);
    let (map, message) = writable(guest, map)?;
    Ok(map.add(message, key, value)?)
}

pub(super) fn proxy_replace_header_map_value(
    mut host: Host<'_>,
    map: u32,
    key: u32,
    key_len: u32,
    value: u32,
    value_len: u32,
) -> Outcome {
    let (memory, guest) = open(&mut host)?;
    let (key, value) = (memory.slice(key, key_len)?, memory.slice(value, value_len)?);
    let (map, message) = writable(guest, map)?;
    Ok(map.replace(message, key, value)?)
}

pub(super) fn proxy_remove_header_map_value(
    mut host: Host<'_>,
    map: u32,
    key: u32,
    key_len: u32,
) -> Outcome {
    let (memory, guest) = open(&mut host)?;
    let key = memory.slice(key, key_len)?;
    let (map, message) = writable(guest, map)?;
    Ok(map.remove(message, key)?)
}

pub(super) fn proxy_get_header_map_size(mut host: Host<'_>, map: u32, size_at: u32) -> Outcome {
    let (mut memory, guest) = open(&mut host)?;
    memory.check(size_at, 4)?;
    let bytes = match guest.reply.map(map) {
        Some(fields) => fields.iter().map(|(name, value)| (name.len() + value.len()) as u32).sum(),
        None => {
            let (map, message) = readable(guest, map)?;
            map.byte_len(message)
        }
    };
    memory.write_u32(size_at, bytes)?;
    Ok(())
}

/// A map that can be read now. When all is over, one that never was is only missing: plugins panic
/// on anything else.
fn readable(guest: &Guest, map: u32) -> Result<(Map, &Message), Status> {
    let (phase, end) = (guest.phase(), guest.is_at_end());
    let known = Map::from_number(map).ok_or(Status::BadArgument)?;
    let absent = if phase == Phase::Log { Status::NotFound } else { Status::BadArgument };
    let message = guest.stream_message().ok_or(absent)?;
    if known.is_there(message, phase, end) {
        Ok((known, message))
    } else if phase == Phase::Log && guest.facts.abi.missing_is_empty() {
        Ok((Map::RequestTrailers, message))
    } else {
        Err(absent)
    }
}

/// A map that can be changed now.
fn writable(guest: &mut Guest, map: u32) -> Result<(Map, &mut Message), Status> {
    let (phase, end) = (guest.phase(), guest.is_at_end());
    let known = Map::from_number(map).ok_or(Status::BadArgument)?;
    let message = guest.stream_message_mut().ok_or(Status::BadArgument)?;
    let there = known.is_there(message, phase, end);
    if there && phase != Phase::Log { Ok((known, message)) } else { Err(Status::BadArgument) }
}
