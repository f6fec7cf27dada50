//! The old one's side: it starts the new one, gives it what it has, and goes on if that fails.

use super::super::server::Handed;
use super::super::store::Store;
use super::{Message, Role, VARIABLE, parts, receive, send};
use crate::listen::{Options, Place};
use crate::net::{MESSAGE_FDS_MAX, letterboxes};
use crate::worker::Shared;
use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{sleep, timeout};

/// How often to look whether something has happened that nobody tells of.
const LOOK: Duration = Duration::from_millis(5);

/// How long workers may take until none accepts; one that a plugin holds accepts nothing anyway.
const PAUSE_PATIENCE: Duration = Duration::from_secs(2);

/// How long a process that was killed may take to be gone.
const REAP_PATIENCE: Duration = Duration::from_secs(5);

/// What became of upgrades.
#[derive(Debug, Default)]
pub(in super::super) struct Upgrades {
    /// That led to this process.
    pub(in super::super) good: AtomicU64,
    /// That failed since it started.
    pub(in super::super) refused: AtomicU64,
    last: Mutex<Option<Refused>>,
}

/// An upgrade that failed.
#[derive(Clone, Debug)]
pub(in super::super) struct Refused {
    pub(in super::super) at: SystemTime,
    pub(in super::super) why: String,
}

impl Upgrades {
    /// The last one that failed.
    pub(in super::super) fn last(&self) -> Option<Refused> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, why: &str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let refused = Refused { at: SystemTime::now(), why: why.to_owned() };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
    }
}

/// The program this process was started as: what is there now counts, also if it was put in the
/// place of what runs.
pub(in super::super) fn program() -> Option<PathBuf> {
    let name = std::env::args_os().next()?;
    let named = if name.as_bytes().contains(&b'/') {
        std::path::absolute(&name).ok()
    } else {
        found(&name, &std::env::var_os("PATH")?)
    };
    named.filter(|path| path.is_file()).or_else(|| std::env::current_exe().ok())
}

/// A program without a folder, as a shell finds it.
fn found(name: &OsStr, path: &OsStr) -> Option<PathBuf> {
    let mut candidates = std::env::split_paths(path).map(|folder| folder.join(name));
    candidates.find(|candidate| candidate.is_file()).and_then(|it| std::path::absolute(it).ok())
}

/// What an upgrade needs.
#[derive(Debug)]
pub(in super::super) struct Upgrade {
    pub(in super::super) program: Option<PathBuf>,
    pub(in super::super) store: Arc<Store>,
    pub(in super::super) shared: Arc<Shared>,
    /// Listeners for operators.
    pub(in super::super) operators: Vec<Handed>,
    /// Told the number of the process that serves instead of this one.
    pub(in super::super) done: UnboundedSender<u32>,
    pub(in super::super) under_way: AtomicBool,
}

impl Upgrade {
    /// Begins one, unless one is under way.
    pub(in super::super) fn begin(self: &Arc<Self>) {
        if self.under_way.swap(true, Ordering::Relaxed) {
            return log::warn!("SIGUSR2: an upgrade is under way already");
        }
        let upgrade = Arc::clone(self);
        tokio::spawn(async move {
            log::warn!("upgrade: starting {}", upgrade.shown());
            let (listeners, patience) = upgrade.store.freeze().await;
            match upgrade.hand_over(&listeners, patience).await {
                Ok(pid) => {
                    // At the end of the process nobody waits for it.
                    let _ = upgrade.done.send(pid);
                }
                Err(why) => {
                    log::error!("upgrade refused: {why}; this process serves on");
                    upgrade.store.upgrades.note(&why);
                    upgrade.shared.set_accepting(true);
                    upgrade.store.thaw().await;
                    upgrade.under_way.store(false, Ordering::Relaxed);
                }
            }
        });
    }

    fn shown(&self) -> String {
        self.program.as_deref().map_or_else(String::new, |path| path.display().to_string())
    }

    async fn hand_over(
        &self,
        listeners: &[(Options, Place)],
        patience: Duration,
    ) -> Result<u32, String> {
        let program = self.program.as_deref().ok_or("it is not known what was started")?;
        let broken = |error: io::Error| format!("{}: {error}", program.display());
        let (ours, theirs) = letterboxes().map_err(broken)?;
        ioctl_fionbio(&ours, true).map_err(|error| broken(error.into()))?;
        // SAFETY: the descriptor is owned and goes nowhere else while it is registered.
        let talk = unsafe { AsyncFd::register(ours) };
        let talk = talk.map_err(|error| broken(error.into()))?;
        let mut successor = Successor::start(program, theirs).map_err(broken)?;
        let outcome = match timeout(patience, self.converse(&talk, listeners)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("it was not ready within {patience:?}")),
        };
        match outcome {
            Ok(()) => Ok(successor.let_go()),
            Err(why) => Err(format!("{}: {why}{}", program.display(), successor.end().await)),
        }
    }

    async fn converse(
        &self,
        talk: &AsyncFd<OwnedFd>,
        listeners: &[(Options, Place)],
    ) -> Result<(), String> {
        let upgrades = self.store.upgrades.good.load(Ordering::Relaxed) + 1;
        say(talk, &Message::Hello { upgrades }, &[]).await?;
        for (configured, place) in listeners {
            let mut sockets = Vec::new();
            let copied = place.sockets.for_each(|socket| {
                sockets.push(socket.try_clone()?);
                Ok(())
            });
            copied.map_err(|error| format!("no descriptors: {error}"))?;
            let bound = place.options.address.to_string();
            give(talk, Role::Traffic, configured.address.to_string(), bound, &sockets).await?;
        }
        for Handed { role, configured, bound, socket } in &self.operators {
            let (configured, bound) = (configured.to_string(), bound.to_string());
            give(talk, *role, configured, bound, std::slice::from_ref(socket)).await?;
        }
        say(talk, &Message::Started, &[]).await?;
        loop {
            match hear(talk).await? {
                Message::Store => {
                    let resources = self.store.release().await?;
                    for part in parts(&resources) {
                        say(talk, &part, &[]).await?;
                    }
                    say(talk, &Message::Closed, &[]).await?;
                }
                Message::Prepared => break,
                other => return Err(format!("it said {other:?}")),
            }
        }
        self.accept_no_more().await;
        say(talk, &Message::Go, &[]).await?;
        match hear(talk).await? {
            Message::Serving => Ok(()),
            other => Err(format!("it said {other:?}")),
        }
    }

    async fn accept_no_more(&self) {
        self.shared.set_accepting(false);
        let all_paused = async {
            while self.shared.accepting() > 0 {
                sleep(LOOK).await;
            }
        };
        if timeout(PAUSE_PATIENCE, all_paused).await.is_err() {
            log::warn!("upgrade: not all workers have looked up");
        }
    }
}

/// Sends the sockets of one listener.
async fn give(
    talk: &AsyncFd<OwnedFd>,
    role: Role,
    configured: String,
    bound: String,
    sockets: &[OwnedFd],
) -> Result<(), String> {
    let message = Message::Listener { role, configured, bound };
    for some in sockets.chunks(MESSAGE_FDS_MAX) {
        let fds: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
        say(talk, &message, &fds).await?;
    }
    Ok(())
}

async fn say(
    talk: &AsyncFd<OwnedFd>,
    message: &Message,
    fds: &[BorrowedFd<'_>],
) -> Result<(), String> {
    let sent = talk.async_io(Interest::WRITABLE, |end| send(end, message, fds)).await;
    sent.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => "it ended".to_owned(),
        _ => format!("it can't be told: {error}"),
    })
}

async fn hear(talk: &AsyncFd<OwnedFd>) -> Result<Message, String> {
    match talk.async_io(Interest::READABLE, |end| receive(end)).await {
        Ok(Some((Message::Failed { why }, _))) => Err(why),
        Ok(Some((message, _))) => Ok(message),
        Ok(None) => Err("it ended".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err("it ended".to_owned()),
        Err(error) => Err(format!("what it says can't be understood: {error}")),
    }
}

/// The new process; killed when dropped, unless it was let go.
struct Successor(Option<Child>);

impl Successor {
    fn start(program: &Path, talk: OwnedFd) -> io::Result<Self> {
        let mut arguments = std::env::args_os();
        let mut command = Command::new(program);
        command.arg0(arguments.next().unwrap_or_else(|| program.into())).args(arguments);
        command.env(VARIABLE, format!("{}:{}", std::process::id(), talk.as_raw_fd()));
        // SAFETY: between fork and exec only one system call is made, and nothing is allocated.
        unsafe {
            command.pre_exec(move || Ok(fcntl_setfd(&talk, FdFlags::empty())?));
        }
        Ok(Self(Some(command.spawn()?)))
    }

    /// Its number; it is on its own from here on.
    fn let_go(mut self) -> u32 {
        self.0.take().map_or(0, |child| child.id())
    }

    /// Ends it, if it has not ended by itself; says how it ended then.
    async fn end(&mut self) -> String {
        let Some(mut child) = self.0.take() else { return String::new() };
        // What has ended by itself has had a moment to be gone.
        let mut status = reaped(&mut child, LOOK * 20).await;
        let by_itself = status.is_some();
        if !by_itself {
            // It may end in between.
            let _ = child.kill();
            status = reaped(&mut child, REAP_PATIENCE).await;
        }
        match status {
            Some(status) if by_itself => format!(" ({status})"),
            Some(_) => " (killed)".to_owned(),
            None => format!(" (process {} can't be killed)", child.id()),
        }
    }
}

async fn reaped(child: &mut Child, patience: Duration) -> Option<std::process::ExitStatus> {
    let ended = async {
        loop {
            match child.try_wait() {
                Ok(None) => sleep(LOOK).await,
                Ok(status) => return status,
                Err(_) => return None,
            }
        }
    };
    timeout(patience, ended).await.ok().flatten()
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended already.
            let _ = child.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let shell = found(OsStr::new("sh"), OsStr::new("/nowhere:/bin:/usr/bin"));
        assert_eq!(shell, Some(PathBuf::from("/bin/sh")));
        assert_eq!(found(OsStr::new("no-such-program"), OsStr::new("/bin")), None);
        assert!(program().is_some_and(|path| path.is_absolute() && path.is_file()));
    }
}
