//! `prometheus`: nothing. Metrics are there without it, of all routes.
//!
//! As APISIX's plugin of that name (`apisix/plugins/prometheus.lua`), by which a route is counted
//! there; it stands in many configurations.

use crate::plugin::{Hooks, Plugin};
use crate::schema::{Fault, Reader};
use std::sync::Arc;

pub(super) const NAME: &str = "prometheus";

#[derive(Debug)]
struct Prometheus;

impl Plugin for Prometheus {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        Hooks::NONE
    }
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    if let Some(reader) = object.get("prefer_name")
        && reader.boolean() == Some(true)
    {
        let fault = Fault::new("`prefer_name` has no effect");
        reader.warn_on_key(fault.hint("metrics have the ids of routes and services"));
    }
    object.allow_unknown();
    Some(Arc::new(Prometheus))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::testing::{plugin, refused};
    use crate::schema::{Path, Problems};
    use serde_json::json;

    #[test]
    fn it_does_nothing() {
        for (conf, warnings) in [
            (json!({}), 0),
            (json!({ "prefer_name": false }), 0),
            (json!({ "prefer_name": true, "x": 1 }), 1),
        ] {
            let problems = Problems::new();
            let read = read(Reader::new(&conf, Path::root(), &problems)).expect("a plugin");
            assert_eq!(read.hooks(), Hooks::NONE);
            let (errors, warned) = problems.into_parts();
            assert_eq!((errors.len(), warned.len()), (0, warnings), "{conf}");
        }
        assert_eq!(plugin(read, &json!({})).name(), "prometheus");
        refused(read, &json!({ "prefer_name": "yes" }), "p.prefer_name: ");
    }
}
