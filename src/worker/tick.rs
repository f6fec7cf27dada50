//! What a worker does every tick, beside serving.

use super::clock::epoch_ns;
use super::{Ring, Stop, Taken, Worker};
use crate::limits::TICK_MS;
use crate::net::{self, Socket};
use crate::plugin::Chore;
use crate::snapshot::{Pinned, Snapshot};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// Ticks between two looks at pools and idle connections.
const MAINTAIN_EVERY: u64 = 4;

impl Worker {
    /// Runs until the worker may end: all connections are gone after a stop, or it must stop now.
    pub(super) async fn tick(self: &Rc<Self>) {
        let mut count = 0_u64;
        let mut drain_since = 0;
        loop {
            net::sleep_ms(TICK_MS).await;
            count += 1;
            let now = self.clock.update();
            self.date.borrow_mut().update(epoch_ns() / 1_000_000_000);
            self.deadlines.borrow_mut().sweep(now, |alarm| alarm.ring(Ring::Due));
            self.tick_runners(now);
            self.access.flush();
            self.adopt_snapshot();
            self.old_cells.borrow_mut().retain_mut(|cells| !cells.discard_some());
            self.pinned().bin().empty_some();
            self.see_whether_to_accept();
            if count.is_multiple_of(MAINTAIN_EVERY) {
                self.maintain(now);
            }
            match self.shared.stop_wish() {
                Stop::No => continue,
                Stop::Now => return,
                Stop::Drain if !self.stopping.get() => {
                    self.begin_drain();
                    drain_since = now;
                }
                Stop::Drain => {}
            }
            if self.deadlines.borrow().is_empty() {
                return;
            }
            if now >= drain_since.saturating_add(self.shared.drain_ms()) {
                log::warn!(
                    "{} connections cut off after the drain timeout",
                    self.counters.open.get()
                );
                return;
            }
        }
    }

    /// The worker ends with whatever still runs: a response that is cut off must not look whole.
    pub(super) fn cut_off(&self) {
        for alarm in self.deadlines.borrow_mut().values_mut().filter(|alarm| alarm.unfinished) {
            alarm.socket.iter().for_each(Socket::reset_on_close);
        }
    }

    fn begin_drain(&self) {
        self.stopping.set(true);
        self.stop_listening();
        for alarm in self.deadlines.borrow_mut().values_mut() {
            alarm.ring(Ring::Drain);
        }
    }

    /// Takes a new snapshot once all of its plugins can run here; keeps the old one if not. Each
    /// publication is tried once.
    pub(super) fn adopt_snapshot(self: &Rc<Self>) {
        if self.turn.get() == self.shared.turn() {
            return;
        }
        let begun = Instant::now();
        let published = self.shared.published();
        self.turn.set(published.turn);
        let outcome = self.adopt(&published.snapshot);
        let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counters.take_ns_max.raise(took);
        if let Err(why) = &outcome {
            log::error!("snapshot {} not taken: {why}", published.snapshot.number);
        }
        self.shared.report(Taken { worker: self.index, turn: published.turn, outcome });
    }

    fn adopt(self: &Rc<Self>, snapshot: &Arc<Snapshot>) -> Result<(), String> {
        if Arc::ptr_eq(&self.pinned.borrow().snapshot, snapshot) {
            return Ok(());
        }
        self.services.set_upstreams(Arc::clone(&snapshot.upstream_names));
        let before = self.pinned();
        let prepared = self.prepare(snapshot, &before.snapshot).and_then(|()| {
            let taken = Pinned::new(Arc::clone(snapshot), Some(&before));
            let listen = snapshot.listen.as_deref().filter(|_| !self.stopping.get());
            listen.map_or(Ok(()), |listen| self.listen_on(listen)).map(|()| taken)
        });
        match prepared {
            Ok(taken) => {
                self.count_for(&taken.snapshot, &before.snapshot);
                *self.pinned.borrow_mut() = taken;
                Ok(())
            }
            Err(why) => {
                let names = Arc::clone(&before.snapshot.upstream_names);
                self.services.set_upstreams(names);
                Err(why)
            }
        }
    }

    /// Makes the plugins ready that have something on each worker.
    fn prepare(self: &Rc<Self>, snapshot: &Snapshot, before: &Snapshot) -> Result<(), String> {
        if Arc::ptr_eq(&snapshot.plugins, &before.plugins) {
            return Ok(());
        }
        self.with_locals(|locals| {
            let mut plugins = snapshot.plugins.iter();
            plugins.try_for_each(|plugin| {
                plugin.prepare(locals).map_err(|why| format!("{}: {why}", plugin.name()))
            })
        })
    }

    fn maintain(self: &Rc<Self>, now: u64) {
        let mut idle = self.idle.borrow_mut();
        idle.sweep(now);
        self.counters.upstream_idle.set(idle.level(now).0 as u64);
        drop(idle);
        let pinned = self.pinned();
        self.with_locals(|locals| {
            pinned.snapshot.plugins.iter().for_each(|plugin| plugin.maintain(locals));
            locals.do_chores(Chore::Tick);
        });
    }
}
