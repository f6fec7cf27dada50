//! `consumers`, and credentials among them (APISIX reference §2.2, §7).

use super::super::model::{Consumer, ConsumerGroup, Credential};
use super::Identified;
use super::{item, plugins};
use crate::schema::{Object, Path, Problem, Problems};
use std::collections::HashMap;

/// An item of `consumers`: one with a slash in its id is a credential of the one before the slash.
pub(super) enum Listed {
    Consumer(Consumer),
    Credential { consumer: String, id: String, credential: Credential },
}

impl Identified for Listed {
    fn id(&self) -> &str {
        match self {
            Self::Consumer(consumer) => &consumer.username,
            Self::Credential { id, .. } => id,
        }
    }
}

/// What stands between a consumer's name and its credential's id.
const OF: &str = "/credentials/";

/// `default_id` is that of an item outside of a file; a credential's has the slash there.
pub(super) fn listed(mut object: Object<'_>, default_id: String) -> Listed {
    item::times(&mut object);
    let _ = object.string("desc", 0..=256);
    let labels = item::labels(&mut object);
    let at = object.at().clone();
    let own = plugins::read(&mut object).unwrap_or_default();
    let id = object.string("id", 1..=usize::MAX).filter(|id| id.contains(OF));
    if let Some((consumer, credential)) = id.unwrap_or(&default_id).split_once(OF) {
        let _ = object.string("name", 1..=256);
        if own.len() > 1 {
            object.error("a credential has one plugin");
        }
        let listed = Listed::Credential {
            consumer: consumer.to_owned(),
            id: format!("{consumer}{OF}{credential}"),
            credential: Credential { at, id: credential.to_owned(), plugins: own },
        };
        object.finish();
        return listed;
    }
    let group_id = item::id(&mut object, "group_id");
    let username = object.need("username").and_then(|reader| {
        let name = reader.string(1..=256)?;
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
            reader.error(format!("the username {name:?} may only have letters, digits, `-`, `_`"));
        }
        Some(name.to_owned())
    });
    object.finish();
    let username = username.unwrap_or_default();
    let credentials = Vec::new();
    Listed::Consumer(Consumer { at, username, labels, plugins: own, group_id, credentials })
}

pub(super) fn group(mut object: Object<'_>, default_id: String) -> ConsumerGroup {
    item::times(&mut object);
    let _ = (object.need("id"), item::name(&mut object), item::labels(&mut object));
    let group = ConsumerGroup {
        at: object.at().clone(),
        id: item::id(&mut object, "id").unwrap_or(default_id),
        plugins: super::needed_plugins(&mut object),
    };
    object.finish();
    group
}

/// Gives consumers their credentials.
pub(super) fn gather(listed: Vec<Listed>, problems: &Problems) -> Vec<Consumer> {
    let (mut consumers, mut credentials) = (Vec::<Consumer>::new(), Vec::new());
    for one in listed {
        match one {
            Listed::Consumer(consumer) => consumers.push(consumer),
            Listed::Credential { consumer, credential, .. } => {
                credentials.push((consumer, credential));
            }
        }
    }
    let named = |(at, consumer): (usize, &Consumer)| (consumer.username.clone(), at);
    let places: HashMap<String, usize> = consumers.iter().enumerate().map(named).collect();
    for (name, credential) in credentials {
        match places.get(&name) {
            Some(at) => consumers[*at].credentials.push(credential),
            None => problems.error(orphan(&credential.at, &name)),
        }
    }
    consumers
}

fn orphan(at: &Path, consumer: &str) -> Problem {
    Problem::new(at.key("id"), format!("no consumer has the username `{consumer}`"))
}
