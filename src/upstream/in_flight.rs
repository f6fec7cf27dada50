//! One worker's requests at single nodes, whichever snapshots they began with.

use super::Node;
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// All nodes that somebody counts for.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Rc<RefCell<Counted>>);

/// By the nodes' addresses in memory: whoever counts keeps the node.
type Counted = FxHashMap<*const Node, Weak<Requests>>;

/// The requests of one node.
#[derive(Debug)]
pub(super) struct Requests {
    node: Arc<Node>,
    count: Cell<u32>,
    all: InFlight,
}

impl InFlight {
    /// The count of a node, the same for all who ask while one of them has it.
    pub(super) fn of(&self, node: &Arc<Node>) -> Rc<Requests> {
        let known = self.0.borrow().get(&Arc::as_ptr(node)).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let (node, count) = (Arc::clone(node), Cell::new(0));
            let requests = Rc::new(Requests { node, count, all: self.clone() });
            let (key, weak) = (Arc::as_ptr(&requests.node), Rc::downgrade(&requests));
            self.0.borrow_mut().insert(key, weak);
            requests
        })
    }
}

impl Requests {
    pub(super) fn up(&self) {
        self.count.set(self.count.get() + 1);
    }

    pub(super) fn down(&self) {
        self.count.set(self.count.get().saturating_sub(1));
    }

    pub(super) fn get(&self) -> u32 {
        self.count.get()
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.all.0.borrow_mut().remove(&Arc::as_ptr(&self.node));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::peers;
    use super::*;

    #[test]
    fn counts_last_as_long_as_somebody_has_them() {
        let (all, peers) = (InFlight::default(), peers(&[1, 1]));
        let counted = || all.0.borrow().len();
        let first = all.of(&peers[0].node);
        first.up();
        let again = all.of(&peers[0].node);
        let other = all.of(&peers[1].node);
        assert_eq!((again.get(), other.get(), counted()), (1, 0, 2));
        drop((first, other));
        again.up();
        assert_eq!((again.get(), counted()), (2, 1));
        drop(again);
        assert_eq!(counted(), 0);
        assert_eq!(all.of(&peers[0].node).get(), 0);
    }
}
