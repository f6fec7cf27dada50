//! A real gRPC server beside the gateway: Python's `grpcio`, in an environment of its own.

use super::{Process, skipped};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

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
        let python = python()?;
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

/// A Python that has the package; made once, kept in `target/tmp` for later runs.
fn python() -> Option<PathBuf> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = PYTHON.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("grpc-venv");
        let python = folder.join("bin/python");
        if run(Command::new(&python).args(["-c", "import grpc"])).is_ok() {
            return Ok(python);
        }
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
        let install = ["-m", "pip", "install", "--quiet", "--only-binary", ":all:", PACKAGE];
        run(Command::new(&python).args(install))?;
        Ok(python)
    });
    made.clone().map_err(|why| skipped(&format!("no gRPC server: {why}"))).ok()
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(stderr.lines().last().unwrap_or("it failed without a word").to_owned())
}
