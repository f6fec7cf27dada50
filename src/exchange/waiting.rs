//! An exchange that waits: its message where plugins can reach it, and what they ask meanwhile.

use super::cause::Cause;
use super::flow::Direction;
use super::pass::headers_order;
use super::{Cx, Exchange, Stage};
use crate::plugin::{Action, Ask, HeldBody, Plugin, Stream, StreamKey};
use std::task::Waker;

/// Whether the message is on its seat, and what went with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Parked {
    /// It is here.
    #[default]
    No,
    /// It is there, without a body.
    Plain,
    /// It is there with the body that this position holds back.
    WithBody(Direction, usize),
}

impl Exchange {
    /// Whether plugins may come back to it while it waits: only then it needs to be parked.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.key.is_some()
    }

    /// The driver has nothing to do for this exchange: its message can be reached from now on, and
    /// `waker` is woken when somebody asks something.
    pub fn park(&mut self, waker: &Waker, cx: &mut Cx<'_>) {
        let Some(key) = self.key else { return };
        if self.parked == Parked::No {
            self.parked = self.lend_body();
        }
        cx.locals.services.waiting.park(key, &mut self.message, waker);
    }

    /// Something happened: the message comes back.
    pub fn unpark(&mut self, cx: &mut Cx<'_>) {
        let Some(key) = self.key else { return };
        cx.locals.services.waiting.unpark(key, &mut self.message);
        if let Parked::WithBody(direction, position) = std::mem::take(&mut self.parked) {
            self.message.held_body = None;
            self.swap_kept(direction, position);
        }
    }

    /// Whether a plugin asked for something since the exchange was last looked at.
    #[must_use]
    pub fn is_asked(&self, cx: &Cx<'_>) -> bool {
        self.key.is_some_and(|key| cx.locals.services.waiting.is_asked(key))
    }

    /// Sees to everything that was asked.
    pub fn on_asked(&mut self, cx: &mut Cx<'_>) {
        let Some(key) = self.key else { return };
        while self.stage == Stage::Running
            && let Some((step, ask)) = cx.locals.services.waiting.take_ask(key)
        {
            self.on_ask(usize::from(step), ask, cx);
        }
    }

    fn on_ask(&mut self, step: usize, ask: Ask, cx: &mut Cx<'_>) {
        match ask {
            Ask::ResumeRequest => {
                self.steps.resume(step, Direction::Request);
                self.run_resumed(cx);
            }
            Ask::ResumeResponse => {
                self.steps.resume(step, Direction::Response);
                self.run_resumed(cx);
            }
            Ask::Respond => self.answer_for(step, cx),
            Ask::Close => self.close_for(),
            Ask::Reply(reply) => {
                let held = self.held_by(step);
                self.come_back(step, held, cx, |plugin, stream| plugin.on_reply(stream, reply));
            }
            Ask::Lost => {
                // Where it holds nothing it is asked again in its next callback, if there is one.
                if let held @ Some(_) = self.held_by(step) {
                    self.come_back(step, held, cx, |plugin, stream| plugin.on_lost(stream));
                }
            }
        }
    }

    /// Where a plugin holds something back.
    fn held_by(&mut self, at: usize) -> Option<(Direction, usize)> {
        let chain = &*self.running_chain();
        [Direction::Response, Direction::Request].into_iter().find_map(|direction| {
            let order = headers_order(chain, direction).0;
            let position = order.iter().position(|step| usize::from(*step) == at)?;
            self.flow(direction).waits_at(position).then_some((direction, position))
        })
    }

    /// A plugin is called between its callbacks, with the body it holds back.
    fn come_back(
        &mut self,
        at: usize,
        held: Option<(Direction, usize)>,
        cx: &mut Cx<'_>,
        callback: impl FnOnce(&dyn Plugin, &mut Stream<'_>) -> Action,
    ) {
        let chain = &*self.running_chain();
        let plugin = &*chain.steps()[at].plugin;
        let direction = held.map_or(Direction::Request, |(direction, _)| direction);
        if let Some((direction, position)) = held {
            self.swap_kept(direction, position);
        }
        let action = self.call(direction, at, cx, |stream| callback(plugin, stream));
        if let Some((direction, position)) = held {
            self.swap_kept(direction, position);
        }
        match (action, held) {
            (Action::Continue, Some((direction, position))) => {
                self.let_go(direction, position, cx);
            }
            (Action::Pause(hold), Some((direction, position))) => {
                if self.flow(direction).hold_at(position).is_some() {
                    self.hold(direction, position, hold, cx);
                }
            }
            (Action::Respond, _) => self.answer_for(at, cx),
            (Action::Close, _) => self.close_for(),
            (Action::Continue | Action::Pause(_), None) => {}
        }
    }

    /// A plugin answers; what is said already can't be said again.
    fn answer_for(&mut self, step: usize, cx: &mut Cx<'_>) {
        self.message.answered = false;
        if !self.response.is_complete() {
            self.respond(Some(step), cx);
        }
    }

    /// A plugin closes; of a request whose response is whole only the rest is not waited for.
    fn close_for(&mut self) {
        if self.response.is_complete() {
            self.request.refuse_rest();
        } else {
            self.abort(Cause::PluginClosed);
        }
    }

    pub(super) fn sit_down(&mut self, cx: &mut Cx<'_>) -> StreamKey {
        let waiting = &cx.locals.services.waiting;
        let seat = *self.seat.get_or_insert_with(|| waiting.new_seat());
        self.parked = Parked::No;
        waiting.sit(seat)
    }

    /// Puts what a plugin holds back of a body, or of one with trailers, where it can be read and
    /// edited.
    fn lend_body(&mut self) -> Parked {
        for direction in [Direction::Response, Direction::Request] {
            let flow = self.flow(direction);
            let trailers_at = flow.trailers_at;
            let Some(position) = flow.keeps_at().or(trailers_at) else { continue };
            let order = headers_order(self.chain(), direction).0;
            let of_response = direction == Direction::Response;
            let step = order[position];
            self.message.body.clear();
            let with_trailers = trailers_at == Some(position);
            self.message.held_body = Some(HeldBody { step, of_response, with_trailers });
            self.swap_kept(direction, position);
            return Parked::WithBody(direction, position);
        }
        Parked::Plain
    }

    fn swap_kept(&mut self, direction: Direction, position: usize) {
        let (flow, body) = self.flow_and_body(direction);
        flow.swap_kept(position, body);
    }
}
