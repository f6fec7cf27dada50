//! A path-compressed radix tree: from a text to the keys that begin it.
//!
//! ```text
//! root  "/a" ──┬─ 'p' "i/" ●  ──┬─ 'u' "sers/" ●
//!              │       ▲ up ────┘
//!              └─ 's' "sets/" ●
//! ```
//!
//! All nodes are in one array, a node's children side by side. A node has in it the bytes of its
//! edge and the first bytes of its children, so a step down reads the next node and nothing else;
//! only where they are more than 16 bytes they are kept elsewhere. A walk down finds the longest
//! key, and from there `up` links lead over the shorter ones: nothing needs to be remembered on the
//! way, however many keys begin the text.

use super::NONE;
use memchr::memchr;
use std::sync::Arc;

/// The tree. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    /// The root first; no nodes, no keys.
    nodes: Arc<[Node]>,
    /// What is too long for its node.
    text: Arc<[u8]>,
}

/// 32 bytes: two nodes a cache line.
#[derive(Clone, Copy, Debug)]
struct Node {
    first_child: u32,
    /// The nearest node above that has a value, or `NONE`.
    up: u32,
    /// What the key that ends here stands for, or `NONE`.
    value: u32,
    children: u16,
    edge_len: u16,
    /// The edge, then the byte that leads to each child; or where these are in the text.
    bytes: [u8; INLINE_MAX],
}

const INLINE_MAX: usize = 16;

const _: () = assert!(size_of::<Node>() == 32);

/// A text to walk along, from either end.
pub(super) trait Text {
    fn byte(&self, at: usize) -> Option<u8>;
    fn continues(&self, at: usize, edge: &[u8]) -> bool;
}

/// A text from its beginning: paths.
pub(super) struct Forward<'a>(pub(super) &'a [u8]);

/// A text from its end: hosts.
pub(super) struct Backward<'a>(pub(super) &'a [u8]);

impl Text for Forward<'_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn continues(&self, at: usize, edge: &[u8]) -> bool {
        self.0[at..].starts_with(edge)
    }
}

impl Text for Backward<'_> {
    fn byte(&self, at: usize) -> Option<u8> {
        Some(self.0[self.0.len().checked_sub(at + 1)?])
    }

    fn continues(&self, at: usize, edge: &[u8]) -> bool {
        let rest = &self.0[..self.0.len() - at];
        edge.len() <= rest.len() && edge.iter().eq(rest.iter().rev().take(edge.len()))
    }
}

impl Tree {
    /// The tree of keys, sorted and distinct, with their values.
    pub(super) fn build<K: AsRef<[u8]>>(keys: &[(K, u32)]) -> Self {
        let mut builder = TreeBuilder::default();
        builder.add(keys);
        builder.finish()
    }

    /// The values of all keys that begin `text`, the longest first.
    pub(super) fn ends<'t>(&'t self, text: &impl Text) -> Ends<'t> {
        let node = if self.nodes.is_empty() { NONE } else { self.walk(text).0 };
        Ends { tree: self, node }
    }

    /// The value of this very key.
    pub(super) fn get(&self, key: &[u8]) -> Option<u32> {
        if self.nodes.is_empty() {
            return None;
        }
        let (node, length) = self.walk(&Forward(key));
        (node != NONE && length == key.len()).then(|| self.nodes[node as usize].value)
    }

    /// All keys with their values, sorted.
    pub(super) fn keys(&self) -> Vec<(Vec<u8>, u32)> {
        let mut keys = Vec::new();
        let mut left: Vec<(u32, Vec<u8>)> = Vec::new();
        left.extend((!self.nodes.is_empty()).then(|| (0, Vec::new())));
        while let Some((index, mut key)) = left.pop() {
            let node = &self.nodes[index as usize];
            key.extend_from_slice(self.edge(node));
            let labels = self.labels(node).iter().enumerate().rev();
            left.extend(labels.map(|(at, label)| {
                let mut longer = Vec::with_capacity(key.len() + INLINE_MAX);
                longer.extend_from_slice(&key);
                longer.push(*label);
                (node.first_child + at as u32, longer)
            }));
            if node.value != NONE {
                keys.push((key, node.value));
            }
        }
        keys
    }

    /// Goes down as far as `text` leads and gives back the last node with a value on the way, and
    /// how long its key is.
    fn walk(&self, text: &impl Text) -> (u32, usize) {
        let (mut index, mut at, mut best) = (0, 0, (NONE, 0));
        loop {
            let node = &self.nodes[index as usize];
            if node.edge_len > 0 && !text.continues(at, self.edge(node)) {
                return best;
            }
            at += usize::from(node.edge_len);
            if node.value != NONE {
                best = (index, at);
            }
            let Some(byte) = text.byte(at) else { return best };
            let Some(child) = self.child(node, byte) else { return best };
            index = child;
            at += 1;
        }
    }

    fn edge<'t>(&'t self, node: &'t Node) -> &'t [u8] {
        let len = usize::from(node.edge_len);
        if node.is_inline() { &node.bytes[..len] } else { &self.text[offset(&node.bytes)..][..len] }
    }

    /// The bytes that lead to its children, in their order.
    fn labels<'t>(&'t self, node: &'t Node) -> &'t [u8] {
        let (skip, len) = (usize::from(node.edge_len), usize::from(node.children));
        match node.is_inline() {
            true => &node.bytes[skip..][..len],
            false => &self.text[offset(&node.bytes) + skip..][..len],
        }
    }

    fn child(&self, node: &Node, byte: u8) -> Option<u32> {
        let (skip, len) = (usize::from(node.edge_len), usize::from(node.children));
        let position = if node.is_inline() {
            node.bytes[skip..][..len].iter().position(|label| *label == byte)
        } else {
            memchr(byte, &self.text[offset(&node.bytes) + skip..][..len])
        };
        Some(node.first_child + position? as u32)
    }
}

impl Node {
    fn is_inline(&self) -> bool {
        usize::from(self.edge_len) + usize::from(self.children) <= INLINE_MAX
    }
}

fn offset(bytes: &[u8; INLINE_MAX]) -> usize {
    u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
}

/// See [`Tree::ends`].
pub(super) struct Ends<'t> {
    tree: &'t Tree,
    node: u32,
}

impl Iterator for Ends<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.node == NONE {
            return None;
        }
        let node = &self.tree.nodes[self.node as usize];
        self.node = node.up;
        Some(node.value)
    }
}

/// Makes a tree.
#[derive(Debug, Default)]
struct TreeBuilder {
    nodes: Vec<Node>,
    text: Vec<u8>,
}

/// A node to be filled: the keys that pass it and how many of their bytes lead to it.
struct Job<'k, K> {
    node: u32,
    up: u32,
    keys: &'k [(K, u32)],
    depth: usize,
}

impl TreeBuilder {
    fn add<K: AsRef<[u8]>>(&mut self, keys: &[(K, u32)]) {
        if keys.is_empty() {
            return;
        }
        let node = self.reserve();
        let mut jobs = vec![Job { node, up: NONE, keys, depth: 0 }];
        while let Some(job) = jobs.pop() {
            self.fill(&job, &mut jobs);
        }
    }

    fn finish(self) -> Tree {
        assert!(u32::try_from(self.text.len()).is_ok(), "the texts of one tree are below 4 GiB");
        Tree { nodes: self.nodes.into(), text: self.text.into() }
    }

    fn reserve(&mut self) -> u32 {
        self.nodes.push(Node {
            first_child: 0,
            up: NONE,
            value: NONE,
            children: 0,
            edge_len: 0,
            bytes: [0; INLINE_MAX],
        });
        self.nodes.len() as u32 - 1
    }

    fn fill<'k, K: AsRef<[u8]>>(&mut self, job: &Job<'k, K>, jobs: &mut Vec<Job<'k, K>>) {
        let mut keys = job.keys;
        let first = keys[0].0.as_ref();
        let edge_len = common(&first[job.depth..], &keys[keys.len() - 1].0.as_ref()[job.depth..]);
        let end = job.depth + edge_len;
        let mut value = NONE;
        if first.len() == end {
            value = keys[0].1;
            keys = &keys[1..];
        }
        let below = if value == NONE { job.up } else { job.node };
        let first_child = self.nodes.len() as u32;
        let mut bytes = first[job.depth..end].to_vec();
        for same in keys.chunk_by(|(a, _), (b, _)| a.as_ref()[end] == b.as_ref()[end]) {
            bytes.push(same[0].0.as_ref()[end]);
            let node = self.reserve();
            jobs.push(Job { node, up: below, keys: same, depth: end + 1 });
        }
        self.nodes[job.node as usize] = Node {
            first_child,
            up: job.up,
            value,
            children: (bytes.len() - edge_len) as u16,
            edge_len: edge_len as u16,
            bytes: self.store(&bytes),
        };
    }

    fn store(&mut self, bytes: &[u8]) -> [u8; INLINE_MAX] {
        let mut stored = [0; INLINE_MAX];
        if let Some(inline) = stored.get_mut(..bytes.len()) {
            inline.copy_from_slice(bytes);
        } else {
            stored[..4].copy_from_slice(&(self.text.len() as u32).to_ne_bytes());
            self.text.extend_from_slice(bytes);
        }
        stored
    }
}

/// How many bytes two keys share, as far as one edge can be long.
fn common(a: &[u8], b: &[u8]) -> usize {
    let shared = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    shared.min(usize::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(keys: &[&str]) -> Tree {
        let mut keys: Vec<(&str, u32)> =
            keys.iter().enumerate().map(|(n, key)| (*key, n as u32)).collect();
        keys.sort_unstable();
        let tree = Tree::build(&keys);
        let same = keys.iter().map(|(key, value)| (key.as_bytes().to_vec(), *value));
        assert_eq!(tree.keys(), same.collect::<Vec<_>>());
        keys.iter().for_each(|(key, value)| assert_eq!(tree.get(key.as_bytes()), Some(*value)));
        tree
    }

    #[test]
    fn keys_are_found_longest_first() {
        let keys = ["/a", "", "/abc/long/edges/are/kept/elsewhere/", "/ab", "/b/", "/abd"];
        let (tree, backward) = (tree(&keys), tree(&["moc.", "moc.a.", "ten."]));
        for (text, expected) in [
            ("", &[1][..]),
            ("/", &[1]),
            ("x", &[1]),
            ("/a", &[0, 1]),
            ("/ax", &[0, 1]),
            ("/abc/long/edges/are/kept/elsewher", &[3, 0, 1]),
            ("/abc/long/edges/are/kept/elsewhere/x", &[2, 3, 0, 1]),
            ("/abdx", &[5, 3, 0, 1]),
            ("/b", &[1]),
            ("/b/", &[4, 1]),
        ] {
            let ends: Vec<u32> = tree.ends(&Forward(text.as_bytes())).collect();
            assert_eq!(ends, expected, "{text}");
            let exact = keys.iter().position(|key| *key == text).map(|n| n as u32);
            assert_eq!(tree.get(text.as_bytes()), exact, "{text}");
        }
        for (text, expected) in [
            ("x.a.com", &[1, 0][..]),
            ("b.com", &[0]),
            ("com", &[]),
            (".com", &[0]),
            ("", &[]),
            ("x.net", &[2]),
        ] {
            let ends = backward.ends(&Backward(text.as_bytes()));
            assert_eq!(ends.collect::<Vec<_>>(), expected, "{text}");
        }
    }

    #[test]
    fn wide_and_deep_trees() {
        let wide: Vec<String> = (0..=255_u8).map(|b| format!("/{:02x}x", b)).collect();
        let deep: Vec<String> = (1..300).map(|n| "ab".repeat(n)).collect();
        let long = ["c".repeat(200_000), "c".repeat(150_000)];
        let all: Vec<&str> = wide.iter().chain(&deep).chain(&long).map(String::as_str).collect();
        let tree = tree(&all);
        let ends = |text: &str| tree.ends(&Forward(text.as_bytes())).count();
        for key in &wide {
            assert_eq!((ends(key), ends(&key[..2])), (1, 0), "{key}");
        }
        for (n, key) in deep.iter().enumerate() {
            assert_eq!(ends(key), n + 1);
        }
        assert_eq!([ends(&long[0]), ends(&long[1]), ends(&long[1][1..])], [2, 1, 0]);
    }

    #[test]
    fn every_byte_can_follow() {
        let keys: Vec<([u8; 2], u32)> = (0..=255).map(|b| ([b'/', b], u32::from(b))).collect();
        let tree = Tree::build(&keys);
        for (key, value) in &keys {
            assert_eq!(tree.ends(&Forward(key)).next(), Some(*value));
        }
    }

    #[test]
    fn no_keys_no_tree() {
        let tree = Tree::build::<&str>(&[]);
        assert_eq!((tree.ends(&Forward(b"/")).next(), tree.get(b"")), (None, None));
        assert!(tree.keys().is_empty());
    }
}
