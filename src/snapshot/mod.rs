//! Room `snapshot`: one compiled, immutable configuration.
//!
//! In: valid resources, plugin loaders, what the snapshot before was made of.
//! Out: one numbered [`Snapshot`], or problems and nothing changed.
//! May not know: how it is published.
//!
//! ```text
//! Resources ─► compile ─► Snapshot ─(shared by all workers)─► Pinned, one per worker
//!     ▲           │         routes ── chain ── target             balancers' places
//!     │           ▼         router    upstreams                   facts without atomics
//!     └────── Assembly: of the next resources, those that are the same stay as they are
//! ```

mod assembly;
mod chain;
mod compile;
mod consumers;
mod health;
mod pinned;
mod plugins;
mod prepared;
mod routes;
mod upstreams;

pub use assembly::Assembly;
pub use chain::{Chain, Step};
pub use compile::{Compiled, Inputs, Refused, compile};
pub use consumers::{Brought, ConsumerPlugins};

pub use health::{NodeHealth, UpstreamHealth};
pub use pinned::Pinned;
pub use prepared::{Prepared, has_length, local_body, write_local_head};

use crate::http::{HeadLimits, Method, uri};
use crate::listen::Place;
use crate::persistent::Array;
use crate::plugin::{LogFormat, Message, Plugin, RouteFacts, UpstreamNames};
use crate::route::{Lookup, Router};
use crate::upstream::{Timeouts, Upstream};
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;

/// Everything a request needs, as of one moment. A request keeps the snapshot it began with.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Counts up with every snapshot of this process.
    pub number: u64,
    /// Finds the route.
    pub router: Router,
    /// The routes, by the router's numbers: [`Snapshot::route`].
    pub routes: Array<Option<Arc<Route>>>,
    /// What a request without a route meets: the global rules, then a 404; [closed](Self::close) a
    /// 503.
    pub unmatched: Route,
    /// What consumers bring along to routes that tell them apart.
    pub consumers: Arc<ConsumerPlugins>,
    /// All upstreams that routes point to, by their numbers: [`Snapshot::upstream`].
    pub upstreams: Array<Option<Arc<Upstream>>>,
    /// Of these, those with names to resolve or nodes to probe.
    pub upkeep: Arc<[Arc<Upstream>]>,
    /// Those that have a name or an id, by it, for plugins' own calls.
    pub upstream_names: Arc<UpstreamNames>,
    /// Every plugin with state per worker once, for [`Plugin::prepare`] and [`Plugin::maintain`].
    pub plugins: Arc<[Arc<dyn Plugin>]>,
    /// What holds for every downstream connection.
    pub rules: Rules,
    /// Where workers listen; `None`: where they do already.
    pub listen: Option<Vec<Place>>,
    /// How a request's line looks in the access log, if there is one.
    pub access_log: Option<LogFormat>,
}

/// A compiled route.
#[derive(Clone, Debug)]
pub struct Route {
    /// What it says of itself.
    pub facts: Arc<RouteFacts>,
    /// Its plugins, global rules included.
    pub chain: Chain,
    /// Where requests go when no plugin answers.
    pub target: Target,
    /// The only response it can give, if that is so.
    pub prepared: Option<Prepared>,
    /// The route's own timeouts, which win over its upstream's.
    pub timeouts: Option<Timeouts>,
    /// Clients may switch to another protocol (`enable_websocket`).
    pub upgrades: bool,
}

impl Route {
    /// What stands for no route.
    fn none(chain: Chain, target: Target) -> Self {
        let (facts, prepared, timeouts) = Default::default();
        Self { facts, chain, target, prepared, timeouts, upgrades: false }
    }

    /// What it is counted by: its id and its service's.
    #[must_use]
    pub fn labels(&self) -> [&str; 2] {
        [&self.facts.route_id, &self.facts.service_id]
    }
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the upstream of that number.
    Upstream(usize),
    /// Nowhere: this is the answer (APISIX reference §5.2).
    Status(u16),
    /// Nowhere: no route matched.
    NoRoute,
}

/// Bounds and timeouts of the downstream side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How large request heads may be.
    pub head: HeadLimits,
    /// How large request bodies may be.
    pub body_bytes_max: Option<u64>,
    /// How long a head may take to arrive.
    pub head_ms: u64,
    /// How long to wait between two reads of a body.
    pub body_ms: u64,
    /// How long a connection may stay idle between two requests; 0: none is kept.
    pub idle_ms: u64,
    /// How long to wait between two successful sends.
    pub send_ms: u64,
    /// How fast a head must come at least.
    pub head_rate: MinRate,
    /// How fast a body must come at least, while it is waited for.
    pub body_rate: MinRate,
    /// Requests of one connection.
    pub requests_max: u64,
    /// How old a connection may be; then it carries one request more.
    pub age_ms: u64,
    /// Open connections of all workers.
    pub connections_max: usize,
    /// Those of one source.
    pub connections_per_source_max: usize,
    /// Requests of one worker that run at a time.
    pub running_max: u64,
    /// `/foo/` is matched as `/foo`.
    pub cut_tail_slash: bool,
    /// Fields with `_` in their names are kept; nginx's other way is to drop them.
    pub underscores: bool,
    /// Forwarded messages say that they went through here (RFC 9110 §7.6.3).
    pub via: bool,
    /// Whose word is taken for how a request was made.
    pub trusted: Arc<[IpNet]>,
}

/// The least that a client must send: so many bytes for each second, after some time without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate {
    /// Bytes a second; 0: it may be as slow as it likes.
    pub bytes: u64,
    /// The time without.
    pub grace_ms: u64,
}

impl MinRate {
    /// No least rate.
    pub const NONE: Self = Self { bytes: 0, grace_ms: 0 };

    /// Whether there is no least rate.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.bytes == 0
    }

    /// How long a client may still take that has sent `bytes` and was waited for so long.
    #[must_use]
    pub fn left_ms(self, bytes: u64, waited_ms: u64) -> u64 {
        match bytes.saturating_mul(1000).checked_div(self.bytes) {
            Some(earned) => self.grace_ms.saturating_add(earned).saturating_sub(waited_ms),
            None => u64::MAX,
        }
    }
}

impl Default for Rules {
    /// APISIX's defaults (reference §1).
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            body_bytes_max: None,
            head_ms: 60_000,
            body_ms: 60_000,
            idle_ms: 60_000,
            send_ms: 10_000,
            head_rate: MinRate::NONE,
            body_rate: MinRate::NONE,
            requests_max: u64::MAX,
            age_ms: u64::MAX,
            connections_max: usize::MAX,
            connections_per_source_max: usize::MAX,
            running_max: u64::MAX,
            cut_tail_slash: false,
            underscores: true,
            via: true,
            trusted: Arc::default(),
        }
    }
}

impl Rules {
    /// Whether what a peer says of the request before it came here is believed.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&peer.to_canonical()))
    }

    /// What of a normalised path is matched.
    #[must_use]
    pub fn matched_path<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        match path {
            [whole @ .., b'/'] if self.cut_tail_slash && !whole.is_empty() => whole,
            path => path,
        }
    }
}

impl Snapshot {
    /// Has it answer every request 503 before any plugin runs, as a route with an unknown plugin
    /// config does: a global rule can't be used. No route is found any more; they are still there
    /// for whoever counts and probes.
    pub fn close(&mut self) {
        self.router = Router::default();
        self.unmatched = Route::none(Chain::default(), Target::Status(503));
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.unmatched.target != Target::NoRoute
    }

    /// The number of the route that a message takes as it is now.
    #[must_use]
    pub fn find_route(&self, message: &Message) -> Option<u32> {
        let request = &message.request;
        let host = uri::host_of(&request.authority).to_ascii_lowercase();
        let lookup = Lookup {
            host: &host,
            path: self.rules.matched_path(&request.path),
            method: Method::from_bytes(&request.method),
            peer: message.connection.peer.ip(),
        };
        self.router.find(&lookup, message)
    }

    /// The route of that number, or what stands for none.
    #[must_use]
    pub fn route(&self, number: Option<u32>) -> &Route {
        let found = number.and_then(|number| self.routes.get(number as usize)?.as_deref());
        found.unwrap_or(&self.unmatched)
    }

    /// The upstream of a number that one of its routes, or [`Snapshot::upstream_names`], has.
    ///
    /// # Panics
    /// Nobody has that number.
    #[must_use]
    pub fn upstream(&self, number: usize) -> &Arc<Upstream> {
        let found = self.upstreams.get(number).and_then(Option::as_ref);
        found.expect("a number of this snapshot's")
    }

    /// How many routes it has.
    #[must_use]
    pub fn route_count(&self) -> usize {
        self.routes.iter().flatten().count()
    }
}
