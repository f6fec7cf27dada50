//! Groups of `limit-count`: routes that count together.

use super::counters::Counters;
use super::limit_count::Window;
use crate::schema::{Fault, Reader};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The groups of one configuration.
#[derive(Debug, Default)]
pub(super) struct Groups {
    confs: HashMap<String, Value>,
}

/// One group's counters, as long as some configuration has it.
struct Group {
    name: String,
    conf: Value,
    counters: Weak<Counters<Window>>,
}

/// All groups of this process: they go on counting when the configuration is read again.
static GROUPS: Mutex<Vec<Group>> = Mutex::new(Vec::new());

impl Groups {
    /// The counters of the group that `name` names; all its members must be configured alike.
    pub(super) fn counters(
        &mut self,
        name: &Reader<'_>,
        conf: &Reader<'_>,
    ) -> Option<Arc<Counters<Window>>> {
        let group = name.string(1..=usize::MAX)?.to_owned();
        let value = conf.value();
        let known = self.confs.entry(group.clone()).or_insert_with(|| value.clone());
        if known != value {
            let fault = Fault::new(format!("group conf mismatched: `{group}`"));
            name.error(fault.hint("a group is one limit: give all its members the same fields"));
            return None;
        }
        Some(counters_of(group, value))
    }
}

fn counters_of(name: String, conf: &Value) -> Arc<Counters<Window>> {
    let mut all = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|group| group.counters.strong_count() > 0);
    let known = all.iter().find(|group| group.name == name && group.conf == *conf);
    if let Some(counters) = known.and_then(|group| group.counters.upgrade()) {
        return counters;
    }
    let counters = Arc::new(Counters::new());
    all.push(Group { name, conf: conf.clone(), counters: Arc::downgrade(&counters) });
    counters
}
