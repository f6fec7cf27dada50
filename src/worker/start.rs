//! Starting a worker thread.

use super::clock::{Clock, epoch_ns};
use super::counting::RouteCells;
use super::letters::{self, Letter, Postbox};
use super::{AccessSink, Shared, Stop, Worker};
use crate::limits;
use crate::listen::Place;
use crate::net::{self, Doorbell, DriverChoice, DriverKind};
use crate::plugin::{Locals, Services};
use crate::snapshot::Pinned;
use crate::stats::Counters;
use crate::time::{Deadlines, HttpDate};
use crate::upstream::IdlePool;
use crossbeam::channel::{Receiver, Sender, unbounded};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

/// How one worker runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its index, from 0.
    pub index: usize,
    /// The core it is pinned to, if it is.
    pub core: Option<usize>,
    /// Submission entries of its ring.
    pub ring_entries: u32,
    /// Which driver it runs on.
    pub driver: DriverChoice,
    /// First size of a connection's read buffer.
    pub buffer_bytes: usize,
    /// Read buffers made before the first connection.
    pub buffers: usize,
    /// How many workers there are.
    pub workers: usize,
    /// Where it listens.
    pub listen: Vec<Place>,
    /// Where its access log goes, if there is one.
    pub access: Option<AccessSink>,
}

/// What a worker reports once, when it serves or can't.
#[derive(Debug)]
pub struct Started {
    /// Which worker.
    pub index: usize,
    /// Its driver, or why it does not run.
    pub outcome: Result<DriverKind, String>,
}

/// Starts a worker thread. It reports to `started`, then serves until `shared` says stop.
///
/// # Errors
/// No thread could be made.
pub fn start(
    settings: Settings,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    started: Sender<Started>,
) -> io::Result<JoinHandle<()>> {
    let name = format!("ringgate-w{}", settings.index);
    std::thread::Builder::new().name(name).spawn(move || {
        let index = settings.index;
        let _others = StopsOthers(Arc::clone(&shared));
        if let Err(why) = run(settings, shared, counters, &started) {
            // Nobody listening means that the gateway is ending already.
            let _ = started.send(Started { index, outcome: Err(why) });
        }
    })
}

/// A worker that panics stops the others: with one missing the gateway would look well and serve
/// less.
struct StopsOthers(Arc<Shared>);

impl Drop for StopsOthers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(Stop::Drain);
        }
    }
}

fn run(
    settings: Settings,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    started: &Sender<Started>,
) -> Result<(), String> {
    if let Some(core) = settings.core {
        net::pin_to_core(core).map_err(|e| format!("can't be pinned to core {core}: {e}"))?;
    }
    let (bell, doorbell) = net::doorbell().map_err(|e| format!("no bell: {e}"))?;
    shared.add_bell(bell.clone());
    let (sender, letters) = unbounded();
    let postbox = Postbox { letters: sender, bell };
    let worker = build(&settings, shared, counters, postbox)?;
    let kind = Cell::new(DriverKind::Uring);
    let made = |driver, reason: Option<io::Error>| {
        kind.set(driver);
        if let Some(reason) = reason {
            log::warn!("worker {}: no io_uring ({reason}); using epoll", settings.index);
        }
    };
    let serving = serve(&worker, &settings, &kind, started, (doorbell, letters));
    net::run(settings.driver, settings.ring_entries, made, serving)
        .map_err(|error| format!("the event loop can't be set up: {error}"))?
}

/// Makes the worker's own things and prepares every plugin, before anything is served.
fn build(
    settings: &Settings,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    postbox: Postbox,
) -> Result<Rc<Worker>, String> {
    let clock = Clock::new();
    let services = Services::new(Arc::new(postbox.clone()));
    let mut locals = Locals::with_services(settings.index, Rc::clone(&services));
    locals.clock = epoch_ns;
    let published = shared.published();
    let (turn, snapshot) = (published.turn, Arc::clone(&published.snapshot));
    services.set_upstreams(Arc::clone(&snapshot.upstream_names));
    for plugin in snapshot.plugins.iter() {
        plugin.prepare(&mut locals).map_err(|why| format!("plugin {}: {why}", plugin.name()))?;
    }
    let resolver = shared.resolver();
    let buffers = made_ahead(settings);
    let pooled_bytes: usize = buffers.iter().map(Vec::capacity).sum();
    counters.snapshot.set(snapshot.number);
    let pinned = Pinned::new(snapshot, None);
    let worker = Worker {
        index: settings.index,
        workers: settings.workers,
        shared,
        turn: Cell::new(turn),
        counters,
        routes: RefCell::new(RouteCells::of(&pinned.snapshot)),
        old_cells: RefCell::default(),
        clock,
        date: RefCell::new(HttpDate::new(epoch_ns() / 1_000_000_000)),
        pinned: RefCell::new(pinned),
        locals: RefCell::new(locals),
        deadlines: RefCell::new(Deadlines::new(limits::TICK_MS, 0)),
        idle: RefCell::new(IdlePool::default()),
        exchanges: RefCell::default(),
        buffers: RefCell::new(buffers),
        pooled_bytes: Cell::new(pooled_bytes),
        pooled_bytes_max: pooled_bytes.max(limits::BUFFER_POOL_BYTES_MAX),
        buffer_bytes: settings.buffer_bytes,
        next_connection: Cell::new((settings.index as u64) << 48 | 1),
        next_request: Cell::new((settings.index as u64) << 48 | 1),
        stopping: Cell::new(false),
        accepting: Cell::new(false),
        telling: Cell::new(0),
        services,
        errands: RefCell::default(),
        postbox,
        lookups: super::Lookups::new(resolver),
        runners: super::runner::Pools::default(),
        grpc: super::Grpc::default(),
        timers: super::Timers::default(),
        access: super::AccessBuffer::new(settings.access.clone()),
        listeners: RefCell::default(),
    };
    Ok(Rc::new(worker))
}

fn made_ahead(settings: &Settings) -> Vec<Vec<u8>> {
    (0..settings.buffers).map(|_| Vec::with_capacity(settings.buffer_bytes)).collect()
}

async fn serve(
    worker: &Rc<Worker>,
    settings: &Settings,
    kind: &Cell<DriverKind>,
    started: &Sender<Started>,
    (doorbell, letters): (Doorbell, Receiver<Letter>),
) -> Result<(), String> {
    net::spawn(letters::read(Rc::clone(worker), doorbell, letters));
    // What plugins asked for while they were prepared.
    worker.run_errands();
    worker.listen_on(&settings.listen)?;
    // Nobody listening means that the gateway is ending already.
    let _ = started.send(Started { index: settings.index, outcome: Ok(kind.get()) });
    worker.tick().await;
    worker.cut_off();
    worker.access.flush();
    Ok(())
}
