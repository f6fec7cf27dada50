//! From files to a snapshot.

use super::upkeep::{Upkeep, is_name};
use super::{runners, wasm};
use crate::builtin::Builtins;
use crate::conf::{Config, Report, Resources, Source, process, resources};
use crate::plugin::Loader;
use crate::proxy_wasm::{self, Host};
use crate::runner::Runners;
use crate::schema::Path as At;
use crate::snapshot::{Inputs, Snapshot, compile};
use crate::upstream::NodeTable;
use crate::worker::Resolve;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files of one gateway, and what is kept between two loads of them.
#[derive(Debug)]
pub struct Loading {
    config_path: PathBuf,
    /// The process's settings; read once.
    pub config: Config,
    config_source: Source,
    config_warnings: Report,
    /// The Proxy-Wasm host: modules that did not change are kept between loads.
    pub(super) host: Option<Arc<Host>>,
    /// Makes plugins of external runners.
    pub(super) runners: Runners,
    /// What is known of upstreams' nodes.
    nodes: NodeTable,
    /// Keeps that up to date.
    upkeep: Upkeep,
    number: u64,
}

/// Why there is no configuration to run with.
#[derive(Debug)]
pub enum Failure {
    /// A file can't be read; says which and what to do.
    File(String),
    /// A file is wrong.
    Wrong(Report),
    /// Workers can't run it; says which and why.
    NotTaken(Vec<String>),
    /// It could not be made because of a fault of ours.
    Broken(String),
}

impl Failure {
    /// One line for each thing that is wrong.
    pub(super) fn lines(&self) -> Vec<String> {
        match self {
            Self::File(message) | Self::Broken(message) => vec![message.clone()],
            Self::Wrong(report) => report.lines(),
            Self::NotTaken(refusals) => refusals.clone(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(message) => writeln!(f, "error: {message}"),
            Self::Wrong(report) => writeln!(f, "{report}"),
            Self::NotTaken(refusals) => {
                refusals.iter().try_for_each(|why| writeln!(f, "error: not taken by {why}"))
            }
            Self::Broken(message) => writeln!(f, "error: a fault of the gateway: {message}"),
        }
    }
}

/// Writes warnings to standard error.
pub fn show_warnings(warnings: &Report) {
    if !warnings.is_empty() {
        eprintln!("{warnings}");
    }
}

impl Loading {
    /// Reads the process's settings. `compiler`: the `ringgate` program that compiles new plugins
    /// in a process of its own ([`EngineSettings::compiler`](crate::vm::EngineSettings)).
    ///
    /// # Errors
    /// The file is missing or wrong.
    pub fn open(config_path: &Path, compiler: Option<&Path>) -> Result<Self, Failure> {
        let hint = "name the configuration with `-c DIR/config.yaml`";
        let config_source = read(config_path, hint)?;
        let (config, config_warnings) =
            process::read(&config_source, &environment).map_err(|mut report| {
                // All that is wrong is shown at once.
                if let Ok(source) = read_resources(config_path) {
                    report.extend(wrong_resources(&source));
                }
                Failure::Wrong(report)
            })?;
        let upkeep = Upkeep::start(&config.dns).map_err(Failure::File)?;
        if config_warnings.has_errors() {
            let runners = Runners::new(runners::places(&config).unwrap_or_default());
            let mut wrong = Self {
                config_path: config_path.to_owned(),
                config,
                config_source,
                config_warnings,
                host: None,
                runners,
                nodes: NodeTable::default(),
                upkeep,
                number: 0,
            };
            return Err(wrong
                .snapshot()
                .map_or_else(|failure| failure, |(_, report)| Failure::Wrong(report)));
        }
        let host = wasm::host(&config, compiler).map_err(Failure::File)?.map(Arc::new);
        let runners = Runners::new(runners::places(&config).map_err(Failure::File)?);
        let config_path = config_path.to_owned();
        Ok(Self {
            config_path,
            config,
            config_source,
            config_warnings,
            host,
            runners,
            nodes: NodeTable::default(),
            upkeep,
            number: 0,
        })
    }

    /// Who answers workers' questions for names.
    #[must_use]
    pub fn resolver(&self) -> Arc<dyn Resolve> {
        self.upkeep.resolver()
    }

    /// Resolves the names and probes the nodes of this snapshot from now on.
    pub fn keep_up(&self, snapshot: &Snapshot) {
        self.upkeep.update(snapshot);
    }

    /// Reads the resources and compiles them. Gives the warnings of both files too.
    ///
    /// # Errors
    /// The file is missing or wrong; the next try gets the same number again.
    pub fn snapshot(&mut self) -> Result<(Snapshot, Report), Failure> {
        let source = read_resources(&self.config_path)?;
        let read = resources::read(&source, &environment, true);
        let (resources, mut report) = read.map_err(|report| self.wrong(report))?;
        let names = self.resolve(&resources);
        let (mut guests, missing) = match self.load_guests() {
            Ok(guests) => (guests, Report::default()),
            Err(report) => (None, report),
        };
        // What is wrong so far is no reason not to look for more.
        let wrong =
            report.has_errors() || missing.has_errors() || self.config_warnings.has_errors();
        report.extend(missing);
        let mut builtins = Builtins::default();
        self.runners.set_ids(ids(&resources));
        let mut loaders: Vec<&mut dyn Loader> = vec![&mut builtins, &mut self.runners];
        if let Some(guests) = &mut guests {
            loaders.push(guests);
        }
        let inputs = Inputs {
            number: self.number + 1,
            config: &self.config,
            resources: &resources,
            loaders,
            nodes: &self.nodes,
            resolve: &|host| names.get(host).cloned().unwrap_or_default(),
        };
        match compile(inputs) {
            Ok((snapshot, warnings)) if !wrong => {
                report.extend(Report::new(&source, Vec::new(), warnings));
                report.extend(self.config_warnings.clone());
                self.number += 1;
                Ok((snapshot, report))
            }
            Ok((_, warnings)) => {
                report.extend(Report::new(&source, Vec::new(), warnings));
                Err(self.wrong(report))
            }
            Err(refused) => {
                report.extend(Report::new(&source, refused.errors, refused.warnings));
                Err(self.wrong(report))
            }
        }
    }

    /// The resources alone, and the file they are in.
    ///
    /// # Errors
    /// The file is missing or wrong.
    pub(super) fn resources(&self) -> Result<(Resources, Source), Failure> {
        let source = read_resources(&self.config_path)?;
        let (resources, _) =
            resources::parse(&source, &environment, true).map_err(Failure::Wrong)?;
        Ok((resources, source))
    }

    /// What is wrong with the resources, and with the settings beside them.
    fn wrong(&self, mut report: Report) -> Failure {
        report.extend(self.config_warnings.clone());
        Failure::Wrong(report)
    }

    /// The addresses of all names, asked for at the same time.
    fn resolve(&self, resources: &Resources) -> HashMap<String, Vec<IpAddr>> {
        let listed = resources.upstreams.iter();
        let of_services = resources.services.iter().filter_map(|item| item.upstream.as_ref());
        let of_routes = resources.routes.iter().filter_map(|item| item.upstream.as_ref());
        let nodes = listed.chain(of_services).chain(of_routes).flat_map(|item| &item.nodes);
        let names = nodes.map(|node| &node.host).filter(|host| is_name(host));
        let names: HashSet<String> = names.cloned().collect();
        self.upkeep.resolve(names.into_iter())
    }

    /// The number that the next snapshot will have.
    pub(super) fn next_number(&self) -> u64 {
        self.number + 1
    }

    fn load_guests(&self) -> Result<Option<proxy_wasm::Plugins>, Report> {
        let Some(host) = &self.host else { return Ok(None) };
        let folder = self.config_path.parent().unwrap_or(Path::new(""));
        wasm::load(host, &self.config, &self.config_source, folder).map(Some)
    }
}

/// What the resources that have plugins are called, by where they stand.
fn ids(resources: &Resources) -> Vec<(At, String)> {
    let Resources { routes, services, plugin_configs, global_rules, .. } = resources;
    let routes = routes.iter().map(|route| (&route.at, &route.id));
    let services = services.iter().map(|service| (&service.at, &service.id));
    let configs = plugin_configs.iter().map(|config| (&config.at, &config.id));
    let rules = global_rules.iter().map(|rule| (&rule.at, &rule.id));
    let all = routes.chain(services).chain(configs).chain(rules);
    all.map(|(at, id)| (at.clone(), id.clone())).collect()
}

fn read_resources(config_path: &Path) -> Result<Source, Failure> {
    let path = config_path.with_file_name("apisix.yaml");
    read(&path, "routes are read from the `apisix.yaml` beside the configuration")
}

fn wrong_resources(source: &Source) -> Report {
    resources::parse(source, &environment, true).err().unwrap_or_default()
}

pub(super) fn read(path: &Path, hint: &str) -> Result<Source, Failure> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Source::new(name, text)),
        Err(error) => Err(Failure::File(format!("{name}: can't be read: {error}; {hint}"))),
    }
}

pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
