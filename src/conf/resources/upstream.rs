//! An upstream, listed or inline (APISIX reference §5).

use super::super::model::{Balancer, HashOn, KeepalivePool, Node, PassHost, Scheme, Upstream};
use super::{checks, item};
use crate::proxy_protocol::Version;
use crate::schema::{Fault, Object, Reader};
use serde_json::Value;
use std::net::Ipv6Addr;
use std::time::Duration;

/// APISIX's `keepalive_pool` where it leaves something out.
const KEEPALIVE: KeepalivePool =
    KeepalivePool { size: 320, idle_timeout: Duration::from_secs(60), requests: 1000 };

/// What the path of a unix socket stands behind.
const UNIX: &str = "unix:";

const NODES_HINT: &str = "as in `nodes: {\"127.0.0.1:1980\": 1}`";

const BALANCERS: [(&str, Balancer); 4] = [
    ("roundrobin", Balancer::RoundRobin),
    ("chash", Balancer::Chash),
    ("least_conn", Balancer::LeastConn),
    ("ewma", Balancer::Ewma),
];

const HASHED: [(&str, HashOn); 5] = [
    ("vars", HashOn::Vars),
    ("header", HashOn::Header),
    ("cookie", HashOn::Cookie),
    ("consumer", HashOn::Consumer),
    ("vars_combinations", HashOn::VarsCombinations),
];

const SCHEMES: [(&str, Option<Scheme>); 8] = [
    ("http", Some(Scheme::Http)),
    ("https", None),
    ("grpc", None),
    ("grpcs", None),
    ("tcp", None),
    ("tls", None),
    ("udp", None),
    ("kafka", None),
];

const PROXY_VERSIONS: [(&str, Version); 2] = [("v1", Version::V1), ("v2", Version::V2)];

/// The variables `chash` may hash, beside `arg_*`.
const HASHED_VARS: [&str; 10] = [
    "uri",
    "server_name",
    "server_addr",
    "request_uri",
    "remote_port",
    "remote_addr",
    "query_string",
    "host",
    "hostname",
    "mqtt_client_id",
];

/// An item of `upstreams`.
pub(super) fn listed(object: Object<'_>, default_id: String) -> Upstream {
    let mut upstream = read(object);
    upstream.id.get_or_insert(default_id);
    upstream
}

/// The `upstream` of a route or service.
pub(super) fn inline(object: &mut Object<'_>) -> Option<Upstream> {
    object.get("upstream")?.object().map(read)
}

fn read(mut object: Object<'_>) -> Upstream {
    item::times(&mut object);
    refuse_unsupported(&mut object);
    let scheme = scheme(&mut object);
    let balancer = object.one_of("type", &BALANCERS).unwrap_or_default();
    let hash_on = object.one_of("hash_on", &HASHED).unwrap_or_default();
    let key = object.get("key");
    if balancer == Balancer::Chash {
        check_key(&object, key.as_ref(), hash_on);
    }
    let upstream = Upstream {
        at: object.at().clone(),
        id: item::id(&mut object, "id"),
        name: item::name(&mut object),
        labels: item::labels(&mut object),
        nodes: nodes(&mut object, scheme),
        balancer,
        hash_on,
        key: key.and_then(|key| key.string(1..=usize::MAX).map(str::to_owned)),
        retries: object.integer("retries", 0..=i64::from(u32::MAX)).and_then(|n| n.try_into().ok()),
        retry_timeout: retry_timeout(&mut object),
        timeout: item::timeout(&mut object),
        scheme,
        pass_host: pass_host(&mut object),
        keepalive_pool: keepalive_pool(&mut object),
        checks: checks::read(&mut object),
        slow_start: slow_start(&mut object, balancer),
        proxy_protocol: object.one_of("proxy_protocol", &PROXY_VERSIONS),
    };
    object.finish();
    upstream
}

/// What would change where requests go, or how safely, if it were ignored.
fn refuse_unsupported(object: &mut Object<'_>) {
    for key in ["service_name", "discovery_type", "discovery_args"] {
        if let Some(reader) = object.get(key) {
            let fault = Fault::new(format!("`{key}`: discovery is not supported yet"));
            reader.error_on_key(fault.hint(format!("list the `nodes`, {NODES_HINT}")));
        }
    }
    if let Some(reader) = object.get("tls") {
        reader.error_on_key("`tls` is not supported yet");
    }
}

fn scheme(object: &mut Object<'_>) -> Scheme {
    let Some(reader) = object.get("scheme") else { return Scheme::default() };
    if reader.one_of(&SCHEMES) == Some(None) {
        let name = reader.value().as_str().unwrap_or_default();
        reader.error(format!("the scheme `{name}` is not supported yet"));
    }
    Scheme::Http
}

const fn default_port(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Http => 80,
    }
}

fn check_key(object: &Object<'_>, key: Option<&Reader<'_>>, hash_on: HashOn) {
    let Some(reader) = key else {
        if hash_on != HashOn::Consumer {
            object.error("`chash` needs `key`");
        }
        return;
    };
    let Some(key) = reader.value().as_str() else { return };
    let name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match hash_on {
        HashOn::Vars if !HASHED_VARS.contains(&key) && !key.starts_with("arg_") => {
            let known = HASHED_VARS.join(", ");
            let fault = Fault::new(format!("`chash` can't hash the variable {key:?}"));
            reader.error(fault.hint(format!("it can hash arg_*, {known}")));
        }
        HashOn::Header | HashOn::Cookie if !key.chars().all(name) => {
            reader.error("names of headers and cookies have letters, digits, `-` and `_`");
        }
        _ => {}
    }
}

fn retry_timeout(object: &mut Object<'_>) -> Option<Duration> {
    let reader = object.get("retry_timeout")?;
    let duration = item::seconds(&reader, reader.number(0.0..=f64::INFINITY)?)?;
    Some(duration).filter(|duration| !duration.is_zero())
}

/// Ours; in seconds.
fn slow_start(object: &mut Object<'_>, balancer: Balancer) -> Option<Duration> {
    let reader = object.get("slow_start")?;
    if balancer == Balancer::Chash {
        reader.warn_on_key("`slow_start` has no effect with `chash`");
    }
    let duration = item::seconds(&reader, reader.number(0.0..=f64::INFINITY)?)?;
    Some(duration).filter(|duration| !duration.is_zero())
}

fn pass_host(object: &mut Object<'_>) -> PassHost {
    let choices = [("pass", 0), ("node", 1), ("rewrite", 2)];
    let choice = object.one_of("pass_host", &choices).unwrap_or_default();
    let host = object.get("upstream_host");
    if let (Some(host), 0 | 1) = (&host, choice) {
        host.warn_on_key("`upstream_host` has no effect without `pass_host: rewrite`");
    }
    if host.is_none() && choice == 2 {
        object.error("`pass_host: rewrite` needs `upstream_host`");
    }
    let host = host.and_then(|host| item::host(&host));
    match choice {
        1 => PassHost::Node,
        2 => PassHost::Rewrite(host.unwrap_or_default()),
        _ => PassHost::Pass,
    }
}

fn keepalive_pool(object: &mut Object<'_>) -> Option<KeepalivePool> {
    let mut object = object.get("keepalive_pool")?.object()?;
    let size = object.integer("size", 1..=i64::from(u32::MAX));
    let requests = object.integer("requests", 1..=i64::MAX);
    let idle_timeout = object
        .get("idle_timeout")
        .and_then(|reader| item::seconds(&reader, reader.number(0.0..=f64::INFINITY)?));
    object.finish();
    Some(KeepalivePool {
        size: size.and_then(|size| size.try_into().ok()).unwrap_or(KEEPALIVE.size),
        idle_timeout: idle_timeout.unwrap_or(KEEPALIVE.idle_timeout),
        requests: requests.and_then(|n| n.try_into().ok()).unwrap_or(KEEPALIVE.requests),
    })
}

fn nodes(object: &mut Object<'_>, scheme: Scheme) -> Vec<Node> {
    let Some(reader) = object.get("nodes") else {
        if !object.has("service_name") {
            let fault = Fault::new(format!("the upstream {} has no `nodes`", object.at()));
            object.error(fault.hint(NODES_HINT));
        }
        return Vec::new();
    };
    let count = match reader.value() {
        Value::Array(list) => list.len(),
        Value::Object(map) => map.len(),
        _ => {
            reader.expected("an object or a list");
            return Vec::new();
        }
    };
    if count == 0 {
        let fault = Fault::new("without a node its requests will be answered 503");
        reader.warn(fault.hint(NODES_HINT));
    }
    match reader.value() {
        Value::Array(_) => {
            reader.list_of(0..=usize::MAX, |reader| node(&reader, scheme)).unwrap_or_default()
        }
        _ => {
            let members = reader.object().into_iter();
            let members = members.flat_map(|object| object.members().collect::<Vec<_>>());
            members.filter_map(|(address, reader)| member(address, &reader, scheme)).collect()
        }
    }
}

/// `"127.0.0.1:1980": 1`.
fn member(address: &str, reader: &Reader<'_>, scheme: Scheme) -> Option<Node> {
    let weight = weight(reader);
    let parsed = parse_address(address);
    if let Err(fault) = &parsed {
        reader.error_on_key(fault.clone());
    }
    let (host, port) = parsed.ok()?;
    let port = port_of(&host, port, scheme);
    Some(Node { at: reader.at().clone(), host, port, weight: weight?, priority: 0 })
}

/// `{host: 127.0.0.1, port: 1980, weight: 1}`.
fn node(reader: &Reader<'_>, scheme: Scheme) -> Option<Node> {
    let mut object = reader.clone().object()?;
    let host = object.need("host").and_then(|reader| node_host(&reader));
    let port = object.integer("port", 1..=65_535).and_then(|port| port.try_into().ok());
    let weight = object.need("weight").and_then(|reader| weight(&reader));
    let priority = object.integer("priority", i64::MIN..=i64::MAX).unwrap_or(0);
    let _ = object.get("metadata").and_then(Reader::object);
    object.finish();
    let host = host?;
    let port = port_of(&host, port, scheme);
    Some(Node { at: reader.at().clone(), host, port, weight: weight?, priority })
}

/// A unix socket has no port.
fn port_of(host: &str, port: Option<u16>, scheme: Scheme) -> u16 {
    if host.starts_with(UNIX) { 0 } else { port.unwrap_or(default_port(scheme)) }
}

fn weight(reader: &Reader<'_>) -> Option<u32> {
    reader.integer(0..=i64::from(u32::MAX)).and_then(|weight| weight.try_into().ok())
}

fn node_host(reader: &Reader<'_>) -> Option<String> {
    let text = reader.string(1..=usize::MAX)?;
    match parse_address(text) {
        Ok((host, None)) => return Some(host),
        Ok((host, Some(port))) => {
            let fault = Fault::new(format!("{text:?} is a host with a port"));
            reader.error(fault.hint(format!("write `host: {host}` and `port: {port}`")));
        }
        Err(fault) => reader.error(fault),
    }
    None
}

/// A host, perhaps with a port, as APISIX's `parse_addr` reads it: IPv6 in brackets may have one,
/// bare IPv6 has none.
fn parse_address(text: &str) -> Result<(String, Option<u16>), Fault> {
    if let Some(path) = text.strip_prefix(UNIX) {
        return socket_path(path).map(|()| (text.to_owned(), None));
    }
    let fault = || Fault::new(format!("{text:?} is not a host with a port"));
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, rest) = rest.split_once(']').ok_or_else(fault)?;
            inside.parse::<Ipv6Addr>().map_err(|_| fault())?;
            let port = if rest.is_empty() { None } else { rest.strip_prefix(':') };
            (inside, if rest.is_empty() { None } else { Some(port.ok_or_else(fault)?) })
        }
        None if text.parse::<Ipv6Addr>().is_ok() => (text, None),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || !host.chars().all(fits) {
        return Err(fault().hint("as in `127.0.0.1:1980`, `example.com:80` or `[::1]:1980`"));
    }
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => return Err(fault().hint("a port is a number from 1 to 65535")),
    };
    Ok((host.to_owned(), port))
}

/// The path of a unix socket: the kernel takes 107 bytes, and nothing relative to where we happen
/// to be started.
fn socket_path(path: &str) -> Result<(), Fault> {
    if !path.starts_with('/') || path.contains('\0') {
        let fault = Fault::new(format!("{path:?} is no absolute path of a socket"));
        return Err(fault.hint("as in `unix:/run/app.sock`"));
    }
    if path.len() > 107 {
        return Err(Fault::new("the path of a socket has at most 107 bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, host, port) in [
            ("127.0.0.1:1980", "127.0.0.1", Some(1980)),
            ("example.com", "example.com", None),
            ("a_b-c.d:65535", "a_b-c.d", Some(65535)),
            ("[::1]:80", "::1", Some(80)),
            ("[::1]", "::1", None),
            ("::1", "::1", None),
            ("fe80::1:80", "fe80::1:80", None),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4", None),
            ("unix:/run/a:b.sock", "unix:/run/a:b.sock", None),
        ] {
            assert_eq!(parse_address(text), Ok((host.to_owned(), port)), "{text}");
        }
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:b",
            "[::1",
            "[::1]x",
            "[a]:1",
            "a b",
            "http://a",
            "a:1:2",
            "[::1]80",
            "é",
            "unix:",
            "unix:run/a",
            "unix:/a\0b",
        ] {
            assert!(parse_address(text).is_err(), "{text}");
        }
    }
}
