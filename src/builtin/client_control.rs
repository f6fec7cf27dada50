//! `client-control`: how large request bodies of a route may be.
//!
//! As APISIX's plugin of that name (`apisix/plugins/client-control.lua`). It makes the limit
//! smaller; `nginx_config.http.client_max_body_size` holds beside it.

use super::refusal::Refusal;
use crate::http::BodyLength;
use crate::plugin::{Action, Hooks, Plugin, Stream};
use crate::schema::Reader;
use std::sync::Arc;

pub(super) const NAME: &str = "client-control";

#[derive(Debug)]
struct ClientControl {
    /// `None`: no limit.
    body_bytes_max: Option<u64>,
    refusal: Refusal,
}

impl Plugin for ClientControl {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        match self.body_bytes_max {
            Some(_) => Hooks::REQUEST_HEADERS | Hooks::REQUEST_BODY,
            None => Hooks::NONE,
        }
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        match stream.message.request.body {
            BodyLength::Known(bytes) => self.check(stream, bytes),
            _ => Action::Continue,
        }
    }

    fn on_request_body(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let bytes = stream.message.request_bytes;
        self.check(stream, bytes)
    }
}

impl ClientControl {
    fn check(&self, stream: &mut Stream<'_>, bytes: u64) -> Action {
        match self.body_bytes_max {
            Some(most) if bytes > most => self.refusal.give(stream.message),
            _ => Action::Continue,
        }
    }
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    let most = object.integer("max_body_size", 0..=i64::MAX).filter(|most| *most > 0);
    object.allow_unknown();
    let body_bytes_max = most.map(|most| most as u64);
    Some(Arc::new(ClientControl { body_bytes_max, refusal: Refusal::error_msg(413, None) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::testing::{Run, answer, plugin, refused, request, run};
    use serde_json::json;

    #[test]
    fn lengths_that_are_told() {
        for (conf, length, passes) in [
            (json!({ "max_body_size": 5 }), BodyLength::Known(5), true),
            (json!({ "max_body_size": 5 }), BodyLength::Known(6), false),
            (json!({ "max_body_size": 5 }), BodyLength::Chunked, true),
            (json!({ "max_body_size": 0 }), BodyLength::Known(6), true),
            (json!({}), BodyLength::Known(6), true),
        ] {
            let mut message = request("POST", "/");
            message.request.body = length;
            let action = run(&*plugin(read, &conf), &mut message);
            assert_eq!(action == Action::Continue, passes, "{conf} {length:?}");
            assert!(passes || answer(&message) == (413, String::new()));
        }
    }

    #[test]
    fn lengths_that_are_not() {
        let plugin = plugin(read, &json!({ "max_body_size": 5 }));
        let mut run = Run::new(&*plugin, request("POST", "/"));
        for (bytes, action) in [(2, Action::Continue), (5, Action::Continue), (6, Action::Respond)]
        {
            run.message.request_bytes = bytes;
            assert_eq!(run.request_body(), action, "{bytes}");
        }
    }

    #[test]
    fn configurations_refused() {
        refused(read, &json!({ "max_body_size": -1 }), "p.max_body_size: ");
        refused(read, &json!({ "max_body_size": "1m" }), "p.max_body_size: ");
    }
}
