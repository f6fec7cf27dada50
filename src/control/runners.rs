//! Runner processes: started, kept running, stopped.
//!
//! ```text
//! start ─► running ─ it ends by itself ─► pause (50 ms, doubled up to 3 s if it dies at once) ─┐
//!   ▲         │                                                                               │
//!   └─────────┼───────────────────────────────────────────────────────────────────────────────┘
//!             └─ we stop: SIGTERM to its group, one second, SIGKILL
//! ```

use crate::conf::{Config, RunnerConfig};
use crate::plugin::{RunnerLife, RunnerPlace};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What runners are told how long to keep configurations, in seconds (external plugin reference
/// §2); they keep them somewhat longer, we use them somewhat shorter.
const CONF_EXPIRE_SECONDS: &str = "3600";

/// How long a runner may take to end after SIGTERM, as in APISIX.
const TERM_PATIENCE: Duration = Duration::from_secs(1);

/// How often a runner is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The pause before a runner that ended is started again, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// A runner that lived that long did not die of its start.
const STABLE: Duration = Duration::from_millis(500);

/// Longest piece of a runner's output in one log line, as in APISIX.
const LINE_BYTES_MAX: u64 = 3800;

/// The folder of the sockets that nobody named, in the working directory.
const SOCKET_DIR: &str = "run";

/// The runners of a configuration, as workers and plugins know them.
///
/// # Errors
/// There is no place for a socket.
pub(super) fn places(config: &Config) -> Result<Vec<Arc<RunnerPlace>>, String> {
    config.runners.iter().map(|runner| place(runner).map(Arc::new)).collect()
}

fn place(runner: &RunnerConfig) -> Result<RunnerPlace, String> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Ok(RunnerPlace {
        name: runner.name.clone(),
        socket: match &runner.socket {
            Some(path) => std::path::absolute(path)
                .map_err(|error| format!("{path}: no absolute path: {error}"))?,
            None => own_socket(&runner.name)?,
        },
        connections_max: runner.connections,
        queue_max: runner.queue,
        call_ms: ms(runner.call_timeout),
        start_ms: ms(runner.start_timeout),
        life: RunnerLife::default(),
    })
}

/// A socket for this process alone: two gateways must not share a runner by chance.
fn own_socket(name: &str) -> Result<PathBuf, String> {
    let dash = if name.is_empty() { "" } else { "-" };
    let file = format!("{SOCKET_DIR}/runner{dash}{name}-{}.sock", std::process::id());
    std::path::absolute(&file).map_err(|error| format!("{file}: no absolute path: {error}"))
}

/// The processes of runners. Dropping it stops them.
#[derive(Debug)]
pub(super) struct Runners {
    /// Not started yet.
    waiting: Vec<Process>,
    stops: Vec<Sender<()>>,
    keepers: Vec<JoinHandle<()>>,
    left: Arc<AtomicBool>,
}

/// A runner that has a command.
#[derive(Clone, Debug)]
pub(super) struct Process {
    cmd: Vec<String>,
    place: Arc<RunnerPlace>,
    /// Its socket has a name in the configuration: another gateway with this configuration has a
    /// runner there as well.
    pub(super) is_shared: bool,
}

impl Runners {
    /// Those of a configuration; none is started.
    pub(super) fn new(config: &Config, places: &[Arc<RunnerPlace>]) -> Self {
        let all = config.runners.iter().zip(places).filter(|(runner, _)| !runner.cmd.is_empty());
        let process = |(runner, place): (&RunnerConfig, &Arc<RunnerPlace>)| Process {
            cmd: runner.cmd.clone(),
            place: Arc::clone(place),
            is_shared: runner.socket.is_some(),
        };
        let left = Arc::new(AtomicBool::new(false));
        Self { waiting: all.map(process).collect(), stops: Vec::new(), keepers: Vec::new(), left }
    }

    /// Starts those that are wanted and not started yet.
    ///
    /// # Errors
    /// No folder for sockets, or no thread.
    pub(super) fn start(&mut self, is_wanted: impl Fn(&Process) -> bool) -> Result<(), String> {
        let (wanted, waiting) = self.waiting.drain(..).partition(|process| is_wanted(process));
        let wanted: Vec<Process> = wanted;
        self.waiting = waiting;
        for process in wanted {
            if !process.is_shared {
                std::fs::create_dir_all(SOCKET_DIR)
                    .map_err(|error| format!("{SOCKET_DIR}: can't be made for sockets: {error}"))?;
            }
            let (stop, stopped) = bounded(1);
            let name = process.place.name.clone();
            let keeper = Keeper { process, stopped, left: Arc::clone(&self.left) };
            let thread = std::thread::Builder::new()
                .name(format!("ringgate-runner{}{name}", dash(&name)))
                .spawn(move || keeper.keep_running())
                .map_err(|error| format!("no thread for runner {}: {error}", shown(&name)))?;
            self.stops.push(stop);
            self.keepers.push(thread);
        }
        Ok(())
    }

    /// Sockets with a name in the configuration are another gateway's from now on: they are not
    /// removed, and no runner is started there again.
    pub(super) fn leave_shared_sockets(&self) {
        self.left.store(true, Ordering::Relaxed);
    }
}

impl Drop for Runners {
    fn drop(&mut self) {
        self.stops.clear();
        for keeper in self.keepers.drain(..) {
            if keeper.join().is_err() {
                log::error!("the keeper of a runner died");
            }
        }
    }
}

fn dash(name: &str) -> &'static str {
    if name.is_empty() { "" } else { "-" }
}

fn shown(name: &str) -> &str {
    if name.is_empty() { "(ext-plugin.cmd)" } else { name }
}

/// Keeps one runner running, on a thread of its own.
struct Keeper {
    process: Process,
    /// Disconnected: stop.
    stopped: Receiver<()>,
    /// Whether shared sockets are somebody else's.
    left: Arc<AtomicBool>,
}

impl Keeper {
    fn keep_running(&self) {
        let mut pause = PAUSE_MIN;
        let mut first = true;
        loop {
            if !std::mem::take(&mut first) {
                self.process.place.life.count_restart();
            }
            let begun = Instant::now();
            match self.spawn() {
                Ok(child) => {
                    log::info!("runner {} started with pid {}", self.name(), child.id());
                    self.process.place.life.set_running(true);
                    let ended = self.wait(child);
                    self.process.place.life.set_running(false);
                    self.process.place.life.end(self.process.place.life.epoch());
                    let Some(status) = ended else { break };
                    log::warn!("runner {} {}", self.name(), reason(status));
                }
                Err(error) => {
                    log::error!(
                        "runner {}: {:?} can't be started: {error}",
                        self.name(),
                        self.process.cmd
                    );
                }
            }
            if self.is_left() {
                return;
            }
            let lived = begun.elapsed() >= STABLE;
            if lived {
                pause = PAUSE_MIN;
            }
            log::warn!(
                "respawn runner {} {pause:?} later with cmd: {:?}",
                self.name(),
                self.process.cmd
            );
            if self.is_stopped_within(pause) {
                break;
            }
            if !lived {
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        if !self.is_left() {
            self.remove_socket();
        }
    }

    fn is_left(&self) -> bool {
        self.process.is_shared && self.left.load(Ordering::Relaxed)
    }

    fn name(&self) -> &str {
        shown(&self.process.place.name)
    }

    fn spawn(&self) -> io::Result<Child> {
        self.remove_socket();
        let [program, arguments @ ..] = &self.process.cmd[..] else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("APISIX_LISTEN_ADDRESS", format!("unix:{}", self.process.place.socket.display()))
            .env("APISIX_CONF_EXPIRE_TIME", CONF_EXPIRE_SECONDS)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Signals of a terminal are for us: a runner serves until the last request is over.
            .process_group(0);
        // SAFETY: between fork and exec only one system call is made, and nothing is allocated.
        unsafe {
            command.pre_exec(|| {
                // It must not outlive us, however we end: the next one would find its socket taken.
                Ok(set_parent_process_death_signal(Some(Signal::TERM))?)
            });
        }
        let mut child = command.spawn()?;
        for pipe in [child.stdout.take().map(Pipe::from), child.stderr.take().map(Pipe::from)] {
            let (Some(pipe), name) = (pipe, self.process.place.name.clone()) else { continue };
            std::thread::Builder::new()
                .name(format!("ringgate-runner{}{name}", dash(&name)))
                .spawn(move || log_lines(pipe))?;
        }
        Ok(child)
    }

    /// Waits until the runner ends, or ends it; then there is no status.
    fn wait(&self, mut child: Child) -> Option<ExitStatus> {
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) => {}
                Err(error) => log::error!("runner {} can't be waited for: {error}", self.name()),
            }
            if self.is_stopped_within(LOOK) {
                self.end(&mut child);
                return None;
            }
        }
    }

    /// SIGTERM, some patience, SIGKILL; all of its group, for a runner may be a script.
    fn end(&self, child: &mut Child) {
        signal(child, Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < TERM_PATIENCE {
            match child.try_wait() {
                Ok(None) => std::thread::sleep(LOOK),
                _ => return,
            }
        }
        log::warn!("runner {} did not end in {TERM_PATIENCE:?}: killed", self.name());
        signal(child, Signal::KILL);
        if let Err(error) = child.wait() {
            log::error!("runner {} can't be waited for: {error}", self.name());
        }
    }

    fn is_stopped_within(&self, time: Duration) -> bool {
        !matches!(self.stopped.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }

    /// Runners that find their socket there may refuse to start.
    fn remove_socket(&self) {
        let path: &Path = &self.process.place.socket;
        let is_socket = path.symlink_metadata().is_ok_and(|file| file.file_type().is_socket());
        if is_socket && let Err(error) = std::fs::remove_file(path) {
            log::warn!("{}: can't be removed: {error}", path.display());
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = pid {
        // A group that is gone needs no signal.
        let _ = kill_process_group(group, signal);
    }
}

fn reason(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with reason: exit, status: {code}"),
        (_, Some(signal)) => format!("exited with reason: signal, status: {signal}"),
        _ => "exited".to_owned(),
    }
}

/// One of a child's outputs.
struct Pipe(Box<dyn Read + Send>);

impl<T: Read + Send + 'static> From<T> for Pipe {
    fn from(pipe: T) -> Self {
        Self(Box::new(pipe))
    }
}

/// What a runner says goes into our log.
fn log_lines(pipe: Pipe) {
    let mut lines = BufReader::new(pipe.0);
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => log::warn!("{}", printable(&line)),
            Err(error) => return log::warn!("its output can't be read: {error}"),
        }
    }
}

/// A line that can't pretend to be another one, or move a terminal's cursor.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let shown = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
    text.trim_end_matches(['\r', '\n']).chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_runners_stay_lines() {
        assert_eq!(printable(b"hello\tworld\r\n"), "hello\tworld");
        assert_eq!(printable(b"\x1b[2J\xff\rERROR w0"), "\u{fffd}[2J\u{fffd}\u{fffd}ERROR w0");
    }

    #[test]
    fn sockets_are_ones_own() {
        let (plain, named) = (own_socket("").expect("a path"), own_socket("go").expect("a path"));
        let pid = std::process::id();
        assert!(plain.is_absolute() && plain.ends_with(format!("run/runner-{pid}.sock")));
        assert!(named.ends_with(format!("run/runner-go-{pid}.sock")));
    }
}
