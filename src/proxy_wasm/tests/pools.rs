//! Spares, refills, streams of dead instances, instances per request, and the steady state.

use super::super::{Dry, Isolation, OnError, PluginSettings, pool};
use super::guest::Arg;
use super::{Guest, Rig, lines, settings};
use crate::plugin::{Action, Chore, Hold, Locals};
use serde_json::json;

/// A guest as [`counting`] makes, which has looked at the clock before its first request: none is
/// like another one then.
fn counting_time() -> Guest {
    let mut guest = counting();
    let time = guest.call("env.proxy_get_current_time_nanoseconds", &[Arg::W(24)]);
    guest.on("configure", &format!("(drop {time})"), 1);
    guest
}

/// Says when it starts, counts requests in its memory, and traps if one has the header `trap`.
fn counting() -> Guest {
    let mut guest = Guest::new();
    let started = guest.say("started");
    let (key, len) = guest.bytes(b"trap");
    let trap = guest.call("env.proxy_get_header_map_value", &[0, key, len, 16, 20].map(Arg::W));
    let count = "(i32.store (i32.const 32) (i32.add (i32.const 1) (i32.load (i32.const 32))))";
    let report = guest.report("(i32.load (i32.const 32))");
    guest.on(
        "request_headers",
        &format!("(if (i32.eqz {trap}) (then unreachable)) {count} {report}"),
        0,
    );
    guest.on("request_body", "", 0);
    guest.on("response_body", "", 0);
    guest.export("_initialize", "", &started);
    guest
}

fn trapping(rig: &mut Rig) -> Action {
    rig.next();
    rig.message.request.headers.append(b"trap", b"1");
    let action = rig.request_headers();
    rig.log();
    action
}

fn starts() -> usize {
    lines().iter().filter(|line| line.contains("started")).count()
}

fn count(rig: &mut Rig) -> u32 {
    rig.next();
    rig.request_headers();
    let count = rig.reported().0;
    rig.log();
    count
}

#[test]
fn a_spare_takes_over_at_once_and_is_replaced_later() {
    let mut rig = Rig::new(&counting().text());
    assert_eq!((count(&mut rig), count(&mut rig)), (1, 2), "one instance serves all");
    assert_eq!(trapping(&mut rig), Action::Respond);
    assert_eq!(count(&mut rig), 1, "another one");
    assert_eq!(starts(), 0, "it was made ahead");
    rig.plugin.maintain(&mut rig.locals);
    assert_eq!(starts(), 1, "the pool is full again");
    rig.plugin.maintain(&mut rig.locals);
    assert_eq!(starts(), 0);
    for _ in 0..5 {
        assert_eq!(trapping(&mut rig), Action::Respond);
    }
    assert_eq!(count(&mut rig), 1, "made inline when there is no spare");
    assert_eq!(starts(), 4);
}

#[test]
fn a_conf_that_was_refused_is_not_in_the_way_of_the_next() {
    // Confs of one byte are refused from the fourth on, others never.
    let third = include_str!("../../../t/plugins/third.wat");
    let text = third.replace("(i64.const 3)", "(i64.const 4)");
    assert_ne!(third, text);
    let rig = Rig::with(PluginSettings { pool: 1, ..settings(&text) });
    let plugin = |conf: &str| rig.plugins.plugin("p", &json!({"conf": conf})).expect("taken");
    // Taken by the control side, and refused by a worker; somebody holds it still.
    let (refused, mut worker) = (plugin("x"), Locals::new(1));
    let error = refused.prepare(&mut worker).expect_err("refused");
    assert!(error.contains("proxy_on_configure returned false"), "{error}");
    assert_eq!(plugin("another").prepare(&mut worker), Ok(()));
}

#[test]
fn an_instance_that_failed_at_a_conf_is_not_used_any_more() {
    // It traps, in the fourth configuration, at one of two bytes.
    let third = include_str!("../../../t/plugins/third.wat");
    let ends = "(i32.or\n      (i32.ne (local.get $size) (i32.const 1))\n      \
                (i64.lt_u (i64.load (i32.const 72)) (i64.const 3))))";
    let traps = "(if (i32.and (i32.eq (local.get $size) (i32.const 2))\n      \
                 (i64.ge_u (i64.load (i32.const 72)) (i64.const 4)))\n      \
                 (then unreachable))\n    (i32.const 1))";
    let text = third.replace(ends, traps);
    assert_ne!(third, text);
    let mut rig = Rig::with(PluginSettings { pool: 1, ..settings(&text) });
    assert_eq!(rig.request_headers(), Action::Continue);
    rig.log();
    let other = rig.plugins.plugin("p", &json!({"conf": "xx"})).expect("taken");
    other.prepare(&mut rig.locals).expect_err("trapped");
    rig.next();
    assert_eq!(rig.request_headers(), Action::Continue, "what served before serves on");
    rig.log();
    assert_eq!(rig.host.counters()[0].counters.started.get(), 2, "in another instance");
}

#[test]
fn streams_of_a_dead_instance_are_lost() {
    for (on_error, action) in
        [(OnError::Closed, Action::Respond), (OnError::Open, Action::Continue)]
    {
        let mut settings = settings(&counting().text());
        settings.on_error = on_error;
        let mut rig = Rig::with(settings);
        rig.request_headers();
        let first = rig.switch((super::rig::request(), 0));
        rig.request_headers();
        let second = rig.switch((super::rig::request(), 0));
        trapping(&mut rig);
        lines();

        rig.switch(first);
        assert_eq!(rig.request_body(b"x", false), action);
        assert_eq!(rig.request_body(b"x", true), Action::Continue, "only once");
        rig.log();
        rig.switch(second);
        assert_eq!(rig.response_body(b"x", false), action);
        rig.log();
        assert_eq!(lines(), [""; 0], "it was said when it trapped");
    }
}

#[test]
fn an_instance_per_request() {
    let text = counting_time().text();
    let isolated = PluginSettings { isolation: Isolation::Request, ..settings(&text) };
    let mut rig = Rig::with(isolated);
    assert_eq!((count(&mut rig), count(&mut rig)), (1, 1), "every request is its first");
    assert_eq!(starts(), 0, "both were made ahead");
    rig.plugin.maintain(&mut rig.locals);
    rig.plugin.maintain(&mut rig.locals);
    assert_eq!(starts(), 2);

    rig.next();
    rig.request_headers();
    let other = rig.switch((super::rig::request(), 0));
    assert_eq!(trapping(&mut rig), Action::Respond);
    rig.switch(other);
    assert_eq!(rig.request_body(b"x", true), Action::Continue, "another's trap is another's");
    rig.log();
}

/// Requests that run at the same time, each with an instance of its own.
fn isolated(dry: Dry, pool: usize, instances_max: usize) -> Rig {
    let text = counting_time().text();
    let isolation = Isolation::Request;
    Rig::with(PluginSettings { isolation, dry, pool, instances_max, ..settings(&text) })
}

/// Begins a request beside those that run; it is the rig's stream then.
fn begin(rig: &mut Rig) -> (Action, (Box<crate::plugin::Message>, u64)) {
    let other = rig.switch((super::rig::request(), 0));
    (rig.request_headers(), other)
}

fn refill(rig: &mut Rig) {
    rig.locals.wants_chores = true;
    rig.locals.do_chores(Chore::BetweenRequests);
}

#[test]
fn instances_are_made_between_requests() {
    let mut rig = isolated(Dry::Make, 3, 100);
    for _ in 0..20 {
        assert_eq!(count(&mut rig), 1);
        assert_eq!(starts(), 0, "never in a request while there is one");
        refill(&mut rig);
        assert_eq!(starts(), 1);
    }
    (0..3).for_each(|_| assert_eq!(count(&mut rig), 1));
    assert_eq!(starts(), 0);
    assert_eq!(count(&mut rig), 1);
    assert_eq!(starts(), 1, "the pool was dry");
    let counted = rig.host.counters();
    assert_eq!(counted[0].counters.dry.get(), 1);
    assert_eq!(counted[0].counters.started.get(), 3 + 20 + 1);
}

/// Requests that each have what is done in them, `configured` before: whether each found an
/// instance as new, and how many instances were made for twenty of them and a pool of two.
fn twenty(requested: &str, configured: &str) -> (bool, u64) {
    let mut guest = Guest::new();
    let (name, len) = guest.bytes(b"queue");
    let calls = [
        ("tick", guest.call("env.proxy_set_tick_period_milliseconds", &[Arg::W(10)])),
        ("queue", guest.call("env.proxy_register_shared_queue", &[name, len, 24].map(Arg::W))),
        ("time", guest.call("env.proxy_get_current_time_nanoseconds", &[Arg::W(24)])),
        ("random", guest.call("wasi_snapshot_preview1.random_get", &[24, 8].map(Arg::W))),
        ("data", guest.call("env.proxy_get_shared_data", &[name, len, 16, 20, 24].map(Arg::W))),
        ("metric", guest.call("env.proxy_define_metric", &[0, name, len, 24].map(Arg::W))),
        ("log", guest.call("env.proxy_log", &[2, name, len].map(Arg::W))),
        ("grow", "(memory.grow (i32.const 1))".to_owned()),
        ("far", "(i32.load8_u (i32.const 60000))".to_owned()),
    ];
    let code = |what: &str| {
        let found = calls.iter().find(|(name, _)| *name == what);
        found.map_or(String::new(), |(_, call)| format!("(drop {call})"))
    };
    // What must be new: a word of memory in each page, and a global.
    let words = (0..16).map(|page| page * 4096 + 4000);
    let seen: String = words
        .map(|at| {
            format!(
                "(i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.load (i32.const                  {at})))) (i32.store (i32.const {at}) (i32.const 1))"
            )
        })
        .collect();
    let report = guest.report("(i32.add (i32.load (i32.const 8)) (global.get $life))");
    let life = "(global.set $life (i32.add (global.get $life) (i32.const 1)))";
    guest.on("configure", &code(configured), 1);
    guest.on("request_headers", &format!("{seen} {report} {life} {}", code(requested)), 0);
    guest.export("_initialize", "", "(i32.store (i32.const 50000) (i32.const 7))");
    let more = "(global $life (mut i32) (i32.const 0)) (func (export \"malloc\") (param i32) \
                (result i32) (i32.const 40000))";
    let isolation = Isolation::Request;
    let mut rig = Rig::with(PluginSettings { isolation, ..settings(&guest.text_with(more)) });
    let mut all_new = true;
    for _ in 0..20 {
        all_new &= count(&mut rig) == 0;
        refill(&mut rig);
    }
    (all_new, rig.host.counters()[0].counters.started.get())
}

#[test]
fn a_used_instance_is_set_back() {
    for same in ["", "time", "random", "data", "metric", "log", "far"] {
        assert_eq!(twenty(same, ""), (true, 2), "in requests: {same:?}");
    }
    for same in ["", "metric", "log", "far"] {
        assert_eq!(twenty("", same), (true, 2), "before: {same:?}");
    }
}

#[test]
fn an_instance_is_dropped_where_setting_it_back_would_be_seen() {
    for other in ["tick", "queue", "grow"] {
        assert_eq!(twenty(other, ""), (true, 22), "in requests: {other}");
    }
    for other in ["time", "random", "data"] {
        assert_eq!(twenty("", other), (true, 22), "before: {other}");
    }
    // One works for the root context.
    assert_eq!(twenty("", "queue"), (true, 23), "before: queue");
    assert_eq!(twenty("", "tick"), (true, 3), "before: tick");
}

#[test]
fn an_instance_is_set_back_with_the_confs_of_now() {
    let isolation = Isolation::Request;
    let mut rig = Rig::with(PluginSettings { isolation, ..settings(&counting().text()) });
    let started = |rig: &Rig| rig.host.counters()[0].counters.started.get();
    assert_eq!((count(&mut rig), started(&rig)), (1, 2));
    refill(&mut rig);
    // A new conf while a request runs: its instance does not have it.
    rig.next();
    rig.request_headers();
    let more = rig.plugins.plugin("p", &serde_json::json!({"conf": "d"})).expect("configured");
    more.prepare(&mut rig.locals).expect("prepared");
    assert_eq!(started(&rig), 3);
    rig.log();
    refill(&mut rig);
    assert_eq!(started(&rig), 3, "the pool is full, the old one is dropped");
    let first = std::mem::replace(&mut rig.plugin, more);
    for _ in 0..10 {
        assert_eq!(count(&mut rig), 1);
        refill(&mut rig);
    }
    assert_eq!(started(&rig), 3);
    // And one less.
    drop(first);
    rig.plugin.maintain(&mut rig.locals);
    for _ in 0..10 {
        assert_eq!(count(&mut rig), 1);
        refill(&mut rig);
    }
    assert_eq!(started(&rig), 3);
}

#[test]
fn a_dry_pool_refuses_if_it_is_to() {
    let mut rig = isolated(Dry::Refuse, 1, 100);
    rig.request_headers();
    let (action, _) = begin(&mut rig);
    assert_eq!((action, rig.message.local.status), (Action::Respond, 503));
    rig.log();
    refill(&mut rig);
    assert_eq!(count(&mut rig), 1);
    let counters = &rig.host.counters()[0].counters;
    assert_eq!((counters.dry.get(), counters.dry_refused.get()), (1, 1));
}

#[test]
fn a_request_waits_for_an_instance() {
    for (dry, instances_max) in [(Dry::Wait, 100), (Dry::Make, 1)] {
        let mut rig = isolated(dry, 1, instances_max);
        rig.request_headers();
        let (action, first) = begin(&mut rig);
        assert_eq!(action, Action::Pause(Hold::Sleep(1)), "{dry:?}");
        let counters = std::sync::Arc::clone(&rig.host.counters()[0].counters);
        assert_eq!((counters.dry.get(), counters.waiting.get()), (1, 1));
        assert_eq!(rig.due(), Action::Pause(Hold::Sleep(1)));
        let waiting = rig.switch(first);
        rig.log();
        refill(&mut rig);
        rig.switch(waiting);
        assert_eq!(rig.due(), Action::Continue, "{dry:?}: there is one now");
        assert_eq!((rig.reported().0, counters.waiting.get()), (1, 0));
        rig.log();
        assert_eq!((counters.dry.get(), counters.dry_refused.get()), (1, 0));
    }
}

#[test]
fn it_does_not_wait_for_ever() {
    let mut rig = isolated(Dry::Wait, 1, 1);
    rig.locals.now_ms = u64::from(u32::MAX) - 500;
    rig.request_headers();
    let (_, first) = begin(&mut rig);
    rig.locals.now_ms += 999;
    assert_eq!(rig.due(), Action::Pause(Hold::Sleep(1)));
    rig.locals.now_ms += 1;
    assert_eq!((rig.due(), rig.message.local.status), (Action::Respond, 503));
    assert_eq!(rig.due(), Action::Continue, "it does not wait any more");
    rig.log();
    // One whose client leaves does not wait either.
    let (action, _) = begin(&mut rig);
    assert_eq!(action, Action::Pause(Hold::Sleep(1)));
    rig.log();
    rig.switch(first);
    rig.log();
    let counters = &rig.host.counters()[0].counters;
    assert_eq!((counters.waiting.get(), counters.dry_refused.get()), (0, 1));
}

#[test]
fn an_entry_that_stops_starting_is_tried_less_and_less() {
    // Starts only three times: on the control side and for two spares.
    let mut guest = Guest::new();
    let (name, len) = guest.bytes(b"starts");
    let define = guest.call("env.proxy_define_metric", &[0, name, len, 24].map(Arg::W));
    let increment = guest.call("env.proxy_increment_metric", &[Arg::W(0), Arg::L(1)]);
    let get = guest.call("env.proxy_get_metric", &[0, 24].map(Arg::W));
    guest.export(
        "_initialize",
        "",
        &format!(
            "(drop {define}) (drop {increment}) (drop {get})
             (if (i32.gt_u (i32.load (i32.const 24)) (i32.const 3)) (then unreachable))"
        ),
    );
    guest.on("request_headers", "unreachable", 0);
    let mut rig = Rig::new(&guest.text());
    let attempts = |rig: &Rig| rig.host.metrics()[0].value.clone();
    for _ in 0..20 {
        assert_eq!(rig.request_headers(), Action::Respond);
        rig.next();
    }
    assert_eq!(attempts(&rig), super::super::MetricValue::Counter(4), "one try, then a pause");
    rig.locals.now_ms += 100;
    rig.plugin.maintain(&mut rig.locals);
    rig.plugin.maintain(&mut rig.locals);
    assert_eq!(attempts(&rig), super::super::MetricValue::Counter(5));
}

#[test]
fn workers_may_have_pools_of_their_own_size() {
    let mut settings = settings(&counting().text());
    settings.pool_by_worker = vec![None, Some(5)];
    let rig = Rig::with(settings);
    let mut other = Locals::new(1);
    lines();
    rig.plugin.prepare(&mut other).expect("ready");
    assert_eq!(starts(), 5);
}

#[test]
fn nothing_grows_in_the_steady_state() {
    let mut guest = Guest::new();
    let get = {
        let (key, len) = guest.bytes(b"user-agent");
        guest.call("env.proxy_get_header_map_value", &[0, key, len, 16, 20].map(Arg::W))
    };
    let pairs = guest.call("env.proxy_get_header_map_pairs", &[0, 16, 20].map(Arg::W));
    let body = guest.bytes(b"body");
    let args = [200, 0, 0, body.0, body.1, 0, 0, u32::MAX].map(Arg::W);
    let respond = guest.call("env.proxy_send_local_response", &args);
    guest.on("request_headers", &format!("(drop {get}) (drop {pairs}) (drop {respond})"), 1);
    guest.on("done", "", 1).on("log", "", 0).on("delete", "", 0);
    let text =
        guest.text_with("(func (export \"malloc\") (param i32) (result i32) (i32.const 40000))");
    let mut rig = Rig::new(&text);
    let mut sizes = None;
    for n in 0..3_000 {
        assert_eq!(rig.request_headers(), Action::Respond);
        rig.log();
        rig.next();
        let now = pool::sizes(&mut rig.locals);
        if n >= 10 {
            assert_eq!(*sizes.get_or_insert(now.clone()), now, "request {n}");
        }
    }
    assert_eq!(lines(), [""; 0]);
}
