//! Trees of text, kept flat: each leaf by its path of NUL-joined segments. Envoy's metadata are
//! such trees: `filter_metadata`, a namespace, then fields.

use super::super::pairs;
use super::super::protobuf::Writer;
use super::{Kind, split, text};
use crate::plugin::Properties;

/// Segments of a path in a tree: what is below this many is not looked at, since looking goes down
/// one call a segment.
pub(in super::super) const DEPTH_MAX: usize = 16;

/// The only field of Envoy's `Metadata` that text has a place in.
const FILTER_METADATA: &[u8] = b"filter_metadata";

/// A path below a metadata message: nothing, `filter_metadata`, or something in its tree.
pub(super) fn metadata(tree: &Properties, path: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
    match split(path) {
        _ if tree.is_empty() => None,
        (b"", _) => {
            let mut message = Writer::default();
            for namespace in children(tree, &[]) {
                let mut entry = Writer::default();
                entry.bytes(1, &namespace);
                entry.bytes(2, &structure(tree, &namespace, 1));
                message.bytes(1, &entry.into_bytes());
            }
            out.extend_from_slice(&message.into_bytes());
            Some(Kind::Message)
        }
        (FILTER_METADATA, below) => get(tree, below, out),
        _ => None,
    }
}

/// The leaf at a path, or the map of all that is below it.
pub(in super::super) fn get(tree: &Properties, path: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
    if let Some(leaf) = tree.get(path) {
        return text(out, leaf.value);
    }
    let mut values = Vec::new();
    for key in children(tree, path) {
        let mut value = Vec::new();
        let below = join(path, &key);
        if below.iter().filter(|byte| **byte == 0).count() < DEPTH_MAX {
            get(tree, &below, &mut value);
        }
        values.push((key, value));
    }
    if values.is_empty() {
        return None;
    }
    pairs::encode_exact(|| values.iter().map(|(key, value)| (&key[..], &value[..])), out);
    Some(Kind::Map)
}

/// The keys of the map at a path below a metadata message.
pub(super) fn keys(tree: Option<&Properties>, path: &[u8]) -> Vec<Vec<u8>> {
    match (tree, split(path)) {
        (Some(tree), (FILTER_METADATA, below)) => children(tree, below),
        _ => Vec::new(),
    }
}

/// The segments that follow a path, each once.
pub(in super::super) fn children(tree: &Properties, path: &[u8]) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = Vec::new();
    for leaf in tree.iter() {
        let below = match leaf.name.strip_prefix(path) {
            Some(below) if path.is_empty() => below,
            Some([0, below @ ..]) => below,
            _ => continue,
        };
        let key = split(below).0;
        if !keys.iter().any(|known| known == key) {
            keys.push(key.to_vec());
        }
    }
    keys
}

/// What is below a path as a protobuf `Struct`.
pub(in super::super) fn structure(tree: &Properties, path: &[u8], depth: usize) -> Vec<u8> {
    let mut fields = Writer::default();
    if depth == DEPTH_MAX {
        return fields.into_bytes();
    }
    for key in children(tree, path) {
        let below = join(path, &key);
        let mut value = Writer::default();
        match tree.get(&below) {
            Some(leaf) => value.bytes(3, leaf.value),
            None => value.bytes(5, &structure(tree, &below, depth + 1)),
        }
        let mut entry = Writer::default();
        entry.bytes(1, &key);
        entry.bytes(2, &value.into_bytes());
        fields.bytes(1, &entry.into_bytes());
    }
    fields.into_bytes()
}

fn join(path: &[u8], key: &[u8]) -> Vec<u8> {
    if path.is_empty() { key.to_vec() } else { [path, b"\0", key].concat() }
}
