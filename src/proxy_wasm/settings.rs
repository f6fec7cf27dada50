//! What an entry of `wasm.plugins` says.

use crate::limits::HELD_BODY_BYTES_MAX;
use crate::plugin::{Hold, RequestPhase};
use std::path::PathBuf;
use std::sync::Arc;

/// Where a module's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A `.wasm`, `.wat` or `.cwasm` file.
    File(PathBuf),
    /// The bytes of a `.wasm` or `.wat` file.
    Bytes(Arc<[u8]>),
}

/// What becomes of a stream whose plugin failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// It is answered 503, or closed if its response has begun.
    #[default]
    Closed,
    /// It goes on without the plugin.
    Open,
}

/// Which streams share an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All streams of a worker, as the ABI intends.
    #[default]
    Shared,
    /// None: every request gets an instance of its own, already started and configured.
    Request,
}

/// What becomes of a request that finds no instance made ahead, with [`Isolation::Request`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dry {
    /// One is made for it at once, unless there are as many as may be; then it waits.
    #[default]
    Make,
    /// It waits until one is made between requests.
    Wait,
    /// It is treated by `on_error` at once.
    Refuse,
}

/// One entry of `wasm.plugins`, all defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginSettings {
    /// The key of routes' `plugins`.
    pub name: String,
    /// Higher runs earlier.
    pub priority: i64,
    /// The module.
    pub source: Source,
    /// Where the request callbacks stand.
    pub request_phase: RequestPhase,
    /// The property `plugin_root_id`; the plugin's name if `None`.
    pub root_id: Option<String>,
    /// Names the namespace of shared data and queues, and the property `plugin_vm_id`.
    pub vm_id: String,
    /// Buffer 6 of the guest.
    pub vm_config: Vec<u8>,
    /// Which streams share an instance.
    pub isolation: Isolation,
    /// Instances made ahead on each worker, the active one included. At least 1.
    pub pool: usize,
    /// What single workers have instead, by index.
    pub pool_by_worker: Vec<Option<usize>>,
    /// What becomes of a stream whose plugin failed.
    pub on_error: OnError,
    /// How long one callback may take.
    pub deadline_ms: u64,
    /// Linear memory of one instance.
    pub memory_bytes_max: usize,
    /// Elements in a table of one instance.
    pub table_elements_max: usize,
    /// Instances at work on one worker, with [`Isolation::Request`].
    pub instances_max: usize,
    /// What becomes of a request that finds no instance made ahead.
    pub dry: Dry,
    /// How long a request waits for an instance.
    pub wait_ms: u64,
    /// Keys and values in this plugin's namespace of shared data.
    pub shared_data_bytes_max: usize,
    /// A body in a body callback, in bytes: what the guest's edits may make of it.
    pub body_bytes_max: usize,
    /// Callouts an instance may have running.
    pub callouts_max: usize,
    /// Callouts may go to addresses that are no upstreams of the configuration.
    pub callouts_direct: bool,
    /// The only upstreams, hosts or `host:port`s that callouts may go to; `None`: any.
    pub callouts_allow: Option<Vec<String>>,
    /// How Pause from request or response headers holds.
    pub pause: Hold,
    /// Whether the plugin may set attributes of the message as properties.
    pub writable_properties: bool,
}

impl PluginSettings {
    /// The settings an entry has that gives only what APISIX requires.
    #[must_use]
    pub fn new(name: &str, priority: i64, source: Source) -> Self {
        Self {
            name: name.to_owned(),
            priority,
            source,
            request_phase: RequestPhase::Access,
            root_id: None,
            vm_id: String::new(),
            vm_config: Vec::new(),
            isolation: Isolation::Shared,
            pool: 2,
            pool_by_worker: Vec::new(),
            on_error: OnError::Closed,
            deadline_ms: 1_000,
            memory_bytes_max: 64 << 20,
            table_elements_max: 100_000,
            instances_max: 256,
            dry: Dry::Make,
            wait_ms: 1_000,
            shared_data_bytes_max: 256 << 20,
            body_bytes_max: HELD_BODY_BYTES_MAX,
            callouts_max: 1_024,
            callouts_direct: false,
            callouts_allow: None,
            pause: Hold::All,
            writable_properties: false,
        }
    }

    /// Instances made ahead on that worker.
    #[must_use]
    pub(super) fn pool_of(&self, worker: usize) -> usize {
        self.pool_by_worker.get(worker).copied().flatten().unwrap_or(self.pool).max(1)
    }
}
