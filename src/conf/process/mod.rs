//! `config.yaml`: text to [`Config`] (APISIX reference §1; DESIGN §4 and §5).
//!
//! Every key of APISIX has one of three fates: it means here what it means there; it has no effect,
//! which is a warning; or ignoring it would open or lose something, which is an error.

mod apisix;
mod deployment;
mod dns;
mod fates;
mod listen;
mod nginx;
mod plugin_attr;
mod ringgate;
mod runners;
mod units;
mod wasm;

use super::load::{Document, Duplicate, unset_fault, whole};
use super::report::Report;
use super::settings::{Config, PluginName};
use super::source::{Env, Source, substitute};
use crate::schema::{Fault, Object, Path, Problem, Problems, Reader};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Reads the settings of the process.
///
/// # Errors
/// All that is wrong with them, warnings included.
pub fn parse(source: &Source, env: Env<'_>) -> Result<(Config, Report), Report> {
    read(source, env).and_then(whole)
}

/// Reads them as far as they can be read: the report may have errors, so that a check can go on and
/// find more.
///
/// # Errors
/// It is no document at all.
pub fn read(source: &Source, env: Env<'_>) -> Result<(Config, Report), Report> {
    let mut document = Document::plain(source)?;
    let value = std::mem::take(&mut document.value);
    let mut value = settled(value, &Path::root(), env, &mut document.early);
    let problems = Problems::new();
    if !value.is_object() {
        if !value.is_null() {
            Reader::new(&value, Path::root(), &problems).expected("an object");
        }
        value = Value::Object(Map::new());
    }
    let mut duplicates = Vec::new();
    let reader = Reader::new(&value, Path::root(), &problems);
    let config = reader.object().map(|object| config(object, env, &mut duplicates));
    // The value was made an object above.
    let Some(config) = config else { return Err(Report::default()) };
    Ok(document.conclude(config, problems, duplicates))
}

/// The document as it is when its variables have their values.
///
/// # Errors
/// It is no document.
pub fn value(source: &Source, env: Env<'_>) -> Result<Value, Report> {
    let mut document = Document::plain(source)?;
    let value = std::mem::take(&mut document.value);
    Ok(settled(value, &Path::root(), env, &mut document.early))
}

/// Sections that are looked at once, when the process starts.
const AT_START: [&str; 13] = [
    "apisix.control",
    "apisix.dns_resolver",
    "apisix.dns_resolver_valid",
    "apisix.enable_admin",
    "apisix.enable_control",
    "apisix.resolver_timeout",
    "apisix.ssl.ssl_trusted_certificate",
    "apisix.status",
    "deployment",
    "ext-plugin",
    "plugin_attr.prometheus",
    "ringgate",
    "wasm.cache",
];

/// Of these what a reload changes all the same.
const ALWAYS: [&str; 5] =
    ["ringgate.limits", "ringgate.listen", "ringgate.log", "ringgate.timeouts", "ringgate.via"];

/// Whether a change of that field only counts after a restart.
#[must_use]
pub fn needs_restart(field: &str) -> bool {
    let under = |section: &&str| {
        field.strip_prefix(*section).is_some_and(|rest| rest.is_empty() || !rest.starts_with('_'))
    };
    AT_START.iter().any(under) && !ALWAYS.iter().any(under)
}

/// Lets a made-up document be read, for its schema.
pub(super) fn survey(reader: Reader<'_>) {
    if let Some(object) = reader.object() {
        config(object, &|_| None, &mut Vec::new());
    }
}

fn config(mut object: Object<'_>, env: Env<'_>, duplicates: &mut Vec<Duplicate>) -> Config {
    let apisix = apisix::read(object.section("apisix"), duplicates);
    let nginx = nginx::read(object.section("nginx_config"));
    let ringgate = ringgate::read(object.section("ringgate"), duplicates);
    let section = object.section("deployment");
    let deployment = deployment::read(section, apisix.enable_admin, env, duplicates);
    let listen = listen::merged(apisix.listen, ringgate.listen);
    if listen.is_empty() {
        let fault = Fault::new("there is no address to listen on");
        object.error(fault.hint("give `apisix.node_listen` a port, or `ringgate.listen` an entry"));
    }
    let config = Config {
        listen,
        provider: deployment.provider,
        admin: deployment.admin,
        is_control_plane: deployment.is_control_plane,
        control: apisix.control,
        status: apisix.status,
        store_dir: ringgate.store_dir,
        downstream: nginx.downstream,
        access_log: nginx.access_log,
        keepalive: nginx.keepalive,
        server_tokens: apisix.server_tokens,
        router: apisix.router,
        delete_uri_tail_slash: apisix.delete_uri_tail_slash,
        dns: apisix.dns,
        trusted: apisix.trusted,
        trusted_addresses: apisix.trusted_addresses,
        plugins: plugins(&mut object, duplicates),
        wasm_plugins: wasm::read(object.section("wasm"), duplicates),
        metrics: plugin_attr::read(object.section("plugin_attr")),
        runners: runners::read(object.section("ext-plugin")),
        workers: ringgate.workers,
        driver: ringgate.driver,
        via: ringgate.via,
        limits: ringgate.limits,
        drain: ringgate.drain,
        upgrade: ringgate.upgrade,
        user: ringgate.user,
        group: ringgate.group,
        watch: ringgate.watch,
        log_level: ringgate.log_level,
        cache_dir: ringgate.cache_dir,
        node: ringgate.node,
    };
    let ignored = ["stream_plugins", "discovery", "graphql", "http", "xrpc"];
    ignore(&mut object, &ignored);
    object.finish();
    config
}

fn plugins(object: &mut Object<'_>, duplicates: &mut Vec<Duplicate>) -> Option<Vec<PluginName>> {
    let reader = object.get("plugins")?;
    let mut once = Once::new("the plugin");
    reader.list_of(0..=usize::MAX, |element| {
        let name = element.string(1..=usize::MAX)?.to_owned();
        once.see(&name, element.at(), duplicates);
        Some(PluginName { at: element.at().clone(), name })
    })
}

/// Warns of keys that mean something in APISIX and nothing here, unless they turn something off or
/// say nothing.
fn ignore(object: &mut Object<'_>, keys: &[&'static str]) {
    for key in keys {
        if let Some(reader) = object.get(key).filter(|reader| !is_off(reader.value())) {
            let at = reader.at().to_string();
            let fault = Fault::new(format!("`{at}` has no effect in ringgate yet"));
            reader.warn_on_key(match fates::reason(&at) {
                Some(why) => fault.hint(why),
                None => fault,
            });
        }
    }
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Things that may be there once.
struct Once {
    what: &'static str,
    seen: HashMap<String, Path>,
}

impl Once {
    fn new(what: &'static str) -> Self {
        Self { what, seen: HashMap::new() }
    }

    fn see(&mut self, name: &str, at: &Path, duplicates: &mut Vec<Duplicate>) {
        if let Some(first) = self.seen.get(name) {
            let problem =
                Problem::new(at.clone(), format!("{} `{name}` is there twice", self.what));
            duplicates.push(Duplicate { problem, first: first.clone() });
        } else {
            self.seen.insert(name.to_owned(), at.clone());
        }
    }
}

/// The document with its variables replaced, in keys as well, and without members that are null:
/// APISIX takes those for absent. What a variable made of a string may be a number or a boolean.
fn settled(value: Value, at: &Path, env: Env<'_>, problems: &mut Vec<Problem>) -> Value {
    match value {
        Value::String(text) => match substitute(&text, env) {
            None => Value::String(text),
            Some(Ok(text)) => coerced(text),
            Some(Err(name)) => {
                problems.push(Problem::new(at.clone(), unset_fault(&name)));
                Value::Null
            }
        },
        Value::Array(list) => {
            let element = |(index, element)| settled(element, &at.index(index), env, problems);
            list.into_iter().enumerate().map(element).collect()
        }
        Value::Object(map) => {
            let mut members = Map::new();
            for (key, member) in map.into_iter().filter(|(_, member)| !member.is_null()) {
                let at = at.key(&key);
                let member = settled(member, &at, env, problems);
                let fault = match substitute(&key, env).unwrap_or(Ok(key)) {
                    Err(name) => unset_fault(&name),
                    Ok(key) if members.contains_key(&key) => {
                        Fault::new(format!("the key `{key}` is there twice"))
                    }
                    Ok(key) => {
                        members.insert(key, member);
                        continue;
                    }
                };
                problems.push(Problem::new(at, fault).on_key());
            }
            Value::Object(members)
        }
        other => other,
    }
}

fn coerced(text: String) -> Value {
    match text.as_str() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) if number.is_finite() => number.into(),
            _ => Value::String(text),
        },
    }
}

#[cfg(test)]
mod tests;
