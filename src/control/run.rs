//! One run of the gateway: workers started, then events until a signal says stop.
//!
//! ```text
//! signals ───────► TERM, INT: drain; INT again: end; HUP ─┐
//! whoever sees that files changed ─► Reloads ─────────────┴─► Store::reload_files
//! ```

use super::access_log::AccessLog;
use super::backend::{self, Backend, Opened};
use super::metrics::{self, Observed};
use super::pages::Pages;
use super::running::Running;
use super::server::Server;
use super::store::{Store, first_snapshot};
use super::workers::{announce, join, reserve_all, settings, start_workers, wait_until_started};
use super::{Failure, Loading, flush_log, follow, runners, show_warnings, start_log, watch};
use crate::conf::Provider;
use crate::listen::Place;
use crate::snapshot::Snapshot;
use crate::stats::Counters;
use crate::worker::{Shared, Stop};
use sd_notify::NotifyState;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
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

/// Runs the gateway until a signal ends it.
#[must_use]
pub fn run(config_path: &Path) -> Exit {
    let loading = match Loading::open(config_path, this_program()) {
        Ok(loading) => loading,
        Err(failure) => return refuse(&failure),
    };
    start_log(loading.config.log_level);
    let runtime = runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return cant_run(&format!("no runtime for the control thread: {error}")),
    };
    let exit = runtime.block_on(serve(loading)).unwrap_or_else(|why| cant_run(&why));
    // A module that is being compiled is not waited for.
    runtime.shutdown_background();
    flush_log();
    exit
}

fn refuse(failure: &Failure) -> Exit {
    eprint!("{failure}");
    eprintln!("ringgate: the configuration was refused");
    Exit::BadConfig
}

fn cant_run(why: &str) -> Exit {
    eprintln!("ringgate: {why}");
    Exit::CantRun
}

/// What serves first.
fn first(loading: &mut Loading, opened: &mut Opened) -> Result<Snapshot, Failure> {
    if matches!(opened.backend, Backend::Files) {
        let (snapshot, warnings) = loading.snapshot()?;
        show_warnings(&warnings);
        return Ok(snapshot);
    }
    show_warnings(&loading.config_warnings);
    let snapshot = first_snapshot(loading, opened)?;
    for (key, why) in &opened.left_out {
        log::error!("{key}: left out: {why}");
    }
    Ok(snapshot)
}

async fn serve(mut loading: Loading) -> Result<Exit, String> {
    let mut opened = backend::open(&loading.config).await?;
    let first = match first(&mut loading, &mut opened) {
        Ok(snapshot) => snapshot,
        Err(failure) => return Ok(refuse(&failure)),
    };
    // Before any thread: signals that come early are kept for the loop below.
    let signals = Signals::new().map_err(|error| format!("signals can't be handled: {error}"))?;
    let (reports, taken) = mpsc::unbounded_channel();
    // A report that nobody reads any more is one at the end of the process.
    let report = Box::new(move |taken| drop(reports.send(taken)));
    loading.keep_up(&first);
    let shared = Shared::new(Arc::new(first), report, loading.resolver());
    let traffic = if loading.config.is_control_plane { &[][..] } else { &loading.config.listen };
    let reservations = reserve_all(traffic)?;
    let metrics = metrics_server(&loading)?;
    let pages = Pages::bind(&loading.config)?;
    let listen: Vec<Place> = reservations.iter().map(|held| held.place.clone()).collect();
    let access =
        AccessLog::start().map_err(|error| format!("no thread for the access log: {error}"))?;
    access.open(loading.config.access_log.as_ref().map(|log| Path::new(&log.file)))?;
    let counters: Vec<Arc<Counters>> =
        settings(&loading, &listen, &access.sink)?.iter().map(|_| Arc::default()).collect();
    // Dropped when the workers have ended: requests in flight still need theirs.
    let places = loading.runners.all().to_vec();
    let _runners = runners::start(&loading.config, &places)?;
    let (workers, started) = start_workers(&loading, &shared, &listen, &counters, &access.sink)?;
    let outcome = wait_until_started(workers.len(), &started);
    drop(reservations);
    match outcome {
        Ok(kind) => announce(&listen, workers.len(), kind),
        Err(why) => {
            shared.stop(Stop::Now);
            join(workers);
            return Err(why);
        }
    }
    let (config, host) = (loading.config.clone(), Arc::clone(&loading.host));
    let (files, seen) = (loading.files(), loading.fingerprint());
    loading.running = Some(Running::new(&config, &listen, access.clone()));
    let store = Store::new(loading, opened, Arc::clone(&shared), taken, workers.len());
    if let Some(server) = metrics {
        let prefix = config.metrics.prefix.clone();
        let (store, access) = (Arc::clone(&store), access.clone());
        let shared = Arc::clone(&shared);
        let workers = counters;
        let observed = Observed { prefix, workers, shared, host, store, access };
        let uri = &config.metrics.uri;
        let address = server.address;
        server
            .start(metrics::pages(observed, uri))
            .map_err(|error| format!("metrics on {address}: {error}"))?;
        println!("ringgate: metrics on http://{address}{uri}");
    }
    pages.start(&config, &store)?;
    store.start_expiry();
    let reloads = Reloads::start(&store);
    if let Provider::Etcd(settings) = &config.provider {
        follow::start(&store, settings.as_ref().clone(), backend::store_dir(&config));
    }
    if config.watch && matches!(store.backend, Backend::Files) {
        watch::start(files, seen, reloads.clone());
    }
    let ending = tokio::task::spawn_blocking(move || join(workers));
    let exit = wait_for_wishes(&shared, &reloads, &access, signals, ending).await;
    access.flush();
    Ok(exit)
}

/// The listener of the metrics.
fn metrics_server(loading: &Loading) -> Result<Option<Server>, String> {
    let metrics = &loading.config.metrics;
    let Some(address) = metrics.listen else { return Ok(None) };
    let hint = "; change `plugin_attr.prometheus.export_addr` or set `enable_export_server: false`";
    Server::bind_or_do_without(address, metrics.is_named, "metrics", hint)
}

/// The signals that mean something.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user_1: Signal,
}

/// What a signal wants.
enum Wish {
    /// Read the files again.
    Reload,
    /// Open the access log again.
    Reopen,
    /// Finish what is running and end.
    Drain,
    /// The same; a second time: end at once.
    Interrupt,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.interrupt.recv() => Wish::Interrupt,
            _ = self.terminate.recv() => Wish::Drain,
            _ = self.hang_up.recv() => Wish::Reload,
            _ = self.user_1.recv() => Wish::Reopen,
        }
    }
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

/// Handles signals until all workers have ended.
async fn wait_for_wishes(
    shared: &Shared,
    reloads: &Reloads,
    access: &AccessLog,
    mut signals: Signals,
    mut ending: JoinHandle<bool>,
) -> Exit {
    tell_manager(NotifyState::Ready);
    let mut interrupts = 0;
    loop {
        let wish = tokio::select! {
            well = &mut ending => {
                return if matches!(well, Ok(true)) { Exit::Done } else { Exit::CantRun };
            }
            wish = signals.next() => wish,
        };
        match wish {
            Wish::Reload => reloads.ask("SIGHUP"),
            Wish::Reopen => access.reopen(),
            Wish::Interrupt if interrupts > 0 => return Exit::Interrupted,
            Wish::Interrupt | Wish::Drain => {
                interrupts += u32::from(matches!(wish, Wish::Interrupt));
                tell_manager(NotifyState::Stopping);
                shared.stop(Stop::Drain);
            }
        }
    }
}

/// Tells the service manager that started this process, if it wants to know (systemd's
/// `Type=notify`).
fn tell_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        log::warn!("the service manager can't be told: {error}");
    }
}
