//! Running a message through its chain, in either direction.
//!
//! ```text
//!            position 0 ──► 1 ──► 2 ──► … ──► out of the chain
//! headers      run in order; one may hold them: nothing passes its position
//! body         each piece runs through in order; a plugin that pauses keeps its piece, and sees it
//!              again, with more, next time
//! ```

use super::{Cx, Exchange};
use crate::plugin::{Action, Hold, Hooks, Message, Stream};
use crate::snapshot::{Chain, Step};
use crate::{expr::Variables, limits};

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Response,
}

/// What a pass through the chain came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// Everything is through.
    Through,
    /// Some plugin holds it.
    Held,
    /// The plugin of that step answers with `message.local`.
    Respond(usize),
    /// A plugin closes the exchange.
    Close,
    /// A plugin holds back more than it may.
    TooMuch,
}

/// What the exchange remembers for each step of its chain.
#[derive(Debug, Default)]
pub(super) struct Steps {
    steps: Vec<StepState>,
    used: usize,
}

#[derive(Debug, Default)]
struct StepState {
    /// The plugin's own word.
    word: u64,
    /// Whether `_meta.filter` lets it run; `None`: not asked yet.
    runs: Option<bool>,
}

impl Steps {
    pub(super) fn begin(&mut self, count: usize) {
        if self.steps.len() < count {
            self.steps.resize_with(count, StepState::default);
        }
        for step in &mut self.steps[..count] {
            (step.word, step.runs) = (0, None);
        }
        self.used = count;
    }
}

/// One direction's place in the chain.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// The position that holds the headers, and how.
    held: Option<(usize, Hold)>,
    /// Whether all headers callbacks are done.
    pub(super) headers_through: bool,
    /// The pieces kept by paused body callbacks, by position.
    kept: Vec<Vec<u8>>,
    /// The position whose paused body callback has seen the end.
    end_at: Option<usize>,
    /// Whether the end of the body went through the whole chain.
    pub(super) end_through: bool,
}

impl Flow {
    pub(super) fn clear(&mut self) {
        self.held = None;
        self.headers_through = false;
        self.end_at = None;
        self.end_through = false;
        for piece in &mut self.kept {
            piece.clear();
            piece.shrink_to(limits::POOLED_BUFFER_BYTES_MAX);
        }
    }

    /// Whether body bytes may enter the chain now.
    pub(super) fn takes_body(&self) -> bool {
        match self.held {
            None => self.headers_through,
            Some((_, hold)) => hold == Hold::Body,
        }
    }

    /// Whether something waits for a plugin to resume it.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some() || (self.end_at.is_some() && !self.end_through)
    }

    fn keep(&mut self, position: usize, piece: &mut Vec<u8>) -> usize {
        if self.kept.len() <= position {
            self.kept.resize_with(position + 1, Vec::new);
        }
        let kept = &mut self.kept[position];
        if kept.is_empty() {
            std::mem::swap(kept, piece);
        } else {
            kept.append(piece);
        }
        kept.len()
    }

    /// Puts what `position` kept before `piece`.
    fn join_kept(&mut self, position: usize, piece: &mut Vec<u8>) {
        if let Some(kept) = self.kept.get_mut(position)
            && !kept.is_empty()
        {
            kept.extend_from_slice(piece);
            std::mem::swap(kept, piece);
            kept.clear();
        }
    }
}

impl Exchange {
    /// Runs headers callbacks from `from` on.
    pub(super) fn pass_headers(
        &mut self,
        direction: Direction,
        from: usize,
        end: bool,
        cx: &mut Cx<'_>,
    ) -> Passed {
        let pinned = std::rc::Rc::clone(self.pinned());
        let chain = Self::chain_of(&pinned, self.route);
        let (order, hook) = headers_order(chain, direction);
        for (position, at) in order.iter().enumerate().skip(from) {
            let step = &chain.steps()[*at as usize];
            if !step.hooks.has(hook) || !self.runs(step, *at as usize) {
                continue;
            }
            let action = self.call(*at as usize, cx, |stream| match direction {
                Direction::Request => step.plugin.on_request_headers(stream, end),
                Direction::Response => step.plugin.on_response_headers(stream, end),
            });
            match self.after(direction, action) {
                Action::Continue => {}
                Action::Pause(hold) => {
                    self.hold(direction, position, hold, cx);
                    return Passed::Held;
                }
                Action::Respond => return Passed::Respond(*at as usize),
                Action::Close => return Passed::Close,
            }
        }
        self.flow(direction).headers_through = true;
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
        let pinned = std::rc::Rc::clone(self.pinned());
        let chain = Self::chain_of(&pinned, self.route);
        let (order, hook) = body_order(chain, direction);
        for (position, at) in order.iter().enumerate().skip(from) {
            let step = &chain.steps()[*at as usize];
            let held_here = self.flow(direction).held.is_some_and(|(held, _)| held == position);
            if !step.hooks.has(hook) || !self.runs(step, *at as usize) {
                if held_here {
                    return self.keep(direction, position, end, step);
                }
                continue;
            }
            self.flow_and_body(direction, |flow, body| flow.join_kept(position, body));
            let action = self.call(*at as usize, cx, |stream| match direction {
                Direction::Request => step.plugin.on_request_body(stream, end),
                Direction::Response => step.plugin.on_response_body(stream, end),
            });
            match self.after(direction, action) {
                Action::Continue if held_here => {
                    self.flow(direction).held = None;
                    match self.pass_headers(direction, position + 1, false, cx) {
                        Passed::Through => {}
                        other => return self.stash(direction, position + 1, end, other),
                    }
                }
                Action::Continue => {}
                Action::Pause(_) => return self.keep(direction, position, end, step),
                Action::Respond => return Passed::Respond(*at as usize),
                Action::Close => return Passed::Close,
            }
        }
        self.flow(direction).end_through |= end;
        Passed::Through
    }

    /// Runs trailers callbacks, after the last body piece. A plugin that kept body pieces sees them in
    /// its trailers callback and may edit them there; they go on to the next plugin after it. A pause
    /// holds nothing: trailers are all that is left.
    pub(super) fn pass_trailers(&mut self, direction: Direction, cx: &mut Cx<'_>) -> Passed {
        let pinned = std::rc::Rc::clone(self.pinned());
        let chain = Self::chain_of(&pinned, self.route);
        let (order, body_hook) = body_order(chain, direction);
        let hook = match direction {
            Direction::Request => Hooks::REQUEST_TRAILERS,
            Direction::Response => Hooks::RESPONSE_TRAILERS,
        };
        for (position, at) in order.iter().enumerate() {
            let step = &chain.steps()[*at as usize];
            if !self.runs(step, *at as usize) {
                continue;
            }
            let mut action = Action::Continue;
            if step.hooks.has(body_hook) && !self.message.body.is_empty() {
                action = self.call(*at as usize, cx, |stream| match direction {
                    Direction::Request => step.plugin.on_request_body(stream, false),
                    Direction::Response => step.plugin.on_response_body(stream, false),
                });
            }
            self.flow_and_body(direction, |flow, body| flow.join_kept(position, body));
            if step.hooks.has(hook) && !matches!(action, Action::Respond | Action::Close) {
                action = self.call(*at as usize, cx, |stream| match direction {
                    Direction::Request => step.plugin.on_request_trailers(stream),
                    Direction::Response => step.plugin.on_response_trailers(stream),
                });
            }
            match action {
                Action::Continue | Action::Pause(_) => {}
                Action::Respond => return Passed::Respond(*at as usize),
                Action::Close => return Passed::Close,
            }
        }
        self.flow(direction).end_through = true;
        Passed::Through
    }

    /// The plugin that slept is asked again, and the headers go on if it lets them.
    pub(super) fn pass_after_sleep(&mut self, cx: &mut Cx<'_>) -> Option<(Direction, Passed)> {
        let direction = match (self.request.flow.held, self.response.flow.held) {
            (Some((_, Hold::Sleep(_))), _) => Direction::Request,
            (_, Some((_, Hold::Sleep(_)))) => Direction::Response,
            _ => return None,
        };
        let (position, _) = self.flow(direction).held.take()?;
        let pinned = std::rc::Rc::clone(self.pinned());
        let chain = Self::chain_of(&pinned, self.route);
        let at = headers_order(chain, direction).0[position] as usize;
        let step = &chain.steps()[at];
        let action = self.call(at, cx, |stream| step.plugin.on_due(stream));
        let passed = match self.after(direction, action) {
            Action::Continue => {
                let end = self.ends_with_headers(direction);
                self.pass_headers(direction, position + 1, end, cx)
            }
            Action::Pause(hold) => {
                self.hold(direction, position, hold, cx);
                Passed::Held
            }
            Action::Respond => Passed::Respond(at),
            Action::Close => Passed::Close,
        };
        Some((direction, passed))
    }

    /// Tells every plugin that asked for it that the exchange is over.
    pub(super) fn run_log(&mut self, cx: &mut Cx<'_>) {
        let pinned = std::rc::Rc::clone(self.pinned());
        let chain = Self::chain_of(&pinned, self.route);
        if !chain.hooks().has(Hooks::LOG) {
            return;
        }
        for at in chain.response_order() {
            let step = &chain.steps()[*at as usize];
            if step.hooks.has(Hooks::LOG) && self.runs(step, *at as usize) {
                self.call(*at as usize, cx, |stream| {
                    step.plugin.on_log(stream);
                    Action::Continue
                });
            }
        }
    }

    pub(super) fn flow(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::Request => &mut self.request.flow,
            Direction::Response => &mut self.response.flow,
        }
    }

    fn flow_and_body(&mut self, direction: Direction, f: impl FnOnce(&mut Flow, &mut Vec<u8>)) {
        let flow = match direction {
            Direction::Request => &mut self.request.flow,
            Direction::Response => &mut self.response.flow,
        };
        f(flow, &mut self.message.body);
    }

    fn hold(&mut self, direction: Direction, position: usize, hold: Hold, cx: &Cx<'_>) {
        self.flow(direction).held = Some((position, hold));
        if let Hold::Sleep(ms) = hold {
            self.sleep = Some(ms.min(limits::DELAY_MS_MAX));
        } else {
            self.timers.arm(super::Timer::Hold, cx.locals.now_ms, limits::HOLD_MS_MAX);
        }
    }

    /// A paused body callback keeps its piece, as far as it may.
    fn keep(&mut self, direction: Direction, position: usize, end: bool, step: &Step) -> Passed {
        let mut len = 0;
        self.flow_and_body(direction, |flow, body| len = flow.keep(position, body));
        if end {
            self.flow(direction).end_at = Some(position);
        }
        if len > step.plugin.held_bytes_max() { Passed::TooMuch } else { Passed::Held }
    }

    /// Headers that were released by a body callback are held again further on: the piece waits there.
    fn stash(
        &mut self,
        direction: Direction,
        position: usize,
        end: bool,
        passed: Passed,
    ) -> Passed {
        if passed == Passed::Held {
            self.flow_and_body(direction, |flow, body| {
                let at = flow.held.map_or(position, |(held, _)| held);
                flow.keep(at, body);
                if end {
                    flow.end_at = Some(at);
                }
            });
        }
        passed
    }

    /// A resume that a plugin asked for in its own callback takes back its pause.
    fn after(&mut self, direction: Direction, action: Action) -> Action {
        let resumed = match direction {
            Direction::Request => std::mem::take(&mut self.message.resume_request),
            Direction::Response => std::mem::take(&mut self.message.resume_response),
        };
        match action {
            Action::Pause(Hold::All | Hold::Body) if resumed => Action::Continue,
            action => action,
        }
    }

    fn call(
        &mut self,
        step: usize,
        cx: &mut Cx<'_>,
        callback: impl FnOnce(&mut Stream<'_>) -> Action,
    ) -> Action {
        callback(&mut Stream {
            message: &mut self.message,
            state: &mut self.steps.steps[step].word,
            locals: cx.locals,
        })
    }

    /// Whether `_meta.filter` lets a step run; asked once per exchange.
    fn runs(&mut self, step: &Step, at: usize) -> bool {
        let Some(filter) = &step.filter else { return true };
        let message: &Message = &self.message;
        *self.steps.steps[at].runs.get_or_insert_with(|| {
            let variables: &dyn Variables = message;
            filter.matches(variables)
        })
    }
}

fn headers_order(chain: &Chain, direction: Direction) -> (&[u16], Hooks) {
    match direction {
        Direction::Request => (chain.request_order(), Hooks::REQUEST_HEADERS),
        Direction::Response => (chain.response_order(), Hooks::RESPONSE_HEADERS),
    }
}

fn body_order(chain: &Chain, direction: Direction) -> (&[u16], Hooks) {
    match direction {
        Direction::Request => (chain.request_order(), Hooks::REQUEST_BODY),
        Direction::Response => (chain.response_order(), Hooks::RESPONSE_BODY),
    }
}
