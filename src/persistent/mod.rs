//! Room `persistent`: values by number, in versions that share what they have in common.
//!
//! In: a version, and changes to it.
//! Out: another version; the old one stays as it was.
//! May not know: what the values are.
//!
//! ```text
//! version 7   [ chunk 0 ][ chunk 1 ][ chunk 2  ]
//!                  │          │
//! version 8   [ chunk 0 ][ chunk 1 ][ chunk 2' ]      one value of chunk 2 is another
//! ```
//!
//! A snapshot of a hundred thousand routes of which one has changed costs a copy of one chunk and
//! of the list of chunks; so does dropping the old one. Reading costs one step more than from a
//! vector.

mod lazy;

pub use lazy::Lazy;

use std::sync::Arc;

/// Values of a chunk. Many make a change dear, few the list of chunks long.
const CHUNK: usize = 64;

/// Values by their numbers. All numbers below [`Array::len`] have one.
#[derive(Clone, Debug)]
pub struct Array<T> {
    chunks: Vec<Arc<[T]>>,
}

impl<T> Default for Array<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> Array<T> {
    /// The value of a number, if it has one.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<&T> {
        self.chunks.get(number / CHUNK)?.get(number % CHUNK)
    }

    /// How many numbers there are; a multiple of the chunks' size.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// Whether there is no number at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Whether a chunk is the very one that the other version has there.
    fn shares_chunk(&self, other: &Self, at: usize) -> bool {
        match (self.chunks.get(at), other.chunks.get(at)) {
            (Some(own), Some(others)) => Arc::ptr_eq(own, others),
            _ => false,
        }
    }

    /// All values in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }
}

impl<T: Clone + Default> Array<T> {
    /// Changes the value of a number; it and all below it have one from then on. Other versions
    /// keep theirs.
    pub fn set(&mut self, number: usize, value: T) {
        while self.len() <= number {
            self.chunks.push((0..CHUNK).map(|_| T::default()).collect());
        }
        let chunk = &mut self.chunks[number / CHUNK];
        Arc::make_mut(chunk)[number % CHUNK] = value;
    }

    /// How many chunks this version does not share with another one.
    #[must_use]
    pub fn own_chunks(&self, other: &Self) -> usize {
        (0..self.chunks.len()).filter(|at| !self.shares_chunk(other, *at)).count()
    }
}

impl<T: Clone + Default> FromIterator<T> for Array<T> {
    /// Values by their places.
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut array = Self::default();
        values.into_iter().enumerate().for_each(|(number, value)| array.set(number, value));
        array
    }
}

/// Numbers that are free to be given to something new.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// All below it were given out.
    next: u32,
    free: Vec<u32>,
}

impl Numbers {
    /// A number that nothing has.
    pub fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// A number is free again.
    pub fn give_back(&mut self, number: u32) {
        self.free.push(number);
    }

    /// How many are in use.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.next as usize - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_share_what_did_not_change() {
        let mut first = Array::default();
        (0..1_000).for_each(|number| first.set(number, number * 2));
        let mut second = first.clone();
        assert_eq!(second.own_chunks(&first), 0);
        second.set(700, 1);
        second.set(701, 2);
        assert_eq!(second.own_chunks(&first), 1);
        assert_eq!((first.get(700), second.get(700)), (Some(&1400), Some(&1)));
        assert_eq!((first.get(702), second.get(702)), (Some(&1404), Some(&1404)));
        second.set(5_000, 3);
        assert_eq!((second.get(4_999), second.get(5_000)), (Some(&0), Some(&3)));
        assert_eq!((first.get(5_000), first.iter().sum::<usize>()), (None, 999_000));
    }

    #[test]
    fn numbers_are_given_again() {
        let mut numbers = Numbers::default();
        assert_eq!([numbers.take(), numbers.take(), numbers.take()], [0, 1, 2]);
        numbers.give_back(1);
        assert_eq!((numbers.in_use(), numbers.take(), numbers.take()), (2, 1, 3));
    }
}
