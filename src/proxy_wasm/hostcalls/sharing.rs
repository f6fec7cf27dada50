//! Shared data and shared queues.

use super::super::abi::Status;
use super::super::shared::{QueueError, SetError};
use super::{Host, Outcome, check_answer, give, open};

pub(super) fn proxy_get_shared_data(
    mut host: Host<'_>,
    key: u32,
    key_len: u32,
    ptr_at: u32,
    len_at: u32,
    cas_at: u32,
) -> Outcome {
    let (mut memory, guest) = open(&mut host)?;
    memory.check(cas_at, 4)?;
    check_answer(&memory, ptr_at, len_at)?;
    let key = memory.slice(key, key_len)?;
    guest.scratch.clear();
    let cas = guest.facts.namespace.data.get(key, &mut guest.scratch).ok_or(Status::NotFound)?;
    memory.write_u32(cas_at, cas)?;
    give(&mut host, ptr_at, len_at)
}

pub(super) fn proxy_set_shared_data(
    mut host: Host<'_>,
    key: u32,
    key_len: u32,
    value: u32,
    value_len: u32,
    cas: u32,
) -> Outcome {
    let (memory, guest) = open(&mut host)?;
    let (key, value) = (memory.slice(key, key_len)?, memory.slice(value, value_len)?);
    let max = guest.facts.settings.shared_data_bytes_max;
    let set = guest.facts.namespace.data.set(key, value, cas, max);
    set.map_err(|error| match error {
        SetError::CasMismatch => Status::CasMismatch.into(),
        SetError::Full => {
            guest.complain_once("shared data is full: `limits.shared_data_mb`");
            if let Some(counters) = &guest.counters {
                counters.shared_data_full.up();
            }
            Status::InternalFailure.into()
        }
    })
}

pub(super) fn proxy_register_shared_queue(
    mut host: Host<'_>,
    name: u32,
    name_len: u32,
    id_at: u32,
) -> Outcome {
    let (mut memory, guest) = open(&mut host)?;
    memory.check(id_at, 4)?;
    let name = memory.slice(name, name_len)?;
    let id = guest.facts.namespace.register_queue(name).ok_or(Status::InternalFailure)?;
    guest.listen_to(id);
    memory.write_u32(id_at, id)?;
    Ok(())
}

pub(super) fn proxy_resolve_shared_queue(
    mut host: Host<'_>,
    vm_id: u32,
    vm_id_len: u32,
    name: u32,
    name_len: u32,
    id_at: u32,
) -> Outcome {
    let (mut memory, guest) = open(&mut host)?;
    memory.check(id_at, 4)?;
    let (vm_id, name) = (memory.slice(vm_id, vm_id_len)?, memory.slice(name, name_len)?);
    let id = guest.facts.namespace.resolve_queue(vm_id, name).ok_or(Status::NotFound)?;
    memory.write_u32(id_at, id)?;
    Ok(())
}

pub(super) fn proxy_enqueue_shared_queue(
    mut host: Host<'_>,
    id: u32,
    item: u32,
    len: u32,
) -> Outcome {
    let (memory, guest) = open(&mut host)?;
    let item = memory.slice(item, len)?;
    Ok(guest.facts.namespace.enqueue(id, item).map_err(queue_status)?)
}

pub(super) fn proxy_dequeue_shared_queue(
    mut host: Host<'_>,
    id: u32,
    ptr_at: u32,
    len_at: u32,
) -> Outcome {
    let (memory, guest) = open(&mut host)?;
    // Before the item is taken out: it would be lost.
    check_answer(&memory, ptr_at, len_at)?;
    guest.scratch = guest.facts.namespace.dequeue(id).map_err(queue_status)?;
    give(&mut host, ptr_at, len_at)
}

fn queue_status(error: QueueError) -> Status {
    match error {
        QueueError::Unknown => Status::NotFound,
        QueueError::Empty => Status::Empty,
        QueueError::Full => Status::InternalFailure,
    }
}
