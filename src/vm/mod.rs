//! Room `vm`: WebAssembly modules and the memory, time and failures of their instances.
//!
//! In: module bytes, engine settings.
//! Out: compiled modules, checked guest memory, faults with named backtraces, deadlines and limits.
//! May not know: Proxy-Wasm, HTTP.
//!
//! ```text
//!  bytes ─► Engine::load ─┬─ cache hit ───► map the file (0.1 ms)
//!   .wat                  └─ miss ─ compile (seconds) ─► cache
//!   .wasm                                                        ┌─ Limiter   memory, tables
//!   .cwasm                Module ─► wasmtime Store of the host ──┼─ Ticker    deadline per call
//!                                                                ├─ Fault     why a call ended
//!                                                                └─ Kept      back to what it was
//! ```
//!
//! - One [`Engine`] a process. It works where address space is scarce, only slower (see `engine`).
//! - Precompiled code is machine code: it is mapped only from places that nobody else may write to.
//! - Modules are compiled with more in them than they came with: their state is exported (`state`),
//!   and exports that the host calls in a row are joined to one (`join`).
//! - The epoch thread runs while at least one [`Module`] is alive.

mod anatomy;
mod cache;
mod engine;
mod fault;
mod join;
mod limiter;
mod memory;
mod module;
mod rewind;
mod sections;
mod state;
mod ticker;

pub use anatomy::Anatomy;
pub use engine::{Engine, EngineSettings, Profile};
pub use fault::{Exit, Fault, FaultKind};
pub use join::{Join, STEP};
pub use limiter::Limiter;
pub use memory::{GuestMemory, OutOfBounds};
pub use module::{LoadError, Module, precompile};
pub use rewind::{Kept, State};
pub use sections::is_added_export;
pub use ticker::deadline_ticks;
