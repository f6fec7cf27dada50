//! A plugin of a route's chain whose callbacks run in a guest.

use super::abi::Phase;
use super::host::{Conf, Entry};
use super::pool::{self, Place};
use super::settings::OnError;
use crate::plugin::{Action, Hooks, Locals, Message, Plugin, Stream};
use crate::vm::{Fault, FaultKind};
use std::sync::Arc;

/// The answer to a request whose plugin failed.
const FAILED_STATUS: u16 = 503;

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

    /// Runs the callback of a phase for a stream that this plugin has seen before.
    fn run(&self, stream: &mut Stream<'_>, phase: Phase, end_of_stream: bool) -> Action {
        let place = Place::from_word(*stream.state);
        if place == Place::NEW || place == Place::GONE {
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

    /// Finds an instance and makes the stream's context in it.
    fn open(&self, stream: &mut Stream<'_>) -> Result<Place, (Option<Place>, Fault)> {
        let now_ms = stream.locals.now_ms;
        let pool = pool::find_or_make(stream.locals, &self.entry);
        let (number, root) =
            pool.admit(&self.entry, &self.conf, now_ms).map_err(|fault| (None, fault))?;
        let place = Place::new(number, 0);
        let missing = || (None, Fault::host("no instance"));
        let instance = pool.instance(number).ok_or_else(missing)?;
        instance.swap(stream.message);
        let opened = instance.open_stream(root);
        instance.swap(stream.message);
        let context = opened.map_err(|fault| (Some(place), fault))?;
        let place = Place::new(number, context);
        *stream.state = place.word();
        Ok(place)
    }

    /// A call failed: its instance is dropped, and the stream with it.
    #[cold]
    fn fault(&self, stream: &mut Stream<'_>, at: Place, phase: Phase, fault: &Fault) -> Action {
        self.log_fault(stream.message, phase, fault);
        if let Some(pool) = pool::find(stream.locals, &self.entry) {
            pool.drop_instance(at);
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
        Action::Respond
    }

    fn log_fault(&self, message: &Message, phase: Phase, fault: &Fault) {
        let facts = &self.entry.facts;
        let what = match fault.kind {
            FaultKind::Trap => "trapped".to_owned(),
            FaultKind::Deadline => format!("passed {} ms", facts.settings.deadline_ms),
            FaultKind::Memory => {
                format!("wanted more than {} MiB", facts.settings.memory_bytes_max >> 20)
            }
            FaultKind::Exit(code) => format!("exited with code {code}"),
            FaultKind::Host => "failed".to_owned(),
        };
        let route = message.route.as_deref().map_or("none", |route| &route.route_id);
        let (name, callback, request) = (&facts.name, phase.callback(), message.request_number);
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
        let prepared = pool::find_or_make(locals, &self.entry).prepare(&self.entry, &self.conf);
        prepared.map_err(|reason| reason.to_string())
    }

    fn maintain(&self, locals: &mut Locals) {
        let now_ms = locals.now_ms;
        pool::find_or_make(locals, &self.entry).maintain(&self.entry, now_ms);
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, end_of_stream: bool) -> Action {
        match self.open(stream) {
            Ok(_) => self.run(stream, Phase::RequestHeaders, end_of_stream),
            Err((at, fault)) => {
                self.fault(stream, at.unwrap_or(Place::NEW), Phase::RequestHeaders, &fault)
            }
        }
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

    /// Done, log, delete. A request that ended before it came to this plugin is shown only to guests
    /// that log, as in Envoy: they get a context for just that.
    fn on_log(&self, stream: &mut Stream<'_>) {
        if *stream.state == Place::NEW.word()
            && self.entry.logs
            && let Err((at, fault)) = self.open(stream)
        {
            self.fault(stream, at.unwrap_or(Place::NEW), Phase::Log, &fault);
        }
        let place = Place::from_word(*stream.state);
        *stream.state = Place::GONE.word();
        if place == Place::NEW || place == Place::GONE {
            return;
        }
        let Some(pool) = pool::find(stream.locals, &self.entry) else { return };
        let Some(instance) = pool.of(place) else { return };
        instance.swap(stream.message);
        let closed = instance.close_stream(place.context());
        instance.swap(stream.message);
        match closed {
            Ok(()) => pool.release(place),
            Err(fault) => _ = self.fault(stream, place, Phase::Log, &fault),
        }
    }
}
