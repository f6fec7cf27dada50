//! Log lines to standard error, written by a thread of their own: a worker never waits for a slow
//! terminal or pipe. When the queue is full lines are dropped and counted.

use crate::time::timestamp;
use crate::worker::request_at_work;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use log::{LevelFilter, Log, Metadata, Record};
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Lines waiting to be written.
const QUEUE: usize = 4096;

enum Entry {
    Line(String),
    Flush(Sender<()>),
}

struct Logger {
    sender: Sender<Entry>,
    dropped: AtomicU64,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Starts the log at that level. Later calls change the level only.
pub fn start_log(level: LevelFilter) {
    if LOGGER.get().is_none() {
        let (sender, receiver) = bounded(QUEUE);
        let written = std::thread::Builder::new()
            .name("ringgate-log".to_owned())
            .spawn(move || write_lines(&receiver));
        if written.is_ok() {
            let logger = LOGGER.get_or_init(|| Logger { sender, dropped: AtomicU64::new(0) });
            // Another logger can only be there if a test set one.
            let _ = log::set_logger(logger);
        }
    }
    log::set_max_level(level);
}

/// Waits until everything logged so far is written.
pub fn flush_log() {
    if let Some(logger) = LOGGER.get() {
        let (done, wait) = bounded(1);
        if logger.sender.send(Entry::Flush(done)).is_ok() {
            // The writer is gone only when the process is.
            let _ = wait.recv();
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        let seconds =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("ringgate").trim_start_matches("ringgate-").to_owned();
        let (time, level) = (timestamp(seconds), record.level());
        let line = match request_at_work() {
            0 => format!("{time} {level:5} {name} {}\n", record.args()),
            number => format!("{time} {level:5} {name} request={number:016x} {}\n", record.args()),
        };
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Entry::Line(line)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

fn write_lines(receiver: &Receiver<Entry>) {
    let mut stderr = std::io::stderr();
    for entry in receiver {
        // A log that can't be written has nowhere to say so.
        let _ = match entry {
            Entry::Line(line) => stderr.write_all(line.as_bytes()),
            Entry::Flush(done) => {
                let dropped = LOGGER.get().map_or(0, |l| l.dropped.swap(0, Ordering::Relaxed));
                if dropped > 0 {
                    let _ = writeln!(stderr, "{dropped} log lines were dropped");
                }
                done.send(()).map_err(|_| std::io::ErrorKind::Other.into())
            }
        };
    }
}
