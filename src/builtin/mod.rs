//! Room `builtin`: the native plugins, one file each.
//!
//! In: a plugin's configuration, typed by room `schema`.
//! Out: plugins.
//! May not know: wasm, sockets, files.

mod auth;
mod basic_auth;
mod body;
mod client_control;
mod cors;
mod counters;
mod echo;
mod fault_injection;
mod fields;
mod groups;
mod gzip;
mod ip_restriction;
mod key_auth;
mod limit_conn;
mod limit_count;
mod limit_key;
mod limit_req;
mod metadata;
mod mocking;
mod prometheus;
mod proxy_control;
mod proxy_rewrite;
mod real_ip;
mod redirect;
mod referer_restriction;
mod refusal;
mod request_id;
mod response_rewrite;
#[cfg(test)]
mod testing;
mod ua_restriction;
mod uri_blocker;

use crate::plugin::RequestPhase::{self, Access, BeforeProxy, Rewrite};
use crate::plugin::{Consumer, Loaded, Loader, Plugin, refuse_credential};
use crate::schema::{Path, Reader, Step, Style, survey};
use auth::Consumers;
use groups::Groups;
use metadata::Metadata;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// One native plugin: its name, where it runs, how it is read.
struct Native {
    name: &'static str,
    phase: RequestPhase,
    priority: i64,
    read: Read,
}

type Made = Option<Arc<dyn Plugin>>;

/// How a configuration becomes a plugin.
enum Read {
    /// By itself.
    Alone(fn(Reader<'_>) -> Made),
    /// With what all of its kind share.
    Informed(fn(Reader<'_>, &Metadata) -> Made),
    /// The same, together with others of its configuration.
    Grouped(fn(Reader<'_>, &mut Groups, &Metadata) -> Made),
    /// Knowing the consumers; and how it reads what it knows one by.
    Auth(fn(Reader<'_>, &Arc<Consumers>) -> Made, fn(Reader<'_>, &Arc<Consumer>, &mut Consumers)),
}

type Alone = fn(Reader<'_>) -> Made;

const fn native(name: &'static str, phase: RequestPhase, priority: i64, read: Alone) -> Native {
    Native { name, phase, priority, read: Read::Alone(read) }
}

/// All native plugins with APISIX's phases and priorities (reference §9).
const PLUGINS: [Native; 22] = [
    native(real_ip::NAME, Rewrite, 23_000, real_ip::read),
    native(client_control::NAME, Rewrite, 22_000, client_control::read),
    // APISIX's runs in the rewrite phase and has nginx wait later: behind all that may refuse.
    native(proxy_control::NAME, BeforeProxy, 21_990, proxy_control::read),
    native(request_id::NAME, Rewrite, 12_015, request_id::read),
    native(fault_injection::NAME, Rewrite, 11_000, fault_injection::read),
    native(mocking::NAME, Access, 10_900, mocking::read),
    Native { name: cors::NAME, phase: Rewrite, priority: 4_000, read: Read::Informed(cors::read) },
    native(ip_restriction::NAME, Access, 3_000, ip_restriction::read),
    native(ua_restriction::NAME, Access, 2_999, ua_restriction::read),
    native(referer_restriction::NAME, Access, 2_990, referer_restriction::read),
    native(uri_blocker::NAME, Rewrite, 2_900, uri_blocker::read),
    Native {
        name: basic_auth::NAME,
        phase: Rewrite,
        priority: 2_520,
        read: Read::Auth(basic_auth::read, basic_auth::read_credential),
    },
    Native {
        name: key_auth::NAME,
        phase: Rewrite,
        priority: 2_500,
        read: Read::Auth(key_auth::read, key_auth::read_credential),
    },
    native(proxy_rewrite::NAME, Rewrite, 1_008, proxy_rewrite::read),
    native(limit_conn::NAME, Access, 1_003, limit_conn::read),
    Native {
        name: limit_count::NAME,
        phase: Access,
        priority: 1_002,
        read: Read::Grouped(limit_count::read),
    },
    native(limit_req::NAME, Access, 1_001, limit_req::read),
    native(gzip::NAME, Rewrite, 995, gzip::read),
    native(redirect::NAME, Rewrite, 900, redirect::read),
    native(response_rewrite::NAME, Rewrite, 899, response_rewrite::read),
    native(prometheus::NAME, Rewrite, 500, prometheus::read),
    native(echo::NAME, Rewrite, 412, echo::read),
];

/// Words that some native plugin takes as it is.
const WORDS: [&str; 12] = [
    "x",
    "/x",
    "*",
    "local",
    "127.0.0.1",
    "10.0.0.0/8",
    "GET",
    "7",
    "1s",
    "a: b",
    "http_x",
    "none",
];

/// The JSON Schema of every native plugin's configuration: its name, what stands in routes, and
/// what stands in consumers, if it tells them apart.
#[must_use]
pub fn schemas() -> Vec<(&'static str, Value, Option<Value>)> {
    let style = |title| Style { title, words: &WORDS, keys: &["set"], nulls: false };
    let schema = |native: &Native| {
        let (mut groups, nobody) = (Groups::default(), Arc::default());
        let conf = survey(style(native.name), |reader| match native.read {
            Read::Alone(read) => drop(read(reader)),
            Read::Informed(read) => drop(read(reader, &Metadata::default())),
            Read::Grouped(read) => drop(read(reader, &mut groups, &Metadata::default())),
            Read::Auth(read, _) => drop(read(reader, &nobody)),
        });
        let credential = match native.read {
            Read::Auth(_, read) => Some(survey(style(native.name), |reader| {
                read(reader, &Arc::default(), &mut Consumers::default());
            })),
            _ => None,
        };
        (native.name, conf, credential)
    };
    PLUGINS.iter().map(schema).collect()
}

/// The priority of a native plugin.
#[must_use]
pub fn priority(name: &str) -> Option<i64> {
    PLUGINS.iter().find(|native| native.name == name).map(|native| native.priority)
}

/// The JSON Schema of a plugin's `plugin_metadata`, if it has a use for some.
#[must_use]
pub fn metadata_schema(name: &str) -> Option<Value> {
    let style = Style { title: name, words: &WORDS, keys: &["set"], nulls: false };
    let read = |reader: Reader<'_>| {
        Metadata::default().read(name, reader);
    };
    has_metadata(name).then(|| survey(style, read))
}

/// Whether a plugin has a use for `plugin_metadata`.
#[must_use]
pub fn has_metadata(name: &str) -> bool {
    [cors::NAME, limit_count::NAME].contains(&name)
}

/// Makes the native plugins of one configuration.
#[derive(Debug, Default)]
pub struct Builtins {
    groups: Groups,
    consumers: Arc<Consumers>,
    metadata: Metadata,
    /// Those that count, by where and how they are configured, as long as a snapshot has them.
    counting: HashMap<String, Weak<dyn Plugin>>,
    /// With so many of them those that are gone are looked for.
    sweep_at: usize,
    /// The ids of resources, by where they stand in a list.
    ids: HashMap<Path, String>,
}

/// Plugins that count that are not swept.
const SWEEP_AT_MIN: usize = 64;

/// Plugins that know something of the requests before: one that is configured as it was goes on
/// where it is when the configuration is read again.
const COUNTING: [&str; 3] = [limit_conn::NAME, limit_count::NAME, limit_req::NAME];

impl Builtins {
    /// Begins another configuration, all of which is made next. Names its resources that stand in
    /// lists: `routes[0]` may be called `r1`.
    pub fn begin(&mut self, ids: impl IntoIterator<Item = (Path, String)>) {
        self.groups = Groups::default();
        self.consumers = Arc::default();
        self.metadata = Metadata::default();
        self.sweep();
        self.ids = ids.into_iter().collect();
    }

    /// What a plugin that counts is known by: it is another one elsewhere, or configured otherwise.
    fn place(&self, name: &str, conf: &Reader<'_>) -> Option<String> {
        if !COUNTING.contains(&name) {
            return None;
        }
        let (list, id) = match conf.at().steps() {
            [Step::Key(list), Step::Index(index), ..] => {
                (list, self.ids.get(&Path::root().key(list).index(*index))?)
            }
            [Step::Key(list), Step::Key(id), ..] => (list, id),
            _ => return None,
        };
        let fields = &self.metadata.limit_fields;
        Some(format!("{list}#{id}#{name}#{}#{fields:?}", conf.value()))
    }

    /// Forgets plugins that are gone.
    fn sweep(&mut self) {
        self.counting.retain(|_, plugin| plugin.strong_count() > 0);
        self.sweep_at = self.counting.len() * 2 + SWEEP_AT_MIN;
    }
}

impl Loader for Builtins {
    fn names(&self) -> Vec<&str> {
        PLUGINS.iter().map(|native| native.name).collect()
    }

    fn load(&mut self, name: &str, conf: Reader<'_>) -> Option<Loaded> {
        let native = PLUGINS.iter().find(|native| native.name == name)?;
        let place = self.place(name, &conf);
        let known = place.as_ref().and_then(|place| self.counting.get(place)?.upgrade());
        if let Some(plugin) = known {
            return Some(Loaded { plugin, phase: native.phase, priority: native.priority });
        }
        let plugin = match native.read {
            Read::Alone(read) => read(conf),
            Read::Informed(read) => read(conf, &self.metadata),
            Read::Grouped(read) => read(conf, &mut self.groups, &self.metadata),
            Read::Auth(read, _) => read(conf, &self.consumers),
        }?;
        if let Some(place) = place {
            if self.counting.len() >= self.sweep_at {
                self.sweep();
            }
            self.counting.insert(place, Arc::downgrade(&plugin));
        }
        Some(Loaded { plugin, phase: native.phase, priority: native.priority })
    }

    fn set_metadata(&mut self, name: &str, conf: Reader<'_>) -> bool {
        self.metadata.read(name, conf)
    }

    /// All members of a group must be configured alike.
    fn looks_at_others(&self, name: &str, conf: &Value) -> bool {
        name == limit_count::NAME && conf.get("group").is_some()
    }

    fn add_consumer(&mut self, consumer: &Arc<Consumer>) {
        let consumers = Arc::make_mut(&mut self.consumers);
        consumers.by_name.insert(consumer.username.clone(), Arc::clone(consumer));
    }

    fn tells_consumers_apart(&self, name: &str) -> bool {
        let native = PLUGINS.iter().find(|native| native.name == name);
        native.is_some_and(|native| matches!(native.read, Read::Auth(..)))
    }

    fn add_credential(&mut self, name: &str, conf: Reader<'_>, consumer: &Arc<Consumer>) {
        match PLUGINS.iter().find(|native| native.name == name) {
            Some(Native { read: Read::Auth(_, read), .. }) => {
                read(conf, consumer, Arc::make_mut(&mut self.consumers));
            }
            _ => refuse_credential(name, &conf),
        }
    }
}
