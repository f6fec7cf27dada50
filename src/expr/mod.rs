//! Room `expr`: APISIX's `vars` rules and `$var` templates.
//!
//! In: a rule or template from the configuration, variables asked by name.
//! Out: true or false; rendered bytes.
//! May not know: where variables come from.

use std::borrow::Cow;

/// Something that can be asked for variables by their APISIX name (`arg_name`, `http_host`, `uri`).
pub trait Variables {
    /// The value of the variable, or `None` where it has none (Lua's nil).
    fn variable(&self, name: &str) -> Option<Cow<'_, [u8]>>;
}
