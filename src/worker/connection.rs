//! One downstream connection, from accept to close.
//!
//! ```text
//! read ─► heads in the buffer? ─ no ─► send what is gathered ─► read more (idle or head deadline)
//!            │ yes                                                   │ end, deadline, drain
//!            ▼                                                       ▼
//!         serve one: fast path, exchange, or an error response ─► close (lingering if unread)
//! ```

use super::slots::{Slot, poll_slot};
use super::{Ring, Worker};
use crate::http::{RequestError, RequestHead, begins_with_head};
use crate::limits;
use crate::net::{self, Socket};
use crate::plugin::{Chore, Connection, Properties};
use crate::time::DeadlineId;
use crate::upstream::IdlePool;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

/// A connection's own state.
pub(super) struct Downstream {
    pub(super) socket: Socket,
    pub(super) facts: Connection,
    pub(super) alarm: DeadlineId,
    pub(super) head: RequestHead,
    /// Bytes received and not used up yet; those before `at` are used.
    pub(super) input: Vec<u8>,
    pub(super) at: usize,
    /// Since when a head arrives.
    pub(super) head_since: Option<u64>,
    /// What has come of it names the method HEAD.
    begun_with_head: bool,
    /// Requests it may still carry.
    pub(super) requests_left: u64,
    since_ms: u64,
    /// The time, where nothing was waited for since the last exchange looked at it: requests that
    /// came together follow each other at once. 0: not known.
    pub(super) now_ns: u64,
    /// Bytes to send.
    pub(super) output: Vec<u8>,
    /// Bytes of the running exchange that were given to the socket.
    pub(super) sent: u64,
    /// A normalised path that differs from what was received.
    pub(super) scratch: Vec<u8>,
    /// What plugins keep for the whole connection.
    pub(super) kept: Properties,
    /// Idle connections to upstreams that were told who this client is: they carry its requests
    /// only, and end with it.
    pub(super) idle: RefCell<IdlePool<Socket>>,
}

/// How serving one request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// The next request may follow.
    Next,
    /// More bytes are needed for a whole head.
    Incomplete,
    /// Send what is gathered, then close once the client stops sending what nobody wants.
    Close,
    /// Close at once.
    Abort,
}

/// What waiting for more input came to.
pub(super) enum Arrived {
    Bytes,
    /// The client is gone, or was idle for too long, or the worker drains.
    End,
    /// A head that had begun did not end in time.
    Late,
}

/// How long a closing connection is read to its end, so that the last response is not lost in a
/// reset (RFC 9112 §9.6).
const LINGER_MS: u64 = 2_000;
const LINGER_BYTES: usize = 1024 * 1024;

/// Serves a connection to its end. `proxied`: it begins with a header that says who it is from.
pub(super) async fn serve(
    worker: Rc<Worker>,
    socket: Socket,
    (peer, local): (SocketAddr, SocketAddr),
    proxied: bool,
) {
    let id = worker.next_connection.get();
    worker.next_connection.set(id + 1);
    let alarm = super::Alarm { socket: Some(socket.clone()), ..super::Alarm::default() };
    let alarm = worker.deadlines.borrow_mut().add(alarm);
    worker.counters.connections.up();
    worker.counters.open.up();
    let mut downstream = Downstream {
        socket,
        facts: Connection { id, peer, local, proxy: None },
        alarm,
        head: RequestHead::default(),
        input: worker.take_buffer(worker.buffer_bytes),
        at: 0,
        head_since: None,
        begun_with_head: false,
        requests_left: worker.pinned.borrow().snapshot.rules.requests_max,
        since_ms: worker.clock.now_ms(),
        now_ns: 0,
        output: Vec::new(),
        sent: 0,
        scratch: Vec::new(),
        kept: Properties::default(),
        idle: RefCell::default(),
    };
    if let Some(_pass) = downstream.enter(&worker, proxied).await {
        downstream.run(&worker).await;
    }
    worker.deadlines.borrow_mut().remove(alarm);
    worker.give_back_buffer(downstream.input);
    worker.give_back_buffer(downstream.output);
    worker.counters.open.down();
}

impl Downstream {
    async fn run(&mut self, worker: &Rc<Worker>) {
        loop {
            let served = loop {
                match self.serve_next(worker).await {
                    Served::Next if self.output.len() < limits::OUTPUT_BYTES_HIGH => {}
                    Served::Next => {
                        if !self.send_output(worker).await {
                            return;
                        }
                    }
                    served => break served,
                }
            };
            if served == Served::Abort {
                return self.socket.reset_on_close();
            }
            if !self.output.is_empty() && !self.send_output(worker).await {
                return;
            }
            if served != Served::Incomplete {
                break;
            }
            worker.do_chores(Chore::BetweenRequests);
            match self.read_more(worker).await {
                Arrived::Bytes => {}
                Arrived::End => return,
                Arrived::Late => {
                    self.write_error(worker, 408, self.begun_with_head);
                    if !self.send_output(worker).await {
                        return;
                    }
                    break;
                }
            }
        }
        self.linger(worker).await;
    }

    /// Reads behind what is in the buffer. Used bytes make room first; a head that fills the buffer
    /// gets more, up to its limit.
    pub(super) async fn read_more(&mut self, worker: &Rc<Worker>) -> Arrived {
        self.now_ns = 0;
        self.make_room(worker);
        let idle = self.input.is_empty();
        let since = worker.clock.now_ms();
        self.arm_for_head(worker, idle);
        if idle && worker.stopping.get() {
            self.arm_for_last(worker, since);
        }
        let reading = net::read(self.socket.clone(), std::mem::take(&mut self.input));
        let mut reading = pin!(Some(reading));
        loop {
            match wait_for(worker, self.alarm, &mut reading).await {
                Ok((result, buffer)) => {
                    self.input = buffer;
                    self.look_at_age(worker);
                    return match result {
                        Ok(0) | Err(_) => Arrived::End,
                        Ok(_) => Arrived::Bytes,
                    };
                }
                Err(Ring::Drain) if idle => self.arm_for_last(worker, since),
                Err(Ring::Due) if idle => return Arrived::End,
                // Draining: a head that has begun may still come.
                Err(Ring::Drain) => {}
                Err(Ring::Due) => return Arrived::Late,
            }
        }
    }

    /// A head's deadline begins with its first byte; the others move it only as far as the least
    /// rate allows.
    fn arm_for_head(&mut self, worker: &Worker, idle: bool) {
        let pinned = worker.pinned.borrow();
        let (rules, now) = (&pinned.snapshot.rules, worker.clock.now_ms());
        if idle {
            self.head_since = None;
            return worker.arm(self.alarm, now + rules.idle_ms);
        }
        self.begun_with_head = begins_with_head(&self.input);
        let begun = self.head_since.is_some();
        let since = *self.head_since.get_or_insert(now);
        if !begun || !rules.head_rate.is_none() {
            let allowed = rules.head_rate.left_ms(self.input.len() as u64, 0).min(rules.head_ms);
            worker.arm(self.alarm, since + allowed);
        }
    }

    /// Draining: a request that is on its way since before we stopped would be lost if the
    /// connection were closed now; its answer is the last.
    fn arm_for_last(&self, worker: &Worker, idle_since: u64) {
        let idle_ms = worker.pinned.borrow().snapshot.rules.idle_ms;
        worker.arm(self.alarm, idle_since + idle_ms.min(limits::DRAIN_IDLE_MS));
    }

    /// An old connection carries one request more.
    fn look_at_age(&mut self, worker: &Worker) {
        let age_ms = worker.clock.now_ms().saturating_sub(self.since_ms);
        if age_ms >= worker.pinned.borrow().snapshot.rules.age_ms {
            self.requests_left = self.requests_left.min(1);
        }
    }

    fn make_room(&mut self, worker: &Worker) {
        if self.at == self.input.len() {
            self.input.clear();
        } else {
            self.input.drain(..self.at);
        }
        self.at = 0;
        if self.input.capacity() > limits::BODY_BUFFER_BYTES && self.input.is_empty() {
            let grown = std::mem::replace(&mut self.input, worker.take_buffer(worker.buffer_bytes));
            worker.give_back_buffer(grown);
        }
        if self.input.len() == self.input.capacity() {
            self.input.reserve(self.input.capacity().max(limits::READ_BUFFER_BYTES));
        }
    }

    /// Sends what is gathered; tells whether the connection goes on. If it does not, what the
    /// client has of a response must not look whole: it sees a reset.
    pub(super) async fn send_output(&mut self, worker: &Rc<Worker>) -> bool {
        let sent = match self.socket.send_now(&self.output) {
            Ok(sent) if sent == self.output.len() => true,
            Ok(sent) => {
                self.set_unfinished(worker, true);
                let all = self.send_output_from(worker, sent).await;
                self.set_unfinished(worker, false);
                all
            }
            Err(_) => false,
        };
        self.output.clear();
        if !sent {
            self.socket.reset_on_close();
        }
        sent
    }

    /// Sends it from there on, as the client takes it: its time begins anew whenever it took some.
    async fn send_output_from(&mut self, worker: &Rc<Worker>, from: usize) -> bool {
        self.now_ns = 0;
        let mut sent = from;
        while sent < self.output.len() {
            let send_ms = worker.pinned.borrow().snapshot.rules.send_ms;
            worker.arm(self.alarm, worker.clock.now_ms() + send_ms);
            let output = std::mem::take(&mut self.output);
            let mut sending = pin!(Some(net::send_some(self.socket.clone(), output, sent)));
            let (result, output) = loop {
                match wait_for(worker, self.alarm, &mut sending).await {
                    Ok(done) => break done,
                    Err(Ring::Drain) => {}
                    Err(Ring::Due) => return false,
                }
            };
            self.output = output;
            match result {
                Ok(now) => sent = now,
                Err(_) => return false,
            }
        }
        true
    }

    /// Whether the connection's end would now cut a response off.
    pub(super) fn set_unfinished(&self, worker: &Worker, unfinished: bool) {
        worker.deadlines.borrow_mut().value_mut(self.alarm).unfinished = unfinished;
    }

    /// Reads and throws away what still comes, for a while.
    pub(super) async fn linger(&mut self, worker: &Rc<Worker>) {
        self.socket.end_sending();
        worker.arm(self.alarm, worker.clock.now_ms() + LINGER_MS);
        let mut left = LINGER_BYTES;
        while left > 0 && !worker.stopping.get() {
            let mut buffer = std::mem::take(&mut self.input);
            buffer.clear();
            buffer.reserve(limits::READ_BUFFER_BYTES);
            let mut reading = pin!(Some(net::read(self.socket.clone(), buffer)));
            match wait_for(worker, self.alarm, &mut reading).await {
                Ok((Ok(bytes), buffer)) if bytes > 0 => {
                    self.input = buffer;
                    left = left.saturating_sub(bytes);
                }
                _ => return,
            }
        }
    }

    /// The response to a request that can't be read.
    pub(super) fn refuse(&mut self, worker: &Worker, error: RequestError) {
        worker.counters.refused.up();
        log::info!("{}: request refused: {error}", self.facts.peer);
        let to_head = begins_with_head(self.input.get(self.at..).unwrap_or_default());
        self.write_error(worker, error.status(), to_head);
    }
}

/// Waits for an operation, or for the alarm.
async fn wait_for<F: Future>(
    worker: &Worker,
    alarm: DeadlineId,
    slot: &mut Slot<'_, F>,
) -> Result<F::Output, Ring> {
    poll_fn(|cx| {
        if let Poll::Ready(done) = poll_slot(slot, cx) {
            // A ring that came at the same time is kept: the deadline of a head that trickles in
            // is set once and rings once.
            return Poll::Ready(Ok(done));
        }
        match worker.rang(alarm, cx.waker()) {
            Some(ring) => Poll::Ready(Err(ring)),
            None => Poll::Pending,
        }
    })
    .await
}
