//! What one instance may take.

use wasmtime::ResourceLimiter;

/// Bounds of one store, asked by wasmtime before anything grows.
///
/// A growth too far is refused, not trapped: guests may handle a failed `memory.grow`. Most abort;
/// [`Limiter::take_refused`] tells the host what such a trap really was.
#[derive(Debug)]
pub struct Limiter {
    memory_bytes_max: usize,
    table_elements_max: usize,
    memory_bytes_high: usize,
    refused: bool,
}

impl Limiter {
    /// A limiter for at most so many bytes of linear memory, and so many elements in a table.
    #[must_use]
    pub const fn new(memory_bytes_max: usize, table_elements_max: usize) -> Self {
        Self { memory_bytes_max, table_elements_max, memory_bytes_high: 0, refused: false }
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
        let allowed = desired <= self.table_elements_max;
        self.refused |= !allowed;
        Ok(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_above_its_bounds_and_remembers() {
        let mut limiter = Limiter::new(128 << 10, 1_000);
        assert!(limiter.memory_growing(0, 128 << 10, None).expect("no error"));
        assert!(!limiter.take_refused());
        assert!(!limiter.memory_growing(0, (128 << 10) + 1, None).expect("no error"));
        assert!(limiter.take_refused() && !limiter.take_refused());
        assert!(!limiter.table_growing(0, 1_001, None).expect("no error"));
        assert_eq!(limiter.memory_bytes_high(), 128 << 10);
    }
}
