//! The rules of the order, one table each, and the router against a naive reading of them.

use super::*;
use crate::expr::parse_network;
use serde_json::json;

const NO_VARS: [(&str, &str); 0] = [];

/// A request as `METHOD host/path` with a peer.
struct Ask {
    method: Method,
    host: String,
    path: String,
    peer: IpAddr,
}

fn ask(host: &str, path: &str) -> Ask {
    Ask {
        method: Method::Get,
        host: host.to_owned(),
        path: path.to_owned(),
        peer: "192.0.2.1".parse().expect("an address"),
    }
}

impl Ask {
    fn lookup(&self) -> Lookup<'_> {
        Lookup {
            host: self.host.as_bytes(),
            path: self.path.as_bytes(),
            method: self.method,
            peer: self.peer,
        }
    }
}

fn words(list: &str) -> Vec<String> {
    list.split_whitespace().map(str::to_owned).collect()
}

/// A route with these paths, and any host.
fn path(uris: &str) -> RouteMatch {
    RouteMatch { uris: words(uris), ..RouteMatch::default() }
}

/// A route with these hosts and paths.
fn at(hosts: &str, uris: &str) -> RouteMatch {
    RouteMatch { hosts: words(hosts), ..path(uris) }
}

fn prio(priority: i64, route: RouteMatch) -> RouteMatch {
    RouteMatch { priority, ..route }
}

/// Asks `(host, path)` and compares with the number of the expected route.
fn check(kind: RouterKind, routes: Vec<RouteMatch>, rows: &[(&str, &str, Option<u32>)]) {
    let router = Router::of_kind(kind, routes.clone());
    for (host, path, expected) in rows {
        let ask = ask(host, path);
        assert_eq!(router.find(&ask.lookup(), &NO_VARS), *expected, "{host}{path}");
        assert_eq!(naive::find(kind, &routes, &ask.lookup(), &NO_VARS), *expected, "{host}{path}");
    }
}

fn check_paths(routes: Vec<RouteMatch>, rows: &[(&str, Option<u32>)]) {
    let rows: Vec<_> = rows.iter().map(|(path, expected)| ("h", *path, *expected)).collect();
    check(RouterKind::HostUri, routes.clone(), &rows);
    check(RouterKind::Uri, routes, &rows);
}

#[test]
fn no_routes_no_match() {
    check_paths(vec![], &[("/", None), ("", None)]);
    check_paths(vec![path("")], &[("/", None)]);
}

#[test]
fn exact_paths_and_prefixes() {
    check_paths(
        vec![path("/foo"), path("/bar/*"), path("/baz*"), path("/file:listX /two /three*")],
        &[
            ("/foo", Some(0)),
            ("/foo/", None),
            ("/fo", None),
            ("/bar", None),
            ("/bar/", Some(1)),
            ("/bar/x/y", Some(1)),
            ("/baz", Some(2)),
            ("/bazar", Some(2)),
            ("/baz/x", Some(2)),
            ("/file:listX", Some(3)),
            ("/file:list", None),
            ("/two", Some(3)),
            ("/threefold", Some(3)),
            ("/", None),
        ],
    );
    check_paths(vec![path("/*"), path("/")], &[("/", Some(1)), ("/x", Some(0)), ("", None)]);
    check_paths(vec![path("*")], &[("/", Some(0)), ("", Some(0)), ("x", Some(0))]);
}

#[test]
fn exact_beats_prefix_and_longer_prefix_beats_shorter_whatever_the_priority() {
    check_paths(
        vec![
            prio(9, path("/*")),
            prio(8, path("/a/*")),
            prio(7, path("/a/b*")),
            prio(-1, path("/a/b")),
        ],
        &[
            ("/x", Some(0)),
            ("/a", Some(0)),
            ("/a/x", Some(1)),
            ("/a/bc", Some(2)),
            ("/a/b", Some(3)),
        ],
    );
}

#[test]
fn priority_then_length_then_order_within_one_key() {
    let same = vec![path("/x"), prio(2, path("/x")), prio(2, path("/x")), prio(1, path("/x"))];
    check_paths(same, &[("/x", Some(1))]);
    check_paths(vec![path("/x"), path("/x")], &[("/x", Some(0))]);
    // The same prefix `/a/`: the longer written path first, unless the priority says otherwise.
    let globs = vec![path("/a/*"), path("/a/*/b"), path("/a/*/b/*")];
    check_paths(
        globs,
        &[("/a/1/b", Some(1)), ("/a/1/b/2", Some(2)), ("/a/1", Some(0)), ("/a/", Some(0))],
    );
    check_paths(vec![prio(1, path("/a/*")), path("/a/*/b")], &[("/a/1/b", Some(0))]);
}

#[test]
fn stars_inside() {
    check_paths(
        vec![path("/a/*/b"), path("/c*d"), path("/e/*name"), path("/f/*/")],
        &[
            ("/a/x/b", Some(0)),
            ("/a/x/y/b", Some(0)),
            ("/a/x/bc", None),
            ("/a/b", None),
            ("/cd", Some(1)),
            ("/cx", Some(1)),
            ("/e/anything/else", Some(2)),
            ("/f/x/", Some(3)),
            ("/f/x", None),
        ],
    );
}

#[test]
fn hosts_before_paths() {
    let routes = vec![
        path("/hello"),
        at("*.com", "/hello"),
        at("*.test.com", "/hello"),
        at("foo.test.com", "/hello"),
        at("*", "/star"),
        prio(9, path("/*")),
        at("Bar.Test.COM BAZ.com", "/two*"),
        at("*.test.com", "/only/*"),
        at("*ple.org", "/hello"),
    ];
    check(
        RouterKind::HostUri,
        routes,
        &[
            ("foo.test.com", "/hello", Some(3)),
            ("x.test.com", "/hello", Some(2)),
            ("x.y.test.com", "/hello", Some(2)),
            ("test.com", "/hello", Some(1)),
            ("com", "/hello", Some(0)),
            ("x.org", "/hello", Some(0)),
            ("example.org", "/hello", Some(8)),
            ("ple.org", "/hello", Some(8)),
            ("", "/hello", Some(0)),
            // a host that has nothing for the path: less specific hosts, then routes without hosts
            ("foo.test.com", "/only/x", Some(7)),
            ("foo.test.com", "/star", Some(4)),
            ("foo.test.com", "/else", Some(5)),
            ("x.org", "/star", Some(4)),
            ("", "/star", Some(4)),
            // several hosts, any case
            ("bar.test.com", "/two", Some(6)),
            ("baz.com", "/twofold", Some(6)),
        ],
    );
}

#[test]
fn a_host_outranks_an_exact_path_and_the_priority() {
    let routes = vec![prio(99, path("/exact")), at("a.com", "/*"), prio(5, at("*.com", "/exact"))];
    check(
        RouterKind::HostUri,
        routes.clone(),
        &[("a.com", "/exact", Some(1)), ("b.com", "/exact", Some(2)), ("c", "/exact", Some(0))],
    );
    check(
        RouterKind::Uri,
        routes,
        &[("a.com", "/exact", Some(0)), ("a.com", "/x", Some(1)), ("c", "/exact", Some(0))],
    );
}

#[test]
fn uri_router_compares_a_host_with_colon_to_the_raw_header() {
    let routes = vec![at("a.com:8080", "/*"), at("*.b.com:8080", "/*"), at("a.com", "/*")];
    let router = Router::of_kind(RouterKind::Uri, routes);
    let find = |host: &str, raw: &str| router.find(&ask(host, "/").lookup(), &[("http_host", raw)]);
    assert_eq!(find("a.com", "A.com:8080"), Some(0));
    assert_eq!(find("a.com", "a.com:80"), Some(2));
    assert_eq!(find("x.b.com", "x.b.com:8080"), Some(1));
    assert_eq!(find("x.b.com", "x.b.com"), None);
}

#[test]
fn candidates_that_do_not_admit_are_passed_over() {
    use Method::{Delete, Get, Other, Post};
    let only = |method| Methods::default().with(method);
    let rule = Expr::compile(&json!([["arg_v", "==", "1"]])).expect("a rule");
    let net = |text: &str| parse_network(text).expect("a network");
    let routes = vec![
        RouteMatch { methods: only(Post), priority: 3, ..path("/x") },
        RouteMatch { remote_addrs: vec![net("10.0.0.0/8")], priority: 2, ..path("/x") },
        RouteMatch { vars: Some(rule.clone()), priority: 1, ..path("/x") },
        RouteMatch { vars: Some(rule), ..at("a.com", "/x /y") },
        RouteMatch { methods: only(Delete), ..path("/x*") },
        RouteMatch {
            remote_addrs: vec![net("::ffff:10.0.0.0/104"), net("fe80::/10")],
            ..path("/*")
        },
    ];
    let router = Router::build(routes.clone());
    let find = |method, host: &str, path: &str, peer: &str, v: &str| {
        let peer = peer.parse().expect("an address");
        let ask = Ask { method, peer, ..ask(host, path) };
        let found = router.find(&ask.lookup(), &[("arg_v", v)]);
        assert_eq!(
            naive::find(RouterKind::HostUri, &routes, &ask.lookup(), &[("arg_v", v)]),
            found
        );
        found
    };
    for (method, host, path, peer, v, expected) in [
        (Post, "", "/x", "10.0.0.1", "1", Some(0)),
        (Get, "", "/x", "10.0.0.1", "1", Some(1)),
        (Get, "", "/x", "::ffff:10.0.0.1", "1", Some(1)),
        (Get, "", "/x", "1.1.1.1", "1", Some(2)),
        (Get, "", "/x", "1.1.1.1", "2", None),
        (Delete, "", "/x", "1.1.1.1", "2", Some(4)),
        (Other, "", "/x", "1.1.1.1", "2", None),
        (Get, "", "/z", "10.0.0.1", "", Some(5)),
        (Get, "", "/z", "fe80::1", "", Some(5)),
        (Get, "", "/z", "::1", "", None),
        (Get, "a.com", "/x", "1.1.1.1", "1", Some(3)),
        (Get, "a.com", "/y", "1.1.1.1", "1", Some(3)),
        (Get, "a.com", "/y", "1.1.1.1", "2", None),
        (Get, "a.com", "/x", "10.0.0.1", "2", Some(1)),
    ] {
        let found = find(method, host, path, peer, v);
        assert_eq!(found, expected, "{method:?} {host}{path} {peer} {v}");
    }
}

#[test]
fn many_routes_are_all_found() {
    let mut routes = Vec::new();
    for n in 0..30_000 {
        let uri = if n % 3 == 0 { format!("/s{}/i/{n}/*", n % 7) } else { format!("/s/{n}") };
        let hosts = if n % 2 == 0 { vec![format!("h{}.com", n % 100)] } else { vec![] };
        routes.push(RouteMatch { uris: vec![uri], hosts, ..RouteMatch::default() });
    }
    let router = Router::build(routes.clone());
    for (n, route) in routes.iter().enumerate() {
        let host = route.hosts.first().map_or("x", String::as_str);
        let ask = ask(host, &route.uris[0].replace('*', "tail"));
        assert_eq!(router.find(&ask.lookup(), &NO_VARS), Some(n as u32));
    }
}

#[test]
fn agrees_with_the_naive_reading() {
    let mut random = random::Source(fastrand::Rng::with_seed(20_260_722));
    let mut found = 0;
    for round in 0..20_000 {
        let kind = if round % 4 == 0 { RouterKind::Uri } else { RouterKind::HostUri };
        let routes: Vec<RouteMatch> = (0..random.0.usize(1..14)).map(|_| random.route()).collect();
        let router = Router::of_kind(kind, routes.clone());
        for _ in 0..4 {
            let ask = random.ask();
            let value = random.pick(&["1", "2"]);
            let vars = [("arg_v", value), ("http_host", ask.host.as_str())];
            let expected = naive::find(kind, &routes, &ask.lookup(), &vars);
            found += usize::from(expected.is_some());
            let lookup = ask.lookup();
            assert_eq!(
                router.find(&lookup, &vars),
                expected,
                "{kind:?} {lookup:?} arg_v={value} {routes:#?}"
            );
            let tried = router.explain(&lookup, &vars);
            let taken = tried.iter().find(|tried| tried.refusal.is_none());
            assert_eq!(taken.map(|tried| tried.route), expected, "{lookup:?} {tried:?}");
        }
    }
    assert!((30_000..70_000).contains(&found), "{found} of 80,000");
}

/// A router that was edited again and again finds what one does that was made of all routes at
/// once.
#[test]
fn edits_agree_with_a_router_of_all_routes() {
    let mut random = random::Source(fastrand::Rng::with_seed(20_261_126));
    for round in 0..300 {
        let kind = if round % 4 == 0 { RouterKind::Uri } else { RouterKind::HostUri };
        let orders: [Arc<str>; 3] = ["".into(), "a".into(), "b".into()];
        let mut routes: Vec<Option<RouteMatch>> = vec![None; 24];
        let mut router = Router::empty(kind);
        for _ in 0..12 {
            let mut edits: Vec<Edit> = Vec::new();
            for _ in 0..random.0.usize(1..6) {
                let number = random.0.usize(0..routes.len());
                if edits.iter().any(|edit| edit.number as usize == number) {
                    continue;
                }
                let mut after = (random.0.u8(0..3) > 0).then(|| random.route());
                if let Some(route) = &mut after {
                    route.order = Arc::clone(&orders[random.0.usize(0..3)]);
                }
                let before = std::mem::replace(&mut routes[number], after.clone());
                edits.push(Edit { number: number as u32, before, after });
            }
            router = router.edit(&edits);
            let numbered = (0..).zip(&routes).filter_map(|(n, route)| Some((n, route.clone()?)));
            let whole =
                numbered.map(|(number, route)| Edit { number, before: None, after: Some(route) });
            let whole = Router::empty(kind).edit(&whole.collect::<Vec<_>>());
            for _ in 0..12 {
                let ask = random.ask();
                let vars = [("arg_v", random.pick(&["1", "2"])), ("http_host", ask.host.as_str())];
                let lookup = ask.lookup();
                let expected = whole.find(&lookup, &vars);
                assert_eq!(
                    router.find(&lookup, &vars),
                    expected,
                    "{kind:?} {lookup:?} {routes:#?}"
                );
                assert_eq!(router.explain(&lookup, &vars), whole.explain(&lookup, &vars));
            }
        }
    }
}

#[test]
fn an_edit_shares_what_it_does_not_touch() {
    let route = |n: usize| RouteMatch {
        hosts: n.is_multiple_of(2).then(|| format!("h{}.com", n % 500)).into_iter().collect(),
        ..path(&if n.is_multiple_of(3) { format!("/p/{n}/*") } else { format!("/e/{n}") })
    };
    let first = Router::build((0..20_000).map(route).collect());
    let (before, after) = (Some(route(400)), Some(path("/new/x /new/y/*")));
    let second = first.edit(&[Edit { number: 400, before, after }]);
    assert!(second.parts.own_chunks(&first.parts) <= 1);
    assert!(second.prefixes.own_chunks(&first.prefixes) <= 1);
    assert_eq!(second.exact.own_shards(&first.exact), 2);
    let find =
        |router: &Router, host: &str, path: &str| router.find(&ask(host, path).lookup(), &NO_VARS);
    for (host, path, old, new) in [
        ("h400.com", "/e/400", Some(400), None),
        ("x", "/new/x", None, Some(400)),
        ("x", "/new/y/z", None, Some(400)),
        ("x", "/e/401", Some(401), Some(401)),
        ("h402.com", "/p/402/z", Some(402), Some(402)),
    ] {
        assert_eq!((find(&first, host, path), find(&second, host, path)), (old, new), "{path}");
    }
}

/// Small random routes and requests that often meet.
mod random {
    use super::*;

    pub(super) struct Source(pub(super) fastrand::Rng);

    impl Source {
        pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
            of[self.0.usize(0..of.len())]
        }

        fn path(&mut self, segments: &[&str]) -> String {
            let mut path: String =
                (0..self.0.usize(1..5)).map(|_| format!("/{}", self.pick(segments))).collect();
            if self.0.u8(0..4) == 0 {
                path.push('/');
            }
            path
        }

        pub(super) fn route(&mut self) -> RouteMatch {
            let hosts =
                ["a.com", "b.a.com", "*.com", "*.a.com", "*a.com", "*", "A.COM", "*.b.a.com"];
            let mut route = RouteMatch { priority: self.0.i64(0..3), ..RouteMatch::default() };
            for _ in 0..self.0.usize(1..3) {
                let stars: &[&str] = &["a", "b", "ab", "a*", "*", "*n", ""];
                let segments = if self.0.bool() { &stars[..3] } else { stars };
                let uri = self.path(segments);
                route.uris.push(if self.0.u8(0..3) == 0 { uri + "*" } else { uri });
            }
            if self.0.bool() {
                route.hosts = (0..self.0.usize(1..3)).map(|_| self.pick(&hosts).into()).collect();
            }
            if self.0.u8(0..4) == 0 {
                route.methods = route.methods.with(self.pick(&[Method::Get, Method::Post]));
            }
            if self.0.u8(0..5) == 0 {
                let net = self.pick(&["10.0.0.0/8", "10.1.0.0/16", "::1/128"]);
                route.remote_addrs = vec![parse_network(net).expect("a network")];
            }
            if self.0.u8(0..5) == 0 {
                let rule = json!([["arg_v", "==", self.pick(&["1", "2"])]]);
                route.vars = Some(Expr::compile(&rule).expect("a rule"));
            }
            route
        }

        pub(super) fn ask(&mut self) -> Ask {
            let hosts = ["a.com", "b.a.com", "c.b.a.com", "x.com", "xa.com", "x.org", ""];
            let peers = ["10.1.2.3", "10.2.2.2", "::ffff:10.1.0.1", "::1"];
            Ask {
                method: self.pick(&[Method::Get, Method::Post, Method::Other]),
                peer: self.pick(&peers).parse().expect("an address"),
                path: self.path(&["a", "b", "ab", "", "aab"]),
                host: self.pick(&hosts).to_owned(),
            }
        }
    }
}

/// The rules, word for word, over plain lists.
mod naive {
    use super::*;

    pub(super) fn find(
        kind: RouterKind,
        routes: &[RouteMatch],
        lookup: &Lookup<'_>,
        vars: &dyn Variables,
    ) -> Option<u32> {
        let all: Vec<u32> = (0..routes.len() as u32).collect();
        let ask = Naive { kind, routes, lookup, vars };
        if kind == RouterKind::Uri {
            return ask.by_path(&all);
        }
        let host = String::from_utf8_lossy(lookup.host);
        let mut suffixes: Vec<usize> = (0..=host.len()).rev().collect();
        suffixes.dedup();
        let exact = std::iter::once(host.to_string());
        let wildcards = suffixes.iter().map(|len| format!("*{}", &host[host.len() - len..]));
        for pattern in exact.chain(wildcards) {
            let has = |n: &&u32| {
                routes[**n as usize].hosts.iter().any(|h| h.eq_ignore_ascii_case(&pattern))
            };
            let group: Vec<u32> = all.iter().filter(has).copied().collect();
            if let Some(route) = ask.by_path(&group) {
                return Some(route);
            }
        }
        let group: Vec<u32> =
            all.into_iter().filter(|n| routes[*n as usize].hosts.is_empty()).collect();
        ask.by_path(&group)
    }

    struct Naive<'a> {
        kind: RouterKind,
        routes: &'a [RouteMatch],
        lookup: &'a Lookup<'a>,
        vars: &'a dyn Variables,
    }

    impl Naive<'_> {
        fn by_path(&self, group: &[u32]) -> Option<u32> {
            let path = std::str::from_utf8(self.lookup.path).expect("text");
            let found = self.first(group, |uri| !uri.contains('*') && uri == path);
            let lengths = (0..=path.len()).rev();
            found.or_else(|| {
                lengths.map(|len| format!("{}*", &path[..len])).find_map(|start| {
                    self.first(group, |uri| {
                        uri.starts_with(&start) && uri.find('*') == Some(start.len() - 1)
                    })
                })
            })
        }

        /// The first route to take the request, of all whose path has the right key.
        fn first(&self, group: &[u32], has_key: impl Fn(&str) -> bool) -> Option<u32> {
            let mut list: Vec<(u32, &String)> = Vec::new();
            for &n in group {
                let uris = self.routes[n as usize].uris.iter();
                list.extend(uris.filter(|uri| has_key(uri)).map(|uri| (n, uri)));
            }
            list.sort_by_key(|(_, uri)| std::cmp::Reverse(uri.len()));
            list.sort_by_key(|(n, _)| std::cmp::Reverse(self.routes[*n as usize].priority));
            list.into_iter().find(|(n, uri)| self.admits(*n, uri)).map(|(n, _)| n)
        }

        fn admits(&self, number: u32, uri: &str) -> bool {
            let route = &self.routes[number as usize];
            let peer = self.lookup.peer.to_canonical();
            let nets = &route.remote_addrs;
            let host = String::from_utf8_lossy(self.lookup.host);
            let host_fits = |pattern: &String| match pattern.to_lowercase().strip_prefix('*') {
                Some(suffix) => host.ends_with(suffix),
                None => pattern.to_lowercase() == *host,
            };
            let by_host = self.kind == RouterKind::Uri && !route.hosts.is_empty();
            route.methods.allows(self.lookup.method)
                && (nets.is_empty() || nets.iter().any(|net| net.contains(&peer)))
                && (!by_host || route.hosts.iter().any(host_fits))
                && route.vars.as_ref().is_none_or(|vars| vars.matches(self.vars))
                && (!uri.contains('*') || self.rest_fits(uri))
        }

        /// Only where a segment begins with a star is more than the prefix compared.
        fn rest_fits(&self, uri: &str) -> bool {
            let segments: Vec<&str> = uri.split('/').collect();
            if !segments.iter().any(|segment| segment.starts_with('*')) {
                return true;
            }
            let unnamed = segments.iter().map(|s| if s.starts_with('*') { "*" } else { s });
            let pattern = unnamed.collect::<Vec<_>>().join("/");
            stars(pattern.as_bytes(), self.lookup.path)
        }
    }

    fn stars(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|n| stars(rest, &text[n..])),
            Some((byte, rest)) => text.first() == Some(byte) && stars(rest, &text[1..]),
        }
    }
}
