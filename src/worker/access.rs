//! The access log of one worker: lines gathered in a buffer, handed over whole.
//!
//! ```text
//! request ends ─► line in the worker's buffer ─ full, or at the tick ─► AccessSink ─► who writes
//!                        ▲                                                               │
//!                        └────────────── emptied buffers come back ◄─────────────────────┘
//! ```
//!
//! A worker never waits for a disk. When nobody takes the buffers, one is filled to its limit, and
//! lines after that are dropped and counted.

use super::Worker;
use super::clock::epoch_ns;
use super::counting::Answer;
use crate::limits::{ACCESS_BUFFER_BYTES, ACCESS_BUFFER_BYTES_MAX};
use crate::plugin::{LogFormat, Outcome, RequestFacts};
use crate::snapshot::Snapshot;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Buffers on their way to who writes them, of all workers.
const QUEUE: usize = 64;

/// Where workers leave their lines.
#[derive(Clone, Debug)]
pub struct AccessSink {
    full: Sender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

/// Where somebody finds the lines to write.
#[derive(Debug)]
pub struct AccessSource {
    /// Whole lines.
    pub full: Receiver<Vec<u8>>,
    /// Where buffers go when they are written.
    pub empty: Sender<Vec<u8>>,
    /// Lines that were dropped.
    pub dropped: Arc<AtomicU64>,
}

/// A sink and its source.
#[must_use]
pub fn access_log() -> (AccessSink, AccessSource) {
    let (full, to_write) = bounded(QUEUE);
    let (written, empty) = bounded(QUEUE);
    let dropped = Arc::<AtomicU64>::default();
    let source = AccessSource { full: to_write, empty: written, dropped: Arc::clone(&dropped) };
    (AccessSink { full, empty, dropped }, source)
}

/// One worker's lines that nobody took yet.
pub(super) struct AccessBuffer {
    sink: Option<AccessSink>,
    lines: RefCell<Vec<u8>>,
}

impl AccessBuffer {
    pub(super) fn new(sink: Option<AccessSink>) -> Self {
        Self { sink, lines: RefCell::default() }
    }

    /// Hands over what there is.
    pub(super) fn flush(&self) {
        let Some(sink) = &self.sink else { return };
        let mut lines = self.lines.borrow_mut();
        if lines.is_empty() {
            return;
        }
        let fresh = sink.empty.try_recv().unwrap_or_default();
        match sink.full.try_send(std::mem::replace(&mut *lines, fresh)) {
            Ok(()) => {}
            Err(TrySendError::Full(unsent) | TrySendError::Disconnected(unsent)) => *lines = unsent,
        }
    }

    fn add<F>(&self, format: &LogFormat, facts: &F, outcome: &Outcome)
    where
        F: RequestFacts + ?Sized,
    {
        let Some(sink) = &self.sink else { return };
        let mut lines = self.lines.borrow_mut();
        if lines.len() >= ACCESS_BUFFER_BYTES_MAX {
            sink.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        format.write(facts, outcome, &mut lines);
        if lines.len() >= ACCESS_BUFFER_BYTES {
            drop(lines);
            self.flush();
        }
    }
}

impl Worker {
    /// Writes the line of a request that is over, if lines are wanted.
    pub(super) fn log_access<F>(&self, snapshot: &Snapshot, facts: &F, outcome: &Outcome)
    where
        F: RequestFacts + ?Sized,
    {
        if let Some(format) = &snapshot.access_log {
            self.access.add(format, facts, outcome);
        }
    }

    /// What a request came to that had no exchange; it gets a number of its own.
    pub(super) fn outcome(&self, answer: &Answer, body_sent: u64) -> Outcome {
        let number = self.next_request.get();
        self.next_request.set(number + 1);
        Outcome {
            status: answer.status,
            received: answer.ingress,
            sent: answer.egress,
            body_sent,
            ended_ns: epoch_ns(),
            number,
        }
    }
}
