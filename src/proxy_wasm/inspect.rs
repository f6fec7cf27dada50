//! What a module offers and asks for, before it is ever run.

use super::abi::Abi;
use super::error::Reason;
use crate::plugin::Hooks;
use crate::vm::{Module, is_added_export};
use wasmtime::{ExternType, FuncType, ValType};

/// A callback of the ABI: how many `i32` it takes, whether it returns one.
struct Callback {
    name: &'static str,
    arities: &'static [usize],
    result: bool,
    hook: Hooks,
}

const fn callback(
    name: &'static str,
    arities: &'static [usize],
    result: bool,
    hook: Hooks,
) -> Callback {
    Callback { name, arities, result, hook }
}

/// Every export we call. The two arities of the headers callbacks are those of ABI 0.1.0 and later.
const CALLBACKS: &[Callback] = &[
    callback("_initialize", &[0], false, Hooks::NONE),
    callback("_start", &[0], false, Hooks::NONE),
    callback("malloc", &[1], true, Hooks::NONE),
    callback("proxy_on_memory_allocate", &[1], true, Hooks::NONE),
    callback("proxy_on_context_create", &[2], false, Hooks::NONE),
    callback("proxy_on_vm_start", &[2], true, Hooks::NONE),
    callback("proxy_on_configure", &[2], true, Hooks::NONE),
    callback("proxy_on_tick", &[1], false, Hooks::NONE),
    callback("proxy_on_queue_ready", &[2], false, Hooks::NONE),
    callback("proxy_on_foreign_function", &[3], false, Hooks::NONE),
    callback("proxy_on_http_call_response", &[5], false, Hooks::NONE),
    callback("proxy_on_grpc_receive_initial_metadata", &[3], false, Hooks::NONE),
    callback("proxy_on_grpc_receive", &[3], false, Hooks::NONE),
    callback("proxy_on_grpc_receive_trailing_metadata", &[3], false, Hooks::NONE),
    callback("proxy_on_grpc_trailing_metadata", &[3], false, Hooks::NONE),
    callback("proxy_on_grpc_close", &[3], false, Hooks::NONE),
    callback("proxy_on_request_headers", &[2, 3], true, Hooks::REQUEST_HEADERS),
    callback("proxy_on_request_body", &[3], true, Hooks::REQUEST_BODY),
    callback("proxy_on_request_trailers", &[2], true, Hooks::REQUEST_TRAILERS),
    callback("proxy_on_response_headers", &[2, 3], true, Hooks::RESPONSE_HEADERS),
    callback("proxy_on_response_body", &[3], true, Hooks::RESPONSE_BODY),
    callback("proxy_on_response_trailers", &[2], true, Hooks::RESPONSE_TRAILERS),
    callback("proxy_on_done", &[1], true, Hooks::LOG),
    callback("proxy_on_log", &[1], false, Hooks::LOG),
    callback("proxy_on_delete", &[1], false, Hooks::LOG),
];

/// What was found in a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The ABI version it says it has.
    pub abi: Option<&'static str>,
    /// Its callbacks, as exported.
    pub callbacks: Vec<String>,
    /// Its other exports.
    pub other_exports: Vec<String>,
    /// The memory's pages of 64 KiB at start, and the most it declares.
    pub memory_pages: Option<(u64, Option<u64>)>,
    /// Imported functions, `module.name`, that this host has.
    pub imports: Vec<String>,
    /// Imported functions that this host does not have: calling one traps.
    pub unknown_imports: Vec<String>,
    /// Why it can't be a plugin here, if it can't.
    pub problem: Option<Reason>,
}

/// Looks into a compiled module.
#[must_use]
pub fn inspect(module: &Module) -> Inspection {
    let exported = |c: &&Callback| module.wasmtime().get_export(c.name).is_some();
    let callbacks = CALLBACKS.iter().filter(exported).map(|c| c.name.to_owned()).collect();
    let other = |name: &&str| {
        CALLBACKS.iter().all(|callback| callback.name != *name) && !is_added_export(name)
    };
    let exports = module.wasmtime().exports().map(|export| export.name());
    let other_exports = exports.filter(other).map(str::to_owned).collect();
    let memory = module.wasmtime().get_export("memory");
    let memory = memory.as_ref().and_then(ExternType::memory);
    let memory_pages = memory.map(|memory| (memory.minimum(), memory.maximum()));
    let (imports, unknown_imports) = super::hostcalls::sort_imports(module);
    let problem = check(module).err();
    let abi = abi_of(module).map(Abi::as_str);
    Inspection { abi, callbacks, other_exports, memory_pages, imports, unknown_imports, problem }
}

/// What the host needs to know to run a module.
pub(super) struct Checked {
    pub(super) abi: Abi,
    pub(super) hooks: Hooks,
    /// Whether the guest wants to log requests that never came to it.
    pub(super) logs: bool,
}

/// Whether a module is a plugin that can run here.
pub(super) fn check(module: &Module) -> Result<Checked, Reason> {
    check_imports(module)?;
    check_memory(module)?;
    let abi = abi_of(module).ok_or(Reason::NoAbi)?;
    let has = |name: &str| matches!(module.wasmtime().get_export(name), Some(ExternType::Func(_)));
    if !has("proxy_on_memory_allocate") && !has("malloc") {
        return Err(Reason::NoAllocator);
    }
    let mut hooks = Hooks::REQUEST_HEADERS | Hooks::LOG | Hooks::WAITS;
    for callback in CALLBACKS {
        if check_callback(module, callback)? {
            hooks = hooks | callback.hook;
        }
    }
    Ok(Checked { abi, hooks, logs: has("proxy_on_log") })
}

/// The first marker counts.
fn abi_of(module: &Module) -> Option<Abi> {
    let mut exports = module.wasmtime().exports();
    exports.find_map(|export| match export.ty() {
        ExternType::Func(_) => Abi::from_marker(export.name()),
        _ => None,
    })
}

fn check_imports(module: &Module) -> Result<(), Reason> {
    for import in module.wasmtime().imports() {
        let kind = match import.ty() {
            ExternType::Func(_) => continue,
            ExternType::Memory(_) => "memory",
            ExternType::Table(_) => "table",
            ExternType::Global(_) => "global",
            ExternType::Tag(_) => "tag",
        };
        return Err(Reason::Import(format!("the {kind} {}.{}", import.module(), import.name())));
    }
    Ok(())
}

fn check_memory(module: &Module) -> Result<(), Reason> {
    match module.wasmtime().get_export("memory") {
        Some(ExternType::Memory(memory)) if memory.is_64() => {
            Err(Reason::Memory("its memory has 64-bit addresses; the ABI has 32-bit ones"))
        }
        Some(ExternType::Memory(memory)) if memory.is_shared() => {
            Err(Reason::Memory("its memory is shared between threads"))
        }
        Some(ExternType::Memory(_)) => Ok(()),
        _ => Err(Reason::Memory("no memory is exported under the name \"memory\"")),
    }
}

/// Whether the callback is there, with a type we can call.
fn check_callback(module: &Module, callback: &Callback) -> Result<bool, Reason> {
    let Some(export) = module.wasmtime().get_export(callback.name) else { return Ok(false) };
    let good = match &export {
        ExternType::Func(ty) => {
            callback.arities.contains(&ty.params().len())
                && ty.params().chain(ty.results()).all(|ty| matches!(ty, ValType::I32))
                && ty.results().len() == usize::from(callback.result)
        }
        _ => false,
    };
    if good {
        return Ok(true);
    }
    let found = match &export {
        ExternType::Func(ty) => signature(ty),
        _ => "no function".to_owned(),
    };
    Err(Reason::Signature { export: callback.name.to_owned(), found, expected: expected(callback) })
}

/// `(i32, i64) -> i32`.
pub(super) fn signature(ty: &FuncType) -> String {
    let list = |types: Vec<String>| format!("({})", types.join(", "));
    let params = list(ty.params().map(|ty| ty.to_string()).collect());
    let results: Vec<_> = ty.results().map(|ty| ty.to_string()).collect();
    match &results[..] {
        [] => params,
        [one] => format!("{params} -> {one}"),
        _ => format!("{params} -> {}", list(results)),
    }
}

fn expected(callback: &Callback) -> String {
    let result = if callback.result { " -> i32" } else { "" };
    let one = |arity: &usize| format!("({}){result}", vec!["i32"; *arity].join(", "));
    let forms: Vec<_> = callback.arities.iter().map(one).collect();
    forms.join(" or ")
}
