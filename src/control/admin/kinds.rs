//! What kinds of resources the Admin API has, and how they hang together.

use super::super::document::{Document, Item};
use serde_json::Value;

/// A kind of resource.
#[derive(Debug)]
pub(super) struct Kind {
    /// In paths and keys.
    pub(super) plural: &'static str,
    /// In messages.
    pub(super) singular: &'static str,
    /// The member that names one.
    pub(super) id_key: &'static str,
    /// Methods it does not have, in small letters.
    pub(super) without: &'static [&'static str],
    /// Who may point to one of it: their collection, the member that does, their word in messages.
    pub(super) used_by: &'static [(&'static str, &'static str, &'static str)],
    /// How a refusal to delete one in use begins.
    pub(super) in_use: &'static str,
}

const NONE: &[&str] = &[];

const fn kind(plural: &'static str, singular: &'static str) -> Kind {
    Kind { plural, singular, id_key: "id", without: NONE, used_by: &[], in_use: "" }
}

/// All kinds, as APISIX has them (`apisix/admin/*.lua`).
pub(super) const KINDS: [Kind; 12] = [
    kind("routes", "route"),
    Kind {
        used_by: &[
            ("routes/", "service_id", "route"),
            ("stream_routes/", "service_id", "stream_route"),
        ],
        in_use: "can not delete this service directly",
        ..kind("services", "service")
    },
    Kind {
        used_by: &[
            ("routes/", "upstream_id", "route"),
            ("services/", "upstream_id", "service"),
            ("stream_routes/", "upstream_id", "stream_route"),
        ],
        in_use: "can not delete this upstream",
        ..kind("upstreams", "upstream")
    },
    Kind { id_key: "username", without: &["post", "patch"], ..kind("consumers", "consumer") },
    Kind {
        without: &["post"],
        used_by: &[("consumers/", "group_id", "consumer")],
        in_use: "can not delete this consumer group",
        ..kind("consumer_groups", "consumer group")
    },
    Kind {
        without: &["post"],
        used_by: &[("routes/", "plugin_config_id", "route")],
        in_use: "can not delete this plugin config",
        ..kind("plugin_configs", "plugin config")
    },
    Kind { without: &["post"], ..kind("global_rules", "global rule") },
    Kind { without: &["post", "patch"], ..kind("plugin_metadata", "plugin metadata") },
    kind("ssls", "ssl"),
    Kind {
        used_by: &[("routes/", "proto_id", "route")],
        in_use: "can not delete this proto",
        ..kind("protos", "proto")
    },
    kind("stream_routes", "stream_route"),
    Kind { without: &["post"], ..kind("secrets", "secret") },
];

/// Credentials stand below a consumer.
pub(super) const CREDENTIAL: Kind =
    Kind { without: &["post", "patch"], ..kind("credentials", "credential") };

/// What a resource may point to: the member, the collection, their word in messages.
const POINTERS: [(&str, &str, &str); 4] = [
    ("service_id", "services/", "service"),
    ("upstream_id", "upstreams/", "upstream"),
    ("plugin_config_id", "plugin_configs/", "plugin config"),
    ("group_id", "consumer_groups/", "consumer group"),
];

/// The kind of that name in paths.
pub(super) fn of(plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.plural == plural)
}

/// What APISIX says of a value that points to nothing.
pub(super) fn dangling(document: &Document, value: &Value) -> Option<String> {
    POINTERS.iter().find_map(|(member, collection, word)| {
        let id = id_text(value.get(*member)?)?;
        let is_there = document.get(&format!("{collection}{id}")).is_some();
        (!is_there).then(|| {
            let by = member.replace('_', " ");
            format!("failed to fetch {word} info by {by} [{id}], response code: 404")
        })
    })
}

impl Kind {
    /// Who still points to an item, in APISIX's words.
    pub(super) fn user(&self, document: &Document, id: &str) -> Option<String> {
        self.used_by.iter().find_map(|(collection, member, word)| {
            let points = |item: &Item| {
                item.value.get(*member).and_then(id_text).is_some_and(|own| own == id)
            };
            let user = document.collection(collection).find(|(_, item)| points(item));
            user.map(|(user, _)| format!("{}, {word} [{user}] is still using it now", self.in_use))
        })
    }
}

/// An id as text: a string, or an integer.
pub(in crate::control) fn id_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

/// A value as it may be shown: the private keys of certificates are never given back.
pub(super) fn public(key: &str, value: &Value) -> Value {
    let mut value = value.clone();
    if key.contains("/ssls/")
        && let Value::Object(members) = &mut value
    {
        members.shift_remove("key");
        members.shift_remove("keys");
    }
    value
}
