//! HTTP and gRPC calls of guests. They come in a later version: until then each is answered with a
//! status that SDKs expect of a call that could not be started.

use super::super::abi::Status;
use super::super::guest::Guest;
use super::{Host, Outcome, answer, check_answer, give, imports_form, open};
use crate::vm::Module;
use wasmtime::Linker;

const NOT_YET: &str = "asked for a callout; callouts come in a later version";

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
    _timeout: u32,
    token_at: u32,
) -> Outcome {
    let (mut memory, guest) = open(&mut host)?;
    memory.check(upstream, upstream_len)?;
    memory.check(headers, headers_len)?;
    memory.check(body, body_len)?;
    memory.check(trailers, trailers_len)?;
    memory.write_u32(token_at, 0)?;
    guest.complain_once(NOT_YET);
    Err(Status::InternalFailure.into())
}

#[allow(clippy::too_many_arguments, reason = "the ABI has them")]
pub(super) fn proxy_grpc_call(
    mut host: Host<'_>,
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
    _timeout: u32,
    token_at: u32,
) -> Outcome {
    let (memory, _) = open(&mut host)?;
    memory.check(metadata, metadata_len)?;
    memory.check(message, message_len)?;
    grpc(host, [(upstream, upstream_len), (service, service_len), (method, method_len)], token_at)
}

#[allow(clippy::too_many_arguments, reason = "the ABI has them")]
pub(super) fn proxy_grpc_stream(
    mut host: Host<'_>,
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
    open(&mut host)?.0.check(metadata, metadata_len)?;
    grpc(host, [(upstream, upstream_len), (service, service_len), (method, method_len)], token_at)
}

pub(super) fn proxy_grpc_send(
    mut host: Host<'_>,
    _token: u32,
    message: u32,
    len: u32,
    _end: u32,
) -> Outcome {
    open(&mut host)?.0.check(message, len)?;
    Err(Status::NotFound.into())
}

pub(super) fn proxy_grpc_cancel(_: Host<'_>, _token: u32) -> Outcome {
    Err(Status::NotFound.into())
}

pub(super) fn proxy_grpc_close(_: Host<'_>, _token: u32) -> Outcome {
    Err(Status::NotFound.into())
}

/// How the last callout ended: none did.
pub(super) fn proxy_get_status(
    mut host: Host<'_>,
    code_at: u32,
    ptr_at: u32,
    len_at: u32,
) -> Outcome {
    let (mut memory, guest) = open(&mut host)?;
    check_answer(&memory, ptr_at, len_at)?;
    memory.write_u32(code_at, 0)?;
    guest.scratch.clear();
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
                answer(proxy_grpc_call(host, u, ul, s, sl, m, ml, 0, 0, b, bl, t, token))
            },
        )?;
    }
    if imports_form(module, "proxy_grpc_stream", 7) {
        linker.func_wrap(
            "env",
            "proxy_grpc_stream",
            |host: Host<'_>, u: Words, ul, s: Words, sl, m: Words, ml, token| {
                answer(proxy_grpc_stream(host, u, ul, s, sl, m, ml, 0, 0, token))
            },
        )?;
    }
    Ok(())
}

fn grpc(mut host: Host<'_>, names: [(u32, u32); 3], token_at: u32) -> Outcome {
    let (mut memory, guest) = open(&mut host)?;
    names.into_iter().try_for_each(|(at, len)| memory.check(at, len))?;
    memory.write_u32(token_at, 0)?;
    guest.complain_once(NOT_YET);
    Err(Status::InternalFailure.into())
}
