//! The plugins of one route in the order they run.

use crate::expr::Expr;
use crate::plugin::{Hooks, Plugin, RequestPhase};
use std::sync::Arc;

/// One configured plugin of a chain.
#[derive(Clone, Debug)]
pub struct Step {
    /// The plugin.
    pub plugin: Arc<dyn Plugin>,
    /// Its hooks, asked once.
    pub hooks: Hooks,
    /// `_meta.filter`: it runs only for requests that match.
    pub filter: Option<Expr>,
    /// `_meta.error_response`: replaces the body of its responses of 400 and more.
    pub error_response: Option<Vec<u8>>,
    /// Where its request callbacks stand.
    pub phase: RequestPhase,
    /// Whether it comes from a global rule.
    pub global: bool,
    /// Its own or `_meta.priority`; higher runs first.
    pub priority: i64,
}

/// All plugins of a route with the orders of its two directions (APISIX reference §9).
#[derive(Clone, Debug, Default)]
pub struct Chain {
    steps: Vec<Step>,
    request: Vec<u16>,
    response: Vec<u16>,
    hooks: Hooks,
}

impl Chain {
    /// Puts steps in order. Request callbacks run by phase, in each phase global rules before the
    /// route's plugins, and by falling priority. Response callbacks have one phase only; those of
    /// APISIX's `before_proxy` see the response before its header filters do, so they run first,
    /// and those that code the body last.
    #[must_use]
    pub fn new(steps: Vec<Step>) -> Self {
        let mut request: Vec<u16> = (0..steps.len() as u16).collect();
        let mut response = request.clone();
        let step = |at: &u16| &steps[*at as usize];
        request.sort_by_key(|at| (step(at).phase, !step(at).global, -step(at).priority));
        response.sort_by_key(|at| {
            let step = step(at);
            let early = step.phase == RequestPhase::BeforeProxy;
            (step.plugin.is_last_in_response(), !early, !step.global, -step.priority)
        });
        let hooks = steps.iter().fold(Hooks::NONE, |all, step| all | step.hooks);
        Self { steps, request, response, hooks }
    }

    /// The steps, in no order that means anything.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Indices of steps in the order of request callbacks.
    #[must_use]
    pub fn request_order(&self) -> &[u16] {
        &self.request
    }

    /// Indices of steps in the order of response and log callbacks.
    #[must_use]
    pub fn response_order(&self) -> &[u16] {
        &self.response
    }

    /// Everything that some step wants.
    #[must_use]
    pub fn hooks(&self) -> Hooks {
        self.hooks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `z` codes the body.
    #[derive(Debug)]
    struct Named(&'static str);

    impl Plugin for Named {
        fn name(&self) -> &str {
            self.0
        }

        fn hooks(&self) -> Hooks {
            Hooks::LOG
        }

        fn is_last_in_response(&self) -> bool {
            self.0 == "z"
        }
    }

    fn step(name: &'static str, phase: RequestPhase, global: bool, priority: i64) -> Step {
        let plugin = Arc::new(Named(name));
        let hooks = plugin.hooks();
        Step { plugin, hooks, filter: None, error_response: None, phase, global, priority }
    }

    #[test]
    fn orders() {
        use RequestPhase::{Access, Rewrite};
        let chain = Chain::new(vec![
            step("a", Access, false, 9),
            step("b", Rewrite, false, 1),
            step("c", Rewrite, false, 5),
            step("d", Access, true, 0),
            step("e", Rewrite, true, -3),
            step("z", Access, true, 99),
        ]);
        let names = |order: &[u16]| -> String {
            order.iter().map(|at| chain.steps()[*at as usize].plugin.name()).collect()
        };
        assert_eq!(names(chain.request_order()), "ecbzda");
        assert_eq!(names(chain.response_order()), "deacbz");
        assert!(chain.hooks().has(Hooks::LOG) && !chain.hooks().has(Hooks::REQUEST_BODY));
    }
}
