//! Active health checks (APISIX reference §5.3): each node is asked at its intervals.

use super::Tasks;
use super::tls::{Connectors, server_name};
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
use tokio_rustls::TlsConnector;

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
    /// `trusted`: who may sign the certificates of nodes.
    pub(super) fn update(&mut self, snapshot: &Snapshot, runtime: &Handle, trusted: &[String]) {
        let mut connectors = Connectors::new(trusted);
        let mut before = std::mem::take(&mut self.upstreams);
        for upstream in snapshot.upkeep.iter() {
            let Some(checks) = &upstream.checks else { continue };
            let (key, targets) = (upstream.board.key(), targets(upstream));
            let kept = before.remove(key).filter(|probed| probed.is_for(&checks.active, &targets));
            let probed = kept.unwrap_or_else(|| {
                let tls = match &checks.active.probe {
                    Probe::Http { tls: Some(tls), .. } => Some(connectors.get(tls.verify)),
                    _ => None,
                };
                Probed::start(&checks.active, tls, targets, runtime)
            });
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
    fn start(
        active: &Active,
        tls: Option<TlsConnector>,
        targets: Vec<Target>,
        runtime: &Handle,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(active.concurrency));
        let tasks = targets.iter().map(|target| {
            let prober =
                Prober { target: target.clone(), active: active.clone(), tls: tls.clone() };
            runtime.spawn(prober.watch(Arc::clone(&permits))).abort_handle()
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

/// What probes one node.
struct Prober {
    target: Target,
    active: Active,
    tls: Option<TlsConnector>,
}

impl Prober {
    /// Goes on for ever.
    async fn watch(self, permits: Arc<Semaphore>) {
        let Self { target, active, .. } = &self;
        loop {
            let usable = target.node.health().status.is_usable();
            let every = if usable { active.healthy_every } else { active.unhealthy_every };
            if every.is_some() {
                // The semaphore is never closed.
                let _permit = permits.acquire().await;
                if let Some(report) = self.probe().await {
                    target.node.report(report, &active.thresholds);
                }
            }
            sleep(every.unwrap_or(PAUSE)).await;
        }
    }

    /// One probe; `None`: it says nothing.
    async fn probe(&self) -> Option<Report> {
        let address = self.target.node.addresses().first()?.clone();
        let address = match (address, self.active.port) {
            (Address::Inet(at), Some(port)) => Address::Inet(SocketAddr::new(at.ip(), port)),
            (address, _) => address,
        };
        let status = match timeout(self.active.timeout, self.ask(&address)).await {
            Err(_) => return Some(Report::Timeout),
            Ok(Err(_)) => return Some(Report::TcpFailure),
            Ok(Ok(status)) => status,
        };
        match &self.active.probe {
            Probe::Tcp => Some(Report::Success),
            Probe::Http { statuses, .. } => statuses.report(status),
        }
    }

    /// The status of the answer, if one was asked for.
    async fn ask(&self, address: &Address) -> io::Result<u16> {
        match address {
            Address::Inet(address) => self.speak(TcpStream::connect(address).await?).await,
            Address::Unix(path) => self.speak(UnixStream::connect(path).await?).await,
        }
    }

    async fn speak<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S) -> io::Result<u16> {
        let lead = &self.active.lead;
        let Probe::Http { request, .. } = &self.active.probe else {
            return stream.write_all(lead).await.map(|()| 0);
        };
        let bytes = request.bytes(&self.target.host);
        let Some(connector) = &self.tls else {
            return exchange(stream, &[&lead[..], &bytes].concat()).await;
        };
        stream.write_all(lead).await?;
        let name = server_name(request.host_for(&self.target.host))?;
        match connector.connect(name, stream).await {
            Ok(stream) => exchange(stream, &bytes).await,
            Err(error) => {
                self.tell(&error);
                Err(error)
            }
        }
    }

    /// Says what is wrong with TLS, which its state alone does not tell, until that has changed.
    fn tell(&self, error: &io::Error) {
        let node = &self.target.node;
        if node.health().status.is_usable() {
            log::warn!("the probe of {}:{} over TLS failed: {error}", node.host, node.port);
        }
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    bytes: &[u8],
) -> io::Result<u16> {
    stream.write_all(bytes).await?;
    // TLS may hold back what it was given.
    stream.flush().await?;
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
