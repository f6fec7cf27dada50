//! Fields that several kinds of resources have.

use super::super::model::Timeout;
use crate::expr::parse_network;
use crate::schema::{Fault, Object, Reader};
use ipnet::IpNet;
use serde_json::Value;
use std::collections::HashSet;
use std::time::Duration;

/// An id: a string of `[a-zA-Z0-9-_.]`, or an integer from 1, which becomes a string.
pub(super) fn id(object: &mut Object<'_>, key: &'static str) -> Option<String> {
    let reader = object.get(key)?;
    match reader.value() {
        Value::Number(_) => reader.integer(1..=i64::MAX).map(|id| id.to_string()),
        Value::String(_) => {
            let id = reader.string(1..=64)?;
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if !id.chars().all(fits) {
                reader.error(format!("the id {id:?} may only have letters, digits, `-`, `_`, `.`"));
                return None;
            }
            Some(id.to_owned())
        }
        _ => {
            reader.expected("a string or an integer of at least 1");
            None
        }
    }
}

/// `name`, and with it `desc`, which nobody reads.
pub(super) fn name(object: &mut Object<'_>) -> Option<String> {
    let _ = object.string("desc", 0..=256);
    object.string("name", 1..=256).map(str::to_owned)
}

/// `create_time`, `update_time` and `modifiedIndex`: what an export of APISIX carries.
pub(super) fn times(object: &mut Object<'_>) {
    for key in ["create_time", "update_time", "modifiedIndex"] {
        let _ = object.integer(key, 0..=i64::MAX);
    }
}

/// `labels`: names to strings without white space.
pub(super) fn labels(object: &mut Object<'_>) -> Vec<(String, String)> {
    let Some(labels) = object.get("labels").and_then(Reader::object) else { return Vec::new() };
    let label = |(name, reader): (&str, Reader<'_>)| {
        let text = reader.string(1..=256)?;
        if text.contains(char::is_whitespace) {
            reader.error("labels have no white space");
        }
        Some((name.to_owned(), text.to_owned()))
    };
    labels.members().filter_map(label).collect()
}

/// Keys whose value is Lua source.
pub(super) fn refuse_lua(object: &mut Object<'_>, keys: &[&'static str]) {
    for key in keys {
        if let Some(reader) = object.get(key) {
            reader.error_on_key(
                Fault::new(format!("`{key}` needs Lua, which is not supported yet"))
                    .hint("write it as a plugin in WebAssembly"),
            );
        }
    }
}

/// A list of host patterns, lower case.
pub(super) fn hosts(object: &mut Object<'_>, key: &'static str) -> Vec<String> {
    object.get(key).and_then(|reader| unique(&reader, 1, host)).unwrap_or_default()
}

/// A host pattern: `*`, a name, or a name after a leading `*`; hosts are matched in lower case.
pub(super) fn host(reader: &Reader<'_>) -> Option<String> {
    let text = reader.string(1..=usize::MAX)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
    let rest = text.strip_prefix('*').unwrap_or(text);
    if !rest.chars().all(fits) {
        let fault = Fault::new(format!("{text:?} is not a host"));
        reader.error(match rest.contains('*') {
            true => fault.hint("a `*` may only stand first: `*.example.com`"),
            false => fault.hint("a host is a name or an address, as in `*.example.com`"),
        });
        return None;
    }
    Some(text.to_ascii_lowercase())
}

/// An address or a network; an address is a network of itself.
pub(super) fn network(reader: &Reader<'_>) -> Option<IpNet> {
    let text = reader.string(1..=usize::MAX)?;
    let network = parse_network(text);
    if network.is_none() {
        let fault = Fault::new(format!("{text:?} is not an address or a network"));
        reader.error(fault.hint("as in `10.1.2.3`, `10.0.0.0/8` or `fd00::/8`"));
    }
    network
}

/// A list of at least so many strings, each there once.
pub(super) fn unique<'a, T>(
    reader: &Reader<'a>,
    least: usize,
    mut read: impl FnMut(&Reader<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let mut seen = HashSet::new();
    reader.list_of(least..=usize::MAX, |element| {
        if let Value::String(text) = element.value()
            && !seen.insert(text)
        {
            element.error(format!("{text:?} is there twice"));
        }
        read(&element)
    })
}

/// What `one` or the list `many` names; both is a problem.
pub(super) fn one_or_many<T>(
    object: &mut Object<'_>,
    one: &'static str,
    many: &'static str,
    read: fn(&Reader<'_>) -> Option<T>,
) -> Vec<T> {
    let single = object.get(one);
    let list = object.get(many);
    if let (Some(_), Some(list)) = (&single, &list) {
        let fault = Fault::new(format!("`{one}` and `{many}` exclude each other"));
        list.error_on_key(fault.hint(format!("put all of them in `{many}`")));
    }
    let mut read_all: Vec<T> = single.iter().filter_map(read).collect();
    read_all.extend(list.and_then(|list| unique(&list, 1, read)).unwrap_or_default());
    read_all
}

/// `timeout`: all three, in seconds.
pub(super) fn timeout(object: &mut Object<'_>) -> Option<Timeout> {
    let mut object = object.get("timeout")?.object()?;
    let mut part = |key| object.need(key).and_then(|reader| seconds(&reader, reader.positive()?));
    let (connect, send, read) = (part("connect"), part("send"), part("read"));
    object.finish();
    Some(Timeout { connect: connect?, send: send?, read: read? })
}

/// A number of seconds as a duration; a year is the most.
pub(super) fn seconds(reader: &Reader<'_>, seconds: f64) -> Option<Duration> {
    const YEAR_SECONDS: f64 = 365.0 * 24.0 * 60.0 * 60.0;
    if seconds > YEAR_SECONDS {
        reader.error("expected at most a year, 31536000 seconds");
        return None;
    }
    // No timeout rounds to zero: that would mean something else.
    Duration::try_from_secs_f64(seconds).ok().map(|duration| match seconds {
        0.0 => Duration::ZERO,
        _ => duration.max(Duration::from_millis(1)),
    })
}
