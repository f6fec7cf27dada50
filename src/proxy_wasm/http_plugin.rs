//! A plugin of a route's chain whose callbacks run in a guest.

use super::abi::Phase;
use super::host::{Conf, Entry};
use super::instance::Instance;
use super::pool::{self, Place};
use super::settings::OnError;
use super::upkeep::Gate;
use crate::http::BodyLength;
use crate::plugin::{Action, Hold, Hooks, Locals, Message, Plugin, Stream, StreamKey};
use crate::vm::Fault;
use std::sync::Arc;

/// The answer to a request whose plugin failed.
const FAILED_STATUS: u16 = 503;

/// How often a request that waits for an instance looks whether there is one.
const WAIT_STEP_MS: u64 = 1;

/// Envoy's word for it.
const FAILED_DETAILS: &[u8] = b"wasm_fail_stream";

/// One entry with one conf.
#[derive(Debug)]
pub(super) struct HttpPlugin {
    entry: Arc<Entry>,
    conf: Arc<Conf>,
}

impl HttpPlugin {
    pub(super) fn new(entry: Arc<Entry>, conf: Conf) -> Self {
        Self { entry, conf: Arc::new(conf) }
    }

    /// The conf.
    pub(super) fn conf(&self) -> Arc<Conf> {
        Arc::clone(&self.conf)
    }

    /// Runs the callback of a phase for a stream that this plugin has seen before.
    fn run(&self, stream: &mut Stream<'_>, phase: Phase, end_of_stream: bool) -> Action {
        let place = Place::from_word(*stream.state);
        if !place.is_inside() {
            return Action::Continue;
        }
        let found = pool::find(stream.locals, &self.entry).and_then(|pool| pool.of(place));
        let Some(instance) = found else { return self.fail(stream, phase) };
        instance.swap(stream.message);
        let done = instance.on(phase, place.context(), end_of_stream);
        instance.swap(stream.message);
        match done {
            Ok(action) => action,
            Err(fault) => self.fault(stream, place, phase, &fault),
        }
    }

    /// Finds an instance and lets `open` make the stream's context in it, under the root that is
    /// given to it.
    fn begin<T>(
        &self,
        stream: &mut Stream<'_>,
        open: impl FnOnce(&mut Instance, u32, Option<StreamKey>) -> Result<(u32, T), Fault>,
    ) -> Result<T, (Place, Fault)> {
        let (now_ms, key) = (stream.locals.now_ms, stream.key);
        let Some(pool) = pool::find(stream.locals, &self.entry) else {
            pool::make(stream.locals, &self.entry);
            return self.begin(stream, open);
        };
        let admitted = pool.admit(&self.entry, &self.conf, now_ms);
        let (number, root) = admitted.map_err(|fault| (Place::NEW, fault))?;
        let nowhere = || (Place::NEW, Fault::host("no instance"));
        let instance = pool.instance(number).ok_or_else(nowhere)?;
        instance.swap(stream.message);
        let opened = open(instance, root, key);
        instance.swap(stream.message);
        let (context, done) = opened.map_err(|fault| (Place::new(number, 0), fault))?;
        *stream.state = Place::new(number, context).word();
        Ok(done)
    }

    /// Brings a request to an instance, or lets it wait for one.
    fn enter(&self, stream: &mut Stream<'_>, end_of_stream: bool) -> Action {
        let phase = Phase::RequestHeaders;
        match self.gate(stream) {
            Gate::Open => {}
            Gate::Wait => return Action::Pause(Hold::Sleep(WAIT_STEP_MS)),
            Gate::Shut => return self.fail(stream, phase),
        }
        let begun = self
            .begin(stream, |instance, root, key| instance.enter_stream(root, key, end_of_stream));
        begun.unwrap_or_else(|(at, fault)| self.fault(stream, at, phase, &fault))
    }

    /// Whether a stream may come in; keeps how long it waits.
    fn gate(&self, stream: &mut Stream<'_>) -> Gate {
        let (now_ms, place) = (stream.locals.now_ms, Place::from_word(*stream.state));
        let Some(pool) = pool::find(stream.locals, &self.entry) else { return Gate::Open };
        let mut gate = pool.gate(&self.entry, now_ms, !place.waits());
        if gate == Gate::Open && !place.waits() {
            return gate;
        }
        let counters = &pool.upkeep.counters;
        if gate == Gate::Wait && place.waits() && place.has_waited(now_ms) {
            counters.dry_refused.up();
            gate = Gate::Shut;
        }
        if gate == Gate::Wait && !place.waits() {
            counters.waiting.up();
            let wait_ms = self.entry.facts.settings.wait_ms;
            *stream.state = Place::waiting(now_ms + wait_ms).word();
        }
        if gate != Gate::Wait && place.waits() {
            counters.waiting.down();
            *stream.state = Place::NEW.word();
        }
        stream.locals.wants_chores = true;
        gate
    }

    /// Whether a request that is over already could still be shown to an instance.
    fn has_room(&self, stream: &mut Stream<'_>) -> bool {
        let now_ms = stream.locals.now_ms;
        let pool = pool::find(stream.locals, &self.entry);
        pool.is_none_or(|pool| pool.gate(&self.entry, now_ms, true) == Gate::Open)
    }

    /// Ends a stream where it is; its instance too, if that was its alone.
    fn end(&self, stream: &mut Stream<'_>, place: Place) -> Result<(), (Place, Fault)> {
        let Some(pool) = pool::find(stream.locals, &self.entry) else { return Ok(()) };
        let Some(instance) = pool.of(place) else { return Ok(()) };
        instance.swap(stream.message);
        let closed = instance.close_stream(place.context());
        instance.swap(stream.message);
        if closed.is_ok() {
            let was_its_alone = pool.release(place);
            pool.count_success();
            stream.locals.wants_chores |= was_its_alone;
        }
        closed.map_err(|fault| (place, fault))
    }

    /// A call failed: its instance is dropped, and the stream with it.
    #[cold]
    fn fault(&self, stream: &mut Stream<'_>, at: Place, phase: Phase, fault: &Fault) -> Action {
        self.log_fault(stream.message, phase, fault);
        let now_ms = stream.locals.now_ms;
        stream.locals.wants_chores = true;
        if let Some(pool) = pool::find(stream.locals, &self.entry) {
            pool.count_failure(&self.entry, now_ms, fault.kind);
            pool.drop_instance(at.number());
        }
        self.fail(stream, phase)
    }

    /// The plugin can do nothing more for this stream.
    #[cold]
    fn fail(&self, stream: &mut Stream<'_>, phase: Phase) -> Action {
        *stream.state = Place::GONE.word();
        if self.entry.facts.settings.on_error == OnError::Open {
            return Action::Continue;
        }
        if phase == Phase::Log {
            return Action::Continue;
        }
        stream.message.respond(FAILED_STATUS, None);
        stream.message.local.details.extend_from_slice(FAILED_DETAILS);
        Action::Respond
    }

    fn log_fault(&self, message: &Message, phase: Phase, fault: &Fault) {
        let facts = &self.entry.facts;
        let what = facts.what_happened(fault);
        let route = message.route.as_deref().map_or("none", |route| &route.route_id);
        let (name, callback) = (&facts.name, phase.callback());
        let request = match message.request.headers.get(b"x-request-id") {
            Some(id) => String::from_utf8_lossy(id).into_owned(),
            None => message.request_number.to_string(),
        };
        log::error!(
            target: "wasm",
            "[{name}] {callback} {what} (route {route}, request {request}): {fault}"
        );
    }
}

impl Plugin for HttpPlugin {
    fn name(&self) -> &str {
        &self.entry.facts.name
    }

    fn hooks(&self) -> Hooks {
        self.entry.hooks
    }

    fn is_per_worker(&self) -> bool {
        true
    }

    fn held_bytes_max(&self) -> usize {
        self.entry.facts.settings.body_bytes_max
    }

    fn prepare(&self, locals: &mut Locals) -> Result<(), String> {
        let Some(pool) = pool::find(locals, &self.entry) else {
            pool::make(locals, &self.entry);
            return self.prepare(locals);
        };
        pool.prepare(&self.entry, &self.conf).map_err(|reason| reason.to_string())
    }

    fn maintain(&self, locals: &mut Locals) {
        let now_ms = locals.now_ms;
        if let Some(pool) = pool::find(locals, &self.entry) {
            pool.maintain(&self.entry, now_ms);
        }
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, end_of_stream: bool) -> Action {
        self.enter(stream, end_of_stream)
    }

    /// It waited for an instance a moment longer.
    fn on_due(&self, stream: &mut Stream<'_>) -> Action {
        if !Place::from_word(*stream.state).waits() {
            return Action::Continue;
        }
        let end_of_stream = stream.message.request.body == BodyLength::None;
        self.enter(stream, end_of_stream)
    }

    fn on_request_body(&self, stream: &mut Stream<'_>, end_of_stream: bool) -> Action {
        self.run(stream, Phase::RequestBody, end_of_stream)
    }

    fn on_request_trailers(&self, stream: &mut Stream<'_>) -> Action {
        self.run(stream, Phase::RequestTrailers, true)
    }

    fn on_response_headers(&self, stream: &mut Stream<'_>, end_of_stream: bool) -> Action {
        self.run(stream, Phase::ResponseHeaders, end_of_stream)
    }

    fn on_response_body(&self, stream: &mut Stream<'_>, end_of_stream: bool) -> Action {
        self.run(stream, Phase::ResponseBody, end_of_stream)
    }

    fn on_response_trailers(&self, stream: &mut Stream<'_>) -> Action {
        self.run(stream, Phase::ResponseTrailers, true)
    }

    /// The instance was dropped while the stream waited.
    fn on_lost(&self, stream: &mut Stream<'_>) -> Action {
        if !Place::from_word(*stream.state).is_inside() {
            return Action::Continue;
        }
        self.fail(stream, Phase::RequestHeaders)
    }

    /// Done, log, delete. A request that ended before it came to this plugin is shown only to
    /// guests that log, as in Envoy: they get a context for just that.
    fn on_log(&self, stream: &mut Stream<'_>) {
        let place = Place::from_word(*stream.state);
        let ended = match place {
            Place::GONE => return,
            place if place.waits() => {
                // Its client has gone.
                if let Some(pool) = pool::find(stream.locals, &self.entry) {
                    pool.upkeep.counters.waiting.down();
                }
                return;
            }
            Place::NEW if !self.entry.logs || !self.has_room(stream) => return,
            Place::NEW => self.begin(stream, |instance, root, key| {
                let id = instance.open_stream(root, key)?;
                instance.close_stream(id).map(|()| (id, ()))
            }),
            place => self.end(stream, place),
        };
        if let Err((at, fault)) = ended {
            self.fault(stream, at, Phase::Log, &fault);
        } else if place == Place::NEW
            && let Some(pool) = pool::find(stream.locals, &self.entry)
        {
            let was_its_alone = pool.release(Place::from_word(*stream.state));
            stream.locals.wants_chores |= was_its_alone;
        }
        *stream.state = Place::GONE.word();
    }
}
