//! A route (APISIX reference §3).

use super::super::model::Route;
use super::{item, plugins, upstream};
use crate::http::{Method, Methods};
use crate::schema::{Fault, Object, Reader};

const METHODS: [(&str, Method); 10] = [
    ("GET", Method::Get),
    ("POST", Method::Post),
    ("PUT", Method::Put),
    ("DELETE", Method::Delete),
    ("PATCH", Method::Patch),
    ("HEAD", Method::Head),
    ("OPTIONS", Method::Options),
    ("CONNECT", Method::Connect),
    ("TRACE", Method::Trace),
    ("PURGE", Method::Purge),
];

pub(super) fn read(mut object: Object<'_>, default_id: String) -> Route {
    check_parts(&object);
    item::times(&mut object);
    item::refuse_lua(&mut object, &["filter_func", "script", "script_id"]);
    let route = Route {
        at: object.at().clone(),
        id: item::id(&mut object, "id").unwrap_or(default_id),
        name: item::name(&mut object),
        labels: item::labels(&mut object),
        uris: item::one_or_many(&mut object, "uri", "uris", uri),
        priority: object.integer("priority", i64::MIN..=i64::MAX).unwrap_or(0),
        methods: methods(&mut object),
        hosts: item::one_or_many(&mut object, "host", "hosts", item::host),
        remote_addrs: item::one_or_many(&mut object, "remote_addr", "remote_addrs", item::network),
        vars: plugins::rule(&mut object, "vars"),
        timeout: item::timeout(&mut object),
        plugins: plugins::read(&mut object).unwrap_or_default(),
        plugin_config_id: item::id(&mut object, "plugin_config_id"),
        service_id: item::id(&mut object, "service_id"),
        upstream_id: item::id(&mut object, "upstream_id"),
        upstream: upstream::inline(&mut object),
        enable_websocket: object.boolean("enable_websocket"),
        enabled: object.integer("status", 0..=1) != Some(0),
    };
    object.finish();
    route
}

/// What a route must have.
fn check_parts(object: &Object<'_>) {
    if !object.has("uri") && !object.has("uris") {
        object.error(
            Fault::new(format!("missing key `uri` in {}", object.at()))
                .hint("`uri: /*` matches every path"),
        );
    }
    let parts = ["plugins", "upstream", "upstream_id", "service_id", "script"];
    if !parts.iter().any(|part| object.has(part)) {
        object.error(
            Fault::new(format!("{} does nothing", object.at()))
                .hint("give it `plugins`, `upstream`, `upstream_id` or `service_id`"),
        );
    }
}

fn uri(reader: &Reader<'_>) -> Option<String> {
    let uri = reader.string(1..=4096)?;
    if !uri.starts_with(['/', '*']) {
        reader.warn("this matches no path: paths begin with `/`");
    }
    Some(uri.to_owned())
}

/// APISIX takes `methods: []` for all methods.
fn methods(object: &mut Object<'_>) -> Methods {
    let method = |reader: &Reader<'_>| reader.one_of(&METHODS);
    let read = |reader: Reader<'_>| item::unique(&reader, 0, method);
    let methods = object.get("methods").and_then(read).unwrap_or_default();
    methods.into_iter().fold(Methods::default(), Methods::with)
}
