//! Room `plugin`: what every way of writing a plugin implements.
//!
//! In: a phase and the message of one exchange.
//! Out: an [`Action`], edits of the message, effects for the exchange to carry out.
//! May not know: wasm, sockets, configuration files.
//!
//! ```text
//!            request                                 response                        end
//! headers ─► body* ─► trailers ─►  upstream  ─► headers ─► body* ─► trailers ─►  log
//!    │          │         │                        │          │         │
//!    └──────────┴─────────┴── Respond: a local response takes the response's way
//! ```

mod access_log;
mod callout;
mod grpc;
mod loader;
mod locals;
mod message;
mod names;
mod outcome;
mod properties;
mod services;
mod talk;
mod variables;
mod waiting;

pub use access_log::{Escape, LogFormat, Outcome};
pub use callout::{CallFailure, CallTarget, HttpCall, HttpReply};
pub use grpc::{GrpcEvent, GrpcOpen};
pub use loader::{Consumer, Loaded, Loader, refuse_credential};
pub use locals::{Chore, DoChore, Locals, SlotId, SlotIds};
pub use message::{
    Connection, HeldBody, LocalResponse, Message, Request, Response, ResponseSource, RouteFacts,
    RouteRef,
};
pub use names::{check_log_format, check_variable, compile_rule, compile_template};
pub use outcome::{Attempts, ResponseFlags};
pub use properties::{LifeSpan, Properties, Property, PropertyError, PropertyTraits, PropertyType};
pub use services::{Errand, Mailbox, NoMailbox, ReplyTo, Root, Services, UpstreamNames};
pub use talk::{RunnerFigures, RunnerLife, RunnerLink, RunnerPlace, RunnerTalk, TalkFailure};
pub use variables::{RequestFacts, VariablesOf, append_variable, set_hostname, variable_of};
pub use waiting::{Ask, Reply, StreamKey, Waiting};

use std::fmt::Debug;
use std::ops::BitOr;

/// What an exchange does after a plugin's callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Go on with the next plugin of the chain.
    Continue,
    /// Hold the message here. In a headers phase nothing goes further until an effect resumes it;
    /// in a body phase the bytes seen so far are kept and shown again, with more, next time.
    Pause(Hold),
    /// Answer with [`Message::local`] instead of going on.
    Respond,
    /// End the exchange and close the downstream connection without an answer.
    Close,
}

/// How strictly [`Action::Pause`] holds a message (Proxy-Wasm ABI reference §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// From headers: no body callback comes until the stream is resumed. The default.
    All,
    /// From headers: body callbacks go on, headers wait. From a body callback: buffer.
    Body,
    /// Wait this many milliseconds, then call [`Plugin::on_due`].
    Sleep(u64),
}

/// The callbacks a plugin wants, so that chains skip the others without a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hooks(u16);

impl Hooks {
    /// No callback at all.
    pub const NONE: Self = Self(0);
    /// [`Plugin::on_request_headers`].
    pub const REQUEST_HEADERS: Self = Self(1);
    /// [`Plugin::on_request_body`].
    pub const REQUEST_BODY: Self = Self(1 << 1);
    /// [`Plugin::on_request_trailers`].
    pub const REQUEST_TRAILERS: Self = Self(1 << 2);
    /// [`Plugin::on_response_headers`].
    pub const RESPONSE_HEADERS: Self = Self(1 << 3);
    /// [`Plugin::on_response_body`].
    pub const RESPONSE_BODY: Self = Self(1 << 4);
    /// [`Plugin::on_response_trailers`].
    pub const RESPONSE_TRAILERS: Self = Self(1 << 5);
    /// [`Plugin::on_log`].
    pub const LOG: Self = Self(1 << 6);
    /// Its streams have keys ([`Stream::key`]): replies and resumes may come from outside.
    pub const WAITS: Self = Self(1 << 7);

    /// Whether all of `other` are wanted.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Hooks {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Where in the request's way a plugin's request callbacks stand (APISIX reference §9). All rewrite
/// plugins of a chain run before all access plugins, which run before all `before_proxy` ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestPhase {
    /// APISIX's `rewrite`.
    Rewrite,
    /// APISIX's `access`.
    Access,
    /// APISIX's `before_proxy`: after the upstream was chosen.
    BeforeProxy,
}

/// One exchange as a plugin's callback sees it.
#[derive(Debug)]
pub struct Stream<'a> {
    /// The message. Boxed, so that a host may move it (one pointer) into its guest's store.
    pub message: &'a mut Box<Message>,
    /// A word of the plugin's own for this exchange; zero when the exchange begins.
    pub state: &'a mut u64,
    /// What belongs to this worker: the plugins' own slots, time, random numbers.
    pub locals: &'a mut Locals,
    /// Names this plugin's stream to whoever comes back to it later; there if the plugin asked for
    /// [`Hooks::WAITS`].
    pub key: Option<StreamKey>,
}

/// A configured plugin of one chain: shared by all workers, immutable, cheap to call.
///
/// Everything per worker lives in [`Locals`], everything per exchange in [`Stream::state`] and the
/// message. Each callback has a default that does nothing, and is called only if [`Plugin::hooks`]
/// asks for it.
pub trait Plugin: Send + Sync + Debug {
    /// The plugin's name as in the configuration (`fault-injection`).
    fn name(&self) -> &str;

    /// The callbacks wanted.
    fn hooks(&self) -> Hooks;

    /// Whether it has state in [`Locals`], so that [`Plugin::prepare`] and [`Plugin::maintain`] are
    /// called. Most plugins have none, and a hundred thousand of them should cost a tick nothing.
    fn is_per_worker(&self) -> bool {
        false
    }

    /// Whether its response callbacks run after those of all others, whatever its priority: it
    /// codes the body, and the others mean the body as it is.
    fn is_last_in_response(&self) -> bool {
        false
    }

    /// How many body bytes its paused body callbacks may hold back.
    fn held_bytes_max(&self) -> usize {
        crate::limits::HELD_BODY_BYTES_MAX
    }

    /// Called once on each worker before a snapshot with this plugin serves there.
    ///
    /// # Errors
    /// Why the plugin can't run on this worker; the snapshot is then not taken.
    fn prepare(&self, locals: &mut Locals) -> Result<(), String> {
        let _ = locals;
        Ok(())
    }

    /// Called from the worker's tick, between exchanges: refill pools, drop what is no longer used.
    fn maintain(&self, locals: &mut Locals) {
        let _ = locals;
    }

    /// The one response this plugin gives to every request, if it gives no other and looks at
    /// nothing: such a response is prepared once (DESIGN §1, fast path).
    fn only_response(&self) -> Option<LocalResponse> {
        None
    }

    /// The request's head is there. `end_of_stream`: no body follows.
    fn on_request_headers(&self, stream: &mut Stream<'_>, end_of_stream: bool) -> Action {
        let _ = (stream, end_of_stream);
        Action::Continue
    }

    /// Request body bytes are in [`Message::body`]: this chunk, or all that was held so far.
    fn on_request_body(&self, stream: &mut Stream<'_>, end_of_stream: bool) -> Action {
        let _ = (stream, end_of_stream);
        Action::Continue
    }

    /// The request's trailers are there.
    fn on_request_trailers(&self, stream: &mut Stream<'_>) -> Action {
        let _ = stream;
        Action::Continue
    }

    /// The response's head is there, from the upstream or local.
    fn on_response_headers(&self, stream: &mut Stream<'_>, end_of_stream: bool) -> Action {
        let _ = (stream, end_of_stream);
        Action::Continue
    }

    /// Response body bytes are in [`Message::body`].
    fn on_response_body(&self, stream: &mut Stream<'_>, end_of_stream: bool) -> Action {
        let _ = (stream, end_of_stream);
        Action::Continue
    }

    /// The response's trailers are there.
    fn on_response_trailers(&self, stream: &mut Stream<'_>) -> Action {
        let _ = stream;
        Action::Continue
    }

    /// A [`Hold::Sleep`] is over.
    fn on_due(&self, stream: &mut Stream<'_>) -> Action {
        let _ = stream;
        Action::Continue
    }

    /// What this plugin waited for is there ([`Waiting::reply`]). `Continue` lets go what it holds,
    /// in either direction; `Pause` goes on holding it.
    fn on_reply(&self, stream: &mut Stream<'_>, reply: Reply) -> Action {
        let _ = (stream, reply);
        Action::Continue
    }

    /// What this plugin had for the stream is gone, and it holds a message back that nobody would
    /// let go. `Continue` lets it go.
    fn on_lost(&self, stream: &mut Stream<'_>) -> Action {
        let _ = stream;
        Action::Continue
    }

    /// The exchange is over, however it ended. Called exactly once for each plugin of the chain
    /// that asked for it, also for those whose request callbacks were never reached.
    fn on_log(&self, stream: &mut Stream<'_>) {
        let _ = stream;
    }
}
