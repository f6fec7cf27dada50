//! What upstreams need beside requests: their names resolved, their nodes probed. One thread with
//! a small runtime of its own does both; workers see what comes of it in the nodes they share.
//!
//! ```text
//! a snapshot ─► update ─┬─ names ─ DNS, at each name's TTL ─► Node::set_addresses ─┐
//!                       └─ probes ─ every second or so ─────► Node::report ────────┴─► Balance
//! a worker's question ──── names ─► its answer
//! ```

mod names;
mod probes;
mod tls;

use crate::conf::Config;
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;
use crate::worker::{Question, Resolve};
use names::Names;
use probes::Probes;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
pub(super) use tls::SYSTEM_CERTIFICATES;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// The thread and what runs on it; dropping it ends both.
pub(super) struct Upkeep {
    runtime: Handle,
    names: Arc<Names>,
    /// Whose certificates probes believe.
    trusted: Vec<String>,
    running: Mutex<Running>,
    thread: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// What runs for the snapshot at hand.
#[derive(Default)]
struct Running {
    upstreams: Option<Arc<[Arc<Upstream>]>>,
    names: Tasks,
    probes: Probes,
}

/// Tasks that end when they are dropped.
#[derive(Debug, Default)]
struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl std::fmt::Debug for Upkeep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upkeep")
    }
}

impl Upkeep {
    /// Starts the thread.
    ///
    /// # Errors
    /// There can be no thread, or no runtime on it, or there is no certificate where one is named.
    pub(super) fn start(config: &Config) -> Result<Self, String> {
        tls::check(&config.trusted)?;
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime =
            runtime.map_err(|error| format!("no runtime for names and probes: {error}"))?;
        let (end, ended) = oneshot::channel();
        let handle = runtime.handle().clone();
        let run = move || {
            // Ends when the other half is dropped, too.
            let _ = runtime.block_on(ended);
        };
        let thread = std::thread::Builder::new().name("ringgate-upkeep".to_owned()).spawn(run);
        let thread = thread.map_err(|error| format!("no thread for names and probes: {error}"))?;
        let names = Arc::new(Names::new(&config.dns));
        let (trusted, running) = (config.trusted.clone(), Mutex::default());
        Ok(Self { runtime: handle, names, trusted, running, thread: Some((end, thread)) })
    }

    /// Keeps the nodes of this snapshot up to date, and no longer those of the one before.
    pub(super) fn update(&self, snapshot: &Snapshot) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.upstreams.as_ref().is_some_and(|known| Arc::ptr_eq(known, &snapshot.upkeep)) {
            return;
        }
        running.upstreams = Some(Arc::clone(&snapshot.upkeep));
        let tasks = names::of(snapshot).into_iter().map(|(host, nodes)| {
            let names = Arc::clone(&self.names);
            self.runtime.spawn(async move { names.keep(&host, &nodes).await }).abort_handle()
        });
        running.names = Tasks(tasks.collect());
        running.probes.update(snapshot, &self.runtime, &self.trusted);
    }

    /// The addresses of names, as far as they can be had in time.
    pub(super) fn resolve(
        &self,
        hosts: impl Iterator<Item = String>,
    ) -> HashMap<String, Vec<IpAddr>> {
        let (sender, answers) = mpsc::channel();
        for host in hosts {
            let (names, sender) = (Arc::clone(&self.names), sender.clone());
            self.runtime.spawn(async move {
                let found = names.lookup(&host).await;
                // Nobody may be waiting any more.
                let _ = sender.send((host, found.ips.to_vec()));
            });
        }
        drop(sender);
        let until = Instant::now() + self.names.timeout() + Duration::from_secs(1);
        let next = || answers.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
        std::iter::from_fn(next).collect()
    }

    /// Answers workers' questions.
    pub(super) fn resolver(&self) -> Arc<dyn Resolve> {
        Arc::new(Desk { runtime: self.runtime.clone(), names: Arc::clone(&self.names) })
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.thread.take() {
            drop(end);
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Where workers' questions arrive.
#[derive(Debug)]
struct Desk {
    runtime: Handle,
    names: Arc<Names>,
}

impl Resolve for Desk {
    fn ask(&self, question: Question) {
        let names = Arc::clone(&self.names);
        self.runtime.spawn(async move {
            let found = names.lookup(question.host()).await;
            question.answer(found.ips.first().copied());
        });
    }
}
