//! gRPC calls of plugins (`t/plugins/grpc.wat`) to a real gRPC server: Python's `grpcio`.

use crate::harness::{Gateway, GrpcEcho, Refusing, Setup, Upstream, drivers};

fn start(driver: crate::harness::Driver, upstream: &Upstream, service: &str) -> Gateway {
    let node = upstream.node();
    Setup::new(format!(
        "upstreams: [{{id: echo, nodes: {{\"{service}\": 1}}}}]
routes:
  - {{uri: /*, plugins: {{grpc: {{conf: echo}}}}, upstream: {{nodes: {{\"{node}\": 1}}}}}}"
    ))
    .wasm("grpc", "t/plugins/grpc.wat", "")
    .driver(driver)
    .start()
}

#[test]
fn calls_and_streams() {
    let Some(echo) = GrpcEcho::start() else { return };
    for driver in drivers() {
        let upstream = Upstream::hello();
        let gateway = start(*driver, &upstream, &echo.node());
        let mut client = gateway.client();
        for _ in 0..5 {
            for (path, status, body) in [
                ("/unary/hello", 200, "echo hello guest|"),
                ("/unary/", 200, "echo  guest|"),
                // Status 5, NOT_FOUND, with its words decoded.
                ("/unary/fail", 502, "no such thing: 100%f"),
                ("/stream", 200, "1|echo one|echo two|2|a"),
                ("/cancel", 200, "hello world\n"),
            ] {
                let response = client.get(path);
                assert_eq!((response.status(), response.text().as_str()), (status, body), "{path}");
            }
        }
    }
}

#[test]
fn a_call_that_takes_too_long_ends_at_its_deadline() {
    let Some(echo) = GrpcEcho::start() else { return };
    let upstream = Upstream::hello();
    let gateway = start(drivers()[0], &upstream, &echo.node());
    let response = gateway.get("/unary/slow");
    assert_eq!(response.status(), 502);
    // Status 4, DEADLINE_EXCEEDED, from whoever noticed first.
    assert!(response.text().ends_with('e'), "{}", response.text());
    assert_eq!(gateway.get("/unary/quick").text(), "echo quick guest|");
}

#[test]
fn a_service_that_is_none_is_unavailable() {
    let refusing = Refusing::new();
    let http1 = Upstream::hello();
    let closes = Upstream::script(|_| {});
    for driver in drivers() {
        for (what, node) in
            [("refuses", refusing.node()), ("HTTP/1.1", http1.node()), ("closes", closes.node())]
        {
            let upstream = Upstream::hello();
            let gateway = start(*driver, &upstream, &node);
            for path in ["/unary/x", "/stream"] {
                let response = gateway.get(path);
                assert_eq!(response.status(), 502, "{what} {path}");
                // Status 14, UNAVAILABLE.
                assert!(response.text().ends_with('o'), "{what} {path}: {}", response.text());
            }
        }
    }
}
