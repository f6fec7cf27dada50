//! Consumers: shown to the loaders before they make plugins, and what their requests bring along.
//!
//! ```text
//! group's plugins ─┐ by name, the consumer's win
//! consumer's ──────┴─► steps ─► Chain::with_consumer, at a request's first use on that route
//! ```

use super::Step;
use super::compile::Compiler;
use crate::conf::{Consumer as ConsumerConf, PluginConf};
use crate::plugin::{Consumer, refuse_credential};
use crate::schema::{Fault, Problem, Reader};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// What consumers bring along, by their names; those that bring nothing are not there.
#[derive(Debug, Default)]
pub struct ConsumerPlugins {
    numbers: FxHashMap<String, u32>,
    brought: Vec<Brought>,
}

/// What one consumer's requests bring along.
#[derive(Debug)]
pub enum Brought {
    /// These plugins, in no order that means anything.
    Steps(Vec<Step>),
    /// A status as their answer: the consumer's group does not exist (APISIX reference §5.2).
    Status(u16),
}

impl ConsumerPlugins {
    /// Whether no consumer brings anything: then there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.brought.is_empty()
    }

    /// The number of a consumer that brings something.
    #[must_use]
    pub fn number(&self, username: &str) -> Option<u32> {
        self.numbers.get(username).copied()
    }

    /// What the consumer of that number brings.
    #[must_use]
    pub fn of(&self, number: u32) -> &Brought {
        &self.brought[number as usize]
    }

    /// The plugins that each brings.
    pub(super) fn steps(&self) -> impl Iterator<Item = &[Step]> {
        self.brought.iter().map(|brought| match brought {
            Brought::Steps(steps) => &steps[..],
            Brought::Status(_) => &[],
        })
    }

    /// Adds what a consumer brings.
    pub fn add(&mut self, username: &str, brought: Brought) {
        self.numbers.insert(username.to_owned(), self.brought.len() as u32);
        self.brought.push(brought);
    }
}

impl Compiler<'_> {
    /// Shows a consumer to all loaders, and what it is known by to those that know the plugin.
    pub(super) fn add_consumer(&mut self, consumer: &ConsumerConf) {
        let custom_id = consumer.labels.iter().find(|(name, _)| name == "custom_id");
        let known_as = |credential_id: Option<String>| {
            let username = consumer.username.clone();
            let custom_id = custom_id.map(|(_, value)| value.clone());
            let group_id = consumer.group_id.clone();
            Arc::new(Consumer { username, credential_id, group_id, custom_id })
        };
        let itself = known_as(None);
        for loader in &mut self.inputs.loaders {
            loader.add_consumer(&itself);
        }
        for plugin in self.credentials(&consumer.plugins) {
            self.add_credential(plugin, &itself);
        }
        for credential in &consumer.credentials {
            let known = known_as(Some(credential.id.clone()));
            for plugin in credential.plugins.iter().filter(|plugin| !plugin.meta.disable) {
                self.add_credential(plugin, &known);
            }
        }
    }

    /// Those that tell consumers apart: in a consumer they say what it is known by.
    fn credentials<'p>(&self, plugins: &'p [PluginConf]) -> Vec<&'p PluginConf> {
        let enabled = plugins.iter().filter(|plugin| !plugin.meta.disable);
        enabled.filter(|plugin| self.tells_apart(plugin)).collect()
    }

    fn tells_apart(&self, plugin: &PluginConf) -> bool {
        self.inputs.loaders.iter().any(|loader| loader.tells_consumers_apart(&plugin.name))
    }

    fn add_credential(&mut self, plugin: &PluginConf, consumer: &Arc<Consumer>) {
        let Some(loader) = self.loader_of(plugin) else { return };
        let reader = Reader::new(&plugin.conf, plugin.at.clone(), &self.problems);
        if self.tells_apart(plugin) {
            self.inputs.loaders[loader].add_credential(&plugin.name, reader, consumer);
        } else {
            refuse_credential(&plugin.name, &reader);
        }
    }

    /// Makes what consumers and their groups bring along. All of it is made, whoever uses it: what
    /// is wrong with it is wrong now.
    pub(super) fn consumer_plugins(&mut self) -> ConsumerPlugins {
        let resources = self.inputs.resources;
        let mut groups: FxHashMap<&str, Vec<Step>> = FxHashMap::default();
        for group in &resources.consumer_groups {
            for plugin in self.credentials(&group.plugins) {
                let message = format!("plugin {} has no effect in a consumer group", plugin.name);
                let fault = Fault::new(message).hint("name it on the routes");
                self.problems.warn(Problem::new(plugin.at.clone(), fault).on_key());
            }
            groups.insert(&group.id, self.brought(&group.plugins));
        }
        let mut all = ConsumerPlugins::default();
        for consumer in &resources.consumers {
            let mut steps = self.brought(&consumer.plugins);
            match consumer.group_id.as_deref().map(|id| groups.get(id)) {
                Some(None) => {
                    all.add(&consumer.username, Brought::Status(503));
                    continue;
                }
                Some(Some(of_group)) => {
                    let is_own = |step: &Step| {
                        consumer.plugins.iter().any(|own| own.name == step.plugin.name())
                    };
                    steps.extend(of_group.iter().filter(|step| !is_own(step)).cloned());
                }
                None => {}
            }
            if !steps.is_empty() {
                all.add(&consumer.username, Brought::Steps(steps));
            }
        }
        all
    }

    fn brought(&mut self, plugins: &[PluginConf]) -> Vec<Step> {
        let mut steps = Vec::new();
        for plugin in plugins {
            if !self.tells_apart(plugin) {
                steps.extend(self.step(plugin, false));
            }
        }
        steps
    }
}
