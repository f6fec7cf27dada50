//! `apisix.yaml`: text to [`Resources`] (APISIX reference §2 to §6 and §8).
//!
//! Stricter than APISIX where it would leave something out and go on: one bad item refuses the
//! whole document, and so do repeated ids and keys nobody knows.

mod checks;
mod consumer;
mod item;
mod items;
mod plugins;
mod route;
mod upstream;

pub use items::{Entry, gather, read_item};

use super::load::{Document, Duplicate, whole};
use super::model::{GlobalRule, PluginConfig, PluginMetadata, Resources, Service};
use super::positions::Spot;
use super::report::{Page, Report, Severity};
use super::source::{Env, Source};
use crate::schema::{Fault, Object, Path, Problem, Problems, Reader, nearest};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Collections APISIX has and ringgate does not.
const UNSUPPORTED: [(&str, &str); 5] = [
    ("plugins", "`plugins` in config.yaml says which there are"),
    ("protos", "there is no grpc-transcode"),
    ("secrets", "`${{NAME}}` takes the value of an environment variable"),
    ("ssls", "there are no listeners for TLS: no certificate is used"),
    ("stream_routes", "there are no listeners for streams: nothing is forwarded by them"),
];

/// What APISIX's Admin API writes beside its collections in standalone mode (reference §2.3).
const VERSIONS: [&str; 7] = [
    "routes_conf_version",
    "services_conf_version",
    "upstreams_conf_version",
    "plugin_configs_conf_version",
    "global_rules_conf_version",
    "consumers_conf_version",
    "consumer_groups_conf_version",
];

/// Reads a document of resources. `require_end` asks for APISIX's `#END` at its end, by which a
/// file shows that it was written whole (reference §2.1).
///
/// # Errors
/// All that is wrong with it, warnings included.
pub fn parse(
    source: &Source,
    env: Env<'_>,
    require_end: bool,
) -> Result<(Resources, Report), Report> {
    read(source, env, require_end).and_then(whole)
}

/// Reads it as far as it can be read: the report may have errors, so that a check can go on and
/// find more.
///
/// # Errors
/// It is no document at all.
pub fn read(
    source: &Source,
    env: Env<'_>,
    require_end: bool,
) -> Result<(Resources, Report), Report> {
    let whole = !require_end || has_end(source);
    let unfinished = || if whole { Report::default() } else { unfinished(source, Severity::Error) };
    let and_unfinished = |mut report: Report| {
        report.extend(unfinished());
        report
    };
    let document = Document::expanded(source, env).map_err(and_unfinished)?;
    let (resources, report) = read_document(document);
    Ok((resources, and_unfinished(report)))
}

/// The document as it is when its variables have their values.
///
/// # Errors
/// It is no document.
pub fn value(source: &Source, env: Env<'_>) -> Result<Value, Report> {
    Ok(Document::expanded(source, env)?.value)
}

/// A document as the value it is, whatever it says; variables are not replaced.
///
/// # Errors
/// It is neither YAML nor JSON.
pub fn plain_value(source: &Source) -> Result<Value, Report> {
    let mut document = Document::plain(source)?;
    let value = std::mem::take(&mut document.value);
    whole(document.conclude(value, Problems::new(), Vec::new())).map(|(value, _)| value)
}

/// Whether a document ends with `#END`, by which a file shows that it was written whole.
#[must_use]
pub fn has_end(source: &Source) -> bool {
    source.text.trim_end().ends_with("#END")
}

/// What there is to say of a document without `#END`.
#[must_use]
pub fn unfinished(source: &Source, severity: Severity) -> Report {
    let line = source.text.lines().count();
    let length = source.text.lines().last().unwrap_or_default().chars().count();
    let spot = (line > 0).then_some(Spot { line, column: length + 1, length: 1 });
    let fault = Fault::new("the document does not end with `#END`")
        .hint("write `#END` on a last line: it shows that the file is whole");
    Report::of(vec![Page::new(source).at(severity, spot, fault)])
}

fn read_document(mut document: Document<'_>) -> (Resources, Report) {
    let problems = Problems::new();
    let value = std::mem::take(&mut document.value);
    let mut duplicates = Vec::new();
    let mut resources = Resources::default();
    if !value.is_null()
        && let Some(object) = Reader::new(&value, Path::root(), &problems).object()
    {
        resources = collections(object, &mut duplicates, &problems);
    }
    check_references(&resources, &problems);
    document.conclude(resources, problems, duplicates)
}

/// Lets a made-up document be read, for its schema.
pub(super) fn survey(reader: Reader<'_>) {
    let problems = reader.problems();
    if let Some(object) = reader.object() {
        collections(object, &mut Vec::new(), problems);
    }
}

fn collections(
    mut object: Object<'_>,
    duplicates: &mut Vec<Duplicate>,
    problems: &Problems,
) -> Resources {
    let consumers = collection(&mut object, "consumers", duplicates, consumer::listed);
    let resources = Resources {
        consumers: consumer::gather(consumers, problems),
        consumer_groups: collection(&mut object, "consumer_groups", duplicates, consumer::group),
        plugin_metadata: collection(&mut object, "plugin_metadata", duplicates, plugin_metadata),
        routes: shared(collection(&mut object, "routes", duplicates, route::read)),
        services: shared(collection(&mut object, "services", duplicates, service)),
        upstreams: shared(collection(&mut object, "upstreams", duplicates, upstream::listed)),
        plugin_configs: shared(collection(
            &mut object,
            "plugin_configs",
            duplicates,
            plugin_config,
        )),
        global_rules: collection(&mut object, "global_rules", duplicates, global_rule),
        lacks_global_rule: false,
    };
    for (key, why) in UNSUPPORTED {
        if let Some(reader) = object.get(key).filter(|reader| !is_empty(reader.value())) {
            let fault = Fault::new(format!("`{key}` is not supported yet and has no effect"));
            reader.warn_on_key(fault.hint(why));
        }
    }
    for key in VERSIONS {
        let _ = object.integer(key, 0..=i64::MAX);
    }
    object.finish();
    resources
}

fn shared<T>(items: Vec<T>) -> Vec<Arc<T>> {
    items.into_iter().map(Arc::new).collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Reads the items of a list; each gets the id it has if it names none, as in APISIX.
fn collection<T: Identified>(
    object: &mut Object<'_>,
    key: &'static str,
    duplicates: &mut Vec<Duplicate>,
    read: fn(Object<'_>, String) -> T,
) -> Vec<T> {
    let reader = object.get(key).filter(|reader| !reader.value().is_null());
    let readers = reader.and_then(|reader| reader.list(0..=usize::MAX)).unwrap_or_default();
    let mut seen: HashMap<String, Path> = HashMap::new();
    let mut items = Vec::new();
    for (index, reader) in readers.into_iter().enumerate() {
        let Some(object) = reader.object() else { continue };
        let at = if object.has("id") { object.at().key("id") } else { object.at().clone() };
        let item = read(object, format!("arr_{}", index + 1));
        match seen.get(item.id()) {
            Some(first) => {
                let message = format!("the id `{}` is there twice in `{key}`", item.id());
                let problem = Problem::new(at, message);
                duplicates.push(Duplicate { problem, first: first.clone() });
            }
            None => {
                seen.insert(item.id().to_owned(), at);
            }
        }
        items.push(item);
    }
    items
}

/// What has an id that is unique in its collection.
trait Identified {
    fn id(&self) -> &str;
}

fn service(mut object: Object<'_>, default_id: String) -> Service {
    item::times(&mut object);
    item::refuse_lua(&mut object, &["script"]);
    let service = Service {
        at: object.at().clone(),
        id: item::id(&mut object, "id").unwrap_or(default_id),
        name: item::name(&mut object),
        labels: item::labels(&mut object),
        hosts: item::hosts(&mut object, "hosts"),
        plugins: plugins::read(&mut object).unwrap_or_default(),
        upstream_id: item::id(&mut object, "upstream_id"),
        upstream: upstream::inline(&mut object),
        enable_websocket: object.boolean("enable_websocket"),
    };
    object.finish();
    service
}

fn plugin_config(mut object: Object<'_>, default_id: String) -> PluginConfig {
    item::times(&mut object);
    let _ = (object.need("id"), item::name(&mut object), item::labels(&mut object));
    let config = PluginConfig {
        at: object.at().clone(),
        id: item::id(&mut object, "id").unwrap_or(default_id),
        plugins: needed_plugins(&mut object),
    };
    object.finish();
    config
}

fn global_rule(mut object: Object<'_>, default_id: String) -> GlobalRule {
    item::times(&mut object);
    let _ = object.need("id");
    let rule = GlobalRule {
        at: object.at().clone(),
        id: item::id(&mut object, "id").unwrap_or(default_id),
        plugins: needed_plugins(&mut object),
    };
    object.finish();
    rule
}

/// What a plugin's metadata says beside the plugin's own fields.
const NOT_OF_THE_PLUGIN: [&str; 4] = ["id", "create_time", "update_time", "modifiedIndex"];

fn plugin_metadata(mut object: Object<'_>, default_id: String) -> PluginMetadata {
    item::times(&mut object);
    let id = object.string("id", 1..=256);
    let own = object.members().filter(|(key, _)| !NOT_OF_THE_PLUGIN.contains(key));
    let conf = own.map(|(key, reader)| (key.to_owned(), reader.value().clone())).collect();
    let metadata = PluginMetadata {
        at: object.at().clone(),
        name: id.map_or(default_id, str::to_owned),
        conf: Value::Object(conf),
    };
    object.allow_unknown();
    metadata
}

fn needed_plugins(object: &mut Object<'_>) -> Vec<super::model::PluginConf> {
    let _ = object.need("plugins");
    plugins::read(object).unwrap_or_default()
}

/// Warns of ids that nothing has. APISIX takes such objects and answers their requests with an
/// error (reference §5.2), so this is not one of ours.
fn check_references(resources: &Resources, problems: &Problems) {
    let services = ids(&resources.services);
    let upstreams = ids(&resources.upstreams);
    let plugin_configs = ids(&resources.plugin_configs);
    let check = |at: &Path, key, id: &Option<String>, known: &HashSet<&str>, what, status| {
        let Some(id) = id.as_ref().filter(|id| !known.contains(id.as_str())) else { return };
        let message = format!("no {what} has the id `{id}`: requests will be answered {status}");
        let fault = Fault::new(message);
        let fault = match nearest(id, known.iter().copied()) {
            Some(near) => fault.hint(format!("did you mean `{near}`?")),
            None => fault,
        };
        problems.warn(Problem::new(at.key(key), fault));
    };
    for route in &resources.routes {
        check(&route.at, "service_id", &route.service_id, &services, "service", 404);
        check(&route.at, "upstream_id", &route.upstream_id, &upstreams, "upstream", 502);
        let id = &route.plugin_config_id;
        check(&route.at, "plugin_config_id", id, &plugin_configs, "plugin config", 503);
    }
    let groups = resources.consumer_groups.iter().map(|group| group.id.as_str()).collect();
    for consumer in &resources.consumers {
        check(&consumer.at, "group_id", &consumer.group_id, &groups, "consumer group", 503);
    }
    for service in &resources.services {
        check(&service.at, "upstream_id", &service.upstream_id, &upstreams, "upstream", 502);
    }
}

fn ids<T: Identified>(items: &[Arc<T>]) -> HashSet<&str> {
    items.iter().map(|item| item.id()).collect()
}

impl Identified for super::model::Route {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Identified for Service {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Identified for super::model::Upstream {
    fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }
}

impl Identified for PluginConfig {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Identified for PluginMetadata {
    fn id(&self) -> &str {
        &self.name
    }
}

impl Identified for super::model::ConsumerGroup {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Identified for GlobalRule {
    fn id(&self) -> &str {
        &self.id
    }
}

#[cfg(test)]
mod tests;
