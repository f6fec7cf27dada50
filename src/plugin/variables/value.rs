//! Values of variables as they are written: addresses, numbers, times, joined pieces.

use crate::http::Version;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;

/// A value that is there, or how to write one that is not.
pub(crate) enum Value<'a> {
    Bytes(&'a [u8]),
    Owned(Vec<u8>),
    Lowered(&'a [u8]),
    Number(u64),
    Ip(IpAddr),
    Socket(SocketAddr),
    PathAndQuery {
        path: &'a [u8],
        query: &'a [u8],
    },
    RequestLine {
        method: &'a [u8],
        target: &'a [u8],
        version: Version,
    },
    Time {
        ns: u64,
        form: TimeForm,
    },
    /// This many nanoseconds.
    Seconds(u64),
    /// Of the request with that number in this process.
    RequestId(u64),
}

#[derive(Clone, Copy)]
pub(crate) enum TimeForm {
    /// `1784678400.123`
    Seconds,
    /// `2026-07-22T00:00:00+00:00`
    Iso8601,
    /// `22/Jul/2026:00:00:00 +0000`
    Log,
}

impl Value<'_> {
    /// Appends the value's text.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        // Writing to a vector can't fail.
        let _ = match self {
            Self::Bytes(bytes) => out.write_all(bytes),
            Self::Owned(bytes) => out.write_all(bytes),
            Self::Lowered(bytes) => {
                out.extend(bytes.iter().map(u8::to_ascii_lowercase));
                Ok(())
            }
            Self::Number(number) => out.write_all(itoa::Buffer::new().format(*number).as_bytes()),
            Self::Ip(address) => write!(out, "{}", address.to_canonical()),
            Self::Socket(at) => {
                write!(out, "{}", SocketAddr::new(at.ip().to_canonical(), at.port()))
            }
            Self::PathAndQuery { path, query } => {
                let mark: &[u8] = if query.is_empty() { b"" } else { b"?" };
                [path, mark, query].iter().try_for_each(|part| out.write_all(part))
            }
            Self::RequestLine { method, target, version } => {
                [method, &b" "[..], target, b" ", protocol(*version)]
                    .iter()
                    .try_for_each(|part| out.write_all(part))
            }
            Self::Time { ns, form } => write_time(out, *ns, *form),
            Self::Seconds(ns) => write!(out, "{}.{:03}", ns / 1_000_000_000, ns / 1_000_000 % 1000),
            Self::RequestId(number) => write_request_id(out, *number),
        };
    }
}

/// 32 hex digits: the number under a key that this process alone has, so that they look random, are
/// nobody else's, and need not be kept with the request.
fn write_request_id(out: &mut Vec<u8>, number: u64) -> std::io::Result<()> {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    let key = KEY.get_or_init(RandomState::new);
    let [high, low] = [0_u8, 1].map(|half| key.hash_one((number, half)));
    write!(out, "{high:016x}{low:016x}")
}

fn write_time(out: &mut Vec<u8>, ns: u64, form: TimeForm) -> std::io::Result<()> {
    let seconds = ns / 1_000_000_000;
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match form {
        TimeForm::Seconds => write!(out, "{seconds}.{:03}", ns / 1_000_000 % 1000),
        TimeForm::Iso8601 => {
            write!(out, "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00")
        }
        TimeForm::Log => {
            const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
            let month = &MONTHS[(month as usize - 1) * 3..][..3];
            write!(out, "{day:02}/{month}/{year}:{hour:02}:{minute:02}:{second:02} +0000")
        }
    }
}

/// Year, month and day of a day since the epoch, in the Gregorian calendar. Years are counted from
/// March, so that the leap day is a year's last; 400 years have 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// `HTTP/1.1`.
pub(super) fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        for (day, date) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (364, (1970, 12, 31)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_513, (2026, 3, 1)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(day), date, "{day}");
        }
    }
}
