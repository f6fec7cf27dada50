//! `vars` rules and templates: a line of JSON, then the variables' value.
#![no_main]

use ringgate::expr::{Expr, Template, Variables};
use std::borrow::Cow;

/// One value for every variable, but none for those that begin with `no`.
struct Same<'a>(&'a str);

impl Variables for Same<'_> {
    fn variable(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        (!name.starts_with("no")).then_some(Cow::Borrowed(self.0.as_bytes()))
    }
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (rule, value) = text.split_once('\n').unwrap_or((text, ""));
    let variables = Same(value);
    if let Ok(rule) = serde_json::from_str(rule)
        && let Ok(rule) = Expr::compile(&rule)
    {
        assert_eq!(rule.matches(&variables), rule.matches(&variables));
    }
    let template = Template::compile(rule);
    let mut out = Vec::new();
    template.render(&variables, &mut out);
    if let Some(fixed) = template.as_static() {
        assert_eq!(fixed, out);
    }
});
