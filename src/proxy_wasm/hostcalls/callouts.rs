//! HTTP and gRPC calls of guests (ABI reference §10, §11). What is asked for is checked and left
//! for the worker; replies come when the guest has returned, never before.

use super::super::abi::{Phase, Status};
use super::super::calls::{Call, CallKind, Calls};
use super::super::guest::Guest;
use super::super::header_map::is_field;
use super::super::pairs::Pairs;
use super::{Host, Outcome, answer, check_answer, give, imports_form, meet, open};
use crate::http::Headers;
use crate::limits::CALLOUT_BYTES_MAX;
use crate::plugin::{CallTarget, Errand, GrpcOpen, HttpCall};
use crate::vm::{GuestMemory, Module};
use wasmtime::Linker;

const TOO_MUCH: &str = "has more to send in callouts than one plugin may";

/// A slice of guest memory: where, how long.
type Slice = (u32, u32);

#[allow(clippy::too_many_arguments, reason = "the ABI has them")]
pub(super) fn proxy_http_call(
    mut host: Host<'_>,
    upstream: u32,
    upstream_len: u32,
    headers: u32,
    headers_len: u32,
    body: u32,
    body_len: u32,
    trailers: u32,
    trailers_len: u32,
    timeout: u32,
    token_at: u32,
) -> Outcome {
    let (mut memory, guest) = open(&mut host)?;
    memory.write_u32(token_at, 0)?;
    let headers = memory.slice(headers, headers_len)?;
    let trailers = memory.slice(trailers, trailers_len)?;
    let body = memory.slice(body, body_len)?;
    let upstream = memory.slice(upstream, upstream_len)?;
    let name = &guest.facts.name;
    let [headers, trailers] = [headers, trailers].map(|map| Pairs::lenient(map, name));
    let upstream = target(guest, upstream).ok_or(Status::BadArgument)?;
    let timeout_ms = timeout_ms(timeout)?;
    let mut call = Box::new(HttpCall {
        to: guest.reply_to(0),
        upstream,
        method: Vec::new(),
        target: Vec::new(),
        authority: Vec::new(),
        headers: Headers::new(),
        body: body.to_vec(),
        trailers: fields(trailers)?,
        timeout_ms,
        body_bytes_max: guest.facts.settings.body_bytes_max,
    });
    read_head(&mut call, headers)?;
    let token = begin(guest, CallKind::Http, 0, call.body.len())?;
    call.to = guest.reply_to(token);
    guest.ask(Errand::HttpCall(call));
    memory.write_u32(token_at, token)?;
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "the ABI has them")]
pub(super) fn proxy_grpc_call(
    host: Host<'_>,
    upstream: u32,
    upstream_len: u32,
    service: u32,
    service_len: u32,
    method: u32,
    method_len: u32,
    metadata: u32,
    metadata_len: u32,
    message: u32,
    message_len: u32,
    timeout: u32,
    token_at: u32,
) -> Outcome {
    let names = [(upstream, upstream_len), (service, service_len), (method, method_len)];
    let message = Some((message, message_len));
    grpc(host, names, (metadata, metadata_len), message, timeout, token_at)
}

#[allow(clippy::too_many_arguments, reason = "the ABI has them")]
pub(super) fn proxy_grpc_stream(
    host: Host<'_>,
    upstream: u32,
    upstream_len: u32,
    service: u32,
    service_len: u32,
    method: u32,
    method_len: u32,
    metadata: u32,
    metadata_len: u32,
    token_at: u32,
) -> Outcome {
    let names = [(upstream, upstream_len), (service, service_len), (method, method_len)];
    grpc(host, names, (metadata, metadata_len), None, 0, token_at)
}

pub(super) fn proxy_grpc_send(
    mut host: Host<'_>,
    token: u32,
    message: u32,
    len: u32,
    end: u32,
) -> Outcome {
    let (memory, guest) = open(&mut host)?;
    let message = memory.slice(message, len)?;
    if !Calls::is_stream_token(token) {
        return Err(Status::BadArgument.into());
    }
    let call = guest.calls.find(token).ok_or(Status::NotFound)?.number;
    if !guest.may_send(message.len()) {
        guest.complain_once(TOO_MUCH);
        return Err(Status::InternalFailure.into());
    }
    // An end without a message is an end alone; an empty message is one.
    let message = (len > 0 || end == 0).then(|| message.to_vec());
    guest.ask(Errand::GrpcSend { call, message, end: end != 0 });
    Ok(())
}

/// Ends a call or stream at once; its callbacks are not called any more.
pub(super) fn proxy_grpc_cancel(mut host: Host<'_>, token: u32) -> Outcome {
    Ok(cancel(host.data_mut(), token)?)
}

/// Ends our side of a stream. A call has only one side to end: it is cancelled.
pub(super) fn proxy_grpc_close(mut host: Host<'_>, token: u32) -> Outcome {
    let guest = host.data_mut();
    if !Calls::is_stream_token(token) {
        return Ok(cancel(guest, token)?);
    }
    let call = guest.calls.find(token).ok_or(Status::NotFound)?.number;
    guest.ask(Errand::GrpcSend { call, message: None, end: true });
    Ok(())
}

/// How the call ended whose callback runs.
pub(super) fn proxy_get_status(
    mut host: Host<'_>,
    code_at: u32,
    ptr_at: u32,
    len_at: u32,
) -> Outcome {
    let (mut memory, guest) = open(&mut host)?;
    check_answer(&memory, ptr_at, len_at)?;
    memory.write_u32(code_at, guest.reply.code)?;
    guest.scratch.clear();
    guest.scratch.extend_from_slice(guest.reply.words.as_bytes());
    give(&mut host, ptr_at, len_at)
}

/// Before 2020-03, and in AssemblyScript's SDK to this day, gRPC has no initial metadata.
pub(super) fn other_forms(linker: &mut Linker<Guest>, module: &Module) -> wasmtime::Result<()> {
    type Words = u32;
    if imports_form(module, "proxy_grpc_call", 10) {
        linker.func_wrap(
            "env",
            "proxy_grpc_call",
            |host: Host<'_>, u: Words, ul, s: Words, sl, m: Words, ml, b: Words, bl, t, token| {
                answer(proxy_grpc_call(meet(host), u, ul, s, sl, m, ml, 0, 0, b, bl, t, token))
            },
        )?;
    }
    if imports_form(module, "proxy_grpc_stream", 7) {
        linker.func_wrap(
            "env",
            "proxy_grpc_stream",
            |host: Host<'_>, u: Words, ul, s: Words, sl, m: Words, ml, token| {
                answer(proxy_grpc_stream(meet(host), u, ul, s, sl, m, ml, 0, 0, token))
            },
        )?;
    }
    Ok(())
}

fn grpc(
    mut host: Host<'_>,
    [upstream, service, method]: [Slice; 3],
    metadata: Slice,
    message: Option<Slice>,
    timeout: u32,
    token_at: u32,
) -> Outcome {
    let (mut memory, guest) = open(&mut host)?;
    memory.write_u32(token_at, 0)?;
    let read = |memory: &GuestMemory<'_>, (at, len): Slice| memory.slice(at, len).map(Vec::from);
    let [service, method] = [read(&memory, service)?, read(&memory, method)?];
    let message = message.map(|message| read(&memory, message)).transpose()?;
    let metadata = memory.slice(metadata.0, metadata.1)?;
    let upstream = memory.slice(upstream.0, upstream.1)?;
    let metadata = fields(Pairs::lenient(metadata, &guest.facts.name))?;
    // Not BAD_ARGUMENT: so it has been since ABI 0.1.0.
    let upstream = grpc_target(guest, upstream).ok_or(Status::ParseFailure)?;
    if ![&service, &method].iter().all(|name| is_path_segment(name)) {
        return Err(Status::BadArgument.into());
    }
    let timeout_ms = timeout_ms(timeout)?;
    let kind = if message.is_some() { CallKind::GrpcCall } else { CallKind::GrpcStream };
    let call = guest.services.as_ref().map_or(0, |services| services.new_call());
    let token = begin(guest, kind, call, message.as_ref().map_or(0, Vec::len))?;
    let opened = Box::new(GrpcOpen {
        to: guest.reply_to(token),
        call,
        upstream,
        service,
        method,
        metadata,
        message,
        timeout_ms,
        message_bytes_max: guest.facts.settings.body_bytes_max,
    });
    guest.ask(Errand::GrpcOpen(opened));
    memory.write_u32(token_at, token)?;
    Ok(())
}

/// Counts a call in, if there is room for it and for what it has to send.
fn begin(guest: &mut Guest, kind: CallKind, number: u64, bytes: usize) -> Result<u32, Status> {
    if guest.frame.phase == Phase::Start {
        return Err(Status::InternalFailure);
    }
    if guest.calls.len() >= guest.facts.settings.callouts_max {
        guest.complain_once("has more callouts running than `limits.callouts` allows");
        return Err(Status::InternalFailure);
    }
    let running = guest.calls.bytes().saturating_add(bytes);
    if running > CALLOUT_BYTES_MAX || !guest.may_send(bytes) {
        guest.complain_once(TOO_MUCH);
        return Err(Status::InternalFailure);
    }
    let root = guest.root().ok_or(Status::BadArgument)?.id;
    Ok(guest.calls.begin(Call { kind, root, number, bytes }))
}

fn cancel(guest: &mut Guest, token: u32) -> Result<(), Status> {
    match guest.calls.find(token) {
        Some(call) if call.kind == CallKind::Http => Err(Status::BadArgument),
        Some(call) => {
            guest.calls.end(token);
            guest.ask(Errand::GrpcCancel { call: call.number });
            Ok(())
        }
        None => Err(Status::NotFound),
    }
}

/// Where a call goes: an upstream of the configuration, or an address where the plugin may name
/// one. On the control side, where a conf is tried, every name is as good as any.
fn target(guest: &Guest, name: &[u8]) -> Option<CallTarget> {
    let settings = &guest.facts.settings;
    let text = std::str::from_utf8(name).ok().filter(|name| !name.is_empty())?;
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let allows = |entry: &String| entry == text || entry == host;
    if settings.callouts_allow.as_ref().is_some_and(|allow| !allow.iter().any(allows)) {
        return None;
    }
    let known = guest.services.as_ref().is_none_or(|services| services.knows_upstream(name));
    if known {
        return Some(CallTarget::Upstream(name.into()));
    }
    settings.callouts_direct.then(|| CallTarget::Direct(name.into()))
}

/// Envoy takes a serialised `GrpcService` beside a name; a name that happens to be one is a name.
fn grpc_target(guest: &Guest, upstream: &[u8]) -> Option<CallTarget> {
    let in_message = || target(guest, cluster_in_grpc_service(upstream)?);
    match guest.services {
        None => in_message().or_else(|| target(guest, upstream)),
        Some(_) => target(guest, upstream).or_else(in_message),
    }
}

/// `envoy_grpc.cluster_name` (fields 1 and 1) or `google_grpc.target_uri` (2 and 1).
fn cluster_in_grpc_service(message: &[u8]) -> Option<&[u8]> {
    let inner = bytes_field(message, 0x0a).or_else(|| bytes_field(message, 0x12))?;
    bytes_field(inner, 0x0a)
}

/// The length-delimited field that a protobuf message begins with, if it has this tag.
fn bytes_field(message: &[u8], tag: u8) -> Option<&[u8]> {
    let (found, rest) = message.split_first()?;
    let (len, rest) = rest.split_first()?;
    let short = *found == tag && *len < 0x80;
    short.then(|| rest.get(..usize::from(*len))).flatten()
}

/// Negative ones are refused; 0 is no timeout.
fn timeout_ms(timeout: u32) -> Result<u64, Status> {
    if timeout.cast_signed() < 0 { Err(Status::BadArgument) } else { Ok(timeout.into()) }
}

/// Splits the pseudo headers from the others; all three must be there.
fn read_head(call: &mut HttpCall, headers: Pairs<'_>) -> Result<(), Status> {
    for (name, value) in headers.iter() {
        match name {
            b":method" => call.method = value.to_vec(),
            b":path" => call.target = value.to_vec(),
            b":authority" => call.authority = value.to_vec(),
            b":scheme" => {}
            _ if is_field(name, value) => call.headers.append(name, value),
            _ => return Err(Status::BadArgument),
        }
    }
    let visible = |text: &[u8]| !text.is_empty() && text.iter().all(|b| *b > b' ' && *b != 0x7f);
    let good = is_field(&call.method, b"")
        && visible(&call.authority)
        && visible(&call.target)
        && (call.target.starts_with(b"/") || call.target == b"*");
    if good { Ok(()) } else { Err(Status::BadArgument) }
}

fn fields(pairs: Pairs<'_>) -> Result<Headers, Status> {
    let mut headers = Headers::new();
    for (name, value) in pairs.iter() {
        if !is_field(name, value) {
            return Err(Status::BadArgument);
        }
        headers.append(name, value);
    }
    Ok(headers)
}

/// A gRPC service or method: it stands in a path.
fn is_path_segment(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_in_grpc_services() {
        for (message, cluster) in [
            (&b"\x0a\x06\x0a\x04auth"[..], Some(&b"auth"[..])),
            (b"\x12\x06\x0a\x04auth\x1a\x00", Some(b"auth")),
            (b"auth", None),
            (b"\x0a\x06\x0a\x05auth", None),
            (b"", None),
            (b"\x0a\xff\xff", None),
        ] {
            assert_eq!(cluster_in_grpc_service(message), cluster, "{message:?}");
        }
    }
}
