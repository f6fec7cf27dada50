//! What one instance may take.

use wasmtime::ResourceLimiter;

/// Table elements one instance may have: Go modules come near 10,000, nothing real above this.
const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Bounds of one store, asked by wasmtime before anything grows.
///
/// A growth too far is refused, not trapped: guests may handle a failed `memory.grow`. Most abort;
/// [`Limiter::take_refused`] tells the host what such a trap really was.
#[derive(Debug)]
pub struct Limiter {
    memory_bytes_max: usize,
    memory_bytes_high: usize,
    refused: bool,
}

impl Limiter {
    /// A limiter for at most so many bytes of linear memory.
    #[must_use]
    pub const fn new(memory_bytes_max: usize) -> Self {
        Self { memory_bytes_max, memory_bytes_high: 0, refused: false }
    }

    /// Whether a growth was refused since the last time this was asked.
    pub fn take_refused(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }

    /// The most linear memory the instance ever had, in bytes.
    #[must_use]
    pub const fn memory_bytes_high(&self) -> usize {
        self.memory_bytes_high
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = desired <= self.memory_bytes_max && maximum.is_none_or(|max| desired <= max);
        if allowed {
            self.memory_bytes_high = self.memory_bytes_high.max(desired);
        } else {
            self.refused = true;
        }
        Ok(allowed)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = desired <= TABLE_ELEMENTS_MAX;
        self.refused |= !allowed;
        Ok(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_above_its_bounds_and_remembers() {
        let mut limiter = Limiter::new(128 << 10);
        assert!(limiter.memory_growing(0, 128 << 10, None).expect("no error"));
        assert!(!limiter.take_refused());
        assert!(!limiter.memory_growing(0, (128 << 10) + 1, None).expect("no error"));
        assert!(limiter.take_refused() && !limiter.take_refused());
        assert!(!limiter.table_growing(0, TABLE_ELEMENTS_MAX + 1, None).expect("no error"));
        assert_eq!(limiter.memory_bytes_high(), 128 << 10);
    }
}
