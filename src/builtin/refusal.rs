//! Responses that turn a request away, made once when the configuration is read.

use crate::plugin::{Action, Message};
use serde_json::json;

/// A status with the body APISIX's `core.response.exit` makes of a table: JSON and a line end.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    status: u16,
    /// `None`: the gateway's page for that status.
    body: Option<Box<[u8]>>,
}

impl Refusal {
    /// `{"message": text}`.
    pub(super) fn message(status: u16, text: &str) -> Self {
        Self::json(status, &json!({ "message": text }))
    }

    /// `{"error_msg": text}`, or the gateway's page without a text.
    pub(super) fn error_msg(status: u16, text: Option<&str>) -> Self {
        match text {
            Some(text) => Self::json(status, &json!({ "error_msg": text })),
            None => Self { status, body: None },
        }
    }

    fn json(status: u16, body: &serde_json::Value) -> Self {
        Self { status, body: Some(format!("{body}\n").into_bytes().into()) }
    }

    /// Answers with it; fields may be added to `message.local` afterwards.
    pub(super) fn give(&self, message: &mut Message) -> Action {
        message.respond(self.status, self.body.as_deref());
        Action::Respond
    }
}
