//! Request methods as a small enum and sets of them.

/// A request method that routes can name (APISIX reference §3), or any other token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Patch,
    Options,
    Connect,
    Trace,
    Purge,
    Other,
}

const NAMED: [(Method, &[u8]); 10] = [
    (Method::Get, b"GET"),
    (Method::Head, b"HEAD"),
    (Method::Post, b"POST"),
    (Method::Put, b"PUT"),
    (Method::Delete, b"DELETE"),
    (Method::Patch, b"PATCH"),
    (Method::Options, b"OPTIONS"),
    (Method::Connect, b"CONNECT"),
    (Method::Trace, b"TRACE"),
    (Method::Purge, b"PURGE"),
];

impl Method {
    /// The method of that exact spelling; methods are case-sensitive (RFC 9110 §9.1).
    #[must_use]
    pub fn from_bytes(token: &[u8]) -> Self {
        if token == b"GET" {
            return Self::Get;
        }
        NAMED.iter().find(|(_, name)| *name == token).map_or(Self::Other, |(method, _)| *method)
    }

    /// Whether a request with this method may be sent again without asking (RFC 9110 §9.2.2).
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        matches!(
            self,
            Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace
        )
    }
}

/// A set of methods; the empty set of a route means any (APISIX reference §3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Methods(u16);

impl Methods {
    /// Every method, `Other` included.
    pub const ANY: Self = Self(0);

    /// The set with `method` added.
    #[must_use]
    pub fn with(self, method: Method) -> Self {
        Self(self.0 | 1 << method as u16)
    }

    /// Whether `method` is in the set, or the set is [`Methods::ANY`].
    #[must_use]
    pub fn allows(self, method: Method) -> bool {
        self.0 == 0 || self.0 & (1 << method as u16) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        for (method, name) in NAMED {
            assert_eq!(Method::from_bytes(name), method);
        }
        assert_eq!(Method::from_bytes(b"get"), Method::Other);
        assert_eq!(Method::from_bytes(b"GETS"), Method::Other);
    }

    #[test]
    fn sets() {
        assert!(Methods::ANY.allows(Method::Other));
        let set = Methods::default().with(Method::Get).with(Method::Purge);
        assert!(set.allows(Method::Get) && set.allows(Method::Purge));
        assert!(!set.allows(Method::Head) && !set.allows(Method::Other));
    }
}
