//! Responses that do not come from an upstream: plugins' and the gateway's own.

use super::flow::{Direction, Passed};
use super::{Cx, Exchange};
use crate::http::BodyLength;
use crate::plugin::{Hooks, ResponseSource};
use crate::snapshot::local_body;

/// The body of a request that no route matches (APISIX reference §3.1).
const NO_ROUTE: &[u8] = b"{\"error_msg\":\"404 Route Not Found\"}\n";

impl Exchange {
    /// The gateway answers with a status and its error page.
    pub(super) fn answer(&mut self, status: u16, source: ResponseSource, cx: &mut Cx<'_>) {
        let body = (status == 404 && self.route.is_none()).then_some(NO_ROUTE);
        self.message.respond(status, body);
        self.message.response.source = source;
        self.respond(None, cx);
    }

    /// Sends `message.local`, made by the plugin of `step` or by the gateway. It takes the
    /// response's way through the chain, unless a response is on that way already and is replaced.
    pub(super) fn respond(&mut self, step: Option<usize>, cx: &mut Cx<'_>) {
        if self.response.has_begun() {
            return self.abort();
        }
        self.request.drop_rest();
        self.upstream.spoil();
        if let Some(step) = step {
            self.message.response.source = ResponseSource::Plugin;
            self.apply_error_response(step);
        }
        let already_passing = self.response.is_passing();
        let html = self.load_local_response();
        self.response.begin_local(html);
        if already_passing {
            self.response.flow.headers_through = true;
            self.response.flow.end_through = true;
            return self.write_response_piece(true, cx);
        }
        let end = self.message.response.body == BodyLength::None;
        let passed = self.pass_headers(Direction::Response, 0, end, cx);
        self.on_response_headers_passed(passed, cx);
    }

    /// `_meta.error_response` replaces the body of a plugin's response of 400 and more.
    fn apply_error_response(&mut self, step: usize) {
        if self.message.local.status < 400 || self.message.local.verbatim {
            return;
        }
        let pinned = std::rc::Rc::clone(self.pinned());
        let step = &Self::chain_of(&pinned, self.route).steps()[step];
        if let Some(body) = &step.error_response {
            self.message.local.body = Some(body.clone());
        }
    }

    /// Moves the local response into the message's response, its body into `response.local_body`.
    /// Gives whether the body is the gateway's page.
    fn load_local_response(&mut self) -> bool {
        let message = &mut *self.message;
        let (local, response) = (&mut message.local, &mut message.response);
        response.status = local.status;
        std::mem::swap(&mut response.headers, &mut local.headers);
        let mut page = std::mem::take(&mut self.response.local_body);
        page.clear();
        let html = local.body.is_none();
        let len = local_body(local.status, local.body.as_deref(), &mut page).len();
        match &mut local.body {
            Some(body) if len > 0 => std::mem::swap(&mut page, body),
            _ => {}
        }
        self.response.local_body = page;
        response.body = if len == 0 { BodyLength::None } else { BodyLength::Known(len as u64) };
        html && len > 0
    }

    /// The headers of a local response are through: its body follows in one piece.
    pub(super) fn pass_local_body(&mut self, cx: &mut Cx<'_>) {
        let message = &mut *self.message;
        message.body.clear();
        std::mem::swap(&mut message.body, &mut self.response.local_body);
        self.response.local_body.clear();
        if message.body.is_empty() {
            self.response.flow.end_through = true;
            return self.write_response_piece(true, cx);
        }
        let passed = if self.has_response_body_hooks() {
            self.pass_body(Direction::Response, 0, true, cx)
        } else {
            self.response.flow.end_through = true;
            Passed::Through
        };
        self.on_response_body_passed(passed, cx);
    }

    pub(super) fn has_response_body_hooks(&self) -> bool {
        self.route().chain.hooks().has(Hooks::RESPONSE_BODY)
    }
}
