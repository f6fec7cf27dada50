//! The one wasmtime engine of the process and its settings (measured in the prototypes: lean host).

use super::cache::Cache;
use super::join::Join;
use super::module::{LoadError, Modules};
use super::ticker::{Ticker, Tickers};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wasmtime::{
    Config, Enabled, Inlining, InstanceAllocationStrategy, MemoryType, OptLevel,
    PoolingAllocationConfig, ProfilingStrategy, WasmBacktraceDetails,
};

/// Linear memory kept mapped when an instance's slot is reused: most guests never use more, and a
/// kept page costs a memset where a new one costs a page fault.
const KEEP_RESIDENT_BYTES: usize = 2 << 20;

/// Table memory kept mapped likewise.
const TABLE_KEEP_RESIDENT_BYTES: usize = 64 << 10;

/// Largest table of a pooled instance. Large Go programs have some 30,000 functions.
const POOLED_TABLE_ELEMENTS: usize = 100_000;

/// Bookkeeping of one pooled instance: grows with imports and functions.
const POOLED_INSTANCE_BYTES: usize = 4 << 20;

/// Where guest code shows up in profiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Nowhere.
    #[default]
    None,
    /// `/tmp/perf-PID.map`, for `perf report`.
    PerfMap,
    /// `jit-PID.dump`, for `perf inject --jit`.
    JitDump,
}

impl Profile {
    /// What the environment asks for: `RINGGATE_PROFILE=perfmap` or `=jitdump`.
    #[must_use]
    pub fn from_env() -> Self {
        match std::env::var("RINGGATE_PROFILE").as_deref() {
            Ok("perfmap") => Self::PerfMap,
            Ok("jitdump") => Self::JitDump,
            _ => Self::None,
        }
    }
}

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Where compiled code is kept between runs; nowhere if `None`.
    pub cache_dir: Option<PathBuf>,
    /// The program that compiles what the cache does not have, as `PROGRAM plugin build FILE -o
    /// FILE`; this process itself if `None`. The compiler takes hundreds of megabytes, which a
    /// process that serves for months should not have had.
    pub compiler: Option<PathBuf>,
    /// Instances that may live at once in the whole process. Each takes address space, not memory.
    pub instances_max: u32,
    /// Exports of the modules that the host calls in a row.
    pub joins: &'static [Join],
    /// Profiler support.
    pub profile: Profile,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            cache_dir: None,
            compiler: None,
            instances_max: 1_000,
            joins: &[],
            profile: Profile::from_env(),
        }
    }
}

/// How linear memories are laid out, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// One large reservation with a slot for every instance.
    Pooled,
    /// 4 GiB of address space a memory, mapped when needed.
    OnDemand,
    /// Memories as large as they are, with bounds checks in the code: for `ulimit -v` and the like.
    Small,
}

/// The engine: shared by all threads, cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    engine: wasmtime::Engine,
    layout: Layout,
    cache: Option<Cache>,
    compiler: Option<PathBuf>,
    joins: &'static [Join],
    modules: Modules,
    tickers: Tickers,
}

impl Engine {
    /// Sets the engine up in the best layout this host allows; warns once if it is not the best.
    ///
    /// # Errors
    /// When not even the most modest layout works.
    pub fn new(settings: &EngineSettings) -> Result<Self, LoadError> {
        let mut refused = None;
        for layout in [Layout::Pooled, Layout::OnDemand, Layout::Small] {
            match try_layout(settings, layout) {
                Ok(engine) => {
                    if let Some(error) = refused {
                        let instead = "instead of pooled";
                        log::warn!(target: "wasm", "{layout:?} memories {instead}: {error}");
                    }
                    return Ok(Self::with(engine, layout, settings));
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        let why = refused.map_or_else(String::new, |error| format!("{error:#}"));
        Err(LoadError::Engine(why))
    }

    fn with(engine: wasmtime::Engine, layout: Layout, settings: &EngineSettings) -> Self {
        let joins = settings.joins;
        let cache = settings.cache_dir.as_deref();
        let cache = cache.and_then(|dir| Cache::open(dir, &engine, joins));
        let (modules, tickers) = (Modules::default(), Tickers::default());
        let compiler = settings.compiler.clone();
        Self(Arc::new(Inner { engine, layout, cache, compiler, joins, modules, tickers }))
    }

    /// Whether instances come from a pool, so that making one costs microseconds.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.0.layout == Layout::Pooled
    }

    /// The engine itself, to make linkers and stores with.
    #[must_use]
    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.engine
    }

    pub(super) fn cache(&self) -> Option<&Cache> {
        self.0.cache.as_ref()
    }

    pub(super) fn compiler(&self) -> Option<&Path> {
        self.0.compiler.as_deref()
    }

    pub(super) fn joins(&self) -> &'static [Join] {
        self.0.joins
    }

    pub(super) fn modules(&self) -> &Modules {
        &self.0.modules
    }

    pub(super) fn ticker(&self) -> Arc<Ticker> {
        self.0.tickers.running(&self.0.engine)
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("layout", &self.0.layout).finish_non_exhaustive()
    }
}

/// An engine in that layout, tried out with one page of memory.
fn try_layout(settings: &EngineSettings, layout: Layout) -> wasmtime::Result<wasmtime::Engine> {
    let mut config = code_config(settings.profile);
    match layout {
        Layout::Pooled => {
            let pool = InstanceAllocationStrategy::Pooling(pooling(settings.instances_max));
            config.allocation_strategy(pool).memory_may_move(false);
        }
        Layout::OnDemand => {
            config.memory_may_move(false);
        }
        Layout::Small => {
            config.memory_reservation(0).memory_guard_size(64 << 10);
            config.memory_reservation_for_growth(1 << 20).memory_may_move(true);
            config.gc_heap_reservation(0).gc_heap_guard_size(64 << 10);
            config.gc_heap_reservation_for_growth(1 << 20).gc_heap_may_move(true);
        }
    }
    let engine = wasmtime::Engine::new(&config)?;
    let mut store = wasmtime::Store::new(&engine, ());
    wasmtime::Memory::new(&mut store, MemoryType::new(1, None))?;
    Ok(engine)
}

/// Everything that decides what code is made. Layouts add to it.
fn code_config(profile: Profile) -> Config {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .compiler_inlining(Inlining::Yes)
        .epoch_interruption(true)
        .concurrency_support(false)
        .memory_init_cow(true)
        .generate_address_map(false)
        .native_unwind_info(false)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .profiler(match profile {
            Profile::None => ProfilingStrategy::None,
            Profile::PerfMap => ProfilingStrategy::PerfMap,
            Profile::JitDump => ProfilingStrategy::JitDump,
        });
    config
}

fn pooling(instances_max: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(instances_max)
        .total_memories(instances_max)
        .total_tables(instances_max.saturating_mul(2))
        .total_gc_heaps(instances_max)
        .max_tables_per_module(2)
        .table_elements(POOLED_TABLE_ELEMENTS)
        .max_core_instance_size(POOLED_INSTANCE_BYTES)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(TABLE_KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto);
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_runs_a_guest() {
        let settings = EngineSettings { instances_max: 4, ..EngineSettings::default() };
        for layout in [Layout::Pooled, Layout::OnDemand, Layout::Small] {
            let engine = try_layout(&settings, layout).expect("engine");
            let engine = Engine::with(engine, layout, &settings);
            let text = r#"(module (memory (export "memory") 1)
                (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0))))"#;
            let module = engine.load(text.as_bytes()).expect("module");
            let mut store = wasmtime::Store::new(engine.wasmtime(), ());
            store.set_epoch_deadline(super::super::deadline_ticks(5_000));
            let instance = wasmtime::Instance::new(&mut store, module.wasmtime(), &[]);
            let instance = instance.expect("instance");
            let peek = instance.get_typed_func::<u32, u32>(&mut store, "peek").expect("peek");
            assert_eq!(peek.call(&mut store, 65_535).expect("inside"), 0, "{layout:?}");
            assert!(peek.call(&mut store, 65_536).is_err(), "{layout:?}");
        }
    }
}
