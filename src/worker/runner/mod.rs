//! Talks with external runners: connections, queues, deadlines.
//!
//! ```text
//! talk ─► has a connection? ─► idle one ─► new one ─► queue ─► refused: Busy
//!            └──────┬─────────────┘  │        ▲ a connection is given back, or made
//!                   ▼                ▼ refused
//!              link: send, read   down: knock until it answers; talks wait `start_ms`, then fail
//! ```

mod link;

use super::Worker;
use crate::limits;
use crate::net;
use crate::plugin::{RunnerLink, RunnerPlace, RunnerTalk, Services, TalkFailure};
use crate::runner::Circuit;
use link::{Broken, Lease, Link};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// How often a runner that is down is knocked at, while talks wait for it and after.
const KNOCK_MS: u64 = 20;
const KNOCK_SLOWLY_MS: u64 = 250;

/// All runners that a worker talks with.
#[derive(Default)]
pub(super) struct Pools(RefCell<Vec<Rc<Pool>>>);

/// A worker's connections to one runner.
struct Pool {
    worker: Rc<Services>,
    place: Arc<RunnerPlace>,
    /// Used last, used next: what is not needed grows old at the bottom.
    idle: RefCell<Vec<Rc<Lease>>>,
    /// All links, whoever has the lease: for their number and their deadlines.
    links: RefCell<Vec<Rc<Link>>>,
    queue: RefCell<VecDeque<Queued>>,
    circuit: RefCell<Circuit>,
    /// Since when nobody answers there.
    down_since: Cell<Option<u64>>,
    calls: Cell<u64>,
    failures: Cell<u64>,
    /// Connections and waiting talks, as they were published last.
    shown: Cell<(u64, u64)>,
    now_ms: Cell<u64>,
}

struct Queued {
    talk: Box<RunnerTalk>,
    since_ms: u64,
}

impl Worker {
    /// A talk has something to send.
    pub(super) fn send_to_runner(&self, talk: Box<RunnerTalk>) {
        self.pool_of(&talk.place).carry(talk, self.clock.now_ms());
    }

    /// A talk is over and its connection good for another.
    pub(super) fn release_runner(&self, link: RunnerLink) {
        if let Ok(lease) = link.0.downcast::<Lease>() {
            self.pool_of(&lease.link.place).release(lease, self.clock.now_ms());
        }
    }

    /// Looks at deadlines; once per tick.
    pub(super) fn tick_runners(&self, now_ms: u64) {
        let nth = |at: usize| self.runners.0.borrow().get(at).cloned();
        let mut at = 0;
        while let Some(pool) = nth(at) {
            pool.tick(now_ms);
            at += 1;
        }
    }

    fn pool_of(&self, place: &Arc<RunnerPlace>) -> Rc<Pool> {
        let mut pools = self.runners.0.borrow_mut();
        if let Some(known) = pools.iter().find(|pool| Arc::ptr_eq(&pool.place, place)) {
            return Rc::clone(known);
        }
        let pool = Rc::new(Pool {
            worker: Rc::clone(&self.services),
            place: Arc::clone(place),
            idle: RefCell::default(),
            links: RefCell::default(),
            queue: RefCell::default(),
            circuit: RefCell::default(),
            down_since: Cell::new(None),
            calls: Cell::new(0),
            failures: Cell::new(0),
            shown: Cell::new((0, 0)),
            now_ms: Cell::new(self.clock.now_ms()),
        });
        pools.push(Rc::clone(&pool));
        pool
    }
}

impl Pool {
    /// Sends a talk's frames, now or when there is a connection for it.
    fn carry(self: &Rc<Self>, mut talk: Box<RunnerTalk>, now: u64) {
        self.now_ms.set(now);
        let lease = talk.link.as_ref().and_then(|link| link.0.downcast_ref::<Lease>());
        if let Some(link) = lease.map(|lease| Rc::clone(&lease.link)) {
            if link.is_closed() {
                // The runner hung up behind its last frame: nobody would carry the talk.
                talk.link = None;
                return self.on_broken(talk, Broken::Closed, true);
            }
            return link.start(talk, now, true);
        }
        self.calls.set(self.calls.get() + 1);
        if !self.circuit.borrow_mut().allows(now) {
            return self.fail(talk, TalkFailure::Down);
        }
        self.find_link(talk, now);
    }

    /// Tells whether the talk found a connection; else it waits, or has failed.
    fn find_link(self: &Rc<Self>, talk: Box<RunnerTalk>, now: u64) -> bool {
        if let Some(lease) = self.take_idle() {
            start_on(lease, talk, now);
            return true;
        }
        if let Some(since) = self.down_since.get() {
            let waits = now.saturating_sub(since) < self.place.start_ms;
            if waits {
                self.queue(talk, now);
            } else {
                self.fail(talk, TalkFailure::Down);
            }
            return false;
        }
        if self.is_full() {
            self.queue(talk, now);
            return false;
        }
        match self.connect() {
            Ok(lease) => {
                start_on(lease, talk, now);
                return true;
            }
            // Its backlog is full: it is alive, and a connection of ours will be free soon.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.queue(talk, now),
            Err(error) => self.go_down(talk, &error, now),
        }
        false
    }

    fn is_full(&self) -> bool {
        self.links.borrow().len() >= self.place.connections_max
    }

    /// An idle connection that nobody has closed, as far as is known: one that the runner closes at
    /// this moment is found out by the call, which then begins again.
    fn take_idle(&self) -> Option<Rc<Lease>> {
        loop {
            let lease = self.idle.borrow_mut().pop()?;
            if lease.link.is_clean() {
                return Some(lease);
            }
        }
    }

    fn connect(self: &Rc<Self>) -> io::Result<Rc<Lease>> {
        let socket = net::connect_unix(&self.place.socket)?;
        let link = Link::new(socket, Arc::clone(&self.place));
        self.links.borrow_mut().push(Rc::clone(&link));
        net::spawn(link::run(Rc::clone(self), Rc::clone(&link)));
        Ok(Rc::new(Lease { link }))
    }

    fn queue(self: &Rc<Self>, talk: Box<RunnerTalk>, since_ms: u64) {
        if self.queue.borrow().len() >= self.place.queue_max {
            return self.fail(talk, TalkFailure::Busy);
        }
        self.queue.borrow_mut().push_back(Queued { talk, since_ms });
        if self.links.borrow().is_empty() && self.down_since.get().is_none() {
            // Nobody will give a connection back: knock instead.
            self.down_since.set(Some(since_ms));
            net::spawn(knock(Rc::clone(self)));
        }
    }

    fn release(self: &Rc<Self>, lease: Rc<Lease>, now: u64) {
        self.now_ms.set(now);
        if !lease.link.is_clean() {
            return;
        }
        lease.link.rest(now);
        match self.next_queued(now) {
            Some(talk) => start_on(lease, talk, now),
            None => self.idle.borrow_mut().push(lease),
        }
    }

    /// Gives queued talks what connections there are, or may be made.
    fn serve_queue(self: &Rc<Self>) {
        let now = self.now_ms.get();
        while self.down_since.get().is_none() && !self.is_full() {
            let Some(talk) = self.next_queued(now) else { return };
            if !self.find_link(talk, now) {
                return;
            }
        }
    }

    /// The talk that waits longest and may still be carried.
    fn next_queued(&self, now: u64) -> Option<Box<RunnerTalk>> {
        loop {
            let Queued { mut talk, since_ms } = self.queue.borrow_mut().pop_front()?;
            if !self.worker.waiting.is_current(talk.key) {
                continue;
            }
            talk.left_ms = talk.left_ms.saturating_sub(now.saturating_sub(since_ms));
            if talk.left_ms > 0 {
                return Some(talk);
            }
            self.fail(talk, TalkFailure::Timeout);
        }
    }

    /// A connection has ended.
    fn forget(self: &Rc<Self>, link: &Rc<Link>) {
        self.links.borrow_mut().retain(|known| !Rc::ptr_eq(known, link));
        let ended = self.idle.borrow().iter().position(|lease| Rc::ptr_eq(&lease.link, link));
        // Its drop is told to the connection's task: not while the pool is borrowed.
        let ended = ended.map(|at| self.idle.borrow_mut().remove(at));
        drop(ended);
        self.serve_queue();
    }

    /// Nobody listens: talks wait for a while, and somebody knocks.
    fn go_down(self: &Rc<Self>, talk: Box<RunnerTalk>, error: &io::Error, now: u64) {
        self.place.life.end(self.place.life.epoch());
        let why = explained(error, &self.place.socket);
        log::warn!("runner {} is down: {why}", shown(&self.place));
        self.down_since.set(Some(now));
        net::spawn(knock(Rc::clone(self)));
        if self.place.start_ms == 0 || error.kind() == io::ErrorKind::PermissionDenied {
            return self.fail(talk, TalkFailure::Connect(why));
        }
        self.queue(talk, now);
    }

    fn on_up(self: &Rc<Self>, lease: Rc<Lease>) {
        let now = self.now_ms.get();
        if self.down_since.take().is_some_and(|since| now.saturating_sub(since) > KNOCK_MS) {
            log::warn!("runner {} is up", shown(&self.place));
        }
        self.release(lease, now);
        self.serve_queue();
    }

    /// A talk's connection ended before its frame came. `goes_on`: the runner had heard of it.
    fn on_broken(self: &Rc<Self>, talk: Box<RunnerTalk>, broken: Broken, goes_on: bool) {
        let now = self.now_ms.get();
        match broken {
            Broken::Closed if !goes_on && !talk.again => self.begin_again(talk, now),
            Broken::Closed | Broken::Cut => {
                self.circuit.borrow_mut().on_other_end();
                self.fail(talk, TalkFailure::Closed);
            }
            Broken::Overdue => {
                if self.circuit.borrow_mut().on_timeout(now) {
                    let runner = shown(&self.place);
                    log::warn!("runner {runner} does not answer and is left alone for a second");
                }
                self.fail(talk, TalkFailure::Timeout);
            }
        }
    }

    /// The runner restarted between two talks, or while it had this one and before it said a word.
    fn begin_again(self: &Rc<Self>, mut talk: Box<RunnerTalk>, now: u64) {
        talk.again = true;
        // The other idle connections are of the same process, most likely.
        drop(std::mem::take(&mut *self.idle.borrow_mut()));
        self.find_link(talk, now);
    }

    /// The talk goes back without a frame.
    fn fail(&self, mut talk: Box<RunnerTalk>, failure: TalkFailure) {
        self.failures.set(self.failures.get() + 1);
        talk.link = None;
        talk.failure = Some(failure);
        self.give_back(talk);
    }

    fn give_back(&self, talk: Box<RunnerTalk>) {
        self.worker.waiting.reply(talk.key, talk);
    }

    fn tick(self: &Rc<Self>, now: u64) {
        self.now_ms.set(now);
        for link in self.links.borrow().iter() {
            link.ring_if_due(now);
        }
        self.fail_overdue(now);
        let is_young = |lease: &Rc<Lease>| {
            now.saturating_sub(lease.link.idle_since.get()) < limits::RUNNER_IDLE_MS
        };
        self.idle.borrow_mut().retain(is_young);
        self.publish();
    }

    /// Talks that waited as long as they may.
    fn fail_overdue(&self, now: u64) {
        let down = self.down_since.get();
        let given_up = down.is_some_and(|since| now.saturating_sub(since) >= self.place.start_ms);
        let waiting = self.queue.borrow().len();
        for _ in 0..waiting {
            let Some(queued) = self.queue.borrow_mut().pop_front() else { return };
            if given_up {
                self.fail(queued.talk, TalkFailure::Down);
            } else if now.saturating_sub(queued.since_ms) >= queued.talk.left_ms {
                self.fail(queued.talk, TalkFailure::Timeout);
            } else {
                self.queue.borrow_mut().push_back(queued);
            }
        }
    }

    /// Tells everybody how it fares.
    fn publish(&self) {
        let (calls, failures) = (self.calls.take(), self.failures.take());
        let now = (self.links.borrow().len() as u64, self.queue.borrow().len() as u64);
        let before = self.shown.replace(now);
        if calls > 0 || failures > 0 || now != before {
            let life = &self.place.life;
            life.count(calls, failures);
            life.move_gauges(now.0.wrapping_sub(before.0), now.1.wrapping_sub(before.1));
        }
    }
}

/// The lease travels with the talk from here on.
fn start_on(lease: Rc<Lease>, mut talk: Box<RunnerTalk>, now: u64) {
    let link = Rc::clone(&lease.link);
    talk.link = Some(RunnerLink(lease));
    link.start(talk, now, false);
}

/// Tries to connect until somebody answers.
async fn knock(pool: Rc<Pool>) {
    loop {
        let waits = !pool.queue.borrow().is_empty();
        net::sleep_ms(if waits { KNOCK_MS } else { KNOCK_SLOWLY_MS }).await;
        match pool.connect() {
            Ok(lease) => return pool.on_up(lease),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => log::debug!("runner {}: {error}", shown(&pool.place)),
        }
    }
}

fn shown(place: &RunnerPlace) -> &str {
    if place.name.is_empty() { "(ext-plugin.cmd)" } else { &place.name }
}

/// Why there is no connection, in APISIX's words, and what to do about it.
fn explained(error: &io::Error, socket: &Path) -> String {
    let path = socket.display();
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; nothing is there: is the runner started, on that path?",
        io::ErrorKind::ConnectionRefused => {
            "; a file is there and nobody listens: start the runner"
        }
        io::ErrorKind::PermissionDenied => {
            "; run the runner as the gateway's user, or make socket and folder writable for it"
        }
        _ => "",
    };
    format!("failed to connect to the unix socket unix:{path}: {error}{hint}")
}
