//! What differs between two documents, by the path of each field.

use serde_json::{Map, Value};
use std::fmt;

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The field, `plugins.limit-count.count`; empty for the whole.
    pub field: String,
    /// What it was; `None`: it was not there.
    pub old: Option<Value>,
    /// What it is now; `None`: it is gone.
    pub new: Option<Value>,
}

/// All differences between two values, in the order of the new one, with what is gone last.
#[must_use]
pub fn changes(old: &Value, new: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    compare(String::new(), Some(old), Some(new), &mut found);
    found
}

impl Change {
    /// The fields it consists of: those of a section that came or went as a whole.
    #[must_use]
    pub fn fields(&self) -> Vec<String> {
        let nothing = Value::Object(Map::new());
        let (old, new) = match (&self.old, &self.new) {
            (None, Some(new @ Value::Object(_))) => (&nothing, new),
            (Some(old @ Value::Object(_)), None) => (old, &nothing),
            _ => return vec![self.field.clone()],
        };
        let mut below = Vec::new();
        compare(self.field.clone(), Some(old), Some(new), &mut below);
        below.iter().flat_map(Self::fields).collect()
    }
}

fn compare(field: String, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Change>) {
    if old == new {
        return;
    }
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let gone = old.keys().filter(|key| !new.contains_key(*key));
            for key in new.keys().chain(gone) {
                let dot = if field.is_empty() { "" } else { "." };
                compare(format!("{field}{dot}{key}"), old.get(key), new.get(key), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) if old.len() == new.len() => {
            for (index, pair) in old.iter().zip(new).enumerate() {
                compare(format!("{field}[{index}]"), Some(pair.0), Some(pair.1), found);
            }
        }
        _ => found.push(Change { field, old: old.cloned(), new: new.cloned() }),
    }
}

/// The items of a collection by their ids; those without one have APISIX's `arr_<n>`.
#[must_use]
pub fn by_id(resources: &Value, collection: &str) -> Map<String, Value> {
    let items = resources[collection].as_array().into_iter().flatten().enumerate();
    let id = |(index, item): (usize, &Value)| {
        let named = ["id", "username"].iter().find_map(|key| match &item[*key] {
            Value::String(id) => Some(id.clone()),
            Value::Number(id) => Some(id.to_string()),
            _ => None,
        });
        (named.unwrap_or_else(|| format!("arr_{}", index + 1)), item.clone())
    };
    items.map(id).collect()
}

/// The longest value that is shown whole.
const SHOWN_CHARS_MAX: usize = 60;

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Value| {
            let text = value.to_string();
            match text.char_indices().nth(SHOWN_CHARS_MAX) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        };
        write!(f, "{}: ", self.field)?;
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, "{} → {}", shown(old), shown(new)),
            (None, Some(new)) => write!(f, "now {}", shown(new)),
            (Some(old), None) => write!(f, "no longer {}", shown(old)),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_named() {
        let old = json!({"a": 1, "b": {"c": [1, 2], "d": [1]}, "gone": "x", "same": {}});
        let new = json!({"a": 1, "b": {"c": [1, 3], "d": [1, 2]}, "new": null, "same": {}});
        let shown: Vec<String> = changes(&old, &new).iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["b.c[1]: 2 → 3", "b.d: [1] → [1,2]", "new: now null", "gone: no longer \"x\""]
        );
        assert!(changes(&new, &new).is_empty());
    }

    #[test]
    fn sections_that_come_and_go_have_fields() {
        let (old, new) = (json!({"a": 1}), json!({"a": 1, "b": {"c": {"d": 1}, "e": [{}]}}));
        for (one, other) in [(&old, &new), (&new, &old)] {
            let changes = changes(one, other);
            assert_eq!(changes.len(), 1);
            assert_eq!(changes[0].fields(), ["b.c.d", "b.e"]);
        }
    }

    #[test]
    fn items_have_ids() {
        let resources = json!({"routes": [{"id": 7}, {"uri": "/"}, {"id": "x"}], "consumers":
            [{"username": "jack"}]});
        let ids = |name| by_id(&resources, name).keys().cloned().collect::<Vec<_>>();
        assert_eq!(ids("routes"), ["7", "arr_2", "x"]);
        assert_eq!(ids("consumers"), ["jack"]);
        assert!(ids("services").is_empty());
    }
}
