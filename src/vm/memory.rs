//! A guest's linear memory, every access checked.

use std::fmt;

/// A pointer or length of a guest that leaves its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfBounds;

impl fmt::Display for OutOfBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("guest pointer out of bounds")
    }
}

impl std::error::Error for OutOfBounds {}

/// A borrowed view of a guest's memory. It ends when the guest runs again, so growth can't make it
/// stale. Pointers need no alignment.
#[derive(Debug)]
pub struct GuestMemory<'a>(&'a mut [u8]);

impl<'a> GuestMemory<'a> {
    /// A view of all the memory there is.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self(bytes)
    }

    /// `len` bytes at `at`. A length of 0 is good at any address up to the very end.
    ///
    /// # Errors
    /// When the range leaves the memory.
    pub fn slice(&self, at: u32, len: u32) -> Result<&[u8], OutOfBounds> {
        self.0.get(range(at, len)).ok_or(OutOfBounds)
    }

    /// The same, to write to.
    ///
    /// # Errors
    /// When the range leaves the memory.
    pub fn slice_mut(&mut self, at: u32, len: u32) -> Result<&mut [u8], OutOfBounds> {
        self.0.get_mut(range(at, len)).ok_or(OutOfBounds)
    }

    /// The little-endian `u32` at `at`.
    ///
    /// # Errors
    /// When it is not all inside.
    pub fn read_u32(&self, at: u32) -> Result<u32, OutOfBounds> {
        let bytes = self.slice(at, 4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Writes bytes at `at`.
    ///
    /// # Errors
    /// When they don't fit; nothing is written then.
    pub fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), OutOfBounds> {
        let len = u32::try_from(bytes.len()).map_err(|_| OutOfBounds)?;
        self.slice_mut(at, len)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Writes a `u32` at `at`.
    ///
    /// # Errors
    /// When it is not all inside.
    pub fn write_u32(&mut self, at: u32, value: u32) -> Result<(), OutOfBounds> {
        self.write(at, &value.to_le_bytes())
    }

    /// Writes a `u64` at `at`.
    ///
    /// # Errors
    /// When it is not all inside.
    pub fn write_u64(&mut self, at: u32, value: u64) -> Result<(), OutOfBounds> {
        self.write(at, &value.to_le_bytes())
    }

    /// Whether `len` bytes at `at` are inside: to check an answer's place before doing something.
    ///
    /// # Errors
    /// When they are not.
    pub fn check(&self, at: u32, len: u32) -> Result<(), OutOfBounds> {
        self.slice(at, len).map(|_| ())
    }
}

/// `usize` has 64 bits where this runs, so two `u32` never overflow it.
fn range(at: u32, len: u32) -> std::ops::Range<usize> {
    const { assert!(usize::BITS == 64) };
    at as usize..at as usize + len as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_the_memory() {
        let mut bytes = [0; 16];
        let mut memory = GuestMemory::new(&mut bytes);
        for (at, len, good) in [
            (0, 16, true),
            (0, 17, false),
            (16, 0, true),
            (17, 0, false),
            (15, 1, true),
            (15, 2, false),
            (u32::MAX, u32::MAX, false),
            (1, u32::MAX, false),
        ] {
            assert_eq!(memory.slice(at, len).is_ok(), good, "{at}+{len}");
            assert_eq!(memory.slice_mut(at, len).is_ok(), good, "{at}+{len}");
            assert_eq!(memory.check(at, len).is_ok(), good, "{at}+{len}");
        }
        assert_eq!(memory.write_u32(13, 1), Err(OutOfBounds));
        assert_eq!(memory.write_u64(9, 1), Err(OutOfBounds));
        assert_eq!(memory.slice(0, 16), Ok(&[0; 16][..]));
        memory.write_u32(1, 0x0403_0201).expect("fits, unaligned");
        assert_eq!(memory.read_u32(1), Ok(0x0403_0201));
        assert_eq!(memory.slice(0, 6), Ok(&[0, 1, 2, 3, 4, 0][..]));
    }
}
