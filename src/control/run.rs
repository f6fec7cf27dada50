//! One run of the gateway: workers started, then events until a signal says stop.
//!
//! ```text
//! settings ─► addresses taken ─► store opened ─► first snapshot ─► workers ─► they accept
//!
//! signals ───────► TERM, INT: drain; INT again: end; USR2: an upgrade; HUP ─┐
//! whoever sees that files changed ─► Reloads ─► Store::reload_files ◄───────┘
//! ```

use super::access_log::AccessLog;
use super::backend::{self, Backend, Opened};
use super::metrics::Observed;
use super::pages::Pages;
use super::privileges;
use super::running::Running;
use super::server::Servers;
use super::signals::{Signals, Wish};
use super::store::{CLOSED, Store, first_snapshot};
use super::upgrade::{self, Inherited, Upgrade};
use super::workers::{self, announce, join, settings, start_workers, traffic, wait_until_started};
use super::{Failure, Loading, flush_log, follow, runners, show_warnings, start_log, watch};
use crate::conf::{Config, Provider};
use crate::net::DriverKind;
use crate::snapshot::Snapshot;
use crate::stats::Counters;
use crate::worker::{Shared, Started, Stop};
use crossbeam::channel::Receiver;
use sd_notify::NotifyState;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use tokio::runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How a run ended; the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Stopped by a signal, everything finished.
    Done = 0,
    /// The configuration is wrong.
    BadConfig = 1,
    /// It can't start: an address is taken, no ring, no such core; or a worker died.
    CantRun = 3,
    /// Ended at once by a second SIGINT.
    Interrupted = 130,
}

/// The running binary, also when its file was replaced by a newer one since.
#[must_use]
pub fn this_program() -> Option<&'static Path> {
    Some(Path::new("/proc/self/exe")).filter(|path| path.exists())
}

/// Threads for what takes its time: one waits for the workers to end, the other builds snapshots
/// and drops old ones. One more whenever both happen at once would cost its own heap, 4 MiB.
const BLOCKING_THREADS: usize = 2;

/// Why there is no run.
enum CantStart {
    Refused(Failure),
    Broken(String),
}

impl From<String> for CantStart {
    fn from(why: String) -> Self {
        Self::Broken(why)
    }
}

impl fmt::Display for CantStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(failure) => write!(f, "{failure}ringgate: the configuration was refused"),
            Self::Broken(why) => write!(f, "ringgate: {why}"),
        }
    }
}

/// Runs the gateway until a signal ends it.
#[must_use]
pub fn run(config_path: &Path) -> Exit {
    // Before anything else opens descriptors.
    let taken = Inherited::take();
    // While what was started is still there.
    let program = upgrade::program();
    let exit = match taken {
        Ok(mut inherited) => start(config_path, program, &mut inherited)
            .inspect_err(|why| inherited.failed(&why.to_string())),
        Err(why) => Err(why.into()),
    };
    let exit = exit.unwrap_or_else(|why| {
        eprintln!("{why}");
        match why {
            CantStart::Refused(_) => Exit::BadConfig,
            CantStart::Broken(_) => Exit::CantRun,
        }
    });
    flush_log();
    exit
}

fn start(
    config_path: &Path,
    program: Option<PathBuf>,
    inherited: &mut Inherited,
) -> Result<Exit, CantStart> {
    let loading = Loading::open(config_path, this_program()).map_err(CantStart::Refused)?;
    start_log(loading.config.log_level);
    if !loading.has_file() {
        show_warnings(&loading.config_warnings);
    }
    let runtime = runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime for the control thread: {error}"))?;
    let exit = runtime.block_on(serve(loading, program, inherited));
    // A module that is being compiled is not waited for.
    runtime.shutdown_background();
    exit
}

/// What serves first.
fn first(loading: &mut Loading, opened: &mut Opened) -> Result<Snapshot, Failure> {
    if matches!(opened.backend, Backend::Files) {
        let loaded = loading.snapshot().inspect_err(|failure| {
            // What is wrong with a file is shown with the settings' warnings; there is none.
            if matches!(failure, Failure::File(_)) {
                show_warnings(&loading.config_warnings);
            }
        });
        let (snapshot, warnings) = loaded?;
        show_warnings(&warnings);
        return Ok(snapshot);
    }
    let snapshot = first_snapshot(loading, opened)?;
    for (key, why) in &opened.left_out {
        log::error!("{key}: left out: {why}");
    }
    if snapshot.is_closed() {
        log::error!("{CLOSED}");
    }
    Ok(snapshot)
}

async fn serve(
    mut loading: Loading,
    program: Option<PathBuf>,
    inherited: &mut Inherited,
) -> Result<Exit, CantStart> {
    // Before any thread: signals that come early are kept for the loop below.
    let signals = Signals::new().map_err(|error| format!("signals can't be handled: {error}"))?;
    let config = loading.config.clone();
    let count = workers::count(&config)?;
    let listen = workers::take_all(traffic(&config), count, inherited)?;
    let mut pages = Pages::bind(&config, inherited)?;
    // What is made from here on is that user's, and nothing was read from the network yet.
    privileges::drop_to(config.user.as_deref(), config.group.as_deref())?;
    let mut opened = backend::open(&config, inherited).await?;
    let first = first(&mut loading, &mut opened).map_err(CantStart::Refused)?;
    if inherited.is_upgrade() && first.is_closed() {
        // The process before may serve that rule as it was; if not, nothing is lost by that.
        return Err(CLOSED.to_owned().into());
    }
    let (reports, taken) = mpsc::unbounded_channel();
    // A report that nobody reads any more is one at the end of the process.
    let report = Box::new(move |taken| drop(reports.send(taken)));
    loading.keep_up(&first);
    let shared = Shared::new(Arc::new(first), report, loading.resolver());
    shared.set_drain(config.drain);
    let access =
        AccessLog::start().map_err(|error| format!("no thread for the access log: {error}"))?;
    access.open(config.access_log.as_ref().map(|log| Path::new(&log.file)))?;
    let counters: Vec<Arc<Counters>> = (0..count).map(|_| Arc::default()).collect();
    // Dropped when the workers have ended: requests in flight still need theirs.
    let mut runners = runners::Runners::new(&config, loading.runners.all());
    runners.start(|place| !inherited.is_upgrade() || !place.is_shared)?;
    let all = settings(&loading, &listen, &access.sink)?;
    let (workers, started) = start_workers(all, &shared, &counters)?;
    let workers = Workers { workers, shared: Arc::clone(&shared) };
    let kind = workers.wait_until_started(&started)?;
    pages.prepare(&config)?;
    let host = Arc::clone(&loading.host);
    let (files, seen) = (loading.files(), loading.fingerprint());
    loading.running = Some(Running::new(&config, &listen, access.clone(), count));
    let store = Store::new(loading, opened, Arc::clone(&shared), taken, counters.clone());
    store.upgrades.good.store(inherited.upgrades(), Ordering::Relaxed);
    inherited.wait_for_go()?;
    shared.set_accepting(true);
    announce(&listen, count, kind);
    let observed = Observed {
        prefix: config.metrics.prefix.clone(),
        workers: counters,
        shared: Arc::clone(&shared),
        host,
        store: Arc::clone(&store),
        access: access.clone(),
    };
    let servers = pages.start(&config, &store, observed)?;
    let is_upgrade = inherited.is_upgrade();
    inherited.serving();
    // The old gateway has let go of sockets that both have by name.
    runners.start(|place| is_upgrade && place.is_shared)?;
    let reloads = keep_current(&store, &config, files, seen);
    let running = Run { shared, store, reloads, access, servers, runners };
    Ok(running.until_the_end(signals, program, is_upgrade, workers.into_end()).await)
}

/// Worker threads, which are stopped if the start goes no further.
struct Workers {
    workers: Vec<thread::JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Workers {
    fn wait_until_started(&self, started: &Receiver<Started>) -> Result<DriverKind, String> {
        wait_until_started(self.workers.len(), started)
    }

    /// Whether all of them ended well, when they have.
    fn into_end(mut self) -> JoinHandle<bool> {
        let workers = std::mem::take(&mut self.workers);
        tokio::task::spawn_blocking(move || join(workers))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if !self.workers.is_empty() {
            self.shared.stop(Stop::Now);
            join(std::mem::take(&mut self.workers));
        }
    }
}

/// Has the store follow what it is kept by.
fn keep_current(store: &Arc<Store>, config: &Config, files: [PathBuf; 2], seen: u64) -> Reloads {
    store.start_expiry();
    let reloads = Reloads::start(store);
    if let Provider::Etcd(settings) = &config.provider {
        follow::start(store, settings.as_ref().clone(), backend::store_dir(config));
    }
    if config.watch && matches!(store.backend, Backend::Files) {
        watch::start(files, seen, reloads.clone());
    }
    reloads
}

/// Asks for the files to be read again. Wishes that come while the files are being read are one
/// wish, carried out after that.
#[derive(Clone, Debug)]
pub(super) struct Reloads(mpsc::Sender<&'static str>);

impl Reloads {
    fn start(store: &Arc<Store>) -> Self {
        let (sender, mut wishes) = mpsc::channel(1);
        let store = Arc::clone(store);
        tokio::spawn(async move {
            while let Some(cause) = wishes.recv().await {
                store.thawed().await;
                // What became of it is in the store's status and in the log.
                let _ = store.reload_files(cause).await;
            }
        });
        Self(sender)
    }

    /// The files changed, or somebody wants them to be read again: `cause` says who.
    pub(super) fn ask(&self, cause: &'static str) {
        // Full: a reading that has not begun yet will see what we saw.
        let _ = self.0.try_send(cause);
    }
}

/// A gateway that serves.
struct Run {
    shared: Arc<Shared>,
    store: Arc<Store>,
    reloads: Reloads,
    access: AccessLog,
    servers: Servers,
    runners: runners::Runners,
}

impl Run {
    /// Handles signals until all workers have ended. `is_upgrade`: the old gateway says that this
    /// one is there.
    async fn until_the_end(
        mut self,
        mut signals: Signals,
        program: Option<PathBuf>,
        is_upgrade: bool,
        mut ending: JoinHandle<bool>,
    ) -> Exit {
        if !is_upgrade {
            tell_manager(NotifyState::Ready);
        }
        let (upgrade, mut upgraded) = self.upgrade(program);
        let (mut interrupts, mut is_ours) = (0, true);
        let well = loop {
            let wish = tokio::select! {
                well = &mut ending => break matches!(well, Ok(true)),
                Some(pid) = upgraded.recv() => {
                    self.leave_to(pid);
                    is_ours = false;
                    continue;
                }
                wish = signals.next() => wish,
            };
            match wish {
                Wish::Reload if is_ours => self.reloads.ask("SIGHUP"),
                Wish::Upgrade if is_ours => upgrade.begin(),
                Wish::Reload | Wish::Upgrade => log::warn!("another process serves by now"),
                Wish::Reopen => self.access.reopen(),
                Wish::Interrupt if interrupts > 0 => return Exit::Interrupted,
                Wish::Interrupt | Wish::Drain => {
                    interrupts += u32::from(matches!(wish, Wish::Interrupt));
                    if is_ours {
                        tell_manager(NotifyState::Stopping);
                    }
                    self.shared.stop(Stop::Drain);
                }
            }
        };
        self.access.flush();
        if !is_ours {
            self.servers.ended().await;
        }
        if well { Exit::Done } else { Exit::CantRun }
    }

    fn upgrade(
        &mut self,
        program: Option<PathBuf>,
    ) -> (Arc<Upgrade>, mpsc::UnboundedReceiver<u32>) {
        let (done, upgraded) = mpsc::unbounded_channel();
        let upgrade = Upgrade {
            program,
            store: Arc::clone(&self.store),
            shared: Arc::clone(&self.shared),
            operators: self.servers.handed(),
            done,
            under_way: false.into(),
        };
        (Arc::new(upgrade), upgraded)
    }

    /// Another process serves: finishes what is running here.
    fn leave_to(&self, pid: u32) {
        log::warn!("upgrade: process {pid} serves; finishing what is running here");
        tell_manager(NotifyState::MainPid(pid));
        self.runners.leave_shared_sockets();
        self.servers.close();
        self.shared.stop(Stop::Drain);
    }
}

/// Tells the service manager that started this process, if it wants to know (systemd's
/// `Type=notify`).
fn tell_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        log::warn!("the service manager can't be told: {error}");
    }
}
