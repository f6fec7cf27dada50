//! Stopping and loading again: signals, drain, exit codes.

use crate::harness::{
    Client, Cut, DEADLINE, Driver, Gateway, Manager, Setup, Upstream, drivers, eventually,
};
use rustix::process::Signal;
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets upstream scripts wait until the test says so.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = |open: &mut bool| !*open;
        drop(self.0.1.wait_timeout_while(open, DEADLINE, closed));
    }
}

/// An upstream that answers once the gate is open.
fn behind(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    Upstream::script(move |conversation| {
        while conversation.request().is_some() {
            gate.wait();
            conversation.answer("late");
        }
    })
}

fn proxy(upstream: &Upstream) -> String {
    format!("routes: [{{uri: /*, upstream: {{nodes: {{\"{}\": 1}}}}}}]", upstream.node())
}

/// A request that has reached the upstream.
fn in_flight(gateway: &Gateway, upstream: &Upstream) -> Client {
    let before = upstream.requests().len();
    let mut client = gateway.client();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is at the upstream", || upstream.requests().len() > before);
    client
}

fn drains(signal: Signal, driver: Driver) {
    let gate = Gate::default();
    let upstream = behind(&gate);
    let mut gateway = Setup::new(proxy(&upstream)).driver(driver).workers(2).start();
    let mut idle = gateway.client();
    let mut slow = in_flight(&gateway, &upstream);
    gateway.process().signal(signal);
    // Idle connections end, nobody new is let in, and what is in flight goes on.
    idle.expect_end();
    let address = gateway.address;
    eventually("nobody listens", || TcpStream::connect(address).is_err());
    gate.open();
    let response = slow.response();
    assert_eq!(response.text(), "late");
    slow.expect_end();
    let ended = gateway.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn sigterm_drains() {
    for driver in drivers() {
        drains(Signal::TERM, *driver);
    }
}

#[test]
fn sigint_drains_as_well() {
    drains(Signal::INT, drivers()[0]);
}

#[test]
fn sigint_twice_ends_at_once() {
    for driver in drivers() {
        let gate = Gate::default();
        let upstream = behind(&gate);
        let mut gateway = Setup::new(proxy(&upstream)).driver(*driver).start();
        let mut idle = gateway.client();
        let mut slow = in_flight(&gateway, &upstream);
        gateway.process().signal(Signal::INT);
        idle.expect_end();
        gateway.process().signal(Signal::INT);
        let ended = gateway.end();
        assert_eq!(ended.code, Some(130), "{ended:?}");
        assert!(slow.outcome(false).is_err());
        gate.open();
    }
}

/// As systemd's `Type=notify` has it: datagrams to a socket that the environment names.
#[test]
fn a_service_manager_is_told() {
    let manager = Manager::new();
    let gateway = manager.of(Setup::new("routes: []")).start();
    assert_eq!(manager.hear(), "READY=1");
    assert_eq!(gateway.get("/").status(), 404);
    assert_eq!(gateway.stop().code, Some(0));
    assert_eq!(manager.hear(), "STOPPING=1");
}

#[test]
fn a_gateway_without_work_stops_at_once() {
    for driver in drivers() {
        let gateway = Setup::new("routes: []").driver(*driver).workers(2).start();
        assert_eq!(gateway.get("/").status(), 404);
        let start = Instant::now();
        assert_eq!(gateway.stop().code, Some(0));
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
}

#[test]
fn the_drain_has_a_bound() {
    let upstream = Upstream::script(|conversation| {
        conversation.request();
        conversation.stall();
    });
    let setup = Setup::new(proxy(&upstream)).ringgate("timeouts: {drain: 300ms}");
    let gateway = setup.start();
    let mut slow = in_flight(&gateway, &upstream);
    let start = Instant::now();
    let ended = gateway.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(ended.stderr.contains("cut off after the drain timeout"), "{}", ended.stderr);
    assert!(slow.outcome(false).is_err());
}

/// Until the connection ends goes a body to a client of HTTP/1.0: one that the drain cuts off must
/// not look whole.
#[test]
fn what_the_drain_cuts_off_is_reset() {
    for driver in drivers() {
        let upstream = Upstream::script(|conversation| {
            if conversation.request().is_some() {
                conversation.send("HTTP/1.1 200 OK\r\n\r\nsome of it");
                conversation.stall();
            }
        });
        let setup = Setup::new(proxy(&upstream)).ringgate("timeouts: {drain: 300ms}");
        let mut gateway = setup.driver(*driver).start();
        let mut client = gateway.client();
        client.send("GET / HTTP/1.0\r\n\r\n");
        client.wire().wait_for("some of it");
        gateway.process().signal(Signal::TERM);
        assert_eq!(client.wire().rest().1, Cut::Reset);
        assert_eq!(gateway.end().code, Some(0));
    }
}

/// A head that has begun to arrive may still be sent; its answer is the connection's last.
#[test]
fn a_head_that_has_begun_is_still_answered() {
    let upstream = Upstream::hello();
    let mut gateway = Gateway::start(proxy(&upstream));
    let mut idle = gateway.client();
    let mut begun = gateway.client();
    assert_eq!(begun.get("/").status(), 200);
    begun.send("GET /second HTTP/1.1\r\nHo");
    // Its first bytes are read before the signal comes: a later request on another connection is
    // answered after them.
    assert_eq!(gateway.get("/").status(), 200);
    gateway.process().signal(Signal::TERM);
    idle.expect_end();
    begun.send("st: a\r\n\r\n");
    let response = begun.response();
    assert_eq!(response.text(), "hello world\n");
    assert!(response.closes(), "{:?}", response.fields);
    begun.expect_end();
    assert_eq!(gateway.end().code, Some(0));
}

/// A response in chunks goes on to its end while the worker drains.
#[test]
fn a_response_in_the_middle_goes_on() {
    let gate = Gate::default();
    let inner = gate.clone();
    let upstream = Upstream::script(move |conversation| {
        if conversation.request().is_some() {
            conversation
                .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
            inner.wait();
            conversation.send("6\r\nsecond\r\n0\r\n\r\n");
        }
    });
    let mut gateway = Gateway::start(proxy(&upstream));
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut message = client.wire().head().expect("a head");
    gateway.process().signal(Signal::TERM);
    let address = gateway.address;
    eventually("nobody listens", || TcpStream::connect(address).is_err());
    gate.open();
    let framing = message.response_framing(false);
    client.wire().body(&mut message, framing).expect("the rest");
    assert_eq!(message.text(), "firstsecond");
    client.expect_end();
    assert_eq!(gateway.end().code, Some(0));
}

fn says(word: &str) -> String {
    format!(
        "routes: [{{uri: /a, plugins: {{fault-injection: {{abort: {{http_status: 200, body: {word}}}}}}}}}]\n#END\n"
    )
}

/// SIGHUP reads the routes again; connections stay, and a request in flight keeps its snapshot.
#[test]
fn sighup_publishes_new_routes() {
    let gate = Gate::default();
    let upstream = behind(&gate);
    let resources = proxy(&upstream).replace("uri: /*", "uri: /slow");
    for driver in drivers() {
        let gateway = Setup::new(resources.clone()).driver(*driver).start();
        let mut client = gateway.client();
        let mut slow = in_flight(&gateway, &upstream);
        gateway.folder().write("apisix.yaml", says("new"));
        gateway.process().signal(Signal::HUP);
        eventually("the new route answers", || gateway.get("/a").text() == "new");
        assert_eq!(client.get("/a").text(), "new");
        assert_eq!(client.get("/slow").status(), 404);
        gate.open();
        assert_eq!(slow.response().text(), "late");
    }
}

#[test]
fn a_reload_that_is_wrong_changes_nothing() {
    let setup = Setup::new(says("old").trim_end_matches("#END\n").to_owned());
    let gateway = setup.start();
    assert_eq!(gateway.get("/a").text(), "old");
    for (text, words) in [
        ("routes: [{uri: /a, plugin: {}}]\n#END\n", "did you mean `plugins`?"),
        ("routes: [{uri: /a, plugins: {no-such: {}}}]\n#END\n", "no-such"),
        ("routes: [\n", "error:"),
    ] {
        gateway.folder().write("apisix.yaml", text);
        gateway.process().signal(Signal::HUP);
        gateway.wait_for_log(words);
        assert_eq!(gateway.get("/a").text(), "old");
    }
    gateway.folder().write("apisix.yaml", says("new"));
    gateway.process().signal(Signal::HUP);
    eventually("the right file is taken", || gateway.get("/a").text() == "new");
}

/// Routes with wasm plugins come and go; confs that stay are not configured anew for nothing.
#[test]
fn a_reload_with_wasm_plugins() {
    let with = |word: &str| {
        format!(
            "routes: [{{uri: /a, plugins: {{fault: {{conf: {{http_status: 200, body: {word}}}}}}}}}]\n"
        )
    };
    let file = "dist/fault_injection_rust.wasm";
    let gateway = Setup::new(with("one")).wasm("fault", file, "").start();
    assert_eq!(gateway.get("/a").text(), "one");
    for word in ["two", "three", "one"] {
        gateway.folder().write("apisix.yaml", format!("{}#END\n", with(word)));
        gateway.process().signal(Signal::HUP);
        eventually("the new conf answers", || gateway.get("/a").text() == word);
    }
    let refused = "routes: [{uri: /a, plugins: {fault: {conf: {http_status: no}}}}]\n#END\n";
    gateway.folder().write("apisix.yaml", refused);
    gateway.process().signal(Signal::HUP);
    gateway.wait_for_log("what ran before goes on");
    assert_eq!(gateway.get("/a").text(), "one");
}

/// A closed terminal or pipe is no reason to die.
#[test]
fn sigpipe_is_nothing() {
    let gateway = Gateway::start("routes: []");
    gateway.process().signal(Signal::PIPE);
    assert_eq!(gateway.get("/").status(), 404);
}
