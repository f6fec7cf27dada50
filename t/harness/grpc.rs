//! A real gRPC server beside the gateway: Python's `grpcio`.

use super::Process;
use super::python::python_with;
use std::process::Command;

/// The release the tests were written with.
const PACKAGE: &str = "grpcio==1.85.3";

/// `t/servers/grpc_echo.py`. Dropping it kills it.
pub(crate) struct GrpcEcho {
    _process: Process,
    port: u16,
}

impl GrpcEcho {
    /// Starts it on a free port; `None`, and a word of why, where Python or the package is not to
    /// be had.
    pub(crate) fn start() -> Option<Self> {
        let python = python_with(PACKAGE, "grpc")?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/t/servers/grpc_echo.py");
        let process = Process::start(Command::new(python).arg(script));
        let port = process.wait_for_output(|text| {
            text.lines().find_map(|line| line.strip_prefix("listening on ")?.trim().parse().ok())
        })?;
        Some(Self { _process: process, port })
    }

    pub(crate) fn node(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}
