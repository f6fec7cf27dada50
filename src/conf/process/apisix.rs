//! The section `apisix`: listeners, router, path rules.

use super::super::load::Duplicate;
use super::super::settings::{Dns, Router};
use super::{Once, dns, ignore, is_off};
use crate::schema::{Fault, Object, Reader};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The port APISIX listens on by default.
const DEFAULT_PORT: u16 = 9080;

const ROUTERS: [(&str, Option<Router>); 3] = [
    ("radixtree_host_uri", Some(Router::HostUri)),
    ("radixtree_uri", Some(Router::Uri)),
    ("radixtree_uri_with_parameter", None),
];

/// Keys without effect here. `trusted_addresses` is one of them because nobody is trusted without
/// it.
const IGNORED: [&str; 25] = [
    "control",
    "data_encryption",
    "disable_sync_configuration_during_start",
    "disable_upstream_healthcheck",
    "enable_admin",
    "enable_control",
    "enable_debug",
    "enable_dev_mode",
    "enable_http2",
    "enable_ipv6",
    "enable_resolv_search_opt",
    "enable_reuseport",
    "events",
    "extra_lua_cpath",
    "extra_lua_path",
    "id",
    "lru",
    "max_post_args_readable_size",
    "proxy_cache",
    "show_upstream_status_in_response_header",
    "status",
    "stream_proxy",
    "tracing",
    "trusted_addresses",
    "worker_startup_time_threshold",
];

pub(super) struct Apisix {
    pub(super) listen: Vec<SocketAddr>,
    pub(super) server_tokens: bool,
    pub(super) router: Router,
    pub(super) delete_uri_tail_slash: bool,
    pub(super) dns: Dns,
}

pub(super) fn read(mut object: Object<'_>, duplicates: &mut Vec<Duplicate>) -> Apisix {
    let apisix = Apisix {
        listen: listen(&mut object, duplicates),
        server_tokens: object.boolean("enable_server_tokens").unwrap_or(true),
        router: router(object.section("router")),
        delete_uri_tail_slash: object.boolean("delete_uri_tail_slash").unwrap_or(false),
        dns: dns::read(&mut object),
    };
    for key in ["match_uri_encoded_slash", "normalize_uri_like_servlet"] {
        if let Some(reader) = object.get(key).filter(|reader| reader.boolean() == Some(true)) {
            reader.error(format!("`{key}: true` is not supported yet"));
        }
    }
    proxy_mode(&mut object);
    for key in ["proxy_protocol", "lua_module_hook"] {
        if let Some(reader) = object.get(key).filter(|reader| !is_off(reader.value())) {
            reader.error_on_key(format!("`{key}` is not supported yet"));
        }
    }
    tls(&mut object);
    ignore(&mut object, &IGNORED);
    object.finish();
    apisix
}

fn router(mut object: Object<'_>) -> Router {
    let mut router = Router::default();
    if let Some(reader) = object.get("http") {
        match reader.one_of(&ROUTERS) {
            Some(Some(known)) => router = known,
            Some(None) => {
                let name = reader.value().as_str().unwrap_or_default();
                let fault = Fault::new(format!("the router `{name}` is not supported yet"));
                reader.error(fault.hint("use `radixtree_host_uri` or `radixtree_uri`"));
            }
            None => {}
        }
    }
    // There is one way to choose a certificate.
    let _ = object.one_of("ssl", &[("radixtree_sni", ())]);
    object.finish();
    router
}

fn proxy_mode(object: &mut Object<'_>) {
    let Some(reader) = object.get("proxy_mode") else { return };
    let modes = [("http", true), ("stream", false), ("http&stream", false)];
    if reader.one_of(&modes) == Some(false) {
        reader.error(Fault::new("only `proxy_mode: http` is supported yet"));
    }
}

/// Listeners for TLS that are asked for and not opened would be found by the first client.
fn tls(object: &mut Object<'_>) {
    let Some(reader) = object.get("ssl") else { return };
    let enabled = reader.value().get("enable") != Some(&Value::Bool(false));
    let listens = reader.value().get("listen").is_some_and(|listen| !is_off(listen));
    if enabled && listens {
        let fault = Fault::new("listening for TLS is not supported yet");
        reader.error_on_key(fault.hint("remove `listen`, or set `enable: false`"));
    } else if enabled {
        ignore(object, &["ssl"]);
    }
}

/// `node_listen`: a port, or a list of ports and of `{ip, port}`.
fn listen(object: &mut Object<'_>, duplicates: &mut Vec<Duplicate>) -> Vec<SocketAddr> {
    let anywhere = |port| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
    let Some(reader) = object.get("node_listen") else { return vec![anywhere(DEFAULT_PORT)] };
    if !reader.value().is_array() {
        return port(&reader).map(anywhere).into_iter().collect();
    }
    let mut once = Once::new("the address");
    let entry = |element: Reader<'_>| {
        let address = match element.value() {
            Value::Object(_) => address(element.clone().object()?)?,
            _ => anywhere(port(&element)?),
        };
        if address.port() != 0 {
            once.see(&address.to_string(), element.at(), duplicates);
        }
        Some(address)
    };
    reader.list_of(1..=usize::MAX, entry).unwrap_or_default()
}

fn address(mut object: Object<'_>) -> Option<SocketAddr> {
    let port = object.need("port").and_then(|reader| port(&reader));
    let ip = match object.get("ip") {
        Some(reader) => ip(&reader),
        None => Some(Ipv4Addr::UNSPECIFIED.into()),
    };
    ignore(&mut object, &["enable_http2", "enable_http3"]);
    object.finish();
    Some(SocketAddr::new(ip?, port?))
}

/// 0 is a port that is free, chosen at start and printed.
pub(super) fn port(reader: &Reader<'_>) -> Option<u16> {
    reader.integer(0..=65_535).and_then(|port| port.try_into().ok())
}

pub(super) fn ip(reader: &Reader<'_>) -> Option<IpAddr> {
    let text = reader.string(1..=usize::MAX)?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().ok();
    if ip.is_none() {
        let fault = Fault::new(format!("{text:?} is not an address"));
        reader.error(fault.hint("as in `127.0.0.1`, `0.0.0.0` or `::`"));
    }
    ip
}
