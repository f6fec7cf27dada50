//! `client-control`: how large requests of a route may be.
//!
//! As APISIX's plugin of that name (`apisix/plugins/client-control.lua`), which bounds bodies;
//! bounds of header sections are ours. It makes limits smaller: those of the gateway
//! (`nginx_config.http.client_max_body_size`, `ringgate.limits.head_bytes` and `.headers`) hold
//! beside it.

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
    header_bytes_max: Option<usize>,
    headers_max: Option<usize>,
    body_refusal: Refusal,
    header_refusal: Refusal,
}

impl Plugin for ClientControl {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        if self.body_bytes_max.is_some() {
            Hooks::REQUEST_HEADERS | Hooks::REQUEST_BODY
        } else if self.header_bytes_max.is_some() || self.headers_max.is_some() {
            Hooks::REQUEST_HEADERS
        } else {
            Hooks::NONE
        }
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let headers = &stream.message.request.headers;
        let too_many = self.headers_max.is_some_and(|most| headers.len() > most);
        if too_many || self.header_bytes_max.is_some_and(|most| headers.encoded_len() > most) {
            return self.header_refusal.give(stream.message);
        }
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
            Some(most) if bytes > most => self.body_refusal.give(stream.message),
            _ => Action::Continue,
        }
    }
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    let mut bound = |key| object.integer(key, 0..=i64::MAX).filter(|most| *most > 0);
    let body_bytes_max = bound("max_body_size").map(|most| most as u64);
    let header_bytes_max = bound("max_header_size").map(|most| most as usize);
    let headers_max = bound("max_headers").map(|most| most as usize);
    object.allow_unknown();
    Some(Arc::new(ClientControl {
        body_bytes_max,
        header_bytes_max,
        headers_max,
        body_refusal: Refusal::error_msg(413, None),
        header_refusal: Refusal::error_msg(431, None),
    }))
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
    fn header_sections() {
        // `H: 1` and `Name: value`, each with its line end: 6 and 13 bytes.
        for (conf, passes) in [
            (json!({ "max_header_size": 19 }), true),
            (json!({ "max_header_size": 18 }), false),
            (json!({ "max_header_size": 0 }), true),
            (json!({ "max_headers": 2 }), true),
            (json!({ "max_headers": 1 }), false),
            (json!({ "max_headers": 0 }), true),
            (json!({ "max_headers": 2, "max_header_size": 18 }), false),
            (json!({ "max_body_size": 1, "max_headers": 1 }), false),
        ] {
            let mut message = request("GET", "/");
            message.request.headers.clear();
            message.request.headers.append(b"H", b"1");
            message.request.headers.append(b"Name", b"value");
            let action = run(&*plugin(read, &conf), &mut message);
            assert_eq!(action == Action::Continue, passes, "{conf}");
            assert!(passes || answer(&message) == (431, String::new()));
        }
    }

    #[test]
    fn configurations_refused() {
        refused(read, &json!({ "max_header_size": -1 }), "p.max_header_size: ");
        refused(read, &json!({ "max_headers": "1" }), "p.max_headers: ");
        refused(read, &json!({ "max_body_size": -1 }), "p.max_body_size: ");
        refused(read, &json!({ "max_body_size": "1m" }), "p.max_body_size: ");
    }
}
