//! `uri-blocker`: turns requests away whose URI matches one of its rules.
//!
//! As APISIX's plugin of that name (`apisix/plugins/uri-blocker.lua`): rules look at
//! `$request_uri`, the normalised path with the query as received.

use super::refusal::Refusal;
use crate::expr::{Pattern, Variables};
use crate::plugin::{Action, Hooks, Message, Plugin, Stream};
use crate::schema::Reader;
use std::collections::HashSet;
use std::sync::Arc;

pub(super) const NAME: &str = "uri-blocker";

#[derive(Debug)]
struct UriBlocker {
    rules: Vec<Pattern>,
    refusal: Refusal,
}

impl Plugin for UriBlocker {
    fn name(&self) -> &str {
        NAME
    }

    fn hooks(&self) -> Hooks {
        Hooks::REQUEST_HEADERS
    }

    fn on_request_headers(&self, stream: &mut Stream<'_>, _end_of_stream: bool) -> Action {
        let message: &mut Message = stream.message;
        let uri = &mut stream.locals.scratch;
        uri.clear();
        message.append_variable("request_uri", uri);
        if self.rules.iter().any(|rule| rule.is_match(uri)) {
            return self.refusal.give(message);
        }
        Action::Continue
    }
}

/// Reads the configuration. Unknown keys are allowed, as APISIX allows them.
pub(super) fn read(conf: Reader<'_>) -> Option<Arc<dyn Plugin>> {
    let mut object = conf.object()?;
    let options = match object.boolean("case_insensitive") {
        Some(true) => "i",
        _ => "",
    };
    let mut seen = HashSet::new();
    let rule = |reader: Reader<'_>| {
        let text = reader.string(1..=4096)?;
        if !seen.insert(text.to_owned()) {
            reader.error(format!("the rule {text:?} is there twice"));
        }
        Pattern::compile(text, options).map_err(|why| reader.error(why)).ok()
    };
    let rules = object.need("block_rules").and_then(|list| list.list_of(0..=usize::MAX, rule));
    let status = object.integer("rejected_code", 200..=999).unwrap_or(403) as u16;
    let text = object.string("rejected_msg", 1..=usize::MAX);
    object.allow_unknown();
    let refusal = Refusal::error_msg(status, text);
    Some(Arc::new(UriBlocker { rules: rules?, refusal }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::testing::{answer, plugin, refused, request, run};
    use serde_json::json;

    #[test]
    fn blocked() {
        let rules = json!({ "block_rules": ["root.exe", "^/a/.*\\.php$", "select.+from"] });
        let any_case = json!({ "block_rules": ["select.+from"], "case_insensitive": true });
        for (conf, target, blocked) in [
            (&rules, "/hello", false),
            (&rules, "/?name=root.exe", true),
            (&rules, "/a/%69ndex.p%68p", true),
            (&rules, "/a/index.php?x", false),
            (&rules, "/?q=select%20x%20from%20y", true),
            (&rules, "/?q=SELECT+x+FROM", false),
            (&any_case, "/?q=SELECT+x+FROM", true),
            (&json!({ "block_rules": [] }), "/", false),
        ] {
            let mut message = request("GET", target);
            let action = run(&*plugin(read, conf), &mut message);
            assert_eq!(action == Action::Respond, blocked, "{conf} {target}");
            assert!(!blocked || answer(&message) == (403, String::new()));
        }
    }

    #[test]
    fn answers() {
        let conf = json!({
            "block_rules": ["."], "rejected_code": 401, "rejected_msg": "access is not allowed",
        });
        let mut message = request("GET", "/");
        run(&*plugin(read, &conf), &mut message);
        let body = "{\"error_msg\":\"access is not allowed\"}\n".to_owned();
        assert_eq!(answer(&message), (401, body));
    }

    #[test]
    fn configurations_refused() {
        for (conf, start) in [
            (json!({}), "p: missing key `block_rules`"),
            (json!({ "block_rules": ["^a", "^b("] }), "p.block_rules[1]: "),
            (json!({ "block_rules": [""] }), "p.block_rules[0]: "),
            (json!({ "block_rules": ["a", "a"] }), "p.block_rules[1]: the rule"),
            (json!({ "block_rules": ["a"], "rejected_code": 100 }), "p.rejected_code: "),
            (json!({ "block_rules": ["a"], "rejected_msg": "" }), "p.rejected_msg: "),
        ] {
            refused(read, &conf, start);
        }
    }
}
