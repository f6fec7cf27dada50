//! Plugins that follow a script, and snapshots made of them.

use crate::http::BodyLength;
use crate::persistent::Array;
use crate::plugin::{
    Action, Hold, Hooks, Plugin, Reply, RequestPhase, RouteFacts, Stream, StreamKey,
};
use crate::proxy_protocol::Version;
use crate::route::{RouteMatch, Router};
use crate::snapshot::{Chain, Pinned, Route, Rules, Snapshot, Step, Target};
use crate::upstream::{Address, Balancer, Board, Checks, HostPolicy, Peer, Timeouts, Upstream};
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

/// The callbacks, by the place of their acts in a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    RequestHeaders,
    RequestBody,
    RequestTrailers,
    ResponseHeaders,
    ResponseBody,
    ResponseTrailers,
    Due,
    Reply,
}

pub(super) const PHASES: [Phase; 8] = [
    Phase::RequestHeaders,
    Phase::RequestBody,
    Phase::RequestTrailers,
    Phase::ResponseHeaders,
    Phase::ResponseBody,
    Phase::ResponseTrailers,
    Phase::Due,
    Phase::Reply,
];

/// What a plugin does to the message in one callback.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    /// Makes the body upper case: the same whether it is done once or twice, whole or in pieces.
    Upper,
    Body(&'static str),
    Append(&'static str),
    SetRequest(&'static str, &'static str),
    SetResponse(&'static str, &'static str),
    RemoveRequest(&'static str),
    RemoveResponse(&'static str),
    Status(u16),
    Method(&'static str),
    /// A body where there was none.
    Announce(u64),
    /// A field for the response to come.
    Promise(&'static str, &'static str),
    Respond(u16, Option<&'static str>),
    RespondField(&'static str, &'static str),
    Details(&'static str),
    ResumeRequest,
    ResumeResponse,
    /// Somebody will ask this of the exchange while it waits.
    Later(Later),
    /// Sets the path and has the route chosen again.
    Reroute(&'static str),
}

/// What is asked of a waiting exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Later {
    ResumeRequest,
    ResumeResponse,
    /// Edits the body that the plugin holds back, then resumes both directions.
    EditHeld,
    Respond(u16),
    /// Answers, and then lets the request go on all the same.
    RespondAndResume(u16),
    Close,
    Reply,
    /// What the plugin had for the exchange is gone.
    Lost,
}

/// What is still to be asked, of whom.
pub(super) type Asks = Arc<Mutex<Vec<(StreamKey, Later)>>>;

/// One callback's turn.
#[derive(Clone, Debug)]
pub(super) struct Act {
    pub(super) effects: Vec<Effect>,
    pub(super) action: Action,
}

pub(super) fn go() -> Act {
    Act { effects: vec![], action: Action::Continue }
}

pub(super) fn edit(effect: Effect) -> Act {
    Act { effects: vec![effect], action: Action::Continue }
}

pub(super) fn pause(hold: Hold) -> Act {
    Act { effects: vec![], action: Action::Pause(hold) }
}

pub(super) fn respond(status: u16, body: Option<&'static str>) -> Act {
    Act { effects: vec![Effect::Respond(status, body)], action: Action::Respond }
}

pub(super) fn close() -> Act {
    Act { effects: vec![], action: Action::Close }
}

impl Act {
    pub(super) fn and(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }
}

/// Who was called when, `plugin phase body end`, for all plugins of a chain.
pub(super) type Calls = Arc<Mutex<Vec<String>>>;

/// A plugin whose n-th callback of a phase does the n-th act, and later ones the last.
pub(super) struct Scripted {
    name: String,
    hooks: Hooks,
    acts: [Vec<Act>; PHASES.len()],
    held_max: usize,
    calls: Calls,
    asks: Asks,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} holds at most {}", self.name, self.held_max)?;
        for phase in PHASES.into_iter().filter(|phase| !self.acts[*phase as usize].is_empty()) {
            write!(f, "\n    {phase:?}: {:?}", self.acts[phase as usize])?;
        }
        Ok(())
    }
}

impl Scripted {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            hooks: Hooks::LOG | Hooks::WAITS,
            acts: Default::default(),
            held_max: 1024,
            calls: Calls::default(),
            asks: Asks::default(),
        }
    }

    /// Asks for a phase and plays these acts in it.
    pub(super) fn on(mut self, phase: Phase, acts: &[Act]) -> Self {
        self.hooks = self.hooks | hook_of(phase);
        self.acts[phase as usize] = acts.to_vec();
        self
    }

    pub(super) fn holds_at_most(mut self, bytes: usize) -> Self {
        self.held_max = bytes;
        self
    }

    fn play(&self, phase: Phase, end: bool, stream: &mut Stream<'_>) -> Action {
        let shift = 8 * phase as u64;
        let turn = (*stream.state >> shift & 0x7f) as usize;
        *stream.state += u64::from(turn < 0x7f) << shift;
        let text = String::from_utf8_lossy(&stream.message.body).into_owned();
        self.note(format!("{} {phase:?} {text:?}{}", self.name, if end { " end" } else { "" }));
        let acts = &self.acts[phase as usize];
        // A plugin that sleeps for ever would never end; every other act may be repeated.
        let last = acts.last().filter(|_| !matches!(phase, Phase::Due | Phase::Reply));
        let Some(act) = acts.get(turn).or(last) else { return Action::Continue };
        for effect in &act.effects {
            if let (Effect::Later(later), Some(key)) = (effect, stream.key) {
                self.asks.lock().expect("no panic").push((key, *later));
            }
            apply(effect, stream);
        }
        act.action
    }

    fn note(&self, call: String) {
        self.calls.lock().expect("no panic while calls are noted").push(call);
    }
}

fn hook_of(phase: Phase) -> Hooks {
    match phase {
        Phase::RequestHeaders => Hooks::REQUEST_HEADERS,
        Phase::RequestBody => Hooks::REQUEST_BODY,
        Phase::RequestTrailers => Hooks::REQUEST_TRAILERS,
        Phase::ResponseHeaders => Hooks::RESPONSE_HEADERS,
        Phase::ResponseBody => Hooks::RESPONSE_BODY,
        Phase::ResponseTrailers => Hooks::RESPONSE_TRAILERS,
        Phase::Due | Phase::Reply => Hooks::NONE,
    }
}

fn apply(effect: &Effect, stream: &mut Stream<'_>) {
    let message = &mut **stream.message;
    match effect {
        Effect::Upper => message.body.make_ascii_uppercase(),
        Effect::Body(text) => message.body = text.as_bytes().to_vec(),
        Effect::Append(text) => message.body.extend_from_slice(text.as_bytes()),
        Effect::SetRequest(name, value) => {
            message.request.headers.set(name.as_bytes(), value.as_bytes());
        }
        Effect::SetResponse(name, value) => {
            message.response.headers.set(name.as_bytes(), value.as_bytes());
        }
        Effect::RemoveRequest(name) => {
            message.request.headers.remove(name.as_bytes());
        }
        Effect::RemoveResponse(name) => {
            message.response.headers.remove(name.as_bytes());
        }
        Effect::Status(status) => message.response.status = *status,
        Effect::Method(method) => message.request.method = method.as_bytes().to_vec(),
        Effect::Announce(bytes) => message.response.body = BodyLength::Known(*bytes),
        Effect::Promise(name, value) => {
            message.response_fields.append(name.as_bytes(), value.as_bytes());
        }
        Effect::Respond(status, body) => message.respond(*status, body.map(str::as_bytes)),
        Effect::RespondField(name, value) => {
            message.local.headers.append(name.as_bytes(), value.as_bytes());
        }
        Effect::Details(text) => message.local.details = text.as_bytes().to_vec(),
        Effect::ResumeRequest => message.resume_request = true,
        Effect::ResumeResponse => message.resume_response = true,
        Effect::Later(_) => {}
        Effect::Reroute(path) => {
            message.request.target = path.as_bytes().to_vec();
            message.request.path = path.as_bytes().to_vec();
            message.clear_route = true;
        }
    }
}

impl Plugin for Scripted {
    fn name(&self) -> &str {
        &self.name
    }

    fn hooks(&self) -> Hooks {
        self.hooks
    }

    fn held_bytes_max(&self) -> usize {
        self.held_max
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, end: bool) -> Action {
        self.play(Phase::RequestHeaders, end, stream)
    }

    fn on_request_body(&self, stream: &mut Stream<'_>, end: bool) -> Action {
        self.play(Phase::RequestBody, end, stream)
    }

    fn on_request_trailers(&self, stream: &mut Stream<'_>) -> Action {
        self.play(Phase::RequestTrailers, false, stream)
    }

    fn on_response_headers(&self, stream: &mut Stream<'_>, end: bool) -> Action {
        self.play(Phase::ResponseHeaders, end, stream)
    }

    fn on_response_body(&self, stream: &mut Stream<'_>, end: bool) -> Action {
        self.play(Phase::ResponseBody, end, stream)
    }

    fn on_response_trailers(&self, stream: &mut Stream<'_>) -> Action {
        self.play(Phase::ResponseTrailers, false, stream)
    }

    fn on_due(&self, stream: &mut Stream<'_>) -> Action {
        self.play(Phase::Due, false, stream)
    }

    fn on_reply(&self, stream: &mut Stream<'_>, _: Reply) -> Action {
        self.play(Phase::Reply, false, stream)
    }

    fn on_lost(&self, stream: &mut Stream<'_>) -> Action {
        self.play(Phase::Reply, false, stream)
    }

    fn on_log(&self, stream: &mut Stream<'_>) {
        self.note(format!("{} log {}", self.name, stream.message.response.status));
    }
}

/// Everything a snapshot is made of: the route that requests take, and one of the path `/other`,
/// with an upstream of its own at [`OTHER`], that they may be led to.
pub(super) struct Setup {
    pub(super) plugins: Vec<Scripted>,
    /// Changes the steps after they were made: `_meta`.
    pub(super) meta: fn(&mut [Step]),
    pub(super) peers: usize,
    pub(super) retries: u32,
    pub(super) retry_ms: u64,
    pub(super) timeouts: Timeouts,
    pub(super) host: HostPolicy,
    pub(super) balancer: Balancer,
    pub(super) checks: Option<Checks>,
    pub(super) proxy_protocol: Option<Version>,
    pub(super) target: Target,
    pub(super) rules: Rules,
    pub(super) upgrades: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            plugins: vec![],
            meta: |_| {},
            peers: 1,
            retries: 1,
            retry_ms: 0,
            timeouts: Timeouts { connect_ms: 1_000, send_ms: 2_000, read_ms: 3_000 },
            host: HostPolicy::Pass,
            balancer: Balancer::RoundRobin,
            checks: None,
            proxy_protocol: None,
            target: Target::Upstream(0),
            rules: Rules { body_ms: 4_000, send_ms: 5_000, ..Rules::default() },
            upgrades: false,
        }
    }
}

/// A step as configuration would make it.
fn step(plugin: Scripted) -> Step {
    let plugin = Arc::new(plugin);
    let hooks = plugin.hooks();
    let phase = RequestPhase::Access;
    Step {
        plugin,
        hooks,
        filter: None,
        error_response: None,
        phase,
        global: false,
        priority: 0,
        own_priority: 0,
    }
}

impl Setup {
    /// The snapshot, where calls are noted, and where plugins leave what is to be asked.
    pub(super) fn pin(self) -> (Rc<Pinned>, Calls, Asks) {
        let (calls, asks) = (Calls::default(), Asks::default());
        let with_calls =
            |plugin| Scripted { calls: Arc::clone(&calls), asks: Arc::clone(&asks), ..plugin };
        let mut steps: Vec<Step> = self.plugins.into_iter().map(with_calls).map(step).collect();
        for (at, step) in steps.iter_mut().enumerate() {
            step.priority = -(at as i64);
        }
        (self.meta)(&mut steps);
        let named = |id: &str, chain, target, timeouts| Route {
            facts: Arc::new(RouteFacts { route_id: id.to_owned(), ..RouteFacts::default() }),
            chain,
            target,
            prepared: None,
            timeouts,
            upgrades: self.upgrades,
        };
        let route = |chain, target| named("r", chain, target, None);
        let board = Board::new("u");
        let peer = |at| {
            let node = board.node(&format!("node{at}"), 80);
            node.set_addresses(&[address(at)]);
            Peer { node, host: format!("node{at}").into_bytes(), weight: 1, priority: 0 }
        };
        let upstream = |peers| Upstream {
            name: "u".to_owned(),
            host: self.host.clone(),
            timeouts: self.timeouts,
            retries: self.retries,
            retry_ms: self.retry_ms,
            checks: self.checks.clone(),
            proxy_protocol: self.proxy_protocol,
            ..Upstream::new(Arc::clone(&board), peers, self.balancer.clone())
        };
        let other = upstream(vec![peer(OTHER)]);
        let upstream = upstream((0..self.peers).map(peer).collect());
        let hurried = Timeouts { connect_ms: 50, ..self.timeouts };
        let only = |uri: &str| RouteMatch { uris: vec![uri.to_owned()], ..RouteMatch::default() };
        let snapshot = Snapshot {
            number: 1,
            router: Router::build(vec![only("/first"), only("/other")]),
            routes: shared([
                route(Chain::new(steps), self.target),
                named("other", Chain::default(), Target::Upstream(1), Some(hurried)),
            ]),
            unmatched: route(Chain::default(), Target::NoRoute),
            consumers: Arc::default(),
            upstreams: shared([upstream, other]),
            upkeep: Arc::default(),
            upstream_names: Arc::default(),
            plugins: Arc::default(),
            rules: self.rules,
            listen: None,
            access_log: None,
        };
        (Pinned::new(Arc::new(snapshot), None), calls, asks)
    }
}

fn shared<T, const N: usize>(values: [T; N]) -> Array<Option<Arc<T>>> {
    values.into_iter().map(|value| Some(Arc::new(value))).collect()
}

/// The peer of the other route's upstream.
pub(super) const OTHER: usize = 99;

pub(super) fn address(peer: usize) -> Address {
    Address::from(([10, 0, 0, peer as u8 + 1], 80))
}
