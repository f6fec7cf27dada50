//! Talks with external runners: what goes between a plugin and the worker, which has the sockets.
//!
//! ```text
//! plugin: fills `out` ─ Errand::RunnerSend ─► worker: sends, waits for one frame
//!    ▲                                                 │
//!    └── on_reply: the same talk with `kind`, `payload` or `failure` ◄─┘
//! ```
//!
//! The box itself travels, so that nothing is allocated for a call. Its connection travels with
//! it: it belongs to one talk until [`Errand::RunnerRelease`](super::Errand::RunnerRelease), and
//! closes when the talk is dropped.

use super::StreamKey;
use std::any::Any;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A runner: where it listens, what it may take, and how it fares. Shared by all workers.
#[derive(Debug)]
pub struct RunnerPlace {
    /// Its name in the configuration; empty for the one of `ext-plugin.cmd`.
    pub name: String,
    /// Its socket.
    pub socket: PathBuf,
    /// Connections of one worker.
    pub connections_max: usize,
    /// Talks of one worker that wait for a connection.
    pub queue_max: usize,
    /// How long a whole talk may take.
    pub call_ms: u64,
    /// How long a talk waits for a runner that is not there yet, or restarts.
    pub start_ms: u64,
    /// What happened to it.
    pub life: RunnerLife,
}

/// What happened to a runner.
#[derive(Debug, Default)]
pub struct RunnerLife {
    epoch: AtomicU64,
    running: AtomicBool,
    restarts: AtomicU64,
    calls: AtomicU64,
    failures: AtomicU64,
    connections: AtomicU64,
    waiting: AtomicU64,
}

/// A runner's life in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunnerFigures {
    /// Our process of it runs; false too if it is none of ours.
    pub running: bool,
    /// Times it was started again.
    pub restarts: u64,
    /// Talks begun.
    pub calls: u64,
    /// Talks that failed.
    pub failures: u64,
    /// Connections that are open.
    pub connections: u64,
    /// Talks that wait for one.
    pub waiting: u64,
}

impl RunnerLife {
    /// Counts the lives of the runner: what it knew is gone with each. Tokens carry it.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The runner of that life is gone. Whoever sees it first ends it; others change nothing.
    pub fn end(&self, epoch: u64) {
        let next = epoch.wrapping_add(1);
        // Somebody else saw it before: it is over all the same.
        let _ = self.epoch.compare_exchange(epoch, next, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Our process of it runs now, or does not.
    pub fn set_running(&self, running: bool) {
        self.running.store(running, Ordering::Relaxed);
    }

    /// It was started once more.
    pub fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// Talks that ended, by whether they failed; workers add theirs now and then.
    pub fn count(&self, calls: u64, failures: u64) {
        self.calls.fetch_add(calls, Ordering::Relaxed);
        self.failures.fetch_add(failures, Ordering::Relaxed);
    }

    /// Connections and waiting talks that came or, wrapped, went.
    pub fn move_gauges(&self, connections: u64, waiting: u64) {
        self.connections.fetch_add(connections, Ordering::Relaxed);
        self.waiting.fetch_add(waiting, Ordering::Relaxed);
    }

    /// The numbers.
    #[must_use]
    pub fn figures(&self) -> RunnerFigures {
        RunnerFigures {
            running: self.running.load(Ordering::Relaxed),
            restarts: self.restarts.load(Ordering::Relaxed),
            calls: self.calls.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }
}

/// A worker's connection to a runner; what it is only the worker knows.
#[derive(Clone)]
pub struct RunnerLink(pub Rc<dyn Any>);

impl fmt::Debug for RunnerLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RunnerLink")
    }
}

/// One talk: some frames there, one back, and again.
#[derive(Debug)]
pub struct RunnerTalk {
    /// Who talks.
    pub key: StreamKey,
    /// With whom.
    pub place: Arc<RunnerPlace>,
    /// The bytes to send: whole frames. They stay there until the talk comes back.
    pub out: Vec<u8>,
    /// The type of the frame that came.
    pub kind: u8,
    /// What it carries.
    pub payload: Vec<u8>,
    /// Why none came.
    pub failure: Option<TalkFailure>,
    /// Milliseconds the talk may still take; the worker counts down.
    pub left_ms: u64,
    /// It began anew on another connection, because the first was closed under it.
    pub again: bool,
    /// Its connection, once it has one.
    pub link: Option<RunnerLink>,
}

/// Why a talk ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TalkFailure {
    /// No connection could be made; says why, and what to do where something can be done.
    Connect(String),
    /// The runner is known to be down and is not asked for a moment.
    Down,
    /// All connections are busy, and so many talks wait already.
    Busy,
    /// The runner closed the connection.
    Closed,
    /// It took too long.
    Timeout,
}

impl fmt::Display for TalkFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect(why) => why,
            Self::Down => "the runner is down",
            Self::Busy => "too many calls wait for the runner",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
        })
    }
}
