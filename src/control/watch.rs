//! Seeing that the files changed.
//!
//! The folder is watched, not the files: editors and deployments put new files in the place of old
//! ones, and Kubernetes exchanges a link. What counts in the end is whether the texts are others.

use super::load::fingerprint;
use super::run::Reloads;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};

/// A change is over when nothing happened for so long.
const QUIET: Duration = Duration::from_millis(50);

/// How often to look where nothing tells of changes, like APISIX.
const LOOK: Duration = Duration::from_secs(1);

/// Watches these files, whose texts had that fingerprint, and has them read again.
pub(super) fn start(files: [PathBuf; 2], seen: u64, reloads: Reloads) {
    let (sender, events) = unbounded_channel();
    let told = move |event: notify::Result<notify::Event>| {
        // Reading is no change, and would never end: whoever is told reads.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // Nobody listens any more at the end of the process.
            let _ = sender.send(());
        }
    };
    let folder = files[0].parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), PathBuf::from);
    let watcher = notify::recommended_watcher(told).and_then(|mut watcher| {
        watcher.watch(&folder, RecursiveMode::NonRecursive).map(|()| watcher)
    });
    let watcher = watcher
        .map_err(|error| {
            log::warn!("{} can't be watched ({error}): looking every second", folder.display());
        })
        .ok();
    tokio::spawn(watch(files, seen, reloads, watcher, events));
}

async fn watch(
    files: [PathBuf; 2],
    mut seen: u64,
    reloads: Reloads,
    watcher: Option<RecommendedWatcher>,
    mut events: UnboundedReceiver<()>,
) {
    // What changed since the files were read is seen now.
    let mut look_now = true;
    loop {
        match &watcher {
            _ if std::mem::take(&mut look_now) => {}
            Some(_) => {
                if events.recv().await.is_none() {
                    return;
                }
                while let Ok(Some(())) = timeout(QUIET, events.recv()).await {}
            }
            None => sleep(LOOK).await,
        }
        // A file that is not there at the moment is no change to act on.
        let [config, resources] = &files;
        let texts = (std::fs::read_to_string(config), std::fs::read_to_string(resources));
        let (Ok(config), Ok(resources)) = texts else { continue };
        let now = fingerprint([&config, &resources]);
        if now != seen {
            seen = now;
            reloads.ask("the files changed");
        }
    }
}
