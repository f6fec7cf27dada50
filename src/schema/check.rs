//! Checks of one value: what was expected, what was found.

use super::Fault;
use serde_json::Value;
use std::ops::RangeInclusive;

/// Longer words are never typing mistakes for a key, and distances cost length times length.
const WORD_CHARS_MAX: usize = 64;

/// What one word must have in common with another it begins with.
const BEGINNING_CHARS_MIN: usize = 4;

/// As much of a string as a message shows.
const SHOWN_CHARS_MAX: usize = 40;

/// A value as messages name it: `string "abc"`, `number 1.5`, `a list`.
#[must_use]
pub fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(number) if number.is_f64() => format!("number {number}"),
        Value::Number(number) => format!("integer {number}"),
        Value::String(text) => format!("string {:?}", shown(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// The candidate that `word` was probably meant to be.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    if length > WORD_CHARS_MAX {
        return None;
    }
    let word = folded(word);
    let short = |candidate: &&str| candidate.len() <= WORD_CHARS_MAX;
    let candidates: Vec<_> = candidates.into_iter().filter(short).collect();
    let by_distance = candidates
        .iter()
        .map(|candidate| (strsim::osa_distance(&word, &folded(candidate)), *candidate))
        .filter(|(distance, candidate)| *distance <= length.max(candidate.len()).div_ceil(4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate);
    let begins = |candidate: &&str| {
        let candidate = folded(candidate);
        length.min(candidate.len()) >= BEGINNING_CHARS_MIN
            && (candidate.starts_with(&word) || word.starts_with(&candidate))
    };
    by_distance.or_else(|| candidates.into_iter().find(begins))
}

/// Spellings that users take for the same.
fn folded(word: &str) -> String {
    word.to_lowercase().replace(['-', ' ', '.'], "_")
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

pub(super) fn expected(what: &str, found: &Value) -> Fault {
    Fault::new(format!("expected {what}, found {}", describe(found)))
}

pub(super) fn boolean(value: &Value) -> Result<bool, Fault> {
    let fault = || expected("true or false", value);
    match value {
        Value::Bool(value) => Ok(*value),
        Value::String(text) => Err(match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => fault().hint("write `true`, without quotes"),
            "false" | "no" | "off" => fault().hint("write `false`, without quotes"),
            _ => fault(),
        }),
        _ => Err(fault()),
    }
}

/// Integers, also those written as `1.0`: JSON Schema's notion, which APISIX follows.
pub(super) fn integer(value: &Value, range: &RangeInclusive<i64>) -> Result<i64, Fault> {
    whole(value)
        .filter(|number| range.contains(number))
        .ok_or_else(|| with_number_hint(expected(&integer_words(range), value), value))
}

#[allow(clippy::cast_possible_truncation)]
fn whole(value: &Value) -> Option<i64> {
    // 2^53: above it a float does not say which integer it means.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let float = |number: &f64| number.fract() == 0.0 && number.abs() <= EXACT;
    value.as_i64().or_else(|| value.as_f64().filter(float).map(|number| number as i64))
}

fn integer_words(range: &RangeInclusive<i64>) -> String {
    match (*range.start(), *range.end()) {
        (i64::MIN, i64::MAX) => "an integer".to_owned(),
        (min, i64::MAX) => format!("an integer of at least {min}"),
        (i64::MIN, max) => format!("an integer of at most {max}"),
        (min, max) => format!("an integer from {min} to {max}"),
    }
}

pub(super) fn number(value: &Value, range: &RangeInclusive<f64>) -> Result<f64, Fault> {
    let words = match (*range.start(), *range.end()) {
        (f64::NEG_INFINITY, f64::INFINITY) => "a number".to_owned(),
        (min, f64::INFINITY) => format!("a number of at least {min}"),
        (min, max) => format!("a number from {min} to {max}"),
    };
    value
        .as_f64()
        .filter(|number| range.contains(number))
        .ok_or_else(|| with_number_hint(expected(&words, value), value))
}

pub(super) fn positive(value: &Value) -> Result<f64, Fault> {
    value
        .as_f64()
        .filter(|number| *number > 0.0)
        .ok_or_else(|| with_number_hint(expected("a number above 0", value), value))
}

fn with_number_hint(fault: Fault, value: &Value) -> Fault {
    match value {
        Value::String(text) if text.parse::<f64>().is_ok_and(f64::is_finite) => {
            fault.hint(format!("write `{text}`, without quotes"))
        }
        _ => fault,
    }
}

/// Strings of so many characters.
pub(super) fn string<'a>(
    value: &'a Value,
    lengths: &RangeInclusive<usize>,
) -> Result<&'a str, Fault> {
    let words = || match (*lengths.start(), *lengths.end()) {
        (0, usize::MAX) => "a string".to_owned(),
        (1, usize::MAX) => "a string that is not empty".to_owned(),
        (min, usize::MAX) => format!("a string of at least {min} characters"),
        (min, max) => format!("a string of {min} to {max} characters"),
    };
    let Value::String(text) = value else {
        let fault = expected(&words(), value);
        return Err(match value {
            Value::Bool(_) | Value::Number(_) => fault.hint(format!("write \"{value}\" in quotes")),
            _ => fault,
        });
    };
    let count = text.chars().count();
    if lengths.contains(&count) {
        return Ok(text);
    }
    Err(match count {
        0 => expected(&words(), value),
        _ => Fault::new(format!("expected {}, found one of {count}", words())),
    })
}

pub(super) fn one_of<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Result<T, Fault> {
    let word = value.as_str();
    if let Some((_, choice)) = choices.iter().find(|(name, _)| Some(*name) == word) {
        return Ok(*choice);
    }
    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
    let fault = expected(&alternatives(&names), value);
    Err(match word.and_then(|word| nearest(word, names)) {
        Some(name) => fault.hint(format!("did you mean `{name}`?")),
        None => fault,
    })
}

/// `a`, `a` or `b`, `a`, `b` or `c`.
fn alternatives(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message<T>(result: Result<T, Fault>) -> String {
        let fault = result.err().expect("a fault");
        match fault.hint {
            Some(hint) => format!("{} | {hint}", fault.message),
            None => fault.message,
        }
    }

    #[test]
    fn integers() {
        for (value, range, wanted) in
            [(json!(5), 0..=100, 5), (json!(5.0), 0..=100, 5), (json!(-1), i64::MIN..=i64::MAX, -1)]
        {
            assert_eq!(integer(&value, &range), Ok(wanted));
        }
        for (value, range, wanted) in [
            (json!("abc"), 0..=100, "expected an integer from 0 to 100, found string \"abc\""),
            (
                json!("7"),
                0..=100,
                "expected an integer from 0 to 100, found string \"7\" | write `7`, without quotes",
            ),
            (json!(101), 0..=100, "expected an integer from 0 to 100, found integer 101"),
            (json!(1.5), 1..=i64::MAX, "expected an integer of at least 1, found number 1.5"),
            (json!(1e300), i64::MIN..=i64::MAX, "expected an integer, found number 1e+300"),
            (json!(null), i64::MIN..=9, "expected an integer of at most 9, found nothing"),
            (json!([1]), 0..=1, "expected an integer from 0 to 1, found a list"),
            (
                json!(u64::MAX),
                0..=i64::MAX,
                "expected an integer of at least 0, found integer 18446744073709551615",
            ),
        ] {
            assert_eq!(message(integer(&value, &range)), wanted);
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(number(&json!(0), &(0.0..=f64::INFINITY)), Ok(0.0));
        assert_eq!(positive(&json!(0.25)), Ok(0.25));
        for (result, wanted) in [
            (positive(&json!(0)), "expected a number above 0, found integer 0"),
            (
                number(&json!(-0.5), &(0.0..=f64::INFINITY)),
                "expected a number of at least 0, found number -0.5",
            ),
            (number(&json!(3), &(0.0..=2.5)), "expected a number from 0 to 2.5, found integer 3"),
            (
                number(&json!({}), &(f64::NEG_INFINITY..=f64::INFINITY)),
                "expected a number, found an object",
            ),
        ] {
            assert_eq!(message(result), wanted);
        }
    }

    #[test]
    fn booleans() {
        assert_eq!(boolean(&json!(true)), Ok(true));
        for (value, wanted) in [
            (
                json!("yes"),
                "expected true or false, found string \"yes\" | write `true`, without quotes",
            ),
            (
                json!("Off"),
                "expected true or false, found string \"Off\" | write `false`, without quotes",
            ),
            (json!(1), "expected true or false, found integer 1"),
        ] {
            assert_eq!(message(boolean(&value)), wanted);
        }
    }

    #[test]
    fn strings() {
        assert_eq!(string(&json!("é"), &(1..=1)), Ok("é"));
        let long = "x".repeat(50);
        for (value, lengths, wanted) in [
            (
                json!(7),
                0..=usize::MAX,
                "expected a string, found integer 7 | write \"7\" in quotes".to_owned(),
            ),
            (
                json!(""),
                1..=usize::MAX,
                "expected a string that is not empty, found string \"\"".to_owned(),
            ),
            (
                json!(long),
                1..=40,
                "expected a string of 1 to 40 characters, found one of 50".to_owned(),
            ),
            (
                json!("a"),
                2..=usize::MAX,
                "expected a string of at least 2 characters, found one of 1".to_owned(),
            ),
        ] {
            assert_eq!(message(string(&value, &lengths)), wanted);
        }
        assert_eq!(describe(&json!(long)), format!("string \"{}…\"", "x".repeat(40)));
        assert_eq!(describe(&json!(false)), "`false`");
    }

    #[test]
    fn choices() {
        let choices = [("pass", 1), ("node", 2), ("rewrite", 3)];
        assert_eq!(one_of(&json!("node"), &choices), Ok(2));
        for (value, wanted) in [
            (
                json!("rewrte"),
                "expected `pass`, `node` or `rewrite`, found string \"rewrte\" \
                 | did you mean `rewrite`?",
            ),
            (json!(2), "expected `pass`, `node` or `rewrite`, found integer 2"),
        ] {
            assert_eq!(message(one_of(&value, &choices)), wanted);
        }
        assert_eq!(message(one_of(&json!(1), &[("a", 1)])), "expected `a`, found integer 1");
    }

    #[test]
    fn near_words() {
        let words = ["plugins", "plugin_config_id", "uri", "uris", "upstream", "upstream_id"];
        for (word, wanted) in [
            ("plugin", Some("plugins")),
            ("Uri", Some("uri")),
            ("url", Some("uri")),
            ("upstream-id", Some("upstream_id")),
            ("upsteram", Some("upstream")),
            ("pluginConfigId", Some("plugin_config_id")),
            ("upstreams_of_mine", Some("upstream")),
            ("plugin_conf", Some("plugin_config_id")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, words), wanted, "{word}");
        }
        assert_eq!(nearest(&"u".repeat(10_000), words), None);
    }
}
