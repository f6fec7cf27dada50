//! The functions a guest may import, one file a family.
//!
//! All have the same shape: open memory and guest, read the arguments (or `INVALID_MEMORY_ACCESS`),
//! call one method, hand the answer over. Every version's functions are there for every module; a
//! function we don't have becomes one that traps and says so, since most modules import more than
//! they call.

mod buffers;
mod callouts;
mod context;
mod foreign;
mod headers;
mod logging;
mod metrics;
mod properties;
mod response;
mod sharing;
mod toolchains;
mod wasi;

use super::abi::Status;
use super::exports::Function;
use super::guest::{Frame, Guest};
use super::inspect::signature;
use crate::vm::{GuestMemory, Module, OutOfBounds};
use std::sync::Arc;
use wasmtime::{Caller, ExternType, Linker};

/// The store of the instance that calls.
type Host<'a> = Caller<'a, Guest>;

/// How a host function ends: well, with another status, or by ending the guest's call.
type Outcome = Result<(), Stop>;

enum Stop {
    Answer(Status),
    Trap(wasmtime::Error),
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Answer(status)
    }
}

impl From<OutOfBounds> for Stop {
    fn from(out: OutOfBounds) -> Self {
        Self::Answer(out.into())
    }
}

impl From<wasmtime::Error> for Stop {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

/// What the guest gets.
#[inline]
fn answer(outcome: Outcome) -> wasmtime::Result<u32> {
    match outcome {
        Ok(()) => Ok(Status::Ok as u32),
        Err(Stop::Answer(status)) => Ok(status as u32),
        Err(Stop::Trap(error)) => Err(error),
    }
}

/// The guest's memory beside its data.
#[inline]
fn open<'a>(host: &'a mut Host<'_>) -> Result<(GuestMemory<'a>, &'a mut Guest), Stop> {
    let memory = match host.data().memory {
        Some(memory) => memory,
        None => early_memory(host)?,
    };
    let (bytes, guest) = memory.data_and_store_mut(host);
    Ok((GuestMemory::new(bytes), guest))
}

/// While the module's start section runs, the instance is not ours yet.
#[cold]
fn early_memory(host: &mut Host<'_>) -> Result<wasmtime::Memory, Stop> {
    let memory = host.get_export("memory").and_then(wasmtime::Extern::into_memory);
    let memory = memory.ok_or(Status::InvalidMemoryAccess)?;
    host.data_mut().memory = Some(memory);
    Ok(memory)
}

/// Where [`give`] writes must be inside, before anything is done for its sake.
fn check_answer(memory: &GuestMemory<'_>, ptr_at: u32, len_at: u32) -> Result<(), OutOfBounds> {
    memory.check(ptr_at, 4)?;
    memory.check(len_at, 4)
}

/// Hands the bytes in `scratch` to the guest: in a block of exactly their size from its allocator,
/// or as a null pointer if there are none. Where the block is, is written to `ptr_at` and `len_at`.
fn give(host: &mut Host<'_>, ptr_at: u32, len_at: u32) -> Outcome {
    let bytes = std::mem::take(&mut host.data_mut().scratch);
    let given = give_bytes(host, &bytes, ptr_at, len_at);
    host.data_mut().keep_scratch(bytes);
    given
}

fn give_bytes(host: &mut Host<'_>, bytes: &[u8], ptr_at: u32, len_at: u32) -> Outcome {
    let len = u32::try_from(bytes.len()).map_err(|_| Status::InvalidMemoryAccess)?;
    let ptr = if len == 0 { 0 } else { allocate(host, len)? };
    let (mut memory, _) = open(host)?;
    memory.write(ptr, bytes)?;
    memory.write_u32(ptr_at, ptr)?;
    memory.write_u32(len_at, len)?;
    Ok(())
}

/// Runs the guest's allocator: the only guest code that runs inside a host function. It may grow
/// the memory, call host functions, and trap. It runs for no context, as in Envoy, whatever the
/// context of the function it runs in (ABI reference §2, §5).
fn allocate(host: &mut Host<'_>, len: u32) -> Result<u32, Stop> {
    let allocator = match host.data().allocate {
        Some(allocator) => allocator,
        None => early_allocator(host)?,
    };
    let frame = std::mem::replace(&mut host.data_mut().frame, Frame::START);
    let ptr = allocator.call(&mut *host, [len])?;
    host.data_mut().frame = frame;
    match ptr {
        0 => Err(Status::InvalidMemoryAccess.into()),
        ptr => Ok(ptr),
    }
}

/// While the instance starts.
#[cold]
fn early_allocator(host: &mut Host<'_>) -> Result<Function<1, u32>, Stop> {
    let facts = Arc::clone(&host.data().facts);
    let allocator = facts.exports.allocate.as_ref().and_then(|export| export.of_caller(host));
    allocator.ok_or_else(|| Status::InvalidMemoryAccess.into())
}

/// Registers functions that take words and answer with a status, under their own names. Those of
/// the `world` tell or do what would not be the same for another instance, or at another time.
macro_rules! functions {
    ($linker:expr, $family:ident: $($name:ident($($word:ident),*))*) => {
        $($linker.func_wrap(
            "env",
            stringify!($name),
            |host: Host<'_>, $($word),*| answer($family::$name(at_step(host), $($word),*)),
        )?;)*
    };
    ($linker:expr, world $family:ident: $($name:ident($($word:ident),*))*) => {
        $($linker.func_wrap("env", stringify!($name), |host: Host<'_>, $($word),*| {
            answer($family::$name(meet(at_step(host)), $($word),*))
        })?;)*
    };
}

/// The effective context holds until the callback that set it returns (ABI reference §5), also
/// where the next one follows in the same call.
#[inline]
fn at_step(mut host: Host<'_>) -> Host<'_> {
    let frame = &host.data().frame;
    if frame.joined && frame.effective != 0 {
        context::leave_with_step(&mut host);
    }
    host
}

/// Notes that the guest is no longer what every other instance is ([`Guest::mark`]).
#[inline]
fn meet(mut host: Host<'_>) -> Host<'_> {
    host.data_mut().has_met_world = true;
    host
}

/// Every function there is.
fn everything(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for_streams(linker)?;
    for_all(linker)?;
    toolchains::register(linker)?;
    wasi::register(linker)
}

/// What works on the message of a stream.
#[rustfmt::skip]
fn for_streams(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    functions!(linker, headers:
        proxy_get_header_map_pairs(map, ptr_at, len_at)
        proxy_set_header_map_pairs(map, pairs, len)
        proxy_get_header_map_value(map, key, key_len, ptr_at, len_at)
        proxy_add_header_map_value(map, key, key_len, value, value_len)
        proxy_replace_header_map_value(map, key, key_len, value, value_len)
        proxy_remove_header_map_value(map, key, key_len)
        proxy_get_header_map_size(map, size_at));
    functions!(linker, buffers:
        proxy_get_buffer_bytes(buffer, start, len, ptr_at, len_at)
        proxy_get_buffer_status(buffer, len_at, flags_at)
        proxy_set_buffer_bytes(buffer, start, len, bytes, bytes_len)
        proxy_get_configuration(ptr_at, len_at));
    functions!(linker, properties:
        proxy_get_property(path, path_len, ptr_at, len_at)
        proxy_set_property(path, path_len, value, value_len));
    functions!(linker, response:
        proxy_send_local_response(
            status, details, details_len, body, body_len, headers, headers_len, grpc)
        proxy_continue_stream(stream)
        proxy_close_stream(stream)
        proxy_continue_request()
        proxy_continue_response()
        proxy_clear_route_cache());
    Ok(())
}

/// What works everywhere.
#[rustfmt::skip]
fn for_all(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    functions!(linker, logging:
        proxy_log(level, text, len)
        proxy_get_log_level(level_at));
    functions!(linker, world logging:
        proxy_get_current_time_nanoseconds(time_at));
    functions!(linker, context:
        proxy_set_effective_context(context)
        proxy_done()
        proxy_set_tick_period_milliseconds(period));
    functions!(linker, world foreign:
        proxy_call_foreign_function(name, name_len, args, args_len, ptr_at, len_at));
    functions!(linker, world sharing:
        proxy_get_shared_data(key, key_len, ptr_at, len_at, cas_at)
        proxy_set_shared_data(key, key_len, value, value_len, cas)
        proxy_register_shared_queue(name, name_len, id_at)
        proxy_resolve_shared_queue(vm_id, vm_id_len, name, name_len, id_at)
        proxy_enqueue_shared_queue(id, item, len)
        proxy_dequeue_shared_queue(id, ptr_at, len_at));
    functions!(linker, metrics:
        proxy_define_metric(kind, name, name_len, id_at));
    functions!(linker, world metrics:
        proxy_increment_metric(id, delta)
        proxy_record_metric(id, value)
        proxy_get_metric(id, value_at));
    functions!(linker, world callouts:
        proxy_http_call(
            upstream, upstream_len, headers, headers_len, body, body_len, trailers, trailers_len,
            timeout, token_at)
        proxy_grpc_call(
            upstream, upstream_len, service, service_len, method, method_len,
            metadata, metadata_len, message, message_len, timeout, token_at)
        proxy_grpc_stream(
            upstream, upstream_len, service, service_len, method, method_len,
            metadata, metadata_len, token_at)
        proxy_grpc_send(token, message, len, end)
        proxy_grpc_cancel(token)
        proxy_grpc_close(token)
        proxy_get_status(code_at, ptr_at, len_at));
    Ok(())
}

/// The linker for one module, and which of its imports we have.
pub(super) struct Linked {
    pub(super) linker: Linker<Guest>,
    pub(super) known: Vec<String>,
    pub(super) unknown: Vec<String>,
}

/// Everything, in the forms this module declares, and stubs for what is not there.
pub(super) fn link(module: &Module) -> wasmtime::Result<Linked> {
    let mut linker = Linker::new(module.engine().wasmtime());
    linker.allow_shadowing(true);
    everything(&mut linker)?;
    callouts::other_forms(&mut linker, module)?;
    metrics::other_forms(&mut linker, module)?;
    let mut linked = Linked { linker, known: Vec::new(), unknown: Vec::new() };
    let mut store = wasmtime::Store::new(module.engine().wasmtime(), Guest::nobody());
    for import in module.wasmtime().imports() {
        let ExternType::Func(wanted) = import.ty() else { continue };
        let name = format!("{}.{}", import.module(), import.name());
        let found = linked.linker.get_by_import(&mut store, &import);
        let found = found.and_then(wasmtime::Extern::into_func).map(|func| func.ty(&store));
        if found.as_ref().is_some_and(|found| found.matches(&wanted)) {
            linked.known.push(name);
            continue;
        }
        let what = format!(
            "the guest called {name} {}, which this host does not have",
            signature(&wanted)
        );
        let stub = move |_: Host<'_>, _: &[_], _: &mut [_]| Err(wasmtime::Error::msg(what.clone()));
        linked.linker.func_new(import.module(), import.name(), wanted, stub)?;
        linked.unknown.push(name);
    }
    Ok(linked)
}

/// The function imports of a module that are there, and those that are not.
pub(super) fn sort_imports(module: &Module) -> (Vec<String>, Vec<String>) {
    link(module).map(|linked| (linked.known, linked.unknown)).unwrap_or_default()
}

/// Whether the module imports this function of `env` with so many parameters.
fn imports_form(module: &Module, name: &str, arity: usize) -> bool {
    module.wasmtime().imports().any(|import| {
        let arity_found = import.ty().func().map(|ty| ty.params().len());
        import.module() == "env" && import.name() == name && arity_found == Some(arity)
    })
}
