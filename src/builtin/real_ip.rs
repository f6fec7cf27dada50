//! `real-ip`: the client's address as a proxy before us tells it.
//!
//! As APISIX's plugin of that name (`apisix/plugins/real-ip.lua`, nginx's realip module). From here
//! on the told address is the peer, for other plugins, variables and the upstream; where the
//! connection really came from stays in `$realip_remote_addr`.

use super::ip_restriction::{contains, read_networks};
use crate::expr::Variables;
use crate::plugin::{Action, Hooks, Message, Plugin, Stream, check_variable};
use crate::schema::Reader;
use ipnet::IpNet;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub(super) const NAME: &str = "real-ip";

#[derive(Debug)]
struct RealIp {
    source: Source,
    /// Who is believed; `None`: everyone.
    trusted: Option<Vec<IpNet>>,
    /// Trusted addresses at the end of the list are passed over.
    recursive: bool,
}

#[derive(Debug)]
enum Source {
    /// The list in `X-Forwarded-For`, its last one first.
    ForwardedFor,
    Variable(Box<str>),
}

impl Plugin for RealIp {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST_HEADERS
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let message: &mut Message = stream.message;
        let peer = message.connection.peer;
        if self.trusts(peer.ip())
            && let Some((address, port)) = self.told(message)
        {
            message.direct_peer.get_or_insert(peer);
            message.connection.peer = SocketAddr::new(address, port.unwrap_or(peer.port()));
        }
        Action::Continue
    }
}

impl RealIp {
    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.as_ref().is_none_or(|trusted| contains(trusted, address))
    }

    fn told(&self, message: &Message) -> Option<(IpAddr, Option<u16>)> {
        match &self.source {
            Source::Variable(name) => match message.variable(name)? {
                Cow::Borrowed(text) => parse(text),
                Cow::Owned(text) => parse(&text),
            },
            Source::ForwardedFor => {
                // Of several fields the last one was written nearest to us.
                let field = message.request.headers.values(b"x-forwarded-for").last()?;
                let mut told =
                    field.rsplit(|byte| *byte == b',').map(|one| parse(one.trim_ascii()));
                let last = told.next().flatten()?;
                if !self.recursive || self.trusted.is_none() || !self.trusts(last.0) {
                    return Some(last);
                }
                let mut first_trusted = last;
                for one in told.map_while(|one| one) {
                    if !self.trusts(one.0) {
                        return Some(one);
                    }
                    first_trusted = one;
                }
                Some(first_trusted)
            }
        }
    }
}

/// An address, perhaps with a port, perhaps in brackets.
fn parse(text: &[u8]) -> Option<(IpAddr, Option<u16>)> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse() {
        return Some((address, None));
    }
    let with_port: SocketAddr = text.parse().ok()?;
    (with_port.port() != 0).then(|| (with_port.ip(), Some(with_port.port())))
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    let source = object.need("source").and_then(|reader| {
        let name = reader.string(1..=usize::MAX)?;
        check_variable(name, &reader);
        Some(name)
    });
    let trusted = read_networks(&mut object, "trusted_addresses");
    let recursive = object.boolean("recursive").unwrap_or(false);
    object.allow_unknown();
    let source = match source? {
        "http_x_forwarded_for" => Source::ForwardedFor,
        name => Source::Variable(name.into()),
    };
    Some(Arc::new(RealIp { source, trusted, recursive }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::testing::{plugin, refused, request, run};
    use serde_json::json;

    #[test]
    fn told_addresses() {
        let argument = json!({ "source": "arg_realip" });
        let header = json!({ "source": "http_x_forwarded_for" });
        let trusting =
            json!({ "source": "http_x_forwarded_for", "trusted_addresses": ["127.0.0.0/8"] });
        let wary = json!({ "source": "arg_realip", "trusted_addresses": ["192.0.2.0/24", "::/0"] });
        let recursive = json!({
            "source": "http_x_forwarded_for", "recursive": true,
            "trusted_addresses": ["127.0.0.0/8", "10.0.0.0/8"],
        });
        for (conf, target, forwarded, peer) in [
            (&argument, "/?realip=1.2.3.4", "", "1.2.3.4:4000"),
            (&argument, "/?realip=1.2.3.4:9080", "", "1.2.3.4:9080"),
            (&argument, "/?realip=::1", "", "[::1]:4000"),
            (&argument, "/?realip=[::1]", "", "[::1]:4000"),
            (&argument, "/?realip=[::1]:80", "", "[::1]:80"),
            (&argument, "/", "", "127.0.0.1:4000"),
            (&argument, "/?realip=apisix.apache.org", "", "127.0.0.1:4000"),
            (&argument, "/?realip=1.2.3.4:0", "", "127.0.0.1:4000"),
            (&argument, "/?realip=1.2.3.4:65536", "", "127.0.0.1:4000"),
            (&header, "/", "9.9.9.9, 1.2.3.4", "1.2.3.4:4000"),
            (&header, "/", "1.2.3.4", "1.2.3.4:4000"),
            (&header, "/", "1.2.3.4, unknown", "127.0.0.1:4000"),
            (&trusting, "/", "9.9.9.9, 1.2.3.4", "1.2.3.4:4000"),
            (&wary, "/?realip=1.2.3.4", "", "127.0.0.1:4000"),
            (&recursive, "/", "9.9.9.9, 1.2.3.4, 10.0.0.7, 127.0.0.2", "1.2.3.4:4000"),
            (&recursive, "/", "10.0.0.8, 10.0.0.7", "10.0.0.8:4000"),
            (&recursive, "/", "1.2.3.4, x, 10.0.0.7", "10.0.0.7:4000"),
            (&recursive, "/", "1.2.3.4", "1.2.3.4:4000"),
        ] {
            let mut message = request("GET", target);
            if !forwarded.is_empty() {
                message.request.headers.append(b"X-Forwarded-For", b"8.8.8.8");
                message.request.headers.append(b"X-Forwarded-For", forwarded.as_bytes());
            }
            run(&*plugin(read, conf), &mut message);
            assert_eq!(message.connection.peer.to_string(), peer, "{conf} {target} {forwarded}");
            let direct = message.variable("realip_remote_addr");
            assert_eq!(direct.as_deref(), Some(&b"127.0.0.1"[..]));
        }
    }

    #[test]
    fn configurations_refused() {
        for (conf, start) in [
            (json!({}), "p: missing key `source`"),
            (json!({ "source": "" }), "p.source: "),
            (json!({ "source": "a", "trusted_addresses": [] }), "p.trusted_addresses: "),
            (json!({ "source": "a", "trusted_addresses": ["x"] }), "p.trusted_addresses[0]: "),
        ] {
            refused(read, &conf, start);
        }
    }
}
