//! One document's text, and the environment variables in it.
//!
//! APISIX replaces `${{VAR}}` and `${{VAR:=default}}` in `apisix.yaml` before parsing and in
//! `config.yaml` after it (reference §1, §2.1; there `apisix/core/config_yaml.lua` and
//! `apisix/cli/file.lua`). Positions are always those of the text as the user wrote it.

use std::borrow::Cow;
use std::ops::Range;

/// A document as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What messages call it, `conf/apisix.yaml`.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// A document of that name.
    #[must_use]
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }
}

/// Looks up an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// `${{VAR}}` or `${{VAR:=default}}` in a text.
#[derive(Debug, PartialEq, Eq)]
struct Placeholder<'a> {
    range: Range<usize>,
    name: &'a str,
    default: Option<&'a str>,
}

impl Placeholder<'_> {
    fn value(&self, env: Env<'_>) -> Option<String> {
        env(self.name).or_else(|| self.default.map(str::to_owned))
    }
}

/// A variable without a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) range: Range<usize>,
    pub(super) name: String,
}

/// A text with its variables replaced, and the way back.
#[derive(Debug)]
pub(super) struct Expanded {
    pub(super) text: String,
    pub(super) missing: Vec<Missing>,
    /// Where pieces of the new text came from, in order.
    pieces: Vec<(Range<usize>, Range<usize>)>,
}

impl Expanded {
    /// The offset in the old text for one in the new.
    pub(super) fn original(&self, offset: usize) -> usize {
        let before = self.pieces.partition_point(|(new, _)| new.start <= offset);
        match before.checked_sub(1).map(|last| &self.pieces[last]) {
            None => offset,
            Some((new, old)) if new.contains(&offset) => old.start,
            Some((new, old)) => offset - new.end + old.end,
        }
    }
}

/// Replaces every variable of a text. Lines that are comments are left alone, so that a variable
/// nobody uses need not be set; a missing one leaves `x`es of its length.
pub(super) fn expand(text: &str, env: Env<'_>) -> Expanded {
    let mut expanded = Expanded { text: String::new(), missing: Vec::new(), pieces: Vec::new() };
    let mut copied = 0;
    for placeholder in placeholders(text) {
        let Range { start, end } = placeholder.range.clone();
        if in_comment(text, start) {
            continue;
        }
        let value = placeholder.value(env).unwrap_or_else(|| {
            let name = placeholder.name.to_owned();
            expanded.missing.push(Missing { range: start..end, name });
            mask(&text[start..end]).into_owned()
        });
        expanded.text.push_str(&text[copied..start]);
        let new = expanded.text.len()..expanded.text.len() + value.len();
        expanded.text.push_str(&value);
        expanded.pieces.push((new, start..end));
        copied = end;
    }
    expanded.text.push_str(&text[copied..]);
    expanded
}

/// A string of `config.yaml` with its variables replaced; `None` if it has none.
pub(super) fn substitute(text: &str, env: Env<'_>) -> Option<Result<String, String>> {
    let mut result = String::new();
    let mut copied = 0;
    for placeholder in placeholders(text) {
        let Some(value) = placeholder.value(env) else {
            return Some(Err(placeholder.name.to_owned()));
        };
        result.push_str(&text[copied..placeholder.range.start]);
        result.push_str(&value);
        copied = placeholder.range.end;
    }
    result.push_str(&text[copied..]);
    (copied > 0).then_some(Ok(result))
}

/// The text with each variable as `x`es of the same number of characters: it has the structure of
/// the expanded text and the positions of the original.
pub(super) fn mask(text: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut copied = 0;
    for Placeholder { range, .. } in placeholders(text) {
        masked.push_str(&text[copied..range.start]);
        masked.extend(text[range.clone()].chars().map(|_| 'x'));
        copied = range.end;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    masked.push_str(&text[copied..]);
    Cow::Owned(masked)
}

fn placeholders(text: &str) -> impl Iterator<Item = Placeholder<'_>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let start = from + text[from..].find("${{")?;
            let inner = start + "${{".len();
            from = inner;
            let line = text[inner..].split('\n').next().unwrap_or_default();
            let Some(length) = line.find("}}") else { continue };
            let content = line[..length].trim();
            if !content.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
                continue;
            }
            from = inner + length + "}}".len();
            let (name, default) = match content.split_once(":=") {
                Some((name, default)) => (name.trim(), Some(default.trim())),
                None => (content, None),
            };
            return Some(Placeholder { range: start..from, name, default });
        }
    })
}

fn in_comment(text: &str, offset: usize) -> bool {
    let line = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
    text[line..offset].trim_start().starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("9080".to_owned()),
            "LINES" => Some("a\nb".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced() {
        for (text, wanted) in [
            ("port: ${{PORT}}", "port: 9080"),
            ("port: ${{ PORT }}!", "port: 9080!"),
            ("${{NONE:=7}}${{PORT:=1}}", "79080"),
            ("${{NONE:=}}|${{EMPTY}}|", "||"),
            ("{a: {b: ${{NONE := x y }}}}", "{a: {b: x y}}"),
            ("${PORT} ${{-}} ${{PORT} ${{", "${PORT} ${{-}} ${{PORT} ${{"),
            ("${{PORT\n}}", "${{PORT\n}}"),
            ("a: 1\n  # ${{NONE}} and ${{PORT}}\n", "a: 1\n  # ${{NONE}} and ${{PORT}}\n"),
        ] {
            let expanded = expand(text, &env);
            assert_eq!((expanded.text.as_str(), &expanded.missing[..]), (wanted, &[][..]));
        }
    }

    #[test]
    fn missing_variables_are_named() {
        let expanded = expand("é ${{NONE}} ${{PORT}}", &env);
        assert_eq!(expanded.text, "é xxxxxxxxx 9080");
        assert_eq!(expanded.missing, [Missing { range: 3..12, name: "NONE".to_owned() }]);
        assert_eq!(substitute("a", &env), None);
        assert_eq!(substitute("a${{PORT}}b", &env), Some(Ok("a9080b".to_owned())));
        assert_eq!(substitute("${{NONE}}", &env), Some(Err("NONE".to_owned())));
    }

    #[test]
    fn offsets_find_their_way_back() {
        let text = "a ${{PORT}} b ${{LINES}} c";
        let expanded = expand(text, &env);
        assert_eq!(expanded.text, "a 9080 b a\nb c");
        for (new, old) in [(0, 0), (1, 1), (2, 2), (5, 2), (6, 11), (7, 12), (9, 14), (13, 25)] {
            assert_eq!(expanded.original(new), old, "{new}");
        }
    }

    #[test]
    fn masks_keep_every_position() {
        let text = "a: ${{PORT:=é}} b\n";
        assert_eq!(mask(text), "a: xxxxxxxxxxxx b\n");
        assert!(matches!(mask("plain"), Cow::Borrowed("plain")));
    }
}
