//! The paths with a star of one host.

use super::Leaf;
use super::tree::{Forward, Tree};
use std::sync::Arc;

/// Prefix → its routes. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefixes {
    /// To indices of `leaves`.
    tree: Tree,
    leaves: Arc<[Leaf]>,
}

/// A prefix, and what it is to stand for from now on: `None` is nothing.
pub(super) type Change<'k> = (&'k [u8], Option<Leaf>);

impl Prefixes {
    /// The leaves of all prefixes of a path, the longest first.
    pub(super) fn of(&self, path: &[u8]) -> impl Iterator<Item = &Leaf> {
        self.tree.ends(&Forward(path)).map(|at| &self.leaves[at as usize])
    }

    /// The leaf of this very prefix.
    pub(super) fn get(&self, prefix: &[u8]) -> Option<&Leaf> {
        self.tree.get(prefix).map(|at| &self.leaves[at as usize])
    }

    /// The prefixes with changes, sorted and distinct. The tree is made anew where one comes or
    /// goes: that touches no other host, and tens of thousands of prefixes take milliseconds.
    pub(super) fn edit(&self, changes: &[Change<'_>]) -> Self {
        let replaced = |(prefix, leaf): &Change<'_>| Some((self.tree.get(prefix)?, (*leaf)?));
        if let Some(replaced) = changes.iter().map(replaced).collect::<Option<Vec<_>>>() {
            let mut leaves = self.leaves.to_vec();
            replaced.into_iter().for_each(|(at, leaf)| leaves[at as usize] = leaf);
            return Self { tree: self.tree.clone(), leaves: leaves.into() };
        }
        let old = self.tree.keys();
        let (mut keys, mut leaves) = (Vec::new(), Vec::new());
        let mut push = |key, leaf| {
            keys.push((key, leaves.len() as u32));
            leaves.push(leaf);
        };
        let mut changes = changes.iter().peekable();
        for (key, at) in &old {
            while let Some((new, leaf)) = changes.next_if(|(new, _)| *new < &key[..]) {
                leaf.iter().for_each(|leaf| push(*new, *leaf));
            }
            match changes.next_if(|(new, _)| *new == &key[..]) {
                Some((_, leaf)) => leaf.iter().for_each(|leaf| push(&key[..], *leaf)),
                None => push(&key[..], self.leaves[*at as usize]),
            }
        }
        for (new, leaf) in changes {
            leaf.iter().for_each(|leaf| push(*new, *leaf));
        }
        Self { tree: Tree::build(&keys), leaves: leaves.into() }
    }
}
