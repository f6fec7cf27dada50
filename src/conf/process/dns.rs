//! How names are resolved: `apisix.dns_resolver`, `dns_resolver_valid`, `resolver_timeout`.

use super::super::settings::Dns;
use crate::schema::{Fault, Object, Reader};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The port of DNS.
const PORT: u16 = 53;

pub(super) fn read(object: &mut Object<'_>) -> Dns {
    let servers = object.get("dns_resolver");
    let servers = servers.and_then(|reader| reader.list_of(0..=usize::MAX, |one| server(&one)));
    let valid = object.integer("dns_resolver_valid", 1..=i64::from(u32::MAX));
    let timeout = object.integer("resolver_timeout", 1..=3600).unwrap_or(5);
    Dns {
        servers: servers.unwrap_or_default(),
        valid: valid.map(|seconds| Duration::from_secs(seconds.unsigned_abs())),
        timeout: Duration::from_secs(timeout.unsigned_abs()),
    }
}

/// An address, perhaps with a port.
fn server(reader: &Reader<'_>) -> Option<SocketAddr> {
    let text = reader.string(1..=usize::MAX)?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ip = || bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
    let server = text.parse().or_else(|_| ip()).ok();
    if server.is_none() {
        let fault = Fault::new(format!("{text:?} is not an address of a name server"));
        reader.error(fault.hint("as in `10.0.0.2`, `10.0.0.2:5353` or `[fd00::2]:53`"));
    }
    server
}
