//! Following etcd: its changes come to serve here, whoever made them.
//!
//! ```text
//! connect ─► same history? ─► watch from the last revision ─► changes ─► Store::follow
//!    ▲          │ no, or compacted: read all, follow the difference
//!    └─ pause ◄─┴─ the connection is lost: what serves serves on
//! ```

use super::backend::Backend;
use super::document::{Change, Document};
use super::etcd::{Etcd, Held, News};
use super::local;
use super::store::Store;
use crate::conf::EtcdConfig;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

/// The pause before etcd is tried again, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// How long changes are gathered before the local file is written anew, at least.
const LOCAL_PAUSE: Duration = Duration::from_millis(500);

/// The same as a multiple of how long it took to write: a large file under many changes costs one
/// part in so many of a core.
const LOCAL_SHARE: u32 = 20;

/// Follows etcd, and keeps the local file, for as long as the runtime runs.
pub(super) fn start(store: &Arc<Store>, config: EtcdConfig, dir: PathBuf) {
    tokio::spawn(keep_local(Arc::clone(store), dir));
    let store = Arc::clone(store);
    tokio::spawn(async move {
        let mut pause = PAUSE_MIN;
        loop {
            // In a task of its own: an answer that the client panics on ends this session only.
            let session = tokio::spawn(session(Arc::clone(&store), config.clone())).await;
            let (was_there, why) = match session {
                Ok(ended) => ended,
                Err(panic) => (false, panic.to_string()),
            };
            if was_there {
                pause = PAUSE_MIN;
            }
            log::error!("etcd at {:?}: {why}; what serves serves on", config.hosts);
            store.set_away(Some(why));
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    });
}

/// Follows until the connection is lost. Gives whether there was one, and why it is over.
async fn session(store: Arc<Store>, config: EtcdConfig) -> (bool, String) {
    let mut was_there = false;
    let outcome = async {
        let etcd = Etcd::connect(&config).await?;
        let mut after = catch_up(&store, &etcd).await?;
        was_there = true;
        if let Backend::Etcd(current) = &store.backend {
            *current.lock().unwrap_or_else(PoisonError::into_inner) = Some(etcd.clone());
        }
        store.set_away(None);
        log::info!("etcd at {:?}: following from revision {after}", config.hosts);
        loop {
            let mut watch = etcd.watch(after).await?;
            while let News::Changes { changes, revision } = watch.next().await? {
                store.follow(changes, revision, false).await;
            }
            // Our revision was compacted away.
            after = read_all(&store, &etcd).await?;
        }
    };
    let ended: Result<(), String> = outcome.await;
    (was_there, ended.err().unwrap_or_default())
}

/// Reads all if our revision is not one of etcd's: another etcd, or one that lost what it had.
async fn catch_up(store: &Arc<Store>, etcd: &Etcd) -> Result<u64, String> {
    let ours = store.document().revision;
    let theirs = etcd.revision().await?;
    if ours > 0 && ours <= theirs { Ok(ours) } else { read_all(store, etcd).await }
}

async fn read_all(store: &Arc<Store>, etcd: &Etcd) -> Result<u64, String> {
    let held = etcd.read().await?;
    let revision = held.revision;
    let changes = difference(&store.document(), held);
    store.follow(changes, revision, true).await;
    Ok(revision)
}

/// What leads from a document to what etcd has.
fn difference(document: &Document, held: Held) -> Vec<(Change, u64)> {
    let there: HashSet<&str> = held.items.iter().map(|(key, _)| key.as_str()).collect();
    let gone = document.items().filter(|(key, _)| !there.contains(key));
    // A deletion has no revision of its own here; it is newer than what it deletes.
    let gone = gone.map(|(key, _)| (Change::Delete { key: key.to_owned() }, u64::MAX));
    let mut changes: Vec<_> = gone.collect();
    for (key, item) in held.items {
        if document.get(&key).is_none_or(|known| known.modified != item.modified) {
            let put = Change::Put { key, value: item.value, ttl_s: None };
            changes.push((put, item.modified));
        }
    }
    changes
}

/// Writes the local file some time after a change.
async fn keep_local(store: Arc<Store>, dir: PathBuf) {
    loop {
        let contents = local::Contents::of(&store.document());
        let dir = dir.clone();
        let began = Instant::now();
        // Not on this thread: changes of etcd must not wait for megabytes of text.
        match spawn_blocking(move || local::write(&dir, &contents.text())).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => log::error!("{why}; a start without etcd would not know this"),
            Err(panic) => log::error!("the local file was not written: {panic}"),
        }
        let took = began.elapsed();
        store.changed.notified().await;
        sleep(LOCAL_PAUSE.max(took * LOCAL_SHARE)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::Item;
    use super::*;
    use serde_json::json;

    #[test]
    fn differences() {
        let value = json!({"uri": "/a", "plugins": {}});
        let item = |modified| Item { value: value.clone(), created: 1, modified, expires_s: None };
        let mut document = Document::at(9);
        for key in ["routes/1", "routes/2", "routes/3"] {
            document.load(key.to_owned(), item(5)).expect("a good item");
        }
        let held = |key: &str, modified| (key.to_owned(), item(modified));
        let items = vec![held("routes/1", 5), held("routes/2", 6), held("routes/4", 7)];
        let changes = difference(&document, Held { revision: 9, items });
        let shown: Vec<_> = changes.iter().map(|(change, at)| (change.key(), *at)).collect();
        assert_eq!(shown, [("routes/3", u64::MAX), ("routes/2", 6), ("routes/4", 7)]);
    }
}
