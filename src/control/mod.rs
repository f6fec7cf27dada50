//! Room `control`: the thread that is not a worker.
//!
//! In: files, signals.
//! Out: snapshots, started and stopped workers, pages for operators, an exit code.
//! May not know: request logic.
//!
//! ```text
//! config.yaml ─┐                                   ┌─► worker 0 … worker n
//! apisix.yaml ─┴► load ─► Snapshot ─► Shared ──────┤
//!        signals: TERM, INT drain; INT again ends; HUP loads again and publishes
//!        names and health of upstreams' nodes ─► upkeep ─► the nodes that workers share
//!        their counters ─► metrics ─► server ─► Prometheus
//! ```

mod load;
mod logger;
mod metrics;
mod run;
mod runners;
mod server;
mod upkeep;
mod wasm;

pub use load::{Failure, Loading, show_warnings};
pub use logger::{flush_log, start_log};
pub use run::{Exit, run, this_program};
