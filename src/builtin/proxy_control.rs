//! `proxy-control`: whether a request's body is gathered before the request goes upstream.
//!
//! As APISIX's plugin of that name (`apisix/plugins/proxy-control.lua`, nginx's
//! `proxy_request_buffering`), where bodies are gathered unless it says no; here they are passed on
//! as they come unless it says yes. A body that is too large, or takes long, is passed on with what
//! is there: nothing is written to disk.

use crate::limits::{HELD_BODY_BYTES_MAX, HOLD_MS_MAX};
use crate::plugin::{Action, Hold, Hooks, Plugin, Stream};
use crate::schema::Reader;
use std::sync::Arc;

pub(super) const NAME: &str = "proxy-control";

/// How long a body is gathered: time is left until what is held would be taken for stuck.
const GATHERED_NS: u64 = HOLD_MS_MAX / 2 * 1_000_000;

#[derive(Debug)]
struct ProxyControl {
    gathers: bool,
}

/// In the exchange's word: when it began, in nanoseconds, and these where it does not wait.
const PASSES: u64 = 0;

impl Plugin for ProxyControl {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        match self.gathers {
            true => Hooks::REQUEST_HEADERS | Hooks::REQUEST_BODY | Hooks::REQUEST_TRAILERS,
            false => Hooks::NONE,
        }
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, end_of_stream: bool) -> Action {
        if end_of_stream {
            return Action::Continue;
        }
        *stream.state = (stream.locals.clock)();
        Action::Pause(Hold::Body)
    }

    fn on_request_body(&self, stream: &mut Stream<'_>, end_of_stream: bool) -> Action {
        let took_ns = (stream.locals.clock)().saturating_sub(*stream.state);
        let fits = stream.message.body.len() <= HELD_BODY_BYTES_MAX && took_ns < GATHERED_NS;
        if end_of_stream || *stream.state == PASSES || !fits {
            *stream.state = PASSES;
            return Action::Continue;
        }
        Action::Pause(Hold::Body)
    }
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    let gathers = object.boolean("request_buffering").unwrap_or(true);
    object.allow_unknown();
    Some(Arc::new(ProxyControl { gathers }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::testing::{Run, plugin, refused, request};
    use serde_json::json;

    const WAITS: Action = Action::Pause(Hold::Body);

    #[test]
    fn bodies_are_gathered() {
        let plugin = plugin(read, &json!({}));
        let mut run = Run::new(&*plugin, request("POST", "/"));
        run.locals.clock = || 1_000_000_000;
        assert_eq!(run.request_headers_before_a_body(), WAITS);
        run.message.body = b"ab".to_vec();
        assert_eq!(run.request_body(), WAITS);
        run.message.body = vec![b'a'; HELD_BODY_BYTES_MAX];
        assert_eq!(run.request_body(), WAITS, "as much as may be held");
        run.message.body.push(b'a');
        assert_eq!(run.request_body(), Action::Continue, "more than that");
        run.message.body = b"ab".to_vec();
        assert_eq!(run.request_body(), Action::Continue, "and so is the rest");
    }

    #[test]
    fn what_takes_long_is_passed_on() {
        let plugin = plugin(read, &json!({ "request_buffering": true }));
        let mut run = Run::new(&*plugin, request("POST", "/"));
        run.locals.clock = || 1_000_000_000;
        assert_eq!(run.request_headers_before_a_body(), WAITS);
        run.message.body = b"ab".to_vec();
        run.locals.clock = || 30_000_000_000;
        assert_eq!(run.request_body(), WAITS);
        run.locals.clock = || 31_000_000_000;
        assert_eq!(run.request_body(), Action::Continue);
    }

    #[test]
    fn there_may_be_nothing_to_gather() {
        let on = plugin(read, &json!({}));
        assert_eq!(Run::new(&*on, request("GET", "/")).request_headers(), Action::Continue);
        let off = plugin(read, &json!({ "request_buffering": false }));
        assert_eq!(off.hooks(), Hooks::NONE);
        refused(read, &json!({ "request_buffering": "yes" }), "p.request_buffering: ");
    }
}
