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
    /// Its own. A consumer's plugins that join a request run by it where they catch up on the
    /// rewrite phase (APISIX reference §8).
    pub own_priority: i64,
}

/// All plugins of a route with the orders of its two directions (APISIX reference §9).
#[derive(Clone, Debug, Default)]
pub struct Chain {
    steps: Vec<Step>,
    request: Vec<u16>,
    response: Vec<u16>,
    /// Steps that took part in the request and have no say in the response any more: only its end
    /// is still told to them.
    retired: Vec<u16>,
    hooks: Hooks,
}

impl Chain {
    /// Puts steps in order. Request callbacks run by phase, in each phase global rules before the
    /// route's plugins, and by falling priority. Response callbacks have one phase only; those of
    /// APISIX's `before_proxy` see the response before its header filters do, so they run first,
    /// and those that code the body last.
    #[must_use]
    pub fn new(steps: Vec<Step>) -> Self {
        let all: Vec<u16> = (0..steps.len() as u16).collect();
        let (mut request, mut response) = (all.clone(), all);
        request.sort_by_key(|at| request_key(&steps[*at as usize]));
        response.sort_by_key(|at| response_key(&steps[*at as usize]));
        let hooks = steps.iter().fold(Hooks::NONE, |all, step| all | step.hooks);
        Self { steps, request, response, retired: Vec::new(), hooks }
    }

    /// The chain of a request of this one's route, once it is known who sent it: with the
    /// consumer's plugins, which win over the route's of the same name (APISIX reference §7, §9).
    /// The steps of this chain keep their numbers, and those of the rewrite phase, which have run,
    /// their places; new ones of that phase come after them. What they replace is out from there
    /// on.
    #[must_use]
    pub fn with_consumer(&self, of_consumer: &[Step]) -> Self {
        let known = self.steps.len();
        let mut steps = self.steps.clone();
        steps.extend_from_slice(of_consumer);
        let same = |a: &Step, b: &Step| !a.global && a.plugin.name() == b.plugin.name();
        let is_replaced = |at: u16| of_consumer.iter().any(|of| same(&steps[at as usize], of));
        let (ran, later) = self.request.split_at(self.joined_at());
        let added = (known..steps.len()).map(|at| at as u16);
        let is_new = |at: &u16| !self.steps.iter().any(|step| same(step, &steps[*at as usize]));
        let (rewrite, access): (Vec<u16>, Vec<u16>) =
            added.clone().partition(|at| steps[*at as usize].phase == RequestPhase::Rewrite);
        let mut catch_up: Vec<u16> = rewrite.into_iter().filter(is_new).collect();
        catch_up.sort_by_key(|at| -steps[*at as usize].own_priority);
        let stay = |order: &[u16]| -> Vec<u16> {
            order.iter().copied().filter(|at| !is_replaced(*at)).collect()
        };
        let mut later = stay(later);
        later.extend(access);
        later.sort_by_key(|at| request_key(&steps[*at as usize]));
        let mut response = stay(&self.response);
        response.extend(added);
        response.sort_by_key(|at| response_key(&steps[*at as usize]));
        let retired = ran.iter().copied().filter(|at| is_replaced(*at)).collect();
        let request = [ran, &catch_up, &later].concat();
        let hooks = steps.iter().fold(Hooks::NONE, |all, step| all | step.hooks);
        Self { steps, request, response, retired, hooks }
    }

    /// The place in the order of request callbacks where a consumer's plugins join: behind the
    /// rewrite phase.
    #[must_use]
    pub fn joined_at(&self) -> usize {
        let is_rewrite = |at: &u16| self.steps[*at as usize].phase == RequestPhase::Rewrite;
        self.request.partition_point(is_rewrite)
    }

    /// The only step that does anything, if there is one.
    #[must_use]
    pub fn sole(&self) -> Option<&Step> {
        let mut active = self.steps.iter().filter(|step| step.hooks != Hooks::NONE);
        active.next().filter(|_| active.next().is_none())
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

    /// Indices of steps that only the end of the exchange is told to, beside those of the response.
    #[must_use]
    pub fn retired(&self) -> &[u16] {
        &self.retired
    }

    /// Everything that some step wants.
    #[must_use]
    pub fn hooks(&self) -> Hooks {
        self.hooks
    }
}

/// By phase, global rules first, by falling priority.
fn request_key(step: &Step) -> (RequestPhase, bool, i64) {
    (step.phase, !step.global, -step.priority)
}

fn response_key(step: &Step) -> (bool, bool, bool, i64) {
    let early = step.phase == RequestPhase::BeforeProxy;
    (step.plugin.is_last_in_response(), !early, !step.global, -step.priority)
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
        let own_priority = 10 - priority;
        let (filter, error_response) = (None, None);
        Step { plugin, hooks, filter, error_response, phase, global, priority, own_priority }
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
    /// `C` and `A` are the consumer's `c` and `a`; capital letters of others are plugins the route
    /// does not have.
    #[test]
    fn consumers() {
        use RequestPhase::{Access, BeforeProxy, Rewrite};
        let route = || {
            vec![
                step("k", Rewrite, false, 4),
                step("c", Rewrite, false, 5),
                step("c", Rewrite, true, 1),
                step("a", Access, false, 2),
                step("b", Access, false, 7),
                step("a", Access, true, 3),
            ]
        };
        let cases: [(Vec<Step>, &str, &str, &str); 6] = [
            // It has nothing: nothing changes.
            (vec![], "c1c5k4a3b7a2", "a3c1b7c5k4a2", ""),
            // A new one of the access phase goes to its place.
            (vec![step("n", Access, false, 5)], "c1c5k4a3b7n5a2", "a3c1b7c5n5k4a2", ""),
            // New ones of the rewrite phase come behind the route's, by their own priorities.
            (
                vec![step("n", Rewrite, false, 9), step("m", Rewrite, false, 8)],
                "c1c5k4m8n9a3b7a2",
                "a3c1n9m8b7c5k4a2",
                "",
            ),
            // One that the route has in the access phase takes its place; a global rule's stays.
            (vec![step("a", Access, false, 99)], "c1c5k4a3a99b7", "a3c1a99b7c5k4", ""),
            // One that the route has in the rewrite phase has run: the consumer's has the response.
            (vec![step("c", Rewrite, false, 0)], "c1c5k4a3b7a2", "a3c1b7k4a2c0", "c5"),
            (vec![step("n", BeforeProxy, false, 0)], "c1c5k4a3b7a2n0", "n0a3c1b7c5k4a2", ""),
        ];
        for (case, (of_consumer, request, response, retired)) in cases.into_iter().enumerate() {
            let chain = Chain::new(route()).with_consumer(&of_consumer);
            let names = |order: &[u16]| -> String {
                let step = |at: &u16| &chain.steps()[*at as usize];
                order
                    .iter()
                    .map(|at| format!("{}{}", step(at).plugin.name(), step(at).priority))
                    .collect()
            };
            assert_eq!(names(chain.request_order()), request, "case {case}");
            assert_eq!(names(chain.response_order()), response, "case {case}");
            assert_eq!(names(chain.retired()), retired, "case {case}");
        }
    }
}
