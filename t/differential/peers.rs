//! Those that the same bytes are sent to, and the upstream that records what they make of them.

use super::naive::{self, Request, Rules, Verdict};
use crate::harness::{Cut, DEADLINE, Gateway, HaProxy, Nginx, Wire, eventually};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long somebody may be silent who may wait for more.
const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Records {
    opened: AtomicUsize,
    closed: AtomicUsize,
    /// All bytes of each connection.
    connections: Mutex<Vec<Vec<u8>>>,
}

impl Records {
    /// A place for one more connection: the order is that of their beginnings.
    fn place(&self) -> usize {
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Vec::new());
        all.len() - 1
    }

    fn keep(&self, place: usize, bytes: Vec<u8>) {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)[place] = bytes;
    }
}

/// An upstream that answers the first request of each connection, then closes, and keeps every byte
/// that it was sent.
pub(super) struct Recorder {
    pub(super) address: SocketAddr,
    records: Arc<Records>,
}

impl Recorder {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let records = Arc::new(Records::default());
        let shared = Arc::clone(&records);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.opened.fetch_add(1, Ordering::AcqRel);
                let (records, place) = (Arc::clone(&shared), shared.place());
                std::thread::spawn(move || {
                    let bytes = record(stream);
                    records.keep(place, bytes);
                    records.closed.fetch_add(1, Ordering::AcqRel);
                });
            }
        });
        Self { address, records }
    }

    /// What came since it was last asked, once nobody sends any more.
    pub(super) fn take(&self) -> Vec<Vec<u8>> {
        let records = &self.records;
        eventually("the upstream's connections end", || {
            records.opened.load(Ordering::Acquire) == records.closed.load(Ordering::Acquire)
        });
        std::mem::take(&mut records.connections.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn record(mut stream: TcpStream) -> Vec<u8> {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    let mut answered = false;
    while let Ok(count) = stream.read(&mut piece)
        && count > 0
    {
        bytes.extend_from_slice(&piece[..count]);
        if !answered && matches!(naive::read(&bytes, Rules::lenient()), Verdict::Whole(_)) {
            answered = true;
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
            let _ = stream.write_all(answer.as_bytes());
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
    bytes
}

/// One of those that are compared, with an upstream of its own.
pub(super) struct Peer {
    pub(super) name: &'static str,
    address: SocketAddr,
    upstream: Recorder,
    _runs: Runs,
}

/// Kept for as long as it runs.
#[expect(dead_code, reason = "they stop when they are dropped")]
enum Runs {
    Ringgate(Gateway),
    Nginx(Nginx),
    HaProxy(HaProxy),
}

/// What a peer made of some bytes.
pub(super) struct Made {
    /// All bytes of each connection to the upstream.
    pub(super) raw: Vec<Vec<u8>>,
    /// What it answered.
    pub(super) answered: String,
}

impl Made {
    /// The requests that went upstream whole.
    pub(super) fn forwarded(&self) -> Vec<(String, Vec<u8>)> {
        let whole = |raw: &Vec<u8>| match naive::read(raw, Rules::default()) {
            Verdict::Whole(Request { target, body, .. }) => Some((target, body)),
            _ => None,
        };
        self.raw.iter().filter_map(whole).collect()
    }
}

impl Peer {
    pub(super) fn ringgate() -> Self {
        let upstream = Recorder::start();
        let node = upstream.address;
        let gateway = Gateway::start(format!(
            "routes: [{{uris: [/*, '*'], upstream: {{nodes: {{\"{node}\": 1}}}}}}]"
        ));
        let address = gateway.address;
        Self { name: "ringgate", address, upstream, _runs: Runs::Ringgate(gateway) }
    }

    pub(super) fn nginx() -> Option<Self> {
        let upstream = Recorder::start();
        let nginx = Nginx::start(&format!(
            "location / {{ proxy_pass http://{}; proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\"; proxy_request_buffering off;\n\
             proxy_ignore_client_abort on; proxy_next_upstream off; }}",
            upstream.address
        ))?;
        Some(Self { name: "nginx", address: nginx.address, upstream, _runs: Runs::Nginx(nginx) })
    }

    pub(super) fn haproxy() -> Option<Self> {
        let upstream = Recorder::start();
        let server = format!("retries 0\n  server s {}", upstream.address);
        let haproxy = HaProxy::start("", &server)?;
        // The connection that tried it.
        drop(upstream.take());
        let address = haproxy.address;
        Some(Self { name: "HAProxy", address, upstream, _runs: Runs::HaProxy(haproxy) })
    }

    /// Sends the bytes and waits for the end of the connection. Whoever waits for more is told that
    /// there is none, but not at once: some take the end of one side for the end of both.
    pub(super) fn ask(&self, bytes: &[u8]) -> Made {
        let mut wire = Wire::connect(self.address);
        // Whoever refuses early may have closed already.
        let _ = wire.send(bytes);
        wire.wait_at_most(PATIENCE);
        let (mut answered, mut cut) = wire.rest();
        if cut == Cut::Late {
            wire.end_sending();
            wire.wait_at_most(DEADLINE);
            let (more, end) = wire.rest();
            answered.extend(more);
            cut = end;
        }
        assert_ne!(cut, Cut::Late, "{} neither answers nor closes", self.name);
        let answered = String::from_utf8_lossy(&answered).into_owned();
        Made { raw: self.upstream.take(), answered }
    }
}
