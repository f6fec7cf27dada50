//! Running a message through its chain, in either direction; the picture is in [`super::flow`].

use super::flow::{Direction, Passed};
use super::{Cx, Exchange};
use crate::expr::Variables;
use crate::plugin::{Action, Hold, Hooks, Message, Stream};
use crate::snapshot::{Chain, Step};
use std::ops::Range;

impl Exchange {
    /// Runs headers callbacks from `from` on. `end`: no body follows.
    pub(super) fn pass_headers(
        &mut self,
        direction: Direction,
        from: usize,
        end: bool,
        cx: &mut Cx<'_>,
    ) -> Passed {
        if self.steps.len() == 0 {
            self.flow(direction).headers_through = true;
            return Passed::Through;
        }
        let mut from = from;
        if direction == Direction::Request
            && let Some(joined_at) = self.joined_at(from)
        {
            let passed = self.pass_headers_of(direction, from..joined_at, end, cx);
            if passed != Passed::Through {
                return passed;
            }
            if let Err(status) = self.join_consumer(cx) {
                return Passed::Fail(status);
            }
            from = joined_at;
        }
        let passed = self.pass_headers_of(direction, from..usize::MAX, end, cx);
        self.flow(direction).headers_through |= passed == Passed::Through;
        passed
    }

    fn pass_headers_of(
        &mut self,
        direction: Direction,
        positions: Range<usize>,
        end: bool,
        cx: &mut Cx<'_>,
    ) -> Passed {
        let chain = &*self.running_chain();
        let (order, hook) = headers_order(chain, direction);
        let (from, until) = (positions.start, positions.end.min(order.len()));
        for (position, at) in order.iter().enumerate().take(until).skip(from) {
            let (at, step) = (*at as usize, &chain.steps()[*at as usize]);
            if !step.hooks.has(hook) || !self.runs(step, at) {
                continue;
            }
            let action = self.call(direction, at, cx, |stream| match direction {
                Direction::Request => step.plugin.on_request_headers(stream, end),
                Direction::Response => step.plugin.on_response_headers(stream, end),
            });
            match action {
                Action::Continue => {}
                Action::Pause(hold) => {
                    self.hold(direction, position, hold, cx);
                    return Passed::Held;
                }
                Action::Respond => return Passed::Respond(at),
                Action::Close => return Passed::Close,
            }
        }
        Passed::Through
    }

    /// Runs body callbacks from `from` on with the piece in `message.body`, which is what is left
    /// there when it is through.
    pub(super) fn pass_body(
        &mut self,
        direction: Direction,
        from: usize,
        end: bool,
        cx: &mut Cx<'_>,
    ) -> Passed {
        let hook = body_hook(direction);
        if !self.hooks.has(hook) && self.flow(direction).held.is_none() {
            self.flow(direction).end_through |= end;
            return Passed::Through;
        }
        let chain = &*self.running_chain();
        let (order, hook) = body_order(chain, direction);
        for (position, at) in order.iter().enumerate().skip(from) {
            let (at, step) = (*at as usize, &chain.steps()[*at as usize]);
            let asks = step.hooks.has(hook) && self.runs(step, at);
            let held = self.flow(direction).hold_at(position);
            if held.is_some_and(|hold| hold != Hold::Body || !asks) {
                return self.keep(direction, position, end, step, cx);
            }
            if !asks {
                continue;
            }
            self.join_kept(direction, position);
            match self.call_body(direction, at, step, end, cx) {
                Action::Continue if held.is_some() => {
                    let passed = self.release_headers(direction, position, cx);
                    if !passed.goes_on() {
                        return passed;
                    }
                }
                Action::Continue => {}
                Action::Pause(_) => return self.keep(direction, position, end, step, cx),
                Action::Respond => return Passed::Respond(at),
                Action::Close => return Passed::Close,
            }
        }
        self.flow(direction).end_through |= end;
        Passed::Through
    }

    /// Runs trailers callbacks from `from` on, after the last body piece. A plugin that kept body
    /// pieces sees them in its trailers callback and may edit them there; they go on to the next
    /// plugin after it, or wait with the trailers where it pauses.
    pub(super) fn pass_trailers(
        &mut self,
        direction: Direction,
        from: usize,
        cx: &mut Cx<'_>,
    ) -> Passed {
        let chain = &*self.running_chain();
        let (order, hook) = trailers_order(chain, direction);
        for (position, at) in order.iter().enumerate().skip(from) {
            let (at, step) = (*at as usize, &chain.steps()[*at as usize]);
            let runs = self.runs(step, at);
            let held = self.flow(direction).hold_at(position);
            let asks = runs && step.hooks.has(hook);
            if held.is_some_and(|hold| hold != Hold::Body || !asks) {
                return self.keep_trailers(direction, position, step, cx);
            }
            if !runs {
                continue;
            }
            let action = self.call_trailers(direction, at, position, step, cx);
            match action {
                Action::Continue => {}
                Action::Pause(_) => return self.keep_trailers(direction, position, step, cx),
                Action::Respond => return Passed::Respond(at),
                Action::Close => return Passed::Close,
            }
            if held.is_some() {
                let passed = self.release_headers(direction, position, cx);
                if !passed.goes_on() {
                    return passed;
                }
            }
        }
        self.flow(direction).end_through = true;
        Passed::Through
    }

    /// Tells every plugin that asked for it that the exchange is over.
    pub(super) fn run_log(&mut self, cx: &mut Cx<'_>) {
        if !self.hooks.has(Hooks::LOG) {
            return;
        }
        let chain = &*self.running_chain();
        for at in chain.response_order().iter().chain(chain.retired()) {
            let (at, step) = (*at as usize, &chain.steps()[*at as usize]);
            if step.hooks.has(Hooks::LOG) && self.runs(step, at) {
                step.plugin.on_log(&mut self.stream(at, cx));
            }
        }
    }

    fn call_body(
        &mut self,
        direction: Direction,
        at: usize,
        step: &Step,
        end: bool,
        cx: &mut Cx<'_>,
    ) -> Action {
        self.call(direction, at, cx, |stream| match direction {
            Direction::Request => step.plugin.on_request_body(stream, end),
            Direction::Response => step.plugin.on_response_body(stream, end),
        })
    }

    /// What earlier plugins kept arrives as one last piece, then come the trailers. A plugin that
    /// does not ask for trailers lets them go on, and what it kept before them.
    fn call_trailers(
        &mut self,
        direction: Direction,
        at: usize,
        position: usize,
        step: &Step,
        cx: &mut Cx<'_>,
    ) -> Action {
        let chain_hooks = step.hooks;
        let (body_hook, hook) = match direction {
            Direction::Request => (Hooks::REQUEST_BODY, Hooks::REQUEST_TRAILERS),
            Direction::Response => (Hooks::RESPONSE_BODY, Hooks::RESPONSE_TRAILERS),
        };
        let arrived = !self.message.body.is_empty();
        self.join_kept(direction, position);
        let mut action = Action::Continue;
        if arrived && chain_hooks.has(body_hook) {
            action = self.call_body(direction, at, step, false, cx);
        }
        if !matches!(action, Action::Continue | Action::Pause(_)) {
            return action;
        }
        action = Action::Continue;
        if chain_hooks.has(hook) {
            action = self.call(direction, at, cx, |stream| match direction {
                Direction::Request => step.plugin.on_request_trailers(stream),
                Direction::Response => step.plugin.on_response_trailers(stream),
            });
        }
        action
    }

    /// Calls a plugin. A resume that it asked for in its own callback takes back its pause; one for
    /// the other direction is seen to before the next command.
    pub(super) fn call(
        &mut self,
        direction: Direction,
        step: usize,
        cx: &mut Cx<'_>,
        callback: impl FnOnce(&mut Stream<'_>) -> Action,
    ) -> Action {
        let action = callback(&mut self.stream(step, cx));
        if self.message.clear_route {
            self.choose_route_again();
        }
        let request = std::mem::take(&mut self.message.resume_request);
        let response = std::mem::take(&mut self.message.resume_response);
        let (own, other, opposite) = match direction {
            Direction::Request => (request, response, Direction::Response),
            Direction::Response => (response, request, Direction::Request),
        };
        if other {
            self.steps.resume(step, opposite);
        }
        match action {
            Action::Pause(Hold::All | Hold::Body) if own => Action::Continue,
            action => action,
        }
    }

    fn stream<'a>(&'a mut self, step: usize, cx: &'a mut Cx<'_>) -> Stream<'a> {
        Stream {
            message: &mut self.message,
            state: &mut self.steps.at(step).word,
            locals: cx.locals,
            key: self.key.map(|key| key.of_step(step)),
        }
    }

    /// Whether `_meta.filter` lets a step run; asked once per exchange.
    fn runs(&mut self, step: &Step, at: usize) -> bool {
        let Some(filter) = &step.filter else { return true };
        let message: &Message = &self.message;
        *self.steps.at(at).runs.get_or_insert_with(|| {
            let variables: &dyn Variables = message;
            filter.matches(variables)
        })
    }
}

fn orders(chain: &Chain, direction: Direction) -> &[u16] {
    match direction {
        Direction::Request => chain.request_order(),
        Direction::Response => chain.response_order(),
    }
}

pub(super) fn headers_order(chain: &Chain, direction: Direction) -> (&[u16], Hooks) {
    let hook = match direction {
        Direction::Request => Hooks::REQUEST_HEADERS,
        Direction::Response => Hooks::RESPONSE_HEADERS,
    };
    (orders(chain, direction), hook)
}

fn body_order(chain: &Chain, direction: Direction) -> (&[u16], Hooks) {
    (orders(chain, direction), body_hook(direction))
}

fn body_hook(direction: Direction) -> Hooks {
    match direction {
        Direction::Request => Hooks::REQUEST_BODY,
        Direction::Response => Hooks::RESPONSE_BODY,
    }
}

fn trailers_order(chain: &Chain, direction: Direction) -> (&[u16], Hooks) {
    let hook = match direction {
        Direction::Request => Hooks::REQUEST_TRAILERS,
        Direction::Response => Hooks::RESPONSE_TRAILERS,
    };
    (orders(chain, direction), hook)
}
