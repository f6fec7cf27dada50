//! `plugin_metadata`: what all instances of a plugin share. Of the plugins here two have some, as
//! in APISIX: `cors` names lists of origins, `limit-count` the fields that show a limit.

use crate::http::{is_field_value, is_token};
use crate::schema::{Fault, Reader};
use std::collections::HashMap;

use super::{cors, limit_count};

/// Of all native plugins.
#[derive(Clone, Debug, Default)]
pub(super) struct Metadata {
    /// `allow_origins` of `cors`: lists of origins, by the names that
    /// `allow_origins_by_metadata` has for them.
    pub(super) origins: HashMap<String, String>,
    /// `limit_header`, `remaining_header` and `reset_header` of `limit-count`.
    pub(super) limit_fields: LimitFields,
}

/// The names of the fields that show a limit, what remains of it, and when it begins anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LimitFields(pub(super) [Box<str>; 3]);

impl Default for LimitFields {
    fn default() -> Self {
        Self::with_prefix("")
    }
}

impl LimitFields {
    /// Those of APISIX, with something behind their `X-`.
    pub(super) fn with_prefix(prefix: &str) -> Self {
        let name = |what| format!("X-{prefix}RateLimit-{what}").into();
        Self(["Limit", "Remaining", "Reset"].map(name))
    }
}

impl Metadata {
    /// Reads one plugin's. Gives whether it has any.
    pub(super) fn read(&mut self, name: &str, conf: Reader<'_>) -> bool {
        match name {
            cors::NAME => self.read_origins(conf),
            limit_count::NAME => self.read_limit_fields(conf),
            _ => return false,
        }
        true
    }

    fn read_origins(&mut self, conf: Reader<'_>) {
        let Some(mut object) = conf.object() else { return };
        if let Some(lists) = object.get("allow_origins").and_then(Reader::object) {
            for (name, reader) in lists.members() {
                let Some(origins) = reader.string(1..=usize::MAX) else { continue };
                if !is_field_value(origins.as_bytes()) {
                    reader.error("a header value has no control characters");
                }
                self.origins.insert(name.to_owned(), origins.to_owned());
            }
        }
        object.allow_unknown();
    }

    fn read_limit_fields(&mut self, conf: Reader<'_>) {
        let Some(mut object) = conf.object() else { return };
        let keys = ["limit_header", "remaining_header", "reset_header"];
        for (key, field) in keys.into_iter().zip(&mut self.limit_fields.0) {
            let Some(reader) = object.get(key) else { continue };
            let Some(name) = reader.string(1..=usize::MAX) else { continue };
            if !is_token(name.as_bytes()) {
                let fault = Fault::new(format!("{name:?} is not a header name"));
                reader.error(fault.hint("as in `X-RateLimit-Limit`"));
            }
            *field = name.into();
        }
        object.allow_unknown();
    }
}
