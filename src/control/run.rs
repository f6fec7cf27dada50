//! Starting the workers and keeping them until a signal says stop.

use super::metrics::{Loads, Observed};
use super::runners;
use super::server::{Page, Server};
use super::{Failure, Loading, flush_log, show_warnings, start_log};
use crate::conf::{Driver, Workers};
use crate::limits;
use crate::net::{DriverChoice, DriverKind, Reservation, reserve};
use crate::stats::Counters;
use crate::worker::{Settings, Shared, Started, Stop, start};
use crossbeam::channel::{Receiver, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

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

/// Submission entries of a worker's ring, if the configuration names none.
const RING_ENTRIES: u32 = 2048;

/// The running binary, also when its file was replaced by a newer one since.
#[must_use]
pub fn this_program() -> Option<&'static Path> {
    Some(Path::new("/proc/self/exe")).filter(|path| path.exists())
}

/// Runs the gateway until a signal ends it.
#[must_use]
pub fn run(config_path: &Path) -> Exit {
    let mut loading = match Loading::open(config_path, this_program()) {
        Ok(loading) => loading,
        Err(failure) => return refuse(&failure),
    };
    start_log(loading.config.log_level);
    let exit = match loading.snapshot() {
        Ok((snapshot, warnings)) => {
            show_warnings(&warnings);
            loading.keep_up(&snapshot);
            let shared = Shared::new(Arc::new(snapshot), loading.resolver());
            serve(&mut loading, &shared).unwrap_or_else(|why| {
                eprintln!("ringgate: {why}");
                Exit::CantRun
            })
        }
        Err(failure) => refuse(&failure),
    };
    flush_log();
    exit
}

fn refuse(failure: &Failure) -> Exit {
    eprint!("{failure}");
    eprintln!("ringgate: the configuration was refused");
    Exit::BadConfig
}

fn serve(loading: &mut Loading, shared: &Arc<Shared>) -> Result<Exit, String> {
    // Before any thread: signals that come early are kept for the loop below.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| format!("signals can't be handled: {error}"))?;
    let reservations = reserve_all(&loading.config.listen)?;
    let server = metrics_server(loading)?;
    let listen: Vec<SocketAddr> = reservations.iter().map(|held| held.address).collect();
    let counters: Vec<_> = settings(loading, &listen)?.iter().map(|_| Arc::default()).collect();
    // Dropped when the workers have ended: requests in flight still need theirs.
    let _runners = runners::start(&loading.config, loading.runners.all())?;
    let (workers, started) = start_workers(loading, shared, &listen, &counters)?;
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
    let loads = Arc::new(Loads::default());
    loads.good();
    if let Some(server) = server {
        serve_metrics(server, loading, shared, counters, &loads)?;
    }
    Ok(watch(loading, shared, &loads, signals, workers))
}

fn reserve_all(listen: &[SocketAddr]) -> Result<Vec<Reservation>, String> {
    let reserved = listen.iter().map(|address| {
        reserve(*address).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!(
                    "{address} is in use; stop who listens there or change `apisix.node_listen`"
                )
            }
            _ => format!("can't listen on {address}: {error}"),
        })
    });
    reserved.collect()
}

/// The listener of the metrics. An address that is the default and in use, most likely by another
/// gateway on this host, is no reason not to run; one that the file names is.
fn metrics_server(loading: &Loading) -> Result<Option<Server>, String> {
    let metrics = &loading.config.metrics;
    let Some(address) = metrics.listen else { return Ok(None) };
    let hint = "change `plugin_attr.prometheus.export_addr` or set `enable_export_server: false`";
    match Server::bind(address) {
        Ok(server) => Ok(Some(server)),
        Err(error) if metrics.is_named => Err(format!("metrics on {address}: {error}; {hint}")),
        Err(error) => {
            log::warn!("no metrics on {address}: {error}; {hint}");
            Ok(None)
        }
    }
}

fn serve_metrics(
    server: Server,
    loading: &Loading,
    shared: &Arc<Shared>,
    workers: Vec<Arc<Counters>>,
    loads: &Arc<Loads>,
) -> Result<(), String> {
    let metrics = &loading.config.metrics;
    let (prefix, host) = (metrics.prefix.clone(), loading.host.clone());
    let (loads, shared) = (Arc::clone(loads), Arc::clone(shared));
    let observed = Observed { prefix, workers, shared, host, loads };
    let (address, uri) = (server.address, metrics.uri.clone());
    let page = Page {
        paths: vec![uri.clone(), "/metrics".to_owned()],
        content_type: "text/plain; version=0.0.4; charset=utf-8",
        text: Box::new(move || observed.text()),
    };
    server.start(vec![page]).map_err(|error| format!("no thread for the metrics: {error}"))?;
    println!("ringgate: metrics on http://{address}{uri}");
    Ok(())
}

fn start_workers(
    loading: &Loading,
    shared: &Arc<Shared>,
    listen: &[SocketAddr],
    counters: &[Arc<Counters>],
) -> Result<(Vec<JoinHandle<()>>, Receiver<Started>), String> {
    let all = settings(loading, listen)?;
    let (sender, receiver) = bounded(all.len());
    let threads = all.into_iter().zip(counters).map(|(settings, counters)| {
        start(settings, Arc::clone(shared), Arc::clone(counters), sender.clone())
            .map_err(|error| format!("no thread for a worker: {error}"))
    });
    Ok((threads.collect::<Result<_, _>>()?, receiver))
}

fn settings(loading: &Loading, listen: &[SocketAddr]) -> Result<Vec<Settings>, String> {
    let config = &loading.config;
    let usable = usable_cores()?;
    let driver = match config.driver {
        Driver::Auto => DriverChoice::Auto,
        Driver::Uring => DriverChoice::Uring,
        Driver::Epoll => DriverChoice::Epoll,
    };
    let one = |index: usize, core: Option<usize>| Settings {
        index,
        core,
        ring_entries: RING_ENTRIES,
        driver,
        buffer_bytes: limits::READ_BUFFER_BYTES,
        buffers: 0,
        listen: listen.to_vec(),
        drain_ms: u64::try_from(config.drain.as_millis()).unwrap_or(u64::MAX),
    };
    Ok(match &config.workers {
        Workers::Auto => usable.iter().enumerate().map(|(at, core)| one(at, Some(*core))).collect(),
        // More workers than cores share them, unpinned.
        Workers::Count(count) if *count > usable.len() => {
            (0..*count).map(|at| one(at, None)).collect()
        }
        Workers::Count(count) => (0..*count).map(|at| one(at, Some(usable[at]))).collect(),
        Workers::List(list) => list
            .iter()
            .enumerate()
            .map(|(at, own)| Settings {
                ring_entries: own.ring_entries.unwrap_or(RING_ENTRIES),
                buffer_bytes: own.buffer_bytes.unwrap_or(limits::READ_BUFFER_BYTES),
                buffers: own.buffers.unwrap_or(0),
                ..one(at, Some(own.core))
            })
            .collect(),
    })
}

/// The cores this process may run on.
fn usable_cores() -> Result<Vec<usize>, String> {
    let set = rustix::thread::sched_getaffinity(None)
        .map_err(|error| format!("the usable cores can't be read: {error}"))?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

fn wait_until_started(count: usize, started: &Receiver<Started>) -> Result<DriverKind, String> {
    let mut kind = DriverKind::Uring;
    for _ in 0..count {
        let report = started.recv().map_err(|_| "a worker ended while starting".to_owned())?;
        match report.outcome {
            Ok((_, DriverKind::Uring)) => {}
            Ok((_, driver)) => kind = driver,
            Err(why) => return Err(format!("worker {}: {why}", report.index)),
        }
    }
    Ok(kind)
}

fn announce(listen: &[SocketAddr], workers: usize, kind: DriverKind) {
    let driver = match kind {
        DriverKind::Uring => "io_uring",
        DriverKind::Epoll => "epoll",
    };
    let plural = if workers == 1 { "" } else { "s" };
    for address in listen {
        println!("ringgate: listening on http://{address} ({workers} worker{plural}, {driver})");
    }
}

/// Handles signals until all workers have ended.
fn watch(
    loading: &mut Loading,
    shared: &Arc<Shared>,
    loads: &Loads,
    mut signals: Signals,
    workers: Vec<JoinHandle<()>>,
) -> Exit {
    let handle = signals.handle();
    let ending = std::thread::spawn(move || {
        let all_well = join(workers);
        handle.close();
        all_well
    });
    let mut interrupts = 0;
    for signal in signals.forever() {
        match signal {
            SIGHUP => reload(loading, shared, loads),
            SIGINT if interrupts > 0 => return Exit::Interrupted,
            _ => {
                interrupts += u32::from(signal == SIGINT);
                shared.stop(Stop::Drain);
            }
        }
    }
    match ending.join() {
        Ok(true) => Exit::Done,
        _ => Exit::CantRun,
    }
}

/// Joins all workers; tells whether none of them panicked. The first that does stops the others: a
/// gateway with a dead worker would serve some clients and not others.
fn join(workers: Vec<JoinHandle<()>>) -> bool {
    let ended = workers.into_iter().map(JoinHandle::join);
    ended.fold(true, |well, outcome| {
        if outcome.is_err() {
            log::error!("a worker died");
        }
        well & outcome.is_ok()
    })
}

fn reload(loading: &mut Loading, shared: &Shared, loads: &Loads) {
    match loading.snapshot() {
        Ok((snapshot, warnings)) => {
            show_warnings(&warnings);
            log::info!("snapshot {} published", snapshot.number);
            loading.keep_up(&snapshot);
            shared.publish(Arc::new(snapshot));
            loads.good();
        }
        Err(failure) => {
            eprint!("{failure}");
            loads.refused();
            log::error!("not loaded again: the files are wrong; what ran before goes on");
        }
    }
}
