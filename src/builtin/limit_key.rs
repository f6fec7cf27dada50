//! What `limit-count` and its like count by.

use crate::expr::{Template, Variables};
use crate::plugin::{Message, check_variable, compile_template};
use crate::schema::{Fault, Object, Reader};
use serde_json::Value;

/// The largest integer that Lua's numbers hold exactly.
const AMOUNT_MAX: u64 = 9_007_199_254_740_991;

/// A number of the configuration or of the request.
#[derive(Debug)]
pub(super) enum Amount {
    /// It is this one.
    Fixed(u64),
    /// What this becomes, if that is a number of `least` or more.
    Resolved { template: Template, least: u64 },
}

impl Amount {
    /// An integer of at least `least`, or a text with variables that becomes one.
    pub(super) fn read(reader: &Reader<'_>, least: u64) -> Option<Self> {
        let Value::String(text) = reader.value() else {
            let amount = reader.integer(least as i64..=AMOUNT_MAX as i64)?;
            return Some(Self::Fixed(amount.unsigned_abs()));
        };
        let template = compile_template(text, reader);
        if !template.is_static() {
            return Some(Self::Resolved { template, least });
        }
        let number = text.trim().parse().ok().filter(|n| (least..=AMOUNT_MAX).contains(n));
        if number.is_none() {
            let wanted = format!("an integer of at least {least}, or a text with variables");
            reader.expected(&wanted);
        }
        number.map(Self::Fixed)
    }

    /// The number for a request; `None`: it has none.
    pub(super) fn get(&self, message: &Message, scratch: &mut Vec<u8>) -> Option<u64> {
        match self {
            Self::Fixed(amount) => Some(*amount),
            Self::Resolved { template, least } => {
                scratch.clear();
                template.render(message, scratch);
                let text = std::str::from_utf8(scratch).ok()?;
                text.trim().parse().ok().filter(|amount| (*least..=AMOUNT_MAX).contains(amount))
            }
        }
    }
}

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
            ("var_combination", template),
            ("constant", constant),
        ];
        // Where a key must be given, it can't be a constant.
        let kinds = &kinds[..if default.is_some() { 3 } else { 2 }];
        let kind = object.one_of("key_type", kinds).unwrap_or(variable);
        let reader = match (object.get("key"), default) {
            (None, Some(default)) => return Some(kind(default)),
            (None, None) => object.need("key")?,
            (Some(reader), _) => reader,
        };
        let key = kind(reader.string(0..=usize::MAX)?);
        match &key {
            Self::Variable(name) => check_variable(name, &reader),
            Self::Combination(template) => {
                template.names().for_each(|name| check_variable(name, &reader));
            }
            Self::Constant(_) => {}
        }
        Some(key)
    }

    /// The template of one of `rules`.
    pub(super) fn combination(text: &str, reader: &Reader<'_>) -> Self {
        Self::Combination(compile_template(text, reader))
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

fn template(text: &str) -> LimitKey {
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
