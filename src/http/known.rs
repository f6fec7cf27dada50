//! The field names this gateway acts on. Each field of a head is looked at once, when it is parsed
//! or added; whoever asks later compares a number.

use super::fields::{is_name, is_tchar};

/// What a field's name is to this gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs)]
pub enum Known {
    /// Nothing: it is passed on.
    #[default]
    Other,
    Connection,
    ContentLength,
    ContentType,
    Date,
    Expect,
    Forwarded,
    Host,
    Http2Settings,
    KeepAlive,
    ProxyAuthorization,
    ProxyConnection,
    Server,
    Te,
    TransferEncoding,
    Upgrade,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    XRealIp,
}

impl Known {
    /// Of any bytes: names that are no tokens are none of these.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        match Self::of_token(name) {
            Self::Other => Self::Other,
            known if name.iter().all(|byte| is_tchar(*byte)) => known,
            _ => Self::Other,
        }
    }

    /// Of a name that was parsed or checked. Each candidate is compared in an arm of its own,
    /// with a length that the compiler knows.
    #[inline]
    pub(super) fn of_token(name: &[u8]) -> Self {
        match name.len() {
            2 if is_name(name, b"te") => Self::Te,
            4 if is_name(name, b"host") => Self::Host,
            4 if is_name(name, b"date") => Self::Date,
            6 if is_name(name, b"server") => Self::Server,
            6 if is_name(name, b"expect") => Self::Expect,
            7 if is_name(name, b"upgrade") => Self::Upgrade,
            9 if is_name(name, b"x-real-ip") => Self::XRealIp,
            9 if is_name(name, b"forwarded") => Self::Forwarded,
            10 if is_name(name, b"connection") => Self::Connection,
            10 if is_name(name, b"keep-alive") => Self::KeepAlive,
            12 if is_name(name, b"content-type") => Self::ContentType,
            14 if is_name(name, b"content-length") => Self::ContentLength,
            14 if is_name(name, b"http2-settings") => Self::Http2Settings,
            15 if is_name(name, b"x-forwarded-for") => Self::XForwardedFor,
            16 if is_name(name, b"proxy-connection") => Self::ProxyConnection,
            16 if is_name(name, b"x-forwarded-host") => Self::XForwardedHost,
            16 if is_name(name, b"x-forwarded-port") => Self::XForwardedPort,
            17 if is_name(name, b"transfer-encoding") => Self::TransferEncoding,
            17 if is_name(name, b"x-forwarded-proto") => Self::XForwardedProto,
            19 if is_name(name, b"proxy-authorization") => Self::ProxyAuthorization,
            _ => Self::Other,
        }
    }
}

/// Some of these names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownSet(u32);

impl KnownSet {
    /// The fields that belong to one connection only (RFC 9110 §7.6.1, RFC 7540 §3.2.1).
    pub const HOP_BY_HOP: Self = Self::of(&[
        Known::Connection,
        Known::Http2Settings,
        Known::KeepAlive,
        Known::ProxyAuthorization,
        Known::ProxyConnection,
        Known::Te,
        Known::TransferEncoding,
        Known::Upgrade,
    ]);

    /// The set of these.
    #[must_use]
    pub const fn of(members: &[Known]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < members.len() {
            bits |= 1 << members[at] as u32;
            at += 1;
        }
        Self(bits)
    }

    /// This set with those.
    #[must_use]
    pub const fn and(self, members: &[Known]) -> Self {
        Self(self.0 | Self::of(members).0)
    }

    /// Takes one more in.
    #[inline]
    pub(super) fn add(&mut self, known: Known) {
        self.0 |= 1 << known as u32;
    }

    /// Whether both have one.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether it is one of them.
    #[must_use]
    pub const fn has(self, known: Known) -> bool {
        self.0 >> known as u32 & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(Known, &str); 20] = [
        (Known::Connection, "connection"),
        (Known::ContentLength, "content-length"),
        (Known::ContentType, "content-type"),
        (Known::Date, "date"),
        (Known::Expect, "expect"),
        (Known::Forwarded, "forwarded"),
        (Known::Host, "host"),
        (Known::Http2Settings, "http2-settings"),
        (Known::KeepAlive, "keep-alive"),
        (Known::ProxyAuthorization, "proxy-authorization"),
        (Known::ProxyConnection, "proxy-connection"),
        (Known::Server, "server"),
        (Known::Te, "te"),
        (Known::TransferEncoding, "transfer-encoding"),
        (Known::Upgrade, "upgrade"),
        (Known::XForwardedFor, "x-forwarded-for"),
        (Known::XForwardedHost, "x-forwarded-host"),
        (Known::XForwardedPort, "x-forwarded-port"),
        (Known::XForwardedProto, "x-forwarded-proto"),
        (Known::XRealIp, "x-real-ip"),
    ];

    #[test]
    fn every_name_is_found_in_any_case_and_nothing_like_it() {
        for (known, name) in ALL {
            assert_eq!(Known::of(name.as_bytes()), known, "{name}");
            assert_eq!(Known::of(name.to_ascii_uppercase().as_bytes()), known, "{name}");
            for at in 0..name.len() {
                for byte in 0..=u8::MAX {
                    let mut other = name.as_bytes().to_vec();
                    other[at] = byte;
                    let same = other.eq_ignore_ascii_case(name.as_bytes());
                    assert_eq!(Known::of(&other) == known, same, "{name} with {byte} at {at}");
                }
            }
        }
        for other in ["", "x", "dote", "x-forwarded-hose", "x-forwarded-user", "content-lengths"] {
            assert_eq!(Known::of(other.as_bytes()), Known::Other, "{other}");
        }
    }

    #[test]
    fn sets() {
        let set = KnownSet::of(&[Known::Te, Known::Host]).and(&[Known::XRealIp]);
        for (known, name) in ALL {
            let member = ["te", "host", "x-real-ip"].contains(&name);
            assert_eq!(set.has(known), member, "{name}");
        }
        assert!(!KnownSet::HOP_BY_HOP.has(Known::Other));
    }
}
