//! A child process whose output is gathered while it runs.

use super::DEADLINE;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

/// The text a stream has given so far.
#[derive(Default)]
struct Gathered {
    text: Mutex<(String, bool)>,
    changed: Condvar,
}

impl Gathered {
    fn of(stream: impl Read + Send + 'static) -> Arc<Self> {
        let gathered = Arc::new(Self::default());
        let writer = Arc::clone(&gathered);
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stream);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                writer.update(|text| text.0.push_str(&String::from_utf8_lossy(&line)));
                line.clear();
            }
            writer.update(|text| text.1 = true);
        });
        gathered
    }

    fn update(&self, change: impl FnOnce(&mut (String, bool))) {
        change(&mut self.text.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Waits until `found` finds something, the stream ends, or the deadline is over.
    fn wait<T>(&self, found: impl Fn(&str, bool) -> Option<T>) -> Option<T> {
        let start = Instant::now();
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = found(&text.0, text.1) {
                return Some(found);
            }
            let left = DEADLINE.checked_sub(start.elapsed()).filter(|_| !text.1)?;
            let waited = self.changed.wait_timeout(text, left);
            text = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A child process, killed by its id when dropped.
pub(crate) struct Process {
    child: Child,
    stdout: Arc<Gathered>,
    stderr: Arc<Gathered>,
}

/// How a process ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the process starts");
        let stdout = Gathered::of(child.stdout.take().expect("stdout is a pipe"));
        let stderr = Gathered::of(child.stderr.take().expect("stderr is a pipe"));
        Self { child, stdout, stderr }
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// The first line of the output that `found` takes.
    pub(crate) fn wait_for_output<T>(&self, found: impl Fn(&str) -> Option<T>) -> Option<T> {
        let complete = |text: &str| text.rfind('\n').map_or(0, |end| end + 1);
        self.stdout.wait(|text, _| text[..complete(text)].lines().find_map(&found))
    }

    /// Waits until stderr has the text.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, wanted: &str) {
        let found = self.stderr.wait(|text, _| text.contains(wanted).then_some(()));
        assert!(found.is_some(), "no {wanted:?} in the log");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("an id");
        kill_process(pid, signal).expect("the process is there");
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory it has had so far (`VmHWM`), in kilobytes.
    #[track_caller]
    pub(crate) fn peak_memory_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()));
        let status = status.expect("the process runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = peak.and_then(|text| text.trim().split(' ').next());
        number.and_then(|text| text.parse().ok()).expect("a number of kilobytes")
    }

    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the process is ours")
    }

    /// Waits for the end; `None` if it does not come in time.
    pub(crate) fn wait(&mut self) -> Option<Ended> {
        // The streams end with the process.
        self.stderr.wait(|_, ended| ended.then_some(()))?;
        self.stdout.wait(|_, ended| ended.then_some(()))?;
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.has_ended() {
                break status;
            }
            if start.elapsed() > DEADLINE {
                return None;
            }
            std::thread::yield_now();
        };
        let (stdout, stderr) = (self.stdout.text(), self.stderr.text());
        Some(Ended { code: status.code(), stdout, stderr })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            // It may end by itself in between.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- stdout of process {}\n{}", self.child.id(), self.stdout.text());
            eprintln!("--- stderr\n{}---", self.stderr.text());
        }
    }
}

/// Runs the gateway's command line to its end.
#[track_caller]
pub(crate) fn ringgate<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
    let mut process = Process::start(command.args(arguments));
    process.wait().expect("the command ends in time")
}
