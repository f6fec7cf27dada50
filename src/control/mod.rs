//! Room `control`: the thread that is not a worker.
//!
//! In: files, signals.
//! Out: snapshots, started and stopped workers, an exit code.
//! May not know: request logic.
//!
//! ```text
//! config.yaml ─┐                                   ┌─► worker 0 … worker n
//! apisix.yaml ─┴► load ─► Snapshot ─► Shared ──────┤
//!        signals: TERM, INT drain; INT again ends; HUP loads again and publishes
//! ```

mod load;
mod logger;
mod run;
mod runners;
mod wasm;

pub use load::{Failure, Loading, show_warnings};
pub use logger::{flush_log, start_log};
pub use run::{Exit, run, this_program};
