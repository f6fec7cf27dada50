//! Changing part of a value: PATCH with and without a sub-path.

use serde_json::{Map, Value};

/// Merges an object into a value: members replace members, objects are merged, null removes
/// (RFC 7386, as APISIX's PATCH does it).
pub(super) fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *into = patch;
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    if let Value::Object(members) = into {
        for (key, value) in patch {
            if value.is_null() {
                members.shift_remove(&key);
            } else {
                merge(members.entry(key).or_insert(Value::Null), value);
            }
        }
    }
}

/// Puts a value at a path of keys and of indices from 0; null removes what is there. Objects on
/// the way are made.
///
/// # Errors
/// The path leads through what is neither object nor array, or beyond an array's end.
pub(super) fn put_at(into: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let steps: Vec<&str> = path.split('/').filter(|step| !step.is_empty()).collect();
    let Some((last, way)) = steps.split_last() else {
        *into = value;
        return Ok(());
    };
    let mut place = into;
    for step in way {
        place = match place {
            Value::Object(members) => {
                members.entry((*step).to_owned()).or_insert_with(|| Value::Object(Map::new()))
            }
            Value::Array(list) => {
                index(step).and_then(|at| list.get_mut(at)).ok_or_else(|| invalid(path))?
            }
            _ => return Err(invalid(path)),
        };
    }
    match (place, value) {
        (Value::Object(members), Value::Null) => drop(members.shift_remove(*last)),
        (Value::Object(members), value) => drop(members.insert((*last).to_owned(), value)),
        (Value::Array(list), value) => {
            let at = index(last).filter(|at| *at <= list.len()).ok_or_else(|| invalid(path))?;
            match (value, at == list.len()) {
                (Value::Null, true) => return Err(invalid(path)),
                (Value::Null, false) => drop(list.remove(at)),
                (value, true) => list.push(value),
                (value, false) => list[at] = value,
            }
        }
        _ => return Err(invalid(path)),
    }
    Ok(())
}

fn index(step: &str) -> Option<usize> {
    step.parse().ok()
}

fn invalid(path: &str) -> String {
    format!("invalid sub-path: {path}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_merged() {
        let mut value = json!({"a": {"b": 1, "c": 2}, "d": [1, 2], "e": 3});
        merge(&mut value, json!({"a": {"b": null, "x": {"y": 1}}, "d": [3], "n": {"z": null}}));
        assert_eq!(value, json!({"a": {"c": 2, "x": {"y": 1}}, "d": [3], "e": 3, "n": {}}));
    }

    #[test]
    fn values_go_to_their_path() {
        let value = json!({"a": {"b": 1}, "d": [1, 2]});
        for (path, put, wanted) in [
            ("a/b", json!(2), Ok(json!({"a": {"b": 2}, "d": [1, 2]}))),
            ("a", json!({}), Ok(json!({"a": {}, "d": [1, 2]}))),
            ("x/y", json!(1), Ok(json!({"a": {"b": 1}, "d": [1, 2], "x": {"y": 1}}))),
            ("d/2", json!(3), Ok(json!({"a": {"b": 1}, "d": [1, 2, 3]}))),
            ("d/0", json!(null), Ok(json!({"a": {"b": 1}, "d": [2]}))),
            ("a/b", json!(null), Ok(json!({"a": {}, "d": [1, 2]}))),
            ("d/3", json!(3), Err("invalid sub-path: d/3")),
            ("a/b/c", json!(3), Err("invalid sub-path: a/b/c")),
            ("d/x/c", json!(3), Err("invalid sub-path: d/x/c")),
        ] {
            let mut changed = value.clone();
            let outcome = put_at(&mut changed, path, put).map(|()| changed);
            assert_eq!(outcome, wanted.map_err(str::to_owned), "{path}");
        }
    }
}
