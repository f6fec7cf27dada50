//! Addresses of names, by DNS, for as long as their TTLs say.

use crate::conf::Dns;
use crate::snapshot::Snapshot;
use crate::upstream::{Address, Node, is_name};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Names that are remembered.
const NAMES_MAX: usize = 10_000;

/// Questions asked at the same time; others wait.
const QUESTIONS_MAX: usize = 64;

/// How long an answer of the system's resolver is good for: it does not tell the name's own time.
const SYSTEM_TTL: Duration = Duration::from_secs(30);

/// How long a name that could not be resolved is taken for that.
const FAILURE_TTL: Duration = Duration::from_secs(5);

/// No TTL is shorter or longer than these. A name may say 0, meaning once a request.
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(3600);

/// What is known of a name.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Sorted; empty: it has none, or nobody could tell.
    pub(super) ips: Arc<[IpAddr]>,
    until: Instant,
}

/// Asks, and remembers.
#[derive(Debug)]
pub(super) struct Names {
    resolver: Option<TokioResolver>,
    /// Whether the system's resolver is asked where ours finds nothing: it may know names of other
    /// sources than DNS.
    ask_system: bool,
    /// Instead of TTLs.
    valid: Option<Duration>,
    timeout: Duration,
    known: Mutex<HashMap<String, Found>>,
    questions: Semaphore,
}

impl Names {
    pub(super) fn new(dns: &Dns) -> Self {
        let resolver = resolver(dns);
        if let Err(error) = &resolver {
            log::warn!("names are resolved by the system: {error}");
        }
        Self {
            resolver: resolver.ok(),
            ask_system: dns.servers.is_empty(),
            valid: dns.valid,
            timeout: dns.timeout,
            known: Mutex::default(),
            questions: Semaphore::new(QUESTIONS_MAX),
        }
    }

    /// How long a lookup may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The addresses of a name.
    pub(super) async fn lookup(&self, host: &str) -> Found {
        if let Some(found) = self.known(host) {
            return found;
        }
        // The semaphore is never closed.
        let _permit = self.questions.acquire().await;
        let asked = timeout(self.timeout, self.ask(host)).await;
        let (mut ips, ttl) = asked.ok().flatten().unwrap_or((Vec::new(), FAILURE_TTL));
        // Servers turn the order with every answer.
        ips.sort_unstable();
        ips.dedup();
        let found = Found { ips: ips.into(), until: Instant::now() + ttl };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= NAMES_MAX {
            known.clear();
        }
        known.insert(host.to_owned(), found.clone());
        found
    }

    /// Resolves a name again and again for its nodes. What can't be resolved any more keeps the
    /// addresses it had.
    pub(super) async fn keep(&self, host: &str, nodes: &[Arc<Node>]) {
        let mut lost = false;
        loop {
            let found = self.lookup(host).await;
            for node in nodes {
                let of_node = |ip: &IpAddr| Address::from(SocketAddr::new(*ip, node.port));
                let addresses: Vec<Address> = found.ips.iter().map(of_node).collect();
                if !addresses.is_empty() && node.set_addresses(&addresses) {
                    let shown: Vec<String> = addresses.iter().map(Address::to_string).collect();
                    log::info!("{host}:{} is now {}", node.port, shown.join(", "));
                }
            }
            if !lost && found.ips.is_empty() {
                log::warn!("the name {host} can't be resolved; its nodes stay as they are");
            }
            lost = found.ips.is_empty();
            sleep(found.until.saturating_duration_since(Instant::now())).await;
        }
    }

    fn known(&self, host: &str) -> Option<Found> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(host).filter(|found| found.until > Instant::now()).cloned()
    }

    async fn ask(&self, host: &str) -> Option<(Vec<IpAddr>, Duration)> {
        if let Some(resolver) = &self.resolver
            && let Ok(answer) = resolver.lookup_ip(host).await
        {
            let ttl = answer.valid_until().saturating_duration_since(Instant::now());
            let ttl = self.valid.unwrap_or(ttl).clamp(TTL_MIN, TTL_MAX);
            return Some((answer.iter().collect(), ttl));
        }
        if !self.ask_system {
            return None;
        }
        let answer: Vec<_> = tokio::net::lookup_host((host, 0)).await.ok()?.collect();
        // As above: IPv6 only where there is nothing else.
        let v4 = answer.iter().any(SocketAddr::is_ipv4);
        let ips = answer.into_iter().filter(|address| address.is_ipv4() == v4);
        Some((ips.map(|address| address.ip()).collect(), self.valid.unwrap_or(SYSTEM_TTL)))
    }
}

fn resolver(dns: &Dns) -> Result<TokioResolver, String> {
    let builder = if dns.servers.is_empty() {
        TokioResolver::builder_tokio().map_err(|error| error.to_string())?
    } else {
        let servers = dns.servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            let connections = connections.map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let ResolverOpts { attempts, .. } = ResolverOpts::default();
    let mut builder = builder;
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    // All tries together have to fit.
    options.timeout = dns.timeout / (attempts as u32 + 1);
    // We remember answers ourselves.
    options.cache_size = 0;
    builder.build().map_err(|error| error.to_string())
}

/// The names in a snapshot's upstreams, with the nodes they are of.
pub(super) fn of(snapshot: &Snapshot) -> HashMap<String, Vec<Arc<Node>>> {
    let mut names: HashMap<String, Vec<Arc<Node>>> = HashMap::new();
    for peer in snapshot.upkeep.iter().flat_map(|upstream| &upstream.peers) {
        let host = &*peer.node.host;
        if is_name(host) {
            names.entry(host.to_owned()).or_default().push(Arc::clone(&peer.node));
        }
    }
    names
}
