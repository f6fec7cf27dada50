//! Configurations of the three plugins.

use super::rig::{load, place};
use crate::plugin::{Loader, RequestPhase};
use crate::runner::Runners;
use crate::schema::{Path, Problems, Reader};
use serde_json::{Value, json};

fn refused(runners: &mut Runners, conf: &Value) -> String {
    let problems = Problems::new();
    let at = Path::root().key("routes").index(0).key("plugins").key("ext-plugin-pre-req");
    let loaded = runners.load("ext-plugin-pre-req", Reader::new(conf, at, &problems));
    assert!(loaded.is_none());
    let (errors, _) = problems.into_parts();
    let text = |problem: &crate::schema::Problem| match &problem.hint {
        Some(hint) => format!("{}: {} | {hint}", problem.at, problem.message),
        None => format!("{}: {}", problem.at, problem.message),
    };
    errors.iter().map(text).collect::<Vec<_>>().join("\n")
}

#[test]
fn all_three_have_their_places() {
    let mut runners = Runners::new(vec![place("")]);
    let table = [
        ("ext-plugin-pre-req", RequestPhase::Rewrite, 12_000),
        ("ext-plugin-post-req", RequestPhase::Access, -3000),
        ("ext-plugin-post-resp", RequestPhase::BeforeProxy, -4000),
    ];
    for (name, phase, priority) in table {
        let conf = json!({"conf": [{"name": "say", "value": "{}"}], "extra": 1});
        let loaded = load(&mut runners, name, &conf).expect("a good configuration");
        assert_eq!(loaded.plugin.name(), name);
        assert_eq!((loaded.phase, loaded.priority), (phase, priority));
    }
    assert!(load(&mut runners, "ext-plugin-pre-req", &json!({})).is_some(), "conf may be absent");
}

#[test]
fn wrong_configurations() {
    let at = "routes[0].plugins.ext-plugin-pre-req";
    let mut runners = Runners::new(vec![place("go"), place("python")]);
    for (conf, wanted) in [
        (json!({"conf": []}), ".conf: expected a list that is not empty, found one of 0"),
        (json!({"conf": [{"value": "x"}]}), ".conf[0]: missing key `name`"),
        (json!({"conf": [{"name": "x"}]}), ".conf[0]: missing key `value`"),
        (json!({"allow_degradation": 1}), ".allow_degradation: expected true or false"),
        (json!({"runner": "pyhton"}), "unknown runner `pyhton` | did you mean `python`?"),
        (json!({"runner": "zzz"}), "runners are named by `ext-plugin.runners`"),
    ] {
        let text = refused(&mut runners, &conf);
        assert!(text.starts_with(at) && text.contains(wanted), "{text}");
    }
    let text = refused(&mut runners, &json!({}));
    assert!(text.ends_with("names none of them | add `runner: go`, for example"), "{text}");
    let text = refused(&mut Runners::new(Vec::new()), &json!({}));
    assert!(text.ends_with("no runner is configured | give `ext-plugin.cmd` in config.yaml"));
}

#[test]
fn keys_name_the_resource_and_change_with_the_configuration() {
    let mut runners = Runners::new(vec![place(""), place("other")]);
    runners.set_ids([(Path::root().key("routes").index(0), "r1".to_owned())]);
    let key = |runners: &mut Runners, conf: Value| {
        let plugin = load(runners, "ext-plugin-pre-req", &conf).expect("good").plugin;
        let shown = format!("{plugin:?}");
        let (_, rest) = shown.split_once("key: \"").expect("a key");
        rest.split('"').next().expect("its end").to_owned()
    };
    let one = key(&mut runners, json!({"conf": [{"name": "a", "value": "b"}]}));
    assert!(one.starts_with("route#r1#ext-plugin-pre-req#"), "{one}");
    let again = json!({"conf": [{"value": "b", "name": "a"}], "allow_degradation": true});
    assert_eq!(key(&mut runners, again), one);
    assert_ne!(key(&mut runners, json!({"conf": [{"name": "a", "value": "c"}]})), one);
    let other = json!({"conf": [{"name": "a", "value": "b"}], "runner": "other"});
    assert_ne!(key(&mut runners, other), one);
}
