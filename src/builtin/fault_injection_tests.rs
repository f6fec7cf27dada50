//! The plugin's own behaviour; the whole way through the gateway is in `t/`.

use super::*;
use crate::plugin::Locals;
use crate::schema::{Path, Problems};
use serde_json::{Value, json};

fn plugin(conf: &Value) -> Result<Arc<dyn Plugin>, Vec<String>> {
    let problems = Problems::new();
    let plugin = read(Reader::new(conf, Path::root().key("f"), &problems));
    let (errors, _) = problems.into_parts();
    match plugin {
        Some(plugin) if errors.is_empty() => Ok(plugin),
        _ => Err(errors.iter().map(|p| format!("{}: {}", p.at, p.message)).collect()),
    }
}

fn request(target: &str) -> Box<Message> {
    let mut message = Box::<Message>::default();
    message.connection.peer = ([127, 0, 0, 1], 4000).into();
    message.request.method = b"GET".to_vec();
    message.request.target = target.as_bytes().to_vec();
    message.request.path = target.split('?').next().unwrap_or_default().as_bytes().to_vec();
    message
}

/// What the plugin does with a request; after a sleep, what it does then.
fn run(plugin: &dyn Plugin, message: &mut Box<Message>) -> (Option<u64>, Action) {
    let mut locals = Locals::new(0);
    let mut state = 0;
    let mut stream = Stream { message, state: &mut state, locals: &mut locals, key: None };
    match plugin.on_request_headers(&mut stream, true) {
        Action::Pause(Hold::Sleep(ms)) => (Some(ms), plugin.on_due(&mut stream)),
        action => (None, action),
    }
}

#[test]
fn faults_by_request() {
    let names =
        json!([[["arg_name", "==", "jack"], ["arg_age", "!", "<", 18]], [["arg_key", "==", "k"]]]);
    let abort = json!({ "abort": { "http_status": 403, "vars": names } });
    let both = json!({
        "abort": { "http_status": 403, "vars": [[["arg_name", "==", "jack"]]] },
        "delay": { "duration": 0.25, "vars": [[["arg_key", "==", "k"]]] },
    });
    let table = [
        (&abort, "/?name=jack&age=18", None, Action::Respond),
        (&abort, "/?name=jack&age=17", None, Action::Continue),
        (&abort, "/?key=k", None, Action::Respond),
        (&abort, "/", None, Action::Continue),
        (&both, "/?name=jack&key=k", Some(250), Action::Respond),
        (&both, "/?key=k", Some(250), Action::Continue),
        (&both, "/?name=jack", None, Action::Respond),
        (&both, "/", None, Action::Continue),
        (&json!({ "abort": { "http_status": 200, "percentage": 0 } }), "/", None, Action::Continue),
        (&json!({ "abort": { "http_status": 200, "vars": [] } }), "/", None, Action::Continue),
        (&json!({ "abort": { "http_status": 200, "vars": [[]] } }), "/", None, Action::Respond),
        (&json!({ "delay": { "duration": 1, "percentage": 0 } }), "/", None, Action::Continue),
        (&json!({ "delay": { "duration": 1 } }), "/", Some(1000), Action::Continue),
    ];
    for (conf, target, slept, action) in table {
        let plugin = plugin(conf).expect("good");
        assert_eq!(run(&*plugin, &mut request(target)), (slept, action), "{conf} {target}");
    }
}

#[test]
fn bodies_and_headers_are_templates() {
    let conf = json!({ "abort": {
        "http_status": 200,
        "body": "{\"count\": $arg_count} ${arg_none ?? none} $remote_addr\n",
        "headers": { "h1": "v1", "h2": 2, "h3": "$uri" },
    } });
    let mut message = request("/hello?count=2");
    let plugin = plugin(&conf).expect("good");
    assert_eq!(run(&*plugin, &mut message).1, Action::Respond);
    let body = message.local.body.as_deref().map(String::from_utf8_lossy);
    assert_eq!(body.as_deref(), Some("{\"count\": 2} none 127.0.0.1\n"));
    let header = |name: &[u8]| message.local.headers.get(name).map(<[u8]>::to_vec);
    assert_eq!(header(b"h1").as_deref(), Some(&b"v1"[..]));
    assert_eq!(header(b"h2").as_deref(), Some(&b"2"[..]));
    assert_eq!(header(b"h3").as_deref(), Some(&b"/hello"[..]));
}

#[test]
fn request_data_can_not_end_a_header_line() {
    let conf = json!({ "abort": { "http_status": 200, "headers": { "h": "$uri" } } });
    let mut message = request("/");
    message.request.path = b"/a\r\nSet-Cookie: x\0".to_vec();
    run(&*plugin(&conf).expect("good"), &mut message);
    assert_eq!(message.local.headers.get(b"h"), Some(&b"/a%0D%0ASet-Cookie: x%00"[..]));
}

#[test]
fn what_is_prepared() {
    let table = [
        (json!({ "http_status": 200, "body": "b", "headers": { "h": "v" } }), true),
        (json!({ "http_status": 200, "percentage": 100 }), true),
        (json!({ "http_status": 200, "percentage": 99 }), false),
        (json!({ "http_status": 200, "vars": [[]] }), false),
        (json!({ "http_status": 200, "body": "$uri" }), false),
        (json!({ "http_status": 200, "headers": { "h": "$uri" } }), false),
    ];
    for (abort, prepared) in table {
        let plugin = plugin(&json!({ "abort": abort })).expect("good");
        assert_eq!(plugin.only_response().is_some(), prepared, "{abort}");
    }
    let delayed = json!({ "abort": { "http_status": 200 }, "delay": { "duration": 1 } });
    assert!(plugin(&delayed).expect("good").only_response().is_none());
}

#[test]
fn configurations_refused() {
    let table = [
        (json!({}), "f: expect object to have at least 1 properties"),
        (json!({ "abort": {} }), "f.abort: "),
        (json!({ "delay": {} }), "f.delay: "),
        (json!({ "abort": { "http_status": 100 } }), "f.abort.http_status: "),
        (json!({ "abort": { "http_status": "200" } }), "f.abort.http_status: "),
        (json!({ "abort": { "http_status": 200, "percentage": 101 } }), "f.abort.percentage: "),
        (json!({ "abort": { "http_status": 200, "body": 1 } }), "f.abort.body: "),
        (json!({ "abort": { "http_status": 200, "headers": {} } }), "f.abort.headers: "),
        (
            json!({ "abort": { "http_status": 200, "headers": { "a:b": "c" } } }),
            "f.abort.headers.a:b: ",
        ),
        (json!({ "abort": { "http_status": 200, "headers": { "a": [] } } }), "f.abort.headers.a: "),
        (
            json!({ "abort": { "http_status": 200, "headers": { "a": "\r\n" } } }),
            "f.abort.headers.a: ",
        ),
        (json!({ "delay": { "duration": "test" } }), "f.delay.duration: "),
        (json!({ "delay": { "duration": -1 } }), "f.delay.duration: "),
        (
            json!({ "abort": { "http_status": 200, "vars": [["arg_name", "!=", "jack"]] } }),
            "f.abort.vars[0]: rule should be wrapped inside brackets",
        ),
    ];
    for (conf, start) in table {
        let errors = plugin(&conf).expect_err("refused");
        assert!(errors.iter().any(|error| error.starts_with(start)), "{conf}: {errors:?}");
    }
    assert!(plugin(&json!({ "foo": 1 })).is_ok(), "APISIX forbids no other keys");
}
