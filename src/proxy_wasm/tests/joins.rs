//! Callbacks that are joined to one call do what they do one by one.

use super::guest::Arg;
use super::{Guest, Rig, lines};
use crate::plugin::Action;
use std::sync::Arc;

/// The callbacks of which some are joined.
const CALLBACKS: [&str; 5] = ["context_create", "request_headers", "done", "log", "delete"];

/// A guest that has those of them whose bit is set. Each says its parameters; `more` is what one of
/// them does besides.
fn guest(present: usize, more: &dyn Fn(&mut Guest, &str) -> String) -> Guest {
    let mut guest = Guest::new();
    for (at, name) in CALLBACKS.iter().enumerate().filter(|(at, _)| present >> at & 1 == 1) {
        let params = [2, 3, 1, 1, 1][at];
        let code = guest.say_params(name, params) + &more(&mut guest, name);
        guest.on(name, &code, u32::from(*name == "done"));
    }
    guest
}

/// What two requests after each other come to: what was said, what the exchange was told, and how
/// many calls were counted.
fn play(mut rig: Rig) -> (Vec<String>, Vec<Action>, u64) {
    let counters = Arc::clone(&rig.host.counters()[0].counters);
    let before = counters.calls.get();
    let mut actions = Vec::new();
    for _ in 0..2 {
        actions.push(rig.request_headers());
        rig.log();
        rig.next();
    }
    (lines(), actions, counters.calls.get() - before)
}

/// Else both ways would be the same, and everything below would hold.
#[test]
fn they_are_joined() {
    let text = guest(0b11111, &|_, _| String::new()).text();
    let joined = |rig: Rig| {
        let module = rig.plugins_module();
        let names = ["ringgate:open", "ringgate:close", "ringgate:step:2"];
        names.map(|name| module.wasmtime().get_export(name).is_some())
    };
    assert_eq!(joined(Rig::new(&text)), [true; 3]);
    assert_eq!(joined(Rig::apart(&text)), [false; 3]);
}

fn both_ways(guest: &Guest) -> (Vec<String>, Vec<Action>, u64) {
    let (joined, apart) = (play(Rig::new(&guest.text())), play(Rig::apart(&guest.text())));
    assert_eq!(joined, apart, "{}", guest.text());
    joined
}

#[test]
fn whichever_of_them_a_guest_has() {
    for present in 0..1 << CALLBACKS.len() {
        let (said, actions, calls) = both_ways(&guest(present, &|_, _| String::new()));
        let on_streams = present.count_ones() as usize;
        assert_eq!(said.len(), 2 * on_streams, "{said:?}");
        assert_eq!(calls as usize, 2 * on_streams, "what is counted are callbacks");
        assert_eq!(actions, [Action::Continue; 2]);
    }
    let (said, ..) = both_ways(&guest(0b11111, &|_, _| String::new()));
    assert_eq!(
        said[..5],
        ["context_create 21", "request_headers 251", "done 2", "log 2", "delete 2"]
            .map(|line| format!("INFO [p] {line}"))
    );
}

#[test]
fn the_older_form_of_the_headers_callback() {
    let mut guest = guest(0b11101, &|_, _| String::new());
    let say = guest.say_params("request_headers", 2);
    let body = format!("{say} (i32.const 1)");
    guest.export("proxy_on_request_headers", "(param i32 i32) (result i32)", &body);
    let (said, actions, _) = both_ways(&guest);
    assert_eq!(said[1], "INFO [p] request_headers 25");
    assert!(actions.iter().all(|action| matches!(action, Action::Pause(_))), "{actions:?}");
}

#[test]
fn a_trap_in_any_of_them() {
    for trapping in CALLBACKS {
        let trap = |_: &mut Guest, name: &str| match name {
            // Roots are made by it, too, without a parent.
            "context_create" if trapping == name => {
                "(if (local.get 1) (then unreachable))".to_owned()
            }
            name if trapping == name => "unreachable".to_owned(),
            _ => String::new(),
        };
        let guest = guest(0b11111, &trap);
        let outcome = |rig: Rig| {
            let (said, actions, _) = play(rig);
            // Backtraces have a function more.
            let first = |line: &String| line.lines().next().unwrap_or_default().to_owned();
            (said.iter().map(first).collect::<Vec<_>>(), actions)
        };
        let joined = outcome(Rig::new(&guest.text()));
        assert_eq!(joined, outcome(Rig::apart(&guest.text())), "{trapping}");
        assert!(joined.0.iter().any(|line| line.contains("trapped")), "{joined:?}");
    }
}

#[test]
fn an_effective_context_ends_with_its_callback() {
    // Each that begins as the root sees no headers until it sets itself back; the next one does.
    for (root_in, own) in
        [("context_create", "request_headers"), ("done", "log"), ("log", "delete")]
    {
        let guest = guest(0b11111, &|guest, name| {
            let (key, len) = guest.bytes(b":path");
            let look =
                guest.call("env.proxy_get_header_map_value", &[0, key, len, 16, 20].map(Arg::W));
            let become_root = guest.call("env.proxy_set_effective_context", &[Arg::W(1)]);
            let (yes, no) = (guest.say("sees it"), guest.say("sees nothing"));
            let look = format!("(if (i32.eqz {look}) (then {yes}) (else {no}))");
            match name {
                // Of a stream; roots have no parent.
                "context_create" if name == root_in => {
                    format!("(if (local.get 1) (then (drop {become_root}) {look}))")
                }
                _ if name == root_in => format!("(drop {become_root}) {look}"),
                _ if name == own => look,
                _ => String::new(),
            }
        });
        let (said, ..) = both_ways(&guest);
        let seen: Vec<_> = said.iter().filter(|line| line.contains("sees")).collect();
        let expected = ["INFO [p] sees nothing", "INFO [p] sees it"];
        assert_eq!(seen, [expected, expected].concat().iter().collect::<Vec<_>>(), "{root_in}");
    }
}

/// What comes into the map while the context is made is not in the number, whichever way.
#[test]
fn headers_added_before_they_are_shown() {
    let guest = guest(0b11111, &|guest, name| {
        let (key, len) = guest.bytes(b"x-new");
        let args = [0, key, len, key, len].map(Arg::W);
        let add = guest.call("env.proxy_add_header_map_value", &args);
        match name {
            "context_create" => format!("(if (local.get 1) (then (drop {add})))"),
            _ => String::new(),
        }
    });
    let (said, ..) = both_ways(&guest);
    assert_eq!(said[1], "INFO [p] request_headers 251");
}
