//! Between the configuration and the Proxy-Wasm host.

use super::load::hostname;
use crate::conf::{
    self, Config, Dry, Isolation, OnError, Pause, Report, Source, WasmPlugin, Workers,
};
use crate::plugin::Hold;
use crate::proxy_wasm::{self, Host, PluginSettings};
use crate::schema::{Fault, Problem};
use crate::vm::{Engine, EngineSettings};
use std::path::{Path, PathBuf};

/// Where precompiled modules are kept, if the configuration names no place.
const CACHE_DIR: &str = "run/cache";

/// Sets up the host, if the configuration has plugins for it.
///
/// # Errors
/// No WebAssembly engine can run here.
pub(super) fn host(config: &Config, compiler: Option<&Path>) -> Result<Option<Host>, String> {
    if config.wasm_plugins.is_empty() {
        return Ok(None);
    }
    let dir = config.cache_dir.as_deref().unwrap_or(CACHE_DIR);
    let settings = EngineSettings {
        cache_dir: Some(PathBuf::from(dir)),
        compiler: compiler.map(Path::to_owned),
        joins: proxy_wasm::JOINS,
        ..EngineSettings::default()
    };
    let engine = Engine::new(&settings).map_err(|error| error.to_string())?;
    Ok(Some(Host::on_node(engine, node(&config.node))))
}

/// What plugins are told of this process.
fn node(config: &conf::Identity) -> proxy_wasm::Node {
    let mut node = proxy_wasm::Node {
        id: config.id.clone().or_else(hostname).unwrap_or_default(),
        cluster: config.cluster.clone(),
        region: config.region.clone(),
        zone: config.zone.clone(),
        sub_zone: config.sub_zone.clone(),
        ..proxy_wasm::Node::default()
    };
    for (path, text) in &config.metadata {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        node.add_metadata(&path, text);
    }
    node
}

/// Loads all modules.
///
/// # Errors
/// What is wrong with them, shown in the configuration file.
pub(super) fn load(
    host: &Host,
    config: &Config,
    source: &Source,
    folder: &Path,
) -> Result<proxy_wasm::Plugins, Report> {
    let pools = pools(config);
    let settings =
        config.wasm_plugins.iter().map(|plugin| settings(plugin, folder, &pools)).collect();
    host.load(settings).map_err(|errors| {
        let problems = errors.into_iter().map(|error| {
            let at = config.wasm_plugins.iter().find(|plugin| plugin.name == error.plugin);
            let at = at.map(|plugin| plugin.at.key("file")).unwrap_or_default();
            Problem::new(at, fault(&error))
        });
        Report::new(source, problems.collect(), Vec::new())
    })
}

fn fault(error: &proxy_wasm::Error) -> Fault {
    let fault = Fault::new(error.to_string());
    match error.hint() {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}

/// Instances made ahead, for the workers that have a number of their own.
fn pools(config: &Config) -> Vec<Option<usize>> {
    match &config.workers {
        Workers::List(workers) => workers.iter().map(|worker| worker.pool).collect(),
        Workers::Auto | Workers::Count(_) => Vec::new(),
    }
}

fn settings(plugin: &WasmPlugin, folder: &Path, pools: &[Option<usize>]) -> PluginSettings {
    let source = proxy_wasm::Source::File(find(&plugin.file, folder));
    PluginSettings {
        request_phase: plugin.phase,
        root_id: Some(plugin.root_id.clone()).filter(|id| !id.is_empty()),
        vm_id: plugin.vm_id.clone(),
        vm_config: plugin.vm_config.clone().into_bytes(),
        isolation: match plugin.isolation {
            Isolation::Shared => proxy_wasm::Isolation::Shared,
            Isolation::Request => proxy_wasm::Isolation::Request,
        },
        pool: plugin.pool,
        pool_by_worker: pools.to_vec(),
        on_error: match plugin.on_error {
            OnError::Closed => proxy_wasm::OnError::Closed,
            OnError::Open => proxy_wasm::OnError::Open,
        },
        deadline_ms: u64::try_from(plugin.limits.deadline.as_millis()).unwrap_or(u64::MAX),
        dry: match plugin.dry {
            Dry::Make => proxy_wasm::Dry::Make,
            Dry::Wait => proxy_wasm::Dry::Wait,
            Dry::Refuse => proxy_wasm::Dry::Refuse,
        },
        wait_ms: u64::try_from(plugin.limits.wait.as_millis()).unwrap_or(u64::MAX),
        instances_max: plugin.limits.instances,
        table_elements_max: plugin.limits.table_elements,
        shared_data_bytes_max: plugin.limits.shared_data_bytes,
        memory_bytes_max: plugin.limits.memory_bytes,
        body_bytes_max: plugin.limits.body_bytes,
        callouts_max: plugin.limits.callouts,
        callouts_direct: plugin.callouts.direct,
        callouts_allow: plugin.callouts.allow.clone(),
        pause: match plugin.pause {
            Pause::Hold => Hold::All,
            Pause::Body => Hold::Body,
        },
        writable_properties: plugin.writable_properties,
        ..PluginSettings::new(&plugin.name, plugin.priority, source)
    }
}

/// A plugin's file: relative to the configuration's folder, then to the working directory.
fn find(file: &str, folder: &Path) -> PathBuf {
    let beside = folder.join(file);
    if beside.exists() { beside } else { PathBuf::from(file) }
}
