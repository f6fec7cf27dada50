//! Why a response is what it is, and what went wrong: Envoy's words and bits.

use super::case::{Case, check, whole};
use super::double::{Effect, Phase, Scripted, close, edit, respond};
use super::script::{Connects, Then};
use crate::snapshot::Target;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A name, who does what, then details, flags and attempts.
type Row = (&'static str, fn() -> Case, &'static str, u64, u32);

const ROWS: [Row; 12] = [
    ("ok", || Case::get().peer(OK), "via_upstream", 0, 1),
    ("no route", || Case::new("GET /nowhere HTTP/1.0\r\n\r\n"), "route_not_found", 0x100, 0),
    (
        "no upstream",
        || Case::get().with(|s| s.target = Target::Status(502)),
        "cluster_not_found",
        0x100_0000,
        0,
    ),
    ("no peer", || Case::get().with(|s| s.peers = 0), "no_healthy_upstream", 0x2, 0),
    (
        "refused",
        || Case::get().peer("").connects(Connects::Refused).with(|s| s.retries = 0),
        "upstream_reset_before_response_started{connection_failure}",
        0x20,
        1,
    ),
    (
        "refused twice",
        || {
            let refused = |case: Case| case.peer("").connects(Connects::Refused);
            refused(refused(Case::get())).with(|s| s.peers = 2)
        },
        "upstream_reset_before_response_started{connection_failure}",
        0x8020,
        2,
    ),
    (
        "not accepted",
        || Case::get().peer("").connects(Connects::Never).with(|s| s.retries = 0),
        "upstream_response_timeout",
        0x4,
        1,
    ),
    (
        "closed",
        || Case::get().peer("").then(Then::Closes).with(|s| s.retries = 0),
        "upstream_reset_before_response_started{connection_termination}",
        0x40,
        1,
    ),
    (
        "garbage",
        || Case::get().peer("garbage\r\n\r\n").with(|s| s.retries = 0),
        "upstream_reset_before_response_started{protocol_error}",
        0x80_0000,
        1,
    ),
    (
        "a bad body",
        || {
            let waits = super::double::pause(crate::plugin::Hold::Body);
            let plugin = Scripted::new("p").on(Phase::RequestHeaders, &[waits]);
            Case::chunked("x\r\n").plugin(plugin)
        },
        "http1.codec_error",
        0x4_0000,
        0,
    ),
    (
        "a plugin's answer",
        || {
            let says = respond(401, Some("who"));
            Case::get().plugin(Scripted::new("auth").on(Phase::RequestHeaders, &[says]))
        },
        "auth",
        0,
        0,
    ),
    (
        "a plugin closes",
        || Case::get().plugin(Scripted::new("p").on(Phase::RequestHeaders, &[close()])),
        "wasm_close_stream",
        0x8,
        0,
    ),
];

#[test]
fn details_flags_and_attempts() {
    for (name, make, details, flags, attempts) in ROWS {
        check(make, |outcome| {
            let found = (outcome.details.as_str(), outcome.flags, outcome.attempts);
            assert_eq!(found, (details, flags, attempts), "{name}");
        });
    }
}

/// What a plugin says itself counts; a response on its way keeps its reason.
#[test]
fn reasons_of_plugins_and_of_broken_off_responses() {
    let says = respond(401, Some("who")).and(Effect::Details("ext_authz_denied"));
    let plugin = Scripted::new("auth").on(Phase::RequestHeaders, &[says]);
    assert_eq!(whole(Case::get().plugin(plugin)).details, "ext_authz_denied");
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort";
    let outcome = whole(Case::get().peer(short).then(Then::Closes));
    assert_eq!((outcome.details.as_str(), outcome.flags), ("via_upstream", 0x40));
    let plugin = Scripted::new("p").on(Phase::ResponseBody, &[edit(Effect::Append("more"))]);
    let outcome = whole(Case::get().plugin(plugin).peer(OK));
    assert_eq!((outcome.details.as_str(), outcome.flags), ("via_upstream", 0));
}
