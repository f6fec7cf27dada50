//! Room `route`: which route a request takes.
//!
//! In: the matchers of routes, all or those that changed; of each request host, path, method, peer
//! and variables.
//! Out: the number of the best route, or none; why it is that one.
//! May not know: upstreams, plugins, YAML.
//!
//! The order is APISIX's (APISIX reference §3.1; `apisix/http/router/radixtree_host_uri.lua`,
//! `api7/lua-resty-radixtree`):
//!
//! ```text
//! host    exact ─► wildcards, longest suffix first ─► `*` ─► routes without hosts
//!   path    exact ─► prefixes, longest first
//!     list    priority desc ─► length of the written path desc ─► order of the configuration
//!       test    method ─► remote address ─► vars ─► rest of a path with `*` inside
//! ```
//!
//! A step that finds nothing goes on to the next: the host outranks the path, and the path outranks
//! the priority. Exact hosts and paths are looked up in one hash table each (`table`), prefixes
//! and wildcard hosts in radix trees (`tree`) that are walked down once, then up over their
//! links. The cost of a lookup depends on the request, not on the number of routes.
//!
//! A router is a version: an edit makes another one, which shares what the edit does not touch.
//! That is all but some shards of the table and, where paths with a star come or go, the tree of
//! their host. A router of all routes is an edit of an empty one.

mod candidate;
mod edit;
mod explain;
mod prefixes;
mod table;
#[cfg(test)]
mod tests;
mod tree;

pub use edit::Edit;
pub use explain::{HostStep, PathStep, Refusal, Tried};

use crate::expr::{Expr, Variables};
use crate::http::{Method, Methods};
use crate::persistent::{Array, Numbers};
use candidate::{Candidate, Part, Request};
use ipnet::IpNet;
use prefixes::Prefixes;
use std::net::IpAddr;
use std::sync::Arc;
use table::Table;
use tree::{Backward, Tree};

/// What a route wants of a request.
#[derive(Clone, Debug, Default)]
pub struct RouteMatch {
    /// `a.com`, `*.a.com` or `*`; case does not count. Empty: any host.
    pub hosts: Vec<String>,
    /// Paths: exact, or with `*` at the end or inside. A route without one never matches.
    pub uris: Vec<String>,
    /// Methods; the empty set is any.
    pub methods: Methods,
    /// The client's networks, as [`parse_network`](crate::expr::parse_network) gives them. Empty:
    /// any.
    pub remote_addrs: Vec<IpNet>,
    /// The rule the variables must satisfy.
    pub vars: Option<Expr>,
    /// Higher is asked first among routes of the same host and the same exact path or prefix.
    pub priority: i64,
    /// Its place among equals, where their numbers do not tell: the lesser is asked first.
    pub order: Arc<str>,
}

/// How hosts take part in matching (APISIX `router.http`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouterKind {
    /// `radixtree_host_uri`: host first, then path.
    #[default]
    HostUri,
    /// `radixtree_uri`: path only; a route's hosts are one more test, between remote address and
    /// vars. A host with a colon is compared with the raw Host header.
    Uri,
}

/// A request to find a route for.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    /// The host in lower case, without port ([`crate::http::uri::host_of`]).
    pub host: &'a [u8],
    /// The normalised path ([`crate::http::uri::normalise`]).
    pub path: &'a [u8],
    /// The method.
    pub method: Method,
    /// The client's address.
    pub peer: IpAddr,
}

impl Default for Router {
    fn default() -> Self {
        Self::empty(RouterKind::default())
    }
}

/// All routes, compiled. Immutable; shared by all workers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Router {
    kind: RouterKind,
    /// Exact host → group.
    hosts: Table<u32>,
    /// Reversed suffix of a wildcard host → group.
    wildcards: Tree,
    /// Groups there are, those included that lost all their routes.
    groups: u32,
    /// (group, exact path) → its routes.
    exact: Table<Leaf>,
    /// Group → the routes of its prefixes.
    prefixes: Array<Prefixes>,
    /// Leaves' further candidates.
    lists: Array<Option<Arc<[Candidate]>>>,
    list_numbers: Numbers,
    /// By the routes' numbers.
    parts: Array<Part>,
}

/// No node, no list.
const NONE: u32 = u32::MAX;

/// The group of routes without hosts.
const ANY_HOST: u32 = 0;

/// The routes of one exact path or prefix, in the order to try them. The first stands in the table
/// itself: most paths have but one.
#[derive(Clone, Copy, Debug)]
struct Leaf {
    first: Candidate,
    /// Which list the others are, or `NONE`.
    more: u32,
}

impl Router {
    /// A router without routes.
    #[must_use]
    pub fn empty(kind: RouterKind) -> Self {
        Self {
            kind,
            hosts: Table::default(),
            wildcards: Tree::default(),
            groups: ANY_HOST + 1,
            exact: Table::default(),
            prefixes: Array::default(),
            lists: Array::default(),
            list_numbers: Numbers::default(),
            parts: Array::default(),
        }
    }

    /// Compiles routes for the default kind; a route's number is its index here.
    #[must_use]
    pub fn build(routes: Vec<RouteMatch>) -> Self {
        Self::of_kind(RouterKind::HostUri, routes)
    }

    /// Compiles routes; a route's number is its index here.
    #[must_use]
    pub fn of_kind(kind: RouterKind, routes: Vec<RouteMatch>) -> Self {
        let edits = (0..).zip(routes).map(|(number, after)| Edit {
            number,
            before: None,
            after: Some(after),
        });
        Self::empty(kind).edit(&edits.collect::<Vec<_>>())
    }

    /// The number of the route that takes the request. Allocates nothing, except what `vars` does
    /// to make a variable a route asks for.
    #[must_use]
    pub fn find(&self, lookup: &Lookup<'_>, vars: &dyn Variables) -> Option<u32> {
        let request = &Request { lookup, peer: lookup.peer.to_canonical(), vars };
        let path_hash = table::hash(lookup.path);
        self.find_by_host(request, path_hash).or_else(|| self.find_in(ANY_HOST, request, path_hash))
    }

    fn find_by_host(&self, request: &Request<'_>, path_hash: u64) -> Option<u32> {
        let host = request.lookup.host;
        if !self.hosts.is_empty() {
            let group = self.hosts.find(0, table::hash(host), host);
            if let Some(route) = group.and_then(|g| self.find_in(*g, request, path_hash)) {
                return Some(route);
            }
        }
        let mut ends = self.wildcards.ends(&Backward(host));
        ends.find_map(|group| self.find_in(group, request, path_hash))
    }

    /// Looks among the routes of one host.
    fn find_in(&self, group: u32, request: &Request<'_>, path_hash: u64) -> Option<u32> {
        let path = request.lookup.path;
        let exact = self.exact.find(group, path_hash, path);
        exact
            .and_then(|leaf| self.first_of(leaf, request))
            .or_else(|| self.prefixes_of(group, path).find_map(|leaf| self.first_of(leaf, request)))
    }

    /// The leaves of all prefixes of a path, the longest first.
    fn prefixes_of<'r>(&'r self, group: u32, path: &[u8]) -> impl Iterator<Item = &'r Leaf> {
        self.prefixes.get(group as usize).into_iter().flat_map(move |all| all.of(path))
    }

    /// The first candidate of a leaf that admits the request.
    fn first_of(&self, leaf: &Leaf, request: &Request<'_>) -> Option<u32> {
        if leaf.first.admits(request, &self.parts) {
            return Some(leaf.first.route);
        }
        let mut more = self.more(leaf).iter();
        more.find(|candidate| candidate.admits(request, &self.parts)).map(|found| found.route)
    }

    /// All candidates of a leaf, in order.
    fn candidates<'r>(&'r self, leaf: &'r Leaf) -> impl Iterator<Item = &'r Candidate> {
        std::iter::once(&leaf.first).chain(self.more(leaf))
    }

    fn more(&self, leaf: &Leaf) -> &[Candidate] {
        if leaf.more == NONE {
            return &[];
        }
        self.lists.get(leaf.more as usize).and_then(Option::as_deref).unwrap_or_default()
    }
}
