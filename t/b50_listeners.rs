//! Where the gateway listens, and who its connections are from.

use crate::harness::{Client, Cut, Gateway, Setup, drivers, eventually, ringgate};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Answers with who asks, as far as the gateway knows.
const WHO: &str = r#"
routes:
  - uri: /who
    plugins:
      fault-injection:
        abort:
          http_status: 200
          body: '$remote_addr $remote_port $server_addr $server_port $proxy_protocol_addr'
  - uri: /inside
    plugins: {ip-restriction: {whitelist: [192.0.2.0/24]}}
    upstream: {nodes: {"127.0.0.1:1": 1}}
"#;

const GET: &str = "GET /who HTTP/1.1\r\nHost: a\r\n\r\n";

/// The addresses that a gateway says it listens on, in their order.
fn addresses(gateway: &Gateway, count: usize) -> Vec<String> {
    let seen = RefCell::new(Vec::new());
    let all = gateway.process().wait_for_output(|line| {
        let rest = line.strip_prefix("ringgate: listening on ")?;
        let address = rest.split(' ').next()?.trim_start_matches("http://").to_owned();
        let mut seen = seen.borrow_mut();
        if !seen.contains(&address) {
            seen.push(address);
        }
        (seen.len() == count).then(|| seen.clone())
    });
    all.expect("all listeners listen in time")
}

pub(crate) fn second(gateway: &Gateway) -> SocketAddr {
    addresses(gateway, 2)[1].parse().expect("an address")
}

fn proxied() -> Setup {
    Setup::new(WHO).ringgate("listen: [{address: '127.0.0.1:0', proxy_protocol: true}]")
}

/// A request over a unix socket, and the bytes that answer it.
fn ask_unix(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("the gateway listens there");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a deadline");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer and an end");
    answer
}

#[test]
fn several_addresses() {
    let six = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    for driver in drivers() {
        let setup = Setup::new(WHO).driver(*driver).workers(2);
        let path = setup.folder().path().join("gateway.sock");
        let six = if six { "{address: '[::1]:0', nodelay: false}, " } else { "" };
        let gateway = setup
            .ringgate(&format!(
                "listen: [{six}{{address: 'unix:{}', mode: \"0600\"}}, {{address: '127.0.0.1:0', \
                 backlog: 16, fastopen: 16, defer_accept: 1s, keepalive: {{idle: 30s}}}}]",
                path.display()
            ))
            .start();
        let all = addresses(&gateway, if six.is_empty() { 3 } else { 4 });
        for address in &all {
            let Ok(address) = address.parse::<SocketAddr>() else { continue };
            let answer = Client::connect(address).get("/who").text();
            let wanted = format!("{} {} ", address.ip(), address.port());
            let (peer, rest) = answer.split_once(' ').expect("words");
            assert_eq!(peer, address.ip().to_string());
            assert!(rest.split_once(' ').expect("words").1.starts_with(&wanted), "{answer}");
        }
        assert!(all.contains(&format!("unix:{}", path.display())), "{all:?}");
        let close = "GET /who HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answer = ask_unix(&path, close);
        assert!(answer.ends_with("\r\n\r\n127.0.0.1 0 127.0.0.1 0 "), "{answer:?}");
        let mode = path.symlink_metadata().expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(gateway.stop().code, Some(0));
    }
}

#[test]
fn a_unix_socket_is_nobody_elses() {
    let setup = Setup::new(WHO);
    let path = setup.folder().path().join("gateway.sock");
    let line = format!("listen: [{{address: 'unix:{}'}}]", path.display());
    let mut first = setup.ringgate(&line).start();
    let second = Setup::new(WHO).ringgate(&line);
    let ended = ringgate(["run", "-c", &second.write_path()]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("gateway.sock is in use"), "{ended:?}");
    // One that was killed leaves its file behind.
    first.process().signal(rustix::process::Signal::KILL);
    first.end();
    assert!(path.exists());
    // Its ring had an accept running, and the kernel ends that after the process.
    eventually("nobody listens", || UnixStream::connect(&path).is_err());
    let _gateway = second.start();
    let answer = ask_unix(&path, "GET /who HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
}

/// `192.0.2.1:4000` to `198.51.100.2:80`.
const LINE: &str = "PROXY TCP4 192.0.2.1 198.51.100.2 4000 80\r\n";

fn table(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let [high, low] = (body.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family, high, low][..], body].concat()
}

#[test]
fn clients_are_who_the_proxy_says() {
    let four = [192, 0, 2, 7, 198, 51, 100, 2, 0x0f, 0xa0, 0, 80];
    let named = |peer: &str| format!("{peer} 4000 198.51.100.2 80 {peer}");
    let table = [
        (LINE.as_bytes().to_vec(), Some(named("192.0.2.1"))),
        (table(0x21, 0x11, &four), Some(named("192.0.2.7"))),
        (table(0x21, 0x11, &[&four[..], &[4, 0, 1, 0]].concat()), Some(named("192.0.2.7"))),
        (b"PROXY TCP6 2001:db8::1 ::1 5 6\r\n".to_vec(), {
            Some("2001:db8::1 5 ::1 6 2001:db8::1".to_owned())
        }),
        // The proxy itself: what the socket says.
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (table(0x20, 0, b""), None),
    ];
    for driver in drivers() {
        let gateway = proxied().driver(*driver).start();
        let address = second(&gateway);
        for (header, wanted) in &table {
            let request = [header, GET.as_bytes(), GET.as_bytes()].concat();
            // In one piece, and byte by byte.
            let mut client = Client::connect(address);
            client.send(&request);
            let mut slow = Client::connect(address);
            for byte in &request {
                slow.send([*byte]);
            }
            for answer in [client.response(), client.response(), slow.response(), slow.response()] {
                let text = answer.text();
                match wanted {
                    Some(wanted) => assert_eq!(&text, wanted),
                    None => assert!(text.starts_with("127.0.0.1 "), "{text}"),
                }
            }
            // It holds for the whole connection.
            assert_eq!(client.get("/who").status(), 200);
        }
        let mut inside = Client::connect(address);
        inside.send(LINE);
        assert_eq!(inside.get("/inside").status(), 502, "{driver:?}: it gets through");
        let mut outside = Client::connect(address);
        outside.send("PROXY TCP4 203.0.113.1 198.51.100.2 4000 80\r\n");
        assert_eq!(outside.get("/inside").status(), 403);
    }
}

#[test]
fn without_a_header_there_is_no_request() {
    let mut bad = table(0x21, 0x11, &[0; 11]);
    bad.extend_from_slice(GET.as_bytes());
    let wrong: [&[u8]; 7] = [
        GET.as_bytes(),
        b"PROXY TCP4 192.0.2.1 198.51.100.2 4000\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 4000 80\nGET /who HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 4000 80 \r\n",
        b"\x16\x03\x01\x02\x00",
        &bad,
        &[b'x'; 5000],
    ];
    for driver in drivers() {
        let gateway = proxied().metrics().driver(*driver).start();
        let address = second(&gateway);
        for bytes in wrong {
            let mut client = Client::connect(address);
            // The gateway may hang up before everything was sent.
            let _ = client.wire().send(bytes);
            let (rest, _) = client.wire().rest();
            assert_eq!(rest, b"", "{:?}", String::from_utf8_lossy(bytes));
        }
        // A second header is no request either.
        let mut client = Client::connect(address);
        client.send(format!("{LINE}{LINE}"));
        assert_eq!(client.response().status(), 400);
        // And on other listeners a header is none.
        assert_eq!(gateway.ask(LINE).status(), 400);
        gateway.wait_for_log("does not begin with a PROXY protocol header");
        let refused = gateway.metric("ringgate_worker_refused_total{worker=\"0\"}");
        assert_eq!(refused, Some(wrong.len() as f64 + 2.0));
    }
}

/// One that begins has the time of a head; without a byte the connection is idle.
#[test]
fn a_header_that_does_not_come_is_given_up() {
    for driver in drivers() {
        let setup = proxied().http("client_header_timeout: 300ms").driver(*driver);
        let config = setup.write_with("keepalive_timeout: 60s", "keepalive_timeout: 500ms");
        let gateway = setup.start_written(&config);
        let address = second(&gateway);
        for begun in ["", "P", "PROXY TCP4 "] {
            let since = Instant::now();
            let mut client = Client::connect(address);
            client.send(begun);
            let (rest, cut) = client.wire().rest();
            assert!(rest.is_empty() && cut != Cut::Late, "{begun:?}: {cut:?}");
            assert!(since.elapsed() < Duration::from_secs(10));
        }
    }
}

#[test]
fn apisixs_key_for_it() {
    let setup = Setup::new(WHO);
    let port = {
        let free = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        free.local_addr().expect("an address").port()
    };
    let from = "apisix:\n";
    let to = format!("apisix:\n  proxy_protocol: {{listen_http_port: {port}}}\n");
    let config = setup.write_with(from, &to);
    let gateway = setup.start_written(&config);
    let mut client = Client::connect(([127, 0, 0, 1], port).into());
    client.send(LINE);
    let answer = client.get("/who").text();
    assert_eq!(answer, "192.0.2.1 4000 198.51.100.2 80 192.0.2.1");
    assert_eq!(gateway.get("/who").status(), 200);
}
