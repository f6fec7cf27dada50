//! What plugins hold back, and letting it go.
//!
//! ```text
//! headers held ─┬─ a Sleep is over ──────────────────────┐
//!               ├─ the plugin resumes, in any callback ──┤
//!               └─ its body callback continues ──────────┴─► headers, kept pieces, end, trailers
//! ```

use super::flow::{Direction, Flow, Passed};
use super::pass::headers_order;
use super::{Cx, Exchange, Stage, Timer};
use crate::limits;
use crate::plugin::{Action, Hold};
use crate::snapshot::Step;

impl Exchange {
    /// A sleep that a plugin asked for is over.
    pub fn on_slept(&mut self, cx: &mut Cx<'_>) {
        let Some((direction, position)) = self.sleeper() else { return };
        let chain = &*self.running_chain();
        let at = headers_order(chain, direction).0[position] as usize;
        let step = &chain.steps()[at];
        match self.call(direction, at, cx, |stream| step.plugin.on_due(stream)) {
            Action::Continue => self.let_go(direction, position, cx),
            Action::Pause(hold) => self.hold(direction, position, hold, cx),
            Action::Respond => self.on_passed(direction, Passed::Respond(at), cx),
            Action::Close => self.on_passed(direction, Passed::Close, cx),
        }
    }

    /// Sees to the resumes that plugins asked for in callbacks of the other direction.
    pub(super) fn run_resumed(&mut self, cx: &mut Cx<'_>) {
        while self.stage == Stage::Running
            && let Some((at, direction)) = self.steps.take_resumed()
        {
            let order = headers_order(self.chain(), direction).0;
            let position = order.iter().position(|step| *step as usize == at);
            let sleeps = |hold| matches!(hold, Some(Hold::Sleep(_)));
            if let Some(position) = position
                && !sleeps(self.flow(direction).hold_at(position))
            {
                self.let_go(direction, position, cx);
            }
        }
    }

    pub(super) fn flow(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::Request => &mut self.request.flow,
            Direction::Response => &mut self.response.flow,
        }
    }

    pub(super) fn hold(&mut self, direction: Direction, position: usize, hold: Hold, cx: &Cx<'_>) {
        self.flow(direction).held = Some((position, hold));
        if let Hold::Sleep(ms) = hold {
            self.sleep = Some(ms.min(limits::DELAY_MS_MAX));
            // What another plugin keeps of the body still has its bound.
            let flow = self.flow(direction);
            if flow.end_at.is_none() && flow.trailers_at.is_none() {
                self.timers.disarm(hold_timer(direction));
            }
        } else {
            self.arm_hold(direction, cx);
        }
    }

    /// A paused body callback keeps its piece, as far as it may.
    pub(super) fn keep(
        &mut self,
        direction: Direction,
        position: usize,
        end: bool,
        step: &Step,
        cx: &Cx<'_>,
    ) -> Passed {
        let (flow, body) = self.flow_and_body(direction);
        let len = flow.keep(position, body);
        if end {
            flow.end_at = Some(position);
            self.arm_hold(direction, cx);
        }
        if len > step.plugin.held_bytes_max() { Passed::TooMuch } else { Passed::Held }
    }

    /// Trailers wait where the headers are held, or where a plugin pauses on them.
    pub(super) fn keep_trailers(
        &mut self,
        direction: Direction,
        position: usize,
        step: &Step,
        cx: &Cx<'_>,
    ) -> Passed {
        let flow = self.flow(direction);
        flow.trailers_at = Some(position);
        if flow.held.is_none() {
            self.arm_hold(direction, cx);
        }
        self.keep(direction, position, false, step, cx)
    }

    pub(super) fn join_kept(&mut self, direction: Direction, position: usize) {
        let (flow, body) = self.flow_and_body(direction);
        flow.join_kept(position, body);
    }

    /// Headers go on from the position that held them, past the body piece that is on its way.
    pub(super) fn release_headers(
        &mut self,
        direction: Direction,
        position: usize,
        cx: &mut Cx<'_>,
    ) -> Passed {
        self.flow(direction).held = None;
        let end = self.ends_with_headers(direction);
        let piece = std::mem::take(&mut self.message.body);
        let passed = self.pass_headers(direction, position + 1, end, cx);
        self.message.body = piece;
        passed
    }

    /// Everything that a position holds goes on: headers, then the pieces kept there, then the end.
    /// Of a message that nobody wants any more, for one was answered instead, nothing does.
    pub(super) fn let_go(&mut self, direction: Direction, position: usize, cx: &mut Cx<'_>) {
        if !self.is_passing(direction) {
            return;
        }
        self.message.body.clear();
        let hold = self.flow(direction).hold_at(position);
        // What waited behind a strict hold was not shown to this plugin yet.
        let from = if hold.is_some_and(|h| h != Hold::Body) { position } else { position + 1 };
        if hold.is_some() {
            let passed = self.release_headers(direction, position, cx);
            self.on_headers_passed(direction, passed, cx);
        }
        if !self.is_passing(direction) {
            return;
        }
        let flow = self.flow(direction);
        let end = flow.end_at.take_if(|at| *at == position).is_some();
        let trailers = flow.trailers_at.take_if(|at| *at == position).is_some();
        self.join_kept(direction, position);
        if end || !self.message.body.is_empty() {
            let passed = self.pass_body(direction, from, end, cx);
            self.on_passed(direction, passed, cx);
        }
        if trailers && self.is_passing(direction) {
            let passed = self.pass_trailers(direction, from, cx);
            self.on_passed(direction, passed, cx);
        }
    }

    /// Whether a message of that direction is still wanted.
    fn is_passing(&self, direction: Direction) -> bool {
        let wanted = match direction {
            Direction::Request => self.request.is_wanted(),
            Direction::Response => !self.response.is_complete(),
        };
        wanted && self.stage == Stage::Running
    }

    fn on_headers_passed(&mut self, direction: Direction, passed: Passed, cx: &mut Cx<'_>) {
        match direction {
            Direction::Request => self.on_request_passed(passed, cx),
            Direction::Response => self.on_response_headers_passed(passed, cx),
        }
    }

    pub(super) fn on_passed(&mut self, direction: Direction, passed: Passed, cx: &mut Cx<'_>) {
        match direction {
            Direction::Request => self.on_request_passed(passed, cx),
            Direction::Response => self.on_response_body_passed(passed, cx),
        }
    }

    /// Who asked for the sleep that is over, if it still waits for it.
    fn sleeper(&self) -> Option<(Direction, usize)> {
        let of = |flow: &Flow| match flow.held {
            Some((position, Hold::Sleep(_))) => Some(position),
            _ => None,
        };
        if let Some(position) = of(&self.request.flow).filter(|_| self.request.is_wanted()) {
            return Some((Direction::Request, position));
        }
        of(&self.response.flow).map(|position| (Direction::Response, position))
    }

    pub(super) fn flow_and_body(&mut self, direction: Direction) -> (&mut Flow, &mut Vec<u8>) {
        match direction {
            Direction::Request => (&mut self.request.flow, &mut self.message.body),
            Direction::Response => (&mut self.response.flow, &mut self.message.body),
        }
    }

    fn arm_hold(&mut self, direction: Direction, cx: &Cx<'_>) {
        self.timers.arm(hold_timer(direction), cx.locals.now_ms, limits::HOLD_MS_MAX);
    }

    /// The direction's hold is over, unless something is still held there.
    pub(super) fn disarm_hold(&mut self, direction: Direction) {
        let flow = self.flow(direction);
        if flow.held.is_none() && flow.end_at.is_none() && flow.trailers_at.is_none() {
            self.timers.disarm(hold_timer(direction));
        }
    }
}

fn hold_timer(direction: Direction) -> Timer {
    match direction {
        Direction::Request => Timer::RequestHold,
        Direction::Response => Timer::ResponseHold,
    }
}
