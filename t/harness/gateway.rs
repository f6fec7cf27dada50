//! The gateway under test: the built binary with a configuration of its own.

use super::{Client, Ended, Folder, Message, Process};
use rustix::process::Signal;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What carries I/O out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    Uring,
    Epoll,
}

/// Both drivers, or epoll alone where the kernel has no ring for us.
pub(crate) fn drivers() -> &'static [Driver] {
    static DRIVERS: OnceLock<Vec<Driver>> = OnceLock::new();
    DRIVERS.get_or_init(|| match io_uring::IoUring::new(8) {
        Ok(_) => vec![Driver::Uring, Driver::Epoll],
        Err(error) => {
            super::skipped(&format!("no io_uring here ({error}): every test runs on epoll"));
            vec![Driver::Epoll]
        }
    })
}

/// The configuration of a gateway, and where it lies.
pub(crate) struct Setup {
    folder: Folder,
    resources: String,
    driver: Driver,
    /// Threads; one is pinned to any core.
    workers: usize,
    apisix: Vec<String>,
    http: Vec<String>,
    ringgate: Vec<String>,
    wasm: Vec<String>,
    more: Vec<String>,
    metrics: bool,
    operators: bool,
    admin: Option<String>,
    cache: Option<PathBuf>,
    environment: Vec<(String, String)>,
    program: PathBuf,
}

impl Setup {
    /// A gateway with these resources: `apisix.yaml` without its `#END`.
    pub(crate) fn new(resources: impl Into<String>) -> Self {
        Self {
            folder: Folder::new(),
            resources: resources.into(),
            driver: drivers()[0],
            workers: 1,
            apisix: Vec::new(),
            http: Vec::new(),
            ringgate: Vec::new(),
            wasm: Vec::new(),
            more: Vec::new(),
            metrics: false,
            operators: false,
            admin: None,
            cache: None,
            environment: Vec::new(),
            // Another build than the tests' own can be measured.
            program: std::env::var_os("RINGGATE_BINARY")
                .unwrap_or_else(|| env!("CARGO_BIN_EXE_ringgate").into())
                .into(),
        }
    }

    /// Another path to the program.
    pub(crate) fn program(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.program);
        self
    }

    pub(crate) fn driver(mut self, driver: Driver) -> Self {
        self.driver = driver;
        self
    }

    /// More than one worker: who serves a connection is then the kernel's choice.
    pub(crate) fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// A line of `apisix`.
    pub(crate) fn apisix(mut self, line: &str) -> Self {
        self.apisix.push(line.to_owned());
        self
    }

    /// A line of `nginx_config.http`.
    pub(crate) fn http(mut self, line: &str) -> Self {
        self.http.push(line.to_owned());
        self
    }

    /// A line of `ringgate`.
    pub(crate) fn ringgate(mut self, line: &str) -> Self {
        self.ringgate.push(line.to_owned());
        self
    }

    /// An entry of `wasm.plugins`: its name, its file as [`module`] finds it, further keys.
    pub(crate) fn wasm(mut self, name: &str, file: &str, keys: &str) -> Self {
        let keys = if keys.is_empty() { String::new() } else { format!(", {keys}") };
        let priority = if keys.contains("priority:") { "" } else { ", priority: 7000" };
        let file = module(file);
        self.wasm.push(format!("{{name: {name}, file: {}{keys}{priority}}}", file.display()));
        self
    }

    /// Text at the end of `config.yaml`.
    pub(crate) fn more(mut self, text: &str) -> Self {
        self.more.push(text.to_owned());
        self
    }

    /// Metrics on a port of their own; without this there are none, as all tests would meet on one.
    pub(crate) fn metrics(mut self) -> Self {
        self.metrics = true;
        self
    }

    /// The control API and the status, on ports of their own.
    pub(crate) fn operators(mut self) -> Self {
        self.operators = true;
        self
    }

    /// An Admin API with the keys of [`super::Admin`], on a port of its own. `provider`: what
    /// `deployment` says of where it keeps what it is told.
    pub(crate) fn admin(mut self, provider: &str) -> Self {
        self.admin = Some(provider.to_owned());
        self
    }

    /// A folder for compiled modules instead of the one all tests share.
    pub(crate) fn cache(mut self, folder: &Path) -> Self {
        self.cache = Some(folder.to_owned());
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    fn config(&self) -> String {
        let mut text = String::from("apisix:\n  node_listen: [{ip: 127.0.0.1, port: 0}]\n");
        for line in &self.apisix {
            let _ = writeln!(text, "  {line}");
        }
        text.push_str(if self.operators {
            "  control: {ip: 127.0.0.1, port: 0}\n  status: {ip: 127.0.0.1, port: 0}\n"
        } else {
            "  enable_control: false\n"
        });
        if let Some(provider) = &self.admin {
            let _ = writeln!(
                text,
                "deployment:\n  {provider}\n  admin:\n    \
                 admin_listen: {{ip: 127.0.0.1, port: 0}}\n    admin_key:\n      \
                 - {{name: admin, key: {}, role: admin}}\n      \
                 - {{name: viewer, key: {}, role: viewer}}",
                super::Admin::KEY,
                super::Admin::VIEWER_KEY,
            );
        }
        text.push_str("nginx_config:\n  http:\n    keepalive_timeout: 60s\n");
        for line in &self.http {
            let _ = writeln!(text, "    {line}");
        }
        let driver = if self.driver == Driver::Uring { "uring" } else { "epoll" };
        let _ = writeln!(text, "ringgate:\n  driver: {driver}");
        match self.workers {
            1 => {
                let _ = writeln!(text, "  workers: [{{core: {}}}]", any_core());
            }
            workers => {
                let _ = writeln!(text, "  workers: {workers}");
            }
        }
        if !self.ringgate.iter().any(|line| line.starts_with("watch:")) {
            text.push_str("  watch: false\n");
        }
        if !self.ringgate.iter().any(|line| line.starts_with("log:")) {
            text.push_str("  log: {level: info}\n");
        }
        let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
        let cache = self.cache.as_ref().unwrap_or(&shared);
        let _ = writeln!(text, "  cache_dir: {}", cache.display());
        if !self.ringgate.iter().any(|line| line.starts_with("store_dir:")) {
            let _ = writeln!(text, "  store_dir: {}", self.folder.path().join("store").display());
        }
        for line in &self.ringgate {
            let _ = writeln!(text, "  {line}");
        }
        if !self.wasm.is_empty() {
            text.push_str("wasm:\n  plugins:\n");
        }
        for entry in &self.wasm {
            let _ = writeln!(text, "    - {entry}");
        }
        let server = if self.metrics {
            "export_addr: {ip: 127.0.0.1, port: 0}"
        } else {
            "enable_export_server: false"
        };
        let _ = writeln!(text, "plugin_attr:\n  prometheus: {{{server}}}");
        for more in &self.more {
            let _ = writeln!(text, "{more}");
        }
        text
    }

    /// Writes both files; gives the path of `config.yaml`.
    pub(crate) fn write(&self) -> PathBuf {
        self.folder.write("apisix.yaml", format!("{}\n#END\n", self.resources));
        self.folder.write("config.yaml", self.config())
    }

    /// The same as text, for command lines.
    pub(crate) fn write_path(&self) -> String {
        self.write().to_str().expect("a path of text").to_owned()
    }

    /// The same, with a change to `config.yaml` that no other method makes.
    #[track_caller]
    pub(crate) fn write_with(&self, from: &str, to: &str) -> String {
        self.write();
        let config = self.config();
        assert!(config.contains(from), "{from:?} is in\n{config}");
        self.folder.write("config.yaml", config.replacen(from, to, 1));
        self.folder.path().join("config.yaml").to_str().expect("a path of text").to_owned()
    }

    /// The same, with other workers.
    #[track_caller]
    pub(crate) fn config_with_workers(&self, workers: &str) -> String {
        let config = self.config();
        let own = config.lines().find(|line| line.starts_with("  workers:")).expect("workers");
        self.write_with(own, &format!("  workers: {workers}"))
    }

    fn command(&self, config: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("run").arg("-c").arg(config);
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }

    /// Starts the gateway and waits until it listens.
    #[track_caller]
    pub(crate) fn start(self) -> Gateway {
        let config = self.write_path();
        self.start_written(&config)
    }

    /// The same with a configuration that was written already.
    #[track_caller]
    pub(crate) fn start_written(self, config: &str) -> Gateway {
        Gateway::of(Process::start(&mut self.command(Path::new(config))), self.folder)
    }

    /// Runs a gateway that is expected not to start.
    #[track_caller]
    pub(crate) fn refused(&self) -> Ended {
        let mut process = Process::start(&mut self.command(&self.write()));
        process.wait().expect("a gateway that can't start ends")
    }
}

/// One core after the other, so that gateways of tests that run side by side do not share one.
fn any_core() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    NEXT.fetch_add(1, Ordering::Relaxed) % cores
}

/// An example plugin by its place in `examples/plugins`, or a plugin of the tests by its place in
/// the repository (`t/plugins/...`). CI names a folder of modules that were built a moment ago by
/// `RINGGATE_PLUGINS`; they stand for those of `dist`.
pub(crate) fn module(file: &str) -> PathBuf {
    if file.starts_with("t/") {
        return Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    }
    let fresh = std::env::var_os("RINGGATE_PLUGINS").map(PathBuf::from);
    match (fresh, file.strip_prefix("dist/")) {
        (Some(fresh), Some(name)) => fresh.join(name),
        _ => Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/plugins")).join(file),
    }
}

/// A running gateway. Dropping it checks that it was still running, and kills it.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    process: Process,
    ended: bool,
    folder: Folder,
}

impl Gateway {
    /// A gateway with these resources and everything else as usual.
    #[track_caller]
    pub(crate) fn start(resources: impl Into<String>) -> Self {
        Setup::new(resources).start()
    }

    /// A process that is starting as a gateway; waits until it listens.
    #[track_caller]
    pub(crate) fn of(process: Process, folder: Folder) -> Self {
        let address = process.wait_for_output(|line| {
            let rest = line.strip_prefix("ringgate: listening on http://")?;
            rest.split(' ').next()?.parse().ok()
        });
        let address: SocketAddr = address.expect("the gateway listens in time");
        Self { address, process, ended: false, folder }
    }

    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Where its metrics are.
    #[track_caller]
    pub(crate) fn metrics(&self) -> SocketAddr {
        self.page("metrics")
    }

    /// Where one of its pages for operators is: `Admin API`, `control API`, `status`.
    #[track_caller]
    pub(crate) fn page(&self, name: &str) -> SocketAddr {
        let address = self.process.wait_for_output(|line| {
            let rest = line.strip_prefix("ringgate: ")?.strip_prefix(name)?;
            rest.strip_prefix(" on http://")?.split('/').next()?.parse().ok()
        });
        address.unwrap_or_else(|| panic!("the {name} has no address"))
    }

    /// Its Admin API.
    #[track_caller]
    pub(crate) fn admin(&self) -> super::Admin {
        super::Admin::new(self.page("Admin API"))
    }

    /// Ends it as a crash would, without a moment to write anything.
    pub(crate) fn kill(mut self) {
        self.process.signal(Signal::KILL);
        self.end();
    }

    /// The value of a sample, written as in the exposition: its name with its labels.
    #[track_caller]
    pub(crate) fn metric(&self, sample: &str) -> Option<f64> {
        let text = super::get(self.metrics(), "/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map(|value| value.parse().expect("a number"))
    }

    /// Asks for a path on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Message {
        super::get(self.address, path)
    }

    /// Sends a request on a connection of its own and reads the answer.
    #[track_caller]
    pub(crate) fn ask(&self, request: impl AsRef<[u8]>) -> Message {
        let mut client = self.client();
        client.send(request);
        client.response()
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    pub(crate) fn log(&self) -> String {
        self.process.stderr()
    }

    #[track_caller]
    pub(crate) fn wait_for_log(&self, wanted: &str) {
        self.process.wait_for_log(wanted);
    }

    /// Waits for the end that a signal asked for.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Ended {
        self.ended = true;
        self.process.wait().expect("the gateway ends in time")
    }

    /// Waits until the process is gone, whose output another one may still have; its exit code.
    #[track_caller]
    pub(crate) fn code(&mut self) -> Option<i32> {
        self.ended = true;
        let mut status = None;
        super::eventually("the process ends", || {
            status = self.process.has_ended();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// Stops it as an operator would.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Ended {
        self.process.signal(Signal::TERM);
        self.end()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let log = self.log();
        let ended = if self.ended { None } else { self.process.has_ended() };
        if ended.is_some() || log.contains("panicked at") {
            eprintln!("--- stderr\n{log}---");
        }
        assert!(!log.contains("panicked at"), "the gateway panicked");
        assert!(ended.is_none(), "the gateway ended by itself: {ended:?}");
    }
}
