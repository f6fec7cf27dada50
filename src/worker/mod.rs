//! Room `worker`: one thread, one core, one loop.
//!
//! In: sockets, the snapshot, stop and tick.
//! Out: commands carried out, counters.
//! May not know: YAML, signals, other workers.
//!
//! ```text
//!            ┌ accept (one task per listener) ─► serve (one task per connection)
//! run ─ loop ┤                                    head ─ fast path ─► out
//!            ├ letters: plugins', a new snapshot  └ exchange ◄─ drive ─► upstream
//!            ├ errands of plugins: callouts, gRPC, timers
//!            └ tick: time, date, deadlines, pools, stop
//! ```

mod access;
mod callout;
mod clock;
mod connect;
mod connection;
mod counting;
mod drive;
mod errands;
mod grpc;
mod guard;
mod letters;
mod listen;
mod lookup;
mod proxied;
mod runner;
mod serve;
mod shared;
mod slots;
mod start;
mod tick;
mod timers;

pub use access::{AccessSink, AccessSource, access_log};
pub use lookup::{Question, Resolve};
pub use shared::{Report, Shared, Stop, Taken};
pub use start::{Settings, Started, start};

use crate::exchange::Exchange;
use crate::net::{Listener, Socket};
use crate::plugin::{Chore, Errand, Locals, Services};
use crate::snapshot::{Pinned, Rules};
use crate::stats::Counters;
use crate::time::{DeadlineId, Deadlines, HttpDate};
use crate::upstream::IdlePool;
use access::AccessBuffer;
use clock::Clock;
use counting::RouteCells;
use grpc::Grpc;
use letters::Postbox;
use lookup::Lookups;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use timers::Timers;

thread_local! {
    static AT_WORK: Cell<u64> = const { Cell::new(0) };
}

/// The number of the request that this thread works on, for lines of the log; 0: none.
#[must_use]
pub fn request_at_work() -> u64 {
    AT_WORK.get()
}

fn at_work(request: u64) {
    AT_WORK.set(request);
}

/// Everything one worker owns. Tasks of the loop share it; nobody holds a borrow over an await.
struct Worker {
    index: usize,
    /// How many there are.
    workers: usize,
    shared: Arc<Shared>,
    /// The publication it looked at last, taken or not.
    turn: Cell<u64>,
    counters: Arc<Counters>,
    routes: RefCell<RouteCells>,
    /// Those of earlier snapshots, until there is a moment to drop them.
    old_cells: RefCell<Vec<RouteCells>>,
    clock: Clock,
    date: RefCell<HttpDate>,
    pinned: RefCell<Rc<Pinned>>,
    locals: RefCell<Locals>,
    deadlines: RefCell<Deadlines<Alarm>>,
    idle: RefCell<IdlePool<Socket>>,
    // Large, and each goes from here to a task and back.
    #[expect(clippy::vec_box)]
    exchanges: RefCell<Vec<Box<Exchange>>>,
    buffers: RefCell<Vec<Vec<u8>>>,
    /// The sum of their sizes, and what it may be.
    pooled_bytes: Cell<usize>,
    pooled_bytes_max: usize,
    buffer_bytes: usize,
    next_connection: Cell<u64>,
    next_request: Cell<u64>,
    stopping: Cell<bool>,
    /// Whether it takes connections that come.
    accepting: Cell<bool>,
    /// Connections that are being told that there is no room.
    telling: Cell<usize>,
    services: Rc<Services>,
    /// Kept for its memory.
    errands: RefCell<Vec<Errand>>,
    postbox: Postbox,
    lookups: Lookups,
    runners: runner::Pools,
    grpc: Grpc,
    timers: Timers,
    access: AccessBuffer,
    listeners: RefCell<Vec<Rc<Listener>>>,
}

/// Wakes a connection's task when its deadline is due or the worker stops.
#[derive(Default)]
struct Alarm {
    waker: Option<Waker>,
    rang: Option<Ring>,
    /// Its connection.
    socket: Option<Socket>,
    /// The connection's end would now cut a response off.
    unfinished: bool,
}

/// Why an alarm rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ring {
    /// Its deadline is due.
    Due,
    /// The worker drains: idle connections close.
    Drain,
}

impl Alarm {
    fn ring(&mut self, ring: Ring) {
        self.rang = Some(ring);
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

impl Worker {
    /// Sets when the connection's alarm rings; a deadline that was due before this is forgotten.
    fn arm(&self, alarm: DeadlineId, due_ms: u64) {
        let mut deadlines = self.deadlines.borrow_mut();
        deadlines.value_mut(alarm).rang.take_if(|rang| *rang == Ring::Due);
        if due_ms == u64::MAX {
            deadlines.disarm(alarm);
        } else {
            deadlines.arm(alarm, due_ms.saturating_add(clock::SLACK_MS));
        }
    }

    /// Why the alarm rang since it was last asked, if it did; remembers whom to wake.
    fn rang(&self, alarm: DeadlineId, waker: &Waker) -> Option<Ring> {
        let mut deadlines = self.deadlines.borrow_mut();
        let alarm = deadlines.value_mut(alarm);
        if !alarm.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            alarm.waker = Some(waker.clone());
        }
        alarm.rang.take()
    }

    /// Whether connections close after the response at hand.
    fn closes_after(&self, rules: &Rules) -> bool {
        self.stopping.get() || rules.idle_ms == 0
    }

    fn take_exchange(&self) -> Box<Exchange> {
        self.exchanges.borrow_mut().pop().unwrap_or_default()
    }

    fn give_back_exchange(&self, exchange: Box<Exchange>) {
        self.exchanges.borrow_mut().push(exchange);
    }

    /// An empty buffer with room for at least `room` bytes.
    fn take_buffer(&self, room: usize) -> Vec<u8> {
        let mut buffer = self.buffers.borrow_mut().pop().unwrap_or_default();
        self.pooled_bytes.set(self.pooled_bytes.get() - buffer.capacity());
        buffer.reserve(room);
        buffer
    }

    fn give_back_buffer(&self, mut buffer: Vec<u8>) {
        let pooled = self.pooled_bytes.get() + buffer.capacity();
        let fits = buffer.capacity() <= crate::limits::POOLED_BUFFER_BYTES_MAX;
        if buffer.capacity() > 0 && fits && pooled <= self.pooled_bytes_max {
            self.pooled_bytes.set(pooled);
            buffer.clear();
            self.buffers.borrow_mut().push(buffer);
        }
    }

    /// What plugins' hosts have to do, while no request waits for it.
    fn do_chores(self: &Rc<Self>, chore: Chore) {
        self.with_locals(|locals| locals.do_chores(chore));
    }

    fn pinned(&self) -> Rc<Pinned> {
        Rc::clone(&self.pinned.borrow())
    }
}
