//! Shared queues.

use super::lock;
use crate::plugin::{Mailbox, ReplyTo};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

/// Queues of the whole process.
const QUEUES_MAX: usize = 10_000;

/// Bytes waiting in one queue, with a word for each item: nobody takes them out any more.
const QUEUE_BYTES_MAX: usize = 64 << 20;
const ITEM_BYTES: usize = 32;

/// Why a queue did not give or take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum QueueError {
    /// There is no queue of that id.
    Unknown,
    /// Nothing is in it.
    Empty,
    /// There is no room in it.
    Full,
}

/// A namespace and a name in it.
type Key = (Box<[u8]>, Box<[u8]>);

/// All queues, by id and by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Queues(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    ids: HashMap<Key, u32>,
    queues: HashMap<u32, Arc<Mutex<Queue>>>,
    last_id: u32,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Who is told of items: the last to claim it.
    owner: Option<(Arc<dyn Mailbox>, ReplyTo)>,
}

impl Queues {
    /// The id of a queue, which is made if it is new. None if there are too many.
    pub(super) fn register(&self, vm_id: &str, name: &[u8]) -> Option<u32> {
        let mut table = lock(&self.0);
        let key = (vm_id.as_bytes().into(), name.into());
        if let Some(id) = table.ids.get(&key) {
            return Some(*id);
        }
        if table.queues.len() >= QUEUES_MAX {
            return None;
        }
        let id = table.last_id.checked_add(1)?;
        table.last_id = id;
        table.ids.insert(key, id);
        table.queues.insert(id, Arc::default());
        Some(id)
    }

    pub(super) fn resolve(&self, vm_id: &[u8], name: &[u8]) -> Option<u32> {
        lock(&self.0).ids.get(&(vm_id.into(), name.into())).copied()
    }

    pub(super) fn enqueue(&self, id: u32, item: &[u8]) -> Result<(), QueueError> {
        let queue = self.find(id)?;
        let mut queue = lock(&queue);
        let cost = item.len() + ITEM_BYTES;
        if queue.bytes + cost > QUEUE_BYTES_MAX {
            return Err(QueueError::Full);
        }
        queue.bytes += cost;
        queue.items.push_back(item.to_vec());
        if let Some((mailbox, to)) = &queue.owner {
            mailbox.post(to.clone());
        }
        Ok(())
    }

    pub(super) fn claim(&self, id: u32, mailbox: Arc<dyn Mailbox>, to: ReplyTo) {
        if let Ok(queue) = self.find(id) {
            lock(&queue).owner = Some((mailbox, to));
        }
    }

    pub(super) fn dequeue(&self, id: u32) -> Result<Vec<u8>, QueueError> {
        let queue = self.find(id)?;
        let mut queue = lock(&queue);
        let item = queue.items.pop_front().ok_or(QueueError::Empty)?;
        queue.bytes -= item.len() + ITEM_BYTES;
        Ok(item)
    }

    /// Drops the queues of a namespace that is no more.
    pub(super) fn forget(&self, vm_id: &str) {
        let mut table = lock(&self.0);
        let table = &mut *table;
        table.ids.retain(|(owner, _), id| {
            let keep = **owner != *vm_id.as_bytes();
            if !keep {
                table.queues.remove(id);
            }
            keep
        });
    }

    fn find(&self, id: u32) -> Result<Arc<Mutex<Queue>>, QueueError> {
        lock(&self.0).queues.get(&id).cloned().ok_or(QueueError::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out() {
        let queues = Queues::default();
        let id = queues.register("", b"q").expect("room");
        assert_eq!(id, 1, "ids count from 1");
        assert_eq!(queues.dequeue(id), Err(QueueError::Empty));
        assert_eq!(queues.enqueue(id, b"a"), Ok(()));
        assert_eq!(queues.enqueue(id, b""), Ok(()));
        assert_eq!(queues.register("", b"q"), Some(id), "registering again keeps the data");
        assert_eq!(queues.dequeue(id), Ok(b"a".to_vec()));
        assert_eq!(queues.dequeue(id), Ok(Vec::new()));
        assert_eq!(queues.enqueue(7, b"a"), Err(QueueError::Unknown));
    }

    #[test]
    fn a_queue_has_an_end() {
        let queues = Queues::default();
        let id = queues.register("", b"q").expect("room");
        let half = vec![0; QUEUE_BYTES_MAX / 2 - ITEM_BYTES];
        assert_eq!(queues.enqueue(id, &half), Ok(()));
        assert_eq!(queues.enqueue(id, &half), Ok(()));
        assert_eq!(queues.enqueue(id, b""), Err(QueueError::Full));
        assert!(queues.dequeue(id).is_ok());
        assert_eq!(queues.enqueue(id, b""), Ok(()));
    }
}
