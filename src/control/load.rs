//! From files to a snapshot.

use super::running::Running;
use super::upkeep::Upkeep;
use super::{runners, wasm};
use crate::builtin::Builtins;
use crate::conf::{
    Change, Config, Provider, Report, Resources, Severity, Source, changes, process, resources,
};
use crate::plugin::{Loader, set_hostname};
use crate::proxy_wasm::{self, Host};
use crate::runner::Runners;
use crate::schema::{Path as At, Problem, Step};
use crate::snapshot::{Assembly, Compiled, Inputs, Refused, Snapshot, compile};
use crate::upstream::NodeTable;
use crate::worker::Resolve;
use serde_json::Value;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const HINT: &str = "name the configuration with `-c DIR/config.yaml`";

const RESOURCES_HINT: &str = "routes are read from the `apisix.yaml` beside the configuration";

/// A file without `#END` is taken when it has not changed for so long.
const SETTLE: Duration = Duration::from_millis(200);

/// How long to wait for that.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);

/// The files of one gateway, and what is kept between two loads of them.
#[derive(Debug)]
pub struct Loading {
    config_path: PathBuf,
    /// The process's settings; read once.
    pub config: Config,
    config_source: Source,
    pub(super) config_warnings: Report,
    /// The document of the settings.
    settings: Value,
    /// The Proxy-Wasm host, once there are plugins for it: modules that did not change are kept
    /// between loads.
    pub(super) host: HostCell,
    compiler: Option<PathBuf>,
    /// Makes native plugins; those that count go on counting.
    builtins: Builtins,
    /// Makes plugins of external runners.
    pub(super) runners: Runners,
    /// What is known of upstreams' nodes.
    nodes: NodeTable,
    /// Of resources that are in no file: what the last snapshot was made of, by these settings and
    /// loaders, and the guests it was made with.
    made_of: Option<(Assembly, Option<proxy_wasm::Plugins>)>,
    /// Keeps that up to date.
    upkeep: Upkeep,
    number: u64,
    /// Whether the resources that were taken last ended with `#END`: then the next must, too.
    had_end: bool,
    /// Of what was read last.
    fingerprint: u64,
    /// What a running gateway has beside its workers.
    pub(super) running: Option<Running>,
    /// What the settings were before a reload that is not carried through yet.
    before: Option<Settings>,
}

/// The host, made when the first plugin comes.
pub(super) type HostCell = Arc<OnceLock<Arc<Host>>>;

/// The settings of the process, and where they were read.
#[derive(Debug)]
struct Settings {
    config: Config,
    source: Source,
    warnings: Report,
    document: Value,
}

/// Why there is no configuration to run with.
#[derive(Debug)]
pub enum Failure {
    /// A file can't be read; says which and what to do.
    File(String),
    /// A file is wrong.
    Wrong(Report),
    /// Resources that are in no file are wrong.
    Items(Vec<Problem>),
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
            Self::Items(problems) => lines(problems),
            Self::NotTaken(refusals) => refusals.clone(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(message) => writeln!(f, "error: {message}"),
            Self::Wrong(report) => writeln!(f, "{report}"),
            Self::Items(problems) => {
                problems.iter().try_for_each(|problem| writeln!(f, "error: {}", line(problem)))
            }
            Self::NotTaken(refusals) => {
                refusals.iter().try_for_each(|why| writeln!(f, "error: not taken by {why}"))
            }
            Self::Broken(message) => writeln!(f, "error: a fault of the gateway: {message}"),
        }
    }
}

/// One line for each problem.
pub(super) fn lines(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(line).collect()
}

/// `routes.1.uri: what is wrong; what to do about it`.
fn line(problem: &Problem) -> String {
    let hint = problem.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("{}: {}{hint}", problem.at, problem.message)
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
        if let Some(name) = hostname() {
            set_hostname(name.as_bytes());
        }
        let config_source = read(config_path, HINT)?;
        let (config, config_warnings) =
            process::read(&config_source, &environment).map_err(|mut report| {
                // All that is wrong is shown at once.
                if let Ok(source) = read_resources(config_path) {
                    report.extend(wrong_resources(&source));
                }
                Failure::Wrong(report)
            })?;
        let upkeep = Upkeep::start(&config).map_err(Failure::File)?;
        if config_warnings.has_errors() {
            let runners = Runners::new(runners::places(&config).unwrap_or_default());
            let mut wrong =
                Self::new(config_path, config, config_source, config_warnings, runners, upkeep);
            return Err(wrong.refused());
        }
        let runners = Runners::new(runners::places(&config).map_err(Failure::File)?);
        let mut loading =
            Self::new(config_path, config, config_source, config_warnings, runners, upkeep);
        loading.compiler = compiler.map(Path::to_owned);
        loading.start_host()?;
        loading.settings =
            process::value(&loading.config_source, &environment).map_err(Failure::Wrong)?;
        Ok(loading)
    }

    /// All that is wrong where the settings are: with them, and with the resources if there is a
    /// file of them.
    fn refused(&mut self) -> Failure {
        if self.has_file()
            && let Err(failure @ Failure::Wrong(_)) = self.snapshot()
        {
            return failure;
        }
        Failure::Wrong(self.config_warnings.clone())
    }

    /// Whether the resources are in `apisix.yaml`.
    pub(super) fn has_file(&self) -> bool {
        self.config.provider == Provider::Yaml
    }

    fn new(
        config_path: &Path,
        config: Config,
        config_source: Source,
        config_warnings: Report,
        runners: Runners,
        upkeep: Upkeep,
    ) -> Self {
        Self {
            config_path: config_path.to_owned(),
            config,
            config_source,
            config_warnings,
            settings: Value::Null,
            host: HostCell::default(),
            compiler: None,
            builtins: Builtins::default(),
            runners,
            nodes: NodeTable::default(),
            made_of: None,
            upkeep,
            number: 0,
            had_end: false,
            fingerprint: 0,
            running: None,
            before: None,
        }
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

    /// Sets the host up when the first plugins for it are there.
    fn start_host(&mut self) -> Result<(), Failure> {
        if self.host.get().is_none()
            && let Some(host) =
                wasm::host(&self.config, self.compiler.as_deref()).map_err(Failure::File)?
        {
            // Nobody else sets it.
            let _ = self.host.set(Arc::new(host));
        }
        Ok(())
    }

    /// Reads both files again and compiles them; only `config.yaml` if the resources come from
    /// elsewhere. Until [`Loading::commit`] nothing is lost: what
    /// was before comes back with [`Loading::forget`].
    ///
    /// # Errors
    /// A file is missing, wrong or still being written, or an address can't be listened on.
    pub(super) fn reload(
        &mut self,
        resources: Option<&Arc<Resources>>,
    ) -> Result<(Snapshot, Report), Failure> {
        let source = settled(&self.config_path, HINT)?;
        let (config, warnings) = process::read(&source, &environment).map_err(Failure::Wrong)?;
        let document = process::value(&source, &environment).map_err(Failure::Wrong)?;
        self.before = Some(self.exchange(Settings { config, source, warnings, document }));
        let built = self.rebuild(resources);
        if built.is_err() {
            self.forget();
        }
        built
    }

    fn rebuild(
        &mut self,
        resources: Option<&Arc<Resources>>,
    ) -> Result<(Snapshot, Report), Failure> {
        self.start_host()?;
        let listen = match &mut self.running {
            Some(running) => Some(running.prepare(&self.config).map_err(Failure::File)?),
            None => None,
        };
        let (mut snapshot, report) = match resources {
            Some(resources) => (self.build(resources)?, self.config_warnings.clone()),
            None => self.snapshot()?,
        };
        snapshot.listen = listen;
        Ok((snapshot, report))
    }

    /// What was read last has come to serve: carries out what else it says.
    pub(super) fn commit(&mut self) {
        let Some(before) = self.before.take() else { return };
        log::set_max_level(self.config.log_level);
        if let Some(running) = &mut self.running {
            running.commit(&self.config);
        }
        let changes = changes(&before.document, &self.settings);
        for field in changes.iter().flat_map(Change::fields) {
            if process::needs_restart(&field) {
                log::warn!("`{field}` has changed: that counts after a restart");
            }
        }
    }

    /// What was read last does not come to serve.
    pub(super) fn forget(&mut self) {
        if let Some(before) = self.before.take() {
            self.exchange(before);
        }
        if let Some(running) = &mut self.running {
            running.forget();
        }
    }

    fn exchange(&mut self, settings: Settings) -> Settings {
        self.made_of = None;
        Settings {
            config: std::mem::replace(&mut self.config, settings.config),
            source: std::mem::replace(&mut self.config_source, settings.source),
            warnings: std::mem::replace(&mut self.config_warnings, settings.warnings),
            document: std::mem::replace(&mut self.settings, settings.document),
        }
    }

    /// Of the two files as they were read last.
    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The two files.
    pub(super) fn files(&self) -> [PathBuf; 2] {
        [self.config_path.clone(), self.config_path.with_file_name("apisix.yaml")]
    }

    /// Reads the resources and compiles them. Gives the warnings of both files too.
    ///
    /// # Errors
    /// The file is missing or wrong; the next try gets the same number again.
    pub fn snapshot(&mut self) -> Result<(Snapshot, Report), Failure> {
        let source = settled(&self.config_path.with_file_name("apisix.yaml"), RESOURCES_HINT)?;
        self.fingerprint = fingerprint([&self.config_source.text, &source.text]);
        let has_end = resources::has_end(&source);
        let read = resources::read(&source, &environment, self.had_end);
        let (resources, mut report) = read.map_err(|report| self.wrong(report))?;
        if !has_end && !self.had_end {
            report.extend(resources::unfinished(&source, Severity::Warning));
        }
        self.made_of = None;
        let (mut guests, missing) = self.guests();
        let compiled = self.compile(&Arc::new(resources), &mut guests, None);
        let missing = missing.unwrap_or_default();
        // What is wrong so far is no reason not to look for more.
        let wrong =
            report.has_errors() || missing.has_errors() || self.config_warnings.has_errors();
        report.extend(missing);
        match compiled {
            Ok(Compiled { snapshot, warnings, .. }) if !wrong => {
                report.extend(Report::new(&source, Vec::new(), warnings));
                report.extend(self.config_warnings.clone());
                self.number += 1;
                self.had_end = has_end;
                Ok((snapshot, report))
            }
            Ok(Compiled { warnings, .. }) => {
                report.extend(Report::new(&source, Vec::new(), warnings));
                Err(self.wrong(report))
            }
            Err(refused) => {
                report.extend(Report::new(&source, refused.errors, refused.warnings));
                Err(self.wrong(report))
            }
        }
    }

    /// Compiles resources that are in no file: of those that are the same as the last time nothing
    /// is made again.
    ///
    /// # Errors
    /// They are wrong; the next try gets the same number again.
    pub(super) fn build(&mut self, resources: &Arc<Resources>) -> Result<Snapshot, Failure> {
        let (mut guests, missing) = self.guests();
        if let Some(missing) = missing {
            return Err(Failure::Wrong(missing));
        }
        let before = self.made_of.take().filter(|(assembly, old_guests)| {
            let same = match (old_guests, &guests) {
                (Some(old), Some(new)) => new.are_those_of(old),
                (old, new) => old.is_none() && new.is_none(),
            };
            same && assembly.leads_to(resources, &[&self.builtins, &self.runners])
        });
        let known = before.as_ref().map(|(assembly, _)| assembly);
        let compiled = self.compile(resources, &mut guests, known);
        match compiled {
            Ok(Compiled { snapshot, assembly, .. }) => {
                self.number += 1;
                self.made_of = Some((assembly, guests));
                Ok(snapshot)
            }
            Err(refused) => {
                // There is none if loaders were shown what is wrong.
                self.made_of = before;
                Err(Failure::Items(refused.errors))
            }
        }
    }

    /// What serves, [closed](Snapshot::close). That takes no file and no item that may be wrong.
    pub(super) fn closed(&mut self, serving: &Snapshot) -> Snapshot {
        self.number += 1;
        let mut snapshot = Snapshot { number: self.number, listen: None, ..serving.clone() };
        snapshot.close();
        snapshot
    }

    /// The guests whose files can be loaded; what is wrong with the others comes beside.
    fn guests(&self) -> (Option<proxy_wasm::Plugins>, Option<Report>) {
        match self.load_guests() {
            Ok(guests) => (guests, None),
            Err(report) => (None, Some(report)),
        }
    }

    fn compile(
        &mut self,
        resources: &Arc<Resources>,
        guests: &mut Option<proxy_wasm::Plugins>,
        before: Option<&Assembly>,
    ) -> Result<Compiled, Refused> {
        if before.is_none() {
            self.builtins.begin(ids(resources));
            self.runners.set_ids(ids(resources));
        }
        let mut loaders: Vec<&mut dyn Loader> = vec![&mut self.builtins, &mut self.runners];
        if let Some(guests) = guests {
            loaders.push(guests);
        }
        compile(Inputs {
            number: self.number + 1,
            config: &self.config,
            resources,
            loaders,
            nodes: &self.nodes,
            resolve: &|names| self.upkeep.resolve(names.into_iter()),
            before: before.unwrap_or(&Assembly::default()),
        })
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

    /// The document of `apisix.yaml`, variables replaced, if it is still what was read last.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn taken_document(&self) -> Result<Value, String> {
        let source = read_resources(&self.config_path).map_err(|failure| failure.to_string())?;
        if fingerprint([&self.config_source.text, &source.text]) != self.fingerprint {
            return Err(format!("{} has changed since it was read", source.name));
        }
        resources::value(&source, &environment).map_err(|report| report.to_string())
    }

    /// What is wrong with the resources, and with the settings beside them.
    fn wrong(&self, mut report: Report) -> Failure {
        report.extend(self.config_warnings.clone());
        Failure::Wrong(report)
    }

    /// The number that the next snapshot will have.
    pub(super) fn next_number(&self) -> u64 {
        self.number + 1
    }

    fn load_guests(&self) -> Result<Option<proxy_wasm::Plugins>, Report> {
        let Some(host) = self.host.get() else { return Ok(None) };
        let folder = self.config_path.parent().unwrap_or(Path::new(""));
        wasm::load(host, &self.config, &self.config_source, folder).map(Some)
    }
}

/// What the resources that have plugins are called, by where they stand in the lists of a file.
fn ids(resources: &Resources) -> Vec<(At, String)> {
    let Resources { routes, services, plugin_configs, global_rules, .. } = resources;
    let Resources { consumers, consumer_groups, .. } = resources;
    let routes = routes.iter().map(|route| (&route.at, &route.id));
    let services = services.iter().map(|service| (&service.at, &service.id));
    let configs = plugin_configs.iter().map(|config| (&config.at, &config.id));
    let rules = global_rules.iter().map(|rule| (&rule.at, &rule.id));
    let consumers = consumers.iter().map(|consumer| (&consumer.at, &consumer.username));
    let groups = consumer_groups.iter().map(|group| (&group.at, &group.id));
    let all = routes.chain(services).chain(configs).chain(rules).chain(consumers).chain(groups);
    let listed = all.filter(|(at, _)| matches!(at.steps(), [_, Step::Index(_), ..]));
    listed.map(|(at, id)| (at.clone(), id.clone())).collect()
}

fn read_resources(config_path: &Path) -> Result<Source, Failure> {
    read(&config_path.with_file_name("apisix.yaml"), RESOURCES_HINT)
}

/// Reads a file that somebody may be writing: as soon as it ends with `#END`, or has not changed
/// for a moment.
fn settled(path: &Path, hint: &str) -> Result<Source, Failure> {
    let age = || path.metadata().and_then(|of| of.modified()).ok()?.elapsed().ok();
    let until = Instant::now() + SETTLE_PATIENCE;
    loop {
        let source = read(path, hint)?;
        // A clock that was set back must not keep a file from being read.
        if resources::has_end(&source) || age().is_none_or(|age| age >= SETTLE) {
            return Ok(source);
        }
        if Instant::now() > until {
            let name = path.display();
            return Err(Failure::File(format!("{name}: is being written all the time")));
        }
        std::thread::sleep(SETTLE);
    }
}

/// Of texts; another one means that something changed.
pub(super) fn fingerprint(texts: [&str; 2]) -> u64 {
    let mut hasher = DefaultHasher::new();
    texts.hash(&mut hasher);
    hasher.finish()
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

/// The host's name, as the kernel has it.
pub(super) fn hostname() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim_end().to_owned())
}

pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
