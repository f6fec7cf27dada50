//! Choosing the route again, for a plugin that changed what it was chosen by.
//!
//! The chain goes on as it began: only where the request goes, how long that may take and what the
//! route says of itself are the new route's (as in Envoy, whose filters stay too).

use super::Exchange;
use super::upstream::State;
use std::rc::Rc;

impl Exchange {
    /// Sees to [`Message::clear_route`](crate::plugin::Message::clear_route). Once an upstream was
    /// asked for it is too late.
    pub(super) fn choose_route_again(&mut self) {
        if !std::mem::take(&mut self.message.clear_route) || self.upstream.state != State::None {
            return;
        }
        let pinned = Rc::clone(self.pinned());
        self.chosen = pinned.snapshot.find_route(&self.message);
        self.message.route = self.chosen.map(|number| pinned.facts(number));
    }
}
