//! Clients that are gone before they have their answers.

use crate::harness::{Gateway, Setup, Upstream, drivers, eventually};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Asks are never answered, but those for `/hello`.
fn silent() -> Upstream {
    Upstream::script(|conversation| {
        while let Some(request) = conversation.request() {
            if request.target() != "/hello" {
                conversation.stall();
                conversation.ended();
                return;
            }
            conversation.answer("hello");
        }
    })
}

/// A route of each kind: one waits for the upstream, one in a plugin.
fn resources(upstream: &Upstream) -> String {
    let upstream = format!(
        "upstream: {{timeout: {{connect: 5, send: 5, read: 600}}, nodes: {{\"{}\": 1}}}}",
        upstream.node()
    );
    format!(
        "routes:
  - {{id: held, uri: /held, plugins: {{fault-injection: {{delay: {{duration: 600}}}}}}, {upstream}}}
  - {{id: r, uri: /*, plugins: {{limit-conn: {{conn: 1, burst: 0, default_conn_delay: 0.1,
      key: remote_addr}}}}, {upstream}}}"
    )
}

const GET: &str = "GET /silent HTTP/1.1\r\nHost: a\r\n\r\n";

/// The status in the metrics of a route is there so many times.
fn counted(gateway: &Gateway, route: &str, times: f64) {
    let sample = format!("apisix_http_status{{code=\"499\",route=\"{route}\",service=\"\"}}");
    eventually("the client that left is counted", || gateway.metric(&sample) == Some(times));
}

/// What a client that reset its connection held is free again: the upstream's connection, the
/// place in a limit. What it sent behind its request does not hide that it left.
#[test]
fn a_reset_ends_the_request() {
    for driver in drivers() {
        let upstream = silent();
        let setup = Setup::new(resources(&upstream)).driver(*driver).metrics();
        let file = setup.folder().path().join("a.log");
        let gateway = setup.http(&format!("access_log: {}", file.display())).start();
        for (before, behind) in ["", "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"].iter().enumerate() {
            let mut client = gateway.client();
            client.send(GET);
            eventually("the request is at the upstream", || upstream.requests().len() > before);
            assert_eq!(gateway.get("/hello").status(), 503, "its place is taken");
            client.send(behind);
            client.into_wire().reset();
            eventually("the upstream's connection ends", || upstream.ended() > before);
        }
        assert_eq!(gateway.get("/hello").text(), "hello");
        counted(&gateway, "r", 2.0);
        eventually("both are in the access log", || {
            let log = std::fs::read_to_string(&file).unwrap_or_default();
            let left = |line: &&str| {
                line.contains("\"status\":499")
                    && line.contains("\"details\":\"downstream_remote_disconnect\"")
            };
            log.lines().filter(left).count() == 2
        });
    }
}

#[test]
fn a_reset_ends_what_a_plugin_holds() {
    for driver in drivers() {
        let upstream = silent();
        let gateway = Setup::new(resources(&upstream)).driver(*driver).metrics().start();
        let mut client = gateway.client();
        client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
        // Its request is read when a later one is answered.
        assert_eq!(gateway.get("/hello").status(), 200);
        client.into_wire().reset();
        counted(&gateway, "held", 1.0);
    }
}

/// On a unix socket a close is told from a half-close.
#[test]
fn a_close_of_a_unix_socket_ends_the_request() {
    for driver in drivers() {
        let upstream = silent();
        let setup = Setup::new(resources(&upstream)).driver(*driver);
        let path = setup.folder().path().join("gateway.sock");
        let listen =
            format!("listen: [{{address: 'unix:{}'}}, {{address: '127.0.0.1:0'}}]", path.display());
        let _gateway = setup.ringgate(&listen).start();
        let mut client = UnixStream::connect(&path).expect("the gateway listens there");
        client.write_all(GET.as_bytes()).expect("sent");
        eventually("the request is at the upstream", || upstream.requests().len() == 1);
        drop(client);
        eventually("the upstream's connection ends", || upstream.ended() == 1);
    }
}

/// A client that only ended its side waits for its answer, however often it is looked at.
#[test]
fn a_half_closed_client_is_waited_for() {
    for driver in drivers() {
        let upstream = Upstream::script(|conversation| {
            while conversation.request().is_some() {
                std::thread::sleep(Duration::from_millis(2_500));
                conversation.answer("late");
            }
        });
        let gateway = Setup::new(resources(&upstream)).driver(*driver).start();
        let mut client = gateway.client();
        client.send(GET.repeat(2));
        client.wire().end_sending();
        assert_eq!(client.response().text(), "late");
        assert_eq!(client.response().text(), "late");
        client.expect_end();
    }
}
