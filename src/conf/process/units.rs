//! nginx's times and sizes.

use crate::schema::{Fault, Object, Reader};
use serde_json::Value;
use std::time::Duration;

/// Longest time a setting may name: a year.
const SECONDS_MAX: u64 = 365 * 24 * 60 * 60;

/// Units of time, long to short, in milliseconds.
const TIMES: [(&str, u64); 7] = [
    ("y", 365 * 24 * 60 * 60 * 1000),
    ("M", 30 * 24 * 60 * 60 * 1000),
    ("w", 7 * 24 * 60 * 60 * 1000),
    ("d", 24 * 60 * 60 * 1000),
    ("h", 60 * 60 * 1000),
    ("m", 60 * 1000),
    ("s", 1000),
];

/// The time `key` names, if it is there; `zero` tells whether it may be none at all.
pub(super) fn time(object: &mut Object<'_>, key: &'static str, zero: bool) -> Option<Duration> {
    let reader = object.get(key)?;
    let time = text(&reader).and_then(|text| parse_time(&text));
    if time.is_none() {
        let fault = check_failed(&reader, "a time");
        reader.error(fault.hint("as in `60s`, `1m30s`, `500ms`, or a number of seconds"));
    }
    let time = time?;
    if time.is_zero() && !zero {
        reader.error("expected a time above zero");
    }
    if time > Duration::from_secs(SECONDS_MAX) {
        reader.error("expected at most a year");
    }
    Some(time)
}

/// The number of bytes `key` names, if it is there.
pub(super) fn size(object: &mut Object<'_>, key: &'static str) -> Option<u64> {
    let reader = object.get(key)?;
    let size = text(&reader).and_then(|text| parse_size(&text));
    if size.is_none() {
        let fault = check_failed(&reader, "a size");
        reader.error(fault.hint("as in `8k`, `1m`, `2g`, or a number of bytes"));
    }
    size
}

fn check_failed(reader: &Reader<'_>, what: &str) -> Fault {
    Fault::new(format!("expected {what}, found {}", crate::schema::describe(reader.value())))
}

fn text(reader: &Reader<'_>) -> Option<String> {
    match reader.value() {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

/// Numbers with units from long to short, each once; a last number without a unit is seconds.
fn parse_time(text: &str) -> Option<Duration> {
    let mut milliseconds: u64 = 0;
    let mut rest = text;
    let mut units: &[(&str, u64)] = &TIMES;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        if matches!(unit, "" | "ms") {
            let factor = if unit.is_empty() { 1000 } else { 1 };
            milliseconds = milliseconds.checked_add(number.checked_mul(factor)?)?;
            return Some(Duration::from_millis(milliseconds));
        }
        let at = units.iter().position(|(name, _)| unit.starts_with(name))?;
        milliseconds = milliseconds.checked_add(number.checked_mul(units[at].1)?)?;
        units = &units[at + 1..];
        rest = &unit[1..];
    }
    (!text.is_empty()).then(|| Duration::from_millis(milliseconds))
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, factor) = match text.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G']) {
        None => (text, 1),
        Some(number) => match text.as_bytes().last()?.to_ascii_lowercase() {
            b'k' => (number, 1 << 10),
            b'm' => (number, 1 << 20),
            _ => (number, 1 << 30),
        },
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| number.parse::<u64>().ok()?.checked_mul(factor)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, wanted) in [
            ("60s", Some(60_000)),
            ("1m30s", Some(90_000)),
            ("1m30", Some(90_000)),
            ("500ms", Some(500)),
            ("1s500ms", Some(1_500)),
            ("0", Some(0)),
            ("75", Some(75_000)),
            ("1y1M1w1d1h1m1s1ms", Some(34_822_861_001)),
            ("", None),
            ("s", None),
            ("30s1m", None),
            ("1m1m", None),
            ("1.5s", None),
            ("-1", None),
            ("1 m", None),
            ("1x", None),
            ("99999999999999999999s", None),
            ("9999999999999999999y", None),
        ] {
            assert_eq!(parse_time(text), wanted.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("8k", Some(8 << 10)),
            ("1M", Some(1 << 20)),
            ("2g", Some(2 << 30)),
            ("k", None),
            ("", None),
            ("1kb", None),
            ("+1", None),
            ("1.5m", None),
            ("99999999999999999g", None),
        ] {
            assert_eq!(parse_size(text), wanted, "{text}");
        }
    }
}
