//! Why a request takes the route it takes: every candidate, in the order they are asked.

use super::candidate::Request;
use super::tree::Backward;
use super::{ANY_HOST, Candidate, Lookup, Router, table};
use crate::expr::Variables;
use std::fmt;

/// A route whose host and path led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Its number.
    pub route: u32,
    /// How its host was found.
    pub host: HostStep,
    /// How its path was found.
    pub path: PathStep,
    /// Why it does not take the request; `None`: it does, if it is asked.
    pub refusal: Option<Refusal>,
}

/// How a host was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostStep {
    /// The very host.
    Exact,
    /// A wildcard that the host ends with.
    Wildcard,
    /// The routes without hosts.
    Any,
}

/// How a path was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathStep {
    /// The very path.
    Exact,
    /// A prefix.
    Prefix,
}

/// What of a route does not fit a request that came to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `methods`.
    Method,
    /// `remote_addrs`.
    RemoteAddr,
    /// `hosts`, where they are one more test.
    Host,
    /// `vars`.
    Vars,
    /// What comes after a `*` inside the path.
    Path,
}

impl fmt::Display for HostStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "its host",
            Self::Wildcard => "a wildcard host",
            Self::Any => "any host",
        })
    }
}

impl fmt::Display for PathStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "its path",
            Self::Prefix => "a prefix of its path",
        })
    }
}

impl Router {
    /// All candidates in the order that [`Router::find`] asks them; the first without a refusal is
    /// what it finds.
    #[must_use]
    pub fn explain(&self, lookup: &Lookup<'_>, vars: &dyn Variables) -> Vec<Tried> {
        let request = &Request { lookup, peer: lookup.peer.to_canonical(), vars };
        let mut tried = Vec::new();
        let exact = self.hosts.find(0, table::hash(lookup.host), lookup.host);
        if let Some(group) = exact.filter(|_| !self.hosts.is_empty()) {
            self.explain_in(*group, HostStep::Exact, request, &mut tried);
        }
        for group in self.wildcards.ends(&Backward(lookup.host)) {
            self.explain_in(group, HostStep::Wildcard, request, &mut tried);
        }
        self.explain_in(ANY_HOST, HostStep::Any, request, &mut tried);
        tried
    }

    fn explain_in(
        &self,
        group: u32,
        host: HostStep,
        request: &Request<'_>,
        tried: &mut Vec<Tried>,
    ) {
        let mut look = |candidate: &Candidate, path| {
            let refusal = candidate.refusal(request, &self.parts);
            tried.push(Tried { route: candidate.route, host, path, refusal });
        };
        let path = request.lookup.path;
        if let Some(leaf) = self.exact.find(group, table::hash(path), path) {
            self.candidates(leaf).for_each(|candidate| look(candidate, PathStep::Exact));
        }
        for leaf in self.prefixes_of(group, path) {
            self.candidates(leaf).for_each(|candidate| look(candidate, PathStep::Prefix));
        }
    }
}
