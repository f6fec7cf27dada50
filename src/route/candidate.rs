//! The routes of one exact path or prefix, and what they ask beyond it.

use super::{Lookup, Refusal};
use crate::expr::{Expr, Variables};
use crate::http::Methods;
use crate::persistent::Array;
use ipnet::IpNet;
use memchr::memmem;
use std::net::IpAddr;
use std::sync::Arc;

/// One route in a list. Twelve bytes: what most routes ask is here, the rest with the route's part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) route: u32,
    pub(super) rest: Rest,
    pub(super) methods: Methods,
    /// Length of the path as it is written, as far as it fits.
    pub(super) written: u16,
}

/// What is asked beyond method and prefix: an index of a route's globs, or one of the constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest(pub(super) u32);

impl Rest {
    /// Nothing.
    pub(super) const NOTHING: Self = Self(u32::MAX);
    /// The route's conditions, and no glob.
    pub(super) const NO_GLOB: Self = Self(u32::MAX - 1);
}

/// What a route is among others, and what it asks wherever it stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub(super) priority: i64,
    pub(super) order: Arc<str>,
    pub(super) conditions: Option<Arc<Conditions>>,
}

/// One lookup, as candidates see it.
pub(super) struct Request<'a> {
    pub(super) lookup: &'a Lookup<'a>,
    /// The peer, IPv4 if it is an IPv4-mapped IPv6 address.
    pub(super) peer: IpAddr,
    pub(super) vars: &'a dyn Variables,
}

impl Candidate {
    /// Whether the route takes the request, its path being right so far as it was looked up.
    pub(super) fn admits(&self, request: &Request<'_>, parts: &Array<Part>) -> bool {
        self.methods.allows(request.lookup.method)
            && (self.rest == Rest::NOTHING
                || self.conditions(parts).is_some_and(|all| all.admit(self.rest, request)))
    }

    /// Why the route does not take the request; [`Candidate::admits`] for people.
    pub(super) fn refusal(&self, request: &Request<'_>, parts: &Array<Part>) -> Option<Refusal> {
        if !self.methods.allows(request.lookup.method) {
            return Some(Refusal::Method);
        }
        self.conditions(parts)?.refusal(self.rest, request)
    }

    fn conditions<'p>(&self, parts: &'p Array<Part>) -> Option<&'p Conditions> {
        parts.get(self.route as usize)?.conditions.as_deref()
    }
}

/// What a route asks beyond path and method.
#[derive(Debug)]
pub(super) struct Conditions {
    pub(super) remote_addrs: Box<[IpNet]>,
    pub(super) hosts: Box<[HostPattern]>,
    pub(super) vars: Option<Expr>,
    /// Of its paths with a star inside.
    pub(super) globs: Box<[Glob]>,
}

impl Conditions {
    pub(super) fn is_empty(&self) -> bool {
        let Self { remote_addrs, hosts, vars, globs } = self;
        remote_addrs.is_empty() && hosts.is_empty() && vars.is_none() && globs.is_empty()
    }

    fn refusal(&self, rest: Rest, request: &Request<'_>) -> Option<Refusal> {
        if !self.has_peer(request) {
            return Some(Refusal::RemoteAddr);
        }
        if !self.has_host(request) {
            return Some(Refusal::Host);
        }
        if !self.has_vars(request) {
            return Some(Refusal::Vars);
        }
        (!self.has_path(rest, request)).then_some(Refusal::Path)
    }

    fn admit(&self, rest: Rest, request: &Request<'_>) -> bool {
        self.has_peer(request)
            && self.has_host(request)
            && self.has_vars(request)
            && self.has_path(rest, request)
    }

    fn has_peer(&self, request: &Request<'_>) -> bool {
        let nets = &self.remote_addrs;
        nets.is_empty() || nets.iter().any(|net| net.contains(&request.peer))
    }

    fn has_host(&self, request: &Request<'_>) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|host| host.matches(request))
    }

    fn has_vars(&self, request: &Request<'_>) -> bool {
        self.vars.as_ref().is_none_or(|vars| vars.matches(request.vars))
    }

    fn has_path(&self, rest: Rest, request: &Request<'_>) -> bool {
        let glob = self.globs.get(rest.0 as usize);
        glob.is_none_or(|glob| glob.matches(request.lookup.path))
    }
}

/// A route's host where hosts are one more test (`radixtree_uri`).
#[derive(Debug)]
pub(super) struct HostPattern {
    wildcard: bool,
    /// In lower case, without the star.
    text: Box<[u8]>,
}

impl HostPattern {
    pub(super) fn new(host: &str) -> Self {
        let (wildcard, text) = match host.strip_prefix('*') {
            Some(suffix) => (true, suffix),
            None => (false, host),
        };
        Self { wildcard, text: text.to_ascii_lowercase().into_bytes().into() }
    }

    fn matches(&self, request: &Request<'_>) -> bool {
        if self.text.contains(&b':')
            && let Some(raw) = request.vars.variable("http_host")
        {
            return self.matches_host(&raw);
        }
        self.matches_host(request.lookup.host)
    }

    fn matches_host(&self, host: &[u8]) -> bool {
        let Some(before) = host.len().checked_sub(self.text.len()) else { return false };
        (self.wildcard || before == 0) && host[before..].eq_ignore_ascii_case(&self.text)
    }
}

/// A path with `*` inside: its pieces, with any bytes between them, slashes included.
///
/// A segment that begins with `*` is a star altogether, what follows in it being the star's name.
/// The pieces are text; resty-radixtree takes them for regular expressions, where `.` is any byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    first: Box<[u8]>,
    middle: Box<[Box<[u8]>]>,
    last: Box<[u8]>,
}

impl Glob {
    /// The glob of a path, if it asks more than the prefix before its first star: not for `/a/*`,
    /// and not where no segment begins with a star (`/a*b` is the prefix `/a`, as in
    /// resty-radixtree).
    pub(super) fn of(path: &str) -> Option<Self> {
        let mut pieces = vec![Vec::new()];
        let mut named = false;
        for (index, segment) in path.split('/').enumerate() {
            let piece = pieces.last_mut().filter(|_| index > 0);
            piece.into_iter().for_each(|piece| piece.push(b'/'));
            let star = segment.starts_with('*');
            named |= star;
            for part in if star { "*" } else { segment }.split_inclusive('*') {
                let text = part.trim_end_matches('*');
                pieces.last_mut().into_iter().for_each(|p| p.extend_from_slice(text.as_bytes()));
                if text.len() < part.len() {
                    pieces.push(Vec::new());
                }
            }
        }
        let mut pieces: Vec<Box<[u8]>> = pieces.into_iter().map(Vec::into_boxed_slice).collect();
        let last = pieces.pop()?;
        if !named || (last.is_empty() && pieces.len() == 1) {
            return None;
        }
        let first = pieces.remove(0);
        Some(Self { first, middle: pieces.into(), last })
    }

    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let rest = path.strip_prefix(&*self.first);
        let Some(mut rest) = rest.and_then(|rest| rest.strip_suffix(&*self.last)) else {
            return false;
        };
        // Taking each piece where it is first leaves the most for the others.
        self.middle.iter().all(|piece| {
            let found = memmem::find(rest, piece);
            rest = &rest[found.map_or(0, |at| at + piece.len())..];
            found.is_some()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_paths() {
        for (pattern, yes, no) in [
            ("/a/*/b", &["/a/x/b", "/a/x/y/b", "/a//b"][..], &["/a/b", "/a/x/bc", "/a/x"][..]),
            ("/a/*/b/*", &["/a/x/b/", "/a/1/b/b/2"], &["/a/x/b", "/a/b/c"]),
            ("/a/*/b/*/c", &["/a/1/b/2/c", "/a/1/b/2/b/3/c"], &["/a/1/b/c", "/a/1/b/2/d"]),
            ("/a/*name/b", &["/a/x/b"], &["/a/xname/c"]),
            ("/a/*/", &["/a/x/", "/a/x/y/"], &["/a/x", "/a/"]),
            ("*/b", &["/b", "/a/b", "x/b"], &["/bc"]),
            ("/*/b.c", &["/x/b.c"], &["/x/bXc", "/b.c"]),
            ("/a*b/*/c", &["/ab/x/c", "/aXb/x/c"], &["/ac/x/c", "/ab/c"]),
        ] {
            let glob = Glob::of(pattern).expect(pattern);
            assert!(yes.iter().all(|path| glob.matches(path.as_bytes())), "{pattern} {yes:?}");
            assert!(no.iter().all(|path| !glob.matches(path.as_bytes())), "{pattern} {no:?}");
        }
        for pattern in ["*", "/*", "/a/*", "/a*", "/a/*name", "/a*b", "/a*b/c"] {
            assert_eq!(Glob::of(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn host_patterns() {
        for (pattern, yes, no) in [
            ("A.com", &["a.com"][..], &["b.com", "x.a.com", ""][..]),
            ("*.a.com", &["x.a.com", "x.y.a.com"], &["a.com", "xa.com"]),
            ("*a.com", &["a.com", "xa.com"], &["b.com"]),
            ("*", &["", "a"], &[]),
        ] {
            let pattern = HostPattern::new(pattern);
            assert!(yes.iter().all(|host| pattern.matches_host(host.as_bytes())), "{pattern:?}");
            assert!(no.iter().all(|host| !pattern.matches_host(host.as_bytes())), "{pattern:?}");
        }
    }
}
