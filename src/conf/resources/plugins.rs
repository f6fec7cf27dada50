//! `plugins` of an object, and `_meta` in each (APISIX reference §8).

use super::super::model::{Meta, PluginConf, Rule};
use super::item;
use crate::schema::{Object, Reader};
use serde_json::Value;

/// The members of `plugins`; which plugins there are is not known here.
pub(super) fn read(object: &mut Object<'_>) -> Option<Vec<PluginConf>> {
    let plugins = object.get("plugins")?.object()?;
    Some(plugins.members().filter_map(|(name, reader)| plugin(name, &reader)).collect())
}

fn plugin(name: &str, reader: &Reader<'_>) -> Option<PluginConf> {
    let mut object = reader.clone().object()?;
    let meta = object.get("_meta").and_then(Reader::object).map(meta).unwrap_or_default();
    object.allow_unknown();
    let mut conf = reader.value().clone();
    if let Value::Object(members) = &mut conf {
        members.shift_remove("_meta");
    }
    Some(PluginConf { name: name.to_owned(), at: reader.at().clone(), meta, conf })
}

fn meta(mut object: Object<'_>) -> Meta {
    item::refuse_lua(&mut object, &["pre_function"]);
    let meta = Meta {
        disable: object.boolean("disable").unwrap_or(false),
        priority: object.integer("priority", i64::MIN..=i64::MAX),
        filter: rule(&mut object, "filter"),
        error_response: object.get("error_response").and_then(|reader| error_response(&reader)),
    };
    object.finish();
    meta
}

/// A rule of room `expr`: a list, read there.
pub(super) fn rule(object: &mut Object<'_>, key: &'static str) -> Option<Rule> {
    let reader = object.get(key)?;
    reader.list(0..=usize::MAX)?;
    Some(Rule { at: reader.at().clone(), value: reader.value().clone() })
}

fn error_response(reader: &Reader<'_>) -> Option<Value> {
    match reader.value() {
        value @ (Value::String(_) | Value::Object(_)) => Some(value.clone()),
        _ => {
            reader.expected("a string or an object");
            None
        }
    }
}
