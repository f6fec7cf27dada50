//! Properties.

use super::super::property;
use super::{Host, Outcome, check_answer, give, open};

pub(super) fn proxy_get_property(
    mut host: Host<'_>,
    path: u32,
    path_len: u32,
    ptr_at: u32,
    len_at: u32,
) -> Outcome {
    let (memory, guest) = open(&mut host)?;
    let path = memory.slice(path, path_len)?;
    check_answer(&memory, ptr_at, len_at)?;
    let mut out = std::mem::take(&mut guest.scratch);
    out.clear();
    let found = property::get(guest, path, &mut out);
    guest.scratch = out;
    found?;
    give(&mut host, ptr_at, len_at)
}

pub(super) fn proxy_set_property(
    mut host: Host<'_>,
    path: u32,
    path_len: u32,
    value: u32,
    value_len: u32,
) -> Outcome {
    let (memory, guest) = open(&mut host)?;
    let (path, value) = (memory.slice(path, path_len)?, memory.slice(value, value_len)?);
    Ok(property::set(guest, path, value)?)
}
