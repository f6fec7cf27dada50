//! What the control thread and the workers share: the snapshot and the wish to stop.

use super::lookup::Resolve;
use crate::net::Bell;
use crate::snapshot::Snapshot;
use arc_swap::ArcSwap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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

/// Written by the control thread, read by workers at every tick.
#[derive(Debug)]
pub struct Shared {
    snapshot: ArcSwap<Snapshot>,
    number: AtomicU64,
    stop: AtomicU8,
    /// One for each worker.
    bells: Mutex<Vec<Bell>>,
    /// For names that plugins call.
    resolver: Arc<dyn Resolve>,
}

impl Shared {
    /// With the first snapshot, and somebody who knows the addresses of names.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, resolver: Arc<dyn Resolve>) -> Arc<Self> {
        let number = AtomicU64::new(snapshot.number);
        let stop = AtomicU8::new(Stop::No as u8);
        let bells = Mutex::default();
        Arc::new(Self { snapshot: ArcSwap::new(snapshot), number, stop, bells, resolver })
    }

    /// Publishes a snapshot; every worker takes it as soon as it looks up, prepared before it
    /// serves.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        let number = snapshot.number;
        self.snapshot.store(snapshot);
        self.number.store(number, Ordering::Release);
        self.bells.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(Bell::ring);
    }

    pub(super) fn add_bell(&self, bell: Bell) {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner).push(bell);
    }

    /// Asks all workers to stop; never less urgently than before.
    pub fn stop(&self, stop: Stop) {
        self.stop.fetch_max(stop as u8, Ordering::AcqRel);
    }

    pub(super) fn stop_wish(&self) -> Stop {
        match self.stop.load(Ordering::Acquire) {
            0 => Stop::No,
            1 => Stop::Drain,
            _ => Stop::Now,
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// The snapshot published last.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    pub(super) fn resolver(&self) -> Arc<dyn Resolve> {
        Arc::clone(&self.resolver)
    }
}
