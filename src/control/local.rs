//! What etcd had, in a file: for a start without etcd.

use super::document::{Document, Item};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

const FILE: &str = "etcd.json";

/// Writes the file anew: whole or not at all. Another process may do so as well, during an upgrade.
///
/// # Errors
/// It can't be written.
pub(super) fn write(dir: &Path, text: &str) -> Result<(), String> {
    let (path, new) = (dir.join(FILE), dir.join(format!("{FILE}.{}", std::process::id())));
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &path)
    });
    written.map_err(|error| format!("{}: can't be written: {error}", path.display()))
}

/// A revision, and the items there were at it by their keys.
type Held = (u64, Vec<(String, Item)>);

/// A document as the file has it.
pub(super) fn text(document: &Document) -> String {
    let items = document.items().map(|(key, item)| {
        let Item { value, created, modified, .. } = &**item;
        json!({ "key": key, "value": value, "created": created, "modified": modified })
    });
    let items: Vec<Value> = items.collect();
    json!({ "revision": document.revision, "items": items }).to_string()
}

/// Reads the file, if it is there: its revision and its items.
///
/// # Errors
/// It is there and can't be used.
pub(super) fn read(dir: &Path) -> Result<Option<Held>, String> {
    let path = dir.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: can't be read: {error}", path.display())),
    };
    match parse(&bytes) {
        Some(held) => Ok(Some(held)),
        None => Err(format!("{}: this is not what etcd had", path.display())),
    }
}

/// What [`text`] wrote.
pub(super) fn parse(bytes: &[u8]) -> Option<Held> {
    let mut file: Value = serde_json::from_slice(bytes).ok()?;
    let revision = file["revision"].as_u64()?;
    let items = file.get_mut("items")?.as_array_mut()?.iter_mut().map(|one| {
        let item = Item {
            created: one["created"].as_u64()?,
            modified: one["modified"].as_u64()?,
            expires_s: None,
            value: one.get_mut("value")?.take(),
        };
        Some((one["key"].as_str()?.to_owned(), item))
    });
    Some((revision, items.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_comes_back() {
        let mut document = Document::at(7);
        let value = json!({"uri": "/a", "plugins": {}});
        let item = Item { value, created: 3, modified: 5, expires_s: None };
        document.load("routes/1".to_owned(), item.clone()).expect("a good item");
        let held = parse(text(&document).as_bytes());
        assert_eq!(held, Some((7, vec![("routes/1".to_owned(), item)])));
        for bad in ["", "{}", "{\"revision\": 1, \"items\": [{}]}"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
