//! Responses that do not come from an upstream: plugins' and the gateway's own.

use super::cause::Cause;
use super::flow::Direction;
use super::{Cx, Exchange, Stage, Timer};
use crate::http::BodyLength;
use crate::plugin::{Hooks, ResponseSource};
use crate::snapshot::local_body;

/// The body of a request that no route matches (APISIX reference §3.1).
const NO_ROUTE: &[u8] = b"{\"error_msg\":\"404 Route Not Found\"}\n";

impl Exchange {
    /// The gateway answers with a status and its error page.
    pub(super) fn answer(&mut self, status: u16, cause: Cause, cx: &mut Cx<'_>) {
        let body = (cause == Cause::NoRoute).then_some(NO_ROUTE);
        self.message.respond(status, body);
        self.message.local.details.extend_from_slice(cause.details());
        self.message.response.source = ResponseSource::Gateway;
        self.message.response.flags |= cause.flags();
        self.respond(None, cx);
    }

    /// Sends `message.local`, made by the plugin of `step` or by the gateway. It takes the
    /// response's way through the chain, unless a response is on that way already: then it takes
    /// that one's place, as far as that one has come. A response that has begun can only be cut
    /// off, unless nothing of it was sent and the gateway itself answers instead; one that is whole
    /// stays what it is.
    pub(super) fn respond(&mut self, step: Option<usize>, cx: &mut Cx<'_>) {
        if self.stage != Stage::Running || self.response.is_complete() {
            return;
        }
        if self.response.has_begun() {
            match step {
                Some(_) => return self.abort(Cause::PluginClosed),
                None if !self.response.take_back() => return self.give_up(),
                None => self.message.response_bytes = 0,
            }
        }
        self.request.drop_rest();
        self.spoil_upstream();
        if let Some(step) = step {
            self.message.response.source = ResponseSource::Plugin;
            self.finish_local_response(step);
        }
        let replaces = self.response.is_passing();
        self.load_local_response();
        self.timers.disarm(Timer::RequestHold);
        self.timers.disarm(Timer::ResponseHold);
        if replaces {
            self.response.flow.headers_through = true;
            self.response.flow.end_through = true;
            std::mem::swap(&mut self.message.body, &mut self.response.local_body);
            return self.write_response_piece(true, cx);
        }
        let end = self.ends_with_headers(Direction::Response);
        let passed = self.pass_headers(Direction::Response, 0, end, cx);
        self.on_response_headers_passed(passed, cx);
    }

    /// A plugin that does not say why it answers is the reason itself. `_meta.error_response`
    /// replaces the body of a plugin's response of 400 and more.
    fn finish_local_response(&mut self, step: usize) {
        let chain = self.running_chain();
        let step = &chain.steps()[step];
        let local = &mut self.message.local;
        if local.details.is_empty() {
            local.details.extend_from_slice(step.plugin.name().as_bytes());
        }
        if let Some(replaced) = &step.error_response
            && local.status >= 400
            && !local.verbatim
        {
            local.body.get_or_insert_default().clone_from(replaced);
        }
    }

    /// Moves the local response into the message's response, its body into `response.local_body`.
    fn load_local_response(&mut self) {
        let (message, side) = (&mut *self.message, &mut self.response);
        message.body.clear();
        message.response.trailers.clear();
        let (local, response) = (&mut message.local, &mut message.response);
        response.status = local.status;
        std::mem::swap(&mut response.headers, &mut local.headers);
        std::mem::swap(&mut response.details, &mut local.details);
        side.local_body.clear();
        let len = local_body(local.status, local.body.as_deref(), &mut side.local_body).len();
        if let Some(body) = &mut local.body {
            std::mem::swap(&mut side.local_body, body);
            side.local_body.truncate(len);
        }
        let html = local.body.is_none() && len > 0;
        response.body = if len == 0 { BodyLength::None } else { BodyLength::Known(len as u64) };
        side.begin_local(response.body, html);
        message.apply_response_fields();
    }

    /// The body of a local response goes through the chain in one piece, once.
    pub(super) fn pass_local_body(&mut self, cx: &mut Cx<'_>) {
        if !self.response.take_local_body_waits() {
            return;
        }
        self.message.body.clear();
        std::mem::swap(&mut self.message.body, &mut self.response.local_body);
        let passed = self.pass_body(Direction::Response, 0, true, cx);
        self.on_response_body_passed(passed, cx);
    }

    pub(super) fn has_response_body_hooks(&self) -> bool {
        self.hooks.has(Hooks::RESPONSE_BODY)
    }
}
