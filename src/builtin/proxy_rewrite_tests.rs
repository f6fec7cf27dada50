//! What goes upstream, row by row.

use super::*;
use crate::builtin::testing::{plugin, refused, request, run};
use crate::plugin::Action;
use serde_json::json;

fn rewritten(conf: &serde_json::Value, target: &str) -> Box<Message> {
    let mut message = request("GET", target);
    assert_eq!(run(&*plugin(read, conf), &mut message), Action::Continue, "{conf}");
    message
}

#[test]
fn targets() {
    let uri = |uri: &str| json!({ "uri": uri });
    let regex = |pairs: &[&str]| json!({ "regex_uri": pairs });
    let raw = |mut conf: serde_json::Value| {
        conf["use_real_request_uri_unsafe"] = json!(true);
        conf
    };
    for (conf, target, expected) in [
        (uri("/home"), "/a", "/home"),
        (uri("/home"), "/a?b=c", "/home?b=c"),
        (uri("/home?x=1"), "/a", "/home?x=1"),
        (uri("/home?x=1"), "/a?b=c&d", "/home?x=1&b=c&d"),
        (uri("/u$uri"), "/a%20b%3Fc", "/u/a%20b%3Fc"),
        (
            uri("/u/$arg_to/x"),
            "/a?to=%2F..%2F%3Fq%0D%0A",
            "/u//../%3Fq%0D%0A/x?to=%2F..%2F%3Fq%0D%0A",
        ),
        (
            uri("/u?to=$arg_to"),
            "/a?to=x%20y%0D%0AHost:",
            "/u?to=x%20y%0D%0AHost:&to=x%20y%0D%0AHost:",
        ),
        (uri("/100%"), "/a", "/100%25"),
        (uri("/u?to=$arg_to&own=1"), "/a?to=x%23", "/u?to=x%23&own=1&to=x%23"),
        (regex(&["^/a/(.*)", "/x?id=$1&own=1"]), "/a/7%23", "/x?id=7%23&own=1"),
        (regex(&["^/iresty/(.*)/(.*)/(.*)", "/$1-$2-$3"]), "/iresty/a/b/c?x=1", "/a-b-c?x=1"),
        (regex(&["^/iresty/(.*)", "/$1"]), "/other%20?x", "/other%20?x"),
        (regex(&["^/a/(.*)", "/x?id=$1"]), "/a/7", "/x?id=7"),
        (regex(&["^/a/(.*)", "/x?id=$1"]), "/a/7?y=1", "/x?id=7&y=1"),
        (regex(&["^/a/(.*)", "/x/$1"]), "/a/b%3Fc=1?y=1", "/x/b%3Fc=1?y=1"),
        (regex(&["^/a/(.*)", "$1"]), "/a/b", "/b"),
        (regex(&["^/no", "/1", "^/a/(.*)", "/2/$1", "/a", "/3"]), "/a/b", "/2/b"),
        (raw(regex(&["^/a/(.*)", "/x/$1"])), "/a/b%2Fc?y=1", "/x/b%2Fc?y=1"),
        (json!({ "method": "GET" }), "/a//b/%2e%2e?x", "/a//b/%2e%2e?x"),
    ] {
        let message = rewritten(&conf, target);
        assert_eq!(String::from_utf8_lossy(&message.request.target), expected, "{conf} {target}");
        assert!(message.body.is_empty());
    }
}

#[test]
fn methods_and_hosts() {
    let message = rewritten(&json!({ "method": "POST", "host": "b.example:81" }), "/a");
    assert_eq!(message.request.method, b"POST");
    assert_eq!(message.request.upstream_host, b"b.example:81");
    assert_eq!(message.request.authority, b"a.example", "variables go on seeing the client's");
}

#[test]
fn fields() {
    let conf = json!({
        "regex_uri": ["^/users/(.*)/(.*)", "/$1"],
        "headers": {
            "add": { "X-Many": "2" },
            "set": {
                "X-User": "$1", "X-From": "$remote_addr", "X-Gone": "", "X-N": 7, "Host": "h",
            },
            "remove": ["X-Secret"],
        },
    });
    let mut message = request("GET", "/users/jack/x");
    for (name, value) in [("X-Many", "1"), ("X-Gone", "1"), ("x-secret", "1"), ("X-N", "1")] {
        message.request.headers.append(name.as_bytes(), value.as_bytes());
    }
    run(&*plugin(read, &conf), &mut message);
    let headers = &message.request.headers;
    assert_eq!(headers.values(b"x-many").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(headers.get(b"x-user"), Some(&b"jack"[..]));
    assert_eq!(headers.get(b"x-from"), Some(&b"127.0.0.1"[..]));
    assert_eq!(headers.get(b"x-n"), Some(&b"7"[..]));
    assert_eq!((headers.get(b"x-gone"), headers.get(b"x-secret")), (None, None));
    assert_eq!((headers.get(b"host"), &message.request.upstream_host[..]), (None, &b"h"[..]));
    let old = rewritten(&json!({ "headers": { "X-Old": "$uri-form" } }), "/a%0D%0Ab");
    assert_eq!(old.request.headers.get(b"x-old"), Some(&b"/a%0D%0Ab-form"[..]));
}

#[test]
fn configurations_refused() {
    for (conf, start) in [
        (json!({}), "p: expect object to have at least 1 properties"),
        (json!({ "uri": "home" }), "p.uri: "),
        (json!({ "uri": "" }), "p.uri: "),
        (json!({ "regex_uri": ["^/a"] }), "p.regex_uri: "),
        (json!({ "regex_uri": ["^/a", "/b", "^/c"] }), "p.regex_uri: The length of regex_uri"),
        (json!({ "regex_uri": ["^/(a", "/b"] }), "p.regex_uri[0]: invalid regular expression"),
        (json!({ "regex_uri": ["^/a", "/$x"] }), "p.regex_uri[1]: '$' names no group"),
        (json!({ "method": "get" }), "p.method: "),
        (json!({ "host": "a b" }), "p.host: "),
        (json!({ "host": "a:b" }), "p.host: "),
        (json!({ "headers": {} }), "p.headers: "),
        (json!({ "headers": { "a b": "c" } }), "p.headers.a b: "),
        (json!({ "headers": { "a": true } }), "p.headers.a: "),
        (json!({ "headers": { "set": { "a": "\n" } } }), "p.headers.set.a: "),
        (json!({ "headers": { "remove": ["a:"] } }), "p.headers.remove[0]: "),
        (json!({ "headers": { "remove": ["a"], "sets": {} } }), "p.headers.sets: unknown key"),
        (json!({ "uri": "/a", "scheme": "https" }), "p.scheme: unknown key"),
    ] {
        refused(read, &conf, start);
    }
}
