//! Room `conf`.
