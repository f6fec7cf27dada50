//! What all workers share: data and queues by `vm_id`, metrics by name.

mod data;
mod metrics;
mod queue;

pub(super) use metrics::{Handle, Metrics};
pub use metrics::{Metric, MetricKind, MetricValue};
pub(super) use queue::QueueError;

use super::counters::AllCounters;
use super::node::Node;
use crate::plugin::{Mailbox, ReplyTo};
use data::Data;
pub(super) use data::SetError;
use queue::Queues;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// All of it, once per process.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) metrics: Arc<Metrics>,
    pub(super) counters: Arc<AllCounters>,
    /// What guests are told of this process.
    pub(super) node: Arc<Node>,
    queues: Arc<Queues>,
    namespaces: Mutex<HashMap<Box<str>, Weak<Namespace>>>,
}

/// What the plugins of one `vm_id` share. It goes with the last of them.
#[derive(Debug)]
pub(super) struct Namespace {
    vm_id: Box<str>,
    pub(super) data: Data,
    queues: Arc<Queues>,
}

impl Shared {
    /// Nothing shared yet, on that node.
    pub(super) fn on_node(node: Node) -> Self {
        Self { node: Arc::new(node), ..Self::default() }
    }

    /// The namespace of a `vm_id`; the empty one is a namespace like any other.
    pub(super) fn namespace(&self, vm_id: &str) -> Arc<Namespace> {
        let mut namespaces = lock(&self.namespaces);
        if let Some(namespace) = namespaces.get(vm_id).and_then(Weak::upgrade) {
            return namespace;
        }
        let queues = Arc::clone(&self.queues);
        let namespace = Arc::new(Namespace { vm_id: vm_id.into(), data: Data::default(), queues });
        namespaces.retain(|_, namespace| namespace.strong_count() > 0);
        namespaces.insert(vm_id.into(), Arc::downgrade(&namespace));
        namespace
    }
}

impl Namespace {
    /// The id of this namespace's queue of that name, made if need be.
    pub(super) fn register_queue(&self, name: &[u8]) -> Option<u32> {
        self.queues.register(&self.vm_id, name)
    }

    /// The id of another namespace's queue; an empty `vm_id` is our own.
    pub(super) fn resolve_queue(&self, vm_id: &[u8], name: &[u8]) -> Option<u32> {
        let own = self.vm_id.as_bytes();
        self.queues.resolve(if vm_id.is_empty() { own } else { vm_id }, name)
    }

    /// From now on `to` is told of every item put in the queue.
    pub(super) fn claim_queue(&self, id: u32, mailbox: Arc<dyn Mailbox>, to: ReplyTo) {
        self.queues.claim(id, mailbox, to);
    }

    /// Puts an item in a queue.
    pub(super) fn enqueue(&self, id: u32, item: &[u8]) -> Result<(), QueueError> {
        self.queues.enqueue(id, item)
    }

    /// Takes the oldest item out of a queue.
    pub(super) fn dequeue(&self, id: u32) -> Result<Vec<u8>, QueueError> {
        self.queues.dequeue(id)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.queues.forget(&self.vm_id);
    }
}

/// Nothing here is left half done when a thread panics, so a poisoned lock is as good as any.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_live_as_long_as_their_plugins() {
        let shared = Shared::default();
        let (a, again, b) = (shared.namespace("a"), shared.namespace("a"), shared.namespace("b"));
        assert!(Arc::ptr_eq(&a, &again) && !Arc::ptr_eq(&a, &b));
        let queue = a.register_queue(b"q").expect("room");
        assert_eq!(again.register_queue(b"q"), Some(queue));
        assert_eq!(b.resolve_queue(b"", b"q"), None);
        assert_eq!(b.resolve_queue(b"a", b"q"), Some(queue));
        assert_eq!(b.enqueue(queue, b"x"), Ok(()));
        drop((a, again));
        assert_eq!(b.resolve_queue(b"a", b"q"), None);
        assert_eq!(b.dequeue(queue), Err(QueueError::Unknown));
    }
}
