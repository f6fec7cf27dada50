//! What belongs to one worker and is handed to every callback.

use super::{NoMailbox, Services};
use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// When chores are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chore {
    /// A response is on its way, the next request not read yet. Only when [`Locals::wants_chores`].
    BetweenRequests,
    /// Some ticks have passed.
    Tick,
}

/// What is called for a chore. It does little at a time.
pub type DoChore = fn(&mut Locals, Chore);

/// Names one plugin's place in every worker's [`Locals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotId(usize);

/// Hands out [`SlotId`]s, on the control side, for as long as the process lives.
#[derive(Debug, Default)]
pub struct SlotIds(AtomicUsize);

impl SlotIds {
    /// The first id will be 0.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// The ids of this process: every plugin takes its own from here, so that none meets another's.
    #[must_use]
    pub fn process() -> &'static Self {
        static IDS: SlotIds = SlotIds::new();
        &IDS
    }

    /// An id nobody else has.
    pub fn next(&self) -> SlotId {
        SlotId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// One worker's own state: plugin slots, the time of the current event, random numbers.
#[derive(Debug)]
pub struct Locals {
    /// Index of the worker, from 0.
    pub worker: usize,
    /// Milliseconds since the process started, as of the current event.
    pub now_ms: u64,
    /// The driver's clock, in nanoseconds since the epoch, for what must be finer than `now_ms`;
    /// looking at it is a system call or nearly one. It stands at 0 until the driver gives one.
    pub clock: fn() -> u64,
    /// Seeded once per worker from the system.
    pub random: fastrand::Rng,
    /// A buffer for the length of one callback: cleared by whoever uses it, before.
    pub scratch: Vec<u8>,
    /// What the worker does for plugins between their callbacks.
    pub services: Rc<Services>,
    /// Somebody has something to do that need not be done in a request.
    pub wants_chores: bool,
    chores: Vec<DoChore>,
    slots: Vec<Option<Box<dyn Any>>>,
}

impl Locals {
    /// Empty slots; random numbers from the system's entropy; letters go nowhere.
    #[must_use]
    pub fn new(worker: usize) -> Self {
        Self::with_services(worker, Services::new(Arc::new(NoMailbox)))
    }

    /// The same, with services that somebody carries out.
    #[must_use]
    pub fn with_services(worker: usize, services: Rc<Services>) -> Self {
        Self {
            worker,
            now_ms: 0,
            clock: || 0,
            random: fastrand::Rng::new(),
            scratch: Vec::new(),
            services,
            wants_chores: false,
            chores: Vec::new(),
            slots: Vec::new(),
        }
    }

    /// Whether a random integer from 1 to 100 is at most `percentage`: never for 0, always for 100
    /// (APISIX fault-injection reference, `sample`).
    pub fn sample(&mut self, percentage: Option<u8>) -> bool {
        percentage.is_none_or(|p| self.random.u8(1..=100) <= p)
    }

    /// Has a function called for chores, from now on.
    pub fn add_chore(&mut self, chore: DoChore) {
        self.chores.push(chore);
    }

    /// Does what has to be done now.
    pub fn do_chores(&mut self, chore: Chore) {
        if chore == Chore::BetweenRequests && !std::mem::take(&mut self.wants_chores) {
            return;
        }
        for at in 0..self.chores.len() {
            self.chores[at](self, chore);
        }
    }

    /// Puts a plugin's state for this worker in its slot; the previous one is dropped.
    pub fn insert<T: Any>(&mut self, id: SlotId, value: T) {
        if self.slots.len() <= id.0 {
            self.slots.resize_with(id.0 + 1, || None);
        }
        self.slots[id.0] = Some(Box::new(value));
    }

    /// The state in a slot, if there is one of that type.
    pub fn get_mut<T: Any>(&mut self, id: SlotId) -> Option<&mut T> {
        self.slots.get_mut(id.0)?.as_mut()?.downcast_mut()
    }

    /// Takes the state out of a slot, to use it beside the rest of `Locals`.
    pub fn take(&mut self, id: SlotId) -> Option<Box<dyn Any>> {
        self.slots.get_mut(id.0)?.take()
    }

    /// Puts back what [`Locals::take`] gave.
    pub fn restore(&mut self, id: SlotId, value: Box<dyn Any>) {
        self.slots[id.0] = Some(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_hold_values_of_their_type() {
        let ids = SlotIds::new();
        let (a, b) = (ids.next(), ids.next());
        let mut locals = Locals::new(0);
        locals.insert(b, 7_u32);
        assert!(locals.get_mut::<u32>(a).is_none());
        assert!(locals.get_mut::<u64>(b).is_none());
        *locals.get_mut::<u32>(b).expect("b is a u32") += 1;
        let taken = locals.take(b).expect("b is there");
        assert!(locals.get_mut::<u32>(b).is_none());
        locals.restore(b, taken);
        assert_eq!(locals.get_mut::<u32>(b), Some(&mut 8));
    }

    #[test]
    fn chores_are_done_when_they_are_wanted() {
        static DONE: SlotIds = SlotIds::new();
        let id = DONE.next();
        let mut locals = Locals::new(0);
        locals.insert(id, Vec::<Chore>::new());
        locals.add_chore(|locals, chore| {
            if let Some(done) = locals.get_mut::<Vec<Chore>>(SlotId(0)) {
                done.push(chore);
            }
        });
        locals.do_chores(Chore::BetweenRequests);
        locals.wants_chores = true;
        locals.do_chores(Chore::Tick);
        locals.do_chores(Chore::BetweenRequests);
        locals.do_chores(Chore::BetweenRequests);
        let done = locals.get_mut::<Vec<Chore>>(id).expect("the list");
        assert_eq!(*done, [Chore::Tick, Chore::BetweenRequests]);
    }

    #[test]
    fn sampling_is_exact_at_its_ends() {
        let mut locals = Locals::new(0);
        locals.random.seed(7);
        assert!((0..1000).all(|_| locals.sample(None) && locals.sample(Some(100))));
        assert!((0..1000).all(|_| !locals.sample(Some(0))));
        let hits = (0..10_000).filter(|_| locals.sample(Some(30))).count();
        assert!((2_700..3_300).contains(&hits), "{hits}");
    }
}
