//! `plugins` and `schema`: what may be configured, as JSON Schema.

use super::Answer;
use super::kinds::{KINDS, of};
use super::query::Query;
use crate::builtin::{metadata_schema, priority};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// The schema of `apisix.yaml`: `ringgate schema apisix`, which takes seconds to find out what all
/// readers want. A test sees to it that the file is what the readers say now.
const TEXT: &str = include_str!("../../../conf/apisix.schema.json");

static SCHEMA: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(TEXT).unwrap_or_default());

/// What stands before a plugin's name in the definitions of the schema.
const PLUGIN: &str = "plugin:";

/// The same before what it has in consumers.
const CREDENTIAL: &str = "credential:";

fn definitions() -> &'static Map<String, Value> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    SCHEMA["$defs"].as_object().unwrap_or(&NONE)
}

/// The plugins that have a schema.
fn plugins() -> impl Iterator<Item = (&'static str, &'static Value)> {
    definitions().iter().filter_map(|(name, schema)| Some((name.strip_prefix(PLUGIN)?, schema)))
}

/// The schema of one item of a collection, whole in itself.
fn item(collection: &str) -> Option<Value> {
    let mut schema = bare_item(collection)?.clone();
    let members = schema.as_object_mut()?;
    members.insert("$defs".to_owned(), SCHEMA["$defs"].clone());
    Some(schema)
}

/// The same without the definitions it refers to. A collection is a list, or something else that
/// means an empty one.
fn bare_item(collection: &str) -> Option<&'static Value> {
    let schema = &SCHEMA["properties"][collection];
    let choices = schema["anyOf"].as_array().map_or(std::slice::from_ref(schema), Vec::as_slice);
    choices.iter().find_map(|choice| choice.get("items"))
}

/// The answer to a GET below `plugins` or `schema`.
pub(super) fn answer(admin: &super::Admin, steps: &[&str], query: &Query) -> Answer {
    match steps {
        ["plugins", "list"] => match query.get("subsystem") {
            None | Some("http") => Answer::ok(admin.plugins.iter().cloned().collect()),
            Some("stream") => Answer::ok(json!([])),
            Some(_) => Answer::bad("unsupported subsystem"),
        },
        ["plugins"] => {
            let all = plugins().map(|(name, schema)| (name.to_owned(), described(name, schema)));
            Answer::ok(Value::Object(all.collect()))
        }
        ["plugins", name] | ["schema", "plugins", name]
            if query.get("schema_type") == Some("consumer") =>
        {
            credential(admin, name)
        }
        ["plugins", name] | ["schema", "plugins", name] => plugin(admin, name),
        ["schema", name] => match item(name).or_else(|| item(&format!("{name}s"))) {
            Some(schema) => Answer::ok(schema),
            // Kept for others: any object.
            None if of(name).or_else(|| of(&format!("{name}s"))).is_some() => {
                Answer::ok(json!({ "type": "object" }))
            }
            None => Answer::bad("not found schema"),
        },
        _ => Answer::error(StatusCode::NOT_FOUND, "not found"),
    }
}

/// What APISIX says of a plugin (`apisix/admin/plugins.lua`), but for the version and the scope,
/// which are its own.
fn described(name: &str, schema: &Value) -> Value {
    let mut described = json!({ "schema": schema, "priority": priority(name) });
    if let Some(credential) = definitions().get(&format!("{CREDENTIAL}{name}")) {
        described["type"] = "auth".into();
        described["consumer_schema"] = credential.clone();
    }
    if let Some(metadata) = metadata_schema(name) {
        described["metadata_schema"] = metadata;
    }
    described
}

/// What stands in consumers; most plugins have nothing of their own there.
fn credential(admin: &super::Admin, name: &str) -> Answer {
    match definitions().get(&format!("{CREDENTIAL}{name}")) {
        Some(schema) => Answer::ok(schema.clone()),
        None if admin.plugins.iter().any(|known| known == name) => Answer::bad("not found schema"),
        None => plugin(admin, name),
    }
}

fn plugin(admin: &super::Admin, name: &str) -> Answer {
    match plugins().find(|(known, _)| *known == name) {
        Some((_, schema)) => Answer::ok(schema.clone()),
        // Of WebAssembly, or a runner's: it reads its configuration itself.
        None if admin.plugins.iter().any(|known| known == name) => {
            Answer::ok(json!({ "type": "object" }))
        }
        None => Answer::error(StatusCode::NOT_FOUND, format!("plugin not found: {name}")),
    }
}

/// All schemas, as the control API gives them.
pub(in crate::control) fn all_schemas() -> Value {
    let main = KINDS.iter().filter_map(|kind| {
        Some((kind.singular.replace(' ', "_"), bare_item(kind.plural)?.clone()))
    });
    let plugins = plugins().map(|(name, schema)| (name.to_owned(), json!({ "schema": schema })));
    json!({
        "main": Value::Object(main.collect()),
        "plugins": Value::Object(plugins.collect()),
        "stream-plugins": {},
        "$defs": definitions(),
    })
}

/// The schema of one item for a description that has the definitions itself, at `place`.
pub(super) fn described_item(collection: &str, place: &str) -> Value {
    let Some(schema) = bare_item(collection) else { return json!({ "type": "object" }) };
    let mut schema = schema.clone();
    move_references(&mut schema, place);
    schema
}

/// The definitions, by names that a description of OpenAPI may have.
pub(super) fn described_definitions(place: &str) -> Value {
    let moved = definitions().iter().map(|(name, schema)| {
        let mut schema = schema.clone();
        move_references(&mut schema, place);
        (legal(name), schema)
    });
    Value::Object(moved.collect())
}

/// OpenAPI allows letters, digits, `.`, `-`, `_`.
fn legal(name: &str) -> String {
    name.replace(':', ".")
}

fn move_references(schema: &mut Value, place: &str) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(|inner| move_references(inner, place)),
        Value::Object(members) => {
            for (key, inner) in members {
                match inner {
                    Value::String(reference) if key == "$ref" => {
                        if let Some(name) = reference.strip_prefix("#/$defs/") {
                            *reference = format!("{place}{}", legal(name));
                        }
                    }
                    inner => move_references(inner, place),
                }
            }
        }
        _ => {}
    }
}
