//! Where the gateway listens: APISIX's `apisix.node_listen` and `apisix.proxy_protocol`, and
//! `ringgate.listen`, which adds addresses or says more about those.

use super::super::load::Duplicate;
use super::ringgate::size;
use super::runners::SOCKET_BYTES_MAX;
use super::{Once, ignore, is_off, units};
use crate::listen::{Address, BACKLOG, Options, Probes};
use crate::schema::{Fault, Object, Reader};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The port APISIX listens on by default.
const DEFAULT_PORT: u16 = 9080;

/// Connections that may wait; the kernel takes no more than its own bound.
const BACKLOG_MAX: i64 = 1024 * 1024;

/// The kernel's bounds of probes (`tcp.h`: `MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPCNT`).
const PROBES_MAX: i64 = 127;
const PROBE_TIME_MAX: Duration = Duration::from_secs(32_767);

/// `node_listen`: a port, or a list of ports and of `{ip, port}`. None at all only for a list that
/// is empty.
pub(super) fn nodes(object: &mut Object<'_>, duplicates: &mut Vec<Duplicate>) -> Vec<Options> {
    let usual = || vec![Options::new(anywhere(DEFAULT_PORT))];
    let Some(reader) = object.get("node_listen") else { return usual() };
    if !reader.value().is_array() {
        return port(&reader).map_or_else(usual, |port| vec![Options::new(anywhere(port))]);
    }
    let mut once = Once::new("the address");
    let entry = |element: Reader<'_>| {
        let address = match element.value() {
            Value::Object(_) => Address::Tcp(ip_and_port(element.clone().object()?)?),
            _ => anywhere(port(&element)?),
        };
        see(&mut once, &address, &element, duplicates);
        Some(Options::new(address))
    };
    let is_empty = reader.value().as_array().is_some_and(Vec::is_empty);
    match reader.list_of(0..=usize::MAX, entry) {
        Some(all) if is_empty || !all.is_empty() => all,
        // What is there is wrong, and was said to be.
        _ => usual(),
    }
}

fn anywhere(port: u16) -> Address {
    Address::Tcp(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
}

fn see(once: &mut Once, address: &Address, element: &Reader<'_>, duplicates: &mut Vec<Duplicate>) {
    if address.is_fixed() {
        once.see(&address.to_string(), element.at(), duplicates);
    }
}

fn ip_and_port(mut object: Object<'_>) -> Option<SocketAddr> {
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

/// `apisix.proxy_protocol`: a port more, whose connections begin with a PROXY protocol header.
pub(super) fn proxied(object: &mut Object<'_>) -> Option<Options> {
    let reader = object.get("proxy_protocol").filter(|reader| !is_off(reader.value()))?;
    let mut section = reader.object()?;
    let port = section.get("listen_http_port").and_then(|reader| port(&reader));
    if let Some(reader) = section.get("listen_https_port").filter(|it| !is_off(it.value())) {
        reader.error_on_key("listening for TLS is not supported yet");
    }
    ignore(&mut section, &["enable_tcp_pp", "enable_tcp_pp_to_upstream"]);
    section.finish();
    port.map(|port| Options { proxied: true, ..Options::new(anywhere(port)) })
}

/// `ringgate.listen`.
pub(super) fn more(object: &mut Object<'_>, duplicates: &mut Vec<Duplicate>) -> Vec<Options> {
    let Some(reader) = object.get("listen") else { return Vec::new() };
    let mut once = Once::new("the address");
    let entry = |element: Reader<'_>| {
        let listener = listener(element.clone().object()?)?;
        see(&mut once, &listener.address, &element, duplicates);
        Some(listener)
    };
    reader.list_of(0..=usize::MAX, entry).unwrap_or_default()
}

/// All listeners: those of `more` take the place of others on the same address.
pub(super) fn merged(mut nodes: Vec<Options>, more: Vec<Options>) -> Vec<Options> {
    for listener in more {
        let is_same =
            |node: &&mut Options| node.address.is_fixed() && node.address == listener.address;
        match nodes.iter_mut().find(is_same) {
            Some(node) => *node = listener,
            None => nodes.push(listener),
        }
    }
    nodes
}

fn listener(mut object: Object<'_>) -> Option<Options> {
    let address = object.need("address").and_then(|reader| address(&reader));
    let proxied = object.boolean("proxy_protocol").unwrap_or(false);
    let nodelay = object.boolean("nodelay").unwrap_or(true);
    let backlog = size(&mut object, "backlog", 1, BACKLOG_MAX);
    let fastopen = size(&mut object, "fastopen", 1, BACKLOG_MAX);
    let number = |size: Option<usize>| size.and_then(|size| size.try_into().ok());
    let defer_accept = units::time(&mut object, "defer_accept", false);
    let probes = object.get("keepalive").and_then(|reader| probes(reader.object()?));
    let mode = object.get("mode").and_then(|reader| mode(&reader));
    if let (Some(Address::Tcp(_)), true) = (&address, object.has("mode")) {
        object.error("`mode` is for unix sockets");
    }
    object.finish();
    Some(Options {
        address: address?,
        proxied,
        backlog: number(backlog).unwrap_or(BACKLOG),
        nodelay,
        probes,
        fastopen: number(fastopen),
        defer_accept,
        mode,
    })
}

/// `127.0.0.1:80`, `[::1]:80`, `unix:/run/ringgate.sock`.
fn address(reader: &Reader<'_>) -> Option<Address> {
    let text = reader.string(1..=usize::MAX)?;
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() || path.len() > SOCKET_BYTES_MAX {
            let fault = format!("a socket's path has 1 to {SOCKET_BYTES_MAX} bytes");
            reader.error(fault);
        }
        return Some(Address::Unix(path.into()));
    }
    let address = text.parse().ok().map(Address::Tcp);
    if address.is_none() {
        let fault = Fault::new(format!("{text:?} is not an address to listen on"));
        reader.error(fault.hint("as in `0.0.0.0:80`, `[::]:80` or `unix:/run/ringgate.sock`"));
    }
    address
}

fn probes(mut object: Object<'_>) -> Option<Probes> {
    let mut time = |key, seconds| {
        let time = units::time(&mut object, key, false).unwrap_or(Duration::from_secs(seconds));
        if time > PROBE_TIME_MAX || time.subsec_nanos() > 0 {
            let most = PROBE_TIME_MAX.as_secs();
            object.error(format!("`{key}`: expected whole seconds, at most {most}"));
        }
        time
    };
    let (idle, interval) = (time("idle", 60), time("interval", 10));
    let count = object.integer("count", 1..=PROBES_MAX).unwrap_or(6);
    object.finish();
    Some(Probes { idle, interval, count: count.try_into().ok()? })
}

/// Permissions, in octal digits as chmod(1) takes them.
fn mode(reader: &Reader<'_>) -> Option<u32> {
    let text = reader.string(1..=4)?;
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    if mode.is_none() {
        reader.error(Fault::new(format!("{text:?} is not a mode")).hint("as in `\"0660\"`"));
    }
    mode
}
