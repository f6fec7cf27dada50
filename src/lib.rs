//! ringgate: an API gateway for Linux io_uring hosts.
//!
//! The library is the rooms of `docs/ARCHITECTURE.md`. Without the feature `gateway` it is the core
//! alone: no sockets, no threads, no guests.

pub mod builtin;
pub mod conf;
#[cfg(feature = "gateway")]
pub mod control;
pub mod exchange;
pub mod expr;
pub mod http;
pub mod limits;
pub mod listen;
#[cfg(feature = "gateway")]
pub mod net;
pub mod persistent;
pub mod plugin;
pub mod proxy_protocol;
#[cfg(feature = "gateway")]
pub mod proxy_wasm;
pub mod route;
pub mod runner;
pub mod schema;
pub mod snapshot;
pub mod stats;
pub mod time;
pub mod upstream;
#[cfg(feature = "gateway")]
pub mod vm;
#[cfg(feature = "gateway")]
pub mod worker;
