//! Where the value at a path stands in a text: the error path only.
//!
//! `serde_yaml` forgets positions, so the text is parsed once more, by `saphyr-parser`, into a tree
//! of positions. The two need not agree about broken text; what can't be found stands where its
//! nearest parent does.

use crate::schema::{Path, Step};
use saphyr_parser::{Event, Parser, Span};
use std::collections::HashMap;

/// How far merge keys may lead to merge keys.
const MERGE_DEPTH_MAX: usize = 16;

/// A piece of one line: line and column from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) line: usize,
    pub(super) column: usize,
    /// Characters; 0 if nothing is written there, `usize::MAX` for the rest of the line.
    pub(super) length: usize,
}

/// The tree of positions of one document.
#[derive(Debug, Default)]
pub(super) struct Positions {
    nodes: Vec<Node>,
    anchors: HashMap<usize, usize>,
    second_document: Option<Spot>,
}

#[derive(Debug)]
struct Node {
    spot: Spot,
    inside: Inside,
}

#[derive(Debug)]
enum Inside {
    Leaf,
    List(Vec<usize>),
    Map(Vec<Entry>),
}

#[derive(Debug)]
struct Entry {
    key: String,
    spot: Spot,
    value: usize,
}

/// What [`Positions::locate`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) spot: Spot,
    /// Whether it is the value itself and not a parent.
    pub(super) exact: bool,
}

impl Positions {
    /// Reads the first document of a text, as far as it can be read.
    pub(super) fn of(text: &str) -> Self {
        let mut builder = Builder::default();
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            if builder.event(&event, spot(&span)).is_none() {
                break;
            }
        }
        builder.positions
    }

    /// Where the second document begins.
    pub(super) fn second_document(&self) -> Option<Spot> {
        self.second_document
    }

    /// Where the value at `path` stands, or its key.
    pub(super) fn locate(&self, path: &Path, on_key: bool) -> Option<Found> {
        let mut here = self.nodes.first()?;
        let mut key = None;
        for step in path.steps() {
            let next = match (step, &here.inside) {
                (Step::Index(index), Inside::List(elements)) => {
                    elements.get(*index).map(|value| (None, *value))
                }
                (Step::Key(name), Inside::Map(_)) => {
                    self.entry(here, name, 0).map(|entry| (Some(entry.spot), entry.value))
                }
                _ => None,
            };
            let Some((spot, value)) = next else {
                return Some(Found { spot: key.unwrap_or(here.spot), exact: false });
            };
            (key, here) = (spot, &self.nodes[value]);
        }
        let spot = key.filter(|_| on_key || here.spot.length == 0).unwrap_or(here.spot);
        Some(Found { spot, exact: true })
    }

    /// Where the key of `path` is written, each time it is written in its map.
    pub(super) fn keys(&self, path: &Path) -> Vec<Spot> {
        let Some((Step::Key(name), parents)) = path.steps().split_last() else {
            return Vec::new();
        };
        let parent = parents.iter().fold(Path::root(), |path, step| match step {
            Step::Key(name) => path.key(name),
            Step::Index(index) => path.index(*index),
        });
        let Some(Inside::Map(entries)) = self.node(&parent).map(|node| &node.inside) else {
            return Vec::new();
        };
        entries.iter().filter(|entry| entry.key == *name).map(|entry| entry.spot).collect()
    }

    fn node(&self, path: &Path) -> Option<&Node> {
        path.steps().iter().try_fold(self.nodes.first()?, |node, step| {
            let next = match (step, &node.inside) {
                (Step::Index(index), Inside::List(elements)) => *elements.get(*index)?,
                (Step::Key(name), _) => self.entry(node, name, 0)?.value,
                _ => return None,
            };
            self.nodes.get(next)
        })
    }

    /// The entry of a map, or of a map merged into it.
    fn entry<'a>(&'a self, node: &'a Node, name: &str, depth: usize) -> Option<&'a Entry> {
        let Inside::Map(entries) = &node.inside else { return None };
        if let Some(entry) = entries.iter().find(|entry| entry.key == name) {
            return Some(entry);
        }
        if depth == MERGE_DEPTH_MAX {
            return None;
        }
        let merged = &self.nodes[entries.iter().find(|entry| entry.key == "<<")?.value];
        match &merged.inside {
            Inside::List(maps) => {
                maps.iter().find_map(|map| self.entry(&self.nodes[*map], name, depth + 1))
            }
            _ => self.entry(merged, name, depth + 1),
        }
    }
}

fn spot(span: &Span) -> Spot {
    let (start, end) = (span.start, span.end);
    let length = match end.line().cmp(&start.line()) {
        std::cmp::Ordering::Equal => end.col().saturating_sub(start.col()),
        _ => usize::MAX,
    };
    Spot { line: start.line(), column: start.col() + 1, length }
}

#[derive(Default)]
struct Builder {
    positions: Positions,
    open: Vec<Open>,
    documents: usize,
}

/// A list or map that has not ended.
struct Open {
    node: usize,
    key: Option<(String, Spot)>,
}

impl Builder {
    /// Takes one event; `None` when the rest is of no interest.
    fn event(&mut self, event: &Event<'_>, spot: Spot) -> Option<()> {
        let one = Spot { length: 1, ..spot };
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.positions.second_document = Some(spot);
                    return None;
                }
            }
            Event::Scalar(text, _, anchor, _) => {
                let node = self.add(spot, Inside::Leaf, *anchor);
                self.attach(node, spot, text);
            }
            Event::Alias(anchor) => {
                let node = self.positions.anchors.get(anchor).copied();
                let node = node.unwrap_or_else(|| self.add(spot, Inside::Leaf, 0));
                self.attach(node, spot, "");
            }
            Event::SequenceStart(anchor, _) => self.open(one, Inside::List(Vec::new()), *anchor),
            Event::MappingStart(anchor, _) => self.open(one, Inside::Map(Vec::new()), *anchor),
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
            }
            _ => {}
        }
        Some(())
    }

    fn add(&mut self, spot: Spot, inside: Inside, anchor: usize) -> usize {
        let node = self.positions.nodes.len();
        self.positions.nodes.push(Node { spot, inside });
        if anchor > 0 {
            self.positions.anchors.insert(anchor, node);
        }
        node
    }

    fn open(&mut self, spot: Spot, inside: Inside, anchor: usize) {
        let node = self.add(spot, inside, anchor);
        self.attach(node, spot, "");
        self.open.push(Open { node, key: None });
    }

    /// Puts a finished or just opened node into the list or map around it, or makes it a key there.
    fn attach(&mut self, node: usize, spot: Spot, text: &str) {
        let Some(open) = self.open.last_mut() else { return };
        match &mut self.positions.nodes[open.node].inside {
            Inside::Leaf => {}
            Inside::List(elements) => elements.push(node),
            Inside::Map(entries) => match open.key.take() {
                None => open.key = Some((text.to_owned(), spot)),
                Some((key, spot)) => entries.push(Entry { key, spot, value: node }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
routes:
  - uri: /a
    plugins:
      fault: {a: 1, \"b c\": \"x y\"}
    empty:
  - nodes: {\"é:1\": 1}
base: &base
  k: 1
  <<: {deep: 2}
both: {<<: [*base], own: 3}
same: *base
twice: 1
twice: 2
";

    fn path(text: &str) -> Path {
        text.split('/').filter(|step| !step.is_empty()).fold(Path::root(), |path, step| {
            step.parse().map_or_else(|_| path.key(step), |index| path.index(index))
        })
    }

    #[test]
    fn values_and_keys_have_positions() {
        let positions = Positions::of(TEXT);
        for (at, on_key, line, column, length, exact) in [
            ("", false, 1, 1, 1, true),
            ("routes", true, 1, 1, 6, true),
            ("routes", false, 2, 3, 1, true),
            ("routes/0", false, 2, 5, 1, true),
            ("routes/0/uri", true, 2, 5, 3, true),
            ("routes/0/uri", false, 2, 10, 2, true),
            ("routes/0/plugins/fault", false, 4, 14, 1, true),
            ("routes/0/plugins/fault/b c", true, 4, 21, 5, true),
            ("routes/0/plugins/fault/b c", false, 4, 28, 5, true),
            ("routes/0/empty", false, 5, 5, 5, true),
            ("routes/0/missing", false, 2, 5, 1, false),
            ("routes/0/plugins/fault/a/deeper", false, 4, 15, 1, false),
            ("routes/1/nodes/é:1", false, 6, 20, 1, true),
            ("both/own", true, 10, 21, 3, true),
            ("both/k", false, 8, 6, 1, true),
            ("both/deep", true, 9, 8, 4, true),
            ("same/k", false, 8, 6, 1, true),
        ] {
            let wanted = Found { spot: Spot { line, column, length }, exact };
            assert_eq!(positions.locate(&path(at), on_key), Some(wanted), "{at} {on_key}");
        }
        let lines: Vec<_> = positions.keys(&path("twice")).iter().map(|spot| spot.line).collect();
        assert_eq!(lines, [12, 13]);
        assert!(positions.keys(&path("routes/0")).is_empty());
    }

    #[test]
    fn broken_and_odd_texts_have_some_positions() {
        assert_eq!(Positions::of("").locate(&Path::root(), false), None);
        let broken = Positions::of("a: 1\nb: [1, {c: 2\n");
        let found = broken.locate(&path("b/1/c"), true).expect("as far as it was read");
        assert_eq!((found.spot.line, found.spot.column), (2, 9));
        let two = Positions::of("a: 1\n---\nb: 1\n");
        assert_eq!(two.second_document().map(|spot| spot.line), Some(2));
        let itself = Positions::of("a: &a {<<: *a, b: [*a]}\n");
        assert!(itself.locate(&path("a/x/y"), false).is_some_and(|found| !found.exact));
        assert!(itself.locate(&path("a/b/0/b/0/b"), false).is_some_and(|found| found.exact));
    }
}
