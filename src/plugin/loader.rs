//! Making plugins from their configuration.

use super::{Plugin, RequestPhase};
use crate::schema::{Fault, Reader};
use serde_json::Value;
use std::sync::Arc;

/// Knows some plugins by name and makes them from a configuration.
pub trait Loader {
    /// The names it knows.
    fn names(&self) -> Vec<&str>;

    /// Makes the plugin `name` from the value of `plugins.<name>` without `_meta`. What is wrong
    /// goes to the reader's problems, and the answer is then `None`. Asked only for names it knows.
    fn load(&mut self, name: &str, conf: Reader<'_>) -> Option<Loaded>;

    /// Takes what all plugins of that name share, before the first of them is made. Gives whether
    /// the plugin has a use for it. Asked only for names it knows.
    fn set_metadata(&mut self, name: &str, conf: Reader<'_>) -> bool {
        let _ = (name, conf);
        false
    }

    /// Whether a plugin of this configuration is not made by itself: others of the configuration
    /// decide whether it is right. If one such comes, changes or goes, all plugins are made anew.
    fn looks_at_others(&self, name: &str, conf: &Value) -> bool {
        let _ = (name, conf);
        false
    }

    /// Takes notice of a consumer. All consumers come before the first plugin is made.
    fn add_consumer(&mut self, consumer: &Arc<Consumer>) {
        let _ = consumer;
    }

    /// Whether the plugin `name` tells consumers apart: what stands in a consumer says then what
    /// it is known by, and is no plugin of its requests.
    fn tells_consumers_apart(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// Takes what the plugin `name` knows a consumer by, from `plugins.<name>` of the consumer or
    /// of its credential. What is wrong goes to the reader's problems.
    fn add_credential(&mut self, name: &str, conf: Reader<'_>, consumer: &Arc<Consumer>) {
        let _ = consumer;
        refuse_credential(name, &conf);
    }
}

/// The problem with a plugin in a credential that does not tell consumers apart.
pub fn refuse_credential(name: &str, conf: &Reader<'_>) {
    conf.error_on_key(
        Fault::new(format!("plugin {name} can't stand in a credential"))
            .hint("put it in the consumer; credentials are for plugins like key-auth"),
    );
}

/// Who sent a request, as plugins like `key-auth` find out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub username: String,
    /// The credential it was known by, if not by what stands in the consumer itself.
    pub credential_id: Option<String>,
    /// The group it belongs to.
    pub group_id: Option<String>,
    /// Its label `custom_id`.
    pub custom_id: Option<String>,
}

/// A plugin with its place among others.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The plugin.
    pub plugin: Arc<dyn Plugin>,
    /// Where its request callbacks stand.
    pub phase: RequestPhase,
    /// Higher runs first.
    pub priority: i64,
}
