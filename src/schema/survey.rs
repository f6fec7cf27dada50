//! JSON Schema of what readers accept, found out by letting them read.
//!
//! The readers are the one description of a document there is, so the schema is asked of them: they
//! read made-up documents, hundreds of times, in which every place holds another kind of value each
//! time. What they ask for at a place (`integer(0..=100)`), which kinds they take as they are, and
//! which they call wrong, becomes the schema of that place.
//!
//! ```text
//! pass 1   routes ─ [ ─ priority: "x"   asked for an integer
//! pass 2   routes ─ [ ─ vm_config: {}   taken as it is          ─► {"type": ["string", "object"]}
//! pass 3   routes ─ [ ─ vm_config: 1    called wrong
//! ```
//!
//! A schema says less than the readers do (it knows no hosts, times, or keys that exclude each
//! other), but never calls wrong what they accept.

use super::{Path, Problem, Problems, Reader};
use rustc_hash::{FxHashMap, FxHasher};
use serde_json::{Map, Value, json};
use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;

/// How often a document is read at most, and how often without learning anything new. What has not
/// come up by then is left open.
const PASSES_MAX: u64 = 5_000;
const PASSES_IDLE: u64 = 400;

/// Deeper places are left open: documents that nest without end are read, too.
const DEPTH_MAX: usize = 14;

/// One place in this many is empty.
const ABSENT_ONE_IN: u64 = 8;

/// Stands for any key in the path of a member.
const MEMBER: &str = "*";

/// Kinds of values, as JSON Schema calls them.
const KINDS: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

/// Which of them comes up. Strings have many faces, and what has others inside is rarely reached.
const DICE: [usize; 13] = [0, 1, 2, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6];

/// How the schema of a document is written.
#[derive(Clone, Copy, Debug)]
pub struct Style<'a> {
    /// The schema's title.
    pub title: &'a str,
    /// Words that some reader takes as a string: without one of them no string seems right.
    pub words: &'a [&'a str],
    /// Keys that readers look for in an object before they say what it is.
    pub keys: &'a [&'a str],
    /// Whether members that are null count as missing.
    pub nulls: bool,
}

/// The JSON Schema (draft 2020-12) of the documents that `read` accepts.
#[must_use]
pub fn survey(style: Style<'_>, mut read: impl FnMut(Reader<'_>)) -> Value {
    let problems = Problems { survey: Some(Survey::new(&style)), ..Problems::new() };
    let Some(survey) = &problems.survey else { return Value::Null };
    for pass in 0..PASSES_MAX {
        if pass > survey.learned.get() + PASSES_IDLE {
            break;
        }
        survey.pass.set(pass);
        read(Reader::new(survey.sample(&Path::root()), Path::root(), &problems));
        survey.conclude();
        problems.errors.borrow_mut().clear();
        problems.warnings.borrow_mut().clear();
    }
    let places = survey.places.borrow();
    let mut schema = Writer { places: &places, nulls: style.nulls }.schema(&Path::root());
    if let Value::Object(schema) = &mut schema {
        let head = [("$schema", "https://json-schema.org/draft/2020-12/schema")];
        for (at, (key, value)) in head.into_iter().chain([("title", style.title)]).enumerate() {
            schema.shift_insert(at, key.to_owned(), value.into());
        }
        schema.insert("$defs".to_owned(), json!({ "variable": variable() }));
    }
    schema
}

/// `${{NAME}}`, which may stand for any scalar.
fn variable() -> Value {
    json!({
        "description": "the value of an environment variable",
        "type": "string",
        "pattern": r"\$\{\{.*\}\}",
    })
}

/// What readers have asked for so far.
#[derive(Debug)]
pub(super) struct Survey {
    pass: Cell<u64>,
    /// The last pass that learned something.
    learned: Cell<u64>,
    samples: [Vec<Value>; KINDS.len()],
    words: Vec<Value>,
    places: RefCell<FxHashMap<Path, Place>>,
    /// What this pass came to, place by place.
    visits: RefCell<FxHashMap<Path, Visit>>,
}

/// One thing a reader can ask for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Asked {
    Boolean,
    Integer(RangeInclusive<i64>),
    Number(RangeInclusive<f64>),
    Positive,
    Text(RangeInclusive<usize>),
    Word(Vec<String>),
    List(RangeInclusive<usize>),
    Object,
}

#[derive(Debug, Default)]
struct Place {
    asked: Vec<Asked>,
    /// Which kinds stood here once, and which were taken as they were.
    seen: [bool; KINDS.len()],
    taken: [bool; KINDS.len()],
    note: Option<String>,
    keys: Vec<Member>,
    /// Readers reported unknown keys here; or let them be.
    closed: bool,
    open: bool,
    objects: u64,
    has_members: bool,
}

#[derive(Debug)]
struct Member {
    name: &'static str,
    needed: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Visit {
    kind: usize,
    asked: bool,
    wrong: bool,
}

impl Survey {
    fn new(style: &Style<'_>) -> Self {
        let words: Vec<Value> = style.words.iter().copied().map(Value::from).collect();
        let objects = style.keys.iter().map(|key| json!({ *key: {} }));
        let samples = [
            vec![Value::Null],
            vec![false.into(), true.into()],
            vec![0.into(), 1.into(), 7.into()],
            vec![1.5.into()],
            words.clone(),
            vec![json!(["x"]), json!([])],
            [json!({ "x": "x" })].into_iter().chain(objects).collect(),
        ];
        let (places, visits) = Default::default();
        Self { pass: Cell::new(0), learned: Cell::new(0), samples, words, places, visits }
    }

    /// A number for a place, another one in every pass.
    fn dice(&self, at: &Path, salt: u64) -> u64 {
        let mut hasher = FxHasher::default();
        (at, self.pass.get(), salt).hash(&mut hasher);
        // That hash alone is no dice: neighbours fall alike (the finish is splitmix64's).
        let mut number = hasher.finish();
        number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        number ^ (number >> 31)
    }

    /// The value that stands at a place in this pass.
    pub(super) fn sample(&self, at: &Path) -> &Value {
        let kind = DICE[(self.dice(at, 0) % DICE.len() as u64) as usize];
        let mut visits = self.visits.borrow_mut();
        let kind = visits.entry(at.clone()).or_insert(Visit { kind, ..Visit::default() }).kind;
        let samples = &self.samples[kind];
        &samples[(self.dice(at, 1) % samples.len() as u64) as usize]
    }

    /// A reader asks for something.
    pub(super) fn ask(&self, at: &Path, asked: Asked) {
        if let Some(visit) = self.visits.borrow_mut().get_mut(at) {
            visit.asked = true;
        }
        let mut places = self.places.borrow_mut();
        let place = places.entry(at.clone()).or_default();
        place.objects += u64::from(asked == Asked::Object);
        if !place.asked.contains(&asked) {
            place.asked.push(asked);
            self.learned.set(self.pass.get());
        }
    }

    /// A reader looks for a key. `None`: it is not there in this pass.
    pub(super) fn key(&self, object: &Path, name: &'static str) -> Option<&Value> {
        let mut places = self.places.borrow_mut();
        let keys = &mut places.entry(object.clone()).or_default().keys;
        if !keys.iter().any(|member| member.name == name) {
            keys.push(Member { name, needed: 0 });
            self.learned.set(self.pass.get());
        }
        drop(places);
        let at = object.key(name);
        let absent = self.dice(&at, 2).is_multiple_of(ABSENT_ONE_IN);
        (!absent && at.steps().len() <= DEPTH_MAX).then(|| self.sample(&at))
    }

    /// A reader can't do without a key it looked for.
    pub(super) fn need(&self, object: &Path, name: &str) {
        let mut places = self.places.borrow_mut();
        let keys = &mut places.entry(object.clone()).or_default().keys;
        if let Some(member) = keys.iter_mut().find(|member| member.name == name) {
            member.needed += 1;
        }
    }

    /// The one member that stands for all where any name will do.
    pub(super) fn member(&self, object: &Path) -> Option<(&str, Path, &Value)> {
        let at = object.key(MEMBER);
        if at.steps().len() > DEPTH_MAX {
            return None;
        }
        self.places.borrow_mut().entry(object.clone()).or_default().has_members = true;
        let name = self.word(&at);
        let value = self.sample(&at);
        Some((name, at, value))
    }

    /// The element that stands for all of a list.
    pub(super) fn element(&self, list: &Path) -> Option<(Path, &Value)> {
        let at = list.index(0);
        (at.steps().len() <= DEPTH_MAX).then(|| {
            let value = self.sample(&at);
            (at, value)
        })
    }

    /// What a reader does with keys it did not ask for.
    pub(super) fn unknown_keys(&self, object: &Path, are_wrong: bool) {
        let mut places = self.places.borrow_mut();
        let place = places.entry(object.clone()).or_default();
        place.closed |= are_wrong;
        place.open |= !are_wrong;
    }

    pub(super) fn wrong(&self, problem: &Problem) {
        if let Some(visit) = self.visits.borrow_mut().get_mut(&problem.at) {
            visit.wrong = true;
        }
    }

    pub(super) fn warned(&self, problem: &Problem) {
        if problem.on_key {
            let mut places = self.places.borrow_mut();
            let note = &mut places.entry(problem.at.clone()).or_default().note;
            note.get_or_insert_with(|| problem.message.clone());
        }
    }

    /// A string for a reader that wants one.
    pub(super) fn word(&self, at: &Path) -> &str {
        let word = self.words.get((self.dice(at, 3) % self.words.len().max(1) as u64) as usize);
        word.and_then(Value::as_str).unwrap_or_default()
    }

    /// An index below `count`.
    pub(super) fn pick(&self, at: &Path, count: usize) -> usize {
        (self.dice(at, 4) % count.max(1) as u64) as usize
    }

    fn conclude(&self) {
        let mut places = self.places.borrow_mut();
        for (at, visit) in self.visits.borrow_mut().drain() {
            let place = places.entry(at).or_default();
            let taken = !visit.asked && !visit.wrong;
            let known = (place.seen[visit.kind], place.taken[visit.kind]);
            place.seen[visit.kind] = true;
            place.taken[visit.kind] |= taken;
            if known != (true, place.taken[visit.kind]) {
                self.learned.set(self.pass.get());
            }
        }
    }
}

struct Writer<'a> {
    places: &'a FxHashMap<Path, Place>,
    nulls: bool,
}

impl Writer<'_> {
    fn schema(&self, at: &Path) -> Value {
        let Some(place) = self.places.get(at) else { return Value::Bool(true) };
        let all = |kinds: &[bool]| kinds.iter().all(|kind| *kind);
        // Too deep, or too seldom seen, to say anything of it.
        if !all(&place.seen) {
            return Value::Bool(true);
        }
        if all(&place.taken) && place.asked.is_empty() {
            return match &place.note {
                Some(note) => json!({ "description": note, "deprecated": true }),
                None => Value::Bool(true),
            };
        }
        let mut any: Vec<Value> =
            place.asked.iter().map(|asked| self.asked(asked, place, at)).collect();
        any.extend(taken(place));
        let scalar = |value: &Value| {
            value.get("enum").is_some()
                || !matches!(value["type"].as_str(), Some("array" | "object"))
        };
        if any.iter().any(scalar) {
            any.push(json!({ "$ref": "#/$defs/variable" }));
        }
        if self.nulls && !at.steps().is_empty() && !any.is_empty() {
            any.push(json!({ "type": "null" }));
        }
        match any.len() {
            0 => Value::Bool(false),
            1 => any.remove(0),
            _ => json!({ "anyOf": any }),
        }
    }

    fn asked(&self, asked: &Asked, place: &Place, at: &Path) -> Value {
        let mut schema = Map::new();
        let mut put = |key: &str, value: Value| schema.insert(key.to_owned(), value);
        match asked {
            Asked::Boolean => drop(put("type", "boolean".into())),
            Asked::Integer(range) => {
                put("type", "integer".into());
                [("minimum", *range.start(), i64::MIN), ("maximum", *range.end(), i64::MAX)]
                    .into_iter()
                    .filter(|(_, bound, open)| bound != open)
                    .for_each(|(key, bound, _)| drop(put(key, bound.into())));
            }
            Asked::Number(range) => {
                put("type", "number".into());
                [("minimum", *range.start()), ("maximum", *range.end())]
                    .into_iter()
                    .filter(|(_, bound)| bound.is_finite())
                    .for_each(|(key, bound)| drop(put(key, bound.into())));
            }
            Asked::Positive => {
                put("type", "number".into());
                put("exclusiveMinimum", 0.into());
            }
            Asked::Text(range) => {
                put("type", "string".into());
                bounds(range, ["minLength", "maxLength"], put);
            }
            Asked::Word(words) => drop(put("enum", json!(words))),
            Asked::List(range) => {
                put("type", "array".into());
                put("items", self.schema(&at.index(0)));
                bounds(range, ["minItems", "maxItems"], put);
            }
            Asked::Object => return self.object(place, at),
        }
        Value::Object(schema)
    }

    fn object(&self, place: &Place, at: &Path) -> Value {
        let of_key = |key: &Member| (key.name.to_owned(), self.schema(&at.key(key.name)));
        let properties: Map<String, Value> = place.keys.iter().map(of_key).collect();
        let needed = place.keys.iter().filter(|key| key.needed >= place.objects);
        let needed: Vec<&str> = needed.map(|key| key.name).collect();
        let others = match (place.has_members, place.closed && !place.open) {
            (true, _) => self.schema(&at.key(MEMBER)),
            (false, closed) => Value::Bool(!closed),
        };
        let mut schema = json!({ "type": "object" });
        if !properties.is_empty() {
            schema["properties"] = Value::Object(properties);
        }
        if !needed.is_empty() {
            schema["required"] = json!(needed);
        }
        if others != Value::Bool(true) {
            schema["patternProperties"] = json!({ r"\$\{\{": true });
            schema["additionalProperties"] = others;
        }
        schema
    }
}

/// The kinds that are right whatever they hold.
fn taken(place: &Place) -> Option<Value> {
    let mut kinds: Vec<&str> =
        KINDS.iter().zip(place.taken).filter_map(|(kind, taken)| taken.then_some(*kind)).collect();
    if kinds.contains(&"number") {
        kinds.retain(|kind| *kind != "integer");
    }
    match kinds.len() {
        0 => None,
        1 => Some(json!({ "type": kinds[0] })),
        _ => Some(json!({ "type": kinds })),
    }
}

fn bounds(
    range: &RangeInclusive<usize>,
    [least, most]: [&str; 2],
    mut put: impl FnMut(&str, Value) -> Option<Value>,
) {
    if *range.start() > 0 {
        put(least, (*range.start()).into());
    }
    if *range.end() < usize::MAX {
        put(most, (*range.end()).into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&str; 3] = ["x", "auto", "7s"];

    fn schema(read: impl FnMut(Reader<'_>)) -> Value {
        let mut schema = survey(Style { title: "t", words: &WORDS, keys: &[], nulls: false }, read);
        let schema = schema.as_object_mut().expect("an object");
        for key in ["$schema", "title", "$defs"] {
            assert!(schema.shift_remove(key).is_some(), "{key}");
        }
        Value::Object(std::mem::take(schema))
    }

    #[test]
    fn what_is_asked_for_is_the_schema() {
        let schema = schema(|reader| {
            let Some(mut object) = reader.object() else { return };
            let _ = object.need("port").and_then(|port| port.integer(1..=65_535));
            let _ = object.boolean("on");
            let _ = object.one_of("kind", &[("a", 1), ("b", 2)]);
            let _ = object.get("tags").and_then(|r| r.list_of(1..=9, |tag| tag.string(0..=5)));
            let mut inner = object.section("inner");
            let _ = inner.number("ratio", 0.0..=f64::INFINITY);
            inner.allow_unknown();
            let _ = object.get("nodes").and_then(Reader::object).map(|nodes| {
                nodes.members().for_each(|(_, weight)| {
                    let _ = weight.integer(0..=i64::MAX);
                });
            });
            object.finish();
        });
        let variable = json!({ "$ref": "#/$defs/variable" });
        let properties = json!({
            "port": { "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": 65_535 }, variable] },
            "on": { "anyOf": [{ "type": "boolean" }, variable] },
            "kind": { "anyOf": [{ "enum": ["a", "b"] }, variable] },
            "tags": { "type": "array", "minItems": 1, "maxItems": 9, "items":
                { "anyOf": [{ "type": "string", "maxLength": 5 }, variable] } },
            "inner": { "type": "object", "properties": { "ratio":
                { "anyOf": [{ "type": "number", "minimum": 0.0 }, variable] } } },
            "nodes": { "type": "object", "patternProperties": { r"\$\{\{": true },
                "additionalProperties":
                    { "anyOf": [{ "type": "integer", "minimum": 0 }, variable] } },
        });
        assert_eq!(schema["properties"], properties);
        assert_eq!(schema["required"], json!(["port"]));
        assert_eq!(schema["additionalProperties"], json!(false));
    }

    #[test]
    fn what_is_looked_at_is_tried_with_every_kind() {
        let schema = schema(|reader| {
            let Some(mut object) = reader.object() else { return };
            if let Some(text) = object.get("text") {
                match text.value() {
                    Value::String(_) | Value::Object(_) => {}
                    _ => text.expected("a string or an object"),
                }
            }
            if let Some(listen) = object.get("listen") {
                match listen.value() {
                    Value::Array(_) => {
                        let entry = |entry: Reader<'_>| match entry.value() {
                            Value::Object(_) => entry.object()?.integer("port", 0..=9),
                            _ => entry.integer(0..=9),
                        };
                        let _ = listen.list_of(1..=usize::MAX, entry);
                    }
                    Value::String(word) if word == "auto" => {}
                    _ => {
                        let _ = listen.integer(0..=9);
                    }
                }
            }
            if let Some(old) = object.get("old").filter(|old| !old.value().is_null()) {
                old.warn_on_key("`old` has no effect");
            }
            if let Some(lua) = object.get("lua") {
                lua.error_on_key("no Lua here");
            }
            object.finish();
        });
        let of = |key: &str| schema["properties"][key].clone();
        assert_eq!(
            of("text"),
            json!({ "anyOf": [{ "type": ["string", "object"] },
            { "$ref": "#/$defs/variable" }] })
        );
        assert_eq!(of("old"), json!({ "description": "`old` has no effect", "deprecated": true }));
        assert_eq!(of("lua"), json!(false));
        let listen = of("listen").to_string();
        for part in [r#""properties":{"port":"#, r#"{"type":"string"}"#, "minItems"] {
            assert!(listen.contains(part), "{part}: {listen}");
        }
    }

    #[test]
    fn documents_without_end_are_left_open_somewhere() {
        fn read(reader: Reader<'_>) {
            let Some(mut object) = reader.object() else { return };
            let _ = object.boolean("on");
            object.get("again").into_iter().for_each(read);
            object.finish();
        }
        let text = schema(read).to_string();
        assert!(text.contains(r#""again":true"#), "{text}");
    }
}
