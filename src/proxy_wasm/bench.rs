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

impl BenchInstance {
    /// One stream from its first callback to its last. The request is in `message`; `response`
    /// makes the upstream's response in it; `body` is the body of both. The exchange's part of a
    /// local response is left out.
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
        let root = self.root;
        let id = self.timed(message, Measured::ContextCreate, &mut record, |instance| {
            instance.open_stream(root, None)
        })?;
        let outcome = self.callbacks(message, id, body, response, &mut record)?;
        self.timed(message, Measured::End, &mut record, |instance| instance.close_stream(id))?;
        Ok(outcome)
    }

    /// Drops the instance; `record` gets what that took.
    pub fn end(self, mut record: impl FnMut(Measured, Duration)) {
        let start = Instant::now();
        drop(self.instance);
        record(Measured::Drop, start.elapsed());
    }

    fn callbacks(
        &mut self,
        message: &mut Box<Message>,
        id: u32,
        body: &[u8],
        response: impl FnOnce(&mut Message),
        record: &mut impl FnMut(Measured, Duration),
    ) -> Result<Outcome, Fault> {
        let mut make_response = Some(response);
        for (phase, hook, measured) in [
            (Phase::RequestHeaders, Hooks::REQUEST_HEADERS, Measured::RequestHeaders),
            (Phase::RequestBody, Hooks::REQUEST_BODY, Measured::RequestBody),
            (Phase::ResponseHeaders, Hooks::RESPONSE_HEADERS, Measured::ResponseHeaders),
            (Phase::ResponseBody, Hooks::RESPONSE_BODY, Measured::ResponseBody),
        ] {
            let of_body = matches!(phase, Phase::RequestBody | Phase::ResponseBody);
            if !self.hooks.has(hook) || of_body && body.is_empty() {
                continue;
            }
            if phase == Phase::ResponseHeaders
                && let Some(make) = make_response.take()
            {
                make(message);
            }
            message.body.clear();
            if of_body {
                message.body.extend_from_slice(body);
            }
            let end = of_body || body.is_empty();
            let action =
                self.timed(message, measured, record, |instance| instance.on(phase, id, end))?;
            match action {
                Action::Continue => {}
                Action::Respond => return Ok(Outcome::Responded),
                Action::Close => return Ok(Outcome::Closed),
                // Headers are often held until the body is seen.
                Action::Pause(_) if !end => {}
                Action::Pause(_) => return Ok(Outcome::Paused(measured)),
            }
        }
        Ok(Outcome::Passed)
    }

    /// Runs a part of the stream's life, with the message swapped in and out as for a request.
    fn timed<T>(
        &mut self,
        message: &mut Box<Message>,
        measured: Measured,
        record: &mut impl FnMut(Measured, Duration),
        run: impl FnOnce(&mut Instance) -> T,
    ) -> T {
        let start = Instant::now();
        self.instance.swap(message);
        let done = run(&mut self.instance);
        self.instance.swap(message);
        record(measured, start.elapsed());
        done
    }
}
