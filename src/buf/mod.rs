//! Room `buf`.
