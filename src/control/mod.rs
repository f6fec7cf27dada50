//! Room `control`: the thread that is not a worker.
//!
//! In: files, signals.
//! Out: snapshots, started and stopped workers, pages for operators, an exit code.
//! May not know: request logic.
//!
//! ```text
//! config.yaml ─┐                                            ┌─► worker 0 … worker n
//! apisix.yaml ─┴► load ─► Snapshot ─► store ─► Shared ───────┤
//!        run: signals TERM, INT drain; INT again ends; HUP loads again; USR2: upgrade
//!        store ◄─ admin (Admin API), follow (etcd), run: each change is built, kept, published
//!        upkeep: names resolved and nodes probed ─► what workers share of their upstreams
//!        workers' counters, the store's status ─► metrics ─► server (axum) ─► Prometheus
//! ```

mod access_log;
mod admin;
mod backend;
mod check;
mod difference;
mod document;
mod embedded;
mod etcd;
mod explain;
mod follow;
mod handover;
mod inspect;
mod load;
mod local;
mod logger;
mod metrics;
mod pages;
mod privileges;
mod run;
mod runners;
mod running;
mod server;
mod signals;
mod store;
mod upgrade;
mod upkeep;
mod wasm;
mod watch;
mod workers;

pub use check::{Checked, apisix_schema, check, config_schema};
pub use difference::difference;
pub use explain::{Question, explain};
pub use load::{Failure, Loading, show_warnings};
pub use logger::{flush_log, start_log};
pub use run::{Exit, run, this_program};
