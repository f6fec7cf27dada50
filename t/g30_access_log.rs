//! The access log: what a line says, when it is written, and who may move the file.

use crate::harness::{Folder, Refusing, Setup, Upstream, drivers, eventually};
use rustix::process::Signal;
use serde_json::Value;
use std::path::Path;

fn lines(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::to_owned).collect()
}

fn wait_for(file: &Path, count: usize) -> Vec<String> {
    eventually("the lines are written", || lines(file).len() >= count);
    lines(file)
}

const NATIVE: &str =
    "{id: n, uri: /native, plugins: {fault-injection: {abort: {http_status: 200, body: hi}}}}";

#[test]
fn lines_of_json_for_every_way_to_answer() {
    for driver in drivers() {
        let upstream = Upstream::hello();
        let route =
            format!("{{id: p, uri: /p*, upstream: {{nodes: {{\"{}\": 1}}}}}}", upstream.node());
        let setup = Setup::new(format!("routes: [{NATIVE}, {route}]")).driver(*driver);
        let file = setup.folder().path().join("logs/a.log");
        let gateway = setup.http(&format!("access_log: {}", file.display())).start();
        gateway.get("/native?x=\"1\"");
        gateway.get("/proxied");
        gateway.get("/nowhere");
        let mut client = gateway.client();
        client.send("GET bad\r\n\r\n");
        let lines = wait_for(&file, 4);
        assert_eq!(lines.len(), 4, "{lines:?}");
        let lines: Vec<Value> =
            lines.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
        for (line, status, uri, route, source) in [
            (&lines[0], 200, "/native?x=\"1\"", "n", Value::Null),
            (&lines[1], 200, "/proxied", "p", "upstream".into()),
            (&lines[2], 404, "/nowhere", "", "gateway".into()),
        ] {
            assert_eq!(line["status"], status, "{line}");
            assert_eq!(line["uri"], uri, "{line}");
            assert_eq!(line["route_id"].as_str().unwrap_or_default(), route, "{line}");
            assert_eq!(line["source"], source, "{line}");
            assert_eq!(line["remote_addr"], "127.0.0.1", "{line}");
            assert!(line["bytes_sent"].as_u64() > line["body_bytes_sent"].as_u64(), "{line}");
        }
        assert_eq!(lines[0]["body_bytes_sent"], 2);
        assert_eq!(lines[1]["upstream_addr"], upstream.node());
        assert_eq!(lines[1]["upstream_status"], 200);
        assert_eq!(lines[3]["status"], 400, "{}", lines[3]);
        let ids: std::collections::HashSet<String> =
            lines.iter().map(|line| line["request"].to_string()).collect();
        assert_eq!(ids.len(), 4, "{ids:?}");
    }
}

/// A failed upstream's line in the log, the line of the access log and the answer find each other.
#[test]
fn failures_are_found_by_the_requests_id() {
    let refusing = Refusing::new();
    let upstream = format!("upstream: {{nodes: {{\"{}\": 1}}}}", refusing.node());
    let setup = Setup::new(format!(
        "routes:\n  - {{uri: /named, plugins: {{request-id: {{}}}}, {upstream}}}\n  - {{uri: \
         /plain, {upstream}}}\n"
    ));
    let file = setup.folder().path().join("a.log");
    let gateway = setup.http(&format!("access_log: {}", file.display())).start();
    let named = gateway.get("/named");
    assert_eq!(named.status(), 502);
    let id = named.field("x-request-id").expect("the plugin's id").to_owned();
    let plain = gateway.get("/plain");
    assert_eq!((plain.status(), plain.field("x-request-id")), (502, None));
    let own = "GET /plain HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n";
    assert_eq!(gateway.ask(own).field("x-request-id"), None);
    let lines = wait_for(&file, 3);
    let lines: Vec<Value> =
        lines.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(lines[0]["request_id"], *id);
    assert_eq!((&lines[1]["request_id"], &lines[2]["request_id"]), (&Value::Null, &"mine".into()));
    for (line, id) in lines.iter().zip([&*id, "", "mine"]) {
        let number = line["request"].as_str().expect("a number");
        let id = if id.is_empty() { String::new() } else { format!("request_id={id} ") };
        gateway.wait_for_log(&format!("request={number} {id}upstream {} ", refusing.node()));
    }
}

#[test]
fn formats_of_nginx() {
    let setup = Setup::new(format!("routes: [{NATIVE}]"));
    let file = setup.folder().path().join("a.log");
    let format = "access_log_format: \"$remote_addr [$request] $status $body_bytes_sent $http_x\"";
    let gateway = setup.http(&format!("access_log: {}", file.display())).http(format).start();
    gateway.get("/native");
    assert_eq!(wait_for(&file, 1), ["127.0.0.1 [GET /native HTTP/1.1] 200 2 -\n"]);
}

/// Rotation: the file is moved away, SIGUSR1 opens a new one, no line is lost.
#[test]
fn a_signal_opens_the_file_again() {
    let setup = Setup::new(format!("routes: [{NATIVE}]"));
    let file = setup.folder().path().join("a.log");
    let gateway = setup.http(&format!("access_log: {}", file.display())).start();
    let mut client = gateway.client();
    let mut ask = |times: usize| {
        for _ in 0..times {
            client.send("GET /native HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.response().status(), 200);
        }
    };
    ask(300);
    let moved = file.with_extension("1");
    std::fs::rename(&file, &moved).expect("the log is there");
    gateway.process().signal(Signal::USR1);
    eventually("the file is there again", || file.exists());
    ask(300);
    let all = || lines(&moved).len() + lines(&file).len();
    eventually("all lines are written", || all() >= 600);
    assert_eq!(all(), 600);
    assert!(!lines(&file).is_empty() && !lines(&moved).is_empty());
}

/// What the log says of a request names it as the access log does.
#[test]
fn lines_of_the_log_name_their_request() {
    let route = "{id: p, uri: /p, upstream: {retries: 0, nodes: {\"127.0.0.1:1\": 1}}}";
    let setup = Setup::new(format!("routes: [{route}]"));
    let file = setup.folder().path().join("a.log");
    let gateway = setup.http(&format!("access_log: {}", file.display())).start();
    assert_eq!(gateway.get("/p").status(), 502);
    let line: Value = serde_json::from_str(&wait_for(&file, 1)[0]).expect("JSON");
    assert_eq!((&line["status"], &line["source"]), (&502.into(), &"gateway".into()), "{line}");
    let request = line["request"].as_str().expect("a number");
    gateway.wait_for_log(&format!("request={request} upstream"));
}

/// What was answered before the end is in the file after it.
#[test]
fn the_last_lines_are_written() {
    let folder = Folder::new();
    let file = folder.path().join("a.log");
    let setup = Setup::new(format!("routes: [{NATIVE}]"));
    let gateway = setup.http(&format!("access_log: {}", file.display())).start();
    gateway.get("/native");
    gateway.get("/native");
    gateway.stop();
    assert_eq!(lines(&file).len(), 2);
}

#[test]
fn a_log_that_cannot_be_written_is_no_start() {
    let setup = Setup::new(format!("routes: [{NATIVE}]")).http("access_log: /proc/none/a.log");
    let ended = crate::harness::ringgate(["run", "-c", &setup.write_path()]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("access log /proc/none/a.log"), "{ended:?}");
}
