//! Writing field lines and the chunked coding. Heads are put together by whoever sends them, since
//! only they know what belongs in; nothing malformed can get in here: names and values were parsed
//! or checked with [`is_token`](super::is_token) and [`is_field_value`](super::is_field_value).

use super::Headers;

/// Writes `name: value` and its line end.
pub fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes `name: number` and its line end.
pub fn write_number_field(out: &mut Vec<u8>, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    write_number_line(out, value);
}

/// Writes a number and the line end.
fn write_number_line(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes one chunk. An empty one would end the body, so it is not written.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    write_hex(out, data.len());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk and the trailer section (RFC 9112 §7.1.2). Fields that mean something
/// before the body only are left out: a recipient that merges trailers into the head must not get
/// another framing, route, identity or format from them (RFC 9110 §6.5.1).
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: &Headers) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.iter() {
        if !is_forbidden_trailer(name) {
            write_field(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn is_forbidden_trailer(name: &[u8]) -> bool {
    const FRAMING: [&[u8]; 9] = [
        b"transfer-encoding",
        b"content-length",
        b"connection",
        b"proxy-connection",
        b"keep-alive",
        b"te",
        b"trailer",
        b"upgrade",
        b"http2-settings",
    ];
    const ROUTING: [&[u8]; 9] = [
        b"host",
        b"max-forwards",
        b"via",
        b"forwarded",
        b"x-real-ip",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-forwarded-port",
    ];
    const IDENTITY: [&[u8]; 7] = [
        b"authorization",
        b"proxy-authorization",
        b"www-authenticate",
        b"proxy-authenticate",
        b"cookie",
        b"set-cookie",
        b"authentication-info",
    ];
    const CONTROL: [&[u8]; 14] = [
        b"cache-control",
        b"expect",
        b"pragma",
        b"range",
        b"age",
        b"expires",
        b"date",
        b"location",
        b"retry-after",
        b"vary",
        b"content-encoding",
        b"content-type",
        b"content-range",
        b"content-location",
    ];
    let named = |known: &&[u8]| name.eq_ignore_ascii_case(known);
    let conditional = name.len() > 3 && name[..3].eq_ignore_ascii_case(b"if-");
    conditional || FRAMING.iter().chain(&ROUTING).chain(&IDENTITY).chain(&CONTROL).any(named)
}

fn write_hex(out: &mut Vec<u8>, value: usize) {
    let digits = (usize::BITS - value.leading_zeros()).div_ceil(4).max(1);
    for at in (0..digits).rev() {
        out.push(b"0123456789abcdef"[value >> (4 * at) & 15]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks() {
        for (len, size) in [(1, "1"), (9, "9"), (10, "a"), (16, "10"), (255, "ff"), (4096, "1000")]
        {
            let mut out = Vec::new();
            write_chunk(&mut out, &vec![b'x'; len]);
            assert_eq!(out, format!("{size}\r\n{}\r\n", "x".repeat(len)).as_bytes());
        }
        let mut out = Vec::new();
        write_chunk(&mut out, b"");
        assert!(out.is_empty());
    }

    #[test]
    fn trailers_can_not_forge_framing() {
        let mut trailers = Headers::new();
        for name in ["Content-Length", "X-Forwarded-For", "cookie", "If-Match", "VIA", "Trailer"] {
            trailers.append(name.as_bytes(), b"5");
        }
        trailers.append(b"X-Sum", b"1");
        let mut out = Vec::new();
        write_last_chunk(&mut out, &trailers);
        assert_eq!(out, b"0\r\nX-Sum: 1\r\n\r\n");
    }
}
