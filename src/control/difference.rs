//! `ringgate diff`: what another configuration would change in a running gateway.

use super::load::{Failure, environment, read};
use crate::conf::{Change, Config, by_id, changes, process, resources};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The collections of `apisix.yaml`, as their items are called.
const COLLECTIONS: [(&str, &str); 10] = [
    ("routes", "route"),
    ("services", "service"),
    ("upstreams", "upstream"),
    ("plugin_configs", "plugin config"),
    ("global_rules", "global rule"),
    ("consumers", "consumer"),
    ("consumer_groups", "consumer group"),
    ("plugin_metadata", "metadata of plugin"),
    ("secrets", "secret"),
    ("ssls", "certificate"),
];

/// Words in a field's name that say that its value is nobody's business.
const SECRETS: [&str; 4] = ["key", "password", "secret", "token"];

/// One of the two configurations.
struct Side {
    config: Config,
    process: Value,
    resources: Value,
}

/// What changes from one configuration to the other, in words; empty: nothing does.
///
/// # Errors
/// A file can't be read, or is wrong.
pub fn difference(old: &Path, new: &Path) -> Result<String, Failure> {
    let (old, new) = (Side::read(old)?, Side::read(new)?);
    let mut out = String::new();
    process_changes(&old, &new, &mut out);
    for (collection, name) in COLLECTIONS {
        let (old, new) = (by_id(&old.resources, collection), by_id(&new.resources, collection));
        items(collection, name, &old, &new, &mut out);
    }
    Ok(out)
}

impl Side {
    /// A folder stands for the `config.yaml` in it.
    fn read(path: &Path) -> Result<Self, Failure> {
        let path = if path.is_dir() { path.join("config.yaml") } else { PathBuf::from(path) };
        let source = read(&path, "name a `config.yaml`, or the folder it is in")?;
        let (config, _) = process::parse(&source, &environment).map_err(Failure::Wrong)?;
        let process = process::value(&source, &environment).map_err(Failure::Wrong)?;
        let beside = read(&path.with_file_name("apisix.yaml"), "it is read beside `config.yaml`")?;
        resources::parse(&beside, &environment, true).map_err(Failure::Wrong)?;
        let resources = resources::value(&beside, &environment).map_err(Failure::Wrong)?;
        Ok(Self { config, process, resources })
    }
}

fn process_changes(old: &Side, new: &Side, out: &mut String) {
    let plugins = |side: &Side| {
        let listed = side.process["wasm"]["plugins"].as_array().cloned().unwrap_or_default();
        let named =
            |plugin: Value| (plugin["name"].as_str().unwrap_or_default().to_owned(), plugin);
        listed.into_iter().map(named).collect::<Map<_, _>>()
    };
    let (old_plugins, new_plugins) = (plugins(old), plugins(new));
    let all = changes(&old.process, &new.process);
    let others = all.iter().filter(|change| !change.field.starts_with("wasm"));
    for change in others {
        let _ = writeln!(out, "~ config.yaml {}", hidden(change.clone(), false));
        if change.fields().iter().any(|field| process::needs_restart(field)) {
            let _ = writeln!(out, "    needs a restart");
        }
    }
    let listen = |side: &Side| side.config.listen.iter().map(ToString::to_string).collect();
    let (before, after): (BTreeSet<String>, BTreeSet<String>) = (listen(old), listen(new));
    for address in before.difference(&after) {
        let _ = writeln!(out, "    {address} closes: idle connections end, requests finish");
    }
    for address in after.difference(&before) {
        let _ = writeln!(out, "    {address} opens");
    }
    items("wasm.plugins", "wasm plugin", &old_plugins, &new_plugins, out);
}

/// The changes of a collection, item by item.
fn items(
    collection: &str,
    name: &str,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    out: &mut String,
) {
    for (id, item) in new {
        let Some(before) = old.get(id) else {
            let uris = item.get("uri").or_else(|| item.get("uris"));
            let uris = uris.map(|uris| format!(" for {uris}")).unwrap_or_default();
            let _ = writeln!(out, "+ {name} {id}{uris}");
            continue;
        };
        let found = changes(before, item);
        if found.is_empty() {
            continue;
        }
        let _ = writeln!(out, "~ {name} {id}");
        for change in found {
            let of_consumer = collection == "consumers" && change.field.starts_with("plugins");
            let _ = writeln!(out, "    {}", hidden(change, of_consumer));
        }
        if collection == "wasm.plugins" {
            let _ =
                writeln!(out, "    its instances are made anew, requests in flight keep theirs");
        }
        configured_anew(before, item, out);
    }
    for id in old.keys().filter(|id| !new.contains_key(*id)) {
        let _ = writeln!(out, "- {name} {id}");
    }
}

/// What happens to the plugins of an item that changed.
fn configured_anew(old: &Value, new: &Value, out: &mut String) {
    let none = Map::new();
    let of = |item: &Value| item["plugins"].as_object().cloned();
    let (old, new) = (of(old).unwrap_or_default(), of(new).unwrap_or(none));
    for (plugin, conf) in &new {
        if old.get(plugin).is_some_and(|before| before != conf) {
            let _ = writeln!(out, "    {plugin} is configured anew; the other plugins go on");
        }
    }
}

/// A change that shows no secret.
fn hidden(mut change: Change, whole: bool) -> Change {
    let is_secret = |field: &str| {
        let last = field.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        field.contains("admin_key") || SECRETS.iter().any(|word| last.contains(word))
    };
    if whole || is_secret(&change.field) {
        for value in [&mut change.old, &mut change.new].into_iter().flatten() {
            *value = Value::from("(hidden)");
        }
    }
    change
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn items_and_what_happens_to_them() {
        let old = json!({"routes": [{"id": "a", "uri": "/a", "plugins": {"limit-req": {"rate": 1},
            "echo": {}}}, {"id": "b", "uri": "/b"}]});
        let new = json!({"routes": [{"id": "c", "uri": "/c"}, {"id": "a", "uri": "/a", "plugins":
            {"limit-req": {"rate": 2}, "echo": {}}}]});
        let mut out = String::new();
        items("routes", "route", &by_id(&old, "routes"), &by_id(&new, "routes"), &mut out);
        let wanted = "+ route c for \"/c\"\n~ route a\n    plugins.limit-req.rate: 1 → 2\n    \
                      limit-req is configured anew; the other plugins go on\n- route b\n";
        assert_eq!(out, wanted);
    }

    #[test]
    fn secrets_are_not_shown() {
        let consumer = |key: &str| {
            json!({"consumers": [{"username": "jack", "plugins":
            {"key-auth": {"key": key}}}]})
        };
        let (old, new) = (consumer("rosebud"), consumer("xanadu"));
        let mut out = String::new();
        let of = |value: &Value| by_id(value, "consumers");
        items("consumers", "consumer", &of(&old), &of(&new), &mut out);
        assert!(out.contains("(hidden)") && !out.contains("xanadu"), "{out}");
        let change = changes(&json!({"a": {"password": "x"}}), &json!({"a": {"password": "y"}}));
        let hidden = change.into_iter().map(|change| hidden(change, false).to_string());
        assert_eq!(hidden.collect::<String>(), "a.password: \"(hidden)\" → \"(hidden)\"");
    }
}
