//! Room `route`: which route a request takes.
//!
//! In: the matchers of all routes; of each request host, path, method, peer and variables.
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

mod build;
mod candidate;
mod explain;
mod table;
#[cfg(test)]
mod tests;
mod tree;

pub use explain::{HostStep, PathStep, Refusal, Tried};

use crate::expr::{Expr, Variables};
use crate::http::{Method, Methods};
use candidate::{Candidate, Filter, Request};
use ipnet::IpNet;
use std::net::IpAddr;
use table::Table;
use tree::{Backward, Forward, Tree};

/// What a route wants of a request.
#[derive(Clone, Debug, Default)]
pub struct RouteMatch {
    /// `a.com`, `*.a.com` or `*`; case does not count. Empty: any host.
    pub hosts: Vec<String>,
    /// Paths: exact, or with `*` at the end or inside. A route without one never matches.
    pub uris: Vec<String>,
    /// Methods; the empty set is any.
    pub methods: Methods,
    /// The client's networks. Empty: any.
    pub remote_addrs: Vec<IpNet>,
    /// The rule the variables must satisfy.
    pub vars: Option<Expr>,
    /// Higher is asked first among routes of the same host and the same exact path or prefix.
    pub priority: i64,
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

/// All routes, compiled. Immutable; shared by all workers.
#[derive(Debug)]
pub struct Router {
    /// Exact host → group.
    hosts: Table<u32>,
    /// Reversed suffix of a wildcard host → group. One tree.
    wildcards: Tree,
    wildcards_root: u32,
    /// (group, exact path) → its routes.
    exact: Table<Leaf>,
    /// Prefix → index in `candidates`. One tree a group, its root in `roots` or `NONE`.
    prefixes: Tree,
    roots: Box<[u32]>,
    /// Lists of candidates in the order to try them; each ends with a `last` one.
    candidates: Box<[Candidate]>,
    filters: Box<[Filter]>,
}

/// No node, no list, no filter.
const NONE: u32 = u32::MAX;

/// The group of routes without hosts.
const ANY_HOST: u32 = 0;

/// The routes of one exact path. The first stands in the table itself: most paths have but one.
#[derive(Clone, Copy, Debug)]
struct Leaf {
    first: Candidate,
    /// Where the others are, if `first` is not the last.
    more: u32,
}

impl Router {
    /// Compiles routes for the default kind; a route's number is its index here.
    #[must_use]
    pub fn build(routes: Vec<RouteMatch>) -> Self {
        Self::of_kind(RouterKind::HostUri, routes)
    }

    /// Compiles routes; a route's number is its index here.
    #[must_use]
    pub fn of_kind(kind: RouterKind, routes: Vec<RouteMatch>) -> Self {
        build::router(kind, routes)
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
        let mut ends = self.wildcards.ends(self.wildcards_root, &Backward(host));
        ends.find_map(|group| self.find_in(group, request, path_hash))
    }

    /// Looks among the routes of one host.
    fn find_in(&self, group: u32, request: &Request<'_>, path_hash: u64) -> Option<u32> {
        let path = request.lookup.path;
        if let Some(leaf) = self.exact.find(group, path_hash, path) {
            if leaf.first.admits(request, &self.filters) {
                return Some(leaf.first.route);
            }
            let more = if leaf.first.last { None } else { self.first_of(leaf.more, request) };
            if more.is_some() {
                return more;
            }
        }
        let mut ends = self.prefixes.ends(self.roots[group as usize], &Forward(path));
        ends.find_map(|list| self.first_of(list, request))
    }

    /// The first candidate of a list that admits the request.
    fn first_of(&self, list: u32, request: &Request<'_>) -> Option<u32> {
        for candidate in &self.candidates[list as usize..] {
            if candidate.admits(request, &self.filters) {
                return Some(candidate.route);
            }
            if candidate.last {
                break;
            }
        }
        None
    }
}
