//! What `limit-count` and its like count by.

use crate::expr::{Template, Variables};
use crate::plugin::Message;
use crate::schema::{Fault, Object};

/// The key of a limit.
#[derive(Clone, Debug)]
pub(super) enum LimitKey {
    /// `var`: one variable.
    Variable(Box<str>),
    /// `var_combination`: a template.
    Combination(Template),
    /// `constant`: the same for every request.
    Constant(Box<str>),
}

impl LimitKey {
    /// Reads `key` and `key_type`.
    pub(super) fn read(object: &mut Object<'_>, default: Option<&str>) -> Option<Self> {
        let kinds = [
            ("var", variable as fn(&str) -> Self),
            ("var_combination", combination),
            ("constant", constant),
        ];
        // Where a key must be given, it can't be a constant.
        let kinds = &kinds[..if default.is_some() { 3 } else { 2 }];
        let kind = object.one_of("key_type", kinds).unwrap_or(variable);
        let text = match (object.get("key"), default) {
            (Some(reader), _) => reader.string(0..=usize::MAX)?,
            (None, Some(default)) => default,
            (None, None) => object.need("key")?.string(0..=usize::MAX)?,
        };
        Some(kind(text))
    }

    /// Appends the request's key: the client's address where it has none of its own.
    pub(super) fn write(&self, message: &Message, out: &mut Vec<u8>) {
        if !self.write_own(message, out) {
            message.append_variable("remote_addr", out);
        }
    }

    /// Appends the request's own key, if it has one.
    pub(super) fn write_own(&self, message: &Message, out: &mut Vec<u8>) -> bool {
        let len = out.len();
        match self {
            Self::Variable(name) => message.append_variable(name, out),
            Self::Constant(text) => {
                out.extend_from_slice(text.as_bytes());
                true
            }
            Self::Combination(template) => {
                let resolved = template.render(message, out) > 0;
                out.truncate(if resolved { out.len() } else { len });
                resolved
            }
        }
    }
}

fn variable(text: &str) -> LimitKey {
    LimitKey::Variable(text.strip_prefix('$').unwrap_or(text).into())
}

fn combination(text: &str) -> LimitKey {
    LimitKey::Combination(Template::compile(text))
}

fn constant(text: &str) -> LimitKey {
    LimitKey::Constant(text.into())
}

/// Reads `policy`: counters are this process's.
pub(super) fn read_policy(object: &mut Object<'_>) {
    if let Some(reader) = object.get("policy").filter(|reader| reader.value() != "local") {
        let fault = Fault::new(format!("expected `policy: local`, found {}", reader.value()));
        reader.error(fault.hint("counters of other processes are not supported"));
    }
}
