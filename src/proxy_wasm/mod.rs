//! Room `proxy_wasm`: the host of Proxy-Wasm plugins, for HTTP, ABI 0.1.0 to 0.2.1.
//!
//! In: plugin entries and confs (control side); one phase with the message moved in (workers).
//! Out: [`Plugin`](crate::plugin::Plugin)s; an action, the message back, effects queued in it.
//! May not know: sockets, routes, YAML.
//!
//! ```text
//! control side                              each worker
//! Host ─ load ─► Plugins                    Pool (one per entry)
//!   entries ─► Entry: module, exports         active ── serves all streams of the worker
//!              │                              spares ── take over when it traps
//!   confs ───► Conf: one root context           │
//!              │                              Instance: Store<Guest> + typed exports
//!              └─► HttpPlugin ── a phase ──►    root context for each conf
//!                                               stream context for each exchange
//! ```
//!
//! - A stream's callback *moves* the boxed message into the store's data and takes it back after.
//!   A host function works on that data and on checked guest memory; it never runs the guest, but
//!   for its allocator. What it can't do at once is an effect, read when the guest has returned.
//! - Nothing of a guest is trusted: pointers and lengths are checked, unknown ids are statuses,
//!   a trap ends its instance and is treated by `on_error`.
//! - Everything workers share (shared data, queues, metrics) is in `shared`.

mod abi;
mod bench;
mod calls;
mod counters;
mod error;
mod exports;
mod foreign;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod guest;
mod header_map;
mod host;
mod hostcalls;
mod http_plugin;
mod inspect;
mod instance;
mod node;
mod pairs;
mod pool;
mod property;
mod protobuf;
mod reply;
mod root;
mod sdk;
mod settings;
mod shared;
#[cfg(test)]
mod tests;
mod upkeep;
mod visit;

pub use bench::{Bench, BenchInstance, Measured, Outcome};
pub use counters::PluginCount;
pub use error::{Error, Reason};
pub use exports::JOINS;
pub use host::{Host, Plugins};
pub use inspect::{Inspection, inspect};
pub use node::Node;
pub use sdk::guess_sdk;
pub use settings::{Dry, Isolation, OnError, PluginSettings, Source};
pub use shared::{Metric, MetricKind, MetricValue};
