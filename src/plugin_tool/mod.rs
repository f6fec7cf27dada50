//! Room `plugin_tool`: what `ringgate plugin` does with a plugin before any gateway runs it.
//!
//! In: a module's file, a conf.
//! Out: a report or a measurement, as text or as JSON on standard output; a precompiled file.
//! May not know: routes, workers, sockets.
//!
//! ```text
//! build: bytes ─► machine code, in a file
//! check: bytes ─► anatomy, compiled module ─► inspection ─► started once ─► report, good or not
//! bench: module, conf ─► an instance of the host ─► streams, a clock beside each callback ─► table
//! ```

mod bench;
mod check;

pub(crate) use bench::{Options, bench};
pub(crate) use check::check;

use ringgate::proxy_wasm::JOINS;
use ringgate::vm::{self, Engine, EngineSettings};
use std::path::Path;

/// Compiles a module's file to another; tells how many bytes that has.
pub(crate) fn build(file: &Path, output: &Path) -> Result<usize, String> {
    let named = |path: &Path, why: String| format!("{}: {why}", path.display());
    let bytes = std::fs::read(file).map_err(|e| named(file, format!("can't be read: {e}")))?;
    let code = vm::precompile(&bytes, JOINS).map_err(|e| named(file, e.to_string()))?;
    std::fs::write(output, &code).map_err(|e| named(output, format!("can't be written: {e}")))?;
    Ok(code.len())
}

/// An engine without a cache: compiling is part of what is looked at.
fn engine() -> Result<Engine, String> {
    let settings = EngineSettings { instances_max: 100, joins: JOINS, ..EngineSettings::default() };
    Engine::new(&settings).map_err(|error| error.to_string())
}
