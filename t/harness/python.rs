//! Packages of PyPI for servers and clients that nobody here wrote, each in an environment of its
//! own.

use super::skipped;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

/// What came of making an environment, by its package.
static MADE: LazyLock<Mutex<HashMap<&str, Result<PathBuf, String>>>> =
    LazyLock::new(Mutex::default);

/// A Python that has the package, which is imported by `module`; made once, kept in `target/tmp`
/// for later runs. `None`, and a word of why, where it is not to be had.
pub(super) fn python_with(package: &'static str, module: &str) -> Option<PathBuf> {
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let made = made.entry(package).or_insert_with(|| make(package, module));
    made.clone().map_err(|why| skipped(&format!("no {package}: {why}"))).ok()
}

fn make(package: &str, module: &str) -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{module}-venv"));
    let python = folder.join("bin/python");
    if run(Command::new(&python).args(["-c", &format!("import {module}")])).is_ok() {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let install = ["-m", "pip", "install", "--quiet", "--only-binary", ":all:", package];
    run(Command::new(&python).args(install))?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(stderr.lines().last().unwrap_or("it failed without a word").to_owned())
}
