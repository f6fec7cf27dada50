//! `fault-injection`: every row of APISIX's own tests of it, and what its schema refuses.
//!
//! The rows are those of `t/plugin/fault-injection.t` and `fault-injection2.t`; delays are shorter.

use crate::harness::{Gateway, Message, Setup, Upstream, drivers};
use std::time::{Duration, Instant};

/// Routes by path, each with the plugin's configuration, in front of an upstream.
fn routes(upstream: &Upstream, rows: &[(&str, &str)]) -> String {
    let node = upstream.node();
    let route = |(path, conf): &(&str, &str)| {
        format!(
            "  - {{uri: {path}, plugins: {{fault-injection: {conf}}}, upstream: {{nodes: \
             {{\"{node}\": 1}}}}}}\n"
        )
    };
    format!("routes:\n{}", rows.iter().map(route).collect::<String>())
}

#[track_caller]
fn answer(response: &Message, status: u16, body: &str) {
    assert_eq!((response.status(), response.text().as_str()), (status, body));
}

const SECOND: Duration = Duration::from_secs(1);
const TENTH: Duration = Duration::from_millis(100);

#[track_caller]
fn timed(took: Duration, at_least: Duration, less_than: Duration) {
    // The worker's clock is coarse by a few milliseconds.
    assert!(took + Duration::from_millis(15) >= at_least && took < less_than, "{took:?}");
}

/// 10–11: a delay, then the upstream.
#[test]
fn a_delay_of_a_second() {
    for driver in drivers() {
        let upstream = Upstream::hello();
        let resources = routes(&upstream, &[("/hello", "{delay: {duration: 1}}")]);
        let gateway = Setup::new(resources).driver(*driver).start();
        let mut client = gateway.client();
        let start = Instant::now();
        client.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
        // Another connection of the same worker is served meanwhile.
        assert_eq!(gateway.get("/other").status(), 404);
        assert!(start.elapsed() < SECOND);
        answer(&client.response(), 200, "hello world\n");
        timed(start.elapsed(), SECOND, SECOND * 10);
    }
}

/// 12–15, 24–25: an abort with a body, with another status, and without a body.
#[test]
fn aborts() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(routes(
        &upstream,
        &[
            ("/ok", "{abort: {http_status: 200, body: \"Fault Injection!\\n\"}}"),
            ("/405", "{abort: {http_status: 405, body: \"Fault Injection!\\n\"}}"),
            ("/nothing", "{abort: {http_status: 200}}"),
            ("/empty", "{abort: {http_status: 503, body: \"\"}}"),
            ("/page", "{abort: {http_status: 503}}"),
            ("/unknown", "{abort: {http_status: 599}}"),
            ("/large", "{abort: {http_status: 999, body: x}}"),
            ("/204", "{abort: {http_status: 204}}"),
        ],
    ));
    let mut client = gateway.client();
    answer(&client.get("/ok"), 200, "Fault Injection!\n");
    answer(&client.get("/405"), 405, "Fault Injection!\n");
    answer(&client.get("/nothing"), 200, "");
    answer(&client.get("/empty"), 503, "");
    answer(&client.get("/large"), 999, "x");
    answer(&client.get("/204"), 204, "");
    let page = client.get("/page");
    assert_eq!(page.status(), 503);
    assert!(page.text().contains("<title>503 Service Unavailable</title>"), "{}", page.text());
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(client.get("/unknown").status(), 599);
    assert!(upstream.requests().is_empty());
}

/// 16–19: an abort wins over what comes later in the chain; one that misses does not.
/// The later plugin is a fault of lower priority from a global rule's point of view: none of ours
/// redirects yet.
#[test]
fn an_abort_wins_over_the_upstream_and_a_miss_does_not() {
    let upstream =
        Upstream::answering("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n");
    let gateway = Gateway::start(routes(
        &upstream,
        &[
            ("/hit", "{abort: {http_status: 200, body: \"Fault Injection!\\n\"}}"),
            ("/miss", "{abort: {http_status: 200, body: x, percentage: 0}}"),
        ],
    ));
    answer(&gateway.get("/hit"), 200, "Fault Injection!\n");
    let missed = gateway.get("/miss");
    assert_eq!((missed.status(), missed.field("location")), (302, Some("/x")));
}

/// 20–21: a delay that never happens.
#[test]
fn a_delay_of_percentage_0() {
    let upstream = Upstream::hello();
    let conf = "{delay: {duration: 10, percentage: 0}}";
    let gateway = Gateway::start(routes(&upstream, &[("/hello", conf)]));
    let start = Instant::now();
    answer(&gateway.get("/hello"), 200, "hello world\n");
    assert!(start.elapsed() < SECOND * 5, "{:?}", start.elapsed());
}

/// Half of the requests, near enough, and the two samples of one request are independent.
#[test]
fn percentages() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(routes(
        &upstream,
        &[
            ("/100", "{abort: {http_status: 418, percentage: 100}}"),
            ("/50", "{abort: {http_status: 418, percentage: 50}}"),
            ("/0", "{abort: {http_status: 418, percentage: 0}}"),
            (
                "/both",
                "{delay: {duration: 0, percentage: 50}, abort: {http_status: 418, percentage: 50}}",
            ),
        ],
    ));
    let mut client = gateway.client();
    let mut hits = |path: &str| (0..400).filter(|_| client.get(path).status() == 418).count();
    assert_eq!((hits("/100"), hits("/0")), (400, 0));
    for path in ["/50", "/both"] {
        let hits = hits(path);
        // Eight standard deviations from 200.
        assert!((120..=280).contains(&hits), "{path}: {hits}");
    }
}

/// 22–23, F2 4–7: variables in body and headers.
#[test]
fn templates() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(routes(
        &upstream,
        &[
            ("/addr", "{abort: {http_status: 200, body: \"client addr: $remote_addr\\n\"}}"),
            ("/head", "{abort: {http_status: 200, headers: {h1: v1, h2: 2, h3: $uri}}}"),
            ("/host", "{abort: {http_status: 200, body: $hostname}}"),
            ("/json", "{abort: {http_status: 200, body: '{\"count\": $arg_count}'}}"),
            (
                "/all",
                "{abort: {http_status: 200, body: '${arg_a}-${arg_b ?? none}-\\$x-$no_such-$http_x_y'}}",
            ),
            (
                "/type",
                "{abort: {http_status: 200, body: '{}', headers: {content-type: application/json}}}",
            ),
        ],
    ));
    answer(&gateway.get("/addr"), 200, "client addr: 127.0.0.1\n");
    let response = gateway.get("/head");
    for (name, value) in [("h1", "v1"), ("h2", "2"), ("h3", "/head")] {
        assert_eq!(response.field(name), Some(value));
    }
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    answer(&gateway.get("/host"), 200, hostname.trim_end());
    answer(&gateway.get("/json?count=2"), 200, "{\"count\": 2}");
    let response = gateway.ask("GET /all?a=1 HTTP/1.1\r\nHost: h\r\nX-Y: z\r\n\r\n");
    answer(&response, 200, "1-none-\\$x--z");
    assert_eq!(gateway.get("/type").field("content-type"), Some("application/json"));
}

/// A header made from what a client sent must stay one line.
#[test]
fn templates_can_not_split_a_response() {
    let upstream = Upstream::hello();
    let conf = "{abort: {http_status: 200, headers: {x-arg: $arg_a, x-uri: $uri}}}";
    let gateway = Gateway::start(routes(&upstream, &[("/*", conf)]));
    let mut client = gateway.client();
    let response = client.get("/a%0d%0aEvil:%201?a=%0d%0aEvil:%202");
    assert_eq!(response.field("evil"), None);
    assert_eq!(response.status(), 200);
    assert_eq!(client.get("/").status(), 200);
}

const JACK: &str = "[[arg_name, ==, jack], [arg_age, \"!\", <, 18]]";

/// 28–33, F2 1–3: for whom an abort is.
#[test]
fn aborts_with_vars() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(routes(
        &upstream,
        &[
            (
                "/or",
                &format!(
                    "{{abort: {{http_status: 403, vars: [{JACK}, [[http_apikey, ==, api-key]]]}}}}"
                ),
            ),
            (
                "/not",
                "{abort: {http_status: 403, vars: [[\"!AND\", [arg_name, ==, jack], [arg_age, \"!\", <, 18]]]}}",
            ),
            ("/none", "{abort: {http_status: 403, vars: []}}"),
            ("/always", "{abort: {http_status: 403, vars: [[]]}}"),
        ],
    ));
    let status = |path: &str, key: bool| {
        let key = if key { "apikey: api-key\r\n" } else { "" };
        gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{key}\r\n")).status()
    };
    for (path, key, wanted) in [
        ("/or?name=jack&age=18", true, 403),
        ("/or?name=jack&age=20", false, 403),
        ("/or", true, 403),
        ("/or?name=allen", false, 200),
        ("/or", false, 200),
        ("/not?name=jack&age=17", false, 403),
        ("/not?name=jack&age=18", false, 200),
        ("/none", false, 200),
        ("/always", false, 403),
    ] {
        assert_eq!(status(path, key), wanted, "{path} {key}");
    }
}

/// 34–39: for whom a delay is, and a delay before an abort.
#[test]
fn delays_with_vars_and_both_together() {
    let upstream = Upstream::hello();
    let apikey = "[[http_apikey, ==, api-key]]";
    let gateway = Gateway::start(routes(
        &upstream,
        &[
            ("/delay", &format!("{{delay: {{duration: 0.3, vars: [{JACK}]}}}}")),
            (
                "/both",
                &format!(
                    "{{abort: {{http_status: 403, vars: [{JACK}]}}, delay: {{duration: 0.3, vars: [{apikey}]}}}}"
                ),
            ),
        ],
    ));
    let ask = |path: &str, key: bool| {
        let key = if key { "apikey: api-key\r\n" } else { "" };
        let start = Instant::now();
        let response = gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{key}\r\n"));
        (response.status(), start.elapsed())
    };
    for (path, key, status, delayed) in [
        ("/delay?name=jack&age=22", false, 200, true),
        ("/delay", false, 200, false),
        ("/both?name=jack&age=18", true, 403, true),
        ("/both?name=jack&age=16", true, 200, true),
        ("/both?name=jack&age=18", false, 403, false),
    ] {
        let (got, took) = ask(path, key);
        assert_eq!(got, status, "{path} {key}");
        let least = if delayed { TENTH * 3 } else { Duration::ZERO };
        timed(took, least, SECOND * 10);
    }
}

/// `_meta` gates, switches off and rewrites.
#[test]
fn meta() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(routes(
        &upstream,
        &[
            ("/off", "{_meta: {disable: true}, abort: {http_status: 403}}"),
            ("/filter", "{_meta: {filter: [[arg_x, ==, y]]}, abort: {http_status: 403}}"),
            ("/text", "{_meta: {error_response: sorry}, abort: {http_status: 403, body: no}}"),
            ("/object", "{_meta: {error_response: {message: sorry}}, abort: {http_status: 403}}"),
            ("/fine", "{_meta: {error_response: sorry}, abort: {http_status: 200, body: yes}}"),
        ],
    ));
    assert_eq!(gateway.get("/off").status(), 200);
    assert_eq!(gateway.get("/filter?x=y").status(), 403);
    assert_eq!(gateway.get("/filter").status(), 200);
    answer(&gateway.get("/text"), 403, "sorry");
    answer(&gateway.get("/object"), 403, "{\"message\":\"sorry\"}\n");
    answer(&gateway.get("/fine"), 200, "yes");
}

/// Both must be right; a disabled plugin may be wrong.
#[test]
fn what_the_schema_refuses() {
    for (conf, place, message) in [
        ("{}", "4:24", "expect object to have at least 1 properties"),
        ("{abort: {http_status: 100}}", "4:46", "200"),
        ("{abort: {http_status: 200.5}}", "4:46", "integer"),
        ("{abort: {}}", "4:", "http_status"),
        ("{delay: {}}", "4:", "duration"),
        ("{delay: {duration: test}}", "4:43", "number"),
        ("{delay: {duration: -1}}", "4:43", "number"),
        ("{abort: {http_status: 200, percentage: 101}}", "4:", "100"),
        ("{abort: {http_status: 200, percentage: -1}}", "4:", "0"),
        ("{abort: {http_status: 200, body: 1}}", "4:", "string"),
        ("{abort: {http_status: 200, headers: {}}}", "4:", "header"),
        ("{abort: {http_status: 200, headers: {\"a:b\": c}}}", "4:", "header name"),
        ("{abort: {http_status: 200, headers: {a: \"b\\nc\"}}}", "4:", "control"),
        (
            "{abort: {http_status: 200, vars: [[arg_name, \"!=\", jack]]}}",
            "4:",
            "rule should be wrapped inside brackets",
        ),
        (
            "{abort: {http_status: 200, vars: [[[arg_name, \"!=\", jack]]]}}",
            "4:",
            "invalid operator",
        ),
        ("{abort: 1}", "4:", "object"),
    ] {
        let resources =
            format!("routes:\n  - uri: /hello\n    plugins:\n      fault-injection: {conf}\n");
        let ended = Setup::new(resources).refused();
        assert_eq!(ended.code, Some(1), "{conf}: {ended:?}");
        let place = format!("apisix.yaml:{place}");
        assert!(ended.stderr.contains(&place), "{place} of {conf}:\n{}", ended.stderr);
        assert!(ended.stderr.contains(message), "{message} of {conf}:\n{}", ended.stderr);
    }
    let upstream = Upstream::hello();
    let conf = "{_meta: {disable: true}, abort: {http_status: none}}";
    let gateway = Gateway::start(routes(&upstream, &[("/", conf)]));
    assert_eq!(gateway.get("/").status(), 200);
}

/// A client that hangs up during a delay takes nothing with it.
#[test]
fn a_client_may_leave_during_a_delay() {
    let upstream = Upstream::hello();
    let gateway = Gateway::start(routes(&upstream, &[("/slow", "{delay: {duration: 0.2}}")]));
    for _ in 0..20 {
        gateway.client().send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    answer(&gateway.get("/slow"), 200, "hello world\n");
}
