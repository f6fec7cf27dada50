//! Making the steps of chains from configured plugins.

use super::Step;
use super::compile::Compiler;
use crate::conf::{GlobalRule, Meta, PluginConf, Rule};
use crate::expr::Expr;
use crate::plugin::{Loaded, compile_rule};
use crate::schema::{Fault, Problem, Reader, nearest};
use rustc_hash::FxHashSet;
use serde_json::Value;
use std::sync::Arc;

impl Compiler<'_> {
    /// Global rules of all ids form one set; a plugin may stand in one of them only (reference §6).
    pub(super) fn global_steps(&mut self, rules: &[GlobalRule]) -> Arc<[Step]> {
        let mut names = FxHashSet::default();
        let mut steps = Vec::new();
        for plugin in rules.iter().flat_map(|rule| &rule.plugins) {
            if !names.insert(plugin.name.as_str()) {
                let fault =
                    Fault::new(format!("plugin {} stands in two global rules", plugin.name))
                        .hint("keep it in one of them");
                self.problems.error(Problem::new(plugin.at.clone(), fault).on_key());
            }
            steps.extend(self.step(plugin, true));
        }
        steps.into()
    }

    /// The steps of plugins that are not of a global rule.
    pub(super) fn steps(&mut self, plugins: &[PluginConf]) -> Vec<Step> {
        plugins.iter().filter_map(|plugin| self.step(plugin, false)).collect()
    }

    pub(super) fn step(&mut self, plugin: &PluginConf, global: bool) -> Option<Step> {
        if plugin.meta.disable {
            return None;
        }
        let loaded = self.load(plugin)?;
        let Meta { priority, filter, error_response, .. } = &plugin.meta;
        Some(Step {
            hooks: loaded.plugin.hooks(),
            plugin: loaded.plugin,
            filter: filter.as_ref().and_then(|rule| self.rule(rule)),
            error_response: error_response.as_ref().map(error_body),
            phase: loaded.phase,
            global,
            priority: priority.unwrap_or(loaded.priority),
            own_priority: loaded.priority,
        })
    }

    fn load(&mut self, plugin: &PluginConf) -> Option<Loaded> {
        let loader = self.loader_of(plugin)?;
        let reader = Reader::new(&plugin.conf, plugin.at.clone(), &self.problems);
        self.inputs.loaders[loader].load(&plugin.name, reader)
    }

    /// Which loader knows a plugin, if it is enabled; else a problem.
    pub(super) fn loader_of(&self, plugin: &PluginConf) -> Option<usize> {
        let config = self.inputs.config;
        let is_wasm = config.wasm_plugins.iter().any(|wasm| wasm.name == plugin.name);
        if let Some(enabled) = &config.plugins
            && !is_wasm
            && !enabled.iter().any(|name| name.name == plugin.name)
        {
            let fault = Fault::new(format!("plugin {} is not enabled", plugin.name))
                .hint("add it to `plugins` in config.yaml");
            self.problems.error(Problem::new(plugin.at.clone(), fault).on_key());
            return None;
        }
        let mut loaders = self.inputs.loaders.iter();
        let known = loaders.position(|l| l.names().contains(&plugin.name.as_str()));
        // A wasm plugin that could not be loaded is a problem of its own.
        if known.is_none() && !is_wasm {
            self.unknown(plugin);
        }
        known
    }

    fn unknown(&self, plugin: &PluginConf) {
        let names: Vec<&str> = self.inputs.loaders.iter().flat_map(|l| l.names()).collect();
        let hint = match nearest(&plugin.name, names.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("plugins here: {}", names.join(", ")),
        };
        let fault = Fault::new(format!("unknown plugin `{}`", plugin.name)).hint(hint);
        self.problems.error(Problem::new(plugin.at.clone(), fault).on_key());
    }

    pub(super) fn rule(&self, rule: &Rule) -> Option<Expr> {
        compile_rule(&Reader::new(&rule.value, rule.at.clone(), &self.problems))
    }
}

/// A string is sent as it is, an object as JSON and a line end (reference §9).
fn error_body(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        other => format!("{other}\n").into_bytes(),
    }
}
