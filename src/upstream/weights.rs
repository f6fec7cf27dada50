//! Arithmetic of weights.

/// The greatest number that divides both; 0 divides like the other one.
pub(super) fn common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}
