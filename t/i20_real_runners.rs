//! Runners of others: the official ones in Go and Java, and one in Python on the protocol's package
//! from PyPI (`examples/runners`). None shares a line of code with us. The official one in
//! JavaScript is not on npm.

use crate::harness::{Gateway, Setup, Upstream, skipped};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Runs a command of a toolchain; on failure says what it said.
fn run(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error| format!("{shown}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.trim().lines().last().unwrap_or_default();
    Err(format!("{shown}: {last}"))
}

fn example(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/runners").join(language)
}

fn built(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// `cmd` of the Go runner, built once; its modules come from the Go module proxy.
fn go() -> Option<String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let binary = BUILT.get_or_init(|| {
        let binary = built("go-runner");
        let mut build = Command::new("go");
        build.arg("build").arg("-o").arg(&binary).arg(".").current_dir(example("go"));
        run(&mut build).map(|()| binary)
    });
    command(binary.as_ref().map(|binary| format!("[{}]", binary.display())))
}

/// `cmd` of the Java runner, built once; its libraries come from Maven Central.
fn java() -> Option<String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let jar = BUILT.get_or_init(|| {
        let out = built("java-runner");
        let mut build = Command::new("mvn");
        build.args(["-q", "-B", "package"]).arg(format!("-Dout={}", out.display()));
        run(build.current_dir(example("java"))).map(|()| out.join("java-runner.jar"))
    });
    // What makes long runs fast makes short ones slow.
    let cmd = |jar: &PathBuf| format!("[java, -XX:TieredStopAtLevel=1, -jar, {}]", jar.display());
    command(jar.as_ref().map(cmd))
}

/// `cmd` of the Python runner, with its packages from PyPI in a folder of their own.
fn python() -> Option<String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let python = BUILT.get_or_init(|| {
        let venv = built("python-runner");
        let python = venv.join("bin/python");
        if !venv.join("complete").exists() {
            run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
            let requirements = example("python").join("requirements.txt");
            let mut install = Command::new(&python);
            run(install.args(["-m", "pip", "-q", "install", "-r"]).arg(requirements))?;
            std::fs::write(venv.join("complete"), "").map_err(|error| error.to_string())?;
        }
        Ok(python)
    });
    let script = example("python").join("runner.py");
    let cmd = |python: &PathBuf| format!("[{}, {}]", python.display(), script.display());
    command(python.as_ref().map(cmd))
}

fn command(cmd: Result<String, &String>) -> Option<String> {
    cmd.map_err(|why| skipped(why)).ok()
}

/// A gateway with routes `/name` for each plugin of the runner.
fn gateway(cmd: &str, phase: &str, rows: &[(&str, &str, &str)], upstream: &Upstream) -> Gateway {
    let node = upstream.node();
    let route = |(path, name, value): &(&str, &str, &str)| {
        let id = &path[1..];
        format!(
            "  - {{id: {id}, uri: '{path}', plugins: {{{phase}: {{conf: [{{name: {name}, \
             value: '{value}'}}]}}}}, upstream: {{nodes: {{\"{node}\": 1}}}}}}\n"
        )
    };
    let setup = Setup::new(format!("routes:\n{}", rows.iter().map(route).collect::<String>()));
    let socket = setup.folder().path().join("runner.sock");
    let section = format!(
        "ext-plugin: {{cmd: {cmd}, path_for_test: {}, start_timeout: 30s}}",
        socket.display()
    );
    let gateway = setup.more(&section).start();
    // A JVM on a busy machine takes longer to start than any call waits.
    let until = Instant::now() + Duration::from_secs(120);
    while !socket.exists() {
        assert!(Instant::now() < until, "the runner listens in time: {}", gateway.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    gateway
}

const REQUESTS: &str = "ext-plugin-pre-req";

const ROWS: [(&str, &str, &str); 7] = [
    ("/say", "say", r#"{"body":"hello"}"#),
    ("/quiet", "say", r#"{"body":""}"#),
    ("/fault", "fault-injection", r#"{"http_status":400,"body":"hello"}"#),
    ("/never", "fault-injection", r#"{"http_status":400,"percentage":0}"#),
    ("/always", "fault-injection", r#"{"http_status":503,"body":"","percentage":100}"#),
    ("/rewrite", "rewrite", r#"{"path":"/a6/runner"}"#),
    ("/unknown", "no-such-plugin", "{}"),
];

fn answers(cmd: &str, language: &str) {
    let upstream = Upstream::echo();
    let gateway = gateway(cmd, REQUESTS, &ROWS, &upstream);
    let mut client = gateway.client();
    for round in 0..3 {
        let answer = client.get("/say");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
        assert_eq!(answer.field("x-resp-a6-runner"), Some(language));
        assert_eq!(client.get("/quiet").status(), 200);
        let answer = client.get("/fault");
        assert_eq!((answer.status(), answer.text().as_str()), (400, "hello"));
        assert_eq!(client.get("/never").status(), 200);
        assert_eq!(client.get("/always").status(), 503);
        assert_eq!(client.get("/unknown").status(), 200);
        let before = upstream.requests().len();
        client.send(
            "POST /rewrite?a=1 HTTP/1.1\r\nHost: a\r\nX-Secret: s\r\nContent-Length: 5\r\n\r\nhello",
        );
        let answer = client.response();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
        let request = &upstream.requests()[before];
        assert!(request.target().starts_with("/a6/runner?"), "{}", request.target());
        assert!(request.target().contains("a=1"), "{}", request.target());
        assert!(request.target().contains(&format!("runner={language}")), "{}", request.target());
        assert_eq!(request.field("x-route"), Some("rewrite"), "round {round}");
        assert_eq!(request.field("x-body-bytes"), Some("5"));
        assert_eq!(request.field("x-secret"), None);
    }
}

#[test]
fn the_official_go_runner() {
    let Some(cmd) = go() else { return };
    answers(&cmd, "Go");
}

#[test]
fn the_official_java_runner() {
    let Some(cmd) = java() else { return };
    answers(&cmd, "Java");
}

#[test]
fn the_official_go_runner_changes_responses() {
    let Some(cmd) = go() else { return };
    changes_responses(&cmd, "Go");
}

#[test]
fn the_official_java_runner_changes_responses() {
    let Some(cmd) = java() else { return };
    changes_responses(&cmd, "Java");
}

fn changes_responses(cmd: &str, language: &str) {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    );
    let rows = [("/respond", "respond", "")];
    let gateway = gateway(cmd, "ext-plugin-post-resp", &rows, &upstream);
    for _ in 0..3 {
        let answer = gateway.get("/respond");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "HELLO"));
        assert_eq!(answer.field("x-runner"), Some(language));
        assert_eq!(answer.field("content-type"), Some("text/plain"));
    }
}

#[test]
fn a_runner_in_python() {
    let Some(cmd) = python() else { return };
    answers(&cmd, "Python");
}
