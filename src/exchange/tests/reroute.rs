//! Plugins that have the route chosen again.

use super::case::{Case, check};
use super::double::{Effect, OTHER, Phase, Scripted, address, edit, go, pause};
use super::script::Connects;
use crate::plugin::Hold;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn reroutes(phase: Phase, path: &'static str) -> Scripted {
    Scripted::new("p").on(phase, &[edit(Effect::Reroute(path))])
}

#[test]
fn the_request_goes_where_the_new_route_says_and_the_chain_stays() {
    let case = || {
        let plugin = reroutes(Phase::RequestHeaders, "/other").on(Phase::ResponseHeaders, &[go()]);
        Case::get().plugin(plugin).peer(OK)
    };
    check(case, |outcome| {
        assert_eq!((outcome.status(), outcome.route.as_deref()), (200, Some("other")));
        assert_eq!(outcome.links[0].address, address(OTHER));
        assert_eq!(outcome.request(0).start, "GET /other HTTP/1.1");
        assert_eq!(outcome.calls.len(), 3, "{:?}", outcome.calls);
    });
}

/// The other route does not wait for a connection as long as the first.
#[test]
fn timeouts_are_the_new_routes() {
    let case = || {
        let plugin = reroutes(Phase::RequestHeaders, "/other");
        Case::get().plugin(plugin).peer("").connects(Connects::Never).with(|s| s.retries = 0)
    };
    check(case, |outcome| assert_eq!((outcome.status(), outcome.ms), (504, 50)));
}

#[test]
fn no_route_is_404_once_the_request_is_through() {
    let case = || {
        let later = Scripted::new("q").on(Phase::RequestHeaders, &[go()]);
        Case::get().plugin(reroutes(Phase::RequestHeaders, "/nowhere")).plugin(later)
    };
    check(case, |outcome| {
        assert_eq!((outcome.status(), outcome.route.as_deref()), (404, None));
        assert_eq!(outcome.body(), "{\"error_msg\":\"404 Route Not Found\"}\n");
        assert_eq!(outcome.calls_of("RequestHeaders").len(), 2);
        assert!(outcome.links.is_empty());
    });
}

#[test]
fn held_headers_can_be_led_elsewhere_by_the_body() {
    let case = || {
        let plugin =
            reroutes(Phase::RequestBody, "/other").on(Phase::RequestHeaders, &[pause(Hold::Body)]);
        Case::post("body").plugin(plugin).peer(OK)
    };
    check(case, |outcome| {
        assert_eq!((outcome.status(), outcome.route.as_deref()), (200, Some("other")));
        assert_eq!(outcome.links[0].address, address(OTHER));
    });
}

#[test]
fn it_is_too_late_once_an_upstream_was_asked() {
    let case = || Case::get().plugin(reroutes(Phase::ResponseHeaders, "/other")).peer(OK);
    check(case, |outcome| {
        assert_eq!((outcome.status(), outcome.route.as_deref()), (200, Some("r")));
        assert_eq!(outcome.links[0].address, address(0));
    });
}
