//! One connection to a runner: sends a talk's frames, waits for one back.
//!
//! ```text
//! Idle ─ start ─► sending ─► reading ─ a whole frame ─► the talk goes back; the connection waits
//!                    │          │                        for its next, or for its release
//!                    └──────────┴─ closed, overdue, garbage ─► dropped
//! ```

use super::Pool;
use crate::limits;
use crate::net::{self, Socket};
use crate::plugin::{RunnerPlace, RunnerTalk};
use crate::runner::{Frame, first_frame};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// First room for frames: verdicts are short.
const INPUT_BYTES: usize = 4 * 1024;

pub(super) struct Link {
    pub(super) socket: Socket,
    pub(super) place: Arc<RunnerPlace>,
    pub(super) idle_since: Cell<u64>,
    /// What its task is to do next.
    job: RefCell<Option<Job>>,
    waker: RefCell<Option<Waker>>,
    /// Bytes received behind the last frame.
    input: RefCell<Vec<u8>>,
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

/// Why a job ended without a frame.
pub(super) enum Broken {
    /// Before any of the reply had come.
    Closed,
    /// After some of the reply had come.
    Cut,
    Overdue,
}

impl Link {
    pub(super) fn new(socket: Socket, place: Arc<RunnerPlace>) -> Rc<Self> {
        Rc::new(Self {
            socket,
            place,
            idle_since: Cell::new(0),
            job: RefCell::new(None),
            waker: RefCell::new(None),
            input: RefCell::default(),
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

    pub(super) fn ring_if_due(&self, now: u64) {
        if now >= self.due_ms.get() {
            self.overdue.set(true);
            self.wake();
        }
    }

    /// Whether nothing came that nobody asked for.
    pub(super) fn is_clean(&self) -> bool {
        self.input.borrow().is_empty() && !self.closed.get()
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

    /// The next job; `None`: there will be none.
    async fn next(&self) -> Option<Job> {
        poll_fn(|cx| {
            self.remember(cx.waker());
            if self.closed.get() {
                return Poll::Ready(None);
            }
            self.job.borrow_mut().take().map_or(Poll::Pending, |job| Poll::Ready(Some(job)))
        })
        .await
    }

    /// Waits for an operation, as long as the talk may take. One that is given up leaves a
    /// connection that is good for nothing.
    async fn in_time<F: Future>(&self, operation: F) -> Result<F::Output, Broken> {
        let mut operation = pin!(operation);
        poll_fn(|cx| {
            self.remember(cx.waker());
            if let Poll::Ready(done) = operation.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            if self.overdue.get() || self.closed.get() {
                return Poll::Ready(Err(Broken::Overdue));
            }
            Poll::Pending
        })
        .await
    }

    /// Sends what the talk has to send, then reads one frame into it.
    async fn carry(&self, talk: &mut RunnerTalk) -> Result<(), Broken> {
        let out = std::mem::take(&mut talk.out);
        let (sent, out) = self.in_time(net::send(self.socket.clone(), out)).await?;
        talk.out = out;
        sent.map_err(|_| Broken::Closed)?;
        loop {
            let mut input = self.input.take();
            let missing = match first_frame(&input) {
                Frame::Whole { kind, payload } => {
                    talk.kind = kind;
                    talk.payload.clear();
                    talk.payload.extend_from_slice(payload);
                    let used = crate::runner::HEADER_BYTES + payload.len();
                    input.drain(..used);
                    if input.is_empty() {
                        input.shrink_to(limits::POOLED_BUFFER_BYTES_MAX);
                    }
                    self.input.replace(input);
                    return Ok(());
                }
                Frame::Missing(bytes) => bytes,
            };
            // A frame may claim 16 MB and never send them: room is made as bytes come.
            let room = missing.clamp(INPUT_BYTES, limits::BODY_BUFFER_BYTES);
            if input.capacity() - input.len() < missing.min(room) {
                input.reserve(room);
            }
            let (read, input) = self.in_time(net::read(self.socket.clone(), input)).await?;
            let begun = !input.is_empty();
            self.input.replace(input);
            match read {
                Ok(bytes) if bytes > 0 => {}
                _ if begun => return Err(Broken::Cut),
                _ => return Err(Broken::Closed),
            }
        }
    }
}

/// Carries talks until the connection ends.
pub(super) async fn run(pool: Rc<Pool>, link: Rc<Link>) {
    while let Some(Job { mut talk, goes_on }) = link.next().await {
        let carried = link.carry(&mut talk).await;
        link.due_ms.set(u64::MAX);
        let took = pool.now_ms.get().saturating_sub(link.started_ms.get());
        talk.left_ms = talk.left_ms.saturating_sub(took);
        match carried {
            Ok(()) => {
                pool.circuit.borrow_mut().on_reply();
                // If nobody wants to know any more, the lease ends with the talk.
                pool.give_back(talk);
            }
            Err(broken) => {
                talk.link = None;
                pool.on_broken(talk, broken, goes_on);
            }
        }
    }
    pool.forget(&link);
}
