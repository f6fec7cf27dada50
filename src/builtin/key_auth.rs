//! `key-auth`: knows consumers by a key in a header or in the query.
//!
//! As APISIX's plugin of that name (`apisix/plugins/key-auth.lua`).

use super::auth::{Consumers, Strangers, attach, read_secret};
use super::fields::read_name;
use super::refusal::Refusal;
use crate::http::{is_field_value, uri};
use crate::plugin::{Action, Consumer, Hooks, Message, Plugin, Stream};
use crate::schema::Reader;
use std::collections::hash_map::Entry;
use std::sync::Arc;

pub(super) const NAME: &str = "key-auth";

#[derive(Debug)]
struct KeyAuth {
    header: Vec<u8>,
    query: Vec<u8>,
    hide_credentials: bool,
    strangers: Strangers,
    missing: Refusal,
    invalid: Refusal,
    consumers: Arc<Consumers>,
}

/// Where a request's key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Header,
    Query,
}

impl Plugin for KeyAuth {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST_HEADERS
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let message: &mut Message = stream.message;
        let (place, known) = match self.find(message) {
            None => return self.strangers.meet(&self.missing, message),
            Some((_, None)) => return self.strangers.meet(&self.invalid, message),
            Some((place, Some(known))) => (place, Arc::clone(known)),
        };
        if self.hide_credentials {
            match place {
                Place::Header => drop(message.request.headers.remove(&self.header)),
                Place::Query => self.hide_argument(message, &mut stream.locals.scratch),
            }
        }
        attach(&known, message);
        Action::Continue
    }
}

impl KeyAuth {
    /// Where the request has a key, and whose it is.
    fn find(&self, message: &Message) -> Option<(Place, Option<&Arc<Consumer>>)> {
        if let Some(key) = message.request.headers.get(&self.header) {
            return Some((Place::Header, self.consumers.by_key.get(key)));
        }
        let query = message.request.query().unwrap_or_default();
        let written = query.split(|byte| *byte == b'&').find_map(|pair| self.argument(pair))?;
        let key = uri::decode_component(written);
        Some((Place::Query, self.consumers.by_key.get(&*key)))
    }

    /// The value of `name=value`, if the name is the key's.
    fn argument<'q>(&self, pair: &'q [u8]) -> Option<&'q [u8]> {
        let at = memchr::memchr(b'=', pair)?;
        (*uri::decode_component(&pair[..at]) == self.query[..]).then(|| &pair[at + 1..])
    }

    /// Takes the key out of the request's query.
    fn hide_argument(&self, message: &mut Message, target: &mut Vec<u8>) {
        let parts = uri::split(&message.request.target);
        target.clear();
        target.extend_from_slice(parts.path);
        let pairs = parts.query.unwrap_or_default().split(|byte| *byte == b'&');
        let kept = pairs.filter(|pair| !pair.is_empty() && self.argument(pair).is_none());
        for (number, pair) in kept.enumerate() {
            target.push(if number == 0 { b'?' } else { b'&' });
            target.extend_from_slice(pair);
        }
        std::mem::swap(&mut message.request.target, target);
    }
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>, consumers: &Arc<Consumers>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    let header = object.get("header").and_then(|reader| read_name(&reader));
    let query = object.string("query", 1..=usize::MAX).unwrap_or("apikey").as_bytes().to_vec();
    let hide_credentials = object.boolean("hide_credentials").unwrap_or(false);
    let challenge = format!("apikey realm={}", read_realm(object.get("realm"), "key"));
    let strangers = Strangers::read(&mut object, consumers, challenge.into_bytes());
    object.allow_unknown();
    Some(Arc::new(KeyAuth {
        header: header.unwrap_or_else(|| b"apikey".to_vec()),
        query,
        hide_credentials,
        strangers,
        missing: Refusal::message(401, "Missing API key in request"),
        invalid: Refusal::message(401, "Invalid API key in request"),
        consumers: Arc::clone(consumers),
    }))
}

/// Reads `realm` as a quoted string (RFC 9110 §5.6.4).
pub(super) fn read_realm(reader: Option<Reader<'_>>, default: &str) -> String {
    let given = reader.and_then(|reader| {
        let realm = reader.string(1..=usize::MAX)?;
        if !is_field_value(realm.as_bytes()) {
            reader.error("a header value has no control characters");
        }
        Some(realm)
    });
    let realm = given.unwrap_or(default);
    format!("\"{}\"", realm.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Reads what a consumer is known by: `{key}`.
pub(super) fn read_credential(
    conf: Reader<'_>,
    consumer: &Arc<Consumer>,
    consumers: &mut Consumers,
) {
    let Some(mut object) = conf.object() else { return };
    if let Some(reader) = object.need("key")
        && let Some(key) = read_secret(&reader)
    {
        match consumers.by_key.entry(key.as_bytes().to_vec()) {
            Entry::Vacant(place) => drop(place.insert(Arc::clone(consumer))),
            Entry::Occupied(other) => {
                let owner = &other.get().username;
                reader.error(format!("the consumer `{owner}` has the same key"));
            }
        }
    }
    object.finish();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::testing::{self, Run, local_field, request};
    use serde_json::{Value, json};

    fn consumers() -> Arc<Consumers> {
        let mut all = Consumers::default();
        let jack = Consumer { username: "jack".to_owned(), ..Consumer::default() };
        let rose = Consumer {
            username: "rose".to_owned(),
            credential_id: Some("c1".to_owned()),
            custom_id: Some("495aec6a".to_owned()),
            group_id: None,
        };
        for (consumer, key) in [(jack, "auth-one"), (rose, "auth two+&")] {
            let consumer = Arc::new(consumer);
            all.by_key.insert(key.as_bytes().to_vec(), Arc::clone(&consumer));
            all.by_name.insert(consumer.username.clone(), consumer);
        }
        Arc::new(all)
    }

    fn plugin(conf: &Value) -> Arc<dyn Plugin> {
        testing::plugin(|reader| read(reader, &consumers()), conf)
    }

    #[test]
    fn keys() {
        let none = json!({});
        let other = json!({ "header": "Authorization", "query": "key" });
        let (missing, invalid) = ("Missing API key in request", "Invalid API key in request");
        for (conf, field, target, known) in [
            (&none, Some(("apikey", "auth-one")), "/", Ok("jack")),
            (&none, Some(("APIKEY", "auth two+&")), "/", Ok("rose")),
            (&none, None, "/?apikey=auth-one", Ok("jack")),
            (&none, None, "/?a=b&apikey=auth%20two%2B%26", Ok("rose")),
            (&none, Some(("apikey", "auth-one")), "/?apikey=wrong", Ok("jack")),
            (&none, Some(("apikey", "wrong")), "/?apikey=auth-one", Err(invalid)),
            (&none, Some(("apikey", "")), "/", Err(invalid)),
            (&none, None, "/?apikey=", Err(invalid)),
            (&none, None, "/?apikey", Err(missing)),
            (&none, None, "/", Err(missing)),
            (&other, Some(("authorization", "auth-one")), "/", Ok("jack")),
            (&other, None, "/?key=auth-one", Ok("jack")),
            (&other, Some(("apikey", "auth-one")), "/?apikey=auth-one", Err(missing)),
        ] {
            let mut message = request("GET", target);
            if let Some((name, value)) = field {
                message.request.headers.append(name.as_bytes(), value.as_bytes());
            }
            let plugin = plugin(conf);
            let mut run = Run::new(&*plugin, message);
            let action = run.request_headers();
            let consumer = run.message.consumer.as_deref().map(|c| c.username.as_str());
            assert_eq!(consumer, known.ok(), "{conf} {field:?} {target}");
            if let Err(why) = known {
                assert_eq!(action, Action::Respond);
                assert_eq!(run.answer(), (401, format!("{{\"message\":\"{why}\"}}\n")));
                let challenge = local_field(&run.message, "www-authenticate");
                assert_eq!(challenge.as_deref(), Some("apikey realm=\"key\""));
            }
        }
    }

    #[test]
    fn what_the_upstream_is_told() {
        let plugin = plugin(&json!({}));
        for (key, expected) in [
            ("auth-one", [Some("jack"), None, None]),
            ("auth two+&", [Some("rose"), Some("c1"), Some("495aec6a")]),
        ] {
            let mut message = request("GET", "/");
            let names = ["X-Consumer-Username", "X-Credential-Identifier", "X-Consumer-Custom-ID"];
            for name in names {
                message.request.headers.append(name.as_bytes(), b"forged");
            }
            message.request.headers.append(b"apikey", key.as_bytes());
            let mut run = Run::new(&*plugin, message);
            assert_eq!(run.request_headers(), Action::Continue);
            for (name, value) in names.iter().zip(expected) {
                let seen = run.message.request.headers.get(name.as_bytes());
                assert_eq!(seen, value.map(str::as_bytes), "{key} {name}");
            }
            assert!(run.message.request.headers.get(b"apikey").is_some());
        }
    }

    #[test]
    fn keys_can_be_hidden() {
        let plugin = plugin(&json!({ "hide_credentials": true }));
        for (header, target, left) in [
            (true, "/a?b=c", "/a?b=c"),
            (false, "/a?apikey=auth-one", "/a"),
            (false, "/a?b=c&apikey=auth-one&d&apikey=x", "/a?b=c&d"),
        ] {
            let mut message = request("GET", target);
            if header {
                message.request.headers.append(b"apikey", b"auth-one");
            }
            let mut run = Run::new(&*plugin, message);
            assert_eq!(run.request_headers(), Action::Continue, "{target}");
            assert_eq!(run.message.request.target, left.as_bytes());
            assert!(run.message.request.headers.get(b"apikey").is_none());
        }
    }

    #[test]
    fn strangers_may_be_somebody() {
        let plugin = plugin(&json!({ "anonymous_consumer": "jack", "realm": "a\"b" }));
        for target in ["/", "/?apikey=wrong"] {
            let mut run = Run::new(&*plugin, request("GET", target));
            assert_eq!(run.request_headers(), Action::Continue);
            assert_eq!(run.message.request.headers.get(b"x-consumer-username"), Some(&b"jack"[..]));
        }
    }

    #[test]
    fn configurations_refused() {
        for (conf, start) in [
            (json!({ "header": "a b" }), "p.header: "),
            (json!({ "query": "" }), "p.query: "),
            (json!({ "realm": "a\nb" }), "p.realm: "),
            (json!({ "hide_credentials": 1 }), "p.hide_credentials: "),
            (json!({ "anonymous_consumer": "nobody" }), "p.anonymous_consumer: no consumer"),
        ] {
            testing::refused(|reader| read(reader, &consumers()), &conf, start);
        }
    }
}
