//! A plugin's callbacks one by one, by the way requests take, with a clock beside each.

use super::abi::Phase;
use super::error::{Error, Reason};
use super::host::{Conf, Entry, Plugins};
use super::instance::Instance;
use crate::plugin::{Action, Hooks, Message};
use crate::vm::Fault;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measured {
    /// An instance is made: instantiated, `_initialize` or `_start`.
    Start,
    /// Its root context: created, `proxy_on_vm_start`, `proxy_on_configure`.
    Configure,
    /// `proxy_on_context_create` of a stream.
    ContextCreate,
    /// `proxy_on_request_headers`.
    RequestHeaders,
    /// `proxy_on_request_body`.
    RequestBody,
    /// `proxy_on_response_headers`.
    ResponseHeaders,
    /// `proxy_on_response_body`.
    ResponseBody,
    /// `proxy_on_done`, `proxy_on_log` and `proxy_on_delete` of a stream.
    End,
    /// All of a stream at once, as requests run it.
    Whole,
    /// The instance is dropped, its memory made clean for the next.
    Drop,
}

/// A configured plugin to be measured.
#[derive(Debug)]
pub struct Bench {
    entry: Arc<Entry>,
    conf: Arc<Conf>,
}

/// One instance of it.
pub struct BenchInstance {
    instance: Instance,
    root: u32,
    hooks: Hooks,
}

/// What one stream did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request went on, and so did the response.
    Passed,
    /// The plugin answered the request.
    Responded,
    /// It closed the stream.
    Closed,
    /// It paused and waits for something that a measurement does not give it.
    Paused(Measured),
}

impl Plugins {
    /// The plugin of that name with that `plugins.<name>` value, to be measured.
    ///
    /// # Errors
    /// When there is no such entry or the guest refuses the value.
    pub fn bench(&self, name: &str, value: &Value) -> Result<Bench, Error> {
        let (entry, conf) = self.entry_and_conf(name, value)?;
        Ok(Bench { entry, conf })
    }
}

impl Bench {
    /// Makes an instance as a worker does; `record` gets what each step took.
    ///
    /// # Errors
    /// The guest fails or says no.
    pub fn instance(
        &self,
        mut record: impl FnMut(Measured, Duration),
    ) -> Result<BenchInstance, Error> {
        let failed = |reason: Reason| reason.of(&self.entry.facts.name);
        let start = Instant::now();
        let mut instance =
            Instance::start(&self.entry, None).map_err(|fault| failed(Reason::Start(fault)))?;
        record(Measured::Start, start.elapsed());
        let start = Instant::now();
        let root = instance.add_root(&self.conf).map_err(failed)?;
        record(Measured::Configure, start.elapsed());
        Ok(BenchInstance { instance, root, hooks: self.entry.hooks })
    }
}

/// The callbacks of a request and of its response, and who has them.
const REQUEST: [(Phase, Hooks, Measured); 2] = [
    (Phase::RequestHeaders, Hooks::REQUEST_HEADERS, Measured::RequestHeaders),
    (Phase::RequestBody, Hooks::REQUEST_BODY, Measured::RequestBody),
];
const RESPONSE: [(Phase, Hooks, Measured); 2] = [
    (Phase::ResponseHeaders, Hooks::RESPONSE_HEADERS, Measured::ResponseHeaders),
    (Phase::ResponseBody, Hooks::RESPONSE_BODY, Measured::ResponseBody),
];

/// Gets what each step took; `None`: no clock is looked at.
type Record<'a> = Option<&'a mut dyn FnMut(Measured, Duration)>;

impl BenchInstance {
    /// One stream from its first callback to its last, each by itself. The request is in `message`;
    /// `response` makes the upstream's response in it, unless the plugin answers; `body` is the
    /// body of the request and of the upstream's response.
    ///
    /// # Errors
    /// How the guest failed; the instance is then of no more use.
    pub fn stream(
        &mut self,
        message: &mut Box<Message>,
        body: &[u8],
        response: impl FnOnce(&mut Message),
        mut record: impl FnMut(Measured, Duration),
    ) -> Result<Outcome, Fault> {
        let (root, mut record) = (self.root, Some(&mut record as &mut dyn FnMut(_, _)));
        let create = Measured::ContextCreate;
        let id =
            self.timed(message, create, &mut record, |instance| instance.open_stream(root, None))?;
        let stopped = self.pass(&REQUEST, (message, id), body, &mut record)?;
        let outcome = self.respond((message, id), stopped, body, response, &mut record)?;
        self.timed(message, Measured::End, &mut record, |instance| instance.close_stream(id))?;
        Ok(outcome)
    }

    /// The same stream as requests run it: some callbacks joined, and no clock in between. What it
    /// took, with the making of the response.
    ///
    /// # Errors
    /// As for [`Self::stream`].
    pub fn whole_stream(
        &mut self,
        message: &mut Box<Message>,
        body: &[u8],
        response: impl FnOnce(&mut Message),
    ) -> Result<Duration, Fault> {
        let (root, end, start) = (self.root, body.is_empty(), Instant::now());
        let first = Measured::RequestHeaders;
        let (id, action) = self
            .timed(message, first, &mut None, |instance| instance.enter_stream(root, None, end))?;
        let mut stopped = stops(action, end, first);
        if stopped.is_none() {
            stopped = self.pass(&REQUEST[1..], (message, id), body, &mut None)?;
        }
        self.respond((message, id), stopped, body, response, &mut None)?;
        self.timed(message, Measured::End, &mut None, |instance| instance.close_stream(id))?;
        Ok(start.elapsed())
    }

    /// Drops the instance; `record` gets what that took.
    pub fn end(self, mut record: impl FnMut(Measured, Duration)) {
        let start = Instant::now();
        drop(self.instance);
        record(Measured::Drop, start.elapsed());
    }

    /// Shows it the response: the upstream's, or its own if it answered.
    fn respond(
        &mut self,
        (message, id): (&mut Box<Message>, u32),
        stopped: Option<Outcome>,
        body: &[u8],
        upstreams: impl FnOnce(&mut Message),
        record: &mut Record<'_>,
    ) -> Result<Outcome, Fault> {
        let seen = match stopped {
            None => {
                upstreams(message);
                self.pass(&RESPONSE, (message, id), body, record)?
            }
            Some(Outcome::Responded) => {
                let body = take_local(message);
                self.pass(&RESPONSE, (message, id), &body, record)?;
                message.local.body = Some(body);
                stopped
            }
            Some(_) => stopped,
        };
        Ok(seen.unwrap_or(Outcome::Passed))
    }

    /// Runs these callbacks up to the first that lets the message go no further.
    fn pass(
        &mut self,
        callbacks: &[(Phase, Hooks, Measured)],
        (message, id): (&mut Box<Message>, u32),
        body: &[u8],
        record: &mut Record<'_>,
    ) -> Result<Option<Outcome>, Fault> {
        for (phase, hook, measured) in callbacks.iter().copied() {
            let of_body = matches!(phase, Phase::RequestBody | Phase::ResponseBody);
            if !self.hooks.has(hook) || of_body && body.is_empty() {
                continue;
            }
            message.body.clear();
            if of_body {
                message.body.extend_from_slice(body);
            }
            let end = of_body || body.is_empty();
            let action =
                self.timed(message, measured, record, |instance| instance.on(phase, id, end))?;
            if let Some(outcome) = stops(action, end, measured) {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }

    /// Runs a part of the stream's life, with the message swapped in and out as for a request.
    fn timed<T>(
        &mut self,
        message: &mut Box<Message>,
        measured: Measured,
        record: &mut Record<'_>,
        run: impl FnOnce(&mut Instance) -> T,
    ) -> T {
        let start = record.is_some().then(Instant::now);
        self.instance.swap(message);
        let done = run(&mut self.instance);
        self.instance.swap(message);
        if let (Some(record), Some(start)) = (record, start) {
            record(measured, start.elapsed());
        }
        done
    }
}

/// Whether an action ends the message's way. Headers are often held until the body is seen.
fn stops(action: Action, end: bool, measured: Measured) -> Option<Outcome> {
    match action {
        Action::Continue => None,
        Action::Respond => Some(Outcome::Responded),
        Action::Close => Some(Outcome::Closed),
        Action::Pause(_) if !end => None,
        Action::Pause(_) => Some(Outcome::Paused(measured)),
    }
}

/// Makes the plugin's response the message's, as the exchange does. Its body.
fn take_local(message: &mut Message) -> Vec<u8> {
    let (local, response) = (&mut message.local, &mut message.response);
    response.status = local.status;
    std::mem::swap(&mut response.headers, &mut local.headers);
    local.body.take().unwrap_or_default()
}
