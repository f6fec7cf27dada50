//! From configured upstreams to those that are asked.

use super::compile::Compiler;
use crate::conf::{self, HashOn, HttpProbe, Judgement, Node, PassHost, Timeout};
use crate::plugin::{check_variable, compile_template};
use crate::proxy_protocol;
use crate::schema::{Fault, Problem, Problems, Reader};
use crate::upstream::{
    Active, Address, Balancer, Board, Checks, HashKey, HostPolicy, KeepAlive, Passive, Peer, Probe,
    ProbeRequest, ProbeTls, Statuses, Thresholds, Timeouts, Upstream, excess_ring_points, is_name,
};
use std::collections::HashSet;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What the path of a unix socket stands behind.
const UNIX: &str = "unix:";

impl Compiler<'_> {
    /// Makes the upstream of a resource.
    pub(super) fn set_upstream(
        &mut self,
        number: u32,
        collection: &str,
        id: &str,
        conf: &conf::Upstream,
    ) {
        let upstream = self.upstream(collection, id, conf);
        self.next.upstreams.set(number as usize, Some(Arc::new(upstream)));
    }

    fn upstream(&self, collection: &str, id: &str, conf: &conf::Upstream) -> Upstream {
        let board = self.inputs.nodes.board(&format!("/apisix/{collection}/{id}"));
        let peers: Vec<Peer> = conf.nodes.iter().map(|node| self.peer(&board, node)).collect();
        let keep_alive = conf.keepalive_pool.unwrap_or(self.inputs.config.keepalive);
        let name = conf.name.clone().or_else(|| conf.id.clone());
        let retries = conf.retries.unwrap_or(peers.len().saturating_sub(1) as u32);
        let balancer = self.balancer(conf);
        Upstream {
            name: name.unwrap_or_else(|| conf.at.to_string()),
            host: match &conf.pass_host {
                PassHost::Pass => HostPolicy::Pass,
                PassHost::Node => HostPolicy::Node,
                PassHost::Rewrite(host) => HostPolicy::Rewrite(host.clone().into_bytes()),
            },
            timeouts: conf.timeout.map(timeouts).unwrap_or_default(),
            keep_alive: KeepAlive {
                idle_max: keep_alive.size,
                idle_ms: ms(keep_alive.idle_timeout),
                requests_max: keep_alive.requests,
            },
            retries,
            retry_ms: conf.retry_timeout.map_or(0, ms),
            checks: conf.checks.as_ref().map(|checks| checks_of(conf, checks)),
            slow_start_ns: conf.slow_start.map_or(0, |time| ms(time).saturating_mul(1_000_000)),
            proxy_protocol: conf.proxy_protocol,
            labels: conf.labels.clone(),
            ..Upstream::new(board, peers, balancer)
        }
    }

    /// Lists the upstreams with names to resolve or nodes to probe, unless they are those of
    /// before.
    pub(super) fn list_upkeep(&mut self) {
        let Self { before, next, .. } = self;
        if next.upstreams.own_chunks(&before.upstreams) == 0 && !before.upstreams.is_empty() {
            return;
        }
        let all = next.upstreams.iter().flatten();
        let wanting: Vec<_> = all.filter(|upstream| upstream.wants_upkeep()).collect();
        let same = |(a, b): (&&Arc<Upstream>, &Arc<Upstream>)| Arc::ptr_eq(a, b);
        if wanting.len() != before.upkeep.len() || !wanting.iter().zip(&*before.upkeep).all(same) {
            next.upkeep = wanting.into_iter().map(Arc::clone).collect();
        }
    }

    fn peer(&self, board: &Arc<Board>, conf: &Node) -> Peer {
        let node = board.node(&conf.host, conf.port);
        if let Some(path) = conf.host.strip_prefix(UNIX) {
            node.set_addresses(&[Address::Unix(Path::new(path).into())]);
        } else if let Ok(ip) = conf.host.parse::<IpAddr>() {
            node.set_addresses(&[SocketAddr::new(ip, conf.port).into()]);
        } else if node.addresses().is_empty() {
            // A name that was known before is kept up to date by whoever resolves names.
            let ips = self.names.get(&conf.host).into_iter().flatten();
            let addresses = ips.map(|ip| SocketAddr::new(*ip, conf.port).into());
            node.set_addresses(&addresses.collect::<Vec<_>>());
            if node.addresses().is_empty() {
                let fault = Fault::new(format!("the name {} can't be resolved", conf.host))
                    .hint("this node gets no request until it can be");
                self.problems.warn(Problem::new(conf.at.clone(), fault));
            }
        }
        let host = node_host(&conf.host, conf.port);
        Peer { node, host, weight: conf.weight, priority: conf.priority }
    }

    fn balancer(&self, conf: &conf::Upstream) -> Balancer {
        match conf.balancer {
            conf::Balancer::RoundRobin => Balancer::RoundRobin,
            conf::Balancer::LeastConn => Balancer::LeastConn,
            conf::Balancer::Ewma => Balancer::Ewma,
            conf::Balancer::Chash => {
                let shares = conf.nodes.iter().map(|node| (node.weight, node.priority));
                if let Some(points) = excess_ring_points(&shares.collect::<Vec<_>>()) {
                    let fault =
                        Fault::new(format!("the ring of `chash` would have {points} points"));
                    let fault = fault.hint("use smaller weights with the same ratios");
                    self.problems.error(Problem::new(conf.at.key("nodes"), fault));
                    return Balancer::RoundRobin;
                }
                Balancer::Hash(hash_key(conf, &self.problems))
            }
        }
    }
}

/// The names of upstreams' nodes.
pub(super) fn names_of<'a>(
    upstreams: impl Iterator<Item = &'a conf::Upstream>,
    names: &mut HashSet<String>,
) {
    let hosts = upstreams.flat_map(|upstream| &upstream.nodes).map(|node| &node.host);
    names.extend(hosts.filter(|host| is_name(host)).cloned());
}

/// All that `hash_on` offers are variables (`apisix/balancer/chash.lua`).
fn hash_key(conf: &conf::Upstream, problems: &Problems) -> HashKey {
    let key = conf.key.as_deref().unwrap_or_default();
    let value = key.into();
    let reader = Reader::new(&value, conf.at.key("key"), problems);
    HashKey::Variable(match conf.hash_on {
        HashOn::Vars => {
            check_variable(key, &reader);
            key.into()
        }
        HashOn::Header => format!("http_{}", key.to_ascii_lowercase().replace('-', "_")).into(),
        HashOn::Cookie => format!("cookie_{key}").into(),
        HashOn::Consumer => "consumer_name".into(),
        HashOn::VarsCombinations => return HashKey::Template(compile_template(key, &reader)),
    })
}

/// The Host that `pass_host: node` sends: the port only if it is not the scheme's (reference §5). A
/// unix socket has no name; nginx sends `localhost` there.
fn node_host(host: &str, port: u16) -> Vec<u8> {
    if host.starts_with(UNIX) {
        return b"localhost".to_vec();
    }
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == 80 { host.into_bytes() } else { format!("{host}:{port}").into_bytes() }
}

fn checks_of(upstream: &conf::Upstream, checks: &conf::Checks) -> Checks {
    let active = &checks.active;
    let probe = match &active.http {
        None => Probe::Tcp,
        Some(http) => Probe::Http {
            request: probe_request(upstream, http),
            statuses: statuses(&active.judgement),
            tls: http.tls.map(|tls| ProbeTls { verify: tls.verify }),
        },
    };
    // As in APISIX a node that can't be reached counts even without `passive`; but only if there is
    // a way back.
    let failures = Thresholds { successes: 0, http_failures: 0, tcp_failures: 2, timeouts: 7 };
    let none = Thresholds { tcp_failures: 0, timeouts: 0, ..failures };
    let passive = match &checks.passive {
        Some(judgement) => {
            Passive { statuses: Some(statuses(judgement)), thresholds: thresholds(judgement) }
        }
        None if active.unhealthy_interval.is_some() => {
            Passive { statuses: None, thresholds: failures }
        }
        None => Passive { statuses: None, thresholds: none },
    };
    Checks {
        active: Active {
            lead: own_header(upstream),
            probe,
            timeout: active.timeout,
            concurrency: active.concurrency,
            port: active.port,
            healthy_every: active.healthy_interval,
            unhealthy_every: active.unhealthy_interval,
            thresholds: thresholds(&active.judgement),
        },
        passive,
    }
}

/// Probes are nobody's but the gateway's.
fn own_header(upstream: &conf::Upstream) -> Vec<u8> {
    let mut header = Vec::new();
    if let Some(version) = upstream.proxy_protocol {
        proxy_protocol::write_own(&mut header, version);
    }
    header
}

fn statuses(judgement: &Judgement) -> Statuses {
    let Judgement { good_statuses, bad_statuses, .. } = judgement;
    Statuses { good: good_statuses.clone(), bad: bad_statuses.clone() }
}

fn thresholds(judgement: &Judgement) -> Thresholds {
    let Judgement { successes, http_failures, tcp_failures, timeouts, .. } = *judgement;
    Thresholds { successes, http_failures, tcp_failures, timeouts }
}

/// `req_headers` win over what is sent by itself, as they would be doubled otherwise.
fn probe_request(upstream: &conf::Upstream, http: &HttpProbe) -> ProbeRequest {
    let HttpProbe { host, method, path, body, headers, tls: _ } = http;
    let given = |name: &str| headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
    let rewritten = match &upstream.pass_host {
        PassHost::Rewrite(host) => Some(host),
        PassHost::Pass | PassHost::Node => None,
    };
    let host = given("host").map(|(_, value)| value).or(host.as_ref()).or(rewritten);
    let mut after = String::from("\r\nConnection: close\r\n");
    let own = |name: &str| ["host", "connection", "content-length"].contains(&name);
    for (name, value) in headers.iter().filter(|(name, _)| !own(&name.to_ascii_lowercase())) {
        // Writing to a string can't fail.
        let _ = write!(after, "{name}: {value}\r\n");
    }
    if given("user-agent").is_none() {
        after.push_str("User-Agent: ringgate-health-check\r\n");
    }
    if !body.is_empty() {
        let _ = write!(after, "Content-Length: {}\r\n", body.len());
    }
    let _ = write!(after, "\r\n{body}");
    ProbeRequest {
        before: format!("{method} {path} HTTP/1.1\r\nHost: ").into_bytes(),
        host: host.map(|host| host.clone().into_bytes()),
        after: after.into_bytes(),
    }
}

pub(super) fn timeouts(timeout: Timeout) -> Timeouts {
    Timeouts {
        connect_ms: ms(timeout.connect),
        send_ms: ms(timeout.send),
        read_ms: ms(timeout.read),
    }
}

/// Milliseconds; what is not zero stays so.
pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(u64::from(!duration.is_zero()))
}
