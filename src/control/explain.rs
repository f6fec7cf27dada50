//! `ringgate explain`: which way a request would go, and why.

use super::load::{Failure, Loading};
use crate::conf::{Report, Resources, Route, Severity, Source, Upstream, report};
use crate::http::{Method, Version, uri};
use crate::plugin::{Hooks, Message, RequestPhase};
use crate::route::{Lookup, PathStep, Refusal, Tried};
use crate::schema::{Path as At, Problem, nearest};
use crate::snapshot::{Snapshot, Step, Target};
use std::collections::HashMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// A request that nobody sends.
#[derive(Clone, Debug)]
pub struct Question {
    /// `GET`.
    pub method: String,
    /// `http://host/path?query`, or the path alone.
    pub url: String,
    /// `Name: value`.
    pub headers: Vec<String>,
    /// Whom it comes from.
    pub peer: IpAddr,
}

/// The answer in words.
///
/// # Errors
/// The configuration, or the question, is wrong.
pub fn explain(
    config: &Path,
    compiler: Option<&Path>,
    question: &Question,
) -> Result<String, Failure> {
    let message = message(question).map_err(Failure::File)?;
    let mut loading = Loading::open(config, compiler)?;
    let (snapshot, _) = loading.snapshot()?;
    let (resources, source) = loading.resources()?;
    let host = uri::host_of(&message.request.authority).to_ascii_lowercase();
    let lookup = Lookup {
        host: &host,
        path: snapshot.rules.matched_path(&message.request.path),
        method: Method::from_bytes(&message.request.method),
        peer: message.connection.peer.ip(),
    };
    let tried = snapshot.router.explain(&lookup, &*message);
    let answer = Answer {
        lines: lines(&source, &resources),
        snapshot: &snapshot,
        resources: &resources,
        message: &message,
        out: String::new(),
    };
    Ok(answer.of(&lookup, &tried))
}

fn message(question: &Question) -> Result<Box<Message>, String> {
    let mut message = Box::<Message>::default();
    let url = &question.url;
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        Some((other, _)) => return Err(format!("{url}: `{other}` is not http or https")),
        None if url.starts_with('/') => ("http", url.as_str()),
        None => return Err(format!("{url}: write `http://host/path`, or `/path`")),
    };
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    let request = &mut message.request;
    request.scheme = scheme.as_bytes().to_vec();
    request.authority = authority.as_bytes().to_vec();
    request.method = question.method.as_bytes().to_vec();
    request.version = Version::Http11;
    uri::normalise(uri::split(target.as_bytes()).path, &mut request.path)
        .map_err(|error| format!("{url}: {error}"))?;
    request.target = target.into_bytes();
    for header in &question.headers {
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| format!("`{header}` is not a header field: write `-H 'Name: value'`"))?;
        let value = value.trim().as_bytes();
        if name.eq_ignore_ascii_case("host") {
            request.authority = value.to_vec();
        } else {
            request.headers.append(name.as_bytes(), value);
        }
    }
    message.connection.peer = SocketAddr::new(question.peer, 0);
    Ok(message)
}

/// Where each route begins in its file, by its id.
fn lines(source: &Source, resources: &Resources) -> HashMap<String, usize> {
    let named = |route: &Arc<Route>| Problem::new(route.at.clone(), route.id.as_str());
    let report: Report = report(source, resources.routes.iter().map(named).collect());
    let lines = report.diagnostics().iter().filter(|found| found.severity == Severity::Error);
    lines.map(|found| (found.message.clone(), found.line)).collect()
}

struct Answer<'a> {
    lines: HashMap<String, usize>,
    snapshot: &'a Snapshot,
    resources: &'a Resources,
    message: &'a Message,
    out: String,
}

impl Answer<'_> {
    fn of(mut self, lookup: &Lookup<'_>, tried: &[Tried]) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let request = &self.message.request;
        self.line(format!(
            "{} {}{} from {}",
            text(&request.method),
            text(&request.authority),
            text(&request.target),
            lookup.peer
        ));
        self.line(format!(
            "matched by host `{}`, path `{}`\n",
            text(lookup.host),
            text(lookup.path)
        ));
        let taken = tried.iter().position(|tried| tried.refusal.is_none());
        match taken {
            Some(at) => self.taken(&tried[at]),
            None => self.unmatched(lookup),
        }
        self.others(tried, taken);
        self.out
    }

    fn line(&mut self, line: String) {
        self.out.push_str(&line);
        self.out.push('\n');
    }

    fn route(&self, number: u32) -> Option<&Route> {
        let id = &self.snapshot.route(Some(number)).facts.route_id;
        self.resources.routes.iter().find(|route| route.id == *id).map(|route| &**route)
    }

    /// `r1 (apisix.yaml:12), /a*`
    fn name(&self, number: u32) -> String {
        let Some(route) = self.route(number) else { return number.to_string() };
        let line = self.lines.get(&route.id).map(|line| format!(" (line {line})"));
        format!("{}{}, {}", route.id, line.unwrap_or_default(), route.uris.join(" "))
    }

    fn taken(&mut self, tried: &Tried) {
        self.line(format!("route     {}", self.name(tried.route)));
        self.line(format!("          found by {} and {}", tried.host, tried.path));
        let route = self.snapshot.route(Some(tried.route));
        if let Some(prepared) = &route.prepared {
            let plugin = route.chain.sole().map_or("a plugin", |step| step.plugin.name());
            let status = prepared.status;
            self.line(format!("answer    {status}, always the same, prepared by {plugin}"));
            return;
        }
        self.plugins(&route.chain);
        match (route.target, self.upstream(tried.route).map(upstream)) {
            (Target::Upstream(_), Some(text)) => self.line(format!("upstream  {text}")),
            (Target::Upstream(at), None) => {
                self.line(format!("upstream  {}", self.snapshot.upstream(at).name));
            }
            (Target::Status(status), _) => {
                self.line(format!("answer    {status}, unless a plugin answers: no upstream"));
            }
            (Target::NoRoute, _) => self.line("answer    404".to_owned()),
        }
    }

    /// The plugins in the order they run.
    fn plugins(&mut self, chain: &crate::snapshot::Chain) {
        let mut heading = "plugins";
        let mut show = |out: &mut String, phase: &str, step: &Step, message: &Message| {
            let name = step.plugin.name();
            let _ = write!(out, "{heading:9} {phase:12} {name}, priority {}", step.priority);
            if step.global {
                out.push_str(", of a global rule");
            }
            if step.filter.as_ref().is_some_and(|filter| !filter.matches(message)) {
                out.push_str(", skipped: its filter does not match");
            }
            out.push('\n');
            heading = "";
        };
        for at in chain.request_order() {
            let step = &chain.steps()[*at as usize];
            let wants = [Hooks::REQUEST_HEADERS, Hooks::REQUEST_BODY, Hooks::REQUEST_TRAILERS];
            if wants.iter().any(|hook| step.hooks.has(*hook)) {
                let phase = match step.phase {
                    RequestPhase::Rewrite => "rewrite",
                    RequestPhase::Access => "access",
                    RequestPhase::BeforeProxy => "before_proxy",
                };
                show(&mut self.out, phase, step, self.message);
            }
        }
        let (headers, body) = (Hooks::RESPONSE_HEADERS, Hooks::RESPONSE_BODY);
        for (phase, hook) in [("header", headers), ("body", body), ("log", Hooks::LOG)] {
            let steps = chain.response_order().iter().map(|at| &chain.steps()[*at as usize]);
            for step in steps.filter(|step| step.hooks.has(hook)) {
                show(&mut self.out, phase, step, self.message);
            }
        }
    }

    /// The upstream of a route, as APISIX's precedence has it (reference §4).
    fn upstream(&self, number: u32) -> Option<&Upstream> {
        let listed = |id: &Option<String>| {
            let id = id.as_ref()?;
            let found = self.resources.upstreams.iter().find(|one| one.id.as_ref() == Some(id));
            found.map(|upstream| &**upstream)
        };
        let route = self.route(number)?;
        let service = route
            .service_id
            .as_ref()
            .and_then(|id| self.resources.services.iter().find(|service| service.id == *id));
        listed(&route.upstream_id)
            .or(route.upstream.as_ref())
            .or_else(|| listed(&service?.upstream_id))
            .or_else(|| service?.upstream.as_ref())
    }

    fn unmatched(&mut self, lookup: &Lookup<'_>) {
        self.line("route     none: 404 after the global rules".to_owned());
        let path = String::from_utf8_lossy(lookup.path).into_owned();
        let all = self.resources.routes.iter().filter(|route| route.enabled);
        let uris: Vec<&str> = all.flat_map(|route| route.uris.iter().map(String::as_str)).collect();
        if let Some(near) = nearest(&path, uris.iter().copied()).filter(|near| *near != path) {
            self.line(format!("          did you mean `{near}`?"));
        }
        let same = self.resources.routes.iter().filter(|route| route.uris.contains(&path));
        let elsewhere: Vec<String> = same
            .filter(|route| !route.hosts.is_empty())
            .map(|route| {
                format!("          {} has this path at {}", route.id, route.hosts.join(" "))
            })
            .collect();
        elsewhere.into_iter().for_each(|line| self.line(line));
        let off = self.resources.routes.iter().filter(|route| !route.enabled);
        let off: Vec<&str> = off.map(|route| route.id.as_str()).collect();
        if !off.is_empty() {
            self.line(format!("          switched off by `status: 0`: {}", off.join(" ")));
        }
        self.plugins(&self.snapshot.unmatched.chain);
    }

    fn others(&mut self, tried: &[Tried], taken: Option<usize>) {
        let found = taken.map(|at| tried[at].route);
        let mut heading = "others";
        for (at, other) in tried.iter().enumerate() {
            if Some(other.route) == found {
                continue;
            }
            let why = match (other.refusal, taken) {
                (Some(refusal), _) => self.refusal(other.route, refusal),
                (None, Some(taken)) => later(&tried[taken], other),
                (None, None) => continue,
            };
            let order =
                if taken.is_some_and(|taken| at < taken) { "asked before" } else { "after" };
            let order = if taken.is_none() { "asked" } else { order };
            self.line(format!("{heading:9} {}: {order}, {why}", self.name(other.route)));
            heading = "";
        }
    }

    fn refusal(&self, number: u32, refusal: Refusal) -> String {
        let route = self.route(number);
        let method = String::from_utf8_lossy(&self.message.request.method);
        match refusal {
            Refusal::Method => format!("but its methods leave {method} out"),
            Refusal::RemoteAddr => {
                let nets = route.map(|route| &route.remote_addrs[..]).unwrap_or_default();
                let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
                let peer = self.message.connection.peer.ip();
                format!("but {peer} is not in its remote_addrs {}", nets.join(" "))
            }
            Refusal::Host => {
                let hosts = route.map(|route| route.hosts.join(" ")).unwrap_or_default();
                format!("but the host is none of {hosts}")
            }
            Refusal::Vars => {
                let rule = route.and_then(|route| route.vars.as_ref());
                let rule = rule.map(|rule| rule.value.to_string()).unwrap_or_default();
                format!("but its vars don't match: {rule}")
            }
            Refusal::Path => "but the rest of the path does not fit".to_owned(),
        }
    }
}

/// Why a route that fits comes after the one that is taken.
fn later(taken: &Tried, other: &Tried) -> String {
    if taken.host != other.host {
        return format!("it fits too, but by {}, and hosts come first", other.host);
    }
    if taken.path != other.path {
        return format!("it fits too, but by {}", other.path);
    }
    match other.path {
        PathStep::Exact => "it fits too, but has a lower priority or stands later",
        PathStep::Prefix => "it fits too, but by a shorter prefix or a lower priority",
    }
    .to_owned()
}

fn upstream(upstream: &Upstream) -> String {
    let name = upstream.id.as_ref().or(upstream.name.as_ref());
    let node =
        |node: &crate::conf::Node| format!("{}:{} weight {}", node.host, node.port, node.weight);
    let nodes: Vec<String> = upstream.nodes.iter().map(node).collect();
    let place = || At::to_string(&upstream.at);
    let name = name.cloned().unwrap_or_else(place);
    format!("{name}, {:?} over {}", upstream.balancer, nodes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(url: &str, headers: &[&str]) -> Question {
        Question {
            method: "GET".to_owned(),
            url: url.to_owned(),
            headers: headers.iter().map(|header| (*header).to_owned()).collect(),
            peer: [127, 0, 0, 1].into(),
        }
    }

    #[test]
    fn questions_are_requests() {
        for (url, headers, authority, target, path) in [
            ("http://a.test:81/x%20y?q=1", &[][..], "a.test:81", "/x%20y?q=1", "/x y"),
            ("https://a.test", &["X-A: b"], "a.test", "/", "/"),
            ("http://a.test?q", &[], "a.test", "/?q", "/"),
            ("/only//path", &["host:  b.test "], "b.test", "/only//path", "/only/path"),
        ] {
            let message = message(&question(url, headers)).expect(url);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(text(&message.request.authority), authority, "{url}");
            assert_eq!(text(&message.request.target), target, "{url}");
            assert_eq!(text(&message.request.path), path, "{url}");
        }
        for (url, header) in
            [("ftp://a/", "a: b"), ("a.test/x", "a: b"), ("/%zz", "a: b"), ("/", "x")]
        {
            assert!(message(&question(url, &[header])).is_err(), "{url} {header}");
        }
    }
}
