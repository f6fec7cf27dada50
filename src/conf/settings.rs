//! `config.yaml` as types: parsed once, valid from here on.
//!
//! Sources: APISIX reference §1; our own keys in DESIGN §4 and §5.

use super::model::KeepalivePool;
use super::operators::{AdminConfig, OperatorListen, Provider};
use crate::listen;
use crate::plugin::{LogFormat, RequestPhase};
use crate::schema::Path;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::time::Duration;

/// `config.yaml`: the process.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `apisix.node_listen` (default `0.0.0.0:9080`), `apisix.proxy_protocol.listen_http_port` and
    /// `ringgate.listen`; at least one, no two on the same address.
    pub listen: Vec<listen::Options>,
    /// `deployment.*.config_provider`.
    pub provider: Provider,
    /// `apisix.enable_admin` and `deployment.admin`, if there is to be an Admin API.
    pub admin: Option<AdminConfig>,
    /// `deployment.role: control_plane`: resources are kept here and no traffic is served.
    pub is_control_plane: bool,
    /// `apisix.control`, unless `apisix.enable_control` is false. Default 127.0.0.1:9090.
    pub control: Option<OperatorListen>,
    /// `apisix.status`; none if it is not there.
    pub status: Option<OperatorListen>,
    /// `ringgate.store_dir`: where the embedded store and what is known of etcd are kept.
    pub store_dir: Option<String>,
    /// `nginx_config.http`: towards clients.
    pub downstream: Downstream,
    /// `nginx_config.http.access_log` and the like; `None`: requests are not logged.
    pub access_log: Option<AccessLogConfig>,
    /// `nginx_config.http.upstream`: idle connections kept, where an upstream says nothing.
    pub keepalive: KeepalivePool,
    /// `apisix.enable_server_tokens`: whether the `Server` header carries the version.
    pub server_tokens: bool,
    /// `apisix.router.http`.
    pub router: Router,
    /// `apisix.delete_uri_tail_slash`: `/foo/` is matched as `/foo`.
    pub delete_uri_tail_slash: bool,
    /// How names of upstreams' nodes are resolved.
    pub dns: Dns,
    /// `apisix.ssl.ssl_trusted_certificate`: whose certificates probes over TLS believe: `system`,
    /// or paths of PEM files.
    pub trusted: Vec<String>,
    /// `apisix.trusted_addresses`: whose word is taken for how a request was made (`Forwarded`,
    /// `X-Forwarded-Proto`, `-Host` and `-Port`). Nobody's by default.
    pub trusted_addresses: Vec<IpNet>,
    /// `plugins`: the names that may be used; `None` means all that are built in.
    pub plugins: Option<Vec<PluginName>>,
    /// `wasm.plugins`, names unique.
    pub wasm_plugins: Vec<WasmPlugin>,
    /// `plugin_attr.prometheus`.
    pub metrics: MetricsServer,
    /// `ext-plugin`: external plugin runners; the one without a name first, names unique.
    pub runners: Vec<RunnerConfig>,
    /// `ringgate.workers`.
    pub workers: Workers,
    /// `ringgate.driver`.
    pub driver: Driver,
    /// `ringgate.via`: whether forwarded messages carry a `Via`. Default true.
    pub via: bool,
    /// `ringgate.limits`.
    pub limits: Limits,
    /// `ringgate.timeouts.drain`: how long a stopping worker waits for exchanges in flight.
    pub drain: Duration,
    /// `ringgate.timeouts.upgrade`: how long a newer binary may take until it is ready to serve.
    pub upgrade: Duration,
    /// `ringgate.user`: whom the process becomes when its listeners are open.
    pub user: Option<String>,
    /// `ringgate.group`: with that group instead of the user's own. Never without a user.
    pub group: Option<String>,
    /// `ringgate.watch`: whether changed files are read again by themselves.
    pub watch: bool,
    /// `ringgate.log.level`.
    pub log_level: log::LevelFilter,
    /// `ringgate.cache_dir`: where precompiled modules are kept; `None` leaves the choice to
    /// `main`.
    pub cache_dir: Option<String>,
    /// `ringgate.node`.
    pub node: Identity,
}

/// Timeouts and limits towards clients, with nginx's names and APISIX's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downstream {
    /// How long an idle connection is kept; zero closes it after one answer. Default 60 s.
    pub keepalive_timeout: Duration,
    /// How many requests a connection carries; `None` is no limit, the default.
    pub keepalive_requests: Option<u64>,
    /// How old a connection may be that gets another request; `None` is no limit, the default.
    pub keepalive_time: Option<Duration>,
    /// How long a head may take to arrive. Default 60 s.
    pub client_header_timeout: Duration,
    /// How long a body may pause between two reads. Default 60 s.
    pub client_body_timeout: Duration,
    /// How long a client may take none of what is sent. Default 10 s.
    pub send_timeout: Duration,
    /// The largest request body; `None` is no limit (`0` in the file, the default).
    pub client_max_body_size: Option<u64>,
    /// Whether header names may contain `_`. Default true, as in APISIX.
    pub underscores_in_headers: bool,
}

/// How names are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// `apisix.dns_resolver`; empty: those of the system, with its `hosts` file.
    pub servers: Vec<SocketAddr>,
    /// `apisix.dns_resolver_valid`: how long an answer is good for, instead of its own TTL.
    pub valid: Option<Duration>,
    /// `apisix.resolver_timeout`: how long a lookup may take. Default 5 s.
    pub timeout: Duration,
}

/// Where requests are logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// `access_log`, default `logs/access.log`, from the working directory.
    pub file: String,
    /// `access_log_format` with `access_log_format_escape`; lines of JSON without it.
    pub format: LogFormat,
}

/// How routes are searched (APISIX reference §3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Router {
    /// `radixtree_host_uri`: the host first, then the path in it.
    #[default]
    HostUri,
    /// `radixtree_uri`: the path first, hosts filter.
    Uri,
}

/// A name of `plugins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginName {
    /// Where it stands.
    pub at: Path,
    /// The name.
    pub name: String,
}

/// Where Prometheus finds the metrics, with APISIX's names and defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsServer {
    /// `export_addr`, default `127.0.0.1:9091`; `None` without `enable_export_server`.
    pub listen: Option<SocketAddr>,
    /// Whether the file names the address: then it must be free.
    pub is_named: bool,
    /// `export_uri`, default `/apisix/prometheus/metrics`; `/metrics` is there beside it.
    pub uri: String,
    /// `metric_prefix`, default `apisix_`: of the metrics that APISIX has too.
    pub prefix: String,
}

/// How many workers, and what each has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// One on each core the process may use.
    #[default]
    Auto,
    /// This many, on the first cores the process may use.
    Count(usize),
    /// One entry a worker; cores are unique, the list is not empty.
    List(Vec<WorkerConfig>),
}

/// One worker of `ringgate.workers`. What is `None` is the worker's own default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// Where it stands.
    pub at: Path,
    /// The core it is pinned to.
    pub core: usize,
    /// Submission queue entries of its ring.
    pub ring_entries: Option<u32>,
    /// First size of a connection's read buffer.
    pub buffer_bytes: Option<usize>,
    /// Read buffers kept for reuse.
    pub buffers: Option<usize>,
    /// Instances made ahead of every wasm plugin, instead of the plugin's own `pool`.
    pub pool: Option<usize>,
}

/// What carries I/O out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// A ring where one can be set up, else epoll.
    #[default]
    Auto,
    /// A ring, or the start fails.
    Uring,
    /// epoll.
    Epoll,
}

/// Bounds of message heads; defaults in `limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head.
    pub head_bytes: usize,
    /// Header fields of a head.
    pub headers: usize,
    /// `connections`: open at a time, of all clients; `None` is no limit, as for the next.
    pub connections: Option<usize>,
    /// `connections_per_source`: of them, from one address, or one /64 of IPv6.
    pub connections_per_source: Option<usize>,
    /// `requests_per_worker`: that run at a time on one worker.
    pub requests_per_worker: Option<u64>,
    /// `head_rate`: bytes a second that a head must have at least; 0 is no rate, as for the next.
    pub head_rate: u64,
    /// `body_rate`: the same of a body, while it is waited for.
    pub body_rate: u64,
    /// `rate_grace`: how long it may be slower. Default 5 s.
    pub rate_grace: Duration,
}

/// An entry of `wasm.plugins`.
#[derive(Clone, Debug, PartialEq)]
pub struct WasmPlugin {
    /// Where it stands; `file` is at `at.key("file")`.
    pub at: Path,
    /// The key used in `plugins` of routes.
    pub name: String,
    /// Place among the plugins of a chain, high first.
    pub priority: i64,
    /// The module, as written: relative to the config's folder, then to the working directory.
    pub file: String,
    /// `http_request_phase`, default access. Never `BeforeProxy`.
    pub phase: RequestPhase,
    /// `plugin_root_id`, default empty.
    pub root_id: String,
    /// `vm_id`, default empty.
    pub vm_id: String,
    /// `vm_config`: a string as written, an object as JSON text; default empty.
    pub vm_config: String,
    /// How many requests share an instance.
    pub isolation: Isolation,
    /// Instances made ahead on each worker, 1 to 1024, default 2, or 16 if requests have their own.
    pub pool: usize,
    /// What becomes of a request that finds none of them left.
    pub dry: Dry,
    /// What a request gets that the plugin failed on.
    pub on_error: OnError,
    /// What an instance may use.
    pub limits: WasmLimits,
    /// Whom the plugin may call.
    pub callouts: Callouts,
    /// What a pause of headers holds.
    pub pause: Pause,
    /// `writable_properties`: whether it may set attributes of the message as properties.
    pub writable_properties: bool,
}

/// `ringgate.node`: this process among others, for plugins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `id`; `None` is the host's name.
    pub id: Option<String>,
    /// `cluster`.
    pub cluster: String,
    /// `region`.
    pub region: String,
    /// `zone`.
    pub zone: String,
    /// `sub_zone`.
    pub sub_zone: String,
    /// `metadata`: texts, by the names that lead to them.
    pub metadata: Vec<(Vec<String>, String)>,
}

/// How many requests share an instance of a wasm plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All of a worker's.
    #[default]
    Shared,
    /// None: each request has its own.
    Request,
}

/// What becomes of a request that finds no instance made ahead, with `isolation: request`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dry {
    /// One is made for it.
    #[default]
    Make,
    /// It waits for one that is made between requests.
    Wait,
    /// It gets what `on_error` says.
    Refuse,
}

/// What a request gets that a plugin failed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// 503: the plugin might have been what guards the route.
    #[default]
    Closed,
    /// The rest of the chain, as if the plugin were not there.
    Open,
}

/// What one instance of a wasm plugin may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WasmLimits {
    /// `deadline_ms`: for one callback. Default 1000.
    pub deadline: Duration,
    /// `memory_mb`: linear memory. Default 64 MiB.
    pub memory_bytes: usize,
    /// `body_mb`: body held back per direction. Default 4 MiB.
    pub body_bytes: usize,
    /// `table_elements`: elements in a table of an instance. Default 100,000.
    pub table_elements: usize,
    /// `instances`: at work on one worker, with `isolation: request`. Default 256.
    pub instances: usize,
    /// `wait_ms`: how long a request waits for an instance. Default 1000.
    pub wait: Duration,
    /// `shared_data_mb`: keys and values in the plugin's namespace. Default 256 MiB.
    pub shared_data_bytes: usize,
    /// `callouts`: open at a time in one request. Default 16.
    pub callouts: usize,
}

/// Whom a wasm plugin may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callouts {
    /// Whether it may name `host:port` instead of an upstream. Default false.
    pub direct: bool,
    /// The upstreams and hosts it may name; `None` is all.
    pub allow: Option<Vec<String>>,
}

/// What a pause from a headers callback holds (DESIGN §4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pause {
    /// Headers and body.
    #[default]
    Hold,
    /// Headers; body callbacks go on.
    Body,
}

/// An external plugin runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerConfig {
    /// Where it stands.
    pub at: Path,
    /// Its key in `ext-plugin.runners`; empty for the one of `ext-plugin` itself.
    pub name: String,
    /// `cmd`: how it is started; empty: somebody else does that. There is a `socket` then.
    pub cmd: Vec<String>,
    /// `socket`, or `path_for_test` of `ext-plugin` itself; `None` leaves the choice to `control`.
    pub socket: Option<String>,
    /// `connections`: of one worker. Default 128.
    pub connections: usize,
    /// `queue`: calls of one worker that wait for a connection. Default 1024.
    pub queue: usize,
    /// `call_timeout`: for one call, whatever the runner asks meanwhile. Default 55 s.
    pub call_timeout: Duration,
    /// `start_timeout`: how long calls wait for a runner that is not there. Default 3 s.
    pub start_timeout: Duration,
}
