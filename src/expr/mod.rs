//! Room `expr`: APISIX's `vars` rules and `$var` templates.
//!
//! In: a rule or template from the configuration, variables asked by name.
//! Out: true or false; rendered bytes.
//! May not know: where variables come from.

mod operators;
mod pattern;
mod rule;
mod template;

pub use operators::parse_network;
pub use pattern::{Groups, Pattern, Replacement, WithGroups};
pub use rule::{Expr, ExprError};
pub use template::Template;

use std::borrow::Cow;

/// Something that can be asked for variables by their APISIX name (`arg_name`, `http_host`, `uri`).
pub trait Variables {
    /// The value of the variable, or `None` where it has none (Lua's nil).
    fn variable(&self, name: &str) -> Option<Cow<'_, [u8]>>;

    /// Appends the variable's value and tells whether it has one. A source that makes values on the
    /// way (addresses, numbers) can write them here without allocating.
    fn append_variable(&self, name: &str, out: &mut Vec<u8>) -> bool {
        let value = self.variable(name);
        if let Some(value) = &value {
            out.extend_from_slice(value);
        }
        value.is_some()
    }
}

/// Variables from a list of pairs, for tests of this room and of others.
#[cfg(test)]
impl Variables for [(&str, &str)] {
    fn variable(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let (_, value) = self.iter().find(|(known, _)| *known == name)?;
        Some(Cow::Borrowed(value.as_bytes()))
    }
}

#[cfg(test)]
impl<const N: usize> Variables for [(&str, &str); N] {
    fn variable(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.as_slice().variable(name)
    }
}
