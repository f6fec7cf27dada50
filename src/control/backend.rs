//! Where resources are kept.

use super::document::{Change, Document, Item, Stamped};
use super::embedded::Embedded;
use super::etcd::{Etcd, WriteError};
use super::local;
use super::upgrade::Inherited;
use crate::conf::{Config, EtcdConfig, Provider};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// The folder of what is kept, if the configuration names none.
const STORE_DIR: &str = "run/store";

/// The embedded store's file in it.
const STORE_FILE: &str = "resources.redb";

/// Between two tries to reach etcd at start.
const START_PAUSE: Duration = Duration::from_millis(500);

/// Keeps resources between two runs, or for other gateways.
#[derive(Clone, Debug)]
pub(super) enum Backend {
    /// `apisix.yaml`: nothing is written by us.
    Files,
    /// Nowhere.
    Memory,
    /// In a file of ours.
    Embedded(Arc<Embedded>),
    /// In etcd; `None`: it was not there when we started, and [`super::follow`] looks for it.
    Etcd(Arc<std::sync::Mutex<Option<Etcd>>>),
}

/// What there was at start.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) backend: Backend,
    pub(super) document: Document,
    /// Items that are wrong, and why.
    pub(super) left_out: Vec<(String, String)>,
}

/// Why nothing was written.
#[derive(Debug)]
pub(super) enum CommitError {
    /// Somebody else changed one of the keys meanwhile.
    Conflict,
    /// For a reason that may pass.
    Unavailable(String),
}

/// The folder of what is kept.
pub(super) fn store_dir(config: &Config) -> PathBuf {
    PathBuf::from(config.store_dir.as_deref().unwrap_or(STORE_DIR))
}

/// Opens what the configuration names; what another gateway has of it is taken over.
///
/// # Errors
/// It can't be used, and nothing else stands in for it.
pub(super) async fn open(config: &Config, inherited: &Inherited) -> Result<Opened, String> {
    let dir = store_dir(config);
    if config.provider != Provider::Yaml || config.admin.is_some() {
        // There are keys and certificates in it.
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|error| format!("{}: can't be made: {error}", dir.display()))?;
    }
    match &config.provider {
        Provider::Yaml => Ok(of(Backend::Files, 0, Vec::new())),
        Provider::Memory => {
            let (revision, items) = match &inherited.ask_for_store()?[..] {
                "" => (0, Vec::new()),
                text => local::parse(text.as_bytes())
                    .ok_or("the resources of the old process can't be read")?,
            };
            Ok(of(Backend::Memory, revision, items))
        }
        Provider::Embedded => {
            // One process has it.
            inherited.ask_for_store()?;
            let (store, held) = Embedded::open(&dir.join(STORE_FILE))?;
            Ok(of(Backend::Embedded(Arc::new(store)), held.revision, held.items))
        }
        Provider::Etcd(settings) => open_etcd(settings, &dir).await,
    }
}

fn of(backend: Backend, revision: u64, items: Vec<(String, Item)>) -> Opened {
    let mut document = Document::at(revision);
    let mut left_out = Vec::new();
    for (key, item) in items {
        if let Err(problems) = document.load(key.clone(), item) {
            left_out.push((key, super::load::lines(&problems).join("; ")));
        }
    }
    Opened { backend, document, left_out }
}

/// What etcd has; if it is not there, what it had when we last saw it.
async fn open_etcd(config: &EtcdConfig, dir: &Path) -> Result<Opened, String> {
    let mut tries = 0;
    let why = loop {
        let read = async {
            let etcd = Etcd::connect(config).await?;
            let held = etcd.read().await?;
            Ok::<_, String>((etcd, held))
        };
        match read.await {
            Ok((etcd, held)) => {
                let backend = Backend::Etcd(Arc::new(std::sync::Mutex::new(Some(etcd))));
                return Ok(of(backend, held.revision, held.items));
            }
            Err(why) if tries >= config.startup_retry => break why,
            Err(why) => log::warn!("etcd at {:?}: {why}; trying again", config.hosts),
        }
        tries += 1;
        sleep(START_PAUSE).await;
    };
    let Some((revision, items)) = local::read(dir)? else {
        return Err(format!("etcd at {:?}: {why}; and it was never seen before", config.hosts));
    };
    log::error!("etcd at {:?}: {why}; starting with what it had at {revision}", config.hosts);
    Ok(of(Backend::Etcd(Arc::default()), revision, items))
}

impl Backend {
    /// Writes changes, all or none. Gives them as they are kept, and their revision.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub(super) async fn commit(
        &self,
        known: Vec<u64>,
        next: u64,
        changes: &[Change],
        stamp: impl FnOnce(u64) -> Vec<Stamped>,
    ) -> Result<(Vec<Stamped>, u64), CommitError> {
        match self {
            Self::Files => Err(unavailable("the resources come from a file")),
            Self::Memory => Ok((stamp(next), next)),
            Self::Embedded(store) => {
                let (store, stamped) = (Arc::clone(store), stamp(next));
                let written = spawn_blocking(move || (store.commit(&stamped, next), stamped)).await;
                match written {
                    Ok((Ok(()), stamped)) => Ok((stamped, next)),
                    Ok((Err(why), _)) => Err(CommitError::Unavailable(why)),
                    Err(panic) => Err(unavailable(panic)),
                }
            }
            Self::Etcd(etcd) => {
                let Some(etcd) = current(etcd) else { return Err(unavailable("no etcd")) };
                let all: Vec<_> = changes.iter().cloned().zip(known).collect();
                match etcd.write(&all).await {
                    Ok(revision) => Ok((stamp(revision), revision)),
                    Err(WriteError::Conflict) => Err(CommitError::Conflict),
                    Err(WriteError::Unavailable(why)) => Err(unavailable(why)),
                }
            }
        }
    }

    /// A number for a new item, never given before. `next` is the next revision.
    ///
    /// # Errors
    /// etcd is not there.
    pub(super) async fn next_id(&self, next: u64) -> Result<u64, String> {
        match self {
            Self::Etcd(etcd) => match current(etcd) {
                Some(etcd) => etcd.next_id().await,
                None => Err("no etcd".to_owned()),
            },
            _ => Ok(next),
        }
    }

    /// Lets another process have what only one can have. Gives what nobody else keeps.
    ///
    /// # Errors
    /// The thread that closes died.
    pub(super) async fn release(
        &self,
        document: impl FnOnce() -> String,
    ) -> Result<String, String> {
        match self {
            Self::Memory => Ok(document()),
            Self::Embedded(store) => {
                let store = Arc::clone(store);
                spawn_blocking(move || store.close()).await.map_err(|panic| panic.to_string())?;
                Ok(String::new())
            }
            Self::Files | Self::Etcd(_) => Ok(String::new()),
        }
    }

    /// Takes back what was released.
    ///
    /// # Errors
    /// It can't be opened; every write tries again.
    pub(super) async fn take_back(&self) -> Result<(), String> {
        let Self::Embedded(store) = self else { return Ok(()) };
        let store = Arc::clone(store);
        spawn_blocking(move || store.reopen()).await.map_err(|panic| panic.to_string())?
    }

    /// Whether items with a time to live are removed by somebody else.
    pub(super) fn sees_to_expiry(&self) -> bool {
        matches!(self, Self::Etcd(_))
    }
}

fn current(etcd: &std::sync::Mutex<Option<Etcd>>) -> Option<Etcd> {
    etcd.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
}

fn unavailable(why: impl ToString) -> CommitError {
    CommitError::Unavailable(why.to_string())
}
