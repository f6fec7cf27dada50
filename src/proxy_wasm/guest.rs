//! The data of one instance's store: what host functions work on.

use super::abi::{Abi, Phase};
use super::calls::{CallKind, Calls};
use super::counters::AllCounters;
use super::exports::{Exports, Function};
use super::foreign::Expressions;
use super::node::Node;
use super::reply::Reply;
use super::root::root_id;
use super::settings::{PluginSettings, Source};
use super::shared::{Handle, Metrics, Namespace, Shared};
use super::visit::Visit;
use crate::limits;
use crate::plugin::{
    Errand, Message, PropertyTraits, ReplyTo, Root as RootTrait, Services, StreamKey,
};
use crate::stats::PluginCounters;
use crate::vm::{Fault, FaultKind, Limiter};
use rustc_hash::FxHashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use wasmtime::Memory;

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
    pub(super) exports: Exports,
    pub(super) settings: PluginSettings,
    pub(super) namespace: Arc<Namespace>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) counters: Arc<AllCounters>,
    pub(super) node: Arc<Node>,
}

impl Facts {
    pub(super) fn new(
        settings: PluginSettings,
        abi: Abi,
        exports: Exports,
        shared: &Shared,
    ) -> Self {
        Self {
            name: settings.name.as_str().into(),
            root_id: settings.root_id.as_deref().unwrap_or(&settings.name).into(),
            vm_id: settings.vm_id.as_str().into(),
            abi,
            exports,
            namespace: shared.namespace(&settings.vm_id),
            metrics: Arc::clone(&shared.metrics),
            counters: Arc::clone(&shared.counters),
            node: Arc::clone(&shared.node),
            settings,
        }
    }

    /// A fault in words, for the log.
    pub(super) fn what_happened(&self, fault: &Fault) -> String {
        match fault.kind {
            FaultKind::Trap => "trapped".to_owned(),
            FaultKind::Deadline => format!("passed {} ms", self.settings.deadline_ms),
            FaultKind::Memory => {
                format!("wanted more than {} MiB", self.settings.memory_bytes_max >> 20)
            }
            FaultKind::Exit(code) => format!("exited with code {code}"),
            FaultKind::Host => "failed".to_owned(),
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
    /// Where in a joined call it was set: elsewhere in the call, it holds no more.
    pub(super) step: i32,
    /// The callback may be one of several in this call.
    pub(super) joined: bool,
    /// The stream whose message is here, or 0.
    pub(super) stream: u32,
}

impl Frame {
    pub(super) const START: Self = Self {
        phase: Phase::Start,
        end_of_stream: false,
        current: 0,
        effective: 0,
        step: 0,
        joined: false,
        stream: 0,
    };

    /// A callback on a root context.
    pub(super) fn root(phase: Phase, context: u32) -> Self {
        Self { phase, current: context, ..Self::START }
    }

    /// A callback on a stream context, with its message.
    pub(super) fn stream(phase: Phase, context: u32, end_of_stream: bool) -> Self {
        Self { phase, end_of_stream, current: context, stream: context, ..Self::START }
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
    /// How often its ticks were set.
    pub(super) armed: u64,
    pub(super) ending: Ending,
    /// What `declare_property` said of values to be set.
    pub(super) declared: FxHashMap<Vec<u8>, PropertyTraits>,
}

impl Root {
    fn changes(&self) -> (u32, u32, u64, usize) {
        (self.id, self.tick_ms, self.armed, self.declared.len())
    }
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

/// What the host has of an instance that can be set back.
#[derive(Debug)]
pub(super) struct Mark {
    next_context: u32,
    /// Of each root context what can change: its id, its ticks, how often they were set, what it
    /// declared.
    roots: Vec<(u32, u32, u64, usize)>,
}

/// A live stream context.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamContext {
    pub(super) root: u32,
    /// How its exchange is reached while it waits.
    pub(super) key: Option<StreamKey>,
}

/// The data of a store.
pub(super) struct Guest {
    pub(super) facts: Arc<Facts>,
    pub(super) memory: Option<Memory>,
    /// The guest's allocator.
    pub(super) allocate: Option<Function<1, u32>>,
    pub(super) limiter: Limiter,
    pub(super) frame: Frame,
    pub(super) effects: Effects,
    /// The message of `frame.stream`; otherwise a spare one, so that a callback only swaps boxes.
    pub(super) message: Box<Message>,
    /// What is on its way to the guest. Kept for its memory.
    pub(super) scratch: Vec<u8>,
    pub(super) roots: Vec<Root>,
    /// Live stream contexts.
    pub(super) streams: FxHashMap<u32, StreamContext>,
    /// What the worker does for us; `None` on the control side.
    pub(super) services: Option<Rc<Services>>,
    /// Who gets our replies.
    me: Weak<dyn RootTrait>,
    /// Its number in its pool; 0: it does not work yet, so what it asks for waits in `held`.
    number: u32,
    held: Vec<Errand>,
    pub(super) calls: Calls,
    pub(super) reply: Reply,
    /// The waiting stream that the guest looks at.
    pub(super) visit: Option<Visit>,
    pub(super) spare_message: Option<Box<Message>>,
    /// Queues it registered, with its roots' confs: it is told of their items while it works.
    listens: Vec<(usize, u32)>,
    /// Metrics this instance has used, by id.
    pub(super) metrics: FxHashMap<u32, Handle>,
    /// Counts what happens in a pool's instance.
    pub(super) counters: Option<Arc<PluginCounters>>,
    pub(super) expressions: Expressions,
    next_context: u32,
    /// Ids have started again, so some may still be in use.
    wrapped: bool,
    /// It was told something, or did something, that would not be the same in another instance:
    /// the time, random numbers, what instances share.
    pub(super) has_met_world: bool,
    /// What the guest says at error level, while somebody listens.
    said: Option<Vec<String>>,
    /// Complaints about this instance's guest that were made already.
    complained: Vec<&'static str>,
}

impl Guest {
    pub(super) fn new(
        facts: Arc<Facts>,
        me: Weak<dyn RootTrait>,
        services: Option<Rc<Services>>,
    ) -> Self {
        let settings = &facts.settings;
        let limiter = Limiter::new(settings.memory_bytes_max, settings.table_elements_max);
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
            services,
            me,
            number: 0,
            held: Vec::new(),
            calls: Calls::default(),
            reply: Reply::default(),
            visit: None,
            spare_message: None,
            listens: Vec::new(),
            metrics: FxHashMap::default(),
            counters: None,
            expressions: Expressions::default(),
            next_context: 1,
            wrapped: false,
            has_met_world: false,
            said: None,
            complained: Vec::new(),
        }
    }

    /// Data for a store in which nothing runs.
    pub(super) fn nobody() -> Self {
        let settings = PluginSettings::new("", 0, Source::Bytes(Arc::default()));
        let facts = Facts::new(settings, Abi::V0_2_1, Exports::default(), &Shared::default());
        Self::new(Arc::new(facts), Weak::<super::host::Entry>::new(), None)
    }

    /// Keeps a buffer for what goes to the guest next, unless it is a large one.
    pub(super) fn keep_scratch(&mut self, mut bytes: Vec<u8>) {
        bytes.clear();
        bytes.shrink_to(limits::POOLED_BUFFER_BYTES_MAX);
        self.scratch = bytes;
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
        let id = self.streams.get(&context).map_or(context, |stream| stream.root);
        self.roots.iter_mut().find(|root| root.id == id)
    }

    /// What was declared of the value at a path, by the root context that host functions act for.
    pub(super) fn declared(&mut self, path: &[u8]) -> PropertyTraits {
        let declared = self.root().and_then(|root| root.declared.get(path));
        declared.copied().unwrap_or_default()
    }

    /// The message, if host functions act for the stream it belongs to.
    pub(super) fn stream_message(&self) -> Option<&Message> {
        if self.is_stream() {
            return Some(&self.message);
        }
        let visit = self.visit.as_ref().filter(|visit| visit.context == self.context());
        visit.map(|visit| &*visit.message)
    }

    /// The same, to change it.
    pub(super) fn stream_message_mut(&mut self) -> Option<&mut Message> {
        if self.is_stream() {
            return Some(&mut self.message);
        }
        let context = self.context();
        let visit = self.visit.as_mut().filter(|visit| visit.context == context);
        visit.map(|visit| &mut *visit.message)
    }

    /// The effects of the stream that host functions act for.
    pub(super) fn effects_mut(&mut self) -> &mut Effects {
        let is_visiting = self.is_visiting();
        match &mut self.visit {
            Some(visit) if is_visiting => &mut visit.effects,
            _ => &mut self.effects,
        }
    }

    /// Whether host functions act for another stream than the callback's own.
    pub(super) fn is_visiting(&self) -> bool {
        let context = self.context();
        !self.is_stream() && self.visit.as_ref().is_some_and(|visit| visit.context == context)
    }

    /// The phase whose rules hold for the stream that host functions act for.
    pub(super) fn phase(&self) -> Phase {
        match &self.visit {
            Some(visit) if self.is_visiting() => visit.phase(),
            _ => self.frame.phase,
        }
    }

    /// Whether the body or the trailers of that stream are all there.
    pub(super) fn is_at_end(&self) -> bool {
        self.frame.end_of_stream && self.is_stream()
    }

    /// Who gets the outcome of an errand, by a word of ours.
    pub(super) fn reply_to(&self, what: u32) -> ReplyTo {
        ReplyTo { root: Weak::clone(&self.me), id: root_id(self.number, what) }
    }

    /// Leaves an errand for the worker, now or when this instance is put to work. On the control
    /// side nothing is carried out: there a conf is only tried.
    pub(super) fn ask(&mut self, errand: Errand) {
        match &self.services {
            None => {}
            Some(services) if self.number != 0 => services.ask(errand),
            Some(_) => self.held.push(errand),
        }
    }

    /// Sets the next tick of a root context, or stops its ticks.
    pub(super) fn arm_tick(&mut self, root: u32) {
        let Some(root) = self.roots.iter_mut().find(|known| known.id == root) else { return };
        root.armed += 1;
        let (id, after_ms) = (root.id, u64::from(root.tick_ms));
        self.set_timer(id, after_ms);
    }

    /// A spare's ticks begin when it is put to work.
    fn set_timer(&mut self, root: u32, after_ms: u64) {
        if self.number != 0 {
            let to = self.reply_to(root);
            self.ask(Errand::Timer { to, after_ms });
        }
    }

    /// A root context is gone: so is what it waited for.
    pub(super) fn end_root(&mut self, id: u32) {
        let Some(at) = self.roots.iter().position(|root| root.id == id) else { return };
        let root = self.roots.remove(at);
        self.end_calls(Some(id));
        if root.tick_ms > 0 {
            self.set_timer(id, 0);
        }
        // The conf may be back already, with another root.
        if self.roots.iter().all(|other| other.conf_index != root.conf_index) {
            self.listens.retain(|(conf_index, _)| *conf_index != root.conf_index);
        }
    }

    /// Ends the calls of a root context, or all of them.
    fn end_calls(&mut self, root: Option<u32>) {
        for call in self.calls.drain(root) {
            if call.kind != CallKind::Http {
                self.ask(Errand::GrpcCancel { call: call.number });
            }
        }
    }

    /// Whether so many bytes more may be left for the worker to send.
    pub(super) fn may_send(&self, bytes: usize) -> bool {
        let pending = self.services.as_ref().map_or(0, |services| services.pending_bytes());
        let held: usize = self.held.iter().map(Errand::byte_len).sum();
        pending.saturating_add(held).saturating_add(bytes) <= limits::CALLOUT_BYTES_MAX
    }

    /// From now on this worker's active instance is told of items in the queue.
    pub(super) fn listen_to(&mut self, queue: u32) {
        let Some(conf_index) = self.root().map(|root| root.conf_index) else { return };
        if !self.listens.contains(&(conf_index, queue)) {
            self.listens.push((conf_index, queue));
        }
        if self.number != 0 {
            self.claim(conf_index, queue);
        }
    }

    fn claim(&self, conf_index: usize, queue: u32) {
        if let Some(services) = &self.services {
            let id = root_id(conf_index as u32, queue);
            let to = ReplyTo { root: Weak::clone(&self.me), id };
            self.facts.namespace.claim_queue(queue, Arc::clone(&services.mailbox), to);
        }
    }

    /// Whether a root context wants to be called although there is no request.
    pub(super) fn is_restless(&self) -> bool {
        !self.held.is_empty()
            || !self.listens.is_empty()
            || self.roots.iter().any(|root| root.tick_ms != 0)
    }

    /// The instance is put to work under a number: what it asked for before begins, if it is the
    /// one that works for the root contexts.
    pub(super) fn begin_work(&mut self, number: u32, for_roots: bool) {
        self.number = number;
        let held = std::mem::take(&mut self.held);
        if !for_roots {
            return;
        }
        for mut errand in held {
            if let Some(to) = errand.reply_to_mut() {
                to.id = root_id(number, to.id as u32);
            }
            self.ask(errand);
        }
        self.listens.iter().for_each(|(conf_index, queue)| self.claim(*conf_index, *queue));
        let ticking = self.roots.iter().filter(|root| root.tick_ms != 0).map(|root| root.id);
        for root in ticking.collect::<Vec<_>>() {
            self.arm_tick(root);
        }
    }

    /// What it is now, if every instance of its entry is the same then.
    pub(super) fn mark(&self) -> Option<Mark> {
        let roots = self.roots.iter().map(Root::changes).collect();
        let mark = Mark { next_context: self.next_context, roots };
        (!self.has_met_world && self.held.is_empty() && self.is_idle()).then_some(mark)
    }

    /// Sets it back to what it was, for another request; false if more has changed than what ends
    /// with a request.
    pub(super) fn rewind(&mut self, mark: &Mark) -> bool {
        let roots = self.roots.iter().map(Root::changes);
        if self.wrapped || !self.is_idle() || !roots.eq(mark.roots.iter().copied()) {
            return false;
        }
        self.next_context = mark.next_context;
        self.number = 0;
        self.held.clear();
        self.has_met_world = false;
        (self.frame, self.effects) = (Frame::START, Effects::default());
        self.limiter.take_refused();
        true
    }

    /// Whether nothing goes on in it, and nothing outlives a stream.
    fn is_idle(&self) -> bool {
        self.streams.is_empty()
            && self.calls.len() == 0
            && self.listens.is_empty()
            && self.visit.is_none()
            && self.expressions.are_none()
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

/// Calls and timers that nobody waits for any more end.
impl Drop for Guest {
    fn drop(&mut self) {
        self.end_calls(None);
        for root in std::mem::take(&mut self.roots) {
            if root.tick_ms > 0 {
                self.set_timer(root.id, 0);
            }
        }
    }
}
