//! JSON Schema of the two files, for editors: asked of the readers of [`process`] and [`resources`]
//! and of those of the plugins.

use super::{process, resources};
use crate::schema::{Style, survey};
use serde_json::{Map, Value, json};

/// Words that some reader of the two files takes as it is.
const WORDS: [&str; 13] = [
    "x",
    "/x",
    "auto",
    "127.0.0.1",
    "127.0.0.1:80",
    "10.0.0.0/8",
    "a/credentials/b",
    "logs/x.log",
    "unix:",
    "8k",
    "1m30s",
    "# nothing",
    "7",
];

/// Collections of `apisix.yaml` whose plugins say whom they know, not what they do.
const KNOWN_BY: [&str; 1] = ["consumers"];

/// The schemas of one plugin's configurations.
#[derive(Clone, Debug)]
pub struct PluginSchema {
    /// Its key in `plugins`.
    pub name: String,
    /// What stands there in routes and the like.
    pub conf: Value,
    /// What stands there in consumers, if it may.
    pub credential: Option<Value>,
}

/// The schema of `config.yaml`.
#[must_use]
pub fn process_schema() -> Value {
    let style = Style { title: "config.yaml: the process", words: &WORDS, keys: &[], nulls: true };
    survey(style, process::survey)
}

/// The schema of `apisix.yaml`, with these plugins. Others, of WebAssembly, are objects.
#[must_use]
pub fn resources_schema(plugins: &[PluginSchema]) -> Value {
    let style =
        Style { title: "apisix.yaml: what is served", words: &WORDS, keys: &[], nulls: false };
    let mut schema = survey(style, resources::survey);
    let mut meta = None;
    if let Some(collections) = schema["properties"].as_object_mut() {
        for (name, collection) in collections {
            let known_by = KNOWN_BY.contains(&name.as_str());
            name_plugins(collection, plugins, known_by, &mut meta);
        }
    }
    let defs = &mut schema["$defs"];
    defs["meta"] = meta.unwrap_or(Value::Bool(true));
    defs["disabled"] = json!({
        "description": "a plugin that does not run may be configured in any way",
        "type": "object",
        "required": ["_meta"],
        "properties": { "_meta": { "required": ["disable"],
            "properties": { "disable": { "const": true } } } },
    });
    for plugin in plugins {
        defs[definition(&plugin.name, false)] = with_meta(&plugin.conf);
        if let Some(credential) = &plugin.credential {
            defs[definition(&plugin.name, true)] = with_meta(credential);
        }
    }
    schema
}

fn definition(plugin: &str, known_by: bool) -> String {
    format!("{}:{plugin}", if known_by { "credential" } else { "plugin" })
}

/// A plugin's schema without its head, and with the key that every plugin has.
fn with_meta(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(members) = schema.as_object_mut() {
        for key in ["$schema", "$defs", "title"] {
            members.shift_remove(key);
        }
        if let Some(properties) =
            members.entry("properties").or_insert_with(|| json!({})).as_object_mut()
        {
            properties.insert("_meta".to_owned(), json!({ "$ref": "#/$defs/meta" }));
        }
    }
    schema
}

/// Names the plugins wherever an object has `plugins`.
fn name_plugins(
    schema: &mut Value,
    plugins: &[PluginSchema],
    known_by: bool,
    meta: &mut Option<Value>,
) {
    match schema {
        Value::Array(list) => {
            list.iter_mut().for_each(|inner| name_plugins(inner, plugins, known_by, meta));
        }
        Value::Object(members) => {
            for (key, inner) in members {
                match inner.get_mut("plugins").filter(|_| key == "properties") {
                    Some(map) => {
                        let member = &map["additionalProperties"]["properties"]["_meta"];
                        meta.get_or_insert_with(|| member.clone());
                        map["properties"] = Value::Object(references(plugins, known_by));
                    }
                    None => name_plugins(inner, plugins, known_by, meta),
                }
            }
        }
        _ => {}
    }
}

fn references(plugins: &[PluginSchema], known_by: bool) -> Map<String, Value> {
    let reference = |plugin: &PluginSchema| {
        // A consumer has plugins of both kinds.
        let known_by = known_by && plugin.credential.is_some();
        let reference = format!("#/$defs/{}", definition(&plugin.name, known_by));
        let any = json!({ "anyOf": [{ "$ref": reference }, { "$ref": "#/$defs/disabled" }] });
        (plugin.name.clone(), any)
    };
    plugins.iter().map(reference).collect()
}
