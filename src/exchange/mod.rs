//! Room `exchange`: one request with its response, without I/O.
//!
//! In: events of one exchange, `now`.
//! Out: commands.
//! May not know: monoio, file descriptors, threads, the clock.
//!
//! ```text
//!  bytes from the client                                  bytes for the upstream
//!      │   ┌──────────────────── request side ─────────────────┐     ▲
//!      └──►│ head ─ chain ─ body decoder ─ chain ─ head+body    │─────┘
//!          └──────────────┬─────────────────────────────────────┘
//!                         │ a local response                    bytes from the upstream
//!          ┌──────────────▼──── response side ─────────────────┐     │
//!      ┌───│ head+body ─ chain ─ body decoder ─ chain ─ head   │◄────┘
//!      ▼   └────────────────────────────────────────────────────┘
//!  bytes for the client
//! ```
//!
//! # The driver's contract
//!
//! 1. Give one event, then call [`Exchange::poll`] until it gives `None`, start what it commands,
//!    and wait for the next event. An event that is there at once (an idle connection, bytes left
//!    over from the last read) may be given between two polls.
//! 2. Each command is given once, and not again before its event. The event must follow, except
//!    after [`Command::CloseUpstream`], when everything that runs on that connection is dropped,
//!    and after [`Command::Finish`], when everything is.
//! 3. [`Command::ReadDownstream`] and [`Command::ReadUpstream`]: bytes that the last call did not
//!    use are shown again first. Of the client's there are some left only when its request is
//!    complete: they are the next request. Of the upstream's, a call that used none needs more
//!    behind them.
//! 4. A client that no operation would hear of may be found gone at any time:
//!    [`Exchange::on_downstream_broken`].
//! 5. When [`Exchange::due_ms`] has come, call [`Exchange::on_due`]; calling it early does no harm.
//! 6. If it [`Exchange::is_reachable`]: before it waits, [`Exchange::park`]; after,
//!    [`Exchange::unpark`]. When something was asked meanwhile ([`Exchange::is_asked`]),
//!    [`Exchange::on_asked`].
//! 7. `Finish` comes exactly once; [`Exchange::take_output`] then has what is still to be sent,
//!    unless it ends in [`Ending::Abort`], and the exchange is ready for [`Exchange::begin`] again.

mod body;
mod callout;
mod cause;
mod due;
mod flow;
mod forward;
pub mod grpc;
mod hold;
mod join;
mod local;
mod max_forwards;
mod outgoing;
mod pass;
mod request;
mod reroute;
mod response;
mod retry;
#[cfg(test)]
mod tests;
mod timers;
mod tunnel;
mod upstream;
mod waiting;

pub use callout::{CalloutReader, write_call};
pub use timers::Timer;

use crate::http::{RequestHead, ResponseHead};
use crate::plugin::{Connection, Hooks, Locals, Message, Properties, StreamKey};
use crate::snapshot::{Chain, Pinned, Route};
use crate::time::HttpDate;
use crate::upstream::{Address, KeepAlive};
use cause::Cause;
use flow::Steps;
use request::RequestSide;
use response::ResponseSide;
use std::ops::Deref;
use std::rc::Rc;
use timers::Timers;
use tunnel::Tunnel;
use upstream::UpstreamSide;
use waiting::Parked;

/// What the driver is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Read from the client; then [`Exchange::on_downstream`] or [`Exchange::on_downstream_end`].
    ReadDownstream,
    /// Send all of this to the client; [`Exchange::on_downstream_takes`] whenever it took a part,
    /// then [`Exchange::on_downstream_sent`].
    SendDownstream(Vec<u8>),
    /// Take an idle connection to [`Exchange::peer`] (unless `fresh`) or make one; then
    /// [`Exchange::on_connected`] or [`Exchange::on_connect_failed`].
    Connect {
        /// An idle one must not be used: the last one was stale.
        fresh: bool,
    },
    /// Send all of this upstream; [`Exchange::on_upstream_takes`] whenever it took a part, then
    /// [`Exchange::on_upstream_sent`].
    SendUpstream(Vec<u8>),
    /// Read from the upstream; then [`Exchange::on_upstream`], [`Exchange::on_upstream_end`] or
    /// [`Exchange::on_upstream_broken`].
    ReadUpstream,
    /// Both connections speak another protocol from here on, and may be silent for hours: nothing
    /// to do but to know it.
    Switch,
    /// Tell the client that nothing more comes; it may still send.
    EndDownstream,
    /// Tell the upstream that nothing more comes; it may still send.
    EndUpstream,
    /// Drop the upstream connection, or the making of it, and everything running on it.
    CloseUpstream,
    /// Keep the upstream connection to [`Exchange::take_peer`]: it may carry another request.
    ReleaseUpstream,
    /// Wait this many milliseconds, instead of for what a running wait is for; then
    /// [`Exchange::on_slept`].
    Sleep(u64),
    /// The exchange is over; what is left in [`Exchange::take_output`] is still to be sent.
    Finish(Ending),
}

/// Whose requests a connection to an upstream may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// Anybody's.
    All,
    /// Those of one downstream connection: it began with a header that names its ends.
    OneClients,
}

/// What becomes of the downstream connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It can carry the next request.
    KeepAlive,
    /// Send what is left, then close.
    Close,
    /// Close at once and visibly: the response was cut off (RFC 9112 §8).
    Abort,
}

/// What a driver lends to every call.
#[derive(Debug)]
pub struct Cx<'a> {
    /// The worker's own state; `now_ms` is the time of the event.
    pub locals: &'a mut Locals,
    /// The date for responses.
    pub date: &'a HttpDate,
}

/// A request as the driver has it: parsed, routed, still in its read buffer.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The parsed head.
    pub head: &'a RequestHead,
    /// The bytes it was parsed from.
    pub bytes: &'a [u8],
    /// The normalised path.
    pub path: &'a [u8],
    /// The route's number.
    pub route: Option<u32>,
    /// Where it came from.
    pub connection: Connection,
    /// What plugins keep for the whole of its connection.
    pub kept: &'a Properties,
    /// When it came, in nanoseconds since the epoch.
    pub started_ns: u64,
    /// Its number in this process.
    pub number: u64,
    /// Whether the connection must not be kept, whatever the client says.
    pub closing: bool,
}

/// One request with its response. Kept in a pool and used again; see the module's contract.
#[derive(Debug, Default)]
pub struct Exchange {
    /// The message that plugins see.
    message: Box<Message>,
    pinned: Option<Rc<Pinned>>,
    /// The route whose chain runs.
    route: Option<u32>,
    /// The route whose target, timeouts and facts count: another one after a plugin had the choice
    /// made again.
    chosen: Option<u32>,
    /// The chain with the consumer's plugins, once there are some.
    joined: Option<Rc<Chain>>,
    /// What the plugins of the chain that runs ask for.
    hooks: Hooks,
    steps: Steps,
    request: RequestSide,
    response: ResponseSide,
    upstream: UpstreamSide,
    timers: Timers,
    /// A sleep a plugin asked for and the driver was not told of yet.
    sleep: Option<u64>,
    stage: Stage,
    reply: ResponseHead,
    /// Where its message can be reached while it waits, once a chain wanted that.
    seat: Option<u32>,
    /// Names it to plugins that may come back to it.
    key: Option<StreamKey>,
    parked: Parked,
}

/// How far the exchange as a whole is.
///
/// ```text
/// Idle ─ begin ─► Running ─ response complete, or given up ─► Ending ─ log, Finish ─► Idle
///                    └─ another protocol ─► Tunnel ─ both ended ──▲
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    Running,
    Tunnel(Tunnel),
    Ending(Ending),
}

/// A hold on the chain that runs.
enum RunningChain {
    OfRoute(Rc<Pinned>, Option<u32>),
    Joined(Rc<Chain>),
}

impl Deref for RunningChain {
    type Target = Chain;

    fn deref(&self) -> &Chain {
        match self {
            Self::OfRoute(pinned, route) => &pinned.snapshot.route(*route).chain,
            Self::Joined(chain) => chain,
        }
    }
}

impl Exchange {
    /// Begins with a request. `out` is the connection's output so far: responses of one batch are
    /// gathered there and come back with [`Exchange::take_output`].
    pub fn begin(
        &mut self,
        pinned: &Rc<Pinned>,
        arrival: &Arrival<'_>,
        out: Vec<u8>,
        cx: &mut Cx<'_>,
    ) {
        debug_assert_eq!(self.stage, Stage::Idle);
        self.stage = Stage::Running;
        self.pinned = Some(Rc::clone(pinned));
        self.route = arrival.route;
        self.chosen = arrival.route;
        self.joined = None;
        self.timers.clear();
        self.upstream.clear();
        self.request.begin(arrival);
        self.response.begin(arrival, out);
        self.fill_message(arrival);
        let chain = &pinned.snapshot.route(arrival.route).chain;
        self.steps.begin(chain.steps().len());
        self.hooks = chain.hooks();
        self.key = self.hooks.has(Hooks::WAITS).then(|| self.sit_down(cx));
        self.on_request_head(cx);
    }

    /// The next command, or `None`: wait for an event.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Option<Command> {
        if self.steps.any_resumed() {
            self.run_resumed(cx);
        }
        self.settle();
        if self.stage == Stage::Running {
            if let Some(command) = self.poll_upstream(cx) {
                return Some(command);
            }
            // No peer may have been left: then there is a response now.
            if self.response.is_complete() {
                self.settle();
            }
        }
        match self.stage {
            Stage::Idle => None,
            Stage::Running => self.poll_running(cx),
            Stage::Tunnel(tunnel) => self.poll_tunnel(tunnel, cx),
            Stage::Ending(ending) => Some(self.poll_ending(ending, cx)),
        }
    }

    /// The output that was not sent yet, for the connection to send with what follows.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.response.out)
    }

    /// What the message was, for logs and counters; until the next `begin`.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Where [`Command::Connect`] goes, and of whose idle connections it may take one.
    #[must_use]
    pub fn peer(&self) -> Option<(&Address, Carries)> {
        Some((self.upstream.address.as_ref()?, self.carries()))
    }

    /// Where the connection of [`Command::ReleaseUpstream`] goes, how such are kept, and for whose
    /// requests; once.
    pub fn take_peer(&mut self) -> Option<(Address, KeepAlive, Carries)> {
        Some((self.upstream.address.take()?, self.upstream.keep_alive(), self.carries()))
    }

    /// When the earliest timer is due, in the driver's milliseconds.
    #[must_use]
    pub fn due_ms(&self) -> u64 {
        self.timers.next()
    }

    fn poll_running(&mut self, cx: &mut Cx<'_>) -> Option<Command> {
        let now = cx.locals.now_ms;
        if let Some(ms) = self.sleep.take() {
            return Some(Command::Sleep(ms));
        }
        if self.request.take_continue() && !self.response.has_begun() {
            self.response.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if self.response.wants_sending() {
            self.arm_downstream_send(cx);
            return Some(Command::SendDownstream(self.response.begin_sending()));
        }
        if self.request.wants_reading(self.upstream.backlog()) {
            self.request.reading = true;
            self.request.asked_ms = now;
            let (rules, bytes) = (self.rules(), self.message.request_bytes);
            let allowed = rules.body_rate.left_ms(bytes, self.request.waited_ms).min(rules.body_ms);
            self.timers.arm(Timer::DownstreamRead, now, allowed);
            return Some(Command::ReadDownstream);
        }
        None
    }

    /// Ends the running stage once there is nothing left to do for the client: the response is in
    /// the output or sent, and the request is read or given up. A read that still runs then is
    /// dropped, for the connection closes.
    fn settle(&mut self) {
        let open = self.response.sending || self.request.is_discarding();
        if self.stage != Stage::Running || !self.response.is_complete() || open {
            return;
        }
        let keeps = self.response.keeps_connection && self.request.is_complete();
        self.stage = Stage::Ending(if keeps { Ending::KeepAlive } else { Ending::Close });
    }

    /// Releases or closes the upstream first, then logs and finishes.
    fn poll_ending(&mut self, ending: Ending, cx: &mut Cx<'_>) -> Command {
        if !self.upstream.is_left()
            && let Some(command) = self.part_with_upstream()
        {
            return command;
        }
        self.leave_peer();
        self.run_log(cx);
        if let Some(key) = self.key.take() {
            cx.locals.services.waiting.leave(key);
        }
        self.stage = Stage::Idle;
        self.pinned = None;
        self.joined = None;
        self.sleep = None;
        Command::Finish(ending)
    }

    /// Gives the exchange up: the client sees a cut-off response or just a closed connection.
    fn abort(&mut self, cause: Cause) {
        if self.stage == Stage::Running || self.is_tunnel() {
            self.note(cause);
            self.give_up();
        }
    }

    /// The same, when it is known why.
    fn give_up(&mut self) {
        if self.is_tunnel() {
            return self.break_tunnel();
        }
        if self.stage == Stage::Running {
            // Nothing may follow a piece of which a part may be out.
            let begun = self.response.has_begun() || self.response.sending;
            self.stage = Stage::Ending(if begun { Ending::Abort } else { Ending::Close });
        }
    }

    fn route(&self) -> &Route {
        self.pinned().snapshot.route(self.route)
    }

    /// The route that says where the request goes.
    fn chosen_route(&self) -> &Route {
        self.pinned().snapshot.route(self.chosen)
    }

    /// The chain that runs.
    fn chain(&self) -> &Chain {
        match &self.joined {
            Some(joined) => joined,
            None => &self.route().chain,
        }
    }

    /// The same, to hold on to while the exchange changes.
    fn running_chain(&self) -> RunningChain {
        match &self.joined {
            Some(joined) => RunningChain::Joined(Rc::clone(joined)),
            None => RunningChain::OfRoute(Rc::clone(self.pinned()), self.route),
        }
    }

    fn rules(&self) -> &crate::snapshot::Rules {
        &self.pinned().snapshot.rules
    }

    fn pinned(&self) -> &Rc<Pinned> {
        self.pinned.as_ref().expect("a running exchange has a snapshot")
    }
}
