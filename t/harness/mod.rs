//! What the tests stand on: the gateway as a process, a client and upstreams that speak raw bytes.
//!
//! ```text
//! Client ─ exact bytes ─► ringgate (a child process) ─ exact bytes ─► Upstream (a script a thread)
//! ```
//!
//! Nothing here uses the gateway's own code: what reads a message for an assertion must not share
//! the mistakes of what wrote it.

mod admin;
mod certificates;
mod client;
mod etcd;
mod folder;
mod gateway;
mod grpc;
mod haproxy;
mod message;
mod nginx;
mod notify;
mod process;
mod python;
pub(crate) mod runner;
mod successor;
mod upstream;
mod websocket;
mod wire;

pub(crate) use admin::Admin;
pub(crate) use certificates::Certificates;
pub(crate) use client::{Client, get};
pub(crate) use etcd::Etcd;
pub(crate) use folder::Folder;
pub(crate) use gateway::{Driver, Gateway, Setup, drivers, module};
pub(crate) use grpc::GrpcEcho;
pub(crate) use haproxy::HaProxy;
pub(crate) use message::Message;
pub(crate) use nginx::Nginx;
pub(crate) use notify::Manager;
pub(crate) use process::{Ended, Process, ringgate};
pub(crate) use successor::{Successor, is_alive};
pub(crate) use upstream::{Conversation, Refusing, Upstream};
pub(crate) use websocket::WebSocketEcho;
pub(crate) use wire::{Cut, Wire};

use std::time::{Duration, Instant};

/// How long anything may take that should happen at once. Generous: the machine may have two cores
/// and forty other tests to run.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for something that tells nobody when it happens.
#[track_caller]
pub(crate) fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Says that a test could not run here, and why. `t/README.md`: "Skipped tests".
pub(crate) fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Past the capture of libtest, so that a run shows what it did not test.
    let _ =
        std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("skipped: {test}: {why}\n"));
}
