//! Room `plugin_tool`: what `ringgate plugin` says of a plugin, before any gateway runs it.
//!
//! In: a module's file, a conf.
//! Out: a report or a measurement, as text or as JSON on standard output.
//! May not know: routes, workers, sockets.
//!
//! ```text
//! check: bytes ─► anatomy, compiled module ─► inspection ─► started once ─► report, good or not
//! bench: module, conf ─► an instance of the host ─► streams, a clock beside each callback ─► table
//! ```

mod bench;
mod check;

pub(crate) use bench::{Options, bench};
pub(crate) use check::check;

use ringgate::vm::{Engine, EngineSettings};

/// An engine without a cache: compiling is part of what is looked at.
fn engine() -> Result<Engine, String> {
    let settings = EngineSettings { instances_max: 100, ..EngineSettings::default() };
    Engine::new(&settings).map_err(|error| error.to_string())
}
