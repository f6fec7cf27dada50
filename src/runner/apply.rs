//! What a runner decided, done to the message.

use super::decode::{Entries, NewResponse, Rewrite, Stop};
use crate::http::{Headers, uri};
use crate::plugin::{Message, Request};

/// Fields of the response to come that a rewrite must not set (APISIX `ext-plugin/init.lua`).
const NOT_REWRITTEN: [&[u8]; 10] = [
    b"connection",
    b"content-length",
    b"transfer-encoding",
    b"location",
    b"server",
    b"www-authenticate",
    b"content-encoding",
    b"content-type",
    b"content-location",
    b"content-language",
];

/// Fields that say where a message ends: made from what is really sent, never taken from a runner.
const FRAMING: [&[u8]; 4] = [b"connection", b"content-length", b"transfer-encoding", b"keep-alive"];

fn is_one_of(name: &[u8], names: &[&[u8]]) -> bool {
    names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// The runner answers: fills the message's local response.
pub(super) fn stop(message: &mut Message, stop: &Stop<'_>) {
    message.respond(stop.status, stop.body);
    let headers = &mut message.local.headers;
    set_first_add_rest(headers, stop.headers, &FRAMING);
}

/// Sets each field once and adds what is repeated.
fn set_first_add_rest(headers: &mut Headers, entries: Entries<'_>, without: &[&[u8]]) {
    let valued = || entries.iter().filter_map(|(name, value)| Some((name, value?)));
    for (at, (name, value)) in valued().enumerate() {
        if is_one_of(name, without) {
            continue;
        }
        let seen = valued().take(at).any(|(earlier, _)| earlier.eq_ignore_ascii_case(name));
        if seen { headers.append(name, value) } else { headers.set(name, value) }
    }
}

/// The request goes on, changed; its body is left to the caller. Fields of the response to come are
/// gathered in `later`.
pub(super) fn rewrite(message: &mut Message, rewrite: &Rewrite<'_>, later: &mut Headers) {
    let request = &mut message.request;
    for (name, value) in rewrite.headers.iter() {
        set_field(request, name, value);
    }
    for (name, value) in rewrite.resp_headers.iter() {
        if !is_one_of(name, &NOT_REWRITTEN) {
            later.append(name, value.unwrap_or_default());
        }
    }
    if rewrite.path.is_some() || !rewrite.args.is_empty() {
        rewrite_target(request, rewrite.path, rewrite.args);
    }
}

fn set_field(request: &mut Request, name: &[u8], value: Option<&[u8]>) {
    if name.eq_ignore_ascii_case(b"host") {
        // A request without a Host can't be sent on: taking it away means nothing.
        if let Some(host) = value.filter(|host| !host.is_empty()) {
            request.authority.clear();
            request.authority.extend_from_slice(host);
        }
    } else if !is_one_of(name, &FRAMING) {
        match value {
            Some(value) => request.headers.set(name, value),
            None => {
                request.headers.remove(name);
            }
        }
    }
}

fn rewrite_target(request: &mut Request, path: Option<&[u8]>, args: Entries<'_>) {
    let mut target = Vec::with_capacity(request.target.len() + 64);
    match path {
        Some(path) => write_path(&mut target, path),
        None => target.extend_from_slice(uri::split(&request.target).path),
    }
    let mut query = Vec::new();
    write_query(&mut query, request.query().unwrap_or_default(), args);
    if !query.is_empty() {
        target.push(b'?');
        target.extend_from_slice(&query);
    }
    request.target = target;
}

/// A path as it goes upstream. It has no query: a `?` in it is a byte like others.
fn write_path(out: &mut Vec<u8>, path: &[u8]) {
    if path.first() != Some(&b'/') {
        out.push(b'/');
    }
    // RFC 3986 §3.3, `pchar` and the slash.
    write_encoded(out, path, b"-._~!$&'()*+,;=:@/");
}

/// Letters, digits and `plain` as they are, everything else as `%XX`.
fn write_encoded(out: &mut Vec<u8>, bytes: &[u8], plain: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || plain.contains(byte) {
            out.push(*byte);
        } else {
            let (high, low) = (byte >> 4, byte & 15);
            out.extend_from_slice(&[b'%', DIGITS[high as usize], DIGITS[low as usize]]);
        }
    }
}

/// The old query with changes: an argument without a value goes, the first of a name takes the old
/// one's place, repeats are added, others are kept as they were written.
fn write_query(out: &mut Vec<u8>, old: &[u8], args: Entries<'_>) {
    let mut placed = Vec::new();
    for pair in old.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let written = &pair[..memchr::memchr(b'=', pair).unwrap_or(pair.len())];
        let name = uri::decode_component(written);
        if args.iter().all(|(changed, _)| changed != &*name) {
            write_pair(out, |out| out.extend_from_slice(pair));
        } else if !placed.iter().any(|done| *done == *name) {
            write_values(out, &name, args);
            placed.push(name.into_owned());
        }
    }
    for (name, _) in args.iter() {
        if !placed.iter().any(|done| done == name) {
            write_values(out, name, args);
            placed.push(name.to_vec());
        }
    }
}

/// Every value of one changed argument. A name with an entry without a value starts over: it was
/// taken away at that point.
fn write_values(out: &mut Vec<u8>, name: &[u8], args: Entries<'_>) {
    let of_name = || args.iter().filter(|(changed, _)| *changed == name).map(|(_, value)| value);
    let removed = of_name().position(|value| value.is_none());
    for value in of_name().skip(removed.map_or(0, |at| at + 1)).flatten() {
        write_pair(out, |out| {
            write_encoded(out, name, b"-._~");
            out.push(b'=');
            write_encoded(out, value, b"-._~");
        });
    }
}

fn write_pair(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    if !out.is_empty() {
        out.push(b'&');
    }
    write(out);
}

/// Fields that a rewrite asked for, on the response that came: the first of a name sets, repeats
/// are added.
pub(super) fn later_headers(message: &mut Message, later: &Headers) {
    let headers = &mut message.response.headers;
    for (at, (name, value)) in later.iter().enumerate() {
        let seen = later.iter().take(at).any(|(earlier, _)| earlier.eq_ignore_ascii_case(name));
        if seen { headers.append(name, value) } else { headers.set(name, value) }
    }
}

/// Status and fields of a response, changed; its body is left to the caller. What the runner does
/// not name stays, the content type among it: the Go and the Java runner send what is to change,
/// which APISIX takes for all there is to be.
pub(super) fn response(message: &mut Message, new: &NewResponse<'_>) {
    let response = &mut message.response;
    if let Some(status) = new.status {
        response.status = status;
    }
    if new.body.is_some() {
        // How the old body was packed says nothing about the new one.
        response.headers.remove(b"content-encoding");
    }
    for (name, _) in new.headers.iter().filter(|(_, value)| value.is_none()) {
        if !is_one_of(name, &FRAMING) {
            response.headers.remove(name);
        }
    }
    set_first_add_rest(&mut response.headers, new.headers, &FRAMING);
}

/// The fields that tell a body's length, for a body that was replaced.
pub(super) fn body_length(headers: &mut Headers, length: usize) {
    headers.remove(b"transfer-encoding");
    headers.set(b"Content-Length", itoa::Buffer::new().format(length).as_bytes());
}
