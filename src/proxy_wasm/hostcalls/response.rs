//! Local responses, and letting streams go on or end. All of it takes effect when the guest has
//! returned.

use super::super::abi::{Phase, Status, stream};
use super::super::guest::Guest;
use super::super::header_map::is_field;
use super::super::pairs::Pairs;
use super::{Host, Outcome, open};

/// Bytes of the word that says why a plugin answers.
const DETAILS_BYTES_MAX: usize = 256;

/// The largest gRPC status; anything else means that there is none.
const GRPC_STATUS_LAST: u32 = 16;

#[allow(clippy::too_many_arguments, reason = "the ABI has them")]
pub(super) fn proxy_send_local_response(
    mut host: Host<'_>,
    status: u32,
    details: u32,
    details_len: u32,
    body: u32,
    body_len: u32,
    headers: u32,
    headers_len: u32,
    grpc: u32,
) -> Outcome {
    let (memory, guest) = open(&mut host)?;
    let details = memory.slice(details, details_len)?;
    let body = memory.slice(body, body_len)?;
    let headers = Pairs::lenient(memory.slice(headers, headers_len)?, &guest.facts.name);
    Ok(respond(guest, status, details, body, headers, grpc)?)
}

pub(super) fn proxy_continue_stream(mut host: Host<'_>, stream: u32) -> Outcome {
    Ok(resume(host.data_mut(), stream)?)
}

pub(super) fn proxy_continue_request(mut host: Host<'_>) -> Outcome {
    Ok(resume(host.data_mut(), stream::REQUEST)?)
}

pub(super) fn proxy_continue_response(mut host: Host<'_>) -> Outcome {
    Ok(resume(host.data_mut(), stream::RESPONSE)?)
}

pub(super) fn proxy_close_stream(mut host: Host<'_>, stream: u32) -> Outcome {
    let guest = host.data_mut();
    if stream > stream::LAST || guest.stream_message().is_none() {
        return Err(Status::BadArgument.into());
    }
    guest.effects_mut().close = true;
    Ok(())
}

pub(super) fn proxy_clear_route_cache(mut host: Host<'_>) -> Outcome {
    host.data_mut().clear_route_cache();
    Ok(())
}

/// Prepares the local response. The first one counts, for a waiting stream that of whichever
/// callback came first; when all is over there is nobody to answer.
fn respond(
    guest: &mut Guest,
    status: u32,
    details: &[u8],
    body: &[u8],
    headers: Pairs<'_>,
    grpc: u32,
) -> Result<(), Status> {
    let (phase, already) = (guest.phase(), guest.effects_mut().respond);
    let is_visit = guest.is_visiting();
    let message = guest.stream_message_mut().ok_or(Status::BadArgument)?;
    let fields = headers.iter().filter(|(name, _)| !name.starts_with(b":"));
    let good = (200..=999).contains(&status) && fields.clone().all(|(k, v)| is_field(k, v));
    if !good {
        return Err(Status::BadArgument);
    }
    if already || message.answered || phase == Phase::Log {
        return Ok(());
    }
    message.answered = is_visit;
    message.respond(status as u16, Some(body).filter(|body| !body.is_empty()));
    message.local.verbatim = true;
    let one_word = details.iter().map(|b| if b.is_ascii_whitespace() { b'_' } else { *b });
    message.local.details.extend(one_word.take(DETAILS_BYTES_MAX));
    fields.for_each(|(name, value)| message.local.headers.append(name, value));
    if grpc <= GRPC_STATUS_LAST {
        let mut digits = itoa::Buffer::new();
        message.local.headers.append(b"grpc-status", digits.format(grpc).as_bytes());
    }
    guest.effects_mut().respond = true;
    Ok(())
}

/// Lets a held request or response go on; one that is not held goes on anyway.
fn resume(guest: &mut Guest, stream: u32) -> Result<(), Status> {
    if stream > stream::LAST {
        return Err(Status::BadArgument);
    }
    let context = guest.context();
    let Some(message) = guest.stream_message_mut() else {
        guest.resume_elsewhere(context, stream);
        return Ok(());
    };
    match stream {
        stream::REQUEST => message.resume_request = true,
        stream::RESPONSE => message.resume_response = true,
        _ => {}
    }
    Ok(())
}
