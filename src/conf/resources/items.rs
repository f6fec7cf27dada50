//! Resources one by one, as the Admin API and etcd have them: `routes/1` and its value.
//!
//! An item is read by the same reader as in `apisix.yaml`; what is wrong with it stands at
//! `<collection>.<id>`.

use super::super::model::{
    Consumer, ConsumerGroup, Credential, GlobalRule, PluginConf, PluginConfig, PluginMetadata,
    Resources, Route, Service, Upstream,
};
use super::{
    consumer, global_rule, item, plugin_config, plugin_metadata, plugins, route, service, upstream,
};
use crate::schema::{Object, Path, Problem, Problems, Reader};
use serde_json::Value;
use std::sync::Arc;

/// One item, read. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// Of `routes`.
    Route(Arc<Route>),
    /// Of `services`.
    Service(Arc<Service>),
    /// Of `upstreams`.
    Upstream(Arc<Upstream>),
    /// Of `plugin_configs`.
    PluginConfig(Arc<PluginConfig>),
    /// Of `global_rules`.
    GlobalRule(Arc<GlobalRule>),
    /// Of `consumers`.
    Consumer(Arc<Consumer>),
    /// Of `consumer_groups`.
    ConsumerGroup(Arc<ConsumerGroup>),
    /// Of `plugin_metadata`.
    PluginMetadata(Arc<PluginMetadata>),
    /// Of `consumers`, below one: its name, the credential.
    Credential(Arc<(String, Credential)>),
    /// Of a collection that is kept for others and means nothing here yet, with the plugins it
    /// configures.
    Kept(Arc<[PluginConf]>),
}

/// Collections that are kept and not used, with the keys that one of their items must have.
const KEPT: [(&str, &[&str]); 4] =
    [("protos", &["content"]), ("secrets", &[]), ("ssls", &[]), ("stream_routes", &[])];

/// Reads the item `id` of a collection; `None` if there is no such collection. A credential's id
/// is `<consumer>/credentials/<id>`. The item's own `id` must be that id, or not be there.
pub fn read_item(collection: &str, id: &str, value: &Value, problems: &Problems) -> Option<Entry> {
    let at = Path::root().key(collection).key(id);
    let kept = KEPT.iter().find(|(name, _)| *name == collection);
    let known = [
        "routes",
        "services",
        "upstreams",
        "plugin_configs",
        "global_rules",
        "consumers",
        "consumer_groups",
        "plugin_metadata",
    ];
    if kept.is_none() && !known.contains(&collection) {
        return None;
    }
    let object = Reader::new(value, at, problems).object()?;
    check_id(&object, id, problems);
    let own = id.to_owned();
    Some(match collection {
        "routes" => Entry::Route(Arc::new(route::read(object, own))),
        "services" => Entry::Service(Arc::new(service(object, own))),
        "upstreams" => Entry::Upstream(Arc::new(upstream::listed(object, own))),
        "plugin_configs" => Entry::PluginConfig(Arc::new(plugin_config(object, own))),
        "global_rules" => Entry::GlobalRule(Arc::new(global_rule(object, own))),
        "plugin_metadata" => Entry::PluginMetadata(Arc::new(plugin_metadata(object, own))),
        "consumer_groups" => Entry::ConsumerGroup(Arc::new(consumer::group(object, own))),
        "consumers" => match consumer::listed(object, own) {
            consumer::Listed::Consumer(consumer) => Entry::Consumer(Arc::new(consumer)),
            consumer::Listed::Credential { consumer, credential, .. } => {
                Entry::Credential(Arc::new((consumer, credential)))
            }
        },
        _ => Entry::Kept(kept_plugins(object, kept.map_or(&[], |(_, keys)| keys))),
    })
}

/// An item whose name differs from the name it is kept under would be found by one and deleted by
/// the other.
fn check_id(object: &Object<'_>, id: &str, problems: &Problems) {
    for (key, reader) in object.members() {
        let own = match (key, reader.value()) {
            ("id", Value::String(own)) => own.clone(),
            ("username", Value::String(own)) if !id.contains('/') => own.clone(),
            ("id", Value::Number(own)) => own.to_string(),
            _ => continue,
        };
        if own != id && !id.ends_with(&format!("/{own}")) {
            let message = format!("the {key} `{own}` is not the one it is kept under, `{id}`");
            problems.error(Problem::new(object.at().key(key), message));
        }
    }
}

fn kept_plugins(mut object: Object<'_>, needed: &'static [&'static str]) -> Arc<[PluginConf]> {
    item::times(&mut object);
    for key in needed {
        let _ = object.need(key);
    }
    let plugins = plugins::read(&mut object).unwrap_or_default();
    object.allow_unknown();
    plugins.into()
}

/// All items together. Order within a collection is the order of `entries`. A credential whose
/// consumer is not there is left out: nobody could be known by it.
pub fn gather<'a>(entries: impl Iterator<Item = &'a Entry>) -> Resources {
    let mut resources = Resources::default();
    let mut consumers = Vec::new();
    for entry in entries {
        match entry {
            Entry::Route(route) => resources.routes.push(Arc::clone(route)),
            Entry::Service(service) => resources.services.push(Arc::clone(service)),
            Entry::Upstream(upstream) => resources.upstreams.push(Arc::clone(upstream)),
            Entry::PluginConfig(config) => resources.plugin_configs.push(Arc::clone(config)),
            Entry::GlobalRule(rule) => resources.global_rules.push((**rule).clone()),
            Entry::PluginMetadata(metadata) => {
                resources.plugin_metadata.push((**metadata).clone());
            }
            Entry::ConsumerGroup(group) => resources.consumer_groups.push((**group).clone()),
            Entry::Consumer(consumer) => {
                consumers.push(consumer::Listed::Consumer((**consumer).clone()));
            }
            Entry::Credential(credential) => {
                let (consumer, credential) = (**credential).clone();
                let id = credential.id.clone();
                consumers.push(consumer::Listed::Credential { consumer, id, credential });
            }
            Entry::Kept(_) => {}
        }
    }
    resources.consumers = consumer::gather(consumers, &Problems::new());
    resources
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(collection: &str, id: &str, value: Value) -> Result<Option<Entry>, Vec<String>> {
        let problems = Problems::new();
        let entry = read_item(collection, id, &value, &problems);
        let (errors, _) = problems.into_parts();
        let shown = |problem: &Problem| format!("{}: {}", problem.at, problem.message);
        if errors.is_empty() { Ok(entry) } else { Err(errors.iter().map(shown).collect()) }
    }

    #[test]
    fn items_are_read_as_in_the_file() {
        let route = json!({"uri": "/a", "plugins": {"echo": {}}});
        let Ok(Some(Entry::Route(route))) = read("routes", "r-1", route) else { panic!("a route") };
        assert_eq!((route.id.as_str(), route.at.to_string()), ("r-1", "routes.r-1".to_owned()));
        assert_eq!(
            read("routes", "1", json!({"uris": "/a", "upstream_id": 1})),
            Err(vec!["routes.1.uris: expected a list, found string \"/a\"".to_owned()])
        );
        assert_eq!(
            read("upstreams", "1", json!({"id": 2, "nodes": {"a:1": 1}})),
            Err(vec!["upstreams.1.id: the id `2` is not the one it is kept under, `1`".to_owned()])
        );
        assert_eq!(read("gadgets", "1", json!({})), Ok(None));
        assert!(matches!(read("ssls", "1", json!({"sni": "a"})), Ok(Some(Entry::Kept(_)))));
        assert!(read("consumer_groups", "1", json!({})).is_err());
        assert!(read("routes", "1", json!([])).is_err());
    }

    #[test]
    fn credentials_find_their_consumer() {
        let key = |name: &str| json!({"plugins": {"key-auth": {"key": name}}});
        let problems = Problems::new();
        let jack = json!({"username": "jack"});
        let consumer = read_item("consumers", "jack", &jack, &problems).expect("a consumer");
        let mut one = key("k");
        one["id"] = "one".into();
        let credential = read_item("consumers", "jack/credentials/one", &one, &problems);
        let credential = credential.expect("a credential");
        assert!(problems.is_ok());
        let resources = gather([&consumer, &credential].into_iter());
        assert_eq!(resources.consumers[0].credentials[0].id, "one");
        assert!(gather([&credential].into_iter()).consumers.is_empty());
    }
}
