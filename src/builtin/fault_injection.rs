//! `fault-injection`: answers requests itself, or delays them, to see how clients bear it.
//!
//! As APISIX's plugin of that name (fault-injection reference): `delay` first, then `abort`, each
//! by its own percentage and `vars`. An abort that looks at nothing is prepared once.

use super::fields::{self, FieldTemplate, read_fields};
use crate::expr::{Expr, Template};
use crate::limits;
use crate::plugin::{
    Action, Hold, Hooks, LocalResponse, Message, Plugin, Stream, compile_rule, compile_template,
};
use crate::schema::{Fault, Object, Reader};
use std::sync::Arc;

pub(super) const NAME: &str = "fault-injection";

/// A list of `vars` may have this many rules.
const RULES_MAX: usize = 20;

#[derive(Debug)]
struct FaultInjection {
    abort: Option<Abort>,
    delay: Option<Delay>,
}

#[derive(Debug)]
struct Abort {
    status: u16,
    body: Option<Template>,
    headers: Vec<FieldTemplate>,
    when: When,
}

#[derive(Debug)]
struct Delay {
    ms: u64,
    when: When,
}

/// For which requests a fault happens.
#[derive(Debug)]
struct When {
    percentage: Option<u8>,
    /// Joined by OR; an empty list never matches.
    vars: Option<Vec<Expr>>,
}

/// In the exchange's word: the abort's `vars` matched when the request came.
const ABORT_MATCHED: u64 = 1;

impl Plugin for FaultInjection {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST_HEADERS
    }

    fn only_response(&self) -> Option<LocalResponse> {
        let abort =
            self.abort.as_ref().filter(|abort| self.delay.is_none() && abort.when.always())?;
        let mut response = LocalResponse { status: abort.status, ..LocalResponse::default() };
        for (name, value) in &abort.headers {
            response.headers.set(name, value.as_static()?);
        }
        if let Some(body) = &abort.body {
            response.body = Some(body.as_static()?.to_vec());
        }
        Some(response)
    }

    /// Both `vars` are looked at before anything else, always (reference, "Runtime order").
    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let message: &Message = stream.message;
        let abort_matched = self.abort.as_ref().is_some_and(|abort| abort.when.matches(message));
        let delay = self.delay.as_ref().filter(|delay| delay.when.matches(message));
        *stream.state = if abort_matched { ABORT_MATCHED } else { 0 };
        match delay {
            Some(delay) if stream.locals.sample(delay.when.percentage) => {
                Action::Pause(Hold::Sleep(delay.ms))
            }
            _ => self.abort(stream),
        }
    }

    fn on_due(&self, stream: &mut Stream<'_>) -> Action {
        self.abort(stream)
    }
}

impl FaultInjection {
    fn abort(&self, stream: &mut Stream<'_>) -> Action {
        match &self.abort {
            Some(abort)
                if *stream.state == ABORT_MATCHED
                    && stream.locals.sample(abort.when.percentage) =>
            {
                abort.fill(stream.message);
                Action::Respond
            }
            _ => Action::Continue,
        }
    }
}

impl Abort {
    fn fill(&self, message: &mut Message) {
        let mut local = std::mem::take(&mut message.local);
        let mut text = local.body.take().unwrap_or_default();
        local.status = self.status;
        local.verbatim = false;
        local.headers.clear();
        for (name, value) in &self.headers {
            fields::render(value, message, &mut text);
            local.headers.set(name, &text);
        }
        text.clear();
        local.body = self.body.as_ref().map(|body| {
            body.render(message, &mut text);
            text
        });
        message.local = local;
    }
}

impl When {
    fn always(&self) -> bool {
        self.vars.is_none() && self.percentage.is_none_or(|percentage| percentage == 100)
    }

    fn matches(&self, message: &Message) -> bool {
        self.vars.as_ref().is_none_or(|rules| rules.iter().any(|rule| rule.matches(message)))
    }
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let before = conf.problems().count();
    let problems = conf.problems();
    let is_empty = conf.value().as_object().is_some_and(serde_json::Map::is_empty);
    if is_empty {
        conf.error(
            Fault::new("expect object to have at least 1 properties")
                .hint("give `abort` or `delay`"),
        );
        return None;
    }
    let mut object = conf.object()?;
    let abort = object.get("abort").map(read_abort);
    let delay = object.get("delay").map(read_delay);
    object.allow_unknown();
    if problems.count() > before {
        return None;
    }
    Some(Arc::new(FaultInjection { abort: abort.flatten(), delay: delay.flatten() }))
}

fn read_abort(reader: Reader<'_>) -> Option<Abort> {
    let mut object = reader.object()?;
    // APISIX names no maximum; a status line has three digits.
    let status = object.need("http_status").and_then(|status| status.integer(200..=999));
    let body = object
        .get("body")
        .and_then(|reader| Some(compile_template(reader.string(0..=usize::MAX)?, &reader)));
    let headers = object.get("headers").and_then(read_fields).unwrap_or_default();
    let when = read_when(&mut object);
    object.allow_unknown();
    Some(Abort { status: status? as u16, body, headers, when })
}

fn read_delay(reader: Reader<'_>) -> Option<Delay> {
    let mut object = reader.object()?;
    let most = limits::DELAY_MS_MAX as f64 / 1000.0;
    let seconds = object.need("duration").and_then(|duration| duration.number(0.0..=most));
    let when = read_when(&mut object);
    object.allow_unknown();
    Some(Delay { ms: (seconds? * 1000.0).round() as u64, when })
}

fn read_when(object: &mut Object<'_>) -> When {
    let percentage = object.integer("percentage", 0..=100).map(|percentage| percentage as u8);
    let vars = object.get("vars").and_then(|reader| {
        let rules = reader.list(0..=RULES_MAX)?;
        Some(rules.iter().filter_map(compile_rule).collect())
    });
    When { percentage, vars }
}

#[cfg(test)]
#[path = "fault_injection_tests.rs"]
mod tests;
