//! Regular expressions and what their matches are replaced with, as `ngx.re.sub` reads both
//! (lua-nginx-module, `ngx.re.match`, `ngx.re.sub`).
//!
//! Patterns are those of rules: bytes, ASCII classes, linear time, so no look-around and no
//! back-references.

use super::Variables;
use super::operators::build_regex;
use regex::bytes::{Captures, Regex};
use std::borrow::Cow;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles a pattern; `options` are letters as `ngx.re` takes them: `i` ignores case, `s` lets
    /// `.` match line ends, `m` lets `^` and `$` match at lines, `x` ignores white space, and `j`,
    /// `o`, `u`, `d` are without effect here.
    ///
    /// # Errors
    /// What is wrong with the pattern or with an option.
    pub fn compile(pattern: &str, options: &str) -> Result<Self, String> {
        build_regex(pattern, options).map(Self)
    }

    /// Whether it is found anywhere in `text`.
    #[must_use]
    pub fn is_match(&self, text: &[u8]) -> bool {
        self.0.is_match(text)
    }

    /// The first match with its groups.
    #[must_use]
    pub fn captures<'t>(&self, text: &'t [u8]) -> Option<Groups<'t>> {
        self.0.captures(text).map(Groups)
    }

    /// Appends `text` with its first match replaced, or with all of them; tells whether there was
    /// one. Allocates for the groups.
    pub fn replace(
        &self,
        text: &[u8],
        replacement: &Replacement,
        all: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        let mut from = 0;
        for captures in self.0.captures_iter(text) {
            let Some(whole) = captures.get(0) else { break };
            out.extend_from_slice(&text[from..whole.start()]);
            replacement.write(&Groups(captures), out);
            from = whole.end();
            if !all {
                out.extend_from_slice(&text[from..]);
                return true;
            }
        }
        let found = from > 0 || self.0.is_match(text);
        out.extend_from_slice(&text[from..]);
        found
    }
}

/// The groups of one match, from 0, the whole of it.
#[derive(Debug)]
pub struct Groups<'t>(Captures<'t>);

impl<'t> Groups<'t> {
    /// The text of a group, if it took part in the match.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<&'t [u8]> {
        self.0.get(number).map(|group| group.as_bytes())
    }
}

/// Variables with the groups of a match as `$1`, `$2` … before them.
#[derive(Debug)]
pub struct WithGroups<'a, V: ?Sized> {
    /// The match, if there is one.
    pub groups: Option<&'a Groups<'a>>,
    /// Everything else.
    pub variables: &'a V,
}

impl<V: Variables + ?Sized> Variables for WithGroups<'_, V> {
    fn variable(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        match name.parse() {
            Ok(number) => self.groups?.get(number).map(Cow::Borrowed),
            Err(_) => self.variables.variable(name),
        }
    }

    fn append_variable(&self, name: &str, out: &mut Vec<u8>) -> bool {
        let Ok(number) = name.parse() else { return self.variables.append_variable(name, out) };
        let group = self.groups.and_then(|groups| groups.get(number));
        out.extend_from_slice(group.unwrap_or_default());
        group.is_some()
    }
}

/// What a match is replaced with: text with `$0`, `$1`, `${1}`; `$$` is a dollar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement(Box<[Part]>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Group(usize),
}

impl Replacement {
    /// Compiles a replacement.
    ///
    /// # Errors
    /// A `$` that names no group.
    pub fn compile(text: &str) -> Result<Self, String> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                plain.push('$');
                rest = after;
                continue;
            }
            let (digits, after) = group_name(rest)
                .ok_or_else(|| format!("'$' names no group in the replacement {text:?}"))?;
            let number = digits.parse().map_err(|_| format!("there is no group '{digits}'"))?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(Part::Group(number));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Ok(Self(parts.into()))
    }

    /// Appends the replacement of one match; groups that are not there give nothing.
    pub fn write(&self, groups: &Groups<'_>, out: &mut Vec<u8>) {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Group(number) => {
                    out.extend_from_slice(groups.get(*number).unwrap_or_default());
                }
            }
        }
    }
}

/// The digits after a `$`, perhaps in braces, and what follows them.
fn group_name(rest: &str) -> Option<(&str, &str)> {
    if let Some(inner) = rest.strip_prefix('{') {
        let end = inner.find('}')?;
        let digits = &inner[..end];
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        return is_number.then(|| (digits, &inner[end + 1..]));
    }
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    (end > 0).then(|| rest.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_are_replaced() {
        let table: [(&str, &str, &str, bool, &str, bool); 10] = [
            ("^/a/(.*)/(.*)", "/$2-$1", "/a/b/c", false, "/c-b", true),
            ("^/x", "/y", "/a/x", false, "/a/x", false),
            ("b", "<$0>", "abab", false, "a<b>ab", true),
            ("b", "<${0}>", "abab", true, "a<b>a<b>", true),
            ("b", "$$1", "ab", true, "a$1", true),
            ("(b)|(c)", "[$1$2$3]", "bc", true, "[b][c]", true),
            ("", "-", "ab", true, "-a-b-", true),
            ("^", ">", "ab", false, ">ab", true),
            (r"\d+", "", "a12b3", true, "ab", true),
            ("é", "e", "café", true, "cafe", true),
        ];
        for (pattern, replacement, text, all, expected, found) in table {
            let compiled = Pattern::compile(pattern, "jo").expect(pattern);
            let replacement = Replacement::compile(replacement).expect(replacement);
            let mut out = b"+".to_vec();
            assert_eq!(compiled.replace(text.as_bytes(), &replacement, all, &mut out), found);
            assert_eq!(String::from_utf8_lossy(&out[1..]), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn options_are_those_of_ngx_re() {
        let is_match = |pattern, options, text: &str| {
            Pattern::compile(pattern, options).expect(pattern).is_match(text.as_bytes())
        };
        assert!(is_match("ABC", "jio", "xabc") && !is_match("ABC", "jo", "xabc"));
        assert!(is_match("a.b", "s", "a\nb") && !is_match("a.b", "", "a\nb"));
        assert!(is_match("^b", "m", "a\nb") && !is_match("^b", "", "a\nb"));
        assert!(is_match("a b", "x", "ab"));
        assert!(Pattern::compile("a", "q").expect_err("unknown").contains("option 'q'"));
        assert!(Pattern::compile("(", "").expect_err("unclosed").contains("unclosed group"));
        assert!(Pattern::compile("(?=a)", "").expect_err("look-around").contains("linear time"));
    }

    #[test]
    fn replacements_name_groups() {
        for bad in ["$", "a$b", "${}", "${1", "${a}", "$ 1", "$99999999999999999999999"] {
            assert!(Replacement::compile(bad).is_err(), "{bad}");
        }
        assert_eq!(Replacement::compile("").map(|r| r.0.len()), Ok(0));
    }

    #[test]
    fn groups_stand_before_variables() {
        let pattern = Pattern::compile("^/(a)/(b)?", "").expect("a pattern");
        let variables = [("name", "jack"), ("2", "never")];
        let groups = pattern.captures(b"/a/");
        let with = WithGroups { groups: groups.as_ref(), variables: &variables };
        let text = |name: &str| with.variable(name).map(|v| String::from_utf8_lossy(&v).into());
        assert_eq!(text("1"), Some("a".to_owned()));
        assert_eq!((text("2"), text("9"), text("name")), (None, None, Some("jack".to_owned())));
        let mut out = Vec::new();
        let found = ["1", "2", "9", "name", "x"].map(|name| with.append_variable(name, &mut out));
        assert_eq!((found, &out[..]), ([true, false, false, true, false], &b"ajack"[..]));
    }
}
