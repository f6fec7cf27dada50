//! `ip-restriction`: only some addresses, or all but some.
//!
//! As APISIX's plugin of that name (`apisix/plugins/ip-restriction/init.lua`).

use super::refusal::Refusal;
use crate::expr::parse_network;
use crate::plugin::{Action, Hooks, Plugin, Stream};
use crate::schema::{Fault, Object, Reader};
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;

pub(super) const NAME: &str = "ip-restriction";

#[derive(Debug)]
struct IpRestriction {
    denied: Vec<IpNet>,
    /// Empty: all.
    allowed: Vec<IpNet>,
    refusal: Refusal,
}

impl Plugin for IpRestriction {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST_HEADERS
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let peer = stream.message.connection.peer.ip();
        let fits = contains(&self.allowed, peer) || self.allowed.is_empty();
        if contains(&self.denied, peer) || !fits {
            return self.refusal.give(stream.message);
        }
        Action::Continue
    }
}

/// Whether an address is in one of these networks; one of IPv4 in IPv6 counts as IPv4.
pub(super) fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// A list of addresses and networks.
pub(super) fn read_networks(object: &mut Object<'_>, key: &'static str) -> Option<Vec<IpNet>> {
    object.get(key)?.list_of(1..=usize::MAX, |reader| {
        let text = reader.string(1..=usize::MAX)?;
        let network = parse_network(text);
        if network.is_none() {
            let fault = Fault::new(format!("invalid ip address: {text}"));
            reader.error(fault.hint("as in `10.1.2.3`, `10.0.0.0/8` or `fd00::/8`"));
        }
        network
    })
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    if !object.has("whitelist") && !object.has("blacklist") {
        object.error("expected `whitelist` or `blacklist`");
    }
    let message = object.string("message", 1..=1024).unwrap_or("Your IP address is not allowed");
    let status = object.integer("response_code", 403..=404).unwrap_or(403) as u16;
    let plugin = IpRestriction {
        allowed: read_networks(&mut object, "whitelist").unwrap_or_default(),
        denied: read_networks(&mut object, "blacklist").unwrap_or_default(),
        refusal: Refusal::message(status, message),
    };
    object.allow_unknown();
    Some(Arc::new(plugin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::testing::{answer, plugin, refused, request, run};
    use serde_json::json;

    #[test]
    fn addresses() {
        let white = json!({ "whitelist": ["127.0.0.0/24", "113.74.26.106", "fd00::/8"] });
        let mapped = json!({ "whitelist": ["::ffff:10.0.0.0/104", "::ffff:8.8.8.8"] });
        let black = json!({ "blacklist": ["127.0.0.0/24", "113.74.26.106"] });
        let both = json!({ "whitelist": ["10.0.0.0/8"], "blacklist": ["10.1.0.0/16"] });
        for (conf, peer, passes) in [
            (&white, "127.0.0.1", true),
            (&white, "127.0.1.1", false),
            (&white, "113.74.26.106", true),
            (&white, "::ffff:127.0.0.9", true),
            (&white, "fd12::1", true),
            (&white, "::1", false),
            (&mapped, "10.9.9.9", true),
            (&mapped, "::ffff:8.8.8.8", true),
            (&mapped, "11.0.0.1", false),
            (&black, "127.0.0.1", false),
            (&black, "113.74.26.106", false),
            (&black, "8.8.8.8", true),
            (&both, "10.2.0.1", true),
            (&both, "10.1.0.1", false),
            (&both, "11.0.0.1", false),
        ] {
            let mut message = request("GET", "/");
            message.connection.peer.set_ip(peer.parse().expect("an address"));
            let action = run(&*plugin(read, conf), &mut message);
            assert_eq!(action == Action::Continue, passes, "{conf} {peer}");
            let refused = (403, "{\"message\":\"Your IP address is not allowed\"}\n".to_owned());
            assert!(passes || answer(&message) == refused);
        }
    }

    #[test]
    fn answers() {
        let conf = json!({ "blacklist": ["127.0.0.1"], "message": "\"no\"", "response_code": 404 });
        let mut message = request("GET", "/");
        run(&*plugin(read, &conf), &mut message);
        assert_eq!(answer(&message), (404, "{\"message\":\"\\\"no\\\"\"}\n".to_owned()));
    }

    #[test]
    fn configurations_refused() {
        for (conf, start) in [
            (json!({}), "p: expected `whitelist` or `blacklist`"),
            (json!({ "whitelist": [] }), "p.whitelist: "),
            (json!({ "whitelist": ["10.255.256.0/24"] }), "p.whitelist[0]: invalid ip address"),
            (json!({ "blacklist": ["1.2.3.4/38"] }), "p.blacklist[0]: invalid ip address"),
            (json!({ "blacklist": ["1.2.3.4"], "message": "" }), "p.message: "),
            (json!({ "blacklist": ["1.2.3.4"], "response_code": 401 }), "p.response_code: "),
        ] {
            refused(read, &conf, start);
        }
    }
}
