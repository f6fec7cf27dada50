//! One instance of a plugin's module: its start, its root contexts, its streams' callbacks.

use super::abi::{Abi, Phase};
use super::error::Reason;
use super::exports::{Callbacks, Close, Export, Exports, Function, Headers, Open, Returned, find};
use super::guest::{Effects, Ending, Frame, Guest, Mark, Root, StreamContext};
use super::header_map::Map;
use super::host::{Conf, Entry};
use crate::plugin::{Action, Hold, Message, Services, StreamKey};
use crate::stats::PluginCounters;
use crate::vm::{Fault, FaultKind, Kept, deadline_ticks};
use rustc_hash::FxHashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use wasmtime::Store;

/// What starting and configuring may take. Go programs need a tenth of a second to start here.
const START_MS: u64 = 10_000;

/// An instance that was started. After a fault it must not be called again.
pub(super) struct Instance {
    store: Store<Guest>,
    /// Where exports are found that are called rarely, so each time anew: an instance for each
    /// request should not pay for them.
    instance: wasmtime::Instance,
    callbacks: Callbacks,
    deadline: u64,
    /// Root contexts by conf index; 0 where there is none.
    root_ids: Vec<u32>,
    /// What it can be set back to, and what its host side was then.
    kept: Option<Box<(Kept, Mark)>>,
    /// It has changed since it was last looked at whether it can be kept.
    is_new: bool,
}

impl Instance {
    /// Instantiates and starts a module (ABI reference §2.1 and §2.2).
    pub(super) fn start(
        entry: &Arc<Entry>,
        services: Option<&Rc<Services>>,
    ) -> Result<Self, Fault> {
        let engine = entry.module.engine().wasmtime();
        let me = Arc::downgrade(entry);
        let guest = Guest::new(Arc::clone(&entry.facts), me, services.map(Rc::clone));
        let mut store = Store::new(engine, guest);
        store.limiter(|guest| &mut guest.limiter);
        store.set_epoch_deadline(deadline_ticks(START_MS));
        let linked = entry.linked.instantiate(&mut store);
        let instance = linked.map_err(|error| fault(&mut store, &error))?;
        let exports = &entry.facts.exports;
        let callbacks = Callbacks::of(exports, &mut store, instance);
        let memory = exports.memory(&mut store, instance);
        let allocate = find(&exports.allocate, &mut store, instance);
        let guest = store.data_mut();
        (guest.memory, guest.allocate) = (memory, allocate);
        initialize(&mut store, instance, exports)?;
        let deadline = deadline_ticks(entry.facts.settings.deadline_ms);
        let (root_ids, kept) = (Vec::new(), None);
        Ok(Self { store, instance, callbacks, deadline, root_ids, kept, is_new: true })
    }

    /// Creates, starts and configures the root context of a conf. Its id.
    pub(super) fn add_root(&mut self, conf: &Conf) -> Result<u32, Reason> {
        self.forget();
        let guest = self.store.data_mut();
        let id = guest.new_context();
        guest.roots.push(Root {
            id,
            conf_index: conf.index,
            conf: Arc::clone(&conf.bytes),
            tick_ms: 0,
            armed: 0,
            ending: Ending::Live,
            declared: FxHashMap::default(),
        });
        guest.listen();
        let vm_config_len = guest.facts.settings.vm_config.len() as u32;
        let configured = self.configure(id, vm_config_len, conf.bytes.len() as u32);
        let said = self.store.data_mut().heard();
        match configured {
            Ok(None) => {
                self.set_root(conf.index, id);
                Ok(id)
            }
            Ok(Some(callback)) => {
                self.store.data_mut().roots.retain(|root| root.id != id);
                Err(Reason::Refused { callback, said })
            }
            Err(fault) => Err(Reason::Configure { fault, said }),
        }
    }

    /// The callback that said no, if one did.
    fn configure(
        &mut self,
        id: u32,
        vm_config_len: u32,
        conf_len: u32,
    ) -> Result<Option<&'static str>, Fault> {
        let (store, ticks) = (&mut self.store, deadline_ticks(START_MS));
        let frame = Frame::root(Phase::Configure, id);
        call(store, &self.callbacks.context_create, frame, ticks, [id, 0])?;
        let params = [id, vm_config_len];
        if call(store, &self.callbacks.vm_start, frame, ticks, params)? == Some(0) {
            return Ok(Some("proxy_on_vm_start"));
        }
        let params = [id, conf_len];
        if call(store, &self.callbacks.configure, frame, ticks, params)? == Some(0) {
            return Ok(Some("proxy_on_configure"));
        }
        Ok(None)
    }

    /// The root context of a conf, if it has been made.
    pub(super) fn root_of(&self, conf: &Conf) -> Option<u32> {
        self.root_ids.get(conf.index).copied().filter(|id| *id != 0)
    }

    /// The root context of a conf, made now if there is none. Its id.
    pub(super) fn ensure_root(&mut self, conf: &Conf) -> Result<u32, Reason> {
        match self.root_of(conf) {
            Some(root) => Ok(root),
            None => self.add_root(conf),
        }
    }

    fn set_root(&mut self, conf_index: usize, id: u32) {
        if self.root_ids.len() <= conf_index {
            self.root_ids.resize(conf_index + 1, 0);
        }
        self.root_ids[conf_index] = id;
    }

    /// Whether it has a root context for each of these confs and for no other.
    pub(super) fn has_roots_of(
        &self,
        mut conf_indices: impl ExactSizeIterator<Item = usize>,
    ) -> bool {
        conf_indices.len() == self.store.data().roots.len()
            && conf_indices.all(|index| self.root_ids.get(index).is_some_and(|id| *id != 0))
    }

    /// Keeps what it is, to be set back to it after each request, if any other instance would be
    /// the same: it has met nothing yet but its module, its settings and its confs.
    pub(super) fn keep(&mut self, entry: &Entry) {
        if !std::mem::take(&mut self.is_new) {
            return;
        }
        let Some(state) = &entry.state else { return };
        let Some(mark) = self.store.data().mark() else { return };
        let kept = state.keep(&mut self.store, self.instance);
        self.kept = kept.map(|kept| Box::new((kept, mark)));
    }

    /// Whether it can be set back.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// It is another one now than the one that was kept.
    fn forget(&mut self) {
        (self.kept, self.is_new) = (None, true);
    }

    /// Sets it back to what was kept. If that is not possible, it must not be used any more.
    #[must_use]
    pub(super) fn rewind(&mut self) -> bool {
        let Some((kept, mark)) = self.kept.as_deref_mut() else { return false };
        self.store.data_mut().rewind(mark) && kept.rewind(&mut self.store)
    }

    /// Counts its calls there from now on.
    pub(super) fn count_in(&mut self, counters: &Arc<PluginCounters>) {
        counters.started.up();
        self.store.data_mut().counters = Some(Arc::clone(counters));
    }

    /// The most linear memory it ever had.
    pub(super) fn memory_bytes_high(&self) -> u64 {
        self.store.data().limiter.memory_bytes_high() as u64
    }

    /// Swaps the stream's message with the one in the store: before a callback and after.
    pub(super) fn swap(&mut self, message: &mut Box<Message>) {
        std::mem::swap(&mut self.store.data_mut().message, message);
    }

    /// Makes a stream context under a root. Its id. The message is swapped in.
    pub(super) fn open_stream(&mut self, root: u32, key: Option<StreamKey>) -> Result<u32, Fault> {
        let id = self.new_stream(root, key);
        let frame = Frame::stream(Phase::RequestHeaders, id, false);
        call(&mut self.store, &self.callbacks.context_create, frame, self.deadline, [id, root])?;
        Ok(id)
    }

    fn new_stream(&mut self, root: u32, key: Option<StreamKey>) -> u32 {
        let guest = self.store.data_mut();
        let id = guest.new_context();
        guest.streams.insert(id, StreamContext { root, key });
        guest.effects = Effects::default();
        id
    }

    /// Makes a stream context under a root and shows it the request's headers, as
    /// [`Self::open_stream`] and [`Self::on`] do. Its id, and what the exchange does.
    pub(super) fn enter_stream(
        &mut self,
        root: u32,
        key: Option<StreamKey>,
        end: bool,
    ) -> Result<(u32, Action), Fault> {
        let phase = Phase::RequestHeaders;
        // Before the context is made, which may add some: joined, nothing is counted in between.
        let count = Map::RequestHeaders.len(&self.store.data().message);
        let id = self.new_stream(root, key);
        let frame = Frame::stream(phase, id, end);
        let (store, deadline) = (&mut self.store, self.deadline);
        let returned = match self.callbacks.open {
            Open::Two(function) => {
                Some(run_joined(store, (&function, 2), frame, deadline, [id, root, count])?)
            }
            Open::Three(function) => {
                let params = [id, root, count, end.into()];
                Some(run_joined(store, (&function, 2), frame, deadline, params)?)
            }
            Open::Apart => {
                call(store, &self.callbacks.context_create, frame, deadline, [id, root])?;
                headers(store, &self.callbacks.request_headers, frame, deadline, count)?
            }
        };
        Ok((id, self.action(phase, returned)))
    }

    /// Runs the callback of a phase. The message is swapped in.
    pub(super) fn on(&mut self, phase: Phase, id: u32, end: bool) -> Result<Action, Fault> {
        let (store, deadline) = (&mut self.store, self.deadline);
        let frame = Frame::stream(phase, id, end);
        // What the guest asked for while the stream was made belongs to its first callback.
        if phase != Phase::RequestHeaders {
            store.data_mut().effects = Effects::default();
        }
        let returned = match phase {
            Phase::RequestHeaders => {
                let count = Map::RequestHeaders.len(&store.data().message);
                headers(store, &self.callbacks.request_headers, frame, deadline, count)?
            }
            Phase::ResponseHeaders => {
                let count = Map::ResponseHeaders.len(&store.data().message);
                headers(store, &self.callbacks.response_headers, frame, deadline, count)?
            }
            Phase::RequestBody => body(store, &self.callbacks.request_body, frame, deadline)?,
            Phase::ResponseBody => body(store, &self.callbacks.response_body, frame, deadline)?,
            Phase::RequestTrailers => {
                let count = store.data().message.request.trailers.len() as u32;
                self.call_rare(|exports| &exports.request_trailers, frame, [id, count])?
            }
            Phase::ResponseTrailers => {
                let count = store.data().message.response.trailers.len() as u32;
                self.call_rare(|exports| &exports.response_trailers, frame, [id, count])?
            }
            Phase::Start | Phase::Configure | Phase::Root | Phase::Log => None,
        };
        Ok(self.action(phase, returned))
    }

    /// Ends a stream context: done, log, delete. What done returns makes no difference to a stream.
    pub(super) fn close_stream(&mut self, id: u32) -> Result<(), Fault> {
        let (store, deadline) = (&mut self.store, self.deadline);
        let frame = Frame::stream(Phase::Log, id, true);
        match &self.callbacks.close {
            Close::Joined(function, calls) => {
                run_joined(store, (function, *calls), frame, deadline, [id])?;
            }
            Close::Apart { done, log, delete } => {
                call(store, done, frame, deadline, [id])?;
                call(store, log, frame, deadline, [id])?;
                call(store, delete, frame, deadline, [id])?;
            }
        }
        store.data_mut().streams.remove(&id);
        Ok(())
    }

    /// Ends the root contexts whose conf nobody uses any more; true if some must wait for their
    /// streams or for the guest.
    pub(super) fn retire_roots(&mut self, in_use: impl Fn(usize) -> bool) -> Result<bool, Fault> {
        let guest = self.store.data();
        // A conf that came back has another root context than the one that is ending.
        let is_current = |root: &Root| self.root_ids.get(root.conf_index) == Some(&root.id);
        let unused =
            guest.roots.iter().filter(|root| !in_use(root.conf_index) || !is_current(root));
        let unused: Vec<_> = unused.map(|root| (root.id, root.ending, root.conf_index)).collect();
        if !unused.is_empty() {
            self.forget();
        }
        let mut waiting = false;
        for (id, ending, conf_index) in unused {
            if self.root_ids.get(conf_index) == Some(&id) {
                self.set_root(conf_index, 0);
            }
            let has_streams = self.store.data().streams.values().any(|stream| stream.root == id);
            waiting |= has_streams || !self.end_root(id, ending)?;
        }
        Ok(waiting)
    }

    /// One step: ask whether it is done, later see whether it said so, then delete it. True once it
    /// is deleted.
    fn end_root(&mut self, id: u32, ending: Ending) -> Result<bool, Fault> {
        let frame = Frame::root(Phase::Root, id);
        let waits = match ending {
            Ending::Live => self.call_rare(|exports| &exports.done, frame, [id])? == Some(0),
            Ending::Pending => true,
            Ending::Done => false,
        };
        if waits {
            let mut roots = self.store.data_mut().roots.iter_mut();
            if let Some(root) = roots.find(|root| root.id == id && root.ending == Ending::Live) {
                root.ending = Ending::Pending;
            }
            return Ok(false);
        }
        self.call_rare(|exports| &exports.delete, frame, [id])?;
        self.store.data_mut().end_root(id);
        Ok(true)
    }

    /// What a callback on a root context may look at and change.
    pub(super) fn guest(&mut self) -> &mut Guest {
        self.store.data_mut()
    }

    /// Calls an export that few requests or none call, if there is one.
    pub(super) fn call_rare<const N: usize, R: Returned>(
        &mut self,
        export: impl FnOnce(&Exports) -> &Option<Export<N, R>>,
        frame: Frame,
        params: [u32; N],
    ) -> Result<Option<R>, Fault> {
        let facts = Arc::clone(&self.store.data().facts);
        let callback = find(export(&facts.exports), &mut self.store, self.instance);
        call(&mut self.store, &callback, frame, self.deadline, params)
    }

    /// The streams that wait or run in this instance.
    pub(super) fn stream_keys(&self) -> Vec<StreamKey> {
        self.store.data().streams.values().filter_map(|stream| stream.key).collect()
    }

    /// It is put to work ([`Guest::begin_work`]).
    pub(super) fn begin_work(&mut self, number: u32, for_roots: bool) {
        self.store.data_mut().begin_work(number, for_roots);
    }

    /// Whether it wants to be called although there is no request.
    pub(super) fn is_restless(&self) -> bool {
        self.store.data().is_restless()
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 5] {
        let guest = self.store.data();
        let streams = [guest.streams.len(), guest.streams.capacity()];
        [streams[0], streams[1], guest.scratch.capacity(), guest.roots.len(), self.root_ids.len()]
    }

    /// What the exchange does after a callback (ABI reference §9). A local response or a close
    /// overrides what was returned.
    fn action(&mut self, phase: Phase, returned: Option<u32>) -> Action {
        let guest = self.store.data_mut();
        match (guest.effects, returned) {
            (Effects { close: true, .. }, _) => Action::Close,
            (Effects { respond: true, .. }, _) => Action::Respond,
            (_, None | Some(0)) => Action::Continue,
            (_, Some(returned)) => match phase {
                Phase::RequestHeaders | Phase::ResponseHeaders => headers_action(guest, returned),
                Phase::RequestBody | Phase::ResponseBody => body_action(guest, returned),
                _ => Action::Pause(Hold::All),
            },
        }
    }
}

/// 1 holds as the plugin's settings say, 2 (continue and end) is Continue in Envoy too, others hold
/// everything.
fn headers_action(guest: &Guest, returned: u32) -> Action {
    match returned {
        1 if guest.facts.abi == Abi::V0_2_100 => Action::Pause(Hold::Body),
        1 => Action::Pause(guest.facts.settings.pause),
        2 => Action::Continue,
        _ => Action::Pause(Hold::All),
    }
}

/// 1 and 2 keep what came so far; with anything else the guest has taken the bytes to itself.
fn body_action(guest: &mut Guest, returned: u32) -> Action {
    if returned > 2 {
        guest.message.body.clear();
    }
    Action::Pause(Hold::Body)
}

fn headers(
    store: &mut Store<Guest>,
    callback: &Headers,
    frame: Frame,
    deadline: u64,
    count: u32,
) -> Result<Option<u32>, Fault> {
    let id = frame.current;
    let returned = match callback {
        Headers::None => return Ok(None),
        Headers::Two(function) => run(store, function, frame, deadline, [id, count]),
        Headers::Three(function) => {
            run(store, function, frame, deadline, [id, count, frame.end_of_stream.into()])
        }
    };
    returned.map(Some)
}

fn body(
    store: &mut Store<Guest>,
    callback: &Option<Function<3, u32>>,
    frame: Frame,
    deadline: u64,
) -> Result<Option<u32>, Fault> {
    let len = u32::try_from(store.data().message.body.len()).unwrap_or(u32::MAX);
    call(store, callback, frame, deadline, [frame.current, len, frame.end_of_stream.into()])
}

/// Calls an export if the guest has it.
fn call<const N: usize, R: Returned>(
    store: &mut Store<Guest>,
    function: &Option<Function<N, R>>,
    frame: Frame,
    deadline: u64,
    params: [u32; N],
) -> Result<Option<R>, Fault> {
    match function {
        Some(function) => run(store, function, frame, deadline, params).map(Some),
        None => Ok(None),
    }
}

fn run<const N: usize, R: Returned>(
    store: &mut Store<Guest>,
    function: &Function<N, R>,
    frame: Frame,
    deadline: u64,
    params: [u32; N],
) -> Result<R, Fault> {
    run_joined(store, (function, 1), frame, deadline, params)
}

/// The same for a function that makes so many calls. They share the frame and the deadline.
#[inline]
fn run_joined<const N: usize, R: Returned>(
    store: &mut Store<Guest>,
    (function, calls): (&Function<N, R>, u64),
    frame: Frame,
    deadline: u64,
    params: [u32; N],
) -> Result<R, Fault> {
    let guest = store.data_mut();
    guest.frame = Frame { joined: calls > 1, ..frame };
    guest.limiter.take_refused();
    let is_timed = guest.counters.as_ref().is_some_and(|counters| counters.begin_calls(calls));
    let start = is_timed.then(Instant::now);
    store.set_epoch_deadline(deadline);
    let returned = function.call(&mut *store, params);
    if let (Some(start), Some(counters)) = (start, &store.data().counters) {
        let ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        counters.end_timed(calls, ns);
    }
    if store.data().visit.is_some() {
        store.data_mut().end_visit();
    }
    returned.map_err(|error| fault(store, &error))
}

#[cold]
fn fault(store: &mut Store<Guest>, error: &wasmtime::Error) -> Fault {
    Fault::new(error, store.data_mut().limiter.take_refused())
}

/// `_initialize` and then `main`, or `_start`: whichever the toolchain made. A command that exits
/// with 0 has started well.
fn initialize(
    store: &mut Store<Guest>,
    instance: wasmtime::Instance,
    exports: &Exports,
) -> Result<(), Fault> {
    let ticks = deadline_ticks(START_MS);
    let reactor = find(&exports.initialize, store, instance);
    if reactor.is_none() {
        let command = find(&exports.start, store, instance);
        return match call(store, &command, Frame::START, ticks, []) {
            Err(Fault { kind: FaultKind::Exit(0), .. }) => Ok(()),
            other => other.map(|_| ()),
        };
    }
    call(store, &reactor, Frame::START, ticks, [])?;
    let main = find(&exports.main, store, instance);
    if main.is_some() {
        return call(store, &main, Frame::START, ticks, [0, 0]).map(|_| ());
    }
    let main = find(&exports.main_void, store, instance);
    call(store, &main, Frame::START, ticks, []).map(|_| ())
}
