//! `basic-auth`: knows consumers by user and password (RFC 7617).
//!
//! As APISIX's plugin of that name (`apisix/plugins/basic-auth.lua`), which takes spaces out of
//! both and cuts a password at a colon; here they are what the client sent.

use super::auth::{Consumers, Strangers, attach, read_secret, same_secret};
use super::key_auth::read_realm;
use super::refusal::Refusal;
use crate::http::base64;
use crate::plugin::{Action, Consumer, Hooks, Message, Plugin, Stream};
use crate::schema::Reader;
use std::collections::hash_map::Entry;
use std::sync::Arc;

pub(super) const NAME: &str = "basic-auth";

#[derive(Debug)]
struct BasicAuth {
    hide_credentials: bool,
    strangers: Strangers,
    missing: Refusal,
    invalid: Refusal,
    unknown: Refusal,
    consumers: Arc<Consumers>,
}

impl Plugin for BasicAuth {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST_HEADERS
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let message: &mut Message = stream.message;
        let known = match message.request.headers.get(b"authorization") {
            None => Err(&self.missing),
            Some(field) => self.find(field, &mut stream.locals.scratch),
        };
        let known = match known {
            Ok(known) => Arc::clone(known),
            Err(refusal) => return self.strangers.meet(refusal, message),
        };
        if self.hide_credentials {
            message.request.headers.remove(b"authorization");
        }
        attach(&known, message);
        Action::Continue
    }
}

impl BasicAuth {
    fn find(&self, field: &[u8], scratch: &mut Vec<u8>) -> Result<&Arc<Consumer>, &Refusal> {
        scratch.clear();
        let (user, password) = base64::credentials(field, scratch).ok_or(&self.invalid)?;
        match self.consumers.by_user.get(user) {
            Some((known, consumer)) if same_secret(known, password) => Ok(consumer),
            _ => Err(&self.unknown),
        }
    }
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>, consumers: &Arc<Consumers>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    let hide_credentials = object.boolean("hide_credentials").unwrap_or(false);
    let challenge = format!("Basic realm={}", read_realm(object.get("realm"), "basic"));
    let strangers = Strangers::read(&mut object, consumers, challenge.into_bytes());
    object.allow_unknown();
    Some(Arc::new(BasicAuth {
        hide_credentials,
        strangers,
        missing: Refusal::message(401, "Missing authorization in request"),
        invalid: Refusal::message(401, "Invalid authorization in request"),
        unknown: Refusal::message(401, "Invalid user authorization"),
        consumers: Arc::clone(consumers),
    }))
}

/// Reads what a consumer is known by: `{username, password}`.
pub(super) fn read_credential(
    conf: Reader<'_>,
    consumer: &Arc<Consumer>,
    consumers: &mut Consumers,
) {
    let Some(mut object) = conf.object() else { return };
    let user = object.need("username");
    let password = object.need("password").and_then(|reader| read_secret(&reader));
    if let (Some(reader), Some(password)) = (user, password)
        && let Some(user) = read_secret(&reader)
    {
        if user.contains(':') {
            reader.error("a user's name has no colon (RFC 7617 §2)");
        }
        match consumers.by_user.entry(user.as_bytes().to_vec()) {
            Entry::Vacant(place) => {
                place.insert((password.as_bytes().to_vec(), Arc::clone(consumer)));
            }
            Entry::Occupied(other) => {
                let owner = &other.get().1.username;
                reader.error(format!("the consumer `{owner}` has the same user"));
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
        let foo = Arc::new(Consumer { username: "foo".to_owned(), ..Consumer::default() });
        all.by_user.insert(b"foo".to_vec(), (b"b:ar !".to_vec(), Arc::clone(&foo)));
        all.by_name.insert("foo".to_owned(), foo);
        Arc::new(all)
    }

    fn plugin(conf: &Value) -> Arc<dyn Plugin> {
        testing::plugin(|reader| read(reader, &consumers()), conf)
    }

    #[test]
    fn users() {
        let plugin = plugin(&json!({}));
        let invalid = "Invalid authorization in request";
        let unknown = "Invalid user authorization";
        for (field, refusal) in [
            (None, Some("Missing authorization in request")),
            (Some("Basic Zm9vOmI6YXIgIQ=="), None),
            (Some("basic  Zm9vOmI6YXIgIQ"), None),
            (Some("Basic aca_a"), Some(invalid)),
            (Some("Basic Zm9v"), Some(invalid)),
            (Some("BasicZm9vOmI6YXIgIQ=="), Some(invalid)),
            (Some("Bearer Zm9vOmI6YXIgIQ=="), Some(invalid)),
            (Some(""), Some(invalid)),
            (Some("Basic"), Some(invalid)),
            (Some("Basic Zm9vOmI6YXI="), Some(unknown)),
            (Some("Basic YmFyOmI6YXIgIQ=="), Some(unknown)),
            (Some("Basic Og=="), Some(unknown)),
        ] {
            let mut message = request("GET", "/");
            if let Some(field) = field {
                message.request.headers.append(b"Authorization", field.as_bytes());
            }
            let mut run = Run::new(&*plugin, message);
            let action = run.request_headers();
            assert_eq!(action == Action::Continue, refusal.is_none(), "{field:?}");
            assert_eq!(run.message.consumer.is_some(), refusal.is_none());
            if let Some(why) = refusal {
                assert_eq!(run.answer(), (401, format!("{{\"message\":\"{why}\"}}\n")));
                let challenge = local_field(&run.message, "www-authenticate");
                assert_eq!(challenge.as_deref(), Some("Basic realm=\"basic\""));
            }
        }
    }

    #[test]
    fn passwords_can_be_hidden_and_strangers_known() {
        let conf = json!({ "hide_credentials": true, "anonymous_consumer": "foo" });
        let plugin = plugin(&conf);
        for (field, left) in [("Basic Zm9vOmI6YXIgIQ==", false), ("Basic x", true)] {
            let mut message = request("GET", "/");
            message.request.headers.append(b"Authorization", field.as_bytes());
            let mut run = Run::new(&*plugin, message);
            assert_eq!(run.request_headers(), Action::Continue);
            assert_eq!(run.message.request.headers.get(b"authorization").is_some(), left);
            assert!(run.message.consumer.is_some());
        }
    }

    #[test]
    fn configurations_refused() {
        for (conf, start) in [
            (json!({ "hide_credentials": "no" }), "p.hide_credentials: "),
            (json!({ "anonymous_consumer": "nobody" }), "p.anonymous_consumer: no consumer"),
        ] {
            testing::refused(|reader| read(reader, &consumers()), &conf, start);
        }
    }
}
