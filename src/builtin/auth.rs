//! What `key-auth` and `basic-auth` share: the consumers of the configuration, and what a request
//! of one of them brings along.

use super::refusal::Refusal;
use crate::plugin::{Action, Consumer, Message};
use crate::schema::{Fault, Object, Reader};
use std::collections::HashMap;
use std::sync::Arc;

/// All consumers, by what they are known by.
#[derive(Clone, Debug, Default)]
pub(super) struct Consumers {
    pub(super) by_name: HashMap<String, Arc<Consumer>>,
    /// `key-auth`: by key.
    pub(super) by_key: HashMap<Vec<u8>, Arc<Consumer>>,
    /// `basic-auth`: by user, with the password.
    pub(super) by_user: HashMap<Vec<u8>, (Vec<u8>, Arc<Consumer>)>,
}

/// What an auth plugin does with requests it does not know.
#[derive(Debug)]
pub(super) struct Strangers {
    /// They are this consumer's.
    pub(super) anonymous: Option<Arc<Consumer>>,
    /// `WWW-Authenticate` of a refusal (RFC 9110 §11.6.1).
    pub(super) challenge: Vec<u8>,
}

impl Strangers {
    /// Reads `anonymous_consumer`.
    pub(super) fn read(object: &mut Object<'_>, all: &Consumers, challenge: Vec<u8>) -> Self {
        let anonymous = object.get("anonymous_consumer").and_then(|reader| {
            let name = reader.string(1..=usize::MAX)?;
            let known = all.by_name.get(name);
            if known.is_none() {
                reader.error(format!("no consumer has the username `{name}`"));
            }
            known.cloned()
        });
        Self { anonymous, challenge }
    }

    /// Lets the request pass as the anonymous consumer's, or refuses it.
    pub(super) fn meet(&self, refusal: &Refusal, message: &mut Message) -> Action {
        if let Some(anonymous) = &self.anonymous {
            attach(anonymous, message);
            return Action::Continue;
        }
        let action = refusal.give(message);
        message.local.headers.set(b"WWW-Authenticate", &self.challenge);
        action
    }
}

/// The request is this consumer's: variables and the upstream see it. What the client itself said
/// in these fields goes.
pub(super) fn attach(consumer: &Arc<Consumer>, message: &mut Message) {
    let headers = &mut message.request.headers;
    headers.set(b"X-Consumer-Username", consumer.username.as_bytes());
    let optional: [(&[u8], _); 2] = [
        (b"X-Credential-Identifier", &consumer.credential_id),
        (b"X-Consumer-Custom-ID", &consumer.custom_id),
    ];
    for (name, value) in optional {
        match value {
            Some(value) => headers.set(name, value.as_bytes()),
            None => drop(headers.remove(name)),
        }
    }
    message.consumer = Some(Arc::clone(consumer));
}

/// A secret of a consumer, as it is: references into secret stores are not supported, and must not
/// become secrets themselves.
pub(super) fn read_secret<'a>(reader: &Reader<'a>) -> Option<&'a str> {
    let text = reader.string(1..=usize::MAX)?;
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("$env://") || lower.starts_with("$secret://") {
        let fault = Fault::new("references to secrets are not supported");
        reader.error(fault.hint("`${{NAME}}` takes the value of an environment variable"));
    }
    Some(text)
}

/// Whether two secrets are equal, in a time that tells nothing about where they differ.
pub(super) fn same_secret(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differences) == 0
}
