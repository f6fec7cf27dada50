//! The section `plugin_attr`: of its plugins only `prometheus` has a meaning here.

use super::super::settings::MetricsServer;
use super::listen::{ip, port};
use super::{ignore, is_off};
use crate::schema::{Fault, Object};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where APISIX serves its metrics.
const DEFAULT_PORT: u16 = 9091;
const DEFAULT_URI: &str = "/apisix/prometheus/metrics";
const DEFAULT_PREFIX: &str = "apisix_";

/// Keys of `prometheus` without effect here.
const IGNORED: [&str; 6] = [
    "allow_degradation_metrics",
    "default_buckets",
    "export_hostname",
    "fetch_metric_timeout",
    "metrics",
    "refresh_interval",
];

/// Plugins that are not here; naming one on a route is an error.
const IGNORED_PLUGINS: [&str; 8] = [
    "dubbo-proxy",
    "inspect",
    "log-rotate",
    "opentelemetry",
    "proxy-mirror",
    "server-info",
    "skywalking",
    "zipkin",
];

pub(super) fn read(mut object: Object<'_>) -> MetricsServer {
    let server = prometheus(object.section("prometheus"));
    // A redirect to another port is one to another service.
    let mut redirect = object.section("redirect");
    if let Some(reader) = redirect.get("https_port") {
        let fault = Fault::new("`https_port` is not supported yet");
        reader.error_on_key(fault.hint("name the port in the plugin's `uri`"));
    }
    redirect.allow_unknown();
    ignore(&mut object, &IGNORED_PLUGINS);
    for (key, reader) in object.members() {
        if ![&["prometheus", "redirect"][..], &IGNORED_PLUGINS].concat().contains(&key)
            && !is_off(reader.value())
        {
            reader.warn_on_key(format!("`{}` has no effect in ringgate yet", reader.at()));
        }
    }
    object.allow_unknown();
    server
}

fn prometheus(mut object: Object<'_>) -> MetricsServer {
    let enabled = object.boolean("enable_export_server").unwrap_or(true);
    let is_named = object.has("export_addr");
    let address = address(object.section("export_addr"));
    let server = MetricsServer {
        listen: enabled.then_some(address),
        is_named,
        uri: uri(&mut object),
        prefix: prefix(&mut object),
    };
    ignore(&mut object, &IGNORED);
    object.finish();
    server
}

fn address(mut object: Object<'_>) -> SocketAddr {
    let port = object.get("port").and_then(|reader| port(&reader)).unwrap_or(DEFAULT_PORT);
    let ip = object.get("ip").and_then(|reader| ip(&reader));
    object.finish();
    SocketAddr::new(ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port)
}

/// A plain path: it is matched as it stands.
fn uri(object: &mut Object<'_>) -> String {
    let Some(reader) = object.get("export_uri") else { return DEFAULT_URI.to_owned() };
    let Some(text) = reader.string(1..=usize::MAX) else { return DEFAULT_URI.to_owned() };
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
    if !text.starts_with('/') || !text.chars().all(plain) {
        let fault = Fault::new(format!("{text:?} is not a plain path"));
        reader.error(fault.hint(format!("as in `{DEFAULT_URI}`")));
    }
    text.to_owned()
}

fn prefix(object: &mut Object<'_>) -> String {
    let Some(reader) = object.get("metric_prefix") else { return DEFAULT_PREFIX.to_owned() };
    let Some(text) = reader.string(0..=64) else { return DEFAULT_PREFIX.to_owned() };
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !text.chars().all(good) || text.starts_with(|c: char| c.is_ascii_digit()) {
        let fault = Fault::new(format!("no metric's name can begin with {text:?}"));
        reader.error(fault.hint("letters, digits and `_`, not a digit first"));
    }
    text.to_owned()
}
