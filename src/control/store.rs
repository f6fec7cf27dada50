//! The one way a configuration comes to serve, and what became of the last tries.
//!
//! ```text
//! change ─► build aside ─► keep ─► publish ─► all workers took it ─► live
//!              │ wrong       │        │ one refuses: the old one is published again
//!              └─► refused ◄─┴────────┘ one is late: live there as soon as it looks up
//! ```
//!
//! Whoever wants a change waits for its turn: there is one at a time, from the first look at what
//! is there to the last worker's word. A change that began is carried to its end, also when nobody
//! waits for it any more.

use super::backend::{Backend, CommitError, Opened};
use super::document::{Change, Document, Draft, Stamped, key_of};
use super::load::lines;
use super::upgrade::Upgrades;
use super::{Failure, Loading};
use crate::plugin::RunnerPlace;
use crate::snapshot::Snapshot;
use crate::stats::Counters;
use crate::worker::{Shared, Taken};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedMutexGuard, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout_at};

/// How long workers may take to look up. Each does so at once unless a plugin holds it.
const TAKE_PATIENCE: Duration = Duration::from_secs(5);

/// How often snapshots that went out of use are looked at.
const RETIRE_LOOK: Duration = Duration::from_millis(200);

/// Counters of routes that are gone are looked for after so many changes at the latest.
const FORGET_EVERY: u64 = 64;

/// Tries of a change that others are in the way of, and the pause between two.
const TRIES_MAX: usize = 40;
const CONFLICT_PAUSE: Duration = Duration::from_millis(25);

/// How often items with a time to live are looked at.
const EXPIRY_LOOK: Duration = Duration::from_millis(500);

/// Why nothing is changed during an upgrade.
const FROZEN: &str = "another process is taking over from this one; try again in a moment";

/// What is so while a global rule is left out that no earlier version serves for.
pub(super) const CLOSED: &str =
    "a global rule is left out: every request is answered 503 until it is mended or deleted";

/// Owns what snapshots are made of.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) desk: Arc<AsyncMutex<Desk>>,
    document: RwLock<Document>,
    status: Mutex<Status>,
    pub(super) backend: Backend,
    shared: Arc<Shared>,
    /// All runners; which there are changes with a restart only.
    pub(super) runners: Vec<Arc<RunnerPlace>>,
    /// Told when the document changed.
    pub(super) changed: Notify,
    pub(super) upgrades: Upgrades,
    /// Whether nothing is to change here, as another process is taking over.
    pub(super) frozen: watch::Sender<bool>,
}

/// What whoever makes a change has to itself meanwhile.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) loading: Loading,
    shared: Arc<Shared>,
    taken: UnboundedReceiver<Taken>,
    workers: Vec<Arc<Counters>>,
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
    /// Items that somebody else wrote and that are wrong, and why: what was there before serves.
    pub(super) left_out: BTreeMap<String, String>,
    /// Why the store is not to be reached, if so.
    pub(super) away: Option<String>,
}

/// One try to change what serves.
#[derive(Clone, Debug)]
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
pub(super) struct Live {
    /// The snapshot's number.
    pub(super) number: u64,
    /// Workers that had not taken it in time and will when they look up.
    pub(super) late: Vec<usize>,
}

/// A change of the document that came to serve.
#[derive(Debug)]
pub(super) struct Edited {
    pub(super) live: Live,
    /// What changed, and whether it was there before.
    pub(super) changes: Vec<(Change, bool)>,
}

/// Why there is no change.
#[derive(Debug)]
pub(super) enum Refusal<E> {
    /// Whoever planned it found a reason.
    Planned(E),
    /// It would not be valid, or no worker can run it.
    Failed(Failure),
    /// It could not be kept, for a reason that may pass.
    Unavailable(String),
    /// Others change the same thing all the time.
    Conflict,
}

impl<E> From<Failure> for Refusal<E> {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The desk, for a task of its own.
type AtDesk = OwnedMutexGuard<Desk>;

impl Store {
    /// A store whose first snapshot serves already.
    pub(super) fn new(
        loading: Loading,
        opened: Opened,
        shared: Arc<Shared>,
        taken: UnboundedReceiver<Taken>,
        workers: Vec<Arc<Counters>>,
    ) -> Arc<Self> {
        let (number, at) = (shared.snapshot().number, SystemTime::now());
        let (cause, late) = ("start".to_owned(), Vec::new());
        let last = Try { number, at, cause, errors: Vec::new(), late };
        let Opened { backend, document, left_out } = opened;
        let left_out = left_out.into_iter().collect();
        let status =
            Status { serving: number, since: at, good: 1, refused: 0, last, left_out, away: None };
        let runners = loading.runners.all().to_vec();
        let served = Arc::clone(&shared);
        let desk = Arc::new(AsyncMutex::new(Desk { loading, shared, taken, workers }));
        let (document, status) = (RwLock::new(document), Mutex::new(status));
        Arc::new(Self {
            desk,
            document,
            status,
            backend,
            shared: served,
            runners,
            changed: Notify::new(),
            upgrades: Upgrades::default(),
            frozen: watch::Sender::new(false),
        })
    }

    /// The document of `apisix.yaml`, where resources come from there.
    ///
    /// # Errors
    /// The file is no longer what serves.
    pub(super) async fn resources_file(&self) -> Result<Option<Value>, String> {
        if !matches!(self.backend, Backend::Files) {
            return Ok(None);
        }
        let desk = Arc::clone(&self.desk).lock_owned().await;
        if let Some(error) = self.status().last.errors.first() {
            return Err(format!("apisix.yaml may have changed since, and was refused: {error}"));
        }
        let read = spawn_blocking(move || desk.loading.taken_document());
        read.await.map_err(|panic| panic.to_string())?.map(Some)
    }

    /// The snapshot that serves.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot()
    }

    /// What serves, and what became of the last try.
    pub(super) fn status(&self) -> Status {
        self.lock().clone()
    }

    /// The resources as they are. Not to be held while waiting for anything.
    pub(super) fn document(&self) -> RwLockReadGuard<'_, Document> {
        self.document.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the store is not to be reached, or is again.
    pub(super) fn set_away(&self, away: Option<String>) {
        self.lock().away = away;
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// They are wrong, or a worker can't run them; what served before serves on.
    pub(super) async fn reload_files(self: &Arc<Self>, cause: &str) -> Result<Live, Failure> {
        let (store, cause) = (Arc::clone(self), cause.to_owned());
        let task = tokio::spawn(async move {
            let desk = Arc::clone(&store.desk).lock_owned().await;
            if store.is_frozen() {
                return Err(Failure::File(FROZEN.to_owned()));
            }
            let resources = match store.backend {
                Backend::Files => None,
                // The settings and the plugins' files may have changed.
                _ => Some(store.document().resources()),
            };
            let read = move |desk: &mut Desk| {
                let (snapshot, warnings) = desk.loading.reload(resources.as_ref())?;
                super::show_warnings(&warnings);
                Ok(snapshot)
            };
            let (mut desk, built) = at_desk(desk, read).await?;
            let outcome = match built {
                Ok(snapshot) => desk.publish(snapshot).await,
                Err(failure) => Err(failure),
            };
            store.note(cause, desk.loading.next_number(), &outcome);
            outcome
        });
        task.await.unwrap_or_else(|panic| Err(Failure::Broken(panic.to_string())))
    }

    /// Changes the document as `plan` says, which sees it as it is at that moment; asked again when
    /// others were faster.
    ///
    /// # Errors
    /// Nothing was changed; see [`Refusal`].
    pub(super) async fn edit<E: Send + 'static>(
        self: &Arc<Self>,
        cause: &str,
        plan: impl Fn(&Document) -> Result<Vec<Change>, E> + Send + Sync + 'static,
    ) -> Result<Edited, Refusal<E>> {
        let (store, cause) = (Arc::clone(self), cause.to_owned());
        let task = tokio::spawn(async move {
            for _ in 0..TRIES_MAX {
                let desk = Arc::clone(&store.desk).lock_owned().await;
                if store.is_frozen() {
                    return Err(Refusal::Unavailable(FROZEN.to_owned()));
                }
                let changes = plan(&store.document()).map_err(Refusal::Planned)?;
                match store.carry_out(desk, &cause, changes).await {
                    Err(Refusal::Conflict) => sleep(CONFLICT_PAUSE).await,
                    outcome => return outcome,
                }
            }
            Err(Refusal::Conflict)
        });
        task.await.unwrap_or_else(|panic| Err(Failure::Broken(panic.to_string()).into()))
    }

    /// Whether changes could be made, without making them.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn check(self: &Arc<Self>, changes: Vec<Change>) -> Result<(), Failure> {
        let store = Arc::clone(self);
        let task = tokio::spawn(async move {
            let draft = Document::draft(changes).map_err(Failure::Items)?;
            let desk = Arc::clone(&store.desk).lock_owned().await;
            store.build(desk, draft).await.map(drop)
        });
        task.await.unwrap_or_else(|panic| Err(Failure::Broken(panic.to_string())))
    }

    async fn build(
        self: &Arc<Self>,
        desk: AtDesk,
        draft: Draft,
    ) -> Result<(AtDesk, Draft, Snapshot), Failure> {
        let resources = self.document().with(&draft);
        let (desk, built) = at_desk(desk, move |desk| desk.loading.build(&resources)).await?;
        Ok((desk, draft, built?))
    }

    async fn carry_out<E>(
        self: &Arc<Self>,
        desk: AtDesk,
        cause: &str,
        changes: Vec<Change>,
    ) -> Result<Edited, Refusal<E>> {
        let was_there = |change: &Change| self.document().get(change.key()).is_some();
        let undo = self.document().inverse(&changes);
        let described: Vec<_> = changes.iter().map(|c| (c.clone(), was_there(c))).collect();
        let draft = Document::draft(changes).map_err(Failure::Items)?;
        let (mut desk, draft, snapshot) = self.build(desk, draft).await?;
        self.commit(draft).await?;
        let outcome = desk.publish(snapshot).await;
        self.note(cause.to_owned(), desk.loading.next_number(), &outcome);
        match outcome {
            Ok(live) => Ok(Edited { live, changes: described }),
            Err(failure) => {
                // What no worker can run must not be there at the next start.
                if let Ok(draft) = Document::draft(undo)
                    && let Err(refusal) = self.commit::<()>(draft).await
                {
                    log::error!("{cause}: refused by a worker, and not taken back: {refusal:?}");
                }
                Err(failure.into())
            }
        }
    }

    /// Keeps a draft, here and in the backend.
    async fn commit<E>(&self, draft: Draft) -> Result<(), Refusal<E>> {
        let (known, next) = {
            let document = self.document();
            let modified = |change: &Change| document.get(change.key()).map_or(0, |i| i.modified);
            (draft.changes().iter().map(modified).collect(), document.revision + 1)
        };
        let changes = draft.changes().to_vec();
        let now = now_s();
        let stamp = |revision| self.document().stamp(draft, |_| revision, now);
        match self.backend.commit(known, next, &changes, stamp).await {
            Ok((stamped, revision)) => {
                self.apply(stamped, revision);
                Ok(())
            }
            Err(CommitError::Conflict) => Err(Refusal::Conflict),
            Err(CommitError::Unavailable(why)) => Err(Refusal::Unavailable(why)),
        }
    }

    fn apply(&self, stamped: Vec<Stamped>, revision: u64) {
        {
            let mut status = self.lock();
            stamped.iter().for_each(|one| drop(status.left_out.remove(&one.key)));
        }
        self.document.write().unwrap_or_else(PoisonError::into_inner).apply(stamped, revision);
        self.changed.notify_one();
    }

    /// Takes over what somebody else changed in the backend, each change with its revision. What is
    /// wrong with single items leaves those as they were. `is_all`: this is the difference to all
    /// that is there, and no echo of our own changes.
    pub(super) async fn follow(
        self: &Arc<Self>,
        changes: Vec<(Change, u64)>,
        revision: u64,
        is_all: bool,
    ) {
        let desk = Arc::clone(&self.desk).lock_owned().await;
        let is_new = |(change, at): &(Change, u64)| match self.document().get(change.key()) {
            Some(item) => is_all || item.modified < *at,
            None => matches!(change, Change::Put { .. }),
        };
        let changes: Vec<_> = changes.into_iter().filter(is_new).collect();
        if changes.is_empty() {
            return self.apply(Vec::new(), revision);
        }
        let Err(failure) = self.follow_all(desk, &changes, revision).await else { return };
        if let [change] = &changes[..] {
            return self.refuse(change, &failure).await;
        }
        for change in &changes {
            let desk = Arc::clone(&self.desk).lock_owned().await;
            let one = std::slice::from_ref(change);
            if let Err(failure) = self.follow_all(desk, one, revision).await {
                self.refuse(change, &failure).await;
            }
        }
    }

    async fn follow_all(
        self: &Arc<Self>,
        desk: AtDesk,
        changes: &[(Change, u64)],
        revision: u64,
    ) -> Result<(), Failure> {
        let plain = changes.iter().map(|(change, _)| change.clone()).collect();
        let draft = Document::draft(plain).map_err(Failure::Items)?;
        let (mut desk, draft, snapshot) = self.build(desk, draft).await?;
        let outcome = desk.publish(snapshot).await;
        let cause = match changes {
            [(change, _)] => change.key().to_owned(),
            all => format!("{} and {} more", all[0].0.key(), all.len() - 1),
        };
        self.note(cause, desk.loading.next_number(), &outcome);
        outcome?;
        let stamped = self.document().stamp(draft, |at| changes[at].1, now_s());
        self.apply(stamped, revision);
        Ok(())
    }

    /// The item is there to be read, and does not serve. Nor does anything else if it is a global
    /// rule that does not serve as it was before.
    async fn refuse(&self, (change, at): &(Change, u64), failure: &Failure) {
        let mut desk = Arc::clone(&self.desk).lock_owned().await;
        let why = failure.lines().join("; ");
        log::error!("{}: left out: {why}", change.key());
        let draft = Document::refused(vec![change.clone()]);
        let stamped = self.document().stamp(draft, |_| *at, now_s());
        self.apply(stamped, 0);
        {
            let mut status = self.lock();
            status.refused += 1;
            status.left_out.insert(change.key().to_owned(), why);
        }
        let is_missing = self.document().missing_global_rules().next().is_some();
        if is_missing && !self.snapshot().is_closed() {
            log::error!("{CLOSED}");
            let closed = desk.loading.closed(&self.snapshot());
            let outcome = desk.publish(closed).await;
            self.note(change.key().to_owned(), desk.loading.next_number(), &outcome);
        }
    }

    /// Removes items whose time is up, for as long as the runtime runs.
    pub(super) fn start_expiry(self: &Arc<Self>) {
        if self.backend.sees_to_expiry() {
            return;
        }
        let store = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                sleep(EXPIRY_LOOK).await;
                if store.is_frozen() || store.document().expired(now_s()).is_empty() {
                    continue;
                }
                let plan = |document: &Document| {
                    let keys = document.expired(now_s()).into_iter();
                    Ok::<_, ()>(keys.map(|key| Change::Delete { key }).collect())
                };
                if let Err(refusal) = store.edit("time to live", plan).await {
                    log::error!("items whose time is up are still there: {refusal:?}");
                }
            }
        });
    }

    fn note(&self, cause: String, next: u64, outcome: &Result<Live, Failure>) {
        let at = SystemTime::now();
        let mut status = self.lock();
        let (number, errors, late) = match outcome {
            Ok(live) => {
                log::info!("snapshot {} published ({cause})", live.number);
                (status.serving, status.since) = (live.number, at);
                status.good += 1;
                (live.number, Vec::new(), live.late.clone())
            }
            Err(failure) => {
                log::error!("not loaded ({cause}): {failure}what ran before goes on");
                status.refused += 1;
                (next, failure.lines(), Vec::new())
            }
        };
        status.last = Try { number, at, cause, errors, late };
    }

    /// Nothing here is left half done when a thread panics.
    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Builds the first snapshot of what a backend had, without the items that are wrong.
///
/// # Errors
/// What is wrong is not one of the items.
pub(super) fn first_snapshot(
    loading: &mut Loading,
    opened: &mut Opened,
) -> Result<Snapshot, Failure> {
    loop {
        let problems = match loading.build(&opened.document.resources()) {
            Err(Failure::Items(problems)) => problems,
            outcome => return outcome,
        };
        let mut found = false;
        for problem in &problems {
            let Some(key) = key_of(problem) else { continue };
            if opened.document.leave_out(&key) {
                found = true;
                opened.left_out.push((key, lines(std::slice::from_ref(problem)).concat()));
            }
        }
        if !found {
            return Err(Failure::Items(problems));
        }
    }
}

/// Does something with the desk on a thread where it may take its time.
async fn at_desk<T: Send + 'static>(
    mut desk: AtDesk,
    work: impl FnOnce(&mut Desk) -> T + Send + 'static,
) -> Result<(AtDesk, T), Failure> {
    let task = spawn_blocking(move || {
        let done = work(&mut desk);
        (desk, done)
    });
    task.await.map_err(|panic| Failure::Broken(panic.to_string()))
}

/// Seconds since 1970.
pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Desk {
    /// Publishes a snapshot and waits for what the workers say.
    async fn publish(&mut self, snapshot: Snapshot) -> Result<Live, Failure> {
        let number = snapshot.number;
        let (turn, before) = self.shared.publish(Arc::new(snapshot));
        let (refusals, late) = self.word_of_workers(turn).await;
        if refusals.is_empty() {
            self.loading.keep_up(&self.shared.snapshot());
            self.loading.commit();
            self.shared.set_drain(self.loading.config.drain);
            self.retire(before);
            if !late.is_empty() {
                log::warn!("snapshot {number}: workers {late:?} did not take it yet");
            }
            return Ok(Live { number, late });
        }
        self.loading.forget();
        // All workers serve the same thing, or the gateway would answer one way or the other.
        let (turn, refused) = self.shared.publish(before);
        self.retire(refused);
        let (_, late) = self.word_of_workers(turn).await;
        if !late.is_empty() {
            log::warn!("workers {late:?} did not go back from snapshot {number} yet");
        }
        Err(Failure::NotTaken(refusals))
    }

    /// Who refuses a publication and why, and who has not said a word in time.
    async fn word_of_workers(&mut self, turn: u64) -> (Vec<String>, Vec<usize>) {
        let until = Instant::now() + TAKE_PATIENCE;
        let mut missing: Vec<usize> = (0..self.workers.len()).collect();
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

    /// Drops a snapshot once no worker uses it: taking a large one apart is no work for them. Then
    /// nobody counts for routes that only it had.
    fn retire(&self, snapshot: Arc<Snapshot>) {
        let (shared, workers) = (Arc::clone(&self.shared), self.workers.clone());
        tokio::spawn(async move {
            while Arc::strong_count(&snapshot) > 1 {
                sleep(RETIRE_LOOK).await;
            }
            spawn_blocking(move || {
                let number = snapshot.number;
                drop(snapshot);
                let serving = shared.snapshot();
                // Of many changes in a row the last one looks.
                if serving.number <= number + 1 || number.is_multiple_of(FORGET_EVERY) {
                    forget_gone(&serving, &workers);
                }
            });
        });
    }
}

/// Forgets the counters of routes that a snapshot does not have.
fn forget_gone(snapshot: &Snapshot, workers: &[Arc<Counters>]) {
    let routes = snapshot.routes.iter().flatten().map(|route| route.labels());
    let there: HashSet<[&str; 2]> = routes.chain([snapshot.unmatched.labels()]).collect();
    for worker in workers {
        worker.routes.keep(|labels| there.contains(&[&*labels.route, &*labels.service]));
    }
}
