//! Reading a header.

use super::checksum::crc32c;
use super::{FIXED_BYTES, SIGNATURE, TEXT, TYPE_CRC32C};
use crate::limits;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, with its end (§2.1).
const LINE_BYTES_MAX: usize = 107;

/// Whom a header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: the proxy speaks for itself (a health check, most likely) or does not know. The
    /// socket's own addresses count.
    Socket,
    /// A client.
    Client {
        /// Its address.
        source: SocketAddr,
        /// What it connected to.
        destination: SocketAddr,
    },
}

/// Why some bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They begin like no version of it.
    NoHeader,
    /// The line of version 1 has no end where it must have one.
    TooLong,
    /// A word of version 1 is not what it must be.
    Word,
    /// The version or the command of version 2 is none that is known.
    Command,
    /// The family or transport of version 2 is none that a stream has.
    Family,
    /// The length of version 2 is too short for its addresses, or longer than we take.
    Length,
    /// What follows the addresses of version 2 is no list of additions.
    Additions,
    /// The checksum of version 2 is wrong.
    Checksum,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHeader => "it does not begin with a PROXY protocol header",
            Self::TooLong => "the line of the PROXY protocol has no end",
            Self::Word => "a word in the line of the PROXY protocol is wrong",
            Self::Command => "unknown version or command of the PROXY protocol",
            Self::Family => "unknown family of the PROXY protocol",
            Self::Length => "wrong length of the PROXY protocol header",
            Self::Additions => "malformed additions of the PROXY protocol header",
            Self::Checksum => "wrong checksum of the PROXY protocol header",
        })
    }
}

impl std::error::Error for Malformed {}

/// Reads the header at the start of a connection: what it says and how many bytes it has. `None`:
/// more bytes are needed.
///
/// # Errors
/// No bytes that may follow would make it a header.
pub fn read(bytes: &[u8]) -> Result<Option<(Origin, usize)>, Malformed> {
    let begins = |with: &[u8]| {
        let known = bytes.len().min(with.len());
        bytes[..known] == with[..known]
    };
    if begins(&SIGNATURE) {
        read_binary(bytes)
    } else if begins(TEXT) {
        read_line(bytes)
    } else {
        Err(Malformed::NoHeader)
    }
}

// --- version 1: a line ---------------------------------------------------------------------------

fn read_line(bytes: &[u8]) -> Result<Option<(Origin, usize)>, Malformed> {
    let seen = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\r', seen) else {
        return if seen.len() < LINE_BYTES_MAX { Ok(None) } else { Err(Malformed::TooLong) };
    };
    match seen.get(end + 1) {
        Some(b'\n') => {}
        Some(_) => return Err(Malformed::Word),
        None if end + 1 == LINE_BYTES_MAX => return Err(Malformed::TooLong),
        None => return Ok(None),
    }
    let text = std::str::from_utf8(&seen[..end]).map_err(|_| Malformed::Word)?;
    Ok(Some((line(text)?, end + 2)))
}

fn line(text: &str) -> Result<Origin, Malformed> {
    let mut words = text.split(' ').skip(1);
    let mut word = || words.next().ok_or(Malformed::Word);
    let family = word()?;
    if family == "UNKNOWN" {
        // Whatever else is on the line means nothing (§2.1).
        return Ok(Origin::Socket);
    }
    let ip: fn(&str) -> Option<IpAddr> = match family {
        "TCP4" => |word| word.parse().ok().map(IpAddr::V4),
        "TCP6" => |word| word.parse().ok().map(IpAddr::V6),
        _ => return Err(Malformed::Word),
    };
    let ips = [ip(word()?), ip(word()?)];
    let ports = [port(word()?), port(word()?)];
    match (ips, ports, words.next()) {
        ([Some(source), Some(destination)], [Some(from), Some(to)], None) => Ok(Origin::Client {
            source: SocketAddr::new(source, from),
            destination: SocketAddr::new(destination, to),
        }),
        _ => Err(Malformed::Word),
    }
}

/// Digits without a sign, and without zeros before them (§2.1).
fn port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit());
    (plain && (word == "0" || !word.starts_with('0'))).then(|| word.parse().ok())?
}

// --- version 2: a table --------------------------------------------------------------------------

fn read_binary(bytes: &[u8]) -> Result<Option<(Origin, usize)>, Malformed> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else { return Ok(None) };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > limits::PROXY_HEADER_BYTES_MAX {
        return Err(Malformed::Length);
    }
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed::Command),
    };
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let whole = FIXED_BYTES + length;
    let (origin, additions) = match (is_local, family) {
        // "The receiver must discard the protocol block including the family" (§2.2).
        (true, _) => return Ok(Some((Origin::Socket, whole))),
        (false, 0x00) => (Origin::Socket, body),
        (false, 0x11) => internet::<4>(body, |ip| Ipv4Addr::from(ip).into())?,
        (false, 0x21) => internet::<16>(body, |ip| Ipv6Addr::from(ip).into())?,
        // A unix socket has no address that anything here could use.
        (false, 0x31) => (Origin::Socket, body.get(216..).ok_or(Malformed::Length)?),
        _ => return Err(Malformed::Family),
    };
    check_additions(fixed, body, body.len() - additions.len())?;
    Ok(Some((origin, whole)))
}

/// Two addresses, two ports, and what follows them.
fn internet<const BYTES: usize>(
    body: &[u8],
    ip: fn([u8; BYTES]) -> IpAddr,
) -> Result<(Origin, &[u8]), Malformed> {
    let split = || {
        let (source, rest) = body.split_first_chunk::<BYTES>()?;
        let (destination, rest) = rest.split_first_chunk::<BYTES>()?;
        let (from, rest) = rest.split_first_chunk::<2>()?;
        let (to, rest) = rest.split_first_chunk::<2>()?;
        let address = |ip_bytes, port| SocketAddr::new(ip(ip_bytes), u16::from_be_bytes(port));
        let origin = Origin::Client {
            source: address(*source, *from),
            destination: address(*destination, *to),
        };
        Some((origin, rest))
    };
    split().ok_or(Malformed::Length)
}

/// Additions (§2.2, "TLV") are a type, a length and a value each. None means anything here but the
/// checksum, which must be right where it is there.
fn check_additions(fixed: &[u8], body: &[u8], from: usize) -> Result<(), Malformed> {
    let mut at = from;
    while at < body.len() {
        let Some([kind, high, low]) = body[at..].first_chunk() else {
            return Err(Malformed::Additions);
        };
        let value = at + 3;
        at = value + usize::from(u16::from_be_bytes([*high, *low]));
        let bytes = body.get(value..at).ok_or(Malformed::Additions)?;
        if *kind == TYPE_CRC32C {
            let said = bytes.try_into().map(u32::from_be_bytes);
            let said = said.map_err(|_| Malformed::Additions)?;
            // It is made with zeros in its place (§2.2.3).
            let is = crc32c(&[fixed, &body[..value], &[0; 4], &body[at..]]);
            if said != is {
                return Err(Malformed::Checksum);
            }
        }
    }
    Ok(())
}
