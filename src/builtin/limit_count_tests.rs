//! Windows, keys and what clients are told, row by row.

use super::*;
use crate::builtin::testing::{Run, request};
use crate::schema::{Path, Problems};
use serde_json::{Value, json};

fn try_read(conf: &Value, groups: &mut Groups) -> Result<Arc<dyn Plugin>, Vec<String>> {
    let problems = Problems::new();
    let reader = Reader::new(conf, Path::root().key("p"), &problems);
    let plugin = read(reader, groups, &Metadata::default());
    let (errors, _) = problems.into_parts();
    match plugin {
        Some(plugin) if errors.is_empty() => Ok(plugin),
        _ => Err(errors.iter().map(|p| format!("{}: {}", p.at, p.message)).collect()),
    }
}

fn plugin(conf: &Value) -> Arc<dyn Plugin> {
    try_read(conf, &mut Groups::default()).unwrap_or_else(|errors| panic!("{conf}: {errors:?}"))
}

/// One request: whether it passes, and the fields it promises.
fn ask(plugin: &dyn Plugin, ms: u64, target: &str) -> (bool, Vec<String>) {
    let mut message = request("GET", target);
    // A round number of minutes, so that aligned windows begin there.
    message.started_ns = 1_784_678_400 * NS + ms * 1_000_000;
    let mut run = Run::new(plugin, message);
    let passes = run.request_headers() == Action::Continue;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields = run.message.response_fields.iter();
    (passes, fields.map(|(name, value)| format!("{}: {}", text(name), text(value))).collect())
}

fn told(limit: u64, remaining: u64, reset: u64) -> Vec<String> {
    vec![
        format!("X-RateLimit-Limit: {limit}"),
        format!("X-RateLimit-Remaining: {remaining}"),
        format!("X-RateLimit-Reset: {reset}"),
    ]
}

#[test]
fn fixed_windows_begin_with_the_first_request() {
    let plugin = plugin(&json!({ "count": 2, "time_window": 60 }));
    for (ms, passes, remaining, reset) in [
        (5_000, true, 1, 60),
        (15_500, true, 0, 50),
        (15_500, false, 0, 50),
        (64_999, false, 0, 1),
        (65_000, true, 1, 60),
        // The clock is set back.
        (1_000, true, 1, 60),
        (1_000, true, 0, 60),
    ] {
        assert_eq!(ask(&*plugin, ms, "/"), (passes, told(2, remaining, reset)), "{ms}");
    }
}

#[test]
fn sliding_windows_weigh_the_previous_one() {
    let plugin = plugin(&json!({ "count": 4, "time_window": 60, "window_type": "sliding" }));
    for (ms, passes, remaining, reset) in [
        (50_000, true, 3, 10),
        (50_000, true, 2, 10),
        (50_000, true, 1, 10),
        (50_000, true, 0, 10),
        (50_000, false, 0, 10),
        // All four count a minute later, three at its first quarter, two at its half.
        (60_000, false, 0, 60),
        (75_000, true, 0, 45),
        (75_000, false, 0, 45),
        (90_000, true, 0, 30),
        // Two windows later nothing counts.
        (180_000, true, 3, 60),
    ] {
        assert_eq!(ask(&*plugin, ms, "/"), (passes, told(4, remaining, reset)), "{ms}");
    }
}

#[test]
fn keys() {
    let conf = |key, key_type| {
        json!({
            "count": 1, "time_window": 60, "key": key, "key_type": key_type,
            "show_limit_quota_header": false,
        })
    };
    for (conf, targets, passes) in [
        (conf("arg_k", "var"), ["/?k=a", "/?k=b", "/?k=a"], [true, true, false]),
        (conf("arg_k", "var"), ["/", "/", "/?k=127.0.0.1"], [true, false, false]),
        (conf("$uri $arg_k", "var_combination"), ["/a", "/b", "/a?k"], [true, true, true]),
        (conf("$arg_k", "var_combination"), ["/a", "/b", "/c"], [true, false, false]),
        (conf("any", "constant"), ["/a", "/b?k=1", "/c"], [true, false, false]),
    ] {
        let plugin = plugin(&conf);
        for (target, passes) in targets.iter().zip(passes) {
            assert_eq!(ask(&*plugin, 0, target), (passes, vec![]), "{conf} {target}");
        }
    }
}

#[test]
fn rules_have_keys_and_fields_of_their_own() {
    let plugin = plugin(&json!({ "rules": [
        { "count": 1, "time_window": 10, "key": "$arg_user" },
        { "count": "$arg_most", "time_window": "60", "key": "$uri", "header_prefix": "Path" },
    ] }));
    let fields = |target| ask(&*plugin, 0, target);
    let (passes, told) = fields("/a?user=x&most=3");
    assert!(passes);
    assert_eq!(told[1], "X-1-RateLimit-Remaining: 0");
    assert_eq!(told[3], "X-Path-RateLimit-Limit: 3");
    let (passes, told) = fields("/a?user=x&most=3");
    assert_eq!((passes, told.len()), (false, 3), "the first that is used up answers");
    let (passes, told) = fields("/a?most=3");
    assert_eq!((passes, told.len()), (true, 3), "a rule without a key is left out");
    assert_eq!(told[1], "X-Path-RateLimit-Remaining: 1");
    assert_eq!(fields("/a?user=y&most=x").1.len(), 3, "a rule without a number is left out");
}

#[test]
fn limits_that_can_not_be_told() {
    for (degrade, passes) in [(false, false), (true, true)] {
        let conf = json!({
            "count": "$arg_most", "time_window": 60, "allow_degradation": degrade,
        });
        let plugin = plugin(&conf);
        for target in ["/", "/?most=x", "/?most=0", "/?most=-1", "/?most=9007199254740992"] {
            let mut run = Run::new(&*plugin, request("GET", target));
            let action = run.request_headers();
            assert_eq!(action == Action::Continue, passes, "{target}");
            assert!(passes || run.answer().0 == 500);
        }
        assert_eq!(ask(&*plugin, 0, "/?most=2").1[1], "X-RateLimit-Remaining: 1");
    }
}

#[test]
fn answers() {
    let conf = json!({
        "count": 1, "time_window": 60, "rejected_code": 429, "rejected_msg": "slow down",
    });
    let plugin = plugin(&conf);
    ask(&*plugin, 0, "/");
    let mut run = Run::new(&*plugin, request("GET", "/"));
    assert_eq!(run.request_headers(), Action::Respond);
    assert_eq!(run.answer(), (429, "{\"error_msg\":\"slow down\"}\n".to_owned()));
    assert!(run.message.response_fields.get(b"x-ratelimit-reset").is_some());
}

#[test]
fn groups_count_together() {
    let conf = json!({ "count": 1, "time_window": 60, "group": "tests-own" });
    let mut groups = Groups::default();
    let (a, b) = (try_read(&conf, &mut groups), try_read(&conf, &mut groups));
    let (a, b) = (a.expect("good"), b.expect("good"));
    assert!(ask(&*a, 0, "/").0 && !ask(&*b, 0, "/").0);
    let again = try_read(&conf, &mut Groups::default()).expect("good");
    assert!(!ask(&*again, 0, "/").0, "a new configuration goes on counting");
    let mut other = conf.clone();
    other["count"] = json!(2);
    let errors = try_read(&other, &mut groups).expect_err("mismatched");
    assert!(errors[0].starts_with("p.group: group conf mismatched"), "{errors:?}");
    let changed = try_read(&other, &mut Groups::default()).expect("good");
    assert!(ask(&*changed, 0, "/").0, "a changed limit begins anew");
}

#[test]
fn configurations_refused() {
    for (conf, start) in [
        (json!({}), "p: expected either"),
        (json!({ "count": 1 }), "p: missing key `time_window`"),
        (json!({ "count": 0, "time_window": 1 }), "p.count: "),
        (json!({ "count": "x", "time_window": 1 }), "p.count: "),
        (json!({ "count": 1, "time_window": 1.5 }), "p.time_window: "),
        (json!({ "count": 1, "time_window": 1, "rules": [] }), "p: expected either"),
        (json!({ "rules": [] }), "p.rules: "),
        (json!({ "rules": [{ "count": 1, "time_window": 1 }] }), "p.rules[0]: missing key `key`"),
        (
            json!({ "rules": [
                { "count": 1, "time_window": 1, "key": "$uri" },
                { "count": 1, "time_window": 1, "key": "$uri" },
            ] }),
            "p.rules[1].key: duplicate key '$uri' in rules",
        ),
        (
            json!({ "rules": [
                { "count": 1, "time_window": 1, "key": "$uri", "header_prefix": "a b" },
            ] }),
            "p.rules[0].header_prefix: ",
        ),
        (json!({ "count": 1, "time_window": 1, "policy": "redis" }), "p.policy: "),
        (json!({ "count": 1, "time_window": 1, "key_type": "vars" }), "p.key_type: "),
        (json!({ "count": 1, "time_window": 1, "window_type": "leap" }), "p.window_type: "),
        (json!({ "count": 1, "time_window": 1, "rejected_code": 199 }), "p.rejected_code: "),
    ] {
        let errors = try_read(&conf, &mut Groups::default()).expect_err(&conf.to_string());
        assert!(errors.iter().any(|error| error.starts_with(start)), "{conf}: {errors:?}");
    }
}
