//! The control side: entries are loaded, confs are tried, plugins come out.

use super::counters::PluginCount;
use super::error::{Error, Reason};
use super::exports::Exports;
use super::guest::{Facts, Guest};
use super::hostcalls;
use super::http_plugin::HttpPlugin;
use super::inspect::{Checked, check};
use super::instance::Instance;
use super::node::Node;
use super::pool;
use super::settings::{Isolation, PluginSettings, Source};
use super::shared::{Metric, Shared};
use crate::plugin::{Hooks, Loaded, Loader, Plugin, SlotId};
use crate::schema::{Fault, Reader};
use crate::vm::{Engine, Module, State};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use wasmtime::InstancePre;

/// APISIX's own words for these mistakes.
const NO_CONF: &str = "property \"conf\" is required";
const BAD_CONF: &str =
    "property \"conf\" validation failed: value should match only one schema, but matches none";

/// All that Proxy-Wasm plugins have in this process. One per process.
#[derive(Debug)]
pub struct Host {
    engine: Engine,
    shared: Shared,
    /// Entries in use: one that did not change is used again.
    entries: Mutex<Vec<Weak<Entry>>>,
}

/// The plugins of one configuration.
#[derive(Debug)]
pub struct Plugins {
    entries: Vec<Arc<Entry>>,
}

/// One `wasm.plugins` entry, compiled and linked.
pub(super) struct Entry {
    /// Where a worker has its pools, and the place of this entry's among them.
    pub(super) slot: SlotId,
    pub(super) index: usize,
    pub(super) facts: Arc<Facts>,
    pub(super) module: Module,
    pub(super) linked: InstancePre<Guest>,
    pub(super) hooks: Hooks,
    pub(super) logs: bool,
    /// Where instances that serve one request each have what is set back after it.
    pub(super) state: Option<State>,
    confs: Mutex<Confs>,
}

/// The confs in use and their plugins.
#[derive(Default)]
struct Confs {
    plugins: HashMap<Arc<[u8]>, Weak<HttpPlugin>>,
    next_index: usize,
}

/// One conf of an entry: one root context in each of its instances.
#[derive(Debug)]
pub(super) struct Conf {
    pub(super) index: usize,
    pub(super) bytes: Arc<[u8]>,
}

impl Host {
    /// A host without plugins yet.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self::on_node(engine, Node::default())
    }

    /// The same, for a process that has a place among others.
    #[must_use]
    pub fn on_node(engine: Engine, node: Node) -> Self {
        let shared = Shared::on_node(node);
        Self { engine, shared, entries: Mutex::default() }
    }

    /// Loads all entries of a configuration, or tells everything that is wrong with them. Entries
    /// that did not change since the last time keep their instances.
    ///
    /// # Errors
    /// One for each entry that can't be loaded.
    pub fn load(&self, plugins: Vec<PluginSettings>) -> Result<Plugins, Vec<Error>> {
        let mut errors = Vec::new();
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        for settings in plugins {
            let name = settings.name.clone();
            if entries.iter().any(|entry| *entry.facts.name == *name) {
                errors.push(Reason::Duplicate.of(&name));
                continue;
            }
            match self.entry(settings) {
                Ok(entry) => entries.push(entry),
                Err(reason) => errors.push(reason.of(&name)),
            }
        }
        if errors.is_empty() { Ok(Plugins { entries }) } else { Err(errors) }
    }

    /// The metrics that plugins defined, for the exposition.
    #[must_use]
    pub fn metrics(&self) -> Vec<Metric> {
        self.shared.metrics.all()
    }

    /// What plugins did on each worker, for the exposition.
    #[must_use]
    pub fn counters(&self) -> Vec<PluginCount> {
        self.shared.counters.all()
    }

    fn entry(&self, settings: PluginSettings) -> Result<Arc<Entry>, Reason> {
        let module = match &settings.source {
            Source::File(path) => self.engine.load_file(path),
            Source::Bytes(bytes) => self.engine.load(bytes),
        };
        let module = module.map_err(Reason::Load)?;
        let mut entries = lock(&self.entries);
        entries.retain(|entry| entry.strong_count() > 0);
        let mut live = entries.iter().filter_map(Weak::upgrade);
        let same = |entry: &Arc<Entry>| {
            entry.facts.settings == settings && entry.module.hash() == module.hash()
        };
        if let Some(entry) = live.find(same) {
            return Ok(entry);
        }
        let entry = Arc::new(Entry::new(settings, module, &self.shared)?);
        entries.push(Arc::downgrade(&entry));
        Ok(entry)
    }
}

impl Plugins {
    /// The entries' settings, in the order given.
    pub fn settings(&self) -> impl Iterator<Item = &PluginSettings> {
        self.entries.iter().map(|entry| &entry.facts.settings)
    }

    /// The plugin of an entry for one `plugins.<name>` value (without `_meta`). Equal confs give
    /// the same plugin. A conf that is new is tried out first, in an instance of its own.
    ///
    /// # Errors
    /// When there is no such entry, `conf` is missing or of the wrong type, or the guest refuses.
    pub fn plugin(&self, name: &str, value: &Value) -> Result<Arc<dyn Plugin>, Error> {
        let entry = self.find(name).ok_or_else(|| Reason::Unknown.of(name))?;
        let bytes = conf_bytes(value).map_err(|what| Reason::Conf(what).of(name))?;
        let plugin = entry.plugin(bytes).map_err(|reason| reason.of(name))?;
        Ok(plugin)
    }

    /// The compiled module of an entry.
    #[must_use]
    pub fn module(&self, name: &str) -> Option<Module> {
        self.find(name).map(|entry| entry.module.clone())
    }

    /// An entry with a conf that its guest has taken.
    pub(super) fn entry_and_conf(
        &self,
        name: &str,
        value: &Value,
    ) -> Result<(Arc<Entry>, Arc<Conf>), Error> {
        let entry = self.find(name).ok_or_else(|| Reason::Unknown.of(name))?;
        let bytes = conf_bytes(value).map_err(|what| Reason::Conf(what).of(name))?;
        let plugin = entry.plugin(bytes).map_err(|reason| reason.of(name))?;
        Ok((Arc::clone(entry), plugin.conf()))
    }

    /// Starts an instance of an entry and drops it: whether the module runs at all.
    ///
    /// # Errors
    /// When there is no such entry or the guest fails before it could be configured.
    pub fn try_start(&self, name: &str) -> Result<(), Error> {
        let entry = self.find(name).ok_or_else(|| Reason::Unknown.of(name))?;
        Instance::start(entry, None).map_err(|fault| Reason::Start(fault).of(name)).map(drop)
    }

    /// Whether these are the very same entries: nothing of them changed between two loads.
    #[must_use]
    pub fn are_those_of(&self, other: &Self) -> bool {
        let same = |(a, b): (&Arc<Entry>, &Arc<Entry>)| Arc::ptr_eq(a, b);
        self.entries.len() == other.entries.len()
            && self.entries.iter().zip(&other.entries).all(same)
    }

    fn find(&self, name: &str) -> Option<&Arc<Entry>> {
        self.entries.iter().find(|entry| *entry.facts.name == *name)
    }
}

impl Loader for Plugins {
    fn names(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| &*entry.facts.name).collect()
    }

    fn load(&mut self, name: &str, conf: Reader<'_>) -> Option<Loaded> {
        let settings = &self.find(name)?.facts.settings;
        let (phase, priority) = (settings.request_phase, settings.priority);
        match self.plugin(name, conf.value()) {
            Ok(plugin) => Some(Loaded { plugin, phase, priority }),
            Err(error) => {
                let hint = error.hint().map(str::to_owned);
                let fault = Fault { message: error.reason.to_string(), hint };
                match conf.value().get("conf") {
                    Some(value) => {
                        Reader::new(value, conf.at().key("conf"), conf.problems()).error(fault);
                    }
                    None => conf.error_on_key(fault),
                }
                None
            }
        }
    }
}

impl Entry {
    fn new(settings: PluginSettings, module: Module, shared: &Shared) -> Result<Self, Reason> {
        static INDEX: AtomicUsize = AtomicUsize::new(0);
        let Checked { abi, hooks, logs } = check(&module)?;
        let import = |error: wasmtime::Error| Reason::Import(format!("{error:#}"));
        let linked = hostcalls::link(&module).map_err(import)?;
        for name in &linked.unknown {
            let plugin = &settings.name;
            log::warn!(target: "wasm", "[{plugin}] imports {name}, which this host does not have");
        }
        let linked = linked.linker.instantiate_pre(module.wasmtime()).map_err(import)?;
        let exports = Exports::of(&module);
        let each = settings.isolation == Isolation::Request;
        let state = if each { module.state() } else { None };
        let facts = Arc::new(Facts::new(settings, abi, exports, shared));
        let index = INDEX.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            slot: pool::slot(),
            index,
            facts,
            module,
            linked,
            hooks,
            logs,
            state,
            confs: Mutex::default(),
        })
    }

    fn plugin(self: &Arc<Self>, bytes: Vec<u8>) -> Result<Arc<HttpPlugin>, Reason> {
        let mut confs = lock(&self.confs);
        if let Some(plugin) = confs.plugins.get(&bytes[..]).and_then(Weak::upgrade) {
            return Ok(plugin);
        }
        let bytes: Arc<[u8]> = bytes.into();
        let conf = Conf { index: confs.next_index, bytes: Arc::clone(&bytes) };
        Instance::start(self, None).map_err(Reason::Start)?.add_root(&conf)?;
        let plugin = Arc::new(HttpPlugin::new(Arc::clone(self), conf));
        confs.next_index += 1;
        confs.plugins.retain(|_, plugin| plugin.strong_count() > 0);
        confs.plugins.insert(bytes, Arc::downgrade(&plugin));
        Ok(plugin)
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("name", &self.facts.name).finish_non_exhaustive()
    }
}

/// A string goes to the guest byte for byte, an object as JSON.
fn conf_bytes(value: &Value) -> Result<Vec<u8>, &'static str> {
    match value.get("conf") {
        None => Err(NO_CONF),
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone().into_bytes()),
        Some(Value::Object(object)) if !object.is_empty() => {
            serde_json::to_vec(object).map_err(|_| BAD_CONF)
        }
        Some(_) => Err(BAD_CONF),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
