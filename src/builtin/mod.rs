//! Room `builtin`: the native plugins, one file each.
//!
//! In: a plugin's configuration, typed by room `schema`.
//! Out: plugins.
//! May not know: wasm, sockets, files.

mod fault_injection;

use crate::plugin::{Loaded, Loader, Plugin, RequestPhase};
use crate::schema::Reader;
use std::sync::Arc;

/// One native plugin: its name, where it runs, how it is read.
struct Native {
    name: &'static str,
    phase: RequestPhase,
    priority: i64,
    read: fn(Reader<'_>) -> Option<Arc<dyn Plugin>>,
}

/// All native plugins with APISIX's priorities (reference §9).
const PLUGINS: [Native; 1] = [Native {
    name: fault_injection::NAME,
    phase: RequestPhase::Rewrite,
    priority: 11_000,
    read: fault_injection::read,
}];

/// Makes native plugins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Builtins;

impl Loader for Builtins {
    fn names(&self) -> Vec<&str> {
        PLUGINS.iter().map(|native| native.name).collect()
    }

    fn load(&mut self, name: &str, conf: Reader<'_>) -> Option<Loaded> {
        let native = PLUGINS.iter().find(|native| native.name == name)?;
        let plugin = (native.read)(conf)?;
        Some(Loaded { plugin, phase: native.phase, priority: native.priority })
    }
}
