//! What keeps a pool in order between requests, and who may enter it.
//!
//! ```text
//! request ─► gate ─┬─ open ──► an instance made ahead (or one made at once: `dry: make`)
//!                  ├─ wait ──► asked again in a moment, until `limits.wait_ms`
//!                  └─ shut ──► `on_error`: no instance in time, or the plugin keeps failing
//! between requests: used instances are dropped, new ones made
//! ```

use super::host::Entry;
use super::instance::Instance;
use super::pool::Pool;
use super::settings::{Dry, Isolation};
use crate::plugin::{Chore, Locals};
use crate::stats::PluginCounters;
use crate::vm::FaultKind;
use std::sync::Arc;

/// Instances made between two requests: so many that a burst is made up for soon, so few that the
/// next request does not wait long.
const REFILL_MAX: usize = 4;

/// Used instances kept until there is time to drop them.
const USED_MAX: usize = 64;

/// Requests of one worker that may wait for instances of one plugin.
const WAITING_MAX: u64 = 1_024;

/// So many failures with no good request in between, and the plugin is left alone for a while. One
/// in a hundred requests that fails never gets there.
const FAILURES_MAX: u32 = 10;

/// The first while; each further failure doubles it.
const BACK_OFF_MS_FIRST: u64 = 100;
const BACK_OFF_MS_MAX: u64 = 10_000;

/// The part of a pool that is about its upkeep.
#[derive(Default)]
pub(super) struct Upkeep {
    pub(super) counters: Arc<PluginCounters>,
    /// Instances of requests that are over.
    used: Vec<Instance>,
    failures: u32,
    blocked_until_ms: u64,
}

/// Whether a new stream may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// It may.
    Open,
    /// Not now: there is no instance for it.
    Wait,
    /// No.
    Shut,
}

impl Pool {
    /// Whether a new stream may come in. `is_new`: it asks for the first time.
    pub(super) fn gate(&mut self, entry: &Entry, now_ms: u64, is_new: bool) -> Gate {
        if now_ms < self.upkeep.blocked_until_ms {
            self.upkeep.counters.backed_off.up();
            return Gate::Shut;
        }
        let settings = &entry.facts.settings;
        if settings.isolation == Isolation::Shared || self.has_spares() {
            return Gate::Open;
        }
        if let Some(instance) = self.recycled() {
            self.add_spare(instance);
            return Gate::Open;
        }
        let counters = &self.upkeep.counters;
        if is_new {
            counters.dry.up();
        }
        let is_full = is_new && counters.waiting.get() >= WAITING_MAX;
        match settings.dry {
            Dry::Make if self.at_work() < settings.instances_max => Gate::Open,
            Dry::Make | Dry::Wait if !is_full => Gate::Wait,
            Dry::Make | Dry::Wait | Dry::Refuse => {
                counters.dry_refused.up();
                Gate::Shut
            }
        }
    }

    /// A call failed.
    pub(super) fn count_failure(&mut self, entry: &Entry, now_ms: u64, kind: FaultKind) {
        let (upkeep, name) = (&mut self.upkeep, &entry.facts.name);
        let counters = &upkeep.counters;
        match kind {
            FaultKind::Trap => counters.traps.up(),
            FaultKind::Deadline => counters.timeouts.up(),
            FaultKind::Memory => counters.memory.up(),
            FaultKind::Exit(_) => counters.exits.up(),
            FaultKind::Host => counters.others.up(),
        }
        upkeep.failures = upkeep.failures.saturating_add(1);
        let Some(times) = upkeep.failures.checked_sub(FAILURES_MAX) else { return };
        let ms = BACK_OFF_MS_FIRST.saturating_mul(1 << times.min(16)).min(BACK_OFF_MS_MAX);
        upkeep.blocked_until_ms = now_ms + ms;
        let failures = upkeep.failures;
        log::error!(target: "wasm", "[{name}] failed {failures} times in a row: left alone {ms} ms");
    }

    /// A stream went well to its end.
    #[inline]
    pub(super) fn count_success(&mut self) {
        self.upkeep.failures = 0;
    }

    /// The instance of a request that is over: it is dropped when there is time.
    pub(super) fn retire(&mut self, instance: Instance) {
        self.upkeep.counters.memory_bytes_high.raise(instance.memory_bytes_high());
        if self.upkeep.used.len() < USED_MAX {
            self.upkeep.used.push(instance);
        }
    }

    /// An instance whose request is over, as it was before it: the last one, whose memory is near.
    pub(super) fn recycled(&mut self) -> Option<Instance> {
        while let Some(mut instance) = self.upkeep.used.pop_if(|used| used.is_kept()) {
            if self.is_current(&instance) && instance.rewind() {
                return Some(instance);
            }
        }
        None
    }

    /// Between requests: sets used instances back or drops them, makes new ones. True if that was
    /// not enough.
    fn refill(&mut self, now_ms: u64) -> bool {
        let Some(entry) = self.entry() else {
            self.upkeep.used.clear();
            return false;
        };
        while self.wants_spare(&entry, now_ms)
            && let Some(instance) = self.recycled()
        {
            self.add_spare(instance);
        }
        self.upkeep.used.clear();
        let mut left = REFILL_MAX;
        while left > 0 && self.wants_spare(&entry, now_ms) {
            left -= 1;
            self.make_spare(&entry, now_ms);
        }
        self.show(&entry);
        self.wants_spare(&entry, now_ms)
    }

    /// Puts the levels where they can be read.
    pub(super) fn show(&mut self, entry: &Entry) {
        let (spares, at_work) = (self.stock(entry), self.at_work());
        let high = self.memory_bytes_high();
        let counters = &self.upkeep.counters;
        counters.spares.set(spares as u64);
        counters.at_work.set(at_work as u64);
        counters.memory_bytes_high.raise(high);
    }
}

/// What a worker does for all pools: between requests when one asked for it, and at its ticks.
pub(super) fn chore(locals: &mut Locals, chore: Chore) {
    match chore {
        Chore::Tick => super::pool::sweep(locals),
        Chore::BetweenRequests => {
            let now_ms = locals.now_ms;
            let mut more = false;
            super::pool::for_each(locals, |pool| more |= pool.refill(now_ms));
            locals.wants_chores |= more;
        }
    }
}
