//! Writing a header.

use super::{FIXED_BYTES, SIGNATURE};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

/// Which version to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// A line of text.
    V1,
    /// A table.
    V2,
}

/// Appends the header of a connection that is made for a client. Addresses of two families are both
/// written as IPv6 ones.
pub fn write(out: &mut Vec<u8>, version: Version, source: SocketAddr, destination: SocketAddr) {
    let (from, to) = of_one_family(source.ip().to_canonical(), destination.ip().to_canonical());
    let ports = (source.port(), destination.port());
    match version {
        Version::V1 => {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            // Writing to memory can't fail.
            let _ = write!(out, "PROXY {family} {from} {to} {} {}\r\n", ports.0, ports.1);
        }
        Version::V2 => {
            out.extend_from_slice(&SIGNATURE);
            let start = out.len();
            out.extend_from_slice(&[0x21, if from.is_ipv4() { 0x11 } else { 0x21 }, 0, 0]);
            for ip in [from, to] {
                match ip {
                    IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
                }
            }
            out.extend_from_slice(&ports.0.to_be_bytes());
            out.extend_from_slice(&ports.1.to_be_bytes());
            let length = out.len() - start - (FIXED_BYTES - SIGNATURE.len());
            out[start + 3] = length as u8;
        }
    }
}

/// Appends the header of a connection that is made for nobody else: whoever reads it goes by the
/// connection's own addresses.
pub fn write_own(out: &mut Vec<u8>, version: Version) {
    match version {
        Version::V1 => out.extend_from_slice(b"PROXY UNKNOWN\r\n"),
        Version::V2 => {
            out.extend_from_slice(&SIGNATURE);
            // LOCAL, of no family, without addresses.
            out.extend_from_slice(&[0x20, 0, 0, 0]);
        }
    }
}

fn of_one_family(one: IpAddr, other: IpAddr) -> (IpAddr, IpAddr) {
    let wide = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
        wide @ IpAddr::V6(_) => wide,
    };
    if one.is_ipv4() == other.is_ipv4() { (one, other) } else { (wide(one), wide(other)) }
}
