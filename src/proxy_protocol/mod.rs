//! Room `proxy_protocol`: who a connection is from, as the proxy before us says (HAProxy's
//! `proxy-protocol.txt`, versions 1 and 2).
//!
//! In: the first bytes of a connection; addresses.
//! Out: addresses; the bytes that say them; what is wrong.
//! May not know: sockets, HTTP.
//!
//! Strict: what is not exactly a header is an error, and a connection without one has no request. A
//! sender that could choose to leave it out could choose who it is.

mod checksum;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use read::{Malformed, Origin, read};
pub use write::{Version, write, write_own};

/// What a version 2 header begins with: no other protocol does.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// What a version 1 header begins with.
const TEXT: &[u8] = b"PROXY ";

/// Bytes of a version 2 header before its addresses.
const FIXED_BYTES: usize = 16;

/// The type of the checksum among the additions of version 2 (§2.2.3).
const TYPE_CRC32C: u8 = 0x03;
