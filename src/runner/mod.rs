//! Room `runner`: APISIX's external plugins, as a protocol and as three plugins.
//!
//! In: plugin configurations, messages, frames of runners.
//! Out: frames for runners, actions, edits of messages.
//! May not know: sockets, processes, how frames travel.
//!
//! ```text
//! message ─► plugin ─► encode ─► frame ─┐                     ┌─ worker: sockets, pools
//!               │                       ├─► RunnerTalk ◄─────►│
//!            message ◄─ apply ◄─ decode ◄─┘                   └─► a runner
//!               └─ tokens: one PrepareConf for all workers
//! ```

mod apply;
mod circuit;
mod conversation;
mod decode;
mod desk;
mod encode;
mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod loader;
mod plugin;
/// The protocol's tables, made by flatc of `ext_plugin.fbs`; for runners too.
#[allow(clippy::all, clippy::undocumented_unsafe_blocks, clippy::unwrap_used)]
#[allow(deprecated, missing_docs, missing_debug_implementations, unused, unreachable_pub)]
#[path = "ext_plugin_generated.rs"]
pub mod schema;
#[cfg(any(test, fuzzing))]
mod testing;
#[cfg(test)]
mod tests;
mod tokens;

pub use circuit::Circuit;
pub use decode::{Ask, Entries, NewResponse, Refusal, Reply, Rewrite, Stop, Wrong, decode};
pub use encode::{Encoder, Unsayable};
pub use frame::{Frame, HEADER_BYTES, Kind, TooLong, first_frame, write_frame};
pub use loader::Runners;
pub use tokens::{Begin, Token};
