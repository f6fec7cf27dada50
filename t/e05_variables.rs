//! Variables where the whole gateway is needed: what is the same in templates and in the access
//! log, how long upstreams take, and names that nobody has.

use crate::harness::{Gateway, Setup, Upstream, drivers, eventually, ringgate};
use std::collections::HashSet;

/// What the access log says, once it has so many lines.
fn lines(setup: Setup, format: &str, count: usize, ask: impl Fn(&Gateway)) -> Vec<String> {
    let file = setup.folder().path().join("a.log");
    let gateway = setup
        .http(&format!("access_log: {}", file.display()))
        .http(&format!("access_log_format: \"{format}\""))
        .start();
    ask(&gateway);
    let lines =
        || std::fs::read_to_string(&file).unwrap_or_default().lines().map(str::to_owned).collect();
    eventually("the lines are written", || Vec::<String>::len(&lines()) >= count);
    lines()
}

#[test]
fn a_request_has_one_id() {
    for driver in drivers() {
        let upstream = Upstream::hello();
        let plugins = "{proxy-rewrite: {headers: {X-Id: $request_id}}, \
            response-rewrite: {headers: {X-Id: $apisix_request_id}}}";
        let native = "{fault-injection: {abort: {http_status: 200, body: hi}}}";
        let setup = Setup::new(format!(
            "routes:\n  - {{uri: /native, plugins: {native}}}\n  - {{uri: /p, plugins: {plugins}, \
             upstream: {{nodes: {{\"{}\": 1}}}}}}\n",
            upstream.node()
        ));
        let request = "GET /p HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n";
        let lines = lines(setup.driver(*driver), "$request_id", 4, |gateway| {
            let responses = [request; 2].map(|request| gateway.ask(request));
            gateway.get("/native");
            gateway.client().send("GET bad\r\n\r\n");
            let sent = upstream.requests();
            for (response, request) in responses.iter().zip(&sent) {
                assert_eq!(response.field("x-id"), request.field("x-id"));
            }
        });
        let sent = upstream.requests();
        assert_eq!(Some(&*lines[0]), sent[0].field("x-id"));
        assert_eq!(Some(&*lines[1]), sent[1].field("x-id"));
        assert!(lines.iter().all(|id| id.len() == 32), "{lines:?}");
        assert_eq!(lines.iter().collect::<HashSet<_>>().len(), 4, "{lines:?}");
    }
}

/// Also where no plugin runs: the log asks for the times.
#[test]
fn how_long_an_upstream_took() {
    let upstream = Upstream::hello();
    let node = upstream.node();
    let setup =
        Setup::new(format!("routes: [{{uri: /*, upstream: {{nodes: {{\"{node}\": 1}}}}}}]"));
    let format = "$upstream_connect_time $upstream_header_time $upstream_response_time \
        $upstream_scheme://$upstream_host$upstream_uri $upstream_http_content_length";
    let lines = lines(setup, format, 1, |gateway| drop(gateway.get("/a?b=c")));
    let parts: Vec<&str> = lines[0].split(' ').collect();
    for time in &parts[..3] {
        let (seconds, ms) = time.split_once('.').expect(time);
        assert!(seconds.parse::<u32>().is_ok() && ms.len() == 3, "{lines:?}");
    }
    assert!(parts[0] <= parts[1] && parts[1] <= parts[2], "{lines:?}");
    assert!(parts[3].starts_with("http://") && parts[3].ends_with("/a?b=c"), "{lines:?}");
    assert_eq!(parts[4], "12");
}

#[test]
fn what_was_forwarded_already() {
    let upstream = Upstream::hello();
    let plugins = "{proxy-rewrite: {headers: {X-List: $proxy_add_x_forwarded_for, \
        X-User: $remote_user}}, response-rewrite: {headers: {X-Took: $upstream_header_time, \
        X-Size: $upstream_http_content_length}}}";
    let node = upstream.node();
    let gateway = Setup::new(format!(
        "routes: [{{uri: /*, plugins: {plugins}, upstream: {{nodes: {{\"{node}\": 1}}}}}}]"
    ))
    .start();
    let fields = "X-Forwarded-For: 9.9.9.9\r\nAuthorization: Basic amFjazp4";
    let response = gateway.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"));
    assert_eq!(response.field("x-took").map(|took| took.split_once('.').is_some()), Some(true));
    assert_eq!(response.field("x-size"), Some("12"));
    let request = upstream.request();
    assert_eq!(request.field("x-list"), Some("9.9.9.9, 127.0.0.1"));
    assert_eq!(request.field("x-user"), Some("jack"));
}

/// nginx's variables that are not here are warnings, with their places.
#[test]
fn names_nobody_has() {
    let route = "uri: /a, plugins: {proxy-rewrite: {headers: {X-A: $ssl_cipher}}}";
    let setup = Setup::new(format!("routes:\n  - {{{route}}}\n"));
    let setup = setup.http("access_log_format: \"$pipe $request_time\"");
    let path = setup.write_path();
    for (arguments, code) in [(&["check", "-c"][..], 0), (&["check", "--strict", "-c"], 1)] {
        let ended = ringgate(arguments.iter().copied().chain([&*path]));
        assert_eq!(ended.code, Some(code), "{ended:?}");
        for (name, place) in [("ssl_cipher", "apisix.yaml:2:"), ("pipe", "config.yaml:")] {
            let warning = format!("warning: the variable `{name}` never has a value here");
            let line = ended.stderr.lines().find(|line| line.contains(&warning));
            assert!(line.is_some_and(|line| line.contains(place)), "{ended:?}");
        }
        assert!(!ended.stderr.contains("request_time` "), "{ended:?}");
    }
}
