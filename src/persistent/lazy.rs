//! One thread's own values beside those of an array, each made when it is first asked for.
//!
//! ```text
//! Array, version 7  [ chunk 0 ][ chunk 1  ]     Lazy  [ values of 0 ][ of 1  ]
//!                        │                                   │
//! Array, version 8  [ chunk 0 ][ chunk 1' ]     Lazy  [ values of 0 ][ empty ]
//! ```

use super::{Array, CHUNK};
use std::cell::OnceCell;
use std::rc::Rc;

type Chunk<V> = Rc<[OnceCell<V>]>;

/// Values by the numbers of an array, as far as they were asked for.
#[derive(Debug)]
pub struct Lazy<V> {
    chunks: Vec<OnceCell<Chunk<V>>>,
}

impl<V> Default for Lazy<V> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<V> Lazy<V> {
    /// None yet.
    #[must_use]
    pub fn of<T>(array: &Array<T>) -> Self {
        Self { chunks: array.chunks.iter().map(|_| OnceCell::new()).collect() }
    }

    /// Those of the version before that are about what both versions have; the work is one step a
    /// chunk, whatever changed.
    #[must_use]
    pub fn following<T>(array: &Array<T>, before: &Self, array_before: &Array<T>) -> Self {
        let next = Self::of(array);
        let known = before.chunks.iter().enumerate();
        for (at, chunk) in known.filter_map(|(at, chunk)| Some((at, chunk.get()?))) {
            if array.shares_chunk(array_before, at) {
                // Empty until now.
                let _ = next.chunks[at].set(Rc::clone(chunk));
            }
        }
        next
    }

    /// The value of a number, made if it is not there. `None`: the array has no such number.
    pub fn get_or_make(&self, number: usize, make: impl FnOnce() -> V) -> Option<&V> {
        let chunk = self.chunks.get(number / CHUNK)?;
        let chunk = chunk.get_or_init(|| (0..CHUNK).map(|_| OnceCell::new()).collect());
        Some(chunk[number % CHUNK].get_or_init(make))
    }

    /// The value of a number, if it was made.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<&V> {
        self.chunks.get(number / CHUNK)?.get()?[number % CHUNK].get()
    }

    /// Drops what nobody shares, so many chunks of it at most. Gives how many more could have been
    /// dropped; 0: there may be something left.
    pub fn discard(&mut self, chunks_max: usize) -> usize {
        let mut left = chunks_max;
        while left > 0 {
            let Some(chunk) = self.chunks.pop() else { return left };
            let own = chunk.get().is_some_and(|chunk| Rc::strong_count(chunk) == 1);
            left -= usize::from(own);
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outlive_a_version_as_far_as_it_is_shared() {
        let mut first: Array<u32> = Array::default();
        (0..200).for_each(|number| first.set(number, 0));
        let lazy = Lazy::of(&first);
        let made = |lazy: &Lazy<String>, number, word: &str| {
            lazy.get_or_make(number, || word.to_owned()).cloned()
        };
        assert_eq!(made(&lazy, 3, "a"), Some("a".to_owned()));
        assert_eq!(made(&lazy, 3, "b"), Some("a".to_owned()), "made once");
        assert_eq!(made(&lazy, 150, "c"), Some("c".to_owned()));
        assert_eq!(made(&lazy, 1_000, "d"), None);
        let mut second = first.clone();
        second.set(151, 1);
        second.set(1_000, 1);
        let next = Lazy::following(&second, &lazy, &first);
        assert_eq!((next.get(3).map(String::as_str), next.get(150)), (Some("a"), None));
        assert_eq!(made(&next, 1_000, "e"), Some("e".to_owned()));
        assert_eq!(lazy.get(150).map(String::as_str), Some("c"), "as it was");
    }

    #[test]
    fn chunks_are_dropped_some_at_a_time() {
        let mut array: Array<u32> = Array::default();
        (0..CHUNK * 5).for_each(|number| array.set(number, 0));
        let mut lazy = Lazy::of(&array);
        let value = Rc::new(());
        for chunk in 0..5 {
            lazy.get_or_make(chunk * CHUNK, || Rc::clone(&value));
        }
        let mut changed = array.clone();
        changed.set(CHUNK * 3, 1);
        changed.set(CHUNK * 4, 1);
        let _next = Lazy::following(&changed, &lazy, &array);
        assert_eq!((lazy.discard(1), Rc::strong_count(&value)), (0, 5));
        assert_eq!((lazy.discard(2), Rc::strong_count(&value)), (1, 4));
    }
}
