//! Room `vm`.
