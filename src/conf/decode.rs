//! YAML or JSON text to a JSON value.
//!
//! `serde_yaml` reads it; this file decides what it may say: no repeated keys, no tags, no numbers
//! JSON does not have, merge keys (`<<`) applied, and an end to what aliases repeat. JSON is YAML.

use crate::schema::{Fault, Path, Problem};
use serde::de::{DeserializeSeed, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::{Cell, RefCell};
use std::fmt;

/// What a value counts towards the bound of a document; a string counts its bytes as well.
const VALUE_COST: usize = 16;

/// What a document may count beyond sixteen times its length. A document without aliases never
/// counts more than about nine times its length, so only aliases can reach the bound: it stops
/// those that repeat each other until memory is gone.
const COST_MIN: usize = 1024 * 1024;

/// A document that could be decoded, perhaps with problems.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) value: Value,
    /// Values that JSON can't say; they are null in `value`.
    pub(super) problems: Vec<Problem>,
    /// Keys that are in their map already; the first one counts.
    pub(super) repeated: Vec<Repeated>,
}

/// A key that its map has already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repeated {
    pub(super) at: Path,
    /// How many times the key was there before.
    pub(super) nth: usize,
}

/// A document that could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// Line and column from 1, if known.
    pub(super) position: Option<(usize, usize)>,
    pub(super) fault: Fault,
    /// There is a second document; it begins where `position` does not say.
    pub(super) second_document: bool,
}

/// Decodes a document.
pub(super) fn decode(text: &str) -> Result<Decoded, SyntaxError> {
    let budget = COST_MIN + text.len().saturating_mul(VALUE_COST);
    let state = State {
        left: Cell::new(budget),
        problems: RefCell::default(),
        repeated: RefCell::default(),
    };
    let seed = Seed { state: &state, trail: &Trail { parent: None, step: None } };
    let value = match seed.deserialize(serde_yaml::Deserializer::from_str(text)) {
        Ok(value) => value,
        Err(error) => return Err(syntax_error(text, &error)),
    };
    let (problems, repeated) = (state.problems.into_inner(), state.repeated.into_inner());
    Ok(Decoded { value, problems, repeated })
}

/// What `serde_yaml` says, in our form: `… at line 2 column 3, while parsing … at line 1 column 1`.
fn syntax_error(text: &str, error: &serde_yaml::Error) -> SyntaxError {
    let said = error.to_string();
    let mut position = error.location().map(|place| (place.line(), place.column()));
    let (message, rest) = said.split_once(" at line ").unwrap_or((&said, ""));
    let (message, offset) = match message.split_once(" at position ") {
        Some((message, offset)) => (message, offset.parse().ok()),
        None => (message, None),
    };
    if let Some(offset) = offset.filter(|offset| text.is_char_boundary(*offset)) {
        let before = &text[..offset];
        let line = before.rsplit('\n').next().unwrap_or_default();
        position = Some((before.matches('\n').count() + 1, line.chars().count() + 1));
    }
    let second_document = message.contains("more than one document");
    let message = if second_document { "more than one YAML document" } else { message };
    let line = position.and_then(|(line, _)| text.lines().nth(line - 1)).unwrap_or_default();
    let mut fault = Fault::new(message);
    if message.contains("cannot start any token") && line.trim_start_matches(' ').starts_with('\t')
    {
        fault = fault.hint("indent with spaces, not with tabs");
    } else if let Some((_, context)) = rest.split_once(", ") {
        let context = context.replace(" at line ", " that begins at line ");
        fault = fault.hint(context.replace("the next token that begins", "the next token"));
    }
    SyntaxError { position, fault, second_document }
}

/// What all visitors of a document share.
struct State {
    left: Cell<usize>,
    problems: RefCell<Vec<Problem>>,
    repeated: RefCell<Vec<Repeated>>,
}

/// The way from the root, on the stack: a path costs nothing until there is a problem.
struct Trail<'a> {
    parent: Option<&'a Trail<'a>>,
    step: Option<TrailStep<'a>>,
}

enum TrailStep<'a> {
    Key(&'a str),
    Index(usize),
}

impl Trail<'_> {
    fn path(&self) -> Path {
        let parent = self.parent.map(Self::path).unwrap_or_default();
        match self.step {
            None => parent,
            Some(TrailStep::Key(key)) => parent.key(key),
            Some(TrailStep::Index(index)) => parent.index(index),
        }
    }
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    state: &'a State,
    trail: &'a Trail<'a>,
}

impl Seed<'_> {
    fn spend<E: Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.state.left.get().checked_sub(VALUE_COST + bytes);
        let left = left.ok_or_else(|| E::custom("aliases make the document too large"))?;
        self.state.left.set(left);
        Ok(())
    }

    fn problem(self, fault: Fault) -> Value {
        self.state.problems.borrow_mut().push(Problem::new(self.trail.path(), fault));
        Value::Null
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        self.deserialize(from)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.spend(0)?;
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.spend(0)?;
        Ok(value.into())
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        self.spend(0)?;
        Ok(self.problem(too_large(&value.to_string())))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        self.spend(0)?;
        Ok(self.problem(too_large(&value.to_string())))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.spend(0)?;
        let fault = || Fault::new("numbers must be finite");
        Ok(Number::from_f64(value).map_or_else(|| self.problem(fault()), Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.spend(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut list = Vec::new();
        loop {
            let step = Some(TrailStep::Index(list.len()));
            let trail = Trail { parent: Some(self.trail), step };
            let seed = Seed { state: self.state, trail: &trail };
            match elements.next_element_seed(seed)? {
                Some(element) => list.push(element),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut map = Map::new();
        let mut again: Vec<String> = Vec::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            self.spend::<A::Error>(key.len())?;
            let trail = Trail { parent: Some(self.trail), step: Some(TrailStep::Key(&key)) };
            let value = entries.next_value_seed(Seed { state: self.state, trail: &trail })?;
            if map.contains_key(&key) {
                let nth = again.iter().filter(|other| **other == key).count() + 1;
                self.state.repeated.borrow_mut().push(Repeated { at: trail.path(), nth });
                again.push(key);
            } else {
                map.insert(key, value);
            }
        }
        merge(&mut map);
        Ok(Value::Object(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        let (tag, content) = tagged.variant_seed(Key)?;
        content.newtype_variant_seed(self)?;
        let tag = tag.trim_start_matches('!');
        Ok(self.problem(Fault::new(format!("the tag `!{tag}` means nothing here"))))
    }
}

fn too_large(number: &str) -> Fault {
    Fault::new(format!("the number {number} is too large"))
}

/// Applies the merge key: members of the maps under `<<` that are not there yet.
fn merge(map: &mut Map<String, Value>) {
    let mergeable = |value: &Value| match value {
        Value::Object(_) => true,
        Value::Array(list) => list.iter().all(Value::is_object),
        _ => false,
    };
    if !map.get("<<").is_some_and(mergeable) {
        return;
    }
    let maps = match map.shift_remove("<<") {
        Some(Value::Array(maps)) => maps,
        one => one.into_iter().collect(),
    };
    for (key, value) in maps.into_iter().filter_map(into_object).flatten() {
        map.entry(key).or_insert(value);
    }
}

fn into_object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

/// A key: any scalar, as written.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<String, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is a string")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<String, E> {
        Ok(key.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn good(text: &str) -> Value {
        let decoded = decode(text).expect("no syntax error");
        assert_eq!((decoded.problems, decoded.repeated), (vec![], vec![]), "{text}");
        decoded.value
    }

    #[test]
    fn yaml_and_json_are_values() {
        for (text, wanted) in [
            ("", json!(null)),
            ("# nothing\n#END\n", json!(null)),
            (
                "a: 1\nb: [x, 2.5, true, ~, yes]\n",
                json!({"a": 1, "b": ["x", 2.5, true, null, "yes"]}),
            ),
            ("{\"a\": {\"b\": \"1\\u00e9\"}}", json!({"a": {"b": "1é"}})),
            (
                "1: x\ntrue: y\n1.10: z\n~: n\n",
                json!({"1": "x", "true": "y", "1.10": "z", "~": "n"}),
            ),
            ("nodes: {127.0.0.1:1980: 1}", json!({"nodes": {"127.0.0.1:1980": 1}})),
            ("a: &x {k: 1}\nb: *x\n", json!({"a": {"k": 1}, "b": {"k": 1}})),
            (
                "a: &x {k: 1, l: 2}\nb: {<<: *x, k: 3}\n",
                json!({"a": {"k": 1, "l": 2}, "b": {"k": 3, "l": 2}}),
            ),
            ("b: {<<: [{k: 1}, {k: 2, l: 2}], m: 3}\n", json!({"b": {"m": 3, "k": 1, "l": 2}})),
            ("b: {<<: 1}", json!({"b": {"<<": 1}})),
            ("a: !!str 1", json!({"a": "1"})),
            ("id: 00000000000000000018", json!({"id": "00000000000000000018"})),
            ("s: |\n  x\n  y\n", json!({"s": "x\ny\n"})),
        ] {
            assert_eq!(good(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_json_cannot_say_is_a_problem() {
        let text = "a: [.nan, 1]\nb: -.inf\nc: !secret x\nd: 99999999999999999999999\n";
        let decoded = decode(text).expect("no syntax error");
        let said: Vec<_> =
            decoded.problems.iter().map(|p| format!("{}: {}", p.at, p.message)).collect();
        let wanted = [
            "a[0]: numbers must be finite",
            "b: numbers must be finite",
            "c: the tag `!secret` means nothing here",
            "d: the number 99999999999999999999999 is too large",
        ];
        assert_eq!(said, wanted);
        assert_eq!(decoded.value, json!({"a": [null, 1], "b": null, "c": null, "d": null}));
    }

    #[test]
    fn repeated_keys_are_found_and_the_first_one_counts() {
        let decoded = decode("r: [{a: 1, a: 2, b: 3, 'a': 4}]\n").expect("no syntax error");
        assert_eq!(decoded.value, json!({"r": [{"a": 1, "b": 3}]}));
        let at = Path::root().key("r").index(0).key("a");
        let wanted = [Repeated { at: at.clone(), nth: 1 }, Repeated { at, nth: 2 }];
        assert_eq!(decoded.repeated, wanted);
    }

    #[test]
    fn syntax_errors_have_a_position() {
        for (text, line, column, message, hint) in [
            ("a: b: c", 1, 5, "mapping values are not allowed in this context", None),
            (
                "a:\n\t- b\n",
                2,
                1,
                "found character that cannot start any token",
                Some("indent with spaces, not with tabs"),
            ),
            (
                "a: {b: 1\nc: 2",
                2,
                2,
                "did not find expected ',' or '}'",
                Some("while parsing a flow mapping that begins at line 1 column 4"),
            ),
            ("a: *x", 1, 4, "unknown anchor", None),
            ("é\nab\u{7}", 2, 3, "control characters are not allowed", None),
            ("? [a]\n: 1", 1, 3, "invalid type: sequence, expected a key that is a string", None),
            ("a: &a [*a]\n", 1, 4, "recursion limit exceeded", None),
        ] {
            let error = decode(text).expect_err(text);
            let SyntaxError { position, fault, second_document } = error;
            assert!(!second_document);
            assert_eq!(fault.message, message);
            assert_eq!(position, Some((line, column)), "{text}");
            assert_eq!(fault.hint.as_deref(), hint, "{text}");
        }
        assert!(decode("a: 1\n---\nb: 1\n").is_err_and(|error| error.second_document));
    }

    #[test]
    fn aliases_cannot_fill_memory() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            laughs.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        let wide = format!("a: &a {:?}\nb: [{}]\n", "x".repeat(100_000), "*a, ".repeat(10_000));
        for text in [laughs, wide] {
            let error = decode(&text).expect_err("a bomb");
            assert!(
                ["aliases make the document too large", "repetition limit exceeded"]
                    .iter()
                    .any(|wanted| error.fault.message.ends_with(wanted)),
                "{error:?}"
            );
        }
    }

    #[test]
    fn deep_nesting_is_an_error() {
        assert!(decode(&"[".repeat(100_000)).is_err());
        assert!(decode(&format!("{}{}", "[".repeat(500), "]".repeat(500))).is_err());
        assert!(decode(&"- ".repeat(10_000)).is_err());
    }
}
