//! The data of one instance's store: what host functions work on.

use super::abi::{Abi, Phase};
use super::foreign::Expressions;
use super::node::Node;
use super::settings::{PluginSettings, Source};
use super::shared::{Handle, Metrics, Namespace, Shared};
use crate::plugin::{Message, PropertyTraits};
use crate::vm::Limiter;
use rustc_hash::FxHashMap;
use std::rc::Rc;
use std::sync::Arc;
use wasmtime::{Memory, TypedFunc};

/// Lines kept of what a guest says while it is configured, for the error message.
const SAID_LINES_MAX: usize = 10;
const SAID_BYTES_MAX: usize = 400;

/// What all instances of one entry have in common.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) name: Box<str>,
    pub(super) root_id: Box<str>,
    pub(super) vm_id: Box<str>,
    pub(super) abi: Abi,
    pub(super) settings: PluginSettings,
    pub(super) namespace: Arc<Namespace>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) node: Arc<Node>,
}

impl Facts {
    pub(super) fn new(settings: PluginSettings, abi: Abi, shared: &Shared) -> Self {
        Self {
            name: settings.name.as_str().into(),
            root_id: settings.root_id.as_deref().unwrap_or(&settings.name).into(),
            vm_id: settings.vm_id.as_str().into(),
            abi,
            namespace: shared.namespace(&settings.vm_id),
            metrics: Arc::clone(&shared.metrics),
            node: Arc::clone(&shared.node),
            settings,
        }
    }
}

/// Which callback runs, for whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) phase: Phase,
    pub(super) end_of_stream: bool,
    /// The context called.
    pub(super) current: u32,
    /// The context set by `proxy_set_effective_context`, or 0.
    pub(super) effective: u32,
    /// The stream whose message is here, or 0.
    pub(super) stream: u32,
}

impl Frame {
    pub(super) const START: Self =
        Self { phase: Phase::Start, end_of_stream: false, current: 0, effective: 0, stream: 0 };

    /// A callback on a root context.
    pub(super) fn root(phase: Phase, context: u32) -> Self {
        Self { phase, current: context, ..Self::START }
    }

    /// A callback on a stream context, with its message.
    pub(super) fn stream(phase: Phase, context: u32, end_of_stream: bool) -> Self {
        Self { phase, end_of_stream, current: context, effective: 0, stream: context }
    }
}

/// What a callback asked for beside its return value; read when the guest has returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// `Message::local` is set.
    pub(super) respond: bool,
    /// `proxy_close_stream`.
    pub(super) close: bool,
}

/// One root context: one conf in this instance.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) id: u32,
    /// Which of the entry's confs.
    pub(super) conf_index: usize,
    /// Buffer 7 while it is configured.
    pub(super) conf: Arc<[u8]>,
    /// 0: no ticks.
    pub(super) tick_ms: u32,
    pub(super) ending: Ending,
    /// What `declare_property` said of values to be set.
    pub(super) declared: FxHashMap<Vec<u8>, PropertyTraits>,
}

/// The end of a root context's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Not yet.
    Live,
    /// `proxy_on_done` said no: the guest will call `proxy_done`.
    Pending,
    /// It did.
    Done,
}

/// The data of a store.
pub(super) struct Guest {
    pub(super) facts: Arc<Facts>,
    pub(super) memory: Option<Memory>,
    /// The guest's allocator: counted, so that a host function can hold it while it runs.
    pub(super) allocate: Option<Rc<TypedFunc<u32, u32>>>,
    pub(super) limiter: Limiter,
    pub(super) frame: Frame,
    pub(super) effects: Effects,
    /// The message of `frame.stream`; otherwise a spare one, so that a callback only swaps boxes.
    pub(super) message: Box<Message>,
    /// What is on its way to the guest. Kept for its memory.
    pub(super) scratch: Vec<u8>,
    pub(super) roots: Vec<Root>,
    /// Live stream contexts and their roots.
    pub(super) streams: FxHashMap<u32, u32>,
    /// Metrics this instance has used, by id.
    pub(super) metrics: FxHashMap<u32, Handle>,
    pub(super) expressions: Expressions,
    next_context: u32,
    /// Ids have started again, so some may still be in use.
    wrapped: bool,
    /// What the guest says at error level, while somebody listens.
    said: Option<Vec<String>>,
    /// Complaints about this instance's guest that were made already.
    complained: Vec<&'static str>,
}

impl Guest {
    pub(super) fn new(facts: Arc<Facts>) -> Self {
        let limiter = Limiter::new(facts.settings.memory_bytes_max);
        Self {
            facts,
            memory: None,
            allocate: None,
            limiter,
            frame: Frame::START,
            effects: Effects::default(),
            message: Box::default(),
            scratch: Vec::new(),
            roots: Vec::new(),
            streams: FxHashMap::default(),
            metrics: FxHashMap::default(),
            expressions: Expressions::default(),
            next_context: 1,
            wrapped: false,
            said: None,
            complained: Vec::new(),
        }
    }

    /// Data for a store in which nothing runs.
    pub(super) fn nobody() -> Self {
        let settings = PluginSettings::new("", 0, Source::Bytes(Arc::default()));
        Self::new(Arc::new(Facts::new(settings, Abi::V0_2_1, &Shared::default())))
    }

    /// The context host functions act for (ABI reference §5).
    pub(super) fn context(&self) -> u32 {
        if self.frame.effective != 0 { self.frame.effective } else { self.frame.current }
    }

    /// Whether a context of that id lives. 0 is the guest itself.
    pub(super) fn is_live(&self, context: u32) -> bool {
        context == 0
            || self.streams.contains_key(&context)
            || self.roots.iter().any(|root| root.id == context)
    }

    /// The root context of the context host functions act for.
    pub(super) fn root(&mut self) -> Option<&mut Root> {
        let context = self.context();
        let id = self.streams.get(&context).copied().unwrap_or(context);
        self.roots.iter_mut().find(|root| root.id == id)
    }

    /// What was declared of the value at a path, by the root context that host functions act for.
    pub(super) fn declared(&mut self, path: &[u8]) -> PropertyTraits {
        let declared = self.root().and_then(|root| root.declared.get(path));
        declared.copied().unwrap_or_default()
    }

    /// The message, if host functions act for the stream it belongs to.
    pub(super) fn stream_message(&self) -> Option<&Message> {
        self.is_stream().then_some(&*self.message)
    }

    /// The same, to change it.
    pub(super) fn stream_message_mut(&mut self) -> Option<&mut Message> {
        self.is_stream().then_some(&mut *self.message)
    }

    fn is_stream(&self) -> bool {
        self.frame.stream != 0 && self.context() == self.frame.stream
    }

    /// The route is chosen again when the guest has returned. Where there is no stream there is
    /// nothing to choose (as in Envoy, that is no error).
    pub(super) fn clear_route_cache(&mut self) {
        if let Some(message) = self.stream_message_mut() {
            message.clear_route = true;
        }
    }

    /// An id that no live context has: they count up, and after 4 billion start again.
    pub(super) fn new_context(&mut self) -> u32 {
        loop {
            let id = self.next_context;
            match id.checked_add(1) {
                Some(next) => self.next_context = next,
                None => (self.next_context, self.wrapped) = (1, true),
            }
            if !self.wrapped || !self.is_live(id) {
                return id;
            }
        }
    }

    /// Writes a line of the guest's.
    pub(super) fn say(&mut self, level: log::Level, text: &[u8]) {
        if level <= log::max_level() {
            let text = String::from_utf8_lossy(text);
            log::log!(target: "wasm", level, "[{}] {text}", self.facts.name);
        }
        if let Some(said) = &mut self.said
            && level == log::Level::Error
            && said.len() < SAID_LINES_MAX
        {
            let end = text.len().min(SAID_BYTES_MAX);
            said.push(String::from_utf8_lossy(&text[..end]).into_owned());
        }
    }

    /// Keeps what the guest says at error level from now on.
    pub(super) fn listen(&mut self) {
        self.said = Some(Vec::new());
    }

    /// What it said.
    pub(super) fn heard(&mut self) -> Vec<String> {
        self.said.take().unwrap_or_default()
    }

    /// Logs a complaint about this guest, once per instance.
    pub(super) fn complain_once(&mut self, what: &'static str) {
        if !self.complained.contains(&what) {
            self.complained.push(what);
            log::warn!(target: "wasm", "[{}] {what}", self.facts.name);
        }
    }
}
