//! The counters of all plugins on all workers. They outlive entries: a plugin that is loaded again
//! counts on.

use super::shared::lock;
use crate::stats::PluginCounters;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// By plugin and worker.
#[derive(Debug, Default)]
pub(super) struct AllCounters(Mutex<ByPluginAndWorker>);

type ByPluginAndWorker = BTreeMap<(Box<str>, usize), Arc<PluginCounters>>;

/// One plugin's counters on one worker, for the exposition.
#[derive(Clone, Debug)]
pub struct PluginCount {
    /// The plugin.
    pub plugin: String,
    /// The worker's index.
    pub worker: usize,
    /// What it did there.
    pub counters: Arc<PluginCounters>,
}

impl AllCounters {
    /// Those of a plugin on a worker.
    pub(super) fn of(&self, plugin: &str, worker: usize) -> Arc<PluginCounters> {
        Arc::clone(lock(&self.0).entry((plugin.into(), worker)).or_default())
    }

    /// All of them now.
    pub(super) fn all(&self) -> Vec<PluginCount> {
        let all = lock(&self.0);
        let count = |(key, counters): (&(Box<str>, usize), &Arc<PluginCounters>)| PluginCount {
            plugin: key.0.to_string(),
            worker: key.1,
            counters: Arc::clone(counters),
        };
        all.iter().map(count).collect()
    }
}
