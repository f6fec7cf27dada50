//! `ringgate check` and `ringgate schema`.

use super::load::{Failure, Loading};
use crate::builtin;
use crate::conf::{PluginSchema, Report, process_schema, resources_schema};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// What a check found.
#[derive(Debug)]
pub struct Checked {
    /// Whether there is nothing wrong with it.
    pub is_good: bool,
    /// How many routes there are, where it is good and they are in a file.
    pub routes: Option<usize>,
    /// Everything there is to say, most important last.
    pub report: Report,
    /// What no file can show: one that can't be read, for example.
    pub failure: Option<String>,
}

/// Checks a configuration as a start would: the same code, plugins compiled and configured. Where
/// the resources are not in a file, a store's are not looked at.
#[must_use]
pub fn check(config: &Path, compiler: Option<&Path>) -> Checked {
    let mut loading = match Loading::open(config, compiler) {
        Ok(loading) => loading,
        Err(failure) => return Checked::refused(failure, Report::default()),
    };
    let (warnings, has_file) = (loading.config_warnings.clone(), loading.has_file());
    let loaded = match has_file {
        true => loading.snapshot(),
        false => loading.build(&Arc::default()).map(|snapshot| (snapshot, warnings.clone())),
    };
    match loaded {
        Ok((snapshot, report)) => {
            let routes = has_file.then(|| snapshot.route_count());
            Checked { is_good: true, routes, report, failure: None }
        }
        Err(failure) => Checked::refused(failure, warnings),
    }
}

impl Checked {
    /// `warnings`: what else there is to say.
    fn refused(failure: Failure, mut warnings: Report) -> Self {
        let failure = match failure {
            Failure::Wrong(report) => {
                warnings.extend(report);
                None
            }
            failure => Some(failure.to_string()),
        };
        Self { is_good: false, routes: None, report: warnings, failure }
    }

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
        json!({ "ok": self.is_good, "routes": self.routes, "diagnostics": found })
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
