//! `apisix.yaml` as types: parsed once, valid from here on.
//!
//! Sources: APISIX reference §3 to §6 and §8. Every item keeps the [`Path`] it was read at, so that
//! what later turns out to be wrong with it (an unknown plugin) can be shown in the file.

use crate::http::Methods;
use crate::proxy_protocol::Version;
use crate::schema::Path;
use ipnet::IpNet;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// `apisix.yaml`: what is served. Ids are unique within each list.
///
/// Items of which there may be very many are shared: the same one, by its address, is the same item
/// still.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// `routes`, also those with `status: 0`.
    pub routes: Vec<Arc<Route>>,
    /// `services`.
    pub services: Vec<Arc<Service>>,
    /// `upstreams`; each has an id.
    pub upstreams: Vec<Arc<Upstream>>,
    /// `plugin_configs`.
    pub plugin_configs: Vec<Arc<PluginConfig>>,
    /// `global_rules`.
    pub global_rules: Vec<GlobalRule>,
    /// One more is kept that can't be used, so that no request may go on; never so in a file.
    pub lacks_global_rule: bool,
    /// `consumers`, with their credentials.
    pub consumers: Vec<Consumer>,
    /// `consumer_groups`.
    pub consumer_groups: Vec<ConsumerGroup>,
    /// `plugin_metadata`.
    pub plugin_metadata: Vec<PluginMetadata>,
}

/// A route (APISIX reference §3).
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Where it stands.
    pub at: Path,
    /// `id`, or `arr_<n>` counted from 1.
    pub id: String,
    /// `name`.
    pub name: Option<String>,
    /// `labels`.
    pub labels: Vec<(String, String)>,
    /// `uri` or `uris`: at least one.
    pub uris: Vec<String>,
    /// `priority`, default 0: orders routes with the same path only.
    pub priority: i64,
    /// `methods`; all if there are none.
    pub methods: Methods,
    /// `host` or `hosts`, lower case; empty means any, or the service's.
    pub hosts: Vec<String>,
    /// `remote_addr` or `remote_addrs`; empty means any.
    pub remote_addrs: Vec<IpNet>,
    /// `vars`.
    pub vars: Option<Rule>,
    /// `timeout`, before the upstream's.
    pub timeout: Option<Timeout>,
    /// `plugins`, in the order written.
    pub plugins: Vec<PluginConf>,
    /// `plugin_config_id`.
    pub plugin_config_id: Option<String>,
    /// `service_id`.
    pub service_id: Option<String>,
    /// `upstream_id`, before `upstream`.
    pub upstream_id: Option<String>,
    /// `upstream`.
    pub upstream: Option<Upstream>,
    /// `enable_websocket`; `None` leaves it to the service.
    pub enable_websocket: Option<bool>,
    /// `status` is not 0: the route is searched.
    pub enabled: bool,
}

/// A rule of `vars` or `_meta.filter`, not compiled: room `expr` reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Where it stands.
    pub at: Path,
    /// An array.
    pub value: Value,
}

/// A service (APISIX reference §4).
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Where it stands.
    pub at: Path,
    /// `id`, or `arr_<n>` counted from 1.
    pub id: String,
    /// `name`.
    pub name: Option<String>,
    /// `labels`.
    pub labels: Vec<(String, String)>,
    /// `hosts`, lower case; empty means any.
    pub hosts: Vec<String>,
    /// `plugins`, in the order written.
    pub plugins: Vec<PluginConf>,
    /// `upstream_id`, before `upstream`.
    pub upstream_id: Option<String>,
    /// `upstream`.
    pub upstream: Option<Upstream>,
    /// `enable_websocket`.
    pub enable_websocket: Option<bool>,
}

/// A plugin config (APISIX reference §6).
#[derive(Clone, Debug, PartialEq)]
pub struct PluginConfig {
    /// Where it stands.
    pub at: Path,
    /// `id`.
    pub id: String,
    /// `plugins`, in the order written.
    pub plugins: Vec<PluginConf>,
}

/// A global rule (APISIX reference §6).
#[derive(Clone, Debug, PartialEq)]
pub struct GlobalRule {
    /// Where it stands.
    pub at: Path,
    /// `id`.
    pub id: String,
    /// `plugins`, in the order written.
    pub plugins: Vec<PluginConf>,
}

/// A consumer: somebody whom plugins know by a key or password (APISIX reference §7).
#[derive(Clone, Debug, PartialEq)]
pub struct Consumer {
    /// Where it stands.
    pub at: Path,
    /// `username`.
    pub username: String,
    /// `labels`.
    pub labels: Vec<(String, String)>,
    /// `plugins`: what plugins like `key-auth` know it by, and others, which its requests bring
    /// along.
    pub plugins: Vec<PluginConf>,
    /// `group_id`.
    pub group_id: Option<String>,
    /// Items of `consumers` whose id is `<username>/credentials/<id>`.
    pub credentials: Vec<Credential>,
}

/// Plugins that the requests of several consumers bring along (APISIX reference §6, §7).
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerGroup {
    /// Where it stands.
    pub at: Path,
    /// `id`.
    pub id: String,
    /// `plugins`, in the order written.
    pub plugins: Vec<PluginConf>,
}

/// What all instances of a plugin share (APISIX reference §2.2).
#[derive(Clone, Debug, PartialEq)]
pub struct PluginMetadata {
    /// Where it stands.
    pub at: Path,
    /// `id`: the plugin's name, not looked up.
    pub name: String,
    /// An object without what says when it was written; the plugin reads it.
    pub conf: Value,
}

/// One more thing a consumer is known by.
#[derive(Clone, Debug, PartialEq)]
pub struct Credential {
    /// Where it stands.
    pub at: Path,
    /// Its id, without the consumer's name.
    pub id: String,
    /// `plugins`: one.
    pub plugins: Vec<PluginConf>,
}

/// One plugin of an object: a member of `plugins`.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginConf {
    /// The plugin's name, not looked up.
    pub name: String,
    /// Where its conf stands.
    pub at: Path,
    /// `_meta`.
    pub meta: Meta,
    /// The conf, an object, without `_meta`; the plugin reads it.
    pub conf: Value,
}

/// `_meta` of a plugin's conf (APISIX reference §8).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// `disable`: the plugin is skipped and its conf need not be valid.
    pub disable: bool,
    /// `priority`: instead of the plugin's own, in this object.
    pub priority: Option<i64>,
    /// `filter`: the plugin runs where it is true.
    pub filter: Option<Rule>,
    /// `error_response`: the body instead of the plugin's own from status 400; a string or object.
    pub error_response: Option<Value>,
}

/// An upstream (APISIX reference §5), listed or inline.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Where it stands.
    pub at: Path,
    /// `id`; a listed one has one, `arr_<n>` counted from 1 if none is written.
    pub id: Option<String>,
    /// `name`.
    pub name: Option<String>,
    /// `labels`.
    pub labels: Vec<(String, String)>,
    /// `nodes`, in the order written; at least one.
    pub nodes: Vec<Node>,
    /// `type`.
    pub balancer: Balancer,
    /// `hash_on`, for [`Balancer::Chash`].
    pub hash_on: HashOn,
    /// `key`, for [`Balancer::Chash`]; there unless `hash_on` is [`HashOn::Consumer`].
    pub key: Option<String>,
    /// `retries` after the first try; `None` is one less than there are nodes.
    pub retries: Option<u32>,
    /// `retry_timeout`; `None` (0 in the file) is no limit.
    pub retry_timeout: Option<Duration>,
    /// `timeout`; `None` is 60 s each.
    pub timeout: Option<Timeout>,
    /// `scheme`.
    pub scheme: Scheme,
    /// `pass_host` with `upstream_host`.
    pub pass_host: PassHost,
    /// `keepalive_pool`; `None` is [`super::Config::keepalive`].
    pub keepalive_pool: Option<KeepalivePool>,
    /// `checks`.
    pub checks: Option<Checks>,
    /// `slow_start` (ours): how long new nodes and those that work again take to get their share.
    pub slow_start: Option<Duration>,
    /// `proxy_protocol` (ours): connections begin with a header of that version.
    pub proxy_protocol: Option<Version>,
}

/// Health checks of an upstream's nodes (APISIX reference §5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checks {
    /// `active`.
    pub active: ActiveChecks,
    /// `passive`: responses count too.
    pub passive: Option<Judgement>,
}

/// Probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveChecks {
    /// `type`: a request, or only a connection.
    pub http: Option<HttpProbe>,
    /// `timeout`.
    pub timeout: Duration,
    /// `concurrency`.
    pub concurrency: usize,
    /// `port`; `None` is the node's own.
    pub port: Option<u16>,
    /// `healthy.interval`; `None`: healthy nodes are not probed.
    pub healthy_interval: Option<Duration>,
    /// `unhealthy.interval`.
    pub unhealthy_interval: Option<Duration>,
    /// What outcomes come to.
    pub judgement: Judgement,
}

/// The request of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// `host`; `None` is the upstream's or node's own.
    pub host: Option<String>,
    /// `http_method`.
    pub method: String,
    /// `http_path`.
    pub path: String,
    /// `http_req_body`.
    pub body: String,
    /// `req_headers`, names and values.
    pub headers: Vec<(String, String)>,
    /// `type: https`, with `https_verify_certificate`; `None`: without TLS.
    pub tls: Option<ProbeTls>,
}

/// TLS of probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeTls {
    /// `https_verify_certificate`, default true.
    pub verify: bool,
}

/// Which events count for a node's health, and how many it takes; 0: that kind does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// `healthy.http_statuses`.
    pub good_statuses: Vec<u16>,
    /// `healthy.successes`.
    pub successes: u8,
    /// `unhealthy.http_statuses`.
    pub bad_statuses: Vec<u16>,
    /// `unhealthy.http_failures`.
    pub http_failures: u8,
    /// `unhealthy.tcp_failures`.
    pub tcp_failures: u8,
    /// `unhealthy.timeouts`.
    pub timeouts: u8,
}

/// One node of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it stands.
    pub at: Path,
    /// A name or an address, IPv6 without brackets; or `unix:` and the path of a socket.
    pub host: String,
    /// The port, by default the scheme's; 0 for a unix socket.
    pub port: u16,
    /// Share of the requests.
    pub weight: u32,
    /// Nodes of a lower priority are tried after all of a higher one.
    pub priority: i64,
}

/// How a node is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balancer {
    /// `roundrobin`.
    #[default]
    RoundRobin,
    /// `chash`.
    Chash,
    /// `least_conn`.
    LeastConn,
    /// `ewma`.
    Ewma,
}

/// What [`Balancer::Chash`] hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashOn {
    /// The variable `key`.
    #[default]
    Vars,
    /// The header `key`.
    Header,
    /// The cookie `key`.
    Cookie,
    /// The consumer's name.
    Consumer,
    /// The template `key`.
    VarsCombinations,
}

/// What is spoken to the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP/1.1 in the clear.
    #[default]
    Http,
}

/// The Host header towards the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PassHost {
    /// The client's.
    #[default]
    Pass,
    /// The node's, with its port unless that is the scheme's own.
    Node,
    /// This one: `upstream_host`.
    Rewrite(String),
}

/// `timeout` of a route or upstream; none is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// For a connection to be made.
    pub connect: Duration,
    /// Between two writes.
    pub send: Duration,
    /// Between two reads.
    pub read: Duration,
}

/// Idle connections kept towards nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepalivePool {
    /// Connections kept on each worker.
    pub size: usize,
    /// How long one may be idle.
    pub idle_timeout: Duration,
    /// Requests after which one is closed.
    pub requests: u64,
}
