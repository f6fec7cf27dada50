//! `redirect`: sends the client elsewhere.
//!
//! As APISIX's plugin of that name (`apisix/plugins/redirect.lua`). What differs: `http_to_https`
//! keeps path and query exactly as received; it goes to port 443.

use super::fields;
use super::proxy_rewrite::read_rule;
use crate::expr::{Pattern, Replacement, Template};
use crate::http::uri;
use crate::plugin::{Action, Hooks, Message, Plugin, Stream, compile_template};
use crate::schema::{Object, Reader};
use std::sync::Arc;

pub(super) const NAME: &str = "redirect";

#[derive(Debug)]
struct Redirect {
    to: To,
    status: u16,
    encode: bool,
    append_query: bool,
}

#[derive(Debug)]
enum To {
    Https,
    Uri(Template),
    Regex(Pattern, Replacement),
}

impl Plugin for Redirect {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST_HEADERS
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let location = &mut stream.locals.scratch;
        location.clear();
        let message: &mut Message = stream.message;
        let status = match &self.to {
            To::Https if !came_by_http(message) => return Action::Continue,
            To::Https => {
                write_https(message, location);
                // 308 keeps the method where 301 would turn it into GET (RFC 9110 §15.4).
                let safe = matches!(&message.request.method[..], b"GET" | b"HEAD");
                if safe { 301 } else { 308 }
            }
            To::Uri(template) => {
                template.render(&*message, location);
                self.status
            }
            To::Regex(pattern, replacement) => {
                let path = &message.request.path;
                if !pattern.replace(path, replacement, false, location) {
                    return Action::Continue;
                }
                self.status
            }
        };
        self.finish(message, location);
        message.respond(status, None);
        message.local.headers.set(b"Location", location);
        Action::Respond
    }
}

impl Redirect {
    /// Encodes the location's path and adds the request's query, where that is wanted.
    fn finish(&self, message: &mut Message, location: &mut Vec<u8>) {
        let mark = memchr::memchr(b'?', location);
        if self.encode {
            let path = mark.unwrap_or(location.len());
            let mut encoded = std::mem::take(&mut message.body);
            encoded.clear();
            uri::escape_path(&location[..path], &mut encoded);
            uri::escape_controls(&location[path..], &mut encoded);
            std::mem::swap(location, &mut encoded);
            encoded.clear();
            message.body = encoded;
        }
        if self.append_query
            && let Some(query) = message.request.query()
        {
            location.push(if mark.is_some() { b'&' } else { b'?' });
            location.extend_from_slice(query);
        }
        fields::escape_controls(location);
    }
}

/// Whether the client spoke plain HTTP, to us or to the proxy before us. Only what a client in
/// `apisix.trusted_addresses` says of it is still there.
fn came_by_http(message: &Message) -> bool {
    match message.request.headers.get(b"x-forwarded-proto") {
        Some(scheme) => scheme.eq_ignore_ascii_case(b"http"),
        None => true,
    }
}

fn write_https(message: &Message, location: &mut Vec<u8>) {
    location.extend_from_slice(b"https://");
    location.extend_from_slice(uri::host_of(&message.request.authority));
    location.extend_from_slice(&message.request.target);
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    let given = ["uri", "regex_uri", "http_to_https"].map(|key| object.has(key));
    if given.into_iter().filter(|is_there| *is_there).count() != 1 {
        object.error("expected exactly one of `uri`, `regex_uri` and `http_to_https`");
    }
    if object.has("http_to_https") && object.has("append_query_string") {
        object.error("`http_to_https` and `append_query_string` exclude each other");
    }
    let https = object.boolean("http_to_https");
    let uri = object.get("uri").and_then(|reader| {
        Some(To::Uri(compile_template(reader.string(2..=usize::MAX)?, &reader)))
    });
    let regex = object.get("regex_uri").and_then(read_regex);
    let status = object.integer("ret_code", 200..=599).unwrap_or(302) as u16;
    let (encode, append_query) =
        (flag(&mut object, "encode_uri"), flag(&mut object, "append_query_string"));
    object.allow_unknown();
    let to = match https {
        Some(true) => To::Https,
        // It asks for nothing, so nothing happens.
        Some(false) => return Some(Arc::new(Nothing)),
        None => uri.or(regex)?,
    };
    Some(Arc::new(Redirect { to, status, encode, append_query }))
}

fn flag(object: &mut Object<'_>, key: &'static str) -> bool {
    object.boolean(key).unwrap_or(false)
}

fn read_regex(reader: Reader<'_>) -> Option<To> {
    let pair = reader.list(2..=2)?;
    let (pattern, replacement) = read_rule(&pair[0], &pair[1])?;
    Some(To::Regex(pattern, replacement))
}

/// `http_to_https: false`.
#[derive(Debug)]
struct Nothing;

impl Plugin for Nothing {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        Hooks::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::testing::{answer, local_field, plugin, refused, request, run};
    use serde_json::json;

    #[test]
    fn locations() {
        let regex = json!({ "regex_uri": ["^/test/(.*)", "http://b.example/$1"] });
        for (conf, target, status, location) in [
            (json!({ "uri": "/x" }), "/a", 302, Some("/x")),
            (json!({ "uri": "/x", "ret_code": 301 }), "/a?b", 301, Some("/x")),
            (json!({ "uri": "$uri/x" }), "/a%20b", 302, Some("/a b/x")),
            (json!({ "uri": "$uri/x" }), "/a%0D%0Ab", 302, Some("/a%0D%0Ab/x")),
            (json!({ "uri": "${uri}/x", "encode_uri": true }), "/a%20b", 302, Some("/a%20b/x")),
            (
                json!({ "uri": "/x?q=1", "append_query_string": true }),
                "/a?b=c",
                302,
                Some("/x?q=1&b=c"),
            ),
            (json!({ "uri": "/x", "append_query_string": true }), "/a?b=c", 302, Some("/x?b=c")),
            (json!({ "uri": "/x", "append_query_string": true }), "/a", 302, Some("/x")),
            (json!({ "uri": "/x$none" }), "/a", 302, Some("/x")),
            (regex.clone(), "/test/a/b", 302, Some("http://b.example/a/b")),
            (regex, "/other", 0, None),
            (
                json!({ "http_to_https": true }),
                "/a%20b?c=%26",
                301,
                Some("https://a.example/a%20b?c=%26"),
            ),
            (json!({ "http_to_https": false }), "/a", 0, None),
        ] {
            let mut message = request("GET", target);
            let action = run(&*plugin(read, &conf), &mut message);
            assert_eq!(action == Action::Respond, location.is_some(), "{conf} {target}");
            assert_eq!(answer(&message).0, status, "{conf} {target}");
            assert_eq!(local_field(&message, "location").as_deref(), location, "{conf} {target}");
        }
    }

    #[test]
    fn to_https() {
        let plugin = plugin(read, &json!({ "http_to_https": true }));
        for (method, proto, status) in [
            ("GET", None, Some(301)),
            ("HEAD", Some("http"), Some(301)),
            ("POST", None, Some(308)),
            ("GET", Some("https"), None),
        ] {
            let mut message = request(method, "/a");
            message.request.authority = b"A.example:9080".to_vec();
            if let Some(proto) = proto {
                message.request.headers.append(b"X-Forwarded-Proto", proto.as_bytes());
            }
            let action = run(&*plugin, &mut message);
            assert_eq!((action == Action::Respond).then_some(message.local.status), status);
        }
    }

    #[test]
    fn configurations_refused() {
        for (conf, start) in [
            (json!({}), "p: expected exactly one of"),
            (json!({ "uri": "/x", "http_to_https": true }), "p: expected exactly one of"),
            (json!({ "uri": "/" }), "p.uri: "),
            (json!({ "uri": "/x", "ret_code": 199 }), "p.ret_code: "),
            (json!({ "regex_uri": ["^/a"] }), "p.regex_uri: "),
            (json!({ "regex_uri": ["(", "/a"] }), "p.regex_uri[0]: "),
            (
                json!({ "http_to_https": true, "append_query_string": true }),
                "p: `http_to_https` and `append_query_string` exclude each other",
            ),
        ] {
            refused(read, &conf, start);
        }
    }
}
