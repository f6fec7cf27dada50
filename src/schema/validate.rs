//! A validator of the part of JSON Schema that [`super::survey`] writes, for tests: every document
//! that a test calls good must be good by the schema too.

use serde_json::Value;

/// Where and why `value` does not fit; none if it does.
pub(crate) fn misfit(value: &Value, schema: &Value, root: &Value) -> Option<String> {
    let whole = match schema {
        Value::Bool(true) => return None,
        Value::Bool(false) => return Some(format!("{value} is not allowed")),
        other => other,
    };
    if let Some(reference) = whole["$ref"].as_str() {
        let at = root.pointer(reference.trim_start_matches('#')).expect("a definition");
        return misfit(value, at, root);
    }
    if let Some(any) = whole["anyOf"].as_array() {
        let why: Vec<String> = any.iter().map_while(|one| misfit(value, one, root)).collect();
        return (why.len() == any.len()).then(|| format!("none of: {}", why.join("; ")));
    }
    is_of_kind(value, &whole["type"])
        .or_else(|| is_in_bounds(value, whole))
        .or_else(|| inside(value, whole, root))
}

fn is_of_kind(value: &Value, wanted: &Value) -> Option<String> {
    let is = |kind: &str| match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        _ => value.is_object(),
    };
    let right = match wanted {
        Value::String(kind) => is(kind),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(is),
        _ => true,
    };
    (!right).then(|| format!("{value} is not of type {wanted}"))
}

fn is_in_bounds(value: &Value, schema: &Value) -> Option<String> {
    let size = match value {
        Value::String(text) => Some((text.chars().count() as f64, "minLength", "maxLength")),
        Value::Array(list) => Some((list.len() as f64, "minItems", "maxItems")),
        Value::Number(number) => Some((number.as_f64()?, "minimum", "maximum")),
        _ => None,
    };
    let bad = size.is_some_and(|(size, least, most)| {
        schema[least].as_f64().is_some_and(|least| size < least)
            || schema[most].as_f64().is_some_and(|most| size > most)
            || schema["exclusiveMinimum"].as_f64().is_some_and(|above| size <= above)
    });
    let listed = schema["enum"].as_array().is_none_or(|words| words.contains(value));
    // The one pattern there is.
    let pattern = schema.get("pattern").is_none()
        || value.as_str().is_some_and(|text| text.contains("${{") && text.contains("}}"));
    (bad || !listed || !pattern).then(|| format!("{value} is not in {schema}"))
}

fn inside(value: &Value, schema: &Value, root: &Value) -> Option<String> {
    if let Some(list) = value.as_array() {
        let items = schema.get("items")?;
        return list.iter().find_map(|element| misfit(element, items, root));
    }
    let object = value.as_object()?;
    if let Some(constant) = schema.get("const") {
        return (value != constant).then(|| format!("{value} is not {constant}"));
    }
    let missing = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(key) = missing.into_iter().find(|key| !object.contains_key(*key)) {
        return Some(format!("{key} is missing"));
    }
    object.iter().find_map(|(key, member)| {
        let own = schema["properties"].get(key);
        let schema = match own {
            Some(own) => own,
            None if key.contains("${{") => return None,
            None => schema.get("additionalProperties")?,
        };
        misfit(member, schema, root).map(|why| format!("{key}: {why}"))
    })
}
