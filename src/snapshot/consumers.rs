//! Showing consumers to the loaders, before they make plugins.

use super::compile::Compiler;
use crate::conf::{Consumer as ConsumerConf, PluginConf};
use crate::plugin::Consumer;
use crate::schema::Reader;
use std::sync::Arc;

impl Compiler<'_> {
    /// Shows a consumer to all loaders, and what it is known by to those that know the plugin.
    pub(super) fn add_consumer(&mut self, consumer: &ConsumerConf) {
        let custom_id = consumer.labels.iter().find(|(name, _)| name == "custom_id");
        let known_as = |credential_id: Option<String>| {
            let username = consumer.username.clone();
            let custom_id = custom_id.map(|(_, value)| value.clone());
            Arc::new(Consumer { username, credential_id, custom_id })
        };
        let itself = known_as(None);
        for loader in &mut self.inputs.loaders {
            loader.add_consumer(&itself);
        }
        self.add_credentials(&consumer.plugins, &itself);
        for credential in &consumer.credentials {
            self.add_credentials(&credential.plugins, &known_as(Some(credential.id.clone())));
        }
    }

    fn add_credentials(&mut self, plugins: &[PluginConf], consumer: &Arc<Consumer>) {
        for plugin in plugins.iter().filter(|plugin| !plugin.meta.disable) {
            if let Some(loader) = self.loader_of(plugin) {
                let reader = Reader::new(&plugin.conf, plugin.at.clone(), &self.problems);
                self.inputs.loaders[loader].add_credential(&plugin.name, reader, consumer);
            }
        }
    }
}
