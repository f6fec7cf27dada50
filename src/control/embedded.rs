//! The embedded store: one file, one process, every commit on the disk before it is answered.

use super::document::{Item, Stamped};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Key → `{value, created, modified, expires}` as JSON.
const ITEMS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("items");

/// `revision` → the last one.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

const REVISION: &str = "revision";

/// The database's file.
#[derive(Debug)]
pub(super) struct Embedded {
    path: PathBuf,
    /// `None`: another process may have it.
    database: Mutex<Option<Database>>,
    /// The last revision that was written or read.
    revision: AtomicU64,
}

/// What a store held when it was opened.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) revision: u64,
    pub(super) items: Vec<(String, Item)>,
}

impl Embedded {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// It can't be opened, another process has it, or it is no store of ours.
    pub(super) fn open(path: &Path) -> Result<(Self, Held), String> {
        let named = |why: String| format!("{}: {why}", path.display());
        let database = Database::create(path).map_err(|error| named(error.to_string()))?;
        let held = read(&database).map_err(|error| named(error.to_string()))?;
        let (path, revision) = (path.to_owned(), AtomicU64::new(held.revision));
        Ok((Self { path, database: Mutex::new(Some(database)), revision }, held))
    }

    /// Lets another process open the file.
    pub(super) fn close(&self) {
        self.lock().take();
    }

    /// Opens the file again, if it was closed.
    ///
    /// # Errors
    /// It can't be opened; or somebody wrote to it meanwhile: what is served is no longer what is
    /// kept, and only a restart makes it so.
    pub(super) fn reopen(&self) -> Result<(), String> {
        let mut database = self.lock();
        if database.is_none() {
            *database =
                Some(self.opened().map_err(|why| format!("{}: {why}", self.path.display()))?);
        }
        Ok(())
    }

    fn opened(&self) -> Result<Database, String> {
        let database = Database::create(&self.path).map_err(|error| error.to_string())?;
        let revision = revision(&database).map_err(|error| error.to_string())?;
        if revision == self.revision.load(Ordering::Relaxed) {
            return Ok(database);
        }
        Err("another process changed it; restart to serve what it has".to_owned())
    }

    /// Writes changes as of a revision, all or none, and waits for the disk.
    ///
    /// # Errors
    /// The disk says why.
    pub(super) fn commit(&self, changes: &[Stamped], revision: u64) -> Result<(), String> {
        self.reopen()?;
        let database = self.lock();
        let Some(database) = &*database else { return Err("the store is closed".to_owned()) };
        write(database, changes, revision).map_err(|error| error.to_string())?;
        self.revision.store(revision, Ordering::Relaxed);
        Ok(())
    }

    /// The database sees to itself when a thread panics.
    fn lock(&self) -> MutexGuard<'_, Option<Database>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn revision(database: &Database) -> Result<u64, redb::Error> {
    let read = database.begin_read()?;
    Ok(read.open_table(META)?.get(REVISION)?.map_or(0, |value| value.value()))
}

fn read(database: &Database) -> Result<Held, redb::Error> {
    // Tables come to be by being opened for writing.
    let write = database.begin_write()?;
    write.open_table(ITEMS)?;
    write.open_table(META)?;
    write.commit()?;
    let read = database.begin_read()?;
    let mut items = Vec::new();
    for entry in read.open_table(ITEMS)?.iter()? {
        let (key, bytes) = entry?;
        let item = item(bytes.value()).unwrap_or_else(|| {
            log::error!("the store's item {} can't be read", key.value());
            // Left out as every wrong item is.
            Item { value: Value::Null, created: 0, modified: 0, expires_s: None }
        });
        items.push((key.value().to_owned(), item));
    }
    Ok(Held { revision: revision(database)?, items })
}

fn write(database: &Database, changes: &[Stamped], revision: u64) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    {
        let mut items = write.open_table(ITEMS)?;
        for Stamped { key, item, .. } in changes {
            match item {
                Some(item) => drop(items.insert(key.as_str(), &*bytes(item))?),
                None => drop(items.remove(key.as_str())?),
            }
        }
        write.open_table(META)?.insert(REVISION, revision)?;
    }
    write.commit()?;
    Ok(())
}

fn bytes(item: &Item) -> Vec<u8> {
    let Item { value, created, modified, expires_s } = item;
    let kept = json!({
        "value": value, "created": created, "modified": modified, "expires": expires_s,
    });
    kept.to_string().into_bytes()
}

fn item(bytes: &[u8]) -> Option<Item> {
    let mut kept: Value = serde_json::from_slice(bytes).ok()?;
    Some(Item {
        created: kept["created"].as_u64()?,
        modified: kept["modified"].as_u64()?,
        expires_s: kept["expires"].as_u64(),
        value: kept.get_mut("value")?.take(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_is_there_again() {
        let folder = std::env::temp_dir().join(format!("ringgate-store-{}", std::process::id()));
        let path = folder.join("resources.redb");
        std::fs::create_dir_all(&folder).expect("a folder");
        let one = || {
            let value = json!({"uri": "/a", "plugins": {}});
            Item { value, created: 1, modified: 1, expires_s: Some(9) }
        };
        let stamped = |key: &str, item| Stamped::plain(key, item);
        {
            let (store, held) = Embedded::open(&path).expect("a new store");
            assert!(held.items.is_empty() && held.revision == 0);
            let both = [stamped("routes/1", Some(one())), stamped("routes/2", Some(one()))];
            store.commit(&both, 1).expect("written");
            store.commit(&[stamped("routes/1", None)], 2).expect("written");
            assert!(Embedded::open(&path).is_err(), "one process has it");
            store.close();
            let (other, held) = Embedded::open(&path).expect("nobody has it");
            assert_eq!(held.revision, 2);
            assert!(store.reopen().is_err(), "one process has it");
            assert!(store.commit(&[stamped("routes/2", None)], 3).is_err());
            drop(other);
            store.commit(&[], 2).expect("it is ours again");
            store.close();
            let (other, _) = Embedded::open(&path).expect("nobody has it");
            other.commit(&[], 3).expect("written");
            drop(other);
            let why = store.reopen().expect_err("it is not what it was");
            assert!(why.contains("another process changed it"), "{why}");
        }
        let (_, held) = Embedded::open(&path).expect("the store");
        assert_eq!((held.revision, held.items), (3, vec![("routes/2".to_owned(), one())]));
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
