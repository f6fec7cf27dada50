//! Foreign functions.

use super::super::foreign;
use super::{Host, Outcome, give, open};

/// Either place for the answer may be null: the guest does not want it.
pub(super) fn proxy_call_foreign_function(
    mut host: Host<'_>,
    name: u32,
    name_len: u32,
    args: u32,
    args_len: u32,
    ptr_at: u32,
    len_at: u32,
) -> Outcome {
    let (memory, guest) = open(&mut host)?;
    let (name, args) = (memory.slice(name, name_len)?, memory.slice(args, args_len)?);
    for at in [ptr_at, len_at].into_iter().filter(|at| *at != 0) {
        memory.check(at, 4)?;
    }
    let mut out = std::mem::take(&mut guest.scratch);
    out.clear();
    let called = foreign::call(guest, name, args, &mut out);
    guest.scratch = out;
    called?;
    if ptr_at != 0 && len_at != 0 {
        give(&mut host, ptr_at, len_at)?;
    }
    Ok(())
}
