//! The section `apisix`: listeners, router, path rules.

use super::super::load::Duplicate;
use super::super::operators::OperatorListen;
use super::super::settings::{Dns, Router};
use super::{deployment, dns, ignore, is_off, listen};
use crate::listen::Options;
use crate::schema::{Fault, Object};
use ipnet::IpNet;

const ROUTERS: [(&str, Option<Router>); 3] = [
    ("radixtree_host_uri", Some(Router::HostUri)),
    ("radixtree_uri", Some(Router::Uri)),
    ("radixtree_uri_with_parameter", None),
];

/// Keys without effect here.
const IGNORED: [&str; 20] = [
    "data_encryption",
    "disable_sync_configuration_during_start",
    "disable_upstream_healthcheck",
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
    "stream_proxy",
    "tracing",
    "worker_startup_time_threshold",
];

pub(super) struct Apisix {
    pub(super) listen: Vec<Options>,
    pub(super) server_tokens: bool,
    pub(super) router: Router,
    pub(super) delete_uri_tail_slash: bool,
    pub(super) enable_admin: Option<bool>,
    pub(super) control: Option<OperatorListen>,
    pub(super) status: Option<OperatorListen>,
    pub(super) dns: Dns,
    pub(super) trusted: Vec<String>,
    pub(super) trusted_addresses: Vec<IpNet>,
}

pub(super) fn read(mut object: Object<'_>, duplicates: &mut Vec<Duplicate>) -> Apisix {
    let (control, status) = deployment::listeners(&mut object);
    let nodes = listen::nodes(&mut object, duplicates);
    let proxied = listen::proxied(&mut object);
    let mut apisix = Apisix {
        listen: listen::merged(nodes, proxied.into_iter().collect()),
        enable_admin: object.boolean("enable_admin"),
        control,
        status,
        server_tokens: object.boolean("enable_server_tokens").unwrap_or(true),
        router: router(object.section("router")),
        delete_uri_tail_slash: object.boolean("delete_uri_tail_slash").unwrap_or(false),
        dns: dns::read(&mut object),
        trusted: Vec::new(),
        trusted_addresses: trusted_addresses(&mut object),
    };
    for key in ["match_uri_encoded_slash", "normalize_uri_like_servlet"] {
        if let Some(reader) = object.get(key).filter(|reader| reader.boolean() == Some(true)) {
            reader.error(format!("`{key}: true` is not supported yet"));
        }
    }
    proxy_mode(&mut object);
    if let Some(reader) = object.get("lua_module_hook").filter(|it| !is_off(it.value())) {
        reader.error_on_key("`lua_module_hook` is not supported yet");
    }
    apisix.trusted = tls(&mut object);
    ignore(&mut object, &IGNORED);
    object.finish();
    apisix
}

fn trusted_addresses(object: &mut Object<'_>) -> Vec<IpNet> {
    let list = object.get("trusted_addresses").filter(|reader| !reader.value().is_null());
    let list = list
        .and_then(|reader| reader.list_of(1..=usize::MAX, |reader| deployment::network(&reader)));
    list.unwrap_or_default()
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

/// How TLS is spoken to clients, which nobody does here.
const TLS_KEYS: [&str; 6] = [
    "fallback_sni",
    "key_encrypt_salt",
    "ssl_cert",
    "ssl_ciphers",
    "ssl_protocols",
    "ssl_session_tickets",
];

/// Listeners for TLS that are asked for and not opened would be found by the first client. Gives
/// whose certificates are believed.
fn tls(object: &mut Object<'_>) -> Vec<String> {
    let mut ssl = object.section("ssl");
    let trusted = ssl.string("ssl_trusted_certificate", 1..=usize::MAX).unwrap_or("system");
    let trusted = trusted.split(',').map(str::trim).filter(|name| !name.is_empty());
    let trusted = trusted.map(str::to_owned).collect();
    let enabled = ssl.get("enable");
    let is_off_here = enabled.as_ref().is_some_and(|reader| reader.boolean() == Some(false));
    if is_off_here {
        ssl.allow_unknown();
        return trusted;
    }
    if let Some(reader) = ssl.get("listen").filter(|reader| !is_off(reader.value())) {
        let fault = Fault::new("listening for TLS is not supported yet");
        reader.error_on_key(fault.hint("remove `listen`, or set `enable: false`"));
    } else {
        ignore(&mut ssl, &["enable"]);
        ignore(&mut ssl, &TLS_KEYS);
    }
    ssl.allow_unknown();
    trusted
}
