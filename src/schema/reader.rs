//! Readers: a value or an object at its path, and where to put what is wrong with it.

use super::check;
use super::survey::{Asked, Survey};
use super::{Fault, Path, Problem, Problems};
use serde_json::{Map, Value};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// As many keys as a hint lists.
const LISTED_KEYS_MAX: usize = 12;

/// A value to be read. What does not fit becomes a problem and is read as `None`.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    value: &'a Value,
    at: Path,
    problems: &'a Problems,
}

impl<'a> Reader<'a> {
    /// Reads `value`, which stands at `at`.
    #[must_use]
    pub fn new(value: &'a Value, at: Path, problems: &'a Problems) -> Self {
        Self { value, at, problems }
    }

    /// The value as it is.
    #[must_use]
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// Where the value stands.
    #[must_use]
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Where problems go.
    #[must_use]
    pub fn problems(&self) -> &'a Problems {
        self.problems
    }

    /// The value is wrong.
    pub fn error(&self, fault: impl Into<Fault>) {
        self.problems.error(Problem::new(self.at.clone(), fault));
    }

    /// The key of the value is wrong.
    pub fn error_on_key(&self, fault: impl Into<Fault>) {
        self.problems.error(Problem::new(self.at.clone(), fault).on_key());
    }

    /// The user should know something about this key.
    pub fn warn_on_key(&self, fault: impl Into<Fault>) {
        self.problems.warn(Problem::new(self.at.clone(), fault).on_key());
    }

    /// The user should know something about this value.
    pub fn warn(&self, fault: impl Into<Fault>) {
        self.problems.warn(Problem::new(self.at.clone(), fault));
    }

    /// The value is not `what`.
    pub fn expected(&self, what: impl Display) {
        self.error(check::expected(&what.to_string(), self.value));
    }

    /// `true` or `false`.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        self.ask(|| Asked::Boolean);
        self.keep(check::boolean(self.value), |survey| survey.pick(&self.at, 2) == 1)
    }

    /// An integer in `range`.
    #[must_use]
    pub fn integer(&self, range: RangeInclusive<i64>) -> Option<i64> {
        self.ask(|| Asked::Integer(range.clone()));
        self.keep(check::integer(self.value, &range), |_| 1.clamp(*range.start(), *range.end()))
    }

    /// A number in `range`.
    #[must_use]
    pub fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        self.ask(|| Asked::Number(range.clone()));
        self.keep(check::number(self.value, &range), |_| 1_f64.clamp(*range.start(), *range.end()))
    }

    /// A number above 0.
    #[must_use]
    pub fn positive(&self) -> Option<f64> {
        self.ask(|| Asked::Positive);
        self.keep(check::positive(self.value), |_| 1.0)
    }

    /// A string of so many characters.
    #[must_use]
    pub fn string(&self, lengths: RangeInclusive<usize>) -> Option<&'a str> {
        self.ask(|| Asked::Text(lengths.clone()));
        self.keep(check::string(self.value, &lengths), |survey| survey.word(&self.at))
    }

    /// One of these words.
    #[must_use]
    pub fn one_of<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        self.ask(|| Asked::Word(choices.iter().map(|(name, _)| (*name).to_owned()).collect()));
        let any = |survey: &Survey| choices[survey.pick(&self.at, choices.len())].1;
        self.keep(check::one_of(self.value, choices), any)
    }

    /// A list of so many elements.
    #[must_use]
    pub fn list(&self, lengths: RangeInclusive<usize>) -> Option<Vec<Reader<'a>>> {
        if let Some(survey) = &self.problems.survey {
            // As many as asked for, all at the same place.
            let count = (*lengths.start()).max(1);
            survey.ask(&self.at, Asked::List(lengths));
            let (at, value) = survey.element(&self.at)?;
            return Some(vec![Self::new(value, at, self.problems); count]);
        }
        let Value::Array(elements) = self.value else {
            self.expected("a list");
            return None;
        };
        if !lengths.contains(&elements.len()) {
            let wanted = match (*lengths.start(), *lengths.end()) {
                (1, usize::MAX) => "a list that is not empty".to_owned(),
                (min, usize::MAX) => format!("a list of at least {min} elements"),
                (min, max) => format!("a list of {min} to {max} elements"),
            };
            self.error(format!("expected {wanted}, found one of {}", elements.len()));
            return None;
        }
        let reader = |(index, value)| Self::new(value, self.at.index(index), self.problems);
        Some(elements.iter().enumerate().map(reader).collect())
    }

    /// What `read` makes of each element of a list of so many; elements that do not fit are left
    /// out.
    pub fn list_of<T>(
        &self,
        lengths: RangeInclusive<usize>,
        read: impl FnMut(Reader<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        Some(self.list(lengths)?.into_iter().filter_map(read).collect())
    }

    /// An object.
    #[must_use]
    pub fn object(self) -> Option<Object<'a>> {
        self.ask(|| Asked::Object);
        if self.problems.survey.is_some() {
            return Some(Object {
                map: None,
                at: self.at,
                problems: self.problems,
                known: Vec::new(),
            });
        }
        let Value::Object(map) = self.value else {
            self.expected("an object");
            return None;
        };
        Some(Object { map: Some(map), at: self.at, problems: self.problems, known: Vec::new() })
    }

    fn ask(&self, asked: impl FnOnce() -> Asked) {
        if let Some(survey) = &self.problems.survey {
            survey.ask(&self.at, asked());
        }
    }

    /// The value, or a problem; in a survey something that fits all the same.
    fn keep<T>(
        &self,
        result: Result<T, Fault>,
        made_up: impl FnOnce(&'a Survey) -> T,
    ) -> Option<T> {
        match (result, &self.problems.survey) {
            (Ok(value), _) => Some(value),
            (Err(_), Some(survey)) => Some(made_up(survey)),
            (Err(fault), None) => {
                self.error(fault);
                None
            }
        }
    }
}

/// An object to be read key by key. [`Object::finish`] reports the keys nobody asked for.
#[derive(Debug)]
pub struct Object<'a> {
    /// `None` for a section that is not there.
    map: Option<&'a Map<String, Value>>,
    at: Path,
    problems: &'a Problems,
    known: Vec<&'static str>,
}

impl<'a> Object<'a> {
    /// Where the object stands.
    #[must_use]
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Whether the key is there. Does not count as asking for it.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        if let Some(survey) = &self.problems.survey {
            return survey.pick(&self.at.key(key), 2) == 1;
        }
        self.map.is_some_and(|map| map.contains_key(key))
    }

    /// The object is wrong as a whole.
    pub fn error(&self, fault: impl Into<Fault>) {
        self.problems.error(Problem::new(self.at.clone(), fault));
    }

    /// The user should know something about the object.
    pub fn warn(&self, fault: impl Into<Fault>) {
        self.problems.warn(Problem::new(self.at.clone(), fault));
    }

    /// The member `key`, if it is there.
    #[must_use]
    pub fn get(&mut self, key: &'static str) -> Option<Reader<'a>> {
        let value = self.value(key)?;
        Some(Reader::new(value, self.at.key(key), self.problems))
    }

    /// The member `key`; a problem if it is not there.
    #[must_use]
    pub fn need(&mut self, key: &'static str) -> Option<Reader<'a>> {
        let reader = self.get(key);
        if let Some(survey) = &self.problems.survey {
            survey.need(&self.at, key);
        }
        if reader.is_none() {
            self.error(format!("missing key `{key}`{}", self.place()));
        }
        reader
    }

    /// The member `key` as an object; one without members if it is not there.
    #[must_use]
    pub fn section(&mut self, key: &'static str) -> Self {
        let object = self.get(key).and_then(Reader::object);
        let (at, problems) = (self.at.key(key), self.problems);
        object.unwrap_or(Self { map: None, at, problems, known: Vec::new() })
    }

    /// `true` or `false`, if it is there.
    #[must_use]
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        if self.problems.survey.is_some() {
            return self.get(key)?.boolean();
        }
        let result = check::boolean(self.value(key)?);
        self.keep(key, result)
    }

    /// An integer in `range`, if it is there.
    #[must_use]
    pub fn integer(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        if self.problems.survey.is_some() {
            return self.get(key)?.integer(range);
        }
        let result = check::integer(self.value(key)?, &range);
        self.keep(key, result)
    }

    /// A number in `range`, if it is there.
    #[must_use]
    pub fn number(&mut self, key: &'static str, range: RangeInclusive<f64>) -> Option<f64> {
        if self.problems.survey.is_some() {
            return self.get(key)?.number(range);
        }
        let result = check::number(self.value(key)?, &range);
        self.keep(key, result)
    }

    /// A string of so many characters, if it is there.
    #[must_use]
    pub fn string(&mut self, key: &'static str, lengths: RangeInclusive<usize>) -> Option<&'a str> {
        if self.problems.survey.is_some() {
            return self.get(key)?.string(lengths);
        }
        let result = check::string(self.value(key)?, &lengths);
        self.keep(key, result)
    }

    /// One of these words, if it is there.
    #[must_use]
    pub fn one_of<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        if self.problems.survey.is_some() {
            return self.get(key)?.one_of(choices);
        }
        let result = check::one_of(self.value(key)?, choices);
        self.keep(key, result)
    }

    /// All members with their keys, in the order written, whatever they are called.
    pub fn members(&self) -> impl Iterator<Item = (&'a str, Reader<'a>)> {
        let reader = |value, key: &str| Reader::new(value, self.at.key(key), self.problems);
        let members = self.map.into_iter().flatten();
        let made_up = self.problems.survey.as_ref().and_then(|survey| survey.member(&self.at));
        let made_up =
            made_up.map(|(name, at, value)| (name, Reader::new(value, at, self.problems)));
        members.map(move |(key, value)| (key.as_str(), reader(value, key))).chain(made_up)
    }

    /// Reports every key nobody asked for, with the nearest key that somebody did ask for.
    pub fn finish(self) {
        if let Some(survey) = &self.problems.survey {
            return survey.unknown_keys(&self.at, true);
        }
        let keys = self.map.into_iter().flat_map(Map::keys);
        for key in keys.filter(|key| !self.known.contains(&key.as_str())) {
            let fault = Fault::new(format!("unknown key `{key}`{}", self.place()));
            let fault = match check::nearest(key, self.known.iter().copied()) {
                Some(near) => fault.hint(format!("did you mean `{near}`?")),
                None if self.known.len() <= LISTED_KEYS_MAX => {
                    fault.hint(format!("keys here: {}", self.known.join(", ")))
                }
                None => fault,
            };
            self.problems.error(Problem::new(self.at.key(key), fault).on_key());
        }
    }

    /// Ends the reading without a look at unknown keys.
    pub fn allow_unknown(self) {
        if let Some(survey) = &self.problems.survey {
            survey.unknown_keys(&self.at, false);
        }
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        if let Some(survey) = &self.problems.survey {
            return survey.key(&self.at, key);
        }
        self.map?.get(key)
    }

    fn keep<T>(&self, key: &str, result: Result<T, Fault>) -> Option<T> {
        let fault = match result {
            Ok(value) => return Some(value),
            Err(fault) => fault,
        };
        self.problems.error(Problem::new(self.at.key(key), fault));
        None
    }

    /// ` in routes[0]`, or nothing for the document.
    fn place(&self) -> String {
        match self.at.steps() {
            [] => String::new(),
            _ => format!(" in {}", self.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn listed(problems: Problems) -> Vec<String> {
        let (errors, warnings) = problems.into_parts();
        assert!(warnings.is_empty());
        let shown = |problem: &Problem| {
            let key = if problem.on_key { " (key)" } else { "" };
            let hint = problem.hint.as_ref().map(|hint| format!(" | {hint}")).unwrap_or_default();
            format!("{}{key}: {}{hint}", problem.at, problem.message)
        };
        errors.iter().map(shown).collect()
    }

    #[test]
    fn a_good_object_has_no_problems() {
        let value = json!({"name": "a", "port": 80, "on": true, "ratio": 0.5, "kind": "b",
            "tags": ["x", "y"], "inner": {"k": 1}});
        let problems = Problems::new();
        let mut object = Reader::new(&value, Path::root(), &problems).object().expect("object");
        assert_eq!(object.string("name", 1..=10), Some("a"));
        assert_eq!(object.integer("port", 1..=65_535), Some(80));
        assert_eq!(object.boolean("on"), Some(true));
        assert_eq!(object.number("ratio", 0.0..=1.0), Some(0.5));
        assert_eq!(object.one_of("kind", &[("a", 1), ("b", 2)]), Some(2));
        let tags = object.need("tags").and_then(|r| r.list_of(1..=2, |tag| tag.string(1..=1)));
        assert_eq!(tags, Some(vec!["x", "y"]));
        let inner = object.get("inner").and_then(Reader::object).expect("inner");
        let members: Vec<_> = inner.members().map(|(key, r)| (key, r.at().to_string())).collect();
        assert_eq!(members, [("k", "inner.k".to_owned())]);
        inner.allow_unknown();
        assert_eq!(object.section("gone").boolean("on"), None);
        assert_eq!(object.section("gone").at().to_string(), "gone");
        assert!(object.get("absent").is_none() && !object.has("absent"));
        object.finish();
        assert_eq!(listed(problems), [""; 0]);
    }

    #[test]
    fn all_problems_are_kept() {
        let value = json!({"naem": "a", "port": "80", "on": "on", "tags": ["x", 2], "list": [],
            "zzz": null, "inner": 3});
        let problems = Problems::new();
        let at = Path::root().key("routes").index(0);
        let mut object = Reader::new(&value, at, &problems).object().expect("object");
        assert!(object.need("name").is_none());
        assert_eq!(object.integer("port", 1..=65_535), None);
        assert_eq!(object.boolean("on"), None);
        let tags = object.need("tags").and_then(|r| r.list_of(0..=9, |tag| tag.string(1..=1)));
        assert_eq!(tags, Some(vec!["x"]));
        assert!(object.need("list").and_then(|r| r.list(1..=usize::MAX)).is_none());
        assert!(object.need("inner").and_then(Reader::object).is_none());
        object.finish();
        let wanted = [
            "routes[0]: missing key `name` in routes[0]",
            "routes[0].port: expected an integer from 1 to 65535, found string \"80\" \
             | write `80`, without quotes",
            "routes[0].on: expected true or false, found string \"on\" \
             | write `true`, without quotes",
            "routes[0].tags[1]: expected a string of 1 to 1 characters, found integer 2 \
             | write \"2\" in quotes",
            "routes[0].list: expected a list that is not empty, found one of 0",
            "routes[0].inner: expected an object, found integer 3",
            "routes[0].naem (key): unknown key `naem` in routes[0] | did you mean `name`?",
            "routes[0].zzz (key): unknown key `zzz` in routes[0] \
             | keys here: name, port, on, tags, list, inner",
        ];
        assert_eq!(listed(problems), wanted);
    }
}
