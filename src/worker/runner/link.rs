//! One connection to a runner: sends a talk's frames, waits for one back.
//!
//! ```text
//! resting ─ start ─► sending ─► a whole frame came ─► the talk goes back; the connection waits
//!    │                  │                              for its next, or for its release
//!    └──────────────────┴─ closed, overdue, garbage ─► dropped
//! ```
//!
//! A read is on its way all the time, so that a runner that ends is known at once and no call
//! has to look first. Nothing may come while nobody asked.

use super::super::slots::{Slot, poll_slot};
use super::Pool;
use crate::limits;
use crate::net::{self, Socket};
use crate::plugin::{RunnerPlace, RunnerTalk};
use crate::runner::{Frame, HEADER_BYTES, first_frame};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// First room for frames: verdicts are short.
const INPUT_BYTES: usize = 4 * 1024;

pub(super) struct Link {
    pub(super) socket: Socket,
    pub(super) place: Arc<RunnerPlace>,
    pub(super) idle_since: Cell<u64>,
    /// What its task is to do next.
    job: RefCell<Option<Job>>,
    waker: RefCell<Option<Waker>>,
    /// The runner heard something of the talk that has the connection: it may speak.
    heard: Cell<bool>,
    /// Bytes received behind the last frame that was used.
    unread: Cell<usize>,
    started_ms: Cell<u64>,
    due_ms: Cell<u64>,
    overdue: Cell<bool>,
    closed: Cell<bool>,
}

/// The right to use a connection. It is with a talk or in the pool; when it is dropped, the
/// connection closes.
pub(super) struct Lease {
    pub(super) link: Rc<Link>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.link.closed.set(true);
        self.link.wake();
    }
}

struct Job {
    talk: Box<RunnerTalk>,
    /// The runner has heard frames of this talk before.
    goes_on: bool,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// Before any of a reply had come.
    Closed,
    /// After some of the reply had come.
    Cut,
    Overdue,
}

type SendDone = (io::Result<()>, Vec<u8>);
type ReadDone = (io::Result<usize>, Vec<u8>);

enum Event {
    Sent(SendDone),
    Read(ReadDone),
    Job(Job),
    Overdue,
    /// Nobody has the lease any more.
    Closed,
}

impl Link {
    pub(super) fn new(socket: Socket, place: Arc<RunnerPlace>) -> Rc<Self> {
        Rc::new(Self {
            socket,
            place,
            idle_since: Cell::new(0),
            job: RefCell::new(None),
            waker: RefCell::new(None),
            heard: Cell::new(false),
            unread: Cell::new(0),
            started_ms: Cell::new(0),
            due_ms: Cell::new(u64::MAX),
            overdue: Cell::new(false),
            closed: Cell::new(false),
        })
    }

    /// Gives its task a talk to carry.
    pub(super) fn start(&self, talk: Box<RunnerTalk>, now: u64, goes_on: bool) {
        self.started_ms.set(now);
        // Looked at by the tick, which may be a tick ahead.
        self.due_ms.set(now.saturating_add(talk.left_ms).saturating_add(limits::TICK_MS));
        self.overdue.set(false);
        *self.job.borrow_mut() = Some(Job { talk, goes_on });
        self.wake();
    }

    /// Nobody talks on it until the next [`Link::start`].
    pub(super) fn rest(&self, now: u64) {
        self.heard.set(false);
        self.idle_since.set(now);
    }

    pub(super) fn ring_if_due(&self, now: u64) {
        if now >= self.due_ms.get() {
            self.overdue.set(true);
            self.wake();
        }
    }

    /// Whether another talk may have it: it is open, and nothing came that nobody asked for.
    pub(super) fn is_clean(&self) -> bool {
        self.unread.get() == 0 && !self.closed.get()
    }

    /// Whether its task has ended, or is about to.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn remember(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    /// What happens next. What was sent is looked at before what came: a reply follows its call.
    fn poll<S, R>(
        &self,
        sending: &mut Slot<'_, S>,
        reading: &mut Slot<'_, R>,
        is_busy: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Event>
    where
        S: Future<Output = SendDone>,
        R: Future<Output = ReadDone>,
    {
        self.remember(cx.waker());
        if self.closed.get() {
            return Poll::Ready(Event::Closed);
        }
        if let Poll::Ready(done) = poll_slot(sending, cx) {
            return Poll::Ready(Event::Sent(done));
        }
        if let Poll::Ready(done) = poll_slot(reading, cx) {
            return Poll::Ready(Event::Read(done));
        }
        if self.overdue.get() {
            return Poll::Ready(Event::Overdue);
        }
        if !is_busy && let Some(job) = self.job.borrow_mut().take() {
            return Poll::Ready(Event::Job(job));
        }
        Poll::Pending
    }
}

/// What a connection's task has at hand.
struct Hand {
    /// The talk whose reply is waited for.
    job: Option<Job>,
    /// All of what it has to say was sent.
    is_said: bool,
    /// Received and not used yet; `None` while the kernel has it.
    input: Option<Vec<u8>>,
}

impl Hand {
    fn on_sent(&mut self, link: &Link, (sent, out): SendDone) -> Result<(), Broken> {
        if let Some(job) = &mut self.job {
            job.talk.out = out;
        }
        self.is_said = true;
        link.heard.set(true);
        sent.map_err(|_| Broken::Closed)
    }

    fn on_read(&mut self, link: &Link, (read, input): ReadDone) -> Result<(), Broken> {
        let before = link.unread.replace(input.len());
        self.input = Some(input);
        match read {
            // Whoever speaks without being asked would be heard by the next talk.
            Ok(bytes) if bytes > 0 && !link.heard.get() => Err(Broken::Closed),
            Ok(bytes) if bytes > 0 => Ok(()),
            _ if before > 0 => Err(Broken::Cut),
            _ => Err(Broken::Closed),
        }
    }

    /// The talk, once its reply is whole; it is in the talk then.
    fn take_reply(&mut self, link: &Link) -> Option<Box<RunnerTalk>> {
        let input = self.input.as_mut().filter(|_| self.is_said)?;
        let Frame::Whole { kind, payload } = first_frame(input) else { return None };
        let mut talk = self.job.take()?.talk;
        talk.kind = kind;
        talk.payload.clear();
        talk.payload.extend_from_slice(payload);
        let used = HEADER_BYTES + payload.len();
        input.drain(..used);
        if input.is_empty() {
            input.shrink_to(limits::POOLED_BUFFER_BYTES_MAX);
        }
        link.unread.set(input.len());
        Some(talk)
    }

    /// The buffer for the next read, unless a frame is there that nobody has used yet: more of
    /// them can wait in the socket.
    fn take_room(&mut self) -> Option<Vec<u8>> {
        let missing = match first_frame(self.input.as_ref()?) {
            Frame::Whole { .. } => return None,
            Frame::Missing(bytes) => bytes,
        };
        let mut input = self.input.take()?;
        // A frame may claim 16 MB and never send them: room is made as bytes come.
        let room = missing.clamp(INPUT_BYTES, limits::BODY_BUFFER_BYTES);
        if input.capacity() - input.len() < missing.min(room) {
            input.reserve(room);
        }
        Some(input)
    }
}

/// Carries talks until the connection ends.
pub(super) async fn run(pool: Rc<Pool>, link: Rc<Link>) {
    let mut hand = Hand { job: None, is_said: false, input: Some(Vec::new()) };
    let (mut sending, mut reading) = (pin!(None), pin!(None));
    let broken = loop {
        if let Some(room) = hand.take_room() {
            reading.set(Some(net::read(link.socket.clone(), room)));
        }
        let is_busy = hand.job.is_some();
        let event = poll_fn(|cx| link.poll(&mut sending, &mut reading, is_busy, cx)).await;
        let went_on = match event {
            Event::Sent(done) => hand.on_sent(&link, done),
            Event::Read(done) => hand.on_read(&link, done),
            Event::Job(mut job) => {
                let out = std::mem::take(&mut job.talk.out);
                hand.job = Some(job);
                // Nothing to say: another frame is waited for.
                hand.is_said = out.is_empty();
                if !hand.is_said {
                    sending.set(Some(net::send(link.socket.clone(), out)));
                }
                Ok(())
            }
            Event::Overdue => Err(Broken::Overdue),
            Event::Closed => Err(Broken::Closed),
        };
        if let Err(broken) = went_on {
            break broken;
        }
        if let Some(mut talk) = hand.take_reply(&link) {
            pool.count_down(&mut talk, &link);
            pool.circuit.borrow_mut().on_reply();
            // If nobody wants to know any more, the lease ends with the talk.
            pool.give_back(talk);
        }
    };
    link.closed.set(true);
    let pending = link.job.borrow_mut().take();
    if let Some(Job { mut talk, goes_on }) = hand.job.or(pending) {
        pool.count_down(&mut talk, &link);
        talk.link = None;
        pool.on_broken(talk, broken, goes_on);
    }
    pool.forget(&link);
}

impl Pool {
    /// What a talk took since it was started counts.
    fn count_down(&self, talk: &mut RunnerTalk, link: &Link) {
        link.due_ms.set(u64::MAX);
        let took = self.now_ms.get().saturating_sub(link.started_ms.get());
        talk.left_ms = talk.left_ms.saturating_sub(took);
    }
}
