//! One worker's conversations, and what they share.

use super::encode::Encoder;
use super::plugin::External;
use crate::http::Headers;
use crate::plugin::{
    Locals, Mailbox, ReplyTo, Root, RunnerPlace, RunnerTalk, Services, SlotId, SlotIds, StreamKey,
};
use slab::Slab;
use std::sync::{Arc, OnceLock};

/// Boxes of talks kept for reuse; as many as a busy worker has at a time.
const SPARES_MAX: usize = 256;

/// Where the desk lies in every worker's [`Locals`].
fn slot() -> SlotId {
    static SLOT: OnceLock<SlotId> = OnceLock::new();
    *SLOT.get_or_init(|| SlotIds::process().next())
}

/// One worker's conversations.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) encoder: Encoder,
    pub(super) conversations: Slab<Conversation>,
    // They go from here to the worker and back.
    #[expect(clippy::vec_box)]
    spares: Vec<Box<RunnerTalk>>,
    /// Who gets letters of other workers.
    root: Arc<dyn Root>,
    /// Counts calls; never 0 in what is sent.
    calls: u32,
    opened: u32,
}

/// One plugin's talk about one request.
///
/// ```text
/// (no token) ─► Waiting ─┐            ┌── answer ◄── body is whole ── Gathering
///     └─► Preparing ─────┴─► Called ──┤                                   ▲
///             ▲                 │     └── asks: answer, or for a body ────┘
///             └─ token forgotten┤
///                               └─ decided ─► Replacing (the old body goes by) ─► Over
/// ```
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) key: StreamKey,
    /// Tells it from others that had its place.
    pub(super) number: u32,
    pub(super) stage: Stage,
    /// Times the call was tried.
    pub(super) tries: u8,
    /// The token was given in this conversation.
    pub(super) prepared: bool,
    /// The body was asked for and is held back, whole.
    pub(super) gathered: bool,
    /// The talk, while it is neither with the worker nor needed.
    pub(super) talk: Option<Box<RunnerTalk>>,
    /// The id of the call.
    pub(super) id: u32,
    /// The token of the call, and the runner's life it belongs to.
    pub(super) token: u32,
    pub(super) epoch: u64,
    /// Fields for the response to come.
    pub(super) later: Headers,
    /// The body that takes the old one's place.
    pub(super) body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Another request prepares the configuration: that preparation's number.
    Waiting(u64),
    /// This one does.
    Preparing,
    /// The runner has the call.
    Called,
    /// It wants the body, which is still on its way.
    Gathering,
    /// It replaced the body; the rest of the old one is thrown away.
    Replacing,
    /// It decided.
    Over,
}

/// Somebody who waits for a token, on any worker.
#[derive(Debug)]
pub(super) struct Waiter {
    mailbox: Arc<dyn Mailbox>,
    to: ReplyTo,
}

impl Waiter {
    pub(super) fn wake(self) {
        self.mailbox.post(self.to);
    }
}

/// What a conversation is told when the preparation it waits for is over. Without size, so that
/// its box needs no memory.
#[derive(Debug)]
pub(super) struct PreparationOver;

#[derive(Debug)]
struct Letters;

impl Root for Letters {
    fn on_post(&self, id: u64, locals: &mut Locals) {
        let (at, number) = ((id & 0xffff_ffff) as usize, (id >> 32) as u32);
        let Some(desk) = Desk::of(locals) else { return };
        let waits = desk.conversations.get(at).filter(|talk| talk.number == number);
        if let Some(key) = waits.map(|conversation| conversation.key) {
            locals.services.waiting.reply(key, Box::new(PreparationOver));
        }
    }
}

impl Desk {
    /// Makes sure that a worker has one.
    pub(super) fn prepare(locals: &mut Locals) {
        if Self::of(locals).is_none() {
            let desk = Self {
                encoder: Encoder::default(),
                conversations: Slab::new(),
                spares: Vec::new(),
                root: Arc::new(Letters),
                calls: 0,
                opened: 0,
            };
            locals.insert(slot(), desk);
        }
    }

    /// The worker's own.
    pub(super) fn of(locals: &mut Locals) -> Option<&mut Self> {
        locals.get_mut(slot())
    }

    /// Begins a conversation; gives its place.
    pub(super) fn open(&mut self, key: StreamKey) -> usize {
        self.opened = self.opened.wrapping_add(1);
        self.conversations.insert(Conversation {
            key,
            number: self.opened,
            stage: Stage::Over,
            tries: 0,
            prepared: false,
            gathered: false,
            talk: None,
            id: 0,
            token: 0,
            epoch: 0,
            later: Headers::new(),
            body: Vec::new(),
        })
    }

    /// The next call's id: the worker in the upper bits, a number that is never 0 below, for no
    /// reply can do without it then (APISIX counts from 0, and the Python runner takes that for
    /// none).
    pub(super) fn next_id(&mut self, worker: usize) -> u32 {
        const COUNTED: u32 = (1 << 22) - 1;
        self.calls = self.calls % COUNTED + 1;
        (worker as u32) << 22 | self.calls
    }

    /// A talk to fill.
    pub(super) fn talk(&mut self, key: StreamKey, place: &Arc<RunnerPlace>) -> Box<RunnerTalk> {
        let left_ms = place.call_ms;
        if let Some(mut spare) = self.spares.pop() {
            spare.key = key;
            spare.left_ms = left_ms;
            spare.again = false;
            if !Arc::ptr_eq(&spare.place, place) {
                spare.place = Arc::clone(place);
            }
            return spare;
        }
        Box::new(RunnerTalk {
            key,
            place: Arc::clone(place),
            out: Vec::new(),
            kind: 0,
            payload: Vec::new(),
            failure: None,
            left_ms,
            again: false,
            link: None,
        })
    }

    /// Keeps a talk's box for the next. Its connection closes unless it was released.
    pub(super) fn spare(&mut self, mut talk: Box<RunnerTalk>) {
        talk.link = None;
        talk.failure = None;
        for buffer in [&mut talk.out, &mut talk.payload] {
            buffer.clear();
            buffer.shrink_to(crate::limits::POOLED_BUFFER_BYTES_MAX);
        }
        if self.spares.len() < SPARES_MAX {
            self.spares.push(talk);
        }
    }

    /// Who waits for a token, in the name of the conversation at that place.
    pub(super) fn waiter(&self, at: usize, services: &Services) -> Waiter {
        let number = self.conversations.get(at).map_or(0, |conversation| conversation.number);
        let id = u64::from(number) << 32 | at as u64;
        let to = ReplyTo { root: Arc::downgrade(&self.root), id };
        Waiter { mailbox: Arc::clone(&services.mailbox), to }
    }

    /// Ends the conversation at that place, however far it is.
    pub(super) fn close(&mut self, at: usize, plugin: &External) {
        let Some(mut conversation) = self.conversations.try_remove(at) else { return };
        if conversation.stage == Stage::Preparing {
            plugin.token.abandon().into_iter().for_each(Waiter::wake);
        }
        if let Some(talk) = conversation.talk.take() {
            self.spare(talk);
        }
    }
}
