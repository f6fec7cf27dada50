//! What the control thread and the workers share: the snapshot and the wish to stop.

use super::guard::Guard;
use super::lookup::Resolve;
use crate::net::Bell;
use crate::snapshot::Snapshot;
use arc_swap::ArcSwap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How urgently workers are to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Not at all.
    No,
    /// Accept nothing new, finish what is running.
    Drain,
    /// At once.
    Now,
}

/// What a worker says once of every snapshot that was published and that it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which worker.
    pub worker: usize,
    /// Which publication.
    pub turn: u64,
    /// It serves that snapshot; or why it goes on with the one before.
    pub outcome: Result<(), String>,
}

/// Where workers' reports go; called on their threads, so it must not wait.
pub type Report = Box<dyn Fn(Taken) + Send + Sync>;

/// One publication of a snapshot. The same snapshot may be published again: a worker that has it
/// has nothing to do then.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) turn: u64,
    pub(super) snapshot: Arc<Snapshot>,
}

/// Written by the control thread, read by workers at every tick.
pub struct Shared {
    published: ArcSwap<Published>,
    turn: AtomicU64,
    stop: AtomicU8,
    /// How long a stop may take, in milliseconds.
    drain_ms: AtomicU64,
    /// Whether workers are to accept connections, and how many do.
    accepts: AtomicBool,
    accepting: AtomicUsize,
    /// One for each worker.
    bells: Mutex<Vec<Bell>>,
    /// For names that plugins call.
    resolver: Arc<dyn Resolve>,
    report: Report,
    pub(super) guard: Guard,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("turn", &self.turn).finish_non_exhaustive()
    }
}

impl Shared {
    /// With the first snapshot, and somebody who knows the addresses of names.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, report: Report, resolver: Arc<dyn Resolve>) -> Arc<Self> {
        Arc::new(Self {
            published: ArcSwap::from_pointee(Published { turn: 0, snapshot }),
            turn: AtomicU64::new(0),
            stop: AtomicU8::new(Stop::No as u8),
            drain_ms: AtomicU64::new(0),
            accepts: AtomicBool::new(false),
            accepting: AtomicUsize::new(0),
            bells: Mutex::default(),
            resolver,
            report,
            guard: Guard::default(),
        })
    }

    /// Publishes a snapshot; every worker takes it as soon as it looks up, prepared before it
    /// serves, and reports. Gives the number of this publication and the snapshot before. Called by
    /// one thread at a time.
    pub fn publish(&self, snapshot: Arc<Snapshot>) -> (u64, Arc<Snapshot>) {
        let turn = self.turn.load(Ordering::Relaxed) + 1;
        let before = self.published.swap(Arc::new(Published { turn, snapshot }));
        self.turn.store(turn, Ordering::Release);
        self.ring();
        (turn, Arc::clone(&before.snapshot))
    }

    /// The snapshot published last.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.published.load().snapshot)
    }

    fn ring(&self) {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(Bell::ring);
    }

    pub(super) fn add_bell(&self, bell: Bell) {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner).push(bell);
    }

    /// Asks all workers to stop; never less urgently than before.
    pub fn stop(&self, stop: Stop) {
        self.stop.fetch_max(stop as u8, Ordering::AcqRel);
    }

    /// Says how long running exchanges may take to finish after a stop, also one that has begun.
    pub fn set_drain(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.drain_ms.store(ms, Ordering::Relaxed);
    }

    pub(super) fn drain_ms(&self) -> u64 {
        self.drain_ms.load(Ordering::Relaxed)
    }

    /// Lets workers accept connections, or leave them in the kernel: they listen all the same.
    /// They do neither until this is first called.
    pub fn set_accepting(&self, accepts: bool) {
        self.accepts.store(accepts, Ordering::Release);
        self.ring();
    }

    /// How many workers accept connections.
    #[must_use]
    pub fn accepting(&self) -> usize {
        self.accepting.load(Ordering::Acquire)
    }

    pub(super) fn accepts(&self) -> bool {
        self.accepts.load(Ordering::Acquire)
    }

    pub(super) fn note_accepting(&self, accepting: bool) {
        if accepting {
            self.accepting.fetch_add(1, Ordering::AcqRel);
        } else {
            self.accepting.fetch_sub(1, Ordering::AcqRel);
        }
    }

    pub(super) fn stop_wish(&self) -> Stop {
        match self.stop.load(Ordering::Acquire) {
            0 => Stop::No,
            1 => Stop::Drain,
            _ => Stop::Now,
        }
    }

    pub(super) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Acquire)
    }

    pub(super) fn published(&self) -> Arc<Published> {
        self.published.load_full()
    }

    pub(super) fn report(&self, taken: Taken) {
        (self.report)(taken);
    }

    pub(super) fn resolver(&self) -> Arc<dyn Resolve> {
        Arc::clone(&self.resolver)
    }
}
