//! The resources as a document of items, each under its key: what the Admin API changes and what a
//! backend keeps.
//!
//! A key is what comes after the prefix in APISIX's etcd layout (reference §10): `routes/1`,
//! `consumers/jack/credentials/one`.

use crate::conf::Resources;
use crate::conf::resources::{Entry, gather, read_item};
use crate::schema::{Problem, Problems};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// What the keys of global rules begin with.
const GLOBAL_RULES: &str = "global_rules/";

/// One item with what is known about it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    /// As it was written, with what was filled in.
    pub(super) value: Value,
    /// The revision that made it.
    pub(super) created: u64,
    /// The revision that changed it last.
    pub(super) modified: u64,
    /// When it goes by itself, in seconds since 1970; only where no backend sees to that.
    pub(super) expires_s: Option<u64>,
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// A new value.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Value,
        /// After how many seconds it goes by itself.
        ttl_s: Option<u64>,
    },
    /// Nothing any more.
    Delete {
        /// The key.
        key: String,
    },
}

impl Change {
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// All items as of one revision, and each as the compiler reads it.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    /// Counts changes; an item's `created` and `modified` are revisions.
    pub(super) revision: u64,
    items: BTreeMap<String, Arc<Item>>,
    entries: BTreeMap<String, Entry>,
    /// Items that go by themselves, by the second they do.
    expiring: BTreeSet<(u64, String)>,
}

/// Changes whose values were read, before anything is touched.
#[derive(Debug)]
pub(super) struct Draft {
    changes: Vec<Change>,
    /// Of puts, in their order; those that were refused have none.
    entries: Vec<Option<Entry>>,
}

/// A change as it is kept: with its item, if that is there afterwards.
#[derive(Debug)]
pub(super) struct Stamped {
    pub(super) key: String,
    pub(super) item: Option<Item>,
    entry: Option<Entry>,
}

impl Stamped {
    /// One that nothing is compiled of.
    #[cfg(test)]
    pub(super) fn plain(key: &str, item: Option<Item>) -> Self {
        Self { key: key.to_owned(), item, entry: None }
    }
}

impl Draft {
    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }
}

impl Document {
    /// One without items, as of a revision.
    pub(super) fn at(revision: u64) -> Self {
        Self { revision, ..Self::default() }
    }

    /// The item of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Arc<Item>> {
        self.items.get(key)
    }

    /// All items whose key begins so, in the order of their keys.
    pub(super) fn below<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Arc<Item>)> {
        let from = self.items.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.take_while(move |(key, _)| key.starts_with(prefix)).map(|(key, item)| (&**key, item))
    }

    /// The items of a collection by their ids, without those that are kept below another item.
    pub(super) fn collection<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Arc<Item>)> {
        let own = move |(key, item): (&'a str, _)| Some((key.strip_prefix(prefix)?, item));
        self.below(prefix).filter_map(own).filter(|(id, _)| !id.contains('/'))
    }

    /// Reads the values of changes.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn draft(changes: Vec<Change>) -> Result<Draft, Vec<Problem>> {
        let problems = Problems::new();
        let read = |change: &Change| match change {
            Change::Put { key, value, .. } => entry(key, value, &problems),
            Change::Delete { .. } => None,
        };
        let entries: Vec<_> = changes.iter().map(read).collect();
        let (errors, _) = problems.into_parts();
        if errors.is_empty() { Ok(Draft { changes, entries }) } else { Err(errors) }
    }

    /// Takes over the items of changes and compiles none of them.
    pub(super) fn refused(changes: Vec<Change>) -> Draft {
        Draft { entries: vec![None; changes.len()], changes }
    }

    /// The resources as they would be with a draft applied.
    pub(super) fn with(&self, draft: &Draft) -> Arc<Resources> {
        let changed: BTreeMap<&str, Option<&Entry>> = draft
            .changes
            .iter()
            .zip(&draft.entries)
            .map(|(change, entry)| (change.key(), entry.as_ref()))
            .collect();
        let lacks_global_rule =
            self.missing_global_rules().any(|missing| !changed.contains_key(missing));
        let resources = gather(merged(&self.entries, &changed));
        Arc::new(Resources { lacks_global_rule, ..resources })
    }

    /// The resources as they are.
    pub(super) fn resources(&self) -> Arc<Resources> {
        let lacks_global_rule = self.missing_global_rules().next().is_some();
        Arc::new(Resources { lacks_global_rule, ..gather(self.entries.values()) })
    }

    /// The keys of global rules that are there and not compiled, in no earlier version either.
    pub(super) fn missing_global_rules(&self) -> impl Iterator<Item = &str> {
        let rules = self.below(GLOBAL_RULES).map(|(key, _)| key);
        rules.filter(|key| !self.entries.contains_key(*key))
    }

    /// What puts everything back that changes would change.
    pub(super) fn inverse(&self, changes: &[Change]) -> Vec<Change> {
        let back = |change: &Change| {
            let key = change.key().to_owned();
            match self.get(&key) {
                Some(item) => Change::Put { key, value: item.value.clone(), ttl_s: None },
                None => Change::Delete { key },
            }
        };
        changes.iter().map(back).collect()
    }

    /// What a draft makes of its keys, each as of the revision that `revision` gives for its place.
    pub(super) fn stamp(
        &self,
        draft: Draft,
        revision: impl Fn(usize) -> u64,
        now_s: u64,
    ) -> Vec<Stamped> {
        let all = draft.changes.into_iter().zip(draft.entries).enumerate();
        all.map(|(at, (change, entry))| match change {
            Change::Put { key, value, ttl_s } => {
                let modified = revision(at);
                let created = self.items.get(&key).map_or(modified, |item| item.created);
                let expires_s = ttl_s.map(|ttl| now_s.saturating_add(ttl));
                Stamped { key, item: Some(Item { value, created, modified, expires_s }), entry }
            }
            Change::Delete { key } => Stamped { key, item: None, entry: None },
        })
        .collect()
    }

    /// Takes over what was stamped. A put without an entry was refused: the item is there to be
    /// read, and what was compiled of it before stays.
    pub(super) fn apply(&mut self, stamped: Vec<Stamped>, revision: u64) {
        self.revision = self.revision.max(revision);
        for Stamped { key, item, entry } in stamped {
            if let Some(expires_s) = self.items.get(&key).and_then(|item| item.expires_s) {
                self.expiring.remove(&(expires_s, key.clone()));
            }
            let Some(item) = item else {
                self.items.remove(&key);
                self.entries.remove(&key);
                continue;
            };
            if let Some(entry) = entry {
                self.entries.insert(key.clone(), entry);
            }
            if let Some(expires_s) = item.expires_s {
                self.expiring.insert((expires_s, key.clone()));
            }
            self.items.insert(key, Arc::new(item));
        }
    }

    /// Puts what a backend had.
    ///
    /// # Errors
    /// What is wrong with the value; the item is there to be read.
    pub(super) fn load(&mut self, key: String, item: Item) -> Result<(), Vec<Problem>> {
        let problems = Problems::new();
        let entry = entry(&key, &item.value, &problems);
        let (errors, _) = problems.into_parts();
        let entry = entry.filter(|_| errors.is_empty());
        self.apply(vec![Stamped { key, item: Some(item), entry }], 0);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Leaves an item out of what is compiled; it is still there to be read.
    pub(super) fn leave_out(&mut self, key: &str) -> bool {
        self.entries.remove(key).is_some()
    }

    /// The keys whose time is up.
    pub(super) fn expired(&self, now_s: u64) -> Vec<String> {
        let due = self.expiring.iter().take_while(|(expires_s, _)| *expires_s <= now_s);
        due.map(|(_, key)| key.clone()).collect()
    }

    /// All keys with their items.
    pub(super) fn items(&self) -> impl Iterator<Item = (&str, &Arc<Item>)> {
        self.items.iter().map(|(key, item)| (key.as_str(), item))
    }
}

/// The entries in the order of their keys, changed ones instead of those that were there.
fn merged<'a>(
    old: &'a BTreeMap<String, Entry>,
    changed: &'a BTreeMap<&str, Option<&'a Entry>>,
) -> impl Iterator<Item = &'a Entry> {
    let mut old = old.iter().filter(|(key, _)| !changed.contains_key(key.as_str())).peekable();
    let mut new = changed.iter().filter_map(|(key, entry)| Some((*key, (*entry)?))).peekable();
    std::iter::from_fn(move || match (old.peek(), new.peek()) {
        (Some((before, _)), Some((after, _))) if before.as_str() < *after => {
            old.next().map(|(_, entry)| entry)
        }
        (_, Some(_)) => new.next().map(|(_, entry)| entry),
        _ => old.next().map(|(_, entry)| entry),
    })
}

/// Reads one item; collections that mean nothing here have no entry.
fn entry(key: &str, value: &Value, problems: &Problems) -> Option<Entry> {
    let (collection, id) = key.split_once('/')?;
    read_item(collection, id, value, problems)
}

/// The key of the item that a problem is about, as `read_item` places them.
pub(super) fn key_of(problem: &Problem) -> Option<String> {
    use crate::schema::Step::Key;
    match problem.at.steps() {
        [Key(collection), Key(id), ..] => Some(format!("{collection}/{id}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Whether a global rule is missing after each step, and whether it is then compiled.
    #[test]
    fn global_rules_that_are_missing() {
        let mut document = Document::at(1);
        let key = || "global_rules/1".to_owned();
        let rule = |plugins| json!({"id": "1", "plugins": plugins});
        let put = |value: &Value| Change::Put { key: key(), value: value.clone(), ttl_s: None };
        let lacks = |document: &Document, rules| {
            let resources = document.resources();
            assert_eq!(resources.global_rules.len(), rules);
            assert_eq!(document.missing_global_rules().count(), 1 - rules);
            resources.lacks_global_rule
        };
        let apply = |document: &mut Document, draft| {
            let stamped = document.stamp(draft, |_| 2, 0);
            document.apply(stamped, 2);
        };
        let (good, bad) = (rule(json!({"echo": {}})), rule(json!([])));
        apply(&mut document, Document::refused(vec![put(&bad)]));
        assert!(lacks(&document, 0));
        let mended = Document::draft(vec![put(&good)]).expect("a good rule");
        assert!(!document.with(&mended).lacks_global_rule);
        let gone = Document::draft(vec![Change::Delete { key: key() }]).expect("nothing to read");
        assert!(!document.with(&gone).lacks_global_rule);
        let other = json!({"uri": "/a", "plugins": {}});
        let other = Change::Put { key: "routes/1".to_owned(), value: other, ttl_s: None };
        let other = Document::draft(vec![other]).expect("a good route");
        assert!(document.with(&other).lacks_global_rule);
        apply(&mut document, mended);
        assert!(!lacks(&document, 1));
        // What it was before serves on.
        apply(&mut document, Document::refused(vec![put(&bad)]));
        assert!(!lacks(&document, 1));
        assert!(document.leave_out("global_rules/1"));
        assert!(lacks(&document, 0));
        for value in [bad, Value::Null] {
            let item = Item { value, created: 1, modified: 1, expires_s: None };
            let mut document = Document::at(1);
            document.load(key(), item).expect_err("it is wrong");
            assert!(lacks(&document, 0));
        }
    }
}
