//! A thousand connections, and clients that behave badly in numbers.

use crate::harness::{Client, Gateway, Setup, Upstream, drivers};
use std::net::SocketAddr;

fn resources(upstream: &Upstream) -> String {
    format!(
        "routes:
  - {{uri: /local, plugins: {{fault-injection: {{abort: {{http_status: 200, body: local}}}}}}}}
  - {{uri: /wasm, plugins: {{fault: {{conf: {{http_status: 200, body: wasm}}}}}}}}
  - {{uri: /*, upstream: {{nodes: {{\"{}\": 1}}}}}}",
        upstream.node()
    )
}

fn start(upstream: &Upstream, setup: impl FnOnce(Setup) -> Setup) -> Gateway {
    let setup = setup(Setup::new(resources(upstream)).workers(2));
    setup.wasm("fault", "dist/fault_injection_c.wasm", "").start()
}

/// This process needs a descriptor for each connection, and so does the gateway, which inherits it.
fn allow_descriptors(wanted: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        let most = maximum.map_or(wanted, |maximum| maximum.min(wanted));
        // Where that is not allowed the connections below say so.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum });
    }
}

#[test]
fn a_thousand_connections_stay_and_are_served() {
    allow_descriptors(8192);
    for driver in drivers() {
        let upstream = Upstream::hello();
        let gateway = start(&upstream, |setup| setup.driver(*driver));
        let mut clients: Vec<_> = (0..1000).map(|_| gateway.client()).collect();
        for round in 0..2 {
            for (path, wanted) in [("/local", "local"), ("/wasm", "wasm")] {
                for client in &mut clients {
                    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
                }
                for client in &mut clients {
                    assert_eq!(client.response().text(), wanted, "round {round}");
                }
            }
        }
        for clients in clients.chunks_mut(100) {
            for client in clients.iter_mut() {
                client.send("GET /up HTTP/1.1\r\nHost: a\r\n\r\n");
            }
            for client in clients {
                assert_eq!(client.response().text(), "hello world\n");
            }
        }
        let connections = upstream.connections();
        assert!(connections <= 200, "{connections} upstream connections for 100 at a time");
    }
}

/// Threads that each ask many times, with all ways to answer mixed.
#[test]
fn nothing_fails_under_load() {
    for driver in drivers() {
        let upstream = Upstream::hello();
        let gateway = start(&upstream, |setup| setup.driver(*driver));
        let address = gateway.address;
        let threads: Vec<_> =
            (0..16).map(|number| std::thread::spawn(move || ask_many(address, number))).collect();
        for thread in threads {
            thread.join().expect("no request failed");
        }
    }
}

fn ask_many(address: SocketAddr, number: usize) {
    let wanted = [("/local", "local"), ("/wasm", "wasm"), ("/up", "hello world\n")];
    let mut client = Client::connect(address);
    for round in 0..300 {
        let (path, body) = wanted[(number + round) % wanted.len()];
        let response = client.get(path);
        assert_eq!((response.status(), response.text().as_str()), (200, body));
        if round % 50 == 49 {
            client = Client::connect(address);
        }
    }
}

/// Clients that hang up anywhere: the gateway forgets them.
#[test]
fn clients_that_hang_up() {
    let upstream = Upstream::hello();
    let gateway = start(&upstream, |setup| setup);
    let request = "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    for round in 0..200 {
        let mut client = gateway.client();
        client.send(&request[..(round * 7) % request.len()]);
        if round % 2 == 0 {
            client.into_wire().reset();
        }
    }
    assert_eq!(gateway.get("/up").text(), "hello world\n");
    assert_eq!(gateway.stop().code, Some(0));
}

/// A thousand requests in one write, and the client reads only after all were sent.
#[test]
fn a_thousand_pipelined_requests() {
    for driver in drivers() {
        let upstream = Upstream::hello();
        let gateway = start(&upstream, |setup| setup.driver(*driver));
        let mut client = gateway.client();
        let mut all = String::new();
        for number in 0..1000 {
            let path = ["/local", "/wasm", "/up"][number % 3];
            all.push_str(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        }
        client.send(all);
        for number in 0..1000 {
            let wanted = ["local", "wasm", "hello world\n"][number % 3];
            assert_eq!(client.response().text(), wanted, "{number}");
        }
    }
}
