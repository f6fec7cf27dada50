//! Nodes that are names, and nodes that are unix sockets.

use crate::harness::{Folder, Gateway, Setup, Upstream, drivers, eventually};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A name server that knows one thing: the addresses of every name.
struct NameServer {
    address: SocketAddr,
    addresses: Arc<Mutex<Vec<Ipv4Addr>>>,
}

impl NameServer {
    fn new(addresses: &[Ipv4Addr]) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = socket.local_addr().expect("an address");
        let addresses = Arc::new(Mutex::new(addresses.to_vec()));
        let known = Arc::clone(&addresses);
        // It ends with the test's process: nobody can tell it that the test is over.
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((len, peer)) = socket.recv_from(&mut buffer) {
                let answer = answer(&buffer[..len], &known.lock().expect("no panic"));
                // A client that is gone needs no answer.
                let _ = socket.send_to(&answer, peer);
            }
        });
        Self { address, addresses }
    }

    fn set(&self, addresses: &[Ipv4Addr]) {
        *self.addresses.lock().expect("no panic") = addresses.to_vec();
    }

    fn setup(&self, resources: String) -> Setup {
        let dns = format!("dns_resolver: [\"{}\"]", self.address);
        Setup::new(resources).apisix(&dns)
    }
}

/// The answer to a question of type A, with a TTL of a second; of other types: nothing there
/// (RFC 1035 §4.1).
fn answer(query: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    let mut end = 12;
    while query[end] != 0 {
        end += 1 + usize::from(query[end]);
    }
    end += 1;
    let is_a = query[end..end + 2] == [0, 1];
    let addresses = if is_a { addresses } else { &[] };
    let rcode = if is_a && addresses.is_empty() { 3 } else { 0 };
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80 | rcode, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]);
    answer.extend(&query[12..end + 4]);
    for address in addresses {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// An upstream at each of two addresses of this host, on the same port; they say which they are.
fn two_on_one_port() -> [Upstream; 2] {
    let saying = |listener: TcpListener, body: &'static str| {
        Upstream::on(listener, move |conversation| {
            while conversation.request().is_some() {
                conversation.answer(body);
            }
        })
    };
    loop {
        let first = TcpListener::bind((FIRST, 0)).expect("a port");
        let port = first.local_addr().expect("an address").port();
        if let Ok(second) = TcpListener::bind((SECOND, port)) {
            return [saying(first, "first"), saying(second, "second")];
        }
    }
}

fn to_name(port: u16) -> String {
    format!(
        "routes: [{{uri: /*, upstream: {{pass_host: node, nodes: {{\"node.test:{port}\": 1}}}}}}]"
    )
}

#[test]
fn names_are_resolved_again_when_their_time_is_over() {
    let upstreams = two_on_one_port();
    let server = NameServer::new(&[FIRST]);
    let port = upstreams[0].address.port();
    let gateway = server.setup(to_name(port)).start();
    assert_eq!(gateway.get("/").text(), "first");
    let host = format!("node.test:{port}");
    assert_eq!(upstreams[0].request().field("host"), Some(host.as_str()));
    server.set(&[SECOND]);
    eventually("the new address is taken", || gateway.get("/").text() == "second");
    // A name server that lost the name takes nothing away.
    server.set(&[]);
    gateway.wait_for_log("can't be resolved; its nodes stay as they are");
    assert_eq!(gateway.get("/").text(), "second");
    server.set(&[FIRST, SECOND]);
    eventually("both are used", || {
        let mut answers = [gateway.get("/").text(), gateway.get("/").text()];
        answers.sort_unstable();
        answers == ["first", "second"]
    });
}

#[test]
fn a_name_that_comes_later_is_found() {
    let upstreams = two_on_one_port();
    let server = NameServer::new(&[]);
    let gateway = server.setup(to_name(upstreams[0].address.port())).start();
    gateway.wait_for_log("the name node.test can't be resolved");
    assert_eq!(gateway.get("/").status(), 502);
    server.set(&[FIRST]);
    eventually("it has an address", || gateway.get("/").status() == 200);
}

/// Answers every request with its Host, over a unix socket.
fn over_a_socket(folder: &Folder) -> String {
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let (mut input, mut buffer) = (Vec::new(), [0; 4096]);
                loop {
                    let end = input.windows(4).position(|four| four == b"\r\n\r\n");
                    if let Some(end) = end {
                        let head = String::from_utf8_lossy(&input[..end]).into_owned();
                        input.drain(..end + 4);
                        let host = head.lines().find_map(|line| line.strip_prefix("Host: "));
                        let body = host.expect("a Host");
                        let length = body.len();
                        let answer =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                        continue;
                    }
                    match stream.read(&mut buffer) {
                        Ok(len) if len > 0 => input.extend_from_slice(&buffer[..len]),
                        _ => return,
                    }
                }
            });
        }
    });
    path.to_str().expect("a path of text").to_owned()
}

#[test]
fn nodes_may_be_unix_sockets() {
    for driver in drivers() {
        let folder = Folder::new();
        let path = over_a_socket(&folder);
        let checks = "checks: {active: {healthy: {interval: 1}}}";
        let text = format!(
            "routes:\n  - {{uri: /*, upstream: {{{checks}, nodes: {{\"unix:{path}\": 1}}}}}}\n  \
             - {{uri: /node, upstream: {{pass_host: node, nodes: [{{host: \"unix:{path}\", \
             weight: 1}}]}}}}\n  \
             - {{uri: /none, upstream: {{nodes: {{\"unix:{path}.none\": 1}}}}}}"
        );
        let gateway = Setup::new(text).driver(*driver).start();
        let mut client = gateway.client();
        for _ in 0..20 {
            assert_eq!(client.get("/").text(), "test.local");
            assert_eq!(client.get("/node").text(), "localhost");
        }
        assert_eq!(client.get("/none").status(), 502);
        gateway.wait_for_log("No such file or directory");
    }
}

/// A node that does not answer a lookup holds nobody up: the gateway starts without it.
#[test]
fn a_silent_name_server_is_not_waited_for_long() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let (address, upstream) = (silent.local_addr().expect("an address"), Upstream::hello());
    let text = format!(
        "routes: [{{uri: /*, upstream: {{nodes: {{\"gone.test\": 1, \"{}\": 1}}}}}}]",
        upstream.node()
    );
    let dns = format!("dns_resolver: [\"{address}\"]");
    let start = std::time::Instant::now();
    let gateway: Gateway = Setup::new(text).apisix(&dns).apisix("resolver_timeout: 1").start();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    (0..4).for_each(|_| assert_eq!(gateway.get("/").status(), 200));
}
