//! Real websockets on both sides of the gateway: Python's `websockets`.

use super::python::python_with;
use super::{Ended, Process};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

/// The release the tests were written with.
const PACKAGE: &str = "websockets==17.4";

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/t/servers/websocket.py");

/// A server that gives every message back. Dropping it kills it.
pub(crate) struct WebSocketEcho {
    _process: Process,
    port: u16,
    python: PathBuf,
}

impl WebSocketEcho {
    /// Starts it on a free port; `None`, and a word of why, where Python or the package is not to
    /// be had.
    pub(crate) fn start() -> Option<Self> {
        let python = python_with(PACKAGE, "websockets")?;
        let process = Process::start(Command::new(&python).args([SCRIPT, "serve"]));
        let port = process.wait_for_output(|text| {
            text.lines().find_map(|line| line.strip_prefix("listening on ")?.trim().parse().ok())
        })?;
        Some(Self { _process: process, port, python })
    }

    pub(crate) fn node(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A client that talks to it through that address, and checks what comes back.
    pub(crate) fn talk(&self, through: SocketAddr, path: &str) -> Ended {
        let url = format!("ws://{through}{path}");
        let mut client = Process::start(Command::new(&self.python).args([SCRIPT, "talk", &url]));
        client.wait().expect("the client ends in time")
    }
}
