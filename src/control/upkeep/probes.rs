//! Active health checks (APISIX reference §5.3): each node is asked at its intervals.

use super::Tasks;
use crate::snapshot::Snapshot;
use crate::upstream::{Active, Address, Node, Probe, Report, Upstream};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// How long a node is left alone that is not probed in its state, until the state is looked at
/// again.
const PAUSE: Duration = Duration::from_secs(1);

/// Bytes in which the status line of an answer must end.
const STATUS_LINE_BYTES_MAX: usize = 1024;

/// All that run, by the upstream's key.
#[derive(Debug, Default)]
pub(super) struct Probes {
    upstreams: HashMap<String, Probed>,
}

/// The probes of one upstream.
#[derive(Debug)]
struct Probed {
    active: Active,
    targets: Vec<Target>,
    _tasks: Tasks,
}

/// A node and the Host it is asked with.
#[derive(Clone, Debug)]
struct Target {
    node: Arc<Node>,
    host: Vec<u8>,
}

impl Target {
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.node, &other.node) && self.host == other.host
    }
}

impl Probes {
    /// Probes what this snapshot wants; what is as before goes on in its rhythm.
    pub(super) fn update(&mut self, snapshot: &Snapshot, runtime: &Handle) {
        let mut before = std::mem::take(&mut self.upstreams);
        for upstream in snapshot.upkeep.iter() {
            let Some(checks) = &upstream.checks else { continue };
            let (key, targets) = (upstream.board.key(), targets(upstream));
            let kept = before.remove(key).filter(|probed| probed.is_for(&checks.active, &targets));
            let probed = kept.unwrap_or_else(|| Probed::start(&checks.active, targets, runtime));
            self.upstreams.insert(key.to_owned(), probed);
        }
    }
}

fn targets(upstream: &Upstream) -> Vec<Target> {
    let target = |peer: &crate::upstream::Peer| Target {
        node: Arc::clone(&peer.node),
        host: peer.host.clone(),
    };
    upstream.peers.iter().map(target).collect()
}

impl Probed {
    fn start(active: &Active, targets: Vec<Target>, runtime: &Handle) -> Self {
        let permits = Arc::new(Semaphore::new(active.concurrency));
        let tasks = targets.iter().map(|target| {
            let (active, target) = (active.clone(), target.clone());
            runtime.spawn(watch(target, active, Arc::clone(&permits))).abort_handle()
        });
        let tasks = Tasks(tasks.collect());
        Self { active: active.clone(), targets, _tasks: tasks }
    }

    fn is_for(&self, active: &Active, targets: &[Target]) -> bool {
        let same = |(a, b): (&Target, &Target)| a.is_same(b);
        self.active == *active
            && self.targets.len() == targets.len()
            && self.targets.iter().zip(targets).all(same)
    }
}

/// Probes one node for ever.
async fn watch(target: Target, active: Active, permits: Arc<Semaphore>) {
    loop {
        let usable = target.node.health().status.is_usable();
        let every = if usable { active.healthy_every } else { active.unhealthy_every };
        if every.is_some() {
            // The semaphore is never closed.
            let _permit = permits.acquire().await;
            if let Some(report) = probe(&target, &active).await {
                target.node.report(report, &active.thresholds);
            }
        }
        sleep(every.unwrap_or(PAUSE)).await;
    }
}

/// One probe; `None`: it says nothing.
async fn probe(target: &Target, active: &Active) -> Option<Report> {
    let address = target.node.addresses().first()?.clone();
    let address = match (address, active.port) {
        (Address::Inet(at), Some(port)) => Address::Inet(SocketAddr::new(at.ip(), port)),
        (address, _) => address,
    };
    let status = match timeout(active.timeout, ask(&address, active, &target.host)).await {
        Err(_) => return Some(Report::Timeout),
        Ok(Err(_)) => return Some(Report::TcpFailure),
        Ok(Ok(status)) => status,
    };
    match &active.probe {
        Probe::Tcp => Some(Report::Success),
        Probe::Http { statuses, .. } => statuses.report(status),
    }
}

/// The status of the answer, if one was asked for.
async fn ask(address: &Address, active: &Active, host: &[u8]) -> io::Result<u16> {
    let mut bytes = active.lead.clone();
    let asks = match &active.probe {
        Probe::Tcp => false,
        Probe::Http { request, .. } => {
            bytes.extend_from_slice(&request.bytes(host));
            true
        }
    };
    match address {
        Address::Inet(address) => exchange(TcpStream::connect(address).await?, &bytes, asks).await,
        Address::Unix(path) => exchange(UnixStream::connect(path).await?, &bytes, asks).await,
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    bytes: &[u8],
    asks: bool,
) -> io::Result<u16> {
    stream.write_all(bytes).await?;
    if !asks {
        return Ok(0);
    }
    let mut read = Vec::with_capacity(STATUS_LINE_BYTES_MAX);
    while !read.contains(&b'\n') && read.len() < STATUS_LINE_BYTES_MAX {
        if stream.read_buf(&mut read).await? == 0 {
            break;
        }
    }
    status_of(&read).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The status in a status line (RFC 9112 §4).
fn status_of(bytes: &[u8]) -> Option<u16> {
    let line = &bytes[..bytes.iter().position(|byte| *byte == b'\n')?];
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, rest) = rest.split_at_checked(3)?;
    let ends = rest.first().is_none_or(|byte| matches!(byte, b' ' | b'\r'));
    let status = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (ends && digits.iter().all(u8::is_ascii_digit) && status >= 100).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        for (line, status) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.0 503\r\nA: b", Some(503)),
            ("HTTP/1.1 404 \n", Some(404)),
            ("HTTP/1.1 200 OK", None),
            ("HTTP/1.1 2000 OK\r\n", None),
            ("HTTP/1.1 +20 OK\r\n", None),
            ("HTTP/1.1 20\r\n", None),
            ("HTTP/1.1 099 x\r\n", None),
            ("HTTP/2 200\r\n", None),
            ("SSH-2.0-x\r\n", None),
            ("\n", None),
            ("", None),
        ] {
            assert_eq!(status_of(line.as_bytes()), status, "{line:?}");
        }
    }
}
