//! Metrics.

use super::super::abi::Status;
use super::super::guest::Guest;
use super::super::shared::{Handle, MetricKind};
use super::{Host, Outcome, answer, imports_form, meet, open};
use crate::vm::Module;
use std::collections::hash_map::Entry;
use wasmtime::Linker;

pub(super) fn proxy_define_metric(
    mut host: Host<'_>,
    kind: u32,
    name: u32,
    name_len: u32,
    id_at: u32,
) -> Outcome {
    let (mut memory, guest) = open(&mut host)?;
    memory.check(id_at, 4)?;
    let name = memory.slice(name, name_len)?;
    let kind = MetricKind::from_number(kind).ok_or(Status::BadArgument)?;
    let id = guest.facts.metrics.define(kind, name).ok_or(Status::InternalFailure)?;
    memory.write_u32(id_at, id)?;
    Ok(())
}

pub(super) fn proxy_increment_metric(mut host: Host<'_>, id: u32, delta: i64) -> Outcome {
    let metric = find(host.data_mut(), id)?;
    if metric.increment(delta) { Ok(()) } else { Err(Status::BadArgument.into()) }
}

pub(super) fn proxy_record_metric(mut host: Host<'_>, id: u32, value: u64) -> Outcome {
    find(host.data_mut(), id)?.record(value);
    Ok(())
}

pub(super) fn proxy_get_metric(mut host: Host<'_>, id: u32, value_at: u32) -> Outcome {
    let (mut memory, guest) = open(&mut host)?;
    let value = find(guest, id)?.get().ok_or(Status::BadArgument)?;
    memory.write_u64(value_at, value)?;
    Ok(())
}

/// Modules made for wasm-nginx-module declare the out pointer as 64 bits.
pub(super) fn other_forms(linker: &mut Linker<Guest>, module: &Module) -> wasmtime::Result<()> {
    let wide = module.wasmtime().imports().any(|import| {
        let last = import.ty().func().and_then(|ty| ty.params().last());
        import.name() == "proxy_get_metric" && matches!(last, Some(wasmtime::ValType::I64))
    });
    if wide && imports_form(module, "proxy_get_metric", 2) {
        linker.func_wrap("env", "proxy_get_metric", |host: Host<'_>, id: u32, at: u64| {
            let at = u32::try_from(at).map_err(|_| Status::InvalidMemoryAccess.into());
            answer(at.and_then(|at| proxy_get_metric(meet(host), id, at)))
        })?;
    }
    Ok(())
}

/// The metric as this instance holds it, so that counting takes no lock.
fn find(guest: &mut Guest, id: u32) -> Result<&Handle, Status> {
    match guest.metrics.entry(id) {
        Entry::Occupied(held) => Ok(held.into_mut()),
        Entry::Vacant(place) => {
            let metric = guest.facts.metrics.find(id).ok_or(Status::NotFound)?;
            Ok(place.insert(metric))
        }
    }
}
