//! The Admin API against its own description: schemathesis tries what it can think of.

use crate::harness::{Admin, Folder, Setup, skipped};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How hard it tries.
#[derive(Clone, Copy)]
enum Effort {
    /// A few bodies and parameters for each operation: seconds.
    Short,
    /// Every boundary of the schemas too, and many more: minutes.
    Long,
}

impl Effort {
    fn args(self) -> [&'static str; 4] {
        match self {
            Self::Short => ["--phases", "examples,fuzzing", "--max-examples", "2"],
            Self::Long => ["--phases", "examples,coverage,fuzzing", "--max-examples", "50"],
        }
    }
}

/// The virtual environment with schemathesis, made once for all runs.
fn schemathesis() -> Option<PathBuf> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemathesis");
    let program = home.join("bin/schemathesis");
    if program.is_file() {
        return Some(program);
    }
    let python = Command::new("python3").arg("-m").arg("venv").arg(&home).output().ok()?;
    let pip = home.join("bin/pip");
    let install = python.status.success().then(|| {
        Command::new(pip).args(["install", "--quiet", "schemathesis>=4,<5"]).output().ok()
    });
    if install.flatten().is_some_and(|output| output.status.success()) && program.is_file() {
        return Some(program);
    }
    skipped("schemathesis can't be had (python3 -m venv; pip install schemathesis)");
    None
}

fn run(provider: &str, effort: Effort) {
    let Some(program) = schemathesis() else { return };
    let gateway = Setup::new("").admin(provider).start();
    let admin = gateway.admin();
    let folder = Folder::new();
    let output = Command::new(program)
        .current_dir(folder.path())
        .args(["run", &format!("http://{}/apisix/admin/openapi.json", admin.address)])
        .args(["--header", &format!("X-API-KEY: {}", Admin::KEY)])
        .args(["--checks", "not_a_server_error", "--request-timeout", "20"])
        .args(effort.args())
        .output()
        .expect("schemathesis runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // It still serves; dropping it checks that nothing panicked.
    let (status, _) = admin.ask("GET", "/plugins/list", "");
    assert_eq!(status, 200);
}

#[test]
fn no_request_is_a_server_error() {
    run("role: traditional", Effort::Short);
}

#[test]
fn nor_one_of_the_standalone_mode() {
    run("role: traditional\n  role_traditional: {config_provider: yaml}", Effort::Short);
}

#[test]
#[ignore = "minutes"]
fn no_request_of_many_is_a_server_error() {
    run("role: traditional", Effort::Long);
}
