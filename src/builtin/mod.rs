//! Room `builtin`.
