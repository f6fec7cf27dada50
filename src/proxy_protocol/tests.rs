//! Rows of `proxy-protocol.txt`, and what must not pass for them.

use super::checksum::crc32c;
use super::{Malformed, Origin, SIGNATURE, Version, read, write, write_own};
use std::net::SocketAddr;

fn client(source: &str, destination: &str) -> Origin {
    let address = |text: &str| text.parse().expect("an address");
    Origin::Client { source: address(source), destination: address(destination) }
}

#[test]
fn lines() {
    let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                   ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    let wide = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
    let filler = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
    assert_eq!(filler.len(), 107);
    let table = [
        (
            "PROXY TCP4 192.0.2.1 198.51.100.2 4000 80\r\n",
            client("192.0.2.1:4000", "198.51.100.2:80"),
        ),
        (
            "PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
            client("0.0.0.0:0", "255.255.255.255:65535"),
        ),
        ("PROXY TCP6 2001:db8::1 ::1 1 2\r\n", client("[2001:db8::1]:1", "[::1]:2")),
        (longest, client(wide, wide)),
        ("PROXY UNKNOWN\r\n", Origin::Socket),
        ("PROXY UNKNOWN ffff::1 what ever 1\r\n", Origin::Socket),
        (&filler, Origin::Socket),
    ];
    for (text, origin) in table {
        let behind = format!("{text}GET / HTTP/1.1\r\n");
        assert_eq!(read(behind.as_bytes()), Ok(Some((origin, text.len()))), "{text:?}");
        for cut in 0..text.len() {
            assert_eq!(read(&text.as_bytes()[..cut]), Ok(None), "{text:?} up to {cut}");
        }
    }
}

#[test]
fn lines_that_are_none() {
    use Malformed::{NoHeader, TooLong, Word};
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(93));
    let no_lf = format!("PROXY UNKNOWN {}\r", "x".repeat(92));
    let table = [
        ("GET / HTTP/1.1\r\n\r\n", NoHeader),
        ("proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n", NoHeader),
        ("PROXYTCP4 1.1.1.1 2.2.2.2 1 2\r\n", NoHeader),
        (" PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", NoHeader),
        (&endless, TooLong),
        (&no_lf, TooLong),
        ("PROXY \r\n", Word),
        ("PROXY TCP4\r\n", Word),
        ("PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n", Word),
        ("PROXY tcp4 1.1.1.1 2.2.2.2 1 2\r\n", Word),
        ("PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n", Word),
        ("PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n", Word),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", Word),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", Word),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", Word),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n", Word),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", Word),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n", Word),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 \r\n", Word),
        ("PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n", Word),
        ("PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n", Word),
        ("PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n", Word),
        ("PROXY TCP4 ::1 ::2 1 2\r\n", Word),
        ("PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n", Word),
        ("PROXY TCP6 [::1] ::2 1 2\r\n", Word),
        ("PROXY TCP6 fe80::1%1 ::2 1 2\r\n", Word),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\rX", Word),
        ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\nGET / HTTP/1.1\r\n", Word),
        ("PROXY TCP4 1.1.1.1\t2.2.2.2 1 2\r\n", Word),
    ];
    for (text, why) in table {
        assert_eq!(read(text.as_bytes()), Err(why), "{text:?}");
    }
}

fn table(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let [high, low] = (body.len() as u16).to_be_bytes();
    [&SIGNATURE[..], &[command, family, high, low], body].concat()
}

/// 192.0.2.1:4000 to 198.51.100.2:80.
const FOUR: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x0f, 0xa0, 0, 80];

#[test]
fn tables() {
    let six = [[0x20; 16], [0x30; 16]].concat();
    let wide = [&six[..], &[0, 1, 0, 2]].concat();
    let with_additions = [&FOUR[..], &[0x01, 0, 2, b'h', b'2', 0x04, 0, 0]].concat();
    let from = client("192.0.2.1:4000", "198.51.100.2:80");
    let far = client(
        "[2020:2020:2020:2020:2020:2020:2020:2020]:1",
        "[3030:3030:3030:3030:3030:3030:3030:3030]:2",
    );
    for (bytes, origin) in [
        (table(0x21, 0x11, &FOUR), from),
        (table(0x21, 0x11, &with_additions), from),
        (table(0x21, 0x21, &wide), far),
        (table(0x21, 0x31, &[b'/'; 216]), Origin::Socket),
        (table(0x21, 0x00, b""), Origin::Socket),
        (table(0x20, 0x00, b""), Origin::Socket),
        (table(0x20, 0x11, b"whatever it is"), Origin::Socket),
    ] {
        let behind = [&bytes[..], b"GET"].concat();
        assert_eq!(read(&behind), Ok(Some((origin, bytes.len()))), "{bytes:?}");
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Ok(None), "{bytes:?} up to {cut}");
        }
    }
}

#[test]
fn tables_that_are_none() {
    use Malformed::{Additions, Command, Family, Length, NoHeader};
    let mut other = table(0x21, 0x11, &FOUR);
    other[11] = b'\r';
    for (bytes, why) in [
        (other, NoHeader),
        (table(0x11, 0x11, &FOUR), Command),
        (table(0x22, 0x11, &FOUR), Command),
        (table(0x21, 0x12, &FOUR), Family),
        (table(0x21, 0x41, &FOUR), Family),
        (table(0x21, 0x01, &FOUR), Family),
        (table(0x21, 0x11, &FOUR[..11]), Length),
        (table(0x21, 0x21, &FOUR), Length),
        (table(0x21, 0x31, &[0; 215]), Length),
        (table(0x21, 0x11, &[0; 8192]), Length),
        (table(0x21, 0x11, &[&FOUR[..], &[1]].concat()), Additions),
        (table(0x21, 0x11, &[&FOUR[..], &[1, 0]].concat()), Additions),
        (table(0x21, 0x11, &[&FOUR[..], &[1, 0, 1]].concat()), Additions),
        (table(0x21, 0x11, &[&FOUR[..], &[3, 0, 3, 1, 2, 3]].concat()), Additions),
    ] {
        assert_eq!(read(&bytes), Err(why), "{bytes:?}");
    }
}

#[test]
fn checksums_are_checked() {
    let additions = [0x03, 0, 4, 0, 0, 0, 0, 0x01, 0, 1, b'x'];
    let mut bytes = table(0x21, 0x11, &[&FOUR[..], &additions].concat());
    let at = bytes.len() - additions.len() + 3;
    let sum = crc32c(&[&bytes]);
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    assert!(matches!(read(&bytes), Ok(Some((Origin::Client { .. }, _)))));
    // The addition's type says that it is a checksum at all.
    let kind = bytes.len() - additions.len();
    for wrong in (0..bytes.len()).filter(|at| *at != kind) {
        let mut changed = bytes.clone();
        changed[wrong] ^= 1;
        let good = matches!(read(&changed), Ok(Some((Origin::Client { .. }, _))));
        assert!(!good, "byte {wrong}");
    }
}

#[test]
fn what_is_written_is_read() {
    let addresses: [SocketAddr; 4] =
        ["192.0.2.1:4000", "[::ffff:198.51.100.2]:80", "[2001:db8::1]:1", "0.0.0.0:0"]
            .map(|text| text.parse().expect("an address"));
    for version in [Version::V1, Version::V2] {
        for source in addresses {
            for destination in addresses {
                let mut out = Vec::new();
                write(&mut out, version, source, destination);
                let (origin, used) = read(&out).expect("a header").expect("all of it");
                assert_eq!(used, out.len());
                let Origin::Client { source: from, destination: to } = origin else {
                    panic!("{origin:?}")
                };
                let same = |a: SocketAddr, b: SocketAddr| {
                    a.ip().to_canonical() == b.ip().to_canonical() && a.port() == b.port()
                };
                assert!(same(from, source) && same(to, destination), "{origin:?}");
            }
        }
    }
    let mut out = Vec::new();
    write(&mut out, Version::V1, addresses[0], addresses[1]);
    assert_eq!(out, b"PROXY TCP4 192.0.2.1 198.51.100.2 4000 80\r\n");
}

#[test]
fn a_header_of_our_own_names_nobody() {
    for (version, bytes) in [
        (Version::V1, b"PROXY UNKNOWN\r\n".to_vec()),
        (Version::V2, [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat()),
    ] {
        let mut out = Vec::new();
        write_own(&mut out, version);
        assert_eq!(out, bytes);
        assert_eq!(read(&out), Ok(Some((Origin::Socket, out.len()))));
    }
}
