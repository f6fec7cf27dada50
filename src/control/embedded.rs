//! The embedded store: one file, one process, every commit on the disk before it is answered.

use super::document::{Item, Stamped};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::{Value, json};
use std::path::Path;

/// Key → `{value, created, modified, expires}` as JSON.
const ITEMS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("items");

/// `revision` → the last one.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

const REVISION: &str = "revision";

/// The database.
#[derive(Debug)]
pub(super) struct Embedded(Database);

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
        let store = Self(database);
        let held = store.read().map_err(|error| named(error.to_string()))?;
        Ok((store, held))
    }

    fn read(&self) -> Result<Held, redb::Error> {
        // Tables come to be by being opened for writing.
        let write = self.0.begin_write()?;
        write.open_table(ITEMS)?;
        write.open_table(META)?;
        write.commit()?;
        let read = self.0.begin_read()?;
        let revision = read.open_table(META)?.get(REVISION)?.map_or(0, |value| value.value());
        let mut items = Vec::new();
        for entry in read.open_table(ITEMS)?.iter()? {
            let (key, bytes) = entry?;
            match item(bytes.value()) {
                Some(item) => items.push((key.value().to_owned(), item)),
                None => log::error!("the store's item {} can't be read: left out", key.value()),
            }
        }
        Ok(Held { revision, items })
    }

    /// Writes changes as of a revision, all or none, and waits for the disk.
    ///
    /// # Errors
    /// The disk says why.
    pub(super) fn commit(&self, changes: &[Stamped], revision: u64) -> Result<(), redb::Error> {
        let write = self.0.begin_write()?;
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
        }
        let (_, held) = Embedded::open(&path).expect("the store");
        assert_eq!((held.revision, held.items), (2, vec![("routes/2".to_owned(), one())]));
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
