//! `referer-restriction`: only pages of some hosts may link here, or all but some.
//!
//! As APISIX's plugin of that name (`apisix/plugins/referer-restriction.lua`). Hosts are compared
//! without case.

use super::refusal::Refusal;
use crate::http::uri;
use crate::plugin::{Action, Hooks, Plugin, Stream};
use crate::schema::{Fault, Object, Reader};
use std::sync::Arc;

pub(super) const NAME: &str = "referer-restriction";

#[derive(Debug)]
struct RefererRestriction {
    hosts: Hosts,
    /// Hosts in the list pass; else they are the ones that do not.
    allows: bool,
    bypass_missing: bool,
    refusal: Refusal,
}

/// Names, and ends of names where the configuration says `*.example.com`.
#[derive(Debug, Default)]
struct Hosts {
    whole: Vec<Box<[u8]>>,
    ends: Vec<Box<[u8]>>,
}

impl Hosts {
    fn contains(&self, host: &[u8]) -> bool {
        let ends_with = |end: &[u8]| {
            let from = host.len().checked_sub(end.len());
            from.is_some_and(|from| host[from..].eq_ignore_ascii_case(end))
        };
        self.whole.iter().any(|whole| whole.eq_ignore_ascii_case(host))
            || self.ends.iter().any(|end| ends_with(end))
    }
}

impl Plugin for RefererRestriction {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST_HEADERS
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let referer = stream.message.request.headers.get(b"referer");
        let passes = match referer.and_then(host_of) {
            None => self.bypass_missing,
            Some(host) => self.hosts.contains(host) == self.allows,
        };
        if passes { Action::Continue } else { self.refusal.give(stream.message) }
    }
}

/// The host of an absolute URL of HTTP; anything else counts as none.
fn host_of(referer: &[u8]) -> Option<&[u8]> {
    let scheme = memchr::memchr(b':', referer)?;
    let (scheme, rest) = (&referer[..scheme], referer[scheme..].strip_prefix(b"://")?);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let end = memchr::memchr3(b'/', b'?', b'#', rest).unwrap_or(rest.len());
    // What stands before an `@` is no host, however much it looks like one.
    let authority = &rest[..end];
    let host = &authority[memchr::memrchr(b'@', authority).map_or(0, |at| at + 1)..];
    Some(uri::host_of(host)).filter(|host| !host.is_empty())
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    if object.has("whitelist") == object.has("blacklist") {
        object.error("expected either `whitelist` or `blacklist`");
    }
    let allows = object.has("whitelist");
    let (white, black) =
        (read_hosts(&mut object, "whitelist"), read_hosts(&mut object, "blacklist"));
    let bypass_missing = object.boolean("bypass_missing").unwrap_or(false);
    let message = object.string("message", 1..=1024).unwrap_or("Your referer host is not allowed");
    object.allow_unknown();
    let refusal = Refusal::message(403, message);
    Some(Arc::new(RefererRestriction { hosts: white.or(black)?, allows, bypass_missing, refusal }))
}

fn read_hosts(object: &mut Object<'_>, key: &'static str) -> Option<Hosts> {
    let mut hosts = Hosts::default();
    for reader in object.get(key)?.list(1..=usize::MAX)? {
        let text = reader.string(1..=usize::MAX)?;
        let end = text.strip_prefix('*');
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
        if !end.unwrap_or(text).chars().all(is_host) {
            let fault = Fault::new(format!("{text:?} is not a host"));
            reader.error(fault.hint("as in `example.com` or `*.example.com`"));
        }
        match end {
            Some(end) => hosts.ends.push(end.as_bytes().into()),
            None => hosts.whole.push(text.as_bytes().into()),
        }
    }
    Some(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::testing::{answer, plugin, refused, request, run};
    use serde_json::json;

    #[test]
    fn referers() {
        let white = json!({ "whitelist": ["*.xx.com", "yy.com"] });
        let black = json!({ "blacklist": ["*.xx.com", "yy.com"] });
        let bypass = json!({ "whitelist": ["yy.com"], "bypass_missing": true });
        for (conf, referer, passes) in [
            (&white, Some("http://www.xx.com"), true),
            (&white, Some("https://yy.com/am"), true),
            (&white, Some("http://YY.com:8080?a"), true),
            (&white, Some("http://www.yy.com"), false),
            (&white, Some("http://xx.com"), false),
            (&white, Some("http://yy.com@evil.com/"), false),
            (&white, Some("http://evil.com/?http://yy.com"), false),
            (&white, Some("yy.com"), false),
            (&white, Some("ftp://yy.com"), false),
            (&white, None, false),
            (&black, Some("http://www.xx.com"), false),
            (&black, Some("http://yy.com"), false),
            (&black, Some("http://zz.com"), true),
            (&black, None, false),
            (&bypass, None, true),
            (&bypass, Some("www.yy.com"), true),
            (&bypass, Some("http://x.com"), false),
        ] {
            let mut message = request("GET", "/");
            if let Some(referer) = referer {
                message.request.headers.append(b"Referer", referer.as_bytes());
            }
            let action = run(&*plugin(read, conf), &mut message);
            assert_eq!(action == Action::Continue, passes, "{conf} {referer:?}");
            let body = "{\"message\":\"Your referer host is not allowed\"}\n".to_owned();
            assert!(passes || answer(&message) == (403, body));
        }
    }

    #[test]
    fn configurations_refused() {
        for (conf, start) in [
            (json!({}), "p: expected either `whitelist` or `blacklist`"),
            (json!({ "whitelist": ["a"], "blacklist": ["b"] }), "p: expected either"),
            (json!({ "whitelist": [] }), "p.whitelist: "),
            (json!({ "whitelist": ["a.*.com"] }), "p.whitelist[0]: "),
            (json!({ "blacklist": ["a"], "message": "" }), "p.message: "),
        ] {
            refused(read, &conf, start);
        }
    }
}
