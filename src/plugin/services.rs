//! What a worker does for its plugins beside running their callbacks.
//!
//! A callback is synchronous. What it wants of the world it leaves here as an [`Errand`]; the
//! worker carries errands out when the callback has returned, and comes back with the outcome: to
//! a plugin's own context ([`Root`]) or to a stream that waits ([`Waiting`]).

use super::{GrpcEvent, GrpcOpen};
use super::{HttpCall, HttpReply, Waiting};
use super::{Locals, RunnerLink, RunnerTalk};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::{Arc, Weak};

/// What lives with a plugin outside of any stream, and is called by the worker between callbacks.
/// The `id`s are its own.
pub trait Root: Send + Sync + Debug {
    /// An [`Errand::HttpCall`] has ended, one way or another.
    fn on_http_reply(&self, id: u64, reply: &mut HttpReply, locals: &mut Locals) {
        let _ = (id, reply, locals);
    }

    /// Something arrived for an [`Errand::GrpcOpen`].
    fn on_grpc(&self, id: u64, event: GrpcEvent, locals: &mut Locals) {
        let _ = (id, event, locals);
    }

    /// An [`Errand::Timer`] is due.
    fn on_timer(&self, id: u64, locals: &mut Locals) {
        let _ = (id, locals);
    }

    /// Somebody, on any worker, called [`Mailbox::post`].
    fn on_post(&self, id: u64, locals: &mut Locals) {
        let _ = (id, locals);
    }
}

/// Who gets the outcome of an errand. Gone with its plugin: then nobody wants it any more.
#[derive(Clone, Debug)]
pub struct ReplyTo {
    /// Whom to call.
    pub root: Weak<dyn Root>,
    /// With which id.
    pub id: u64,
}

/// Something for the worker to do. Outcomes never come before the callback has returned.
#[derive(Debug)]
pub enum Errand {
    /// Make an HTTP request; then [`Root::on_http_reply`].
    HttpCall(Box<HttpCall>),
    /// Make a gRPC call or stream; then [`Root::on_grpc`], several times.
    GrpcOpen(Box<GrpcOpen>),
    /// Send a message on a gRPC stream, or end our side of it.
    GrpcSend {
        /// The [`GrpcOpen::call`].
        call: u64,
        /// The message, if there is one.
        message: Option<Vec<u8>>,
        /// Nothing more follows.
        end: bool,
    },
    /// Forget a gRPC call or stream at once: no more events of it.
    GrpcCancel {
        /// The [`GrpcOpen::call`].
        call: u64,
    },
    /// Wait this many milliseconds, then [`Root::on_timer`], once. A timer of the same root and id
    /// that runs is set anew; 0 stops it.
    Timer {
        /// Whom to call.
        to: ReplyTo,
        /// How long.
        after_ms: u64,
    },
    /// Send to a runner and wait for one frame of it; then the talk comes back by
    /// [`Waiting::reply`].
    RunnerSend(Box<RunnerTalk>),
    /// A talk is over and its connection good for another one.
    RunnerRelease(RunnerLink),
}

impl ReplyTo {
    /// Whether both mean the same.
    fn is(&self, other: &Self) -> bool {
        std::ptr::addr_eq(self.root.as_ptr(), other.root.as_ptr()) && self.id == other.id
    }
}

impl Errand {
    /// Bytes of the bodies and messages it is to send.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        match self {
            Self::HttpCall(call) => call.body.len(),
            Self::GrpcOpen(open) => open.message.as_ref().map_or(0, Vec::len),
            Self::GrpcSend { message, .. } => message.as_ref().map_or(0, Vec::len),
            Self::GrpcCancel { .. }
            | Self::Timer { .. }
            | Self::RunnerSend(_)
            | Self::RunnerRelease(_) => 0,
        }
    }

    /// Who gets its outcome, if somebody does.
    pub fn reply_to_mut(&mut self) -> Option<&mut ReplyTo> {
        match self {
            Self::HttpCall(call) => Some(&mut call.to),
            Self::GrpcOpen(open) => Some(&mut open.to),
            Self::Timer { to, .. } => Some(to),
            Self::GrpcSend { .. }
            | Self::GrpcCancel { .. }
            | Self::RunnerSend(_)
            | Self::RunnerRelease(_) => None,
        }
    }
}

/// Letters to a worker, from any thread.
pub trait Mailbox: Send + Sync + Debug {
    /// Has that worker call [`Root::on_post`], soon and never inside a callback.
    fn post(&self, to: ReplyTo);
}

/// Indices of a snapshot's upstreams, by name and by id.
pub type UpstreamNames = HashMap<Box<[u8]>, usize>;

/// One worker's services. Shared by everything on that worker; no borrow of it outlives a call.
#[derive(Debug)]
pub struct Services {
    /// Messages of streams that wait.
    pub waiting: Waiting,
    /// This worker's letters.
    pub mailbox: Arc<dyn Mailbox>,
    upstreams: RefCell<Arc<UpstreamNames>>,
    errands: RefCell<Vec<Errand>>,
    pending_bytes: Cell<usize>,
    next_call: Cell<u64>,
}

impl Services {
    /// With an address for letters.
    #[must_use]
    pub fn new(mailbox: Arc<dyn Mailbox>) -> Rc<Self> {
        Rc::new(Self {
            waiting: Waiting::default(),
            mailbox,
            upstreams: RefCell::default(),
            errands: RefCell::default(),
            pending_bytes: Cell::new(0),
            next_call: Cell::new(1),
        })
    }

    /// Leaves an errand for the worker. A timer that is set again and again is one errand.
    pub fn ask(&self, errand: Errand) {
        let mut errands = self.errands.borrow_mut();
        if let Errand::Timer { to, after_ms } = &errand
            && let Some(Errand::Timer { to: known, after_ms: known_ms }) = errands.last_mut()
            && known.is(to)
        {
            *known_ms = *after_ms;
            return;
        }
        self.pending_bytes.set(self.pending_bytes.get().saturating_add(errand.byte_len()));
        errands.push(errand);
    }

    /// Bytes that errands are to send which nobody has seen to yet.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes.get()
    }

    /// Moves all errands to `into`, which is empty; true if there were any.
    pub fn take_errands(&self, into: &mut Vec<Errand>) -> bool {
        let mut errands = self.errands.borrow_mut();
        self.pending_bytes.set(0);
        std::mem::swap(&mut *errands, into);
        !into.is_empty()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.errands.borrow().is_empty()
    }

    /// A number no other call of this worker has.
    pub fn new_call(&self) -> u64 {
        let call = self.next_call.get();
        self.next_call.set(call + 1);
        call
    }

    /// Whether the snapshot has an upstream of that name or id.
    #[must_use]
    pub fn knows_upstream(&self, name: &[u8]) -> bool {
        self.upstreams.borrow().contains_key(name)
    }

    /// A new snapshot's upstreams.
    pub fn set_upstreams(&self, names: Arc<UpstreamNames>) {
        *self.upstreams.borrow_mut() = names;
    }
}

/// The mailbox of nobody: on the control side and in tests of what sends no letters.
#[derive(Debug)]
pub struct NoMailbox;

impl Mailbox for NoMailbox {
    fn post(&self, _: ReplyTo) {}
}
