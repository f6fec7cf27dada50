//! `cors`: lets pages of other origins use what the route serves (the Fetch standard's CORS
//! protocol).
//!
//! As APISIX's plugin of that name (`apisix/plugins/cors.lua`).

use super::metadata::Metadata;
use crate::expr::Pattern;
use crate::http::is_field_value;
use crate::plugin::{Action, Hooks, Message, Plugin, PropertyTraits, Stream};
use crate::schema::{Fault, Object, Reader};
use std::sync::Arc;

pub(super) const NAME: &str = "cors";

/// Where the client's origin is kept in the exchange: plugins may change the request's.
const ORIGIN: &[u8] = b"ringgate.cors.origin";

/// Of a stream whose request callback was called: there is an origin if one is kept.
const ASKED: u64 = 1;

const ALL_METHODS: &str = "GET,POST,PUT,DELETE,PATCH,HEAD,OPTIONS,CONNECT,TRACE";

#[derive(Debug)]
struct Cors {
    origins: Origins,
    /// `allow_origins_by_metadata`: lists for origins that are not among those.
    more: Vec<Origins>,
    timing_origins: Option<Origins>,
    methods: Vec<u8>,
    /// `None`: what the request asks for.
    headers: Option<Vec<u8>>,
    expose: Option<Vec<u8>>,
    max_age: Vec<u8>,
    credential: bool,
}

/// Which origins are allowed.
#[derive(Debug)]
enum Origins {
    /// `*`, or the only one: it is named whatever the request says.
    One(Vec<u8>),
    /// `**`: the request's own.
    Any,
    List(Vec<Vec<u8>>),
    Patterns(Vec<Pattern>),
}

impl Origins {
    /// The origin to name to a request of that origin.
    fn allowed<'a>(&'a self, origin: Option<&'a [u8]>) -> Option<&'a [u8]> {
        match self {
            Self::One(one) => Some(one),
            Self::Any => Some(origin.unwrap_or(b"*")),
            Self::List(list) => origin.filter(|origin| list.iter().any(|one| one == origin)),
            Self::Patterns(patterns) => {
                origin.filter(|origin| patterns.iter().any(|pattern| pattern.is_match(origin)))
            }
        }
    }
}

impl Cors {
    /// The origin to name to a request of that origin: by its own list, or by one that routes
    /// share.
    fn allowed<'a>(&'a self, origin: Option<&'a [u8]>) -> Option<&'a [u8]> {
        let own = self.origins.allowed(origin);
        if own == origin || own == Some(b"*") {
            return own;
        }
        let shared = origin.filter(|_| self.more.iter().any(|list| list.allowed(origin) == origin));
        shared.or(own)
    }
}

impl Plugin for Cors {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST_HEADERS | Hooks::RESPONSE_HEADERS
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let Message { request, filter_state, .. } = &mut **stream.message;
        *stream.state = ASKED;
        if let Some(origin) = request.headers.get(b"origin") {
            // Where other plugins left no room for it, no origin is allowed.
            let _ = filter_state.set(ORIGIN, origin, PropertyTraits::once());
        }
        if stream.message.request.method == b"OPTIONS" {
            stream.message.respond(200, None);
            return Action::Respond;
        }
        Action::Continue
    }

    fn on_response_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let Message { request, response, filter_state, .. } = &mut **stream.message;
        let origin = match *stream.state {
            ASKED => filter_state.get(ORIGIN).map(|kept| kept.value),
            // A plugin before this one answered.
            _ => request.headers.get(b"origin"),
        };
        let headers = &mut response.headers;
        if let Some(allowed) = self.allowed(origin) {
            headers.set(b"Access-Control-Allow-Origin", allowed);
            if allowed != b"*" {
                headers.append(b"Vary", b"Origin");
            }
            headers.set(b"Access-Control-Allow-Methods", &self.methods);
            headers.set(b"Access-Control-Max-Age", &self.max_age);
            if let Some(expose) = &self.expose {
                headers.set(b"Access-Control-Expose-Headers", expose);
            }
            let asked = request.headers.get(b"access-control-request-headers");
            if let Some(names) = self.headers.as_deref().or(asked) {
                headers.set(b"Access-Control-Allow-Headers", names);
            }
            if self.credential {
                headers.set(b"Access-Control-Allow-Credentials", b"true");
            }
        }
        if let Some(allowed) = self.timing_origins.as_ref().and_then(|list| list.allowed(origin)) {
            headers.set(b"Timing-Allow-Origin", allowed);
        }
        Action::Continue
    }
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>, metadata: &Metadata) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    let more = object.get("allow_origins_by_metadata").and_then(|reader| {
        reader.list_of(1..=usize::MAX, |name| {
            let text = name.string(1..=4096)?;
            let origins = metadata.origins.get(text);
            if origins.is_none() {
                let fault = Fault::new(format!("no `allow_origins` of `cors` is called {text:?}"));
                name.warn(fault.hint("put it into the plugin's metadata: nobody is allowed by it"));
            }
            origins.map(|origins| read_origins(origins))
        })
    });
    let origins = text(&mut object, "allow_origins").unwrap_or("*");
    let patterns = read_patterns(&mut object, "allow_origins_by_regex");
    let timing = text(&mut object, "timing_allow_origins").map(read_origins);
    let timing_patterns = read_patterns(&mut object, "timing_allow_origins_by_regex");
    let methods = text(&mut object, "allow_methods").unwrap_or("*");
    let headers = text(&mut object, "allow_headers").unwrap_or("*");
    let expose = text(&mut object, "expose_headers");
    let credential = object.boolean("allow_credential").unwrap_or(false);
    let all = [Some(origins), Some(methods), Some(headers), expose];
    if credential && all.contains(&Some("*")) {
        object.error("you can not set '*' for other option when 'allow_credential' is true");
    }
    let max_age = object.integer("max_age", i64::MIN..=i64::MAX).unwrap_or(5);
    object.allow_unknown();
    Some(Arc::new(Cors {
        origins: patterns.unwrap_or_else(|| read_origins(origins)),
        more: more.unwrap_or_default(),
        timing_origins: timing_patterns.or(timing),
        methods: if methods == "**" { ALL_METHODS } else { methods }.as_bytes().to_vec(),
        headers: (headers != "**").then(|| headers.as_bytes().to_vec()),
        expose: expose.filter(|names| !names.is_empty()).map(|names| names.as_bytes().to_vec()),
        max_age: max_age.to_string().into_bytes(),
        credential,
    }))
}

/// A string that becomes a header's value.
fn text<'a>(object: &mut Object<'a>, key: &'static str) -> Option<&'a str> {
    let reader = object.get(key)?;
    let text = reader.string(0..=usize::MAX)?;
    if !is_field_value(text.as_bytes()) {
        reader.error("a header value has no control characters");
    }
    Some(text)
}

fn read_origins(text: &str) -> Origins {
    match text {
        "**" => Origins::Any,
        list if list.contains(',') => {
            Origins::List(list.split(',').map(|one| one.trim_ascii().as_bytes().to_vec()).collect())
        }
        one => Origins::One(one.as_bytes().to_vec()),
    }
}

fn read_patterns(object: &mut Object<'_>, key: &'static str) -> Option<Origins> {
    let compile = |reader: Reader<'_>| {
        let compiled = Pattern::compile(reader.string(1..=4096)?, "jo");
        compiled.map_err(|why| reader.error(why)).ok()
    };
    object.get(key)?.list_of(1..=usize::MAX, compile).map(Origins::Patterns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::testing::{Run, answer, plugin, refused, request, response_field};
    use serde_json::json;

    /// Without metadata.
    fn alone(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
        read(conf, &Metadata::default())
    }

    fn response_to(conf: &serde_json::Value, fields: &[(&str, &str)]) -> Box<Message> {
        let mut message = request("GET", "/");
        for (name, value) in fields {
            message.request.headers.append(name.as_bytes(), value.as_bytes());
        }
        let plugin = plugin(alone, conf);
        let mut run = Run::new(&*plugin, message);
        run.response(&["x"]);
        run.message
    }

    #[test]
    fn defaults() {
        let message = response_to(&json!({}), &[("Origin", "http://a")]);
        let fields: Vec<_> = message.response.headers.iter().collect();
        let expected: [(&[u8], &[u8]); 4] = [
            (b"Access-Control-Allow-Origin", b"*"),
            (b"Access-Control-Allow-Methods", b"*"),
            (b"Access-Control-Max-Age", b"5"),
            (b"Access-Control-Allow-Headers", b"*"),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn origins() {
        let list = json!({ "allow_origins": "http://a.com,http://b.com:8080" });
        let regex = json!({ "allow_origins_by_regex": [r"^https://.*\.test\.com$", "^http://x$"] });
        let (a, b) = ("http://a.com", "http://b.com:8080");
        for (conf, origin, allowed) in [
            (json!({ "allow_origins": a }), Some("http://other"), Some(a)),
            (json!({ "allow_origins": "**" }), Some("http://other"), Some("http://other")),
            (json!({ "allow_origins": "**" }), None, Some("*")),
            (list.clone(), Some(b), Some(b)),
            (list.clone(), Some("http://c.com"), None),
            (list, None, None),
            (regex.clone(), Some("https://a.test.com"), Some("https://a.test.com")),
            (regex.clone(), Some("https://a.test.com.evil"), None),
            (regex, Some("http://x"), Some("http://x")),
        ] {
            let fields: Vec<_> = origin.map(|origin| ("Origin", origin)).into_iter().collect();
            let message = response_to(&conf, &fields);
            let field = |name: &str| response_field(&message, name);
            assert_eq!(field("access-control-allow-origin").as_deref(), allowed, "{conf}");
            assert_eq!(field("access-control-max-age").is_some(), allowed.is_some(), "{conf}");
            let varies = allowed.is_some_and(|allowed| allowed != "*");
            assert_eq!(field("vary").is_some(), varies, "{conf}");
        }
    }

    #[test]
    fn the_origin_is_the_clients() {
        let conf = json!({ "allow_origins": "http://a.com,http://b.com" });
        let plugin = plugin(alone, &conf);
        for (sent, later, allowed) in [
            (Some("http://b.com"), None, Some("http://b.com")),
            (Some("http://b.com"), Some("http://a.com"), Some("http://b.com")),
            (Some("http://c.com"), Some("http://a.com"), None),
            (None, Some("http://a.com"), None),
        ] {
            let mut message = request("GET", "/");
            if let Some(sent) = sent {
                message.request.headers.append(b"Origin", sent.as_bytes());
            }
            let mut run = Run::new(&*plugin, message);
            assert_eq!(run.request_headers(), Action::Continue);
            run.message.request.headers.remove(b"origin");
            if let Some(later) = later {
                run.message.request.headers.append(b"Origin", later.as_bytes());
            }
            run.response(&["x"]);
            let field = response_field(&run.message, "access-control-allow-origin");
            assert_eq!(field.as_deref(), allowed, "{sent:?} {later:?}");
        }
    }

    #[test]
    fn forced_and_exposed() {
        let conf = json!({
            "allow_origins": "**", "allow_methods": "**", "allow_headers": "**",
            "expose_headers": "X-A", "max_age": -1, "allow_credential": true,
            "timing_allow_origins": "http://a",
        });
        let asked = [("Origin", "http://a"), ("Access-Control-Request-Headers", "x-1, x-2")];
        let message = response_to(&conf, &asked);
        for (name, value) in [
            ("access-control-allow-methods", Some(ALL_METHODS)),
            ("access-control-allow-headers", Some("x-1, x-2")),
            ("access-control-expose-headers", Some("X-A")),
            ("access-control-max-age", Some("-1")),
            ("access-control-allow-credentials", Some("true")),
            ("timing-allow-origin", Some("http://a")),
        ] {
            assert_eq!(response_field(&message, name).as_deref(), value, "{name}");
        }
        let nothing_asked = response_to(&conf, &[]);
        assert_eq!(response_field(&nothing_asked, "access-control-allow-headers"), None);
    }

    #[test]
    fn preflights_are_answered() {
        let plugin = plugin(alone, &json!({}));
        let mut run = Run::new(&*plugin, request("OPTIONS", "/"));
        assert_eq!((run.request_headers(), answer(&run.message).0), (Action::Respond, 200));
        let mut run = Run::new(&*plugin, request("GET", "/"));
        assert_eq!(run.request_headers(), Action::Continue);
    }

    #[test]
    fn configurations_refused() {
        for (conf, start) in [
            (json!({ "allow_credential": true }), "p: you can not set '*'"),
            (
                json!({
                    "allow_credential": true, "allow_origins": "**", "allow_methods": "**",
                    "allow_headers": "**", "expose_headers": "*",
                }),
                "p: you can not set '*'",
            ),
            (json!({ "allow_origins": 1 }), "p.allow_origins: "),
            (json!({ "allow_methods": "a\nb" }), "p.allow_methods: "),
            (json!({ "allow_origins_by_regex": [] }), "p.allow_origins_by_regex: "),
            (json!({ "allow_origins_by_regex": ["("] }), "p.allow_origins_by_regex[0]: "),
            (json!({ "allow_origins_by_metadata": "A" }), "p.allow_origins_by_metadata: "),
            (json!({ "max_age": "5" }), "p.max_age: "),
        ] {
            refused(alone, &conf, start);
        }
    }

    #[test]
    fn lists_that_routes_share() {
        let origins = [("one", "http://a,http://b"), ("any", "**"), ("all", "*")];
        let origins = origins.map(|(name, list)| (name.to_owned(), list.to_owned()));
        let metadata = Metadata { origins: origins.into(), ..Metadata::default() };
        for (names, own, origin, allowed) in [
            (&["one"][..], "http://own", Some("http://b"), Some("http://b")),
            (&["one"], "http://own,http://too", Some("http://too"), Some("http://too")),
            (&["one"], "http://own,http://too", Some("http://c"), None),
            (&["gone", "one"], "http://own,http://too", Some("http://a"), Some("http://a")),
            (&["all"], "http://own,http://too", Some("http://c"), None),
            (&["any"], "http://own,http://too", Some("http://c"), Some("http://c")),
            (&["any"], "http://own,http://too", None, None),
            (&["any"], "*", Some("http://c"), Some("*")),
        ] {
            let conf = json!({ "allow_origins": own, "allow_origins_by_metadata": names });
            let plugin = plugin(|conf| read(conf, &metadata), &conf);
            let mut message = request("GET", "/");
            if let Some(origin) = origin {
                message.request.headers.append(b"Origin", origin.as_bytes());
            }
            let mut run = Run::new(&*plugin, message);
            run.response(&["x"]);
            let field = run.message.response.headers.get(b"access-control-allow-origin");
            let shown = field.map(|field| String::from_utf8_lossy(field).into_owned());
            assert_eq!(shown.as_deref(), allowed, "{conf} {origin:?}");
        }
    }
}
