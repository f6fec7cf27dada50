//! Buffers: bodies and configurations.

use super::super::abi::{Phase, Status, buffer};
use super::super::guest::Guest;
use super::{Host, Outcome, check_answer, give, open};

pub(super) fn proxy_get_buffer_bytes(
    mut host: Host<'_>,
    buffer: u32,
    start: u32,
    len: u32,
    ptr_at: u32,
    len_at: u32,
) -> Outcome {
    let (memory, guest) = open(&mut host)?;
    check_answer(&memory, ptr_at, len_at)?;
    copy_part(guest, buffer, start, len)?;
    give(&mut host, ptr_at, len_at)
}

pub(super) fn proxy_get_buffer_status(
    mut host: Host<'_>,
    buffer: u32,
    len_at: u32,
    flags_at: u32,
) -> Outcome {
    let (mut memory, guest) = open(&mut host)?;
    let len = contents(guest, buffer)?.len();
    memory.check(flags_at, 4)?;
    memory.write_u32(len_at, u32::try_from(len).unwrap_or(u32::MAX))?;
    memory.write_u32(flags_at, 0)?;
    Ok(())
}

pub(super) fn proxy_set_buffer_bytes(
    mut host: Host<'_>,
    buffer: u32,
    start: u32,
    len: u32,
    bytes: u32,
    bytes_len: u32,
) -> Outcome {
    let (memory, guest) = open(&mut host)?;
    let bytes = memory.slice(bytes, bytes_len)?;
    let bytes_max = guest.facts.settings.body_bytes_max;
    let body = body_mut(guest, buffer)?;
    let part = part(body.len(), start, len);
    if body.len() - part.len() + bytes.len() > bytes_max {
        return Err(Status::BadArgument.into());
    }
    splice(body, part, bytes);
    Ok(())
}

/// ABI 0.1.0: the plugin's configuration while it is configured, else the VM's.
pub(super) fn proxy_get_configuration(mut host: Host<'_>, ptr_at: u32, len_at: u32) -> Outcome {
    let (memory, guest) = open(&mut host)?;
    check_answer(&memory, ptr_at, len_at)?;
    let configuring = guest.frame.phase == Phase::Configure;
    let buffer = if configuring { buffer::PLUGIN_CONFIG } else { buffer::VM_CONFIG };
    copy_part(guest, buffer, 0, u32::MAX)?;
    give(&mut host, ptr_at, len_at)
}

/// Copies a part of a buffer to `scratch`.
fn copy_part(guest: &mut Guest, buffer: u32, start: u32, len: u32) -> Outcome {
    let mut out = std::mem::take(&mut guest.scratch);
    out.clear();
    let found = contents(guest, buffer).map(|bytes| {
        out.extend_from_slice(&bytes[part(bytes.len(), start, len)]);
    });
    guest.scratch = out;
    Ok(found?)
}

/// The part of a buffer that `start` and `len` mean: SDKs ask for more than there is.
fn part(size: usize, start: u32, len: u32) -> std::ops::Range<usize> {
    let start = size.min(start as usize);
    start..size.min(start.saturating_add(len as usize))
}

/// Puts `bytes` in place of a part: before, after, instead of, or anywhere inside.
fn splice(body: &mut Vec<u8>, part: std::ops::Range<usize>, bytes: &[u8]) {
    if part.end == body.len() {
        body.truncate(part.start);
        body.extend_from_slice(bytes);
    } else {
        body.splice(part, bytes.iter().copied());
    }
}

fn contents(guest: &Guest, number: u32) -> Result<&[u8], Status> {
    match number {
        buffer::REQUEST_BODY | buffer::RESPONSE_BODY if is_body_now(guest, number) => {
            guest.stream_message().map(|message| &message.body[..]).ok_or(Status::NotFound)
        }
        buffer::CALL_BODY => guest.reply.body.as_deref().ok_or(Status::NotFound),
        buffer::GRPC_MESSAGE => guest.reply.grpc_message.as_deref().ok_or(Status::NotFound),
        buffer::VM_CONFIG => Ok(&guest.facts.settings.vm_config),
        buffer::PLUGIN_CONFIG if guest.frame.phase == Phase::Configure => {
            let context = guest.context();
            let root = guest.roots.iter().find(|root| root.id == context);
            root.map(|root| &root.conf[..]).ok_or(Status::NotFound)
        }
        ..=buffer::LAST => Err(Status::NotFound),
        _ => Err(Status::BadArgument),
    }
}

fn body_mut(guest: &mut Guest, number: u32) -> Result<&mut Vec<u8>, Status> {
    if number > buffer::RESPONSE_BODY {
        return Err(Status::BadArgument);
    }
    if !is_body_now(guest, number) {
        return Err(Status::NotFound);
    }
    guest.stream_message_mut().map(|message| &mut message.body).ok_or(Status::NotFound)
}

/// A body is there while its callback runs, and in the trailers callback: what a plugin kept of a
/// body with trailers is whole only then.
fn is_body_now(guest: &Guest, number: u32) -> bool {
    let phase = guest.phase();
    if number == buffer::REQUEST_BODY {
        matches!(phase, Phase::RequestBody | Phase::RequestTrailers)
    } else {
        matches!(phase, Phase::ResponseBody | Phase::ResponseTrailers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_splice() {
        const END: u32 = u32::MAX;
        for (start, len, expected) in [
            (0, 0, "newbody"),
            (0, END, "new"),
            (0, 4, "new"),
            (4, 0, "bodynew"),
            (i32::MAX as u32, 0, "bodynew"),
            (END, END, "bodynew"),
            (0, 2, "newdy"),
            (1, 2, "bnewy"),
            (1, 0, "bnewody"),
            (2, END, "bonew"),
            (3, 1, "bodnew"),
        ] {
            let mut body = b"body".to_vec();
            let part = part(body.len(), start, len);
            splice(&mut body, part, b"new");
            assert_eq!(String::from_utf8_lossy(&body), expected, "{start}, {len}");
        }
        let mut body = b"body".to_vec();
        splice(&mut body, 1..3, b"");
        assert_eq!(body, b"by");
    }

    #[test]
    fn parts_are_clamped() {
        for (start, len, expected) in
            [(0, u32::MAX, 0..4), (1, 2, 1..3), (4, 1, 4..4), (9, 1, 4..4), (3, u32::MAX, 3..4)]
        {
            assert_eq!(part(4, start, len), expected);
        }
    }
}
