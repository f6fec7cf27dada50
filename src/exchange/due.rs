//! What a timer that is due comes to.

use super::cause::Cause;
use super::flow::Direction;
use super::retry::{Failure, Named, shown};
use super::{Cx, Exchange, Stage, Timer};

impl Exchange {
    /// A timer of this exchange may be due; calling too often does no harm.
    pub fn on_due(&mut self, cx: &mut Cx<'_>) {
        if self.is_tunnel() {
            return self.on_tunnel_due(cx);
        }
        while self.stage == Stage::Running
            && let Some(timer) = self.timers.take_due(cx.locals.now_ms)
        {
            match timer {
                Timer::DownstreamRead => self.on_client_stalled(cx),
                Timer::DownstreamSend => self.abort(Cause::ClientClosed),
                Timer::Connect => self.on_no_response(Failure::Stalled, "did not accept", cx),
                // It need not answer before it has the whole request.
                Timer::UpstreamRead if !self.upstream.is_served() => {
                    self.arm_upstream(Timer::UpstreamRead, cx);
                }
                Timer::UpstreamSend | Timer::UpstreamRead => self.on_upstream_stalled(cx),
                Timer::RequestHold => self.on_held_too_long(Direction::Request, cx),
                Timer::ResponseHold => self.on_held_too_long(Direction::Response, cx),
            }
        }
    }

    /// The request's body does not go on: what is known of it gets no response but this one.
    fn on_client_stalled(&mut self, cx: &mut Cx<'_>) {
        self.request.refuse_rest();
        if !self.response.is_complete() {
            self.answer(408, Cause::ClientStalled, cx);
        }
    }

    fn on_upstream_stalled(&mut self, cx: &mut Cx<'_>) {
        if self.response.is_waiting() {
            return self.on_no_response(Failure::Stalled, "did not go on in time", cx);
        }
        let address = shown(self.upstream.address.as_ref());
        log::warn!("{}upstream {address} did not go on in time", Named(&self.message));
        self.answer(504, Cause::UpstreamStalled, cx);
    }

    fn on_held_too_long(&mut self, direction: Direction, cx: &mut Cx<'_>) {
        log::warn!("{}a plugin held a {direction:?} for too long", Named(&self.message));
        self.answer(504, Cause::HeldTooLong, cx);
    }
}
