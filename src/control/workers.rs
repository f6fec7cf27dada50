//! Starting the workers, each with its settings, and joining them at the end.

use super::Loading;
use super::upgrade::{Inherited, Role};
use crate::conf::{Config, Driver, Workers};
use crate::limits;
use crate::listen::{Address, Options, Place};
use crate::net::{DriverChoice, DriverKind, adopt, reserve};
use crate::stats::Counters;
use crate::worker::{AccessSink, Settings, Shared, Started, start};
use crossbeam::channel::{Receiver, bounded};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Submission entries of a worker's ring, if the configuration names none.
const RING_ENTRIES: u32 = 2048;

/// Where traffic comes in.
pub(super) fn traffic(config: &Config) -> &[Options] {
    if config.is_control_plane { &[] } else { &config.listen }
}

/// Takes addresses for so many workers.
///
/// # Errors
/// One is in use, or not ours; says which and what to do.
pub(super) fn reserve_all(listen: &[Options], workers: usize) -> Result<Vec<Place>, String> {
    listen.iter().map(|options| taken(options, reserve(options, workers))).collect()
}

/// The same, with the sockets of the gateway that this one takes over from.
///
/// # Errors
/// As above.
pub(super) fn take_all(
    listen: &[Options],
    workers: usize,
    inherited: &mut Inherited,
) -> Result<Vec<Place>, String> {
    let take = |options: &Options| {
        let place = match inherited.listener(Role::Traffic, &options.address.to_string()) {
            Some((bound, sockets)) => {
                let bound = match &options.address {
                    Address::Tcp(address) => Address::Tcp(bound.parse().unwrap_or(*address)),
                    unix @ Address::Unix(_) => unix.clone(),
                };
                adopt(options, bound, sockets, workers)
            }
            None => reserve(options, workers),
        };
        taken(options, place)
    };
    listen.iter().map(take).collect()
}

fn taken(options: &Options, place: io::Result<Place>) -> Result<Place, String> {
    let address = &options.address;
    place.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{address} is in use; stop who listens there or change `apisix.node_listen`")
        }
        _ => format!("can't listen on {address}: {error}"),
    })
}

pub(super) fn start_workers(
    all: Vec<Settings>,
    shared: &Arc<Shared>,
    counters: &[Arc<Counters>],
) -> Result<(Vec<JoinHandle<()>>, Receiver<Started>), String> {
    let (sender, receiver) = bounded(all.len());
    let threads = all.into_iter().zip(counters).map(|(settings, counters)| {
        start(settings, Arc::clone(shared), Arc::clone(counters), sender.clone())
            .map_err(|error| format!("no thread for a worker: {error}"))
    });
    Ok((threads.collect::<Result<_, _>>()?, receiver))
}

pub(super) fn settings(
    loading: &Loading,
    listen: &[Place],
    access: &AccessSink,
) -> Result<Vec<Settings>, String> {
    let config = &loading.config;
    let usable = usable_cores()?;
    let workers = count_of(&config.workers, usable.len());
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
        workers,
        listen: listen.to_vec(),
        access: Some(access.clone()),
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

/// How many workers a configuration asks for.
pub(super) fn count(config: &Config) -> Result<usize, String> {
    Ok(count_of(&config.workers, usable_cores()?.len()))
}

fn count_of(workers: &Workers, cores: usize) -> usize {
    match workers {
        Workers::Auto => cores,
        Workers::Count(count) => *count,
        Workers::List(list) => list.len(),
    }
}

/// The cores this process may run on.
fn usable_cores() -> Result<Vec<usize>, String> {
    let set = rustix::thread::sched_getaffinity(None)
        .map_err(|error| format!("the usable cores can't be read: {error}"))?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

pub(super) fn wait_until_started(
    count: usize,
    started: &Receiver<Started>,
) -> Result<DriverKind, String> {
    let mut kind = DriverKind::Uring;
    for _ in 0..count {
        let report = started.recv().map_err(|_| "a worker ended while starting".to_owned())?;
        match report.outcome {
            Ok(DriverKind::Uring) => {}
            Ok(driver) => kind = driver,
            Err(why) => return Err(format!("worker {}: {why}", report.index)),
        }
    }
    Ok(kind)
}

pub(super) fn announce(listen: &[Place], workers: usize, kind: DriverKind) {
    let driver = match kind {
        DriverKind::Uring => "io_uring",
        DriverKind::Epoll => "epoll",
    };
    let plural = if workers == 1 { "" } else { "s" };
    for place in listen {
        println!("ringgate: listening on {} ({workers} worker{plural}, {driver})", shown(place));
    }
}

/// A listener's address as a client may use it.
pub(super) fn shown(place: &Place) -> String {
    match &place.options.address {
        Address::Tcp(address) => format!("http://{address}"),
        unix @ Address::Unix(_) => unix.to_string(),
    }
}

/// Joins all workers; tells whether none of them panicked. The first that does stops the others: a
/// gateway with a dead worker would serve some clients and not others.
pub(super) fn join(workers: Vec<JoinHandle<()>>) -> bool {
    let ended = workers.into_iter().map(JoinHandle::join);
    ended.fold(true, |well, outcome| {
        if outcome.is_err() {
            log::error!("a worker died");
        }
        well & outcome.is_ok()
    })
}
