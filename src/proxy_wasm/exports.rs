//! The exports we call: found once in each module, looked up by place in each instance.
//!
//! ```text
//! module ─► Exports: names and types, once ─► instance ─► Callbacks: functions, by place ─► call
//! ```
//!
//! An instance for each request makes this a hot path: looking names up, and asking wasmtime for
//! each function's type twice, was a fifth of what such an instance costs.
//!
//! Callbacks that follow each other without anything for us to do between them are joined to one
//! call ([`JOINS`]).

use super::guest::Guest;
use crate::vm::{Join, Module, STEP};
use std::marker::PhantomData;
use wasmtime::{
    AsContextMut, Caller, Extern, ExternType, Func, Instance, Memory, ModuleExport, Store, ValRaw,
    ValType,
};

/// What a callback gives back: nothing, or one `i32`.
pub(super) trait Returned: Copy {
    const COUNT: usize;
    fn of(raw: ValRaw) -> Self;
}

impl Returned for () {
    const COUNT: usize = 0;
    fn of(_: ValRaw) {}
}

impl Returned for u32 {
    const COUNT: usize = 1;
    fn of(raw: ValRaw) -> Self {
        raw.get_u32()
    }
}

/// Where a module has a function that takes `N` times `i32` and gives `R`.
pub(super) struct Export<const N: usize, R> {
    at: ModuleExport,
    returned: PhantomData<fn() -> R>,
}

/// That function in an instance.
#[derive(Clone, Copy)]
pub(super) struct Function<const N: usize, R> {
    func: Func,
    returned: PhantomData<fn() -> R>,
}

/// An export that a module may do without: then it is not called.
type Maybe<const N: usize, R> = Option<Export<N, R>>;

/// A stream's first two callbacks, and its last three.
pub const JOINS: &[Join] = &[
    Join { name: OPEN, calls: &["proxy_on_context_create", "proxy_on_request_headers"] },
    Join { name: CLOSE, calls: &["proxy_on_done", "proxy_on_log", "proxy_on_delete"] },
];

const OPEN: &str = "ringgate:open";
const CLOSE: &str = "ringgate:close";

/// Places of everything in a module that we call or read.
#[derive(Default)]
pub(super) struct Exports {
    memory: Option<ModuleExport>,
    pub(super) allocate: Maybe<1, u32>,
    pub(super) initialize: Maybe<0, ()>,
    pub(super) start: Maybe<0, ()>,
    pub(super) main: Maybe<2, u32>,
    pub(super) main_void: Maybe<0, u32>,
    pub(super) tick: Maybe<1, ()>,
    pub(super) queue_ready: Maybe<2, ()>,
    pub(super) http_call_response: Maybe<5, ()>,
    pub(super) grpc_initial_metadata: Maybe<3, ()>,
    pub(super) grpc_receive: Maybe<3, ()>,
    pub(super) grpc_trailing_metadata: Maybe<3, ()>,
    pub(super) grpc_close: Maybe<3, ()>,
    context_create: Maybe<2, ()>,
    vm_start: Maybe<2, u32>,
    configure: Maybe<2, u32>,
    request_headers: HeadersExport,
    request_body: Maybe<3, u32>,
    pub(super) request_trailers: Maybe<2, u32>,
    response_headers: HeadersExport,
    response_body: Maybe<3, u32>,
    pub(super) response_trailers: Maybe<2, u32>,
    pub(super) done: Maybe<1, u32>,
    log: Maybe<1, ()>,
    pub(super) delete: Maybe<1, ()>,
    open: OpenExport,
    close: Maybe<1, ()>,
    /// Where a joined call is.
    step: Option<ModuleExport>,
}

/// A headers callback of ABI 0.1.0 has two parameters, of a later one three: markers lie, types
/// don't.
#[derive(Default)]
struct HeadersExport {
    two: Maybe<2, u32>,
    three: Maybe<3, u32>,
}

/// A headers callback in an instance.
pub(super) enum Headers {
    None,
    Two(Function<2, u32>),
    Three(Function<3, u32>),
}

/// Joined, the root context's id comes between the stream's and what a headers callback gets.
#[derive(Default)]
struct OpenExport {
    two: Maybe<3, u32>,
    three: Maybe<4, u32>,
}

/// A stream's first callbacks in an instance: the context's making and the request's headers.
#[derive(Clone, Copy)]
pub(super) enum Open {
    /// Joined, with a headers callback of two parameters or of three.
    Two(Function<3, u32>),
    Three(Function<4, u32>),
    /// One by one.
    Apart,
}

/// A stream's last callbacks in an instance.
pub(super) enum Close {
    /// Joined, and how many they are.
    Joined(Function<1, ()>, u64),
    Apart {
        done: Option<Function<1, u32>>,
        log: Option<Function<1, ()>>,
        delete: Option<Function<1, ()>>,
    },
}

/// The functions that most requests call, in one instance.
pub(super) struct Callbacks {
    pub(super) context_create: Option<Function<2, ()>>,
    pub(super) vm_start: Option<Function<2, u32>>,
    pub(super) configure: Option<Function<2, u32>>,
    pub(super) request_headers: Headers,
    pub(super) request_body: Option<Function<3, u32>>,
    pub(super) response_headers: Headers,
    pub(super) response_body: Option<Function<3, u32>>,
    pub(super) open: Open,
    pub(super) close: Close,
}

impl Exports {
    /// Finds them all.
    pub(super) fn of(module: &Module) -> Self {
        let step = module.wasmtime().get_export_index(STEP);
        // Without the step, or with another version's, joined calls are not what we call.
        let is_joined = step.is_some();
        Self {
            memory: module.wasmtime().get_export_index("memory"),
            allocate: first(module, &["proxy_on_memory_allocate", "malloc"]),
            initialize: first(module, &["_initialize"]),
            start: first(module, &["_start"]),
            main: first(module, &["main"]),
            main_void: first(module, &["__main_void"]),
            tick: first(module, &["proxy_on_tick"]),
            queue_ready: first(module, &["proxy_on_queue_ready"]),
            http_call_response: first(module, &["proxy_on_http_call_response"]),
            grpc_initial_metadata: first(module, &["proxy_on_grpc_receive_initial_metadata"]),
            grpc_receive: first(module, &["proxy_on_grpc_receive"]),
            grpc_trailing_metadata: first(module, GRPC_TRAILING_METADATA),
            grpc_close: first(module, &["proxy_on_grpc_close"]),
            context_create: first(module, &["proxy_on_context_create"]),
            vm_start: first(module, &["proxy_on_vm_start"]),
            configure: first(module, &["proxy_on_configure"]),
            request_headers: HeadersExport::of(module, "proxy_on_request_headers"),
            request_body: first(module, &["proxy_on_request_body"]),
            request_trailers: first(module, &["proxy_on_request_trailers"]),
            response_headers: HeadersExport::of(module, "proxy_on_response_headers"),
            response_body: first(module, &["proxy_on_response_body"]),
            response_trailers: first(module, &["proxy_on_response_trailers"]),
            done: first(module, &["proxy_on_done"]),
            log: first(module, &["proxy_on_log"]),
            delete: first(module, &["proxy_on_delete"]),
            open: if is_joined { OpenExport::of(module) } else { OpenExport::default() },
            close: if is_joined { first(module, &[CLOSE]) } else { None },
            step,
        }
    }

    /// How many functions a joined last callback calls.
    fn close_calls(&self) -> u64 {
        [self.done.is_some(), self.log.is_some(), self.delete.is_some()].map(u64::from).iter().sum()
    }

    /// Which function of a joined call runs in the instance that calls the host.
    pub(super) fn step(&self, caller: &mut Caller<'_, Guest>) -> i32 {
        let step = self.step.as_ref().and_then(|step| caller.get_module_export(step));
        let step = step.and_then(Extern::into_global);
        step.and_then(|step| step.get(caller).i32()).unwrap_or(0)
    }

    /// The memory of an instance.
    pub(super) fn memory(&self, store: &mut Store<Guest>, instance: Instance) -> Option<Memory> {
        instance.get_module_export(store, self.memory.as_ref()?)?.into_memory()
    }
}

/// The C++ SDK's header and the AssemblyScript SDK name it otherwise (ABI reference §3).
const GRPC_TRAILING_METADATA: &[&str] =
    &["proxy_on_grpc_receive_trailing_metadata", "proxy_on_grpc_trailing_metadata"];

impl std::fmt::Debug for Exports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exports")
    }
}

impl Callbacks {
    /// Looks up those that the module has.
    pub(super) fn of(exports: &Exports, store: &mut Store<Guest>, instance: Instance) -> Self {
        Self {
            context_create: find(&exports.context_create, store, instance),
            vm_start: find(&exports.vm_start, store, instance),
            configure: find(&exports.configure, store, instance),
            request_headers: exports.request_headers.find(store, instance),
            request_body: find(&exports.request_body, store, instance),
            response_headers: exports.response_headers.find(store, instance),
            response_body: find(&exports.response_body, store, instance),
            open: exports.open.find(store, instance),
            close: Close::of(exports, store, instance),
        }
    }
}

impl OpenExport {
    fn of(module: &Module) -> Self {
        Self { two: first(module, &[OPEN]), three: first(module, &[OPEN]) }
    }

    fn find(&self, store: &mut Store<Guest>, instance: Instance) -> Open {
        match find(&self.three, store, instance) {
            Some(function) => Open::Three(function),
            None => find(&self.two, store, instance).map_or(Open::Apart, Open::Two),
        }
    }
}

impl Close {
    fn of(exports: &Exports, store: &mut Store<Guest>, instance: Instance) -> Self {
        match find(&exports.close, store, instance) {
            Some(function) => Self::Joined(function, exports.close_calls()),
            None => Self::Apart {
                done: find(&exports.done, store, instance),
                log: find(&exports.log, store, instance),
                delete: find(&exports.delete, store, instance),
            },
        }
    }
}

impl HeadersExport {
    fn of(module: &Module, name: &str) -> Self {
        Self { two: first(module, &[name]), three: first(module, &[name]) }
    }

    fn find(&self, store: &mut Store<Guest>, instance: Instance) -> Headers {
        match find(&self.three, store, instance) {
            Some(function) => Headers::Three(function),
            None => find(&self.two, store, instance).map_or(Headers::None, Headers::Two),
        }
    }
}

/// An optional export's function in an instance.
pub(super) fn find<const N: usize, R: Returned>(
    export: &Maybe<N, R>,
    store: &mut Store<Guest>,
    instance: Instance,
) -> Option<Function<N, R>> {
    Function::of(instance.get_module_export(store, &export.as_ref()?.at)?)
}

impl<const N: usize, R: Returned> Export<N, R> {
    /// The function in the instance that calls the host.
    pub(super) fn of_caller(&self, caller: &mut Caller<'_, Guest>) -> Option<Function<N, R>> {
        Function::of(caller.get_module_export(&self.at)?)
    }
}

impl<const N: usize, R: Returned> Function<N, R> {
    /// Private: what it is made of must be the export of an [`Export`] of this type.
    fn of(export: Extern) -> Option<Self> {
        Some(Self { func: export.into_func()?, returned: PhantomData })
    }

    /// Calls it.
    ///
    /// # Errors
    /// A trap.
    #[inline]
    pub(super) fn call(&self, store: impl AsContextMut, params: [u32; N]) -> wasmtime::Result<R> {
        const WORDS: usize = 5;
        const { assert!(N <= WORDS && R::COUNT <= 1) };
        let mut words = [ValRaw::u32(0); WORDS];
        for (word, param) in words.iter_mut().zip(params) {
            *word = ValRaw::u32(param);
        }
        // SAFETY: `func` is an export of the module in which `first` found it with exactly this
        // type (`get_module_export` gives nothing of another module): it reads `N` words of `i32`
        // and writes at most one, and there is room for both. No word is a reference.
        unsafe { self.func.call_unchecked(store, &raw mut words[..])? };
        Ok(R::of(words[0]))
    }
}

/// The first of these exports that is a function of that type.
fn first<const N: usize, R: Returned>(module: &Module, names: &[&str]) -> Maybe<N, R> {
    let module = module.wasmtime();
    let name = names.iter().find(|name| match module.get_export(name) {
        Some(ExternType::Func(ty)) => {
            ty.params().len() == N
                && ty.results().len() == R::COUNT
                && ty.params().chain(ty.results()).all(|ty| matches!(ty, ValType::I32))
        }
        _ => false,
    });
    Some(Export { at: module.get_export_index(name?)?, returned: PhantomData })
}
