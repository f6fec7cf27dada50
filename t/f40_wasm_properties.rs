//! What plugins are told of an exchange, and having its route chosen again.

use crate::harness::{Refusing, Setup, Upstream, drivers};

/// A path that leads to the plugin, and another one it goes on to.
fn routes(start: &Upstream, other: &str, conf: &str) -> String {
    format!(
        "routes:
  - {{uri: /start, name: first, plugins: {{route: {{conf: {conf}}}}}, upstream: {{nodes: {{\"{}\": 1}}}}}}
  - {{uri: /other, name: second, upstream: {{nodes: {{\"{other}\": 1}}}}}}",
        start.node()
    )
}

#[test]
fn the_route_is_chosen_again() {
    for driver in drivers() {
        let (start, other) = (Upstream::hello(), Upstream::hello());
        let setup = Setup::new(routes(&start, &other.node(), "/other?x=y"));
        let gateway = setup.wasm("route", "fixtures/route.wat", "").driver(*driver).start();
        let mut client = gateway.client();
        for _ in 0..3 {
            let response = client.get("/start");
            assert_eq!((response.status(), response.text().as_str()), (200, "hello world\n"));
            assert_eq!(response.field("x-route"), Some("second"));
            assert_eq!(response.field("x-details"), Some("via_upstream"));
            assert!(response.field("x-local").is_some_and(|local| local.starts_with("127.0.0.1:")));
        }
        assert!(other.requests().iter().all(|request| request.target() == "/other?x=y"));
        assert_eq!((start.requests().len(), other.requests().len()), (0, 3));
    }
}

#[test]
fn a_path_that_leads_nowhere_is_404() {
    let (start, other) = (Upstream::hello(), Upstream::hello());
    let setup = Setup::new(routes(&start, &other.node(), "/nowhere"));
    let response = setup.wasm("route", "fixtures/route.wat", "").start().get("/start");
    assert_eq!(response.status(), 404);
    assert_eq!(response.text(), "{\"error_msg\":\"404 Route Not Found\"}\n");
    assert_eq!(response.field("x-details"), Some("route_not_found"));
    assert_eq!(response.field("x-route"), None);
    assert!(start.requests().is_empty() && other.requests().is_empty());
}

#[test]
fn why_an_upstream_gave_no_response() {
    let start = Upstream::hello();
    let refusing = Refusing::new();
    let setup = Setup::new(routes(&start, &refusing.node(), "/other"));
    let response = setup.wasm("route", "fixtures/route.wat", "").start().get("/start");
    assert_eq!(response.status(), 502);
    let details = "upstream_reset_before_response_started{connection_failure}";
    assert_eq!(response.field("x-details"), Some(details));
    assert_eq!(response.field("x-route"), Some("second"));
}
