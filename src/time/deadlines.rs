//! One coarse deadline per connection, moved for free.
//!
//! Moving a deadline later is a store: the wheel looks at the stored time only when the slot it was
//! filed under comes up, and files it again if it is not due yet. A busy keep-alive connection
//! moves its deadline with every request and is looked at once per timeout.
//!
//! ```text
//! wheel   [slot][slot][slot] … 1024 slots of one tick, around and around
//!            └─ ids filed there; each id knows its real deadline
//! ```

use slab::Slab;

/// Names one deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadlineId(usize);

/// The deadlines of one worker; `T` is what to do when one is due.
#[derive(Debug)]
pub struct Deadlines<T> {
    entries: Slab<Entry<T>>,
    wheel: Vec<Vec<usize>>,
    tick_ms: u64,
    /// The last tick that was swept.
    swept: u64,
    spare: Vec<usize>,
}

#[derive(Debug)]
struct Entry<T> {
    due_ms: u64,
    /// The tick of the slot this entry is filed under: earlier than or at its deadline.
    filed: u64,
    value: T,
}

const SLOTS: u64 = 1024;
const NEVER: u64 = u64::MAX;

impl<T> Deadlines<T> {
    /// An empty wheel of that resolution.
    #[must_use]
    pub fn new(tick_ms: u64, now_ms: u64) -> Self {
        let wheel = (0..SLOTS).map(|_| Vec::new()).collect();
        Self { entries: Slab::new(), wheel, tick_ms, swept: now_ms / tick_ms, spare: Vec::new() }
    }

    /// Adds an entry that is not armed.
    pub fn add(&mut self, value: T) -> DeadlineId {
        let id = self.entries.insert(Entry { due_ms: NEVER, filed: NEVER, value });
        DeadlineId(id)
    }

    /// Sets when the entry is due.
    pub fn arm(&mut self, id: DeadlineId, due_ms: u64) {
        let tick = self.tick_of(due_ms);
        let entry = &mut self.entries[id.0];
        entry.due_ms = due_ms;
        if tick < entry.filed {
            self.file(id.0, tick);
        }
    }

    /// Makes the entry due never.
    pub fn disarm(&mut self, id: DeadlineId) {
        self.entries[id.0].due_ms = NEVER;
    }

    /// Whether the entry is due.
    #[must_use]
    pub fn is_due(&self, id: DeadlineId, now_ms: u64) -> bool {
        self.entries[id.0].due_ms <= now_ms
    }

    /// The entry's value.
    pub fn value_mut(&mut self, id: DeadlineId) -> &mut T {
        &mut self.entries[id.0].value
    }

    /// All values.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().map(|(_, entry)| &mut entry.value)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes the entry away.
    pub fn remove(&mut self, id: DeadlineId) -> T {
        let entry = self.entries.remove(id.0);
        if entry.filed != NEVER {
            let slot = &mut self.wheel[(entry.filed % SLOTS) as usize];
            if let Some(at) = slot.iter().position(|filed| *filed == id.0) {
                slot.swap_remove(at);
            }
        }
        entry.value
    }

    /// Calls `due` for each entry that is due at `now_ms`, and disarms it.
    pub fn sweep(&mut self, now_ms: u64, mut due: impl FnMut(&mut T)) {
        let now_tick = now_ms / self.tick_ms;
        let first = (self.swept + 1).max(now_tick.saturating_sub(SLOTS - 1));
        for tick in first..=now_tick {
            self.swept = tick;
            let slot = (tick % SLOTS) as usize;
            if self.wheel[slot].is_empty() {
                continue;
            }
            let mut ids = std::mem::replace(&mut self.wheel[slot], std::mem::take(&mut self.spare));
            for id in ids.drain(..) {
                self.look_at(id, now_ms, &mut due);
            }
            self.spare = ids;
        }
        self.swept = self.swept.max(now_tick);
    }

    fn look_at(&mut self, id: usize, now_ms: u64, due: &mut impl FnMut(&mut T)) {
        let entry = &mut self.entries[id];
        entry.filed = NEVER;
        if entry.due_ms == NEVER {
            return;
        }
        if entry.due_ms <= now_ms {
            entry.due_ms = NEVER;
            due(&mut entry.value);
            return;
        }
        let tick = self.tick_of(self.entries[id].due_ms);
        self.file(id, tick);
    }

    /// Files an entry under `tick`, or under the last slot of this round if that is further away:
    /// it is looked at and filed again then. An entry that is already filed moves.
    fn file(&mut self, id: usize, tick: u64) {
        let tick = tick.clamp(self.swept + 1, self.swept + SLOTS - 1);
        let filed = std::mem::replace(&mut self.entries[id].filed, tick);
        if filed != NEVER {
            let slot = &mut self.wheel[(filed % SLOTS) as usize];
            if let Some(at) = slot.iter().position(|other| *other == id) {
                slot.swap_remove(at);
            }
        }
        self.wheel[(tick % SLOTS) as usize].push(id);
    }

    fn tick_of(&self, due_ms: u64) -> u64 {
        due_ms.div_ceil(self.tick_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due_at(deadlines: &mut Deadlines<char>, now_ms: u64) -> String {
        let mut due = String::new();
        deadlines.sweep(now_ms, |value| due.push(*value));
        due
    }

    #[test]
    fn due_once_and_not_early() {
        let mut deadlines = Deadlines::new(10, 0);
        let a = deadlines.add('a');
        deadlines.arm(a, 25);
        assert_eq!(due_at(&mut deadlines, 20), "");
        assert_eq!(due_at(&mut deadlines, 29), "");
        assert_eq!(due_at(&mut deadlines, 30), "a");
        assert_eq!(due_at(&mut deadlines, 10_000), "");
    }

    #[test]
    fn moving_earlier_and_later() {
        let mut deadlines = Deadlines::new(10, 0);
        let (a, b) = (deadlines.add('a'), deadlines.add('b'));
        deadlines.arm(a, 100);
        deadlines.arm(b, 100);
        deadlines.arm(a, 500);
        deadlines.arm(b, 30);
        assert_eq!(due_at(&mut deadlines, 40), "b");
        assert_eq!(due_at(&mut deadlines, 490), "");
        assert_eq!(due_at(&mut deadlines, 500), "a");
    }

    #[test]
    fn far_deadlines_go_around_the_wheel() {
        let mut deadlines = Deadlines::new(1, 0);
        let a = deadlines.add('a');
        deadlines.arm(a, 5_000);
        for now in (0..5_000).step_by(7) {
            assert_eq!(due_at(&mut deadlines, now), "", "{now}");
        }
        assert_eq!(due_at(&mut deadlines, 5_000), "a");
        deadlines.arm(a, 100_000);
        assert_eq!(due_at(&mut deadlines, 200_000), "a", "a long pause of the worker");
    }

    #[test]
    fn removed_and_disarmed_are_never_due() {
        let mut deadlines = Deadlines::new(10, 0);
        let (a, b) = (deadlines.add('a'), deadlines.add('b'));
        deadlines.arm(a, 50);
        deadlines.arm(b, 50);
        deadlines.disarm(a);
        assert_eq!(deadlines.remove(b), 'b');
        assert_eq!(due_at(&mut deadlines, 1_000), "");
        assert_eq!(deadlines.len(), 1);
        let c = deadlines.add('c');
        deadlines.arm(c, 1_050);
        assert_eq!(due_at(&mut deadlines, 1_100), "c", "a reused place is a new entry");
    }

    #[test]
    fn agrees_with_a_plain_list() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut deadlines = Deadlines::new(5, 0);
        let mut model: Vec<(DeadlineId, u64, u64)> = Vec::new();
        let mut now = 0;
        for number in 0..20_000_u64 {
            match random.u8(0..4) {
                0 if model.len() < 50 => model.push((deadlines.add(number), number, NEVER)),
                1 | 2 if !model.is_empty() => {
                    let at = random.usize(0..model.len());
                    model[at].2 = now + random.u64(1..9_000);
                    deadlines.arm(model[at].0, model[at].2);
                }
                3 if model.len() > 40 => {
                    let (id, ..) = model.swap_remove(random.usize(0..model.len()));
                    deadlines.remove(id);
                }
                _ => now += random.u64(0..200),
            }
            let mut due = Vec::new();
            deadlines.sweep(now, |value| due.push(*value));
            for (_, number, at) in &mut model {
                let is_due = *at <= now / 5 * 5;
                assert_eq!(due.contains(number), is_due, "{now} {at}");
                if is_due {
                    *at = NEVER;
                }
            }
        }
    }
}
