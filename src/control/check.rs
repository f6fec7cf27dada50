//! `ringgate check` and `ringgate schema`.

use super::load::{Failure, Loading};
use crate::builtin;
use crate::conf::{PluginSchema, Report, process_schema, resources_schema};
use serde_json::{Value, json};
use std::path::Path;

/// What a check found.
#[derive(Debug)]
pub struct Checked {
    /// How many routes there are; `None`: the configuration is refused.
    pub routes: Option<usize>,
    /// Everything there is to say, most important last.
    pub report: Report,
    /// What no file can show: one that can't be read, for example.
    pub failure: Option<String>,
}

/// Checks a configuration as a start would: the same code, plugins compiled and configured.
#[must_use]
pub fn check(config: &Path, compiler: Option<&Path>) -> Checked {
    let loaded = Loading::open(config, compiler).and_then(|mut loading| loading.snapshot());
    match loaded {
        Ok((snapshot, report)) => {
            Checked { routes: Some(snapshot.route_count()), report, failure: None }
        }
        Err(Failure::Wrong(report)) => Checked { routes: None, report, failure: None },
        Err(failure) => {
            let said = failure.to_string();
            Checked { routes: None, report: Report::default(), failure: Some(said) }
        }
    }
}

impl Checked {
    /// Everything as JSON, for editors and pipelines.
    #[must_use]
    pub fn json(&self) -> Value {
        let diagnostics = self.report.diagnostics();
        let failure = self.failure.as_ref().map(|why| {
            let message = why.trim().trim_start_matches("error: ");
            json!({ "severity": "error", "message": message })
        });
        let found: Vec<Value> =
            diagnostics.iter().map(|found| found.json()).chain(failure).collect();
        json!({ "ok": self.routes.is_some(), "routes": self.routes, "diagnostics": found })
    }
}

/// The JSON Schema of `config.yaml`.
#[must_use]
pub fn config_schema() -> Value {
    process_schema()
}

/// The JSON Schema of `apisix.yaml`, native plugins included.
#[must_use]
pub fn apisix_schema() -> Value {
    let plugin = |(name, conf, credential): (&str, Value, Option<Value>)| PluginSchema {
        name: name.to_owned(),
        conf,
        credential,
    };
    let plugins: Vec<PluginSchema> = builtin::schemas().into_iter().map(plugin).collect();
    resources_schema(&plugins)
}
