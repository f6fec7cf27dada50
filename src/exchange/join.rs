//! A consumer's own plugins join its request, once it is known whose it is (APISIX reference §7,
//! §9).
//!
//! ```text
//! rewrite: global, route ─► whose is it? ─► rewrite: what the consumer adds ─► access: all
//!                             └ its group does not exist: 503
//! ```

use super::{Cx, Exchange};
use crate::plugin::Hooks;
use std::rc::Rc;

impl Exchange {
    /// The place in the request's order where a consumer's plugins join, if that is still to come.
    pub(super) fn joined_at(&self, from: usize) -> Option<usize> {
        let pinned = self.pinned();
        if pinned.snapshot.consumers.is_empty() || self.joined.is_some() {
            return None;
        }
        Some(pinned.snapshot.route(Some(self.route?)).chain.joined_at()).filter(|at| from <= *at)
    }

    /// Lets the consumer's plugins join.
    ///
    /// # Errors
    /// The status that the request is answered with.
    pub(super) fn join_consumer(&mut self, cx: &mut Cx<'_>) -> Result<(), u16> {
        let (Some(consumer), Some(route)) = (&self.message.consumer, self.route) else {
            return Ok(());
        };
        let pinned = Rc::clone(self.pinned());
        let Some(chain) = pinned.chain_with(route, &consumer.username)? else { return Ok(()) };
        self.steps.grow(chain.steps().len());
        self.hooks = chain.hooks();
        if self.key.is_none() && self.hooks.has(Hooks::WAITS) {
            self.key = Some(self.sit_down(cx));
        }
        self.joined = Some(chain);
        Ok(())
    }
}
