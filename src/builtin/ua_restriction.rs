//! `ua-restriction`: only some user agents, or all but some.
//!
//! As APISIX's plugin of that name (`apisix/plugins/ua-restriction.lua`): of several User-Agent
//! fields each is looked at.

use super::refusal::Refusal;
use crate::expr::Pattern;
use crate::plugin::{Action, Hooks, Plugin, Stream};
use crate::schema::{Object, Reader};
use std::sync::Arc;

pub(super) const NAME: &str = "ua-restriction";

#[derive(Debug)]
struct UaRestriction {
    list: List,
    bypass_missing: bool,
    refusal: Refusal,
}

#[derive(Debug)]
enum List {
    Allow(Vec<Pattern>),
    Deny(Vec<Pattern>),
}

impl List {
    fn lets_pass(&self, agent: &[u8]) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.is_match(agent));
        match self {
            Self::Allow(patterns) => any(patterns),
            Self::Deny(patterns) => !any(patterns),
        }
    }
}

impl Plugin for UaRestriction {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST_HEADERS
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let headers = &stream.message.request.headers;
        let mut agents = headers.values(b"user-agent");
        let passes = match headers.get(b"user-agent") {
            None => self.bypass_missing,
            Some(_) => agents.all(|agent| self.list.lets_pass(agent)),
        };
        drop(agents);
        if passes { Action::Continue } else { self.refusal.give(stream.message) }
    }
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    if object.has("allowlist") == object.has("denylist") {
        object.error("expected either `allowlist` or `denylist`");
    }
    let allow = read_patterns(&mut object, "allowlist").map(List::Allow);
    let deny = read_patterns(&mut object, "denylist").map(List::Deny);
    let bypass_missing = object.boolean("bypass_missing").unwrap_or(false);
    let message = object.string("message", 1..=1024).unwrap_or("Not allowed");
    object.allow_unknown();
    let refusal = Refusal::message(403, message);
    Some(Arc::new(UaRestriction { list: allow.or(deny)?, bypass_missing, refusal }))
}

fn read_patterns(object: &mut Object<'_>, key: &'static str) -> Option<Vec<Pattern>> {
    object.get(key)?.list_of(1..=usize::MAX, |reader| {
        let compiled = Pattern::compile(reader.string(1..=usize::MAX)?, "jo");
        compiled.map_err(|why| reader.error(why)).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::testing::{answer, plugin, refused, request, run};
    use serde_json::json;

    #[test]
    fn agents() {
        let allow = json!({ "allowlist": ["my-bot1", "(Baiduspider)/(\\d+)\\.(\\d+)"] });
        let deny = json!({ "denylist": ["my-bot2", "(Twitterspider)/(\\d+)\\.(\\d+)"] });
        let bypass = json!({ "denylist": ["x"], "bypass_missing": true });
        for (conf, agents, passes) in [
            (&allow, &["my-bot1"][..], true),
            (&allow, &["Baiduspider/3.0"], true),
            (&allow, &["my-bot2"], false),
            (&allow, &["my-bot1", "my-bot2"], false),
            (&allow, &[], false),
            (&deny, &["my-bot2"], false),
            (&deny, &["Twitterspider/2.0"], false),
            (&deny, &["curl", "my-bot2"], false),
            (&deny, &["curl"], true),
            (&deny, &[], false),
            (&bypass, &[], true),
        ] {
            let mut message = request("GET", "/");
            for agent in agents {
                message.request.headers.append(b"User-Agent", agent.as_bytes());
            }
            let action = run(&*plugin(read, conf), &mut message);
            assert_eq!(action == Action::Continue, passes, "{conf} {agents:?}");
            let refused = (403, "{\"message\":\"Not allowed\"}\n".to_owned());
            assert!(passes || answer(&message) == refused);
        }
    }

    #[test]
    fn configurations_refused() {
        for (conf, start) in [
            (json!({}), "p: expected either `allowlist` or `denylist`"),
            (json!({ "allowlist": ["a"], "denylist": ["b"] }), "p: expected either"),
            (json!({ "allowlist": [] }), "p.allowlist: "),
            (json!({ "denylist": ["("] }), "p.denylist[0]: "),
            (json!({ "denylist": [1] }), "p.denylist[0]: "),
            (json!({ "denylist": ["a"], "message": "" }), "p.message: "),
        ] {
            refused(read, &conf, start);
        }
    }
}
