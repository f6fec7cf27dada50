//! The new one's side: what it was given, and what it says.

use super::{Message, Role, VARIABLE, receive, send};
use crate::net::is_letterbox;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// How long the old one may take for a word; it gives up on us long before.
const PATIENCE: Duration = Duration::from_secs(600);

/// The first descriptors are those of standard input, output and errors.
const FIRST_FD: i32 = 3;

/// What a gateway has that another one started in its own place; nothing, for one that was not.
#[derive(Debug, Default)]
pub(in super::super) struct Inherited {
    talk: Option<OwnedFd>,
    upgrades: u64,
    listeners: Vec<Listener>,
}

#[derive(Debug)]
struct Listener {
    role: Role,
    configured: String,
    bound: String,
    sockets: Vec<OwnedFd>,
}

impl Inherited {
    /// What the process was given. Called once, before anything else opens descriptors.
    ///
    /// # Errors
    /// The old one broke off.
    pub(in super::super) fn take() -> Result<Self, String> {
        let Some(talk) = std::env::var(VARIABLE).ok().and_then(|text| given(&text)) else {
            return Ok(Self::default());
        };
        let mut inherited = Self { talk: Some(talk), ..Self::default() };
        loop {
            let (message, sockets) = inherited.hear()?;
            match message {
                Message::Hello { upgrades } => inherited.upgrades = upgrades,
                Message::Listener { role, configured, bound } => {
                    inherited.add(Listener { role, configured, bound, sockets });
                }
                Message::Started => return Ok(inherited),
                other => return Err(format!("the old process said {other:?}")),
            }
        }
    }

    fn add(&mut self, more: Listener) {
        let is_same = |known: &&mut Listener| {
            (known.role, &known.bound, &known.configured)
                == (more.role, &more.bound, &more.configured)
        };
        match self.listeners.iter_mut().find(is_same) {
            Some(known) => known.sockets.extend(more.sockets),
            None => self.listeners.push(more),
        }
    }

    /// Whether this gateway is to take over from another one.
    pub(in super::super) fn is_upgrade(&self) -> bool {
        self.talk.is_some()
    }

    /// How many upgrades led to this process.
    pub(in super::super) fn upgrades(&self) -> u64 {
        self.upgrades
    }

    /// The address and the sockets of a listener, if the old one had one like it; once.
    pub(in super::super) fn listener(
        &mut self,
        role: Role,
        configured: &str,
    ) -> Option<(String, Vec<OwnedFd>)> {
        let is_it = |known: &Listener| known.role == role && known.configured == configured;
        let at = self.listeners.iter().position(is_it)?;
        let Listener { bound, sockets, .. } = self.listeners.remove(at);
        Some((bound, sockets))
    }

    /// Has the old one close the store. Gives the resources that are in no file; empty if they are.
    ///
    /// # Errors
    /// The old one broke off.
    pub(in super::super) fn ask_for_store(&self) -> Result<String, String> {
        if self.talk.is_none() {
            return Ok(String::new());
        }
        self.say(&Message::Store)?;
        let mut resources = String::new();
        loop {
            match self.hear()?.0 {
                Message::Part { text } => resources.push_str(&text),
                Message::Closed => return Ok(resources),
                other => return Err(format!("the old process said {other:?}")),
            }
        }
    }

    /// Says that all is ready, and waits until the connections are ours. Sockets that no listener
    /// took are closed: what comes there is the old one's, while it is there.
    ///
    /// # Errors
    /// The old one broke off.
    pub(in super::super) fn wait_for_go(&mut self) -> Result<(), String> {
        self.listeners.clear();
        if self.talk.is_none() {
            return Ok(());
        }
        self.say(&Message::Prepared)?;
        match self.hear()?.0 {
            Message::Go => Ok(()),
            other => Err(format!("the old process said {other:?}")),
        }
    }

    /// Says that connections are accepted.
    pub(in super::super) fn serving(&mut self) {
        if self.talk.is_some()
            && let Err(why) = self.say(&Message::Serving)
        {
            log::warn!("{why}");
        }
        self.talk = None;
    }

    /// Says why there is no upgrade.
    pub(in super::super) fn failed(&self, why: &str) {
        if self.talk.is_some() {
            // What there is to say is on standard error as well.
            let _ = self.say(&Message::Failed { why: why.trim_end().chars().take(4096).collect() });
        }
    }

    fn say(&self, message: &Message) -> Result<(), String> {
        let Some(talk) = &self.talk else { return Ok(()) };
        send(talk, message, &[]).map_err(|error| format!("the old process: {error}"))
    }

    fn hear(&self) -> Result<(Message, Vec<OwnedFd>), String> {
        let Some(talk) = &self.talk else { return Err("there is no old process".to_owned()) };
        match receive(talk) {
            Ok(Some(heard)) => Ok(heard),
            Ok(None) => Err("the old process broke off the upgrade".to_owned()),
            Err(error) => Err(format!("the old process: {error}")),
        }
    }
}

/// The descriptor that the variable names, if it is meant for us: a variable that came down from
/// another process means nothing.
fn given(text: &str) -> Option<OwnedFd> {
    let (pid, fd) = text.split_once(':')?;
    let parent = rustix::process::getppid()?.as_raw_nonzero().get();
    if pid.parse() != Ok(parent) {
        return None;
    }
    let fd: i32 = fd.parse().ok().filter(|fd| *fd >= FIRST_FD)?;
    // SAFETY: only asked what it is; a number that is no descriptor gives an error.
    let there = unsafe { BorrowedFd::borrow_raw(fd) };
    if !is_letterbox(there) {
        return None;
    }
    // SAFETY: our parent left it open for us, under this number; nobody else here knows of it.
    let talk = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl_setfd(&talk, FdFlags::CLOEXEC).ok()?;
    set_socket_timeout(&talk, Timeout::Recv, Some(PATIENCE)).ok()?;
    Some(talk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_others_mean_nothing() {
        let parent = rustix::process::getppid().expect("a parent").as_raw_nonzero().get();
        for text in ["", "1", "1:2:3", &format!("{parent}:0"), &format!("{parent}:x"), "1:3"] {
            assert!(given(text).is_none(), "{text}");
        }
    }
}
