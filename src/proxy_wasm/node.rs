//! What `xds.node` says of this process: Envoy's `core.Node`.

use super::property::{Kind, tree};
use super::protobuf::Writer;
use crate::plugin::{Properties, PropertyTraits};

/// This process among others, for the properties `xds.node` and `node`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// The fleet it belongs to.
    pub cluster: String,
    /// Where it stands.
    pub region: String,
    /// Where in the region.
    pub zone: String,
    /// Where in the zone.
    pub sub_zone: String,
    /// What else is to be known of it; names are paths of NUL-joined segments.
    pub metadata: Properties,
}

/// `user_agent_name` and `user_agent_version`.
const AGENT: &str = "ringgate";
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Node {
    /// Adds a value to its metadata, under a path of names.
    pub fn add_metadata(&mut self, path: &[&str], value: &str) {
        let name = path.join("\0");
        // A configuration's metadata are far below the bound.
        let _ = self.metadata.set(name.as_bytes(), value.as_bytes(), PropertyTraits::default());
    }

    /// Appends the field at a path to `out`, or the whole message. Empty fields are missing.
    pub(super) fn get(&self, path: &[u8], out: &mut Vec<u8>) -> Option<Kind> {
        let text = match path {
            b"" => {
                out.extend_from_slice(&self.encode());
                return Some(Kind::Message);
            }
            b"id" => &self.id,
            b"cluster" => &self.cluster,
            b"locality\0region" => &self.region,
            b"locality\0zone" => &self.zone,
            b"locality\0sub_zone" => &self.sub_zone,
            b"user_agent_name" => AGENT,
            b"user_agent_version" => VERSION,
            b"locality" => {
                out.extend_from_slice(&self.locality());
                return Some(Kind::Message);
            }
            _ => {
                let below = path.strip_prefix(b"metadata")?;
                let below = below.strip_prefix(b"\0").or(below.is_empty().then_some(below))?;
                return tree::get(&self.metadata, below, out);
            }
        };
        out.extend_from_slice(text.as_bytes());
        (!text.is_empty()).then_some(Kind::Text)
    }

    /// The keys below a path.
    pub(super) fn keys(&self, path: &[u8]) -> Vec<Vec<u8>> {
        match path.strip_prefix(b"metadata") {
            Some(b"") => tree::children(&self.metadata, b""),
            Some([0, below @ ..]) => tree::children(&self.metadata, below),
            _ => Vec::new(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut node = Writer::default();
        node.some_bytes(1, self.id.as_bytes());
        node.some_bytes(2, self.cluster.as_bytes());
        node.some_bytes(3, &tree::structure(&self.metadata, b"", 0));
        node.some_bytes(4, &self.locality());
        node.bytes(6, AGENT.as_bytes());
        node.bytes(7, VERSION.as_bytes());
        node.into_bytes()
    }

    fn locality(&self) -> Vec<u8> {
        let mut locality = Writer::default();
        locality.some_bytes(1, self.region.as_bytes());
        locality.some_bytes(2, self.zone.as_bytes());
        locality.some_bytes(3, self.sub_zone.as_bytes());
        locality.into_bytes()
    }
}
