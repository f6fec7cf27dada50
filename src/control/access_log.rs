//! The file of the access log, written by a thread of its own.

use crate::worker::{AccessSink, AccessSource, access_log};
use crossbeam::channel::{Receiver, Sender, select, unbounded};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

enum Wish {
    /// Write to that file from now on; `None`: to none.
    Open(Option<PathBuf>),
    /// Open it again: it was moved away.
    Reopen,
    /// Say when all is written.
    Flush(Sender<()>),
}

/// Tells the thread that writes what to do.
#[derive(Clone, Debug)]
pub(super) struct AccessLog {
    wishes: Sender<Wish>,
    /// What workers are given.
    pub(super) sink: AccessSink,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Starts the thread; it writes nowhere yet.
    ///
    /// # Errors
    /// No thread could be made.
    pub(super) fn start() -> io::Result<Self> {
        let (sink, source) = access_log();
        let dropped = Arc::clone(&source.dropped);
        let (wishes, receiver) = unbounded();
        std::thread::Builder::new()
            .name("ringgate-access".to_owned())
            .spawn(move || write_lines(&source, &receiver))?;
        Ok(Self { wishes, sink, dropped })
    }

    /// Writes to that file from now on. It is opened first, so that the error is the caller's.
    ///
    /// # Errors
    /// It can't be opened.
    pub(super) fn open(&self, path: Option<&Path>) -> Result<(), String> {
        path.map_or(Ok(()), Self::try_open)?;
        self.ask(Wish::Open(path.map(Path::to_owned)));
        Ok(())
    }

    /// Whether a file could be written.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn try_open(path: &Path) -> Result<(), String> {
        open(path).map(drop).map_err(|error| format!("access log {}: {error}", path.display()))
    }

    /// Opens the file again (SIGUSR1): whoever rotates logs has moved it.
    pub(super) fn reopen(&self) {
        self.ask(Wish::Reopen);
    }

    /// Waits until everything that workers handed over is written.
    pub(super) fn flush(&self) {
        let (done, wait) = crossbeam::channel::bounded(1);
        self.ask(Wish::Flush(done));
        let _ = wait.recv();
    }

    /// Lines that found no place.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn ask(&self, wish: Wish) {
        // The thread lives as long as the process.
        let _ = self.wishes.send(wish);
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

fn write_lines(source: &AccessSource, wishes: &Receiver<Wish>) {
    let mut place: Option<(PathBuf, File)> = None;
    loop {
        select! {
            recv(source.full) -> lines => match lines {
                Ok(lines) => write(source, lines, &mut place),
                Err(_) => return,
            },
            recv(wishes) -> wish => match wish {
                Ok(Wish::Open(path)) => {
                    drain(source, &mut place);
                    place = path.and_then(opened);
                }
                Ok(Wish::Reopen) => {
                    drain(source, &mut place);
                    place = place.take().and_then(|(path, _)| opened(path));
                }
                Ok(Wish::Flush(done)) => {
                    drain(source, &mut place);
                    let _ = done.send(());
                }
                Err(_) => return,
            },
        }
    }
}

fn opened(path: PathBuf) -> Option<(PathBuf, File)> {
    match open(&path) {
        Ok(file) => Some((path, file)),
        Err(error) => {
            log::error!("access log {}: {error}; requests are not logged", path.display());
            None
        }
    }
}

/// What was handed over before now belongs to the file there was.
fn drain(source: &AccessSource, place: &mut Option<(PathBuf, File)>) {
    while let Ok(lines) = source.full.try_recv() {
        write(source, lines, place);
    }
}

fn write(source: &AccessSource, mut lines: Vec<u8>, place: &mut Option<(PathBuf, File)>) {
    if let Some((path, file)) = place
        && let Err(error) = file.write_all(&lines)
    {
        log::error!("access log {}: {error}", path.display());
    }
    lines.clear();
    // Nobody waits for it: there are as many places as buffers.
    let _ = source.empty.try_send(lines);
}
