//! Making plugins from their configuration.

use super::{Plugin, RequestPhase};
use crate::schema::Reader;
use std::sync::Arc;

/// Knows some plugins by name and makes them from a configuration.
pub trait Loader {
    /// The names it knows.
    fn names(&self) -> Vec<&str>;

    /// Makes the plugin `name` from the value of `plugins.<name>` without `_meta`. What is wrong
    /// goes to the reader's problems, and the answer is then `None`. Asked only for names it knows.
    fn load(&mut self, name: &str, conf: Reader<'_>) -> Option<Loaded>;
}

/// A plugin with its place among others.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The plugin.
    pub plugin: Arc<dyn Plugin>,
    /// Where its request callbacks stand.
    pub phase: RequestPhase,
    /// Higher runs first.
    pub priority: i64,
}
