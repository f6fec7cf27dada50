//! Everything counted, under the names Prometheus finds it by: APISIX's where APISIX has the same
//! thing (its plugin `prometheus`), ours for the rest, plugins' own as they named them.

use super::access_log::AccessLog;
use super::load::{HostCell, hostname};
use super::store::Store;
use super::upgrade::Upgrades;
use crate::plugin::{RunnerFigures, RunnerPlace};
use crate::proxy_wasm::{Metric, MetricValue, PluginCount};
use crate::stats::{Counter, Counters, Exposition, Kind, PluginCounters, legal_name};
use crate::worker::Shared;
use axum::Router;
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::http::{Method, StatusCode, Uri};
use axum::response::IntoResponse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

/// What there is to see of a running gateway.
pub(super) struct Observed {
    /// Of APISIX's metrics.
    pub(super) prefix: String,
    pub(super) workers: Vec<Arc<Counters>>,
    pub(super) shared: Arc<Shared>,
    pub(super) host: HostCell,
    pub(super) store: Arc<Store>,
    pub(super) access: AccessLog,
}

/// The page of the metrics, at its own path and at the one everybody tries first.
pub(super) fn pages(observed: Observed, uri: &str) -> Router {
    let (observed, uri) = (Arc::new(observed), uri.to_owned());
    // Not as routes of axum, for which some characters of a path mean something.
    Router::new().fallback(async move |method: Method, path: Uri| {
        if path.path() != uri && path.path() != "/metrics" {
            return StatusCode::NOT_FOUND.into_response();
        }
        if method != Method::GET && method != Method::HEAD {
            return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")]).into_response();
        }
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        ([(CONTENT_TYPE, kind)], observed.text()).into_response()
    })
}

impl Observed {
    /// The exposition's text.
    pub(super) fn text(&self) -> String {
        let mut to = Exposition::default();
        self.totals(&mut to);
        self.routes(&mut to);
        self.nodes(&mut to);
        self.each_worker(&mut to);
        self.configuration(&mut to);
        runners(&mut to, &self.store.runners);
        if let Some(host) = self.host.get() {
            plugins(&mut to, &host.counters());
            guests(&mut to, host.metrics());
        }
        to.text()
    }

    fn sum(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        self.workers.iter().map(|worker| counter(worker).get()).sum()
    }

    fn totals(&self, to: &mut Exposition) {
        let prefix = &self.prefix;
        let name = format!("{prefix}http_requests_total");
        to.family(&name, Kind::Gauge, "The total number of client requests");
        to.sample(&name, &[], self.sum(|worker| &worker.requests));
        let name = format!("{prefix}nginx_http_current_connections");
        to.family(&name, Kind::Gauge, "Number of HTTP connections");
        let (open, all) = (self.sum(|worker| &worker.open), self.sum(|worker| &worker.connections));
        for (state, value) in [("active", open), ("accepted", all), ("handled", all)] {
            to.sample(&name, &[("state", state)], value);
        }
        let name = format!("{prefix}node_info");
        to.family(&name, Kind::Gauge, "Info of the gateway's node");
        to.sample(&name, &[("hostname", &hostname().unwrap_or_default())], 1);
    }

    /// The sums over all workers, route by route.
    fn routes(&self, to: &mut Exposition) {
        let (status, bandwidth, latency) = ["http_status", "bandwidth", "http_latency"]
            .map(|name| format!("{}{name}", self.prefix))
            .into();
        to.family(&status, Kind::Counter, "HTTP status codes per route");
        to.family(&bandwidth, Kind::Counter, "Total bandwidth in bytes consumed per route");
        let help = "HTTP request latency in milliseconds per route";
        to.family(&latency, Kind::Histogram, help);
        let mut routes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (labels, counters) in self.workers.iter().flat_map(|worker| worker.routes.all()) {
            routes.entry(labels).or_default().push(counters);
        }
        for (labels, workers) in &routes {
            let own = [("route", &*labels.route), ("service", &*labels.service)];
            let mut statuses: BTreeMap<String, u64> = BTreeMap::new();
            for (code, count) in workers.iter().flat_map(|worker| worker.statuses()) {
                let code = code.map_or_else(|| "other".to_owned(), |code| code.to_string());
                *statuses.entry(code).or_default() += count;
            }
            for (code, count) in &statuses {
                to.sample(&status, &[("code", code), own[0], own[1]], count);
            }
            let ingress: u64 = workers.iter().map(|worker| worker.ingress.get()).sum();
            let egress: u64 = workers.iter().map(|worker| worker.egress.get()).sum();
            for (kind, bytes) in [("ingress", ingress), ("egress", egress)] {
                to.sample(&bandwidth, &[("type", kind), own[0], own[1]], bytes);
            }
            let mut buckets: Vec<(Option<u64>, u64)> = Vec::new();
            for worker in workers {
                for (at, (bound, count)) in worker.latency.cumulative().enumerate() {
                    match buckets.get_mut(at) {
                        Some(bucket) => bucket.1 += count,
                        None => buckets.push((bound, count)),
                    }
                }
            }
            let sum: f64 = workers.iter().map(|worker| worker.latency.sum_ms()).sum();
            let labels = [("type", "request"), own[0], own[1]];
            to.histogram(&latency, &labels, buckets.into_iter(), sum);
        }
    }

    /// The nodes of upstreams with health checks.
    fn nodes(&self, to: &mut Exposition) {
        let name = format!("{}upstream_status", self.prefix);
        to.family(&name, Kind::Gauge, "Upstream status from health check");
        let snapshot = self.shared.snapshot();
        for upstream in snapshot.health() {
            for node in upstream.nodes {
                let ip =
                    node.address.map_or_else(|| node.host.to_owned(), |at| at.ip().to_string());
                let port = node.port.to_string();
                let labels =
                    [("name", upstream.name), ("ip", ip.as_str()), ("port", port.as_str())];
                to.sample(&name, &labels, u8::from(node.health.status.is_usable()));
            }
        }
    }

    fn each_worker(&self, to: &mut Exposition) {
        type Field = fn(&Counters) -> &Counter;
        let families: [(&str, Kind, &str, Field); 16] = [
            ("connections_total", Kind::Counter, "Connections accepted", |w| &w.connections),
            ("connections_open", Kind::Gauge, "Connections open now", |w| &w.open),
            ("tunnels_total", Kind::Counter, "Switched to another protocol", |w| &w.tunnels),
            ("tunnels_open", Kind::Gauge, "Tunnels open now", |w| &w.tunnels_open),
            ("requests_total", Kind::Counter, "Requests answered", |w| &w.requests),
            ("prepared_total", Kind::Counter, "Of these, by a prepared response", |w| &w.prepared),
            ("requests_running", Kind::Gauge, "Requests that run now", |w| &w.running),
            ("shed_total", Kind::Counter, "Requests there was no room for", |w| &w.shed),
            ("refused_total", Kind::Counter, "Malformed requests", |w| &w.refused),
            ("turned_away_total", Kind::Counter, "Connections there was no room for", |w| {
                &w.turned_away
            }),
            ("aborted_total", Kind::Counter, "Responses cut off", |w| &w.aborted),
            ("upstream_made_total", Kind::Counter, "Connections to upstreams made", |w| {
                &w.upstream_made
            }),
            ("upstream_reused_total", Kind::Counter, "Times an idle one was used again", |w| {
                &w.upstream_reused
            }),
            ("upstream_in_use", Kind::Gauge, "Connections to upstreams at work", |w| {
                &w.upstream_in_use
            }),
            ("upstream_idle", Kind::Gauge, "Connections to upstreams kept for later", |w| {
                &w.upstream_idle
            }),
            ("snapshot", Kind::Gauge, "Number of the snapshot it serves", |w| &w.snapshot),
        ];
        let responses = "ringgate_worker_responses_total";
        to.family(responses, Kind::Counter, "Responses by class of status");
        let take = "ringgate_worker_snapshot_take_seconds_max";
        to.family(take, Kind::Gauge, "The longest pause to take a new snapshot");
        for (index, worker) in self.workers.iter().enumerate() {
            let index = index.to_string();
            for (name, kind, help, field) in &families {
                let name = format!("ringgate_worker_{name}");
                to.family(&name, *kind, help);
                to.sample(&name, &[("worker", &index)], field(worker).get());
            }
            to.sample(take, &[("worker", &index)], worker.take_ns_max.get() as f64 / 1e9);
            for (class, count) in CLASSES.iter().zip(&worker.by_class) {
                to.sample(responses, &[("worker", &index), ("class", class)], count.get());
            }
        }
    }

    fn configuration(&self, to: &mut Exposition) {
        let name = "ringgate_build_info";
        to.family(name, Kind::Gauge, "The version that runs");
        to.sample(name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
        let name = "ringgate_loads_total";
        to.family(name, Kind::Counter, "Configurations loaded, and refused");
        let status = self.store.status();
        for (result, count) in [("good", status.good), ("refused", status.refused)] {
            to.sample(name, &[("result", result)], count);
        }
        let name = "ringgate_last_load_good";
        to.family(name, Kind::Gauge, "Whether the last load was good; why not is in the log");
        to.sample(name, &[], u64::from(status.last.errors.is_empty()));
        let name = "ringgate_upgrades_total";
        to.family(name, Kind::Counter, "Upgrades that led to this process, and that it refused");
        let Upgrades { good, refused, .. } = &self.store.upgrades;
        for (result, count) in [("good", good), ("refused", refused)] {
            to.sample(name, &[("result", result)], count.load(Ordering::Relaxed));
        }
        let name = "ringgate_access_log_dropped_total";
        to.family(name, Kind::Counter, "Lines of the access log that found no place");
        to.sample(name, &[], self.access.dropped());
        let name = "ringgate_last_good_load_timestamp_seconds";
        to.family(name, Kind::Gauge, "When the configuration that runs was loaded");
        let since = status.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        to.sample(name, &[], since);
    }
}

/// What external plugin runners did; the one without a name has an empty label.
fn runners(to: &mut Exposition, places: &[Arc<RunnerPlace>]) {
    type Field = fn(&RunnerFigures) -> u64;
    let families: [(&str, Kind, &str, Field); 6] = [
        ("running", Kind::Gauge, "Whether the process that we started runs", |f| f.running.into()),
        ("restarts_total", Kind::Counter, "Times it was started again", |f| f.restarts),
        ("calls_total", Kind::Counter, "Calls begun", |f| f.calls),
        ("failures_total", Kind::Counter, "Of these, without a decision", |f| f.failures),
        ("connections", Kind::Gauge, "Connections open now", |f| f.connections),
        ("waiting", Kind::Gauge, "Calls that wait for a connection", |f| f.waiting),
    ];
    for (name, kind, help, field) in families {
        let name = format!("ringgate_runner_{name}");
        to.family(&name, kind, help);
        for place in places {
            to.sample(&name, &[("runner", &place.name)], field(&place.life.figures()));
        }
    }
}

/// What plugins did, each on each worker.
fn plugins(to: &mut Exposition, counts: &[PluginCount]) {
    type Field = fn(&PluginCounters) -> &Counter;
    let families: [(&str, Kind, &str, Field); 10] = [
        ("calls_total", Kind::Counter, "Calls of the plugin's functions", |c| &c.calls),
        ("instances_started_total", Kind::Counter, "Instances made", |c| &c.started),
        ("dry_total", Kind::Counter, "Requests that found no instance made ahead", |c| &c.dry),
        ("dry_refused_total", Kind::Counter, "Of these, without one in time", |c| &c.dry_refused),
        ("backed_off_total", Kind::Counter, "Requests kept from a failing plugin", |c| {
            &c.backed_off
        }),
        ("shared_data_full_total", Kind::Counter, "Values refused for want of room", |c| {
            &c.shared_data_full
        }),
        ("waiting", Kind::Gauge, "Requests that wait for an instance", |c| &c.waiting),
        ("memory_high_bytes", Kind::Gauge, "The most memory an instance had", |c| {
            &c.memory_bytes_high
        }),
        ("instances_spare", Kind::Gauge, "Instances made ahead", |c| &c.spares),
        ("instances_at_work", Kind::Gauge, "Instances that serve requests", |c| &c.at_work),
    ];
    let (failures, seconds) = ("ringgate_wasm_failures_total", "ringgate_wasm_seconds_total");
    to.family(failures, Kind::Counter, "Calls that failed, by kind");
    to.family(seconds, Kind::Counter, "Time in the plugin, estimated from one call in 61");
    for count in counts {
        let (worker, counters) = (count.worker.to_string(), &count.counters);
        let labels = [("plugin", count.plugin.as_str()), ("worker", worker.as_str())];
        for (name, kind, help, field) in &families {
            let name = format!("ringgate_wasm_{name}");
            to.family(&name, *kind, help);
            to.sample(&name, &labels, field(counters).get());
        }
        to.sample(seconds, &labels, counters.time_ns() as f64 / 1e9);
        for (kind, counter) in [
            ("trap", &counters.traps),
            ("deadline", &counters.timeouts),
            ("memory", &counters.memory),
            ("exit", &counters.exits),
            ("other", &counters.others),
        ] {
            to.sample(failures, &[labels[0], labels[1], ("kind", kind)], counter.get());
        }
    }
}

/// Metrics that plugins defined. Names that become alike, once made legal, tell themselves apart by
/// the label `name`; a kind that its family does not have, or a name of the gateway's own, gets a
/// suffix.
fn guests(to: &mut Exposition, metrics: Vec<Metric>) {
    let mut seen: HashMap<(String, Kind), usize> = HashMap::new();
    let kind = |metric: &Metric| match metric.value {
        MetricValue::Counter(_) => Kind::Counter,
        MetricValue::Gauge(_) => Kind::Gauge,
        MetricValue::Histogram { .. } => Kind::Histogram,
    };
    for metric in &metrics {
        *seen.entry((legal_name(&metric.name), kind(metric))).or_default() += 1;
    }
    let mut families: HashSet<String> = HashSet::new();
    for metric in metrics {
        let (mut name, kind) = (legal_name(&metric.name), kind(&metric));
        let is_alone = seen.get(&(name.clone(), kind)) == Some(&1);
        let is_taken = to.kind_of(&name).is_some_and(|other| other != kind);
        if is_taken || to.kind_of(&name).is_some() && !families.contains(&name) {
            name = format!("{name}_{}", kind.as_str());
        }
        to.family(&name, kind, "Defined by a plugin");
        families.insert(name.clone());
        let label = [("name", metric.name.as_str())];
        let labels = if is_alone { &[][..] } else { &label[..] };
        match &metric.value {
            MetricValue::Counter(value) | MetricValue::Gauge(value) => {
                to.sample(&name, labels, value);
            }
            MetricValue::Histogram { buckets, sum } => {
                to.histogram(&name, labels, cumulative(buckets), sum);
            }
        }
    }
}

/// Bucket `i` holds values of `i` binary digits: up to `2^i - 1`. Bounds above the largest value
/// say nothing.
fn cumulative(buckets: &[u64]) -> impl Iterator<Item = (Option<u64>, u64)> {
    let used = buckets.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1).min(64);
    let bounds = (0..used).map(|digits| Some((1_u64 << digits) - 1));
    let total: u64 = buckets.iter().sum();
    let sums = buckets.iter().scan(0, |sum, count| {
        *sum += count;
        Some(*sum)
    });
    bounds.zip(sums).chain([(None, total)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(metrics: Vec<(&str, MetricValue)>) -> Vec<String> {
        let mut to = Exposition::default();
        to.family("ringgate_loads_total", Kind::Counter, "ours");
        let metric = |(name, value): (&str, _)| Metric { name: name.to_owned(), value };
        guests(&mut to, metrics.into_iter().map(metric).collect());
        let text = to.text();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn plugins_metrics_have_legal_names_of_their_own() {
        let shown = shown(vec![
            ("hits", MetricValue::Counter(1)),
            ("a.b", MetricValue::Gauge(2)),
            ("a;b", MetricValue::Gauge(3)),
            ("hits", MetricValue::Gauge(4)),
            ("ringgate_loads_total", MetricValue::Counter(5)),
        ]);
        assert_eq!(
            shown,
            [
                "a_b{name=\"a.b\"} 2",
                "a_b{name=\"a;b\"} 3",
                "hits 1",
                "hits_gauge 4",
                "ringgate_loads_total_counter 5",
            ]
        );
    }

    #[test]
    fn histograms_are_cumulative() {
        let mut buckets = vec![0; 65];
        (buckets[0], buckets[2]) = (1, 3);
        let shown = shown(vec![("h", MetricValue::Histogram { buckets, sum: 8 })]);
        assert_eq!(
            shown,
            [
                "h_bucket{le=\"0\"} 1",
                "h_bucket{le=\"1\"} 1",
                "h_bucket{le=\"3\"} 4",
                "h_bucket{le=\"+Inf\"} 4",
                "h_sum 8",
                "h_count 4",
            ]
        );
        let mut large = vec![0; 65];
        large[64] = 2;
        assert_eq!(cumulative(&large).last(), Some((None, 2)));
    }
}
