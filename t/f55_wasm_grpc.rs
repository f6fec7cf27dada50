//! gRPC calls of plugins (`t/plugins/grpc.wat`) to a real gRPC server: Python's `grpcio`.

use crate::harness::{Gateway, GrpcEcho, Refusing, Setup, Upstream, drivers, eventually};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// An HTTP/2 peer that takes ten bytes of each stream and no more, and counts streams that are
/// reset.
fn takes_ten_bytes() -> (String, Arc<AtomicUsize>) {
    let resets = Arc::<AtomicUsize>::default();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let node = listener.local_addr().expect("an address").to_string();
    listener.set_nonblocking(true).expect("for tokio");
    let counted = Arc::clone(&resets);
    let serve = async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        while let Ok((socket, _)) = listener.accept().await {
            let mut settings = h2::server::Builder::new();
            let shaken =
                settings.initial_window_size(10).handshake::<_, bytes::Bytes>(socket).await;
            let mut connection = shaken.expect("HTTP/2");
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let counted = Arc::clone(&counted);
                    tokio::spawn(async move {
                        let _unread = request.into_body();
                        if poll_fn(|cx| respond.poll_reset(cx)).await.is_ok() {
                            counted.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
        }
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(serve);
    });
    (node, resets)
}

/// What a peer does not take of a call that is over must not wait for it for ever.
#[test]
fn a_call_that_is_over_is_reset_though_its_message_waits() {
    for driver in drivers() {
        let (service, resets) = takes_ten_bytes();
        let upstream = Upstream::hello();
        let gateway = start(*driver, &upstream, &service);
        let response = gateway.get("/unary/a-message-of-more-than-ten-bytes");
        assert_eq!(response.status(), 502);
        eventually("its stream is reset", || resets.load(Ordering::Relaxed) == 1);
    }
}
