//! The one way a configuration comes to serve, and what became of the last tries.
//!
//! ```text
//! change ─► build aside ─► publish ─► all workers took it ─► live
//!              │ wrong               │ one refuses: the old one is published again
//!              └─► refused ◄─────────┘ one is late: live there as soon as it looks up
//! ```
//!
//! Whoever wants a change waits for its turn: there is one at a time, from the first look at what
//! is there to the last worker's word. A change that began is carried to its end, also when nobody
//! waits for it any more.

use super::{Failure, Loading};
use crate::conf::Report;
use crate::snapshot::Snapshot;
use crate::worker::{Shared, Taken};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout_at};

/// How long workers may take to look up. Each does so at once unless a plugin holds it.
const TAKE_PATIENCE: Duration = Duration::from_secs(5);

/// How often snapshots that went out of use are looked at.
const RETIRE_LOOK: Duration = Duration::from_millis(200);

/// Owns what snapshots are made of.
#[derive(Debug)]
pub(super) struct Store {
    desk: Arc<AsyncMutex<Desk>>,
    status: Mutex<Status>,
}

/// What whoever makes a change has to itself meanwhile.
#[derive(Debug)]
struct Desk {
    loading: Loading,
    shared: Arc<Shared>,
    taken: UnboundedReceiver<Taken>,
    workers: usize,
}

/// What serves, and what became of tries to change it.
#[derive(Clone, Debug)]
pub(super) struct Status {
    /// The number of the snapshot that serves.
    pub(super) serving: u64,
    /// When it was published.
    pub(super) since: SystemTime,
    /// Changes that came to serve, the first configuration included.
    pub(super) good: u64,
    /// Changes that were refused.
    pub(super) refused: u64,
    /// The last of either.
    pub(super) last: Try,
}

/// One try to change what serves.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "the status page reads it")]
pub(super) struct Try {
    /// The number its snapshot has, or would have had.
    pub(super) number: u64,
    /// When it ended.
    pub(super) at: SystemTime,
    /// Who wanted it, for people: `SIGHUP`, `PUT /apisix/admin/routes/1`.
    pub(super) cause: String,
    /// Why it was refused; empty: it was not.
    pub(super) errors: Vec<String>,
    /// Workers that had not taken it when the time was up.
    pub(super) late: Vec<usize>,
}

/// A change that came to serve.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "the Admin API answers with it")]
pub(super) struct Live {
    /// The snapshot's number.
    pub(super) number: u64,
    /// Workers that had not taken it in time and will when they look up.
    pub(super) late: Vec<usize>,
}

impl Store {
    /// A store whose first snapshot serves already.
    pub(super) fn new(
        loading: Loading,
        shared: Arc<Shared>,
        taken: UnboundedReceiver<Taken>,
        workers: usize,
    ) -> Arc<Self> {
        let (number, at) = (shared.snapshot().number, SystemTime::now());
        let last =
            Try { number, at, cause: "start".to_owned(), errors: Vec::new(), late: Vec::new() };
        let status = Status { serving: number, since: at, good: 1, refused: 0, last };
        let desk = Desk { loading, shared, taken, workers };
        let desk = Arc::new(AsyncMutex::new(desk));
        Arc::new(Self { desk, status: Mutex::new(status) })
    }

    /// What serves, and what became of the last try.
    pub(super) fn status(&self) -> Status {
        self.lock().clone()
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// They are wrong, or a worker can't run them; what served before serves on.
    pub(super) async fn reload_files(self: &Arc<Self>, cause: &str) -> Result<Live, Failure> {
        self.change(cause, Loading::reload).await
    }

    /// Makes a change: `build` makes the snapshot, on a thread where it may take its time.
    async fn change(
        self: &Arc<Self>,
        cause: &str,
        build: impl FnOnce(&mut Loading) -> Result<(Snapshot, Report), Failure> + Send + 'static,
    ) -> Result<Live, Failure> {
        let (store, cause) = (Arc::clone(self), cause.to_owned());
        let task = tokio::spawn(async move {
            let mut desk = Arc::clone(&store.desk).lock_owned().await;
            let built = spawn_blocking(move || {
                let built = build(&mut desk.loading);
                (desk, built)
            });
            let (outcome, number) = match built.await {
                Ok((desk, Ok(built))) => {
                    let number = built.0.number;
                    (publish(desk, built).await, number)
                }
                Ok((desk, Err(failure))) => (Err(failure), desk.loading.next_number()),
                Err(panic) => (Err(Failure::Broken(panic.to_string())), 0),
            };
            store.note(cause, number, &outcome);
            outcome
        });
        task.await.unwrap_or_else(|panic| Err(Failure::Broken(panic.to_string())))
    }

    fn note(&self, cause: String, number: u64, outcome: &Result<Live, Failure>) {
        let at = SystemTime::now();
        let mut status = self.lock();
        let (errors, late) = match outcome {
            Ok(live) => {
                log::info!("snapshot {number} published ({cause})");
                (status.serving, status.since) = (number, at);
                status.good += 1;
                (Vec::new(), live.late.clone())
            }
            Err(failure) => {
                log::error!("not loaded ({cause}): {failure}what ran before goes on");
                status.refused += 1;
                (failure.lines(), Vec::new())
            }
        };
        status.last = Try { number, at, cause, errors, late };
    }

    /// Nothing here is left half done when a thread panics.
    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishes a snapshot and waits for what the workers say.
async fn publish(
    mut desk: OwnedMutexGuard<Desk>,
    (snapshot, warnings): (Snapshot, Report),
) -> Result<Live, Failure> {
    super::show_warnings(&warnings);
    let number = snapshot.number;
    let (turn, before) = desk.shared.publish(Arc::new(snapshot));
    let (refusals, late) = desk.word_of_workers(turn).await;
    if refusals.is_empty() {
        desk.loading.keep_up(&desk.shared.snapshot());
        desk.loading.commit();
        retire(before);
        if !late.is_empty() {
            log::warn!("snapshot {number}: workers {late:?} did not take it yet");
        }
        return Ok(Live { number, late });
    }
    desk.loading.forget();
    // All workers serve the same thing, or the gateway would answer one way or the other.
    let (turn, refused) = desk.shared.publish(before);
    retire(refused);
    let (_, late) = desk.word_of_workers(turn).await;
    if !late.is_empty() {
        log::warn!("workers {late:?} did not go back from snapshot {number} yet");
    }
    Err(Failure::NotTaken(refusals))
}

impl Desk {
    /// Who refuses a publication and why, and who has not said a word in time.
    async fn word_of_workers(&mut self, turn: u64) -> (Vec<String>, Vec<usize>) {
        let until = Instant::now() + TAKE_PATIENCE;
        let mut missing: Vec<usize> = (0..self.workers).collect();
        let mut refusals = Vec::new();
        while !missing.is_empty() {
            let Ok(Some(taken)) = timeout_at(until, self.taken.recv()).await else { break };
            // A late word on an earlier publication says nothing about this one.
            if taken.turn != turn {
                continue;
            }
            missing.retain(|worker| *worker != taken.worker);
            if let Err(why) = taken.outcome {
                refusals.push(format!("worker {}: {why}", taken.worker));
            }
        }
        (refusals, missing)
    }
}

/// Drops a snapshot once no worker uses it: taking a large one apart is no work for them.
fn retire(snapshot: Arc<Snapshot>) {
    tokio::spawn(async move {
        while Arc::strong_count(&snapshot) > 1 {
            sleep(RETIRE_LOOK).await;
        }
        spawn_blocking(move || drop(snapshot));
    });
}
