//! The instances of one entry on one worker.
//!
//! ```text
//!            isolation: shared                     isolation: request
//! spares ──► active: all streams          spares ──► one a request, over with it
//!    ▲          │ trap: dropped              ▲          │
//!    └ maintain ┘ next spare at once         └ set back, or dropped and made anew
//! ```
//!
//! A stream remembers its place as one word: which instance, which context in it. An instance's
//! number is never used again, so a stream of a dead one finds nothing.

use super::error::Reason;
use super::host::{Conf, Entry};
use super::instance::Instance;
use super::settings::Isolation;
use super::upkeep::{self, Upkeep};
use crate::plugin::{Ask, Locals, Services, SlotId, SlotIds};
use crate::vm::Fault;
use rustc_hash::FxHashMap;
use std::rc::Rc;
use std::sync::{Arc, LazyLock, Weak};

/// With this many confs root contexts are made when first used, not for every spare.
const EAGER_CONFS_MAX: usize = 64;

/// An entry whose instances don't start is tried again after this long, then twice as long, ...
const RETRY_MS_FIRST: u64 = 100;
const RETRY_MS_MAX: u64 = 10_000;

static SLOT: LazyLock<SlotId> = LazyLock::new(|| SlotIds::process().next());

/// The pools of one worker, by entry.
#[derive(Default)]
struct Pools(Vec<Option<Box<Pool>>>);

/// One entry's instances on this worker.
pub(super) struct Pool {
    entry: Weak<Entry>,
    services: Rc<Services>,
    /// Instances made ahead.
    size: usize,
    /// The confs in use, by index.
    confs: Vec<(usize, Weak<Conf>)>,
    /// Some root contexts are of no use any more.
    retiring: bool,
    /// Serves all streams (`shared`), and the root contexts' ticks, queues and replies.
    active: Option<Numbered>,
    spares: Vec<Instance>,
    /// Isolation `request`: the instances of running requests.
    busy: FxHashMap<u32, Instance>,
    last_number: u32,
    retry_at_ms: u64,
    retry_ms: u64,
    pub(super) upkeep: Upkeep,
}

struct Numbered {
    number: u32,
    instance: Instance,
}

/// Where a stream is: the instance's number above, its context below. 0: nowhere yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u64);

impl Place {
    /// What a stream's word is before it comes to a plugin.
    pub(super) const NEW: Self = Self(0);
    /// The stream is over for this plugin.
    pub(super) const GONE: Self = Self(u64::MAX);

    /// A stream that waits for an instance until then. No instance has the number 0.
    pub(super) fn waiting(until_ms: u64) -> Self {
        Self::new(0, (until_ms as u32).max(1))
    }

    /// Whether it waits for an instance.
    pub(super) fn waits(self) -> bool {
        self.number() == 0 && self.context() != 0
    }

    /// Whether it has waited long enough. Milliseconds that wrap are still in order.
    pub(super) fn has_waited(self, now_ms: u64) -> bool {
        (now_ms as u32).wrapping_sub(self.context()).cast_signed() >= 0
    }

    /// Whether the stream is in an instance.
    pub(super) fn is_inside(self) -> bool {
        self.number() != 0 && self != Self::GONE
    }

    pub(super) fn from_word(word: u64) -> Self {
        Self(word)
    }

    pub(super) fn word(self) -> u64 {
        self.0
    }

    pub(super) fn new(number: u32, context: u32) -> Self {
        Self(u64::from(number) << 32 | u64::from(context))
    }

    pub(super) fn number(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(super) fn context(self) -> u32 {
        self.0 as u32
    }
}

/// Where every worker has its pools.
pub(super) fn slot() -> SlotId {
    *SLOT
}

/// The pool of an entry on this worker, if it has been made.
pub(super) fn find<'l>(locals: &'l mut Locals, entry: &Entry) -> Option<&'l mut Pool> {
    let pools = locals.get_mut::<Pools>(entry.slot)?;
    pools.0.get_mut(entry.index)?.as_deref_mut()
}

/// Makes it, without instances yet.
#[cold]
pub(super) fn make(locals: &mut Locals, entry: &Arc<Entry>) {
    let size = entry.facts.settings.pool_of(locals.worker);
    let counters = entry.facts.counters.of(&entry.facts.name, locals.worker);
    let services = Rc::clone(&locals.services);
    if locals.get_mut::<Pools>(entry.slot).is_none() {
        locals.insert(entry.slot, Pools::default());
        locals.add_chore(upkeep::chore);
    }
    let Some(pools) = locals.get_mut::<Pools>(entry.slot) else { return };
    if pools.0.len() <= entry.index {
        pools.0.resize_with(entry.index + 1, || None);
    }
    pools.0[entry.index] = Some(Box::new(Pool::new(entry, services, size)));
    if let Some(pool) = &mut pools.0[entry.index] {
        pool.upkeep.counters = counters;
    }
}

/// Calls something for every pool of a worker.
pub(super) fn for_each(locals: &mut Locals, call: impl FnMut(&mut Pool)) {
    let Some(pools) = locals.get_mut::<Pools>(*SLOT) else { return };
    pools.0.iter_mut().flatten().map(|pool| &mut **pool).for_each(call);
}

/// Drops the instances of entries that no snapshot has any more. A stream keeps its snapshot, so
/// the pools of streams in flight stay until these have ended.
pub(super) fn sweep(locals: &mut Locals) {
    let Some(pools) = locals.get_mut::<Pools>(*SLOT) else { return };
    for pool in &mut pools.0 {
        if let Some(mut pool) = pool.take_if(|pool| pool.entry.strong_count() == 0) {
            pool.retire_unused();
        }
    }
}

impl Pool {
    fn new(entry: &Arc<Entry>, services: Rc<Services>, size: usize) -> Self {
        Self {
            entry: Arc::downgrade(entry),
            services,
            size,
            confs: Vec::new(),
            retiring: false,
            active: None,
            spares: Vec::new(),
            busy: FxHashMap::default(),
            last_number: 0,
            retry_at_ms: 0,
            retry_ms: RETRY_MS_FIRST,
            upkeep: Upkeep::default(),
        }
    }

    /// Makes the pool's instances if they are not there, and this conf's root context in each.
    pub(super) fn prepare(&mut self, entry: &Arc<Entry>, conf: &Arc<Conf>) -> Result<(), Reason> {
        self.retire_unused();
        let is_new = !self.confs.iter().any(|(index, _)| *index == conf.index);
        if is_new {
            self.confs.push((conf.index, Arc::downgrade(conf)));
        }
        let prepared = self.prepare_instances(entry, conf);
        if prepared.is_err() && is_new {
            // It would stand in the way of the next one until its snapshot is gone everywhere.
            self.confs.retain(|(index, _)| *index != conf.index);
            self.retiring = true;
        }
        prepared
    }

    fn prepare_instances(&mut self, entry: &Arc<Entry>, conf: &Arc<Conf>) -> Result<(), Reason> {
        self.add_root(conf)?;
        self.spares.iter_mut().for_each(|spare| spare.keep(entry));
        while self.stock(entry) < self.size {
            let instance = self.make(entry)?;
            self.spares.push(instance);
        }
        self.retry_at_ms = 0;
        self.activate(entry);
        Ok(())
    }

    /// Makes a conf's root context in each instance. One that refused goes on with the confs it
    /// has; one whose guest failed is dropped.
    fn add_root(&mut self, conf: &Conf) -> Result<(), Reason> {
        if let Some(Numbered { number, instance }) = &mut self.active
            && let Err(reason) = instance.ensure_root(conf)
        {
            let number = *number;
            if !matches!(reason, Reason::Refused { .. }) {
                self.drop_instance(number);
            }
            return Err(reason);
        }
        for at in 0..self.spares.len() {
            if let Err(reason) = self.spares[at].ensure_root(conf) {
                if !matches!(reason, Reason::Refused { .. }) {
                    self.spares.remove(at);
                }
                return Err(reason);
            }
        }
        Ok(())
    }

    /// Refills the pool by one instance a time, so that no tick takes long; ends root contexts of
    /// confs that are no longer used.
    pub(super) fn maintain(&mut self, entry: &Arc<Entry>, now_ms: u64) {
        self.retire_unused();
        self.activate(entry);
        self.spares.iter_mut().for_each(|spare| spare.keep(entry));
        if self.wants_spare(entry, now_ms) {
            self.make_spare(entry, now_ms);
        }
        self.show(entry);
    }

    /// Whether an instance is to be made ahead.
    pub(super) fn wants_spare(&self, entry: &Entry, now_ms: u64) -> bool {
        let settings = &entry.facts.settings;
        let has_room = settings.isolation == Isolation::Shared
            || self.at_work() + self.spares.len() < settings.instances_max.max(self.size);
        has_room && self.stock(entry) < self.size && now_ms >= self.retry_at_ms
    }

    /// Has one instance more that waits for a request: a used one, or a new one.
    pub(super) fn make_spare(&mut self, entry: &Arc<Entry>, now_ms: u64) {
        let made = match self.recycled() {
            Some(instance) => Ok(instance),
            None => self.make_or_wait(entry, now_ms),
        };
        match made {
            Ok(instance) => self.spares.push(instance),
            Err(reason) => log::error!(target: "wasm", "[{}] no spare: {reason}", entry.facts.name),
        }
    }

    /// An instance waits for a request again.
    pub(super) fn add_spare(&mut self, instance: Instance) {
        self.spares.push(instance);
    }

    pub(super) fn has_spares(&self) -> bool {
        !self.spares.is_empty()
    }

    /// Instances that serve requests now.
    pub(super) fn at_work(&self) -> usize {
        self.busy.len() + usize::from(self.active.is_some())
    }

    /// The entry, unless no snapshot has it any more.
    pub(super) fn entry(&self) -> Option<Arc<Entry>> {
        self.entry.upgrade()
    }

    /// The most linear memory an instance at work ever had.
    pub(super) fn memory_bytes_high(&self) -> u64 {
        let active = self.active.iter().map(|active| &active.instance);
        let instances = active.chain(self.busy.values());
        instances.map(Instance::memory_bytes_high).max().unwrap_or_default()
    }

    /// Finds an instance for a new stream: its number, and the root context of the conf in it.
    pub(super) fn admit(
        &mut self,
        entry: &Arc<Entry>,
        conf: &Conf,
        now_ms: u64,
    ) -> Result<(u32, u32), Fault> {
        let shared = entry.facts.settings.isolation == Isolation::Shared;
        let number = match &self.active {
            Some(active) if shared => active.number,
            _ => self.take_spare(entry, now_ms)?,
        };
        let instance = self.instance(number).ok_or_else(|| Fault::host("no instance"))?;
        match instance.ensure_root(conf) {
            Ok(root) => Ok((number, root)),
            Err(reason) => {
                self.drop_instance(number);
                Err(failed(&reason))
            }
        }
    }

    /// Puts a spare to work, or a new instance if there is none. Its number.
    fn take_spare(&mut self, entry: &Arc<Entry>, now_ms: u64) -> Result<u32, Fault> {
        // Among requests that come at once the one just used is the fastest: its memory is in the
        // caches, that of the others is not.
        let mut instance = match self.recycled().or_else(|| self.spares.pop()) {
            Some(instance) => instance,
            None => self.make_or_wait(entry, now_ms).map_err(|reason| failed(&reason))?,
        };
        let number = self.new_number();
        let isolation = entry.facts.settings.isolation;
        instance.begin_work(number, isolation == Isolation::Shared);
        match isolation {
            Isolation::Shared => self.active = Some(Numbered { number, instance }),
            Isolation::Request => _ = self.busy.insert(number, instance),
        }
        Ok(number)
    }

    /// Puts an instance to work for root contexts that tick, listen or call out, if none does yet.
    fn activate(&mut self, entry: &Entry) {
        let shared = entry.facts.settings.isolation == Isolation::Shared;
        let wanted = |instance: &Instance| shared || instance.is_restless();
        if self.active.is_none() && self.spares.last().is_some_and(wanted) {
            let Some(mut instance) = self.spares.pop() else { return };
            let number = self.new_number();
            instance.begin_work(number, true);
            self.active = Some(Numbered { number, instance });
        }
    }

    /// The instance that works for root contexts.
    pub(super) fn active_number(&self) -> Option<u32> {
        self.active.as_ref().map(|active| active.number)
    }

    /// The instance a stream is in, if it still lives.
    pub(super) fn of(&mut self, place: Place) -> Option<&mut Instance> {
        self.instance(place.number())
    }

    /// Drops an instance after a fault and tells its streams that wait. The next spare takes over
    /// at once.
    pub(super) fn drop_instance(&mut self, number: u32) {
        let active = self.active.take_if(|active| active.number == number);
        let dropped = active.map(|active| active.instance).or_else(|| self.busy.remove(&number));
        if let Some(instance) = &dropped {
            self.upkeep.counters.memory_bytes_high.raise(instance.memory_bytes_high());
        }
        for key in dropped.iter().flat_map(Instance::stream_keys) {
            self.services.waiting.ask(key, Ask::Lost);
        }
    }

    /// A stream is over: an instance that was its alone is dropped. Tells whether there was one:
    /// then there is something to do between requests.
    pub(super) fn release(&mut self, place: Place) -> bool {
        let instance = self.busy.remove(&place.number());
        instance.map(|instance| self.retire(instance)).is_some()
    }

    pub(super) fn instance(&mut self, number: u32) -> Option<&mut Instance> {
        match &mut self.active {
            Some(active) if active.number == number => Some(&mut active.instance),
            _ if self.busy.is_empty() => None,
            _ => self.busy.get_mut(&number),
        }
    }

    /// Instances there are to serve new requests.
    pub(super) fn stock(&self, entry: &Entry) -> usize {
        match entry.facts.settings.isolation {
            Isolation::Shared => self.spares.len() + usize::from(self.active.is_some()),
            Isolation::Request => self.spares.len(),
        }
    }

    fn new_number(&mut self) -> u32 {
        // `u32::MAX` would look like `Place::GONE`; after 4 billion traps numbers start again.
        self.last_number = (self.last_number + 1) % u32::MAX;
        self.last_number = self.last_number.max(1);
        self.last_number
    }

    fn make_or_wait(&mut self, entry: &Arc<Entry>, now_ms: u64) -> Result<Instance, Reason> {
        if now_ms < self.retry_at_ms {
            return Err(Reason::Start(Fault::host("it failed to start and is tried again later")));
        }
        let made = self.make(entry);
        if made.is_ok() {
            self.retry_ms = RETRY_MS_FIRST;
        } else {
            self.retry_at_ms = now_ms + self.retry_ms;
            self.retry_ms = (self.retry_ms * 2).min(RETRY_MS_MAX);
        }
        made
    }

    /// A started instance with a root context for each conf, unless there are very many.
    fn make(&self, entry: &Arc<Entry>) -> Result<Instance, Reason> {
        let mut instance = Instance::start(entry, Some(&self.services)).map_err(Reason::Start)?;
        instance.count_in(&self.upkeep.counters);
        if self.confs.len() <= EAGER_CONFS_MAX {
            for conf in self.confs.iter().filter_map(|(_, conf)| conf.upgrade()) {
                instance.add_root(&conf)?;
            }
        }
        instance.keep(entry);
        Ok(instance)
    }

    /// Whether an instance is as a new one would be, but for what a request left in it.
    pub(super) fn is_current(&self, instance: &Instance) -> bool {
        self.confs.len() <= EAGER_CONFS_MAX
            && instance.has_roots_of(self.confs.iter().map(|(index, _)| *index))
    }

    /// Ends root contexts whose conf is gone; one that still has streams waits for them.
    fn retire_unused(&mut self) {
        let before = self.confs.len();
        self.confs.retain(|(_, conf)| conf.strong_count() > 0);
        self.retiring |= self.confs.len() != before;
        if !self.retiring {
            return;
        }
        let confs = &self.confs;
        let in_use = |index| confs.iter().any(|(known, _)| *known == index);
        let mut waiting = false;
        let mut lives = |instance: &mut Instance| match instance.retire_roots(in_use) {
            Ok(more) => {
                waiting |= more;
                true
            }
            Err(fault) => {
                log::error!(target: "wasm", "an instance failed to end a root context: {fault}");
                false
            }
        };
        let mut active = self.active.iter_mut();
        let failed = active.find_map(|it| (!lives(&mut it.instance)).then_some(it.number));
        self.spares.retain_mut(|spare| lives(spare));
        self.retiring = waiting;
        if let Some(number) = failed {
            self.drop_instance(number);
        }
    }
}

fn failed(reason: &Reason) -> Fault {
    Fault::host(reason.to_string())
}

/// Sizes of everything that could grow with requests, for tests of the steady state.
#[cfg(test)]
pub(super) fn sizes(locals: &mut Locals) -> Vec<usize> {
    let pools = locals.get_mut::<Pools>(*SLOT).map(|pools| &pools.0).into_iter().flatten();
    let pools = pools.flatten().flat_map(|pool| {
        let of_pool = [pool.spares.capacity(), pool.busy.capacity(), pool.confs.capacity()];
        let active = pool.active.iter().flat_map(|active| active.instance.sizes());
        of_pool.into_iter().chain(active)
    });
    pools.collect()
}
