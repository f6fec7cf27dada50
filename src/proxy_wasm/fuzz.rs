//! Pure entries for whoever throws bytes at this room: no instance, no exchange around them.
//!
//! Each takes any bytes whatever and gives an answer, never a panic.

use super::abi::{Abi, Phase};
use super::foreign;
use super::guest::{Facts, Frame, Guest};
use super::host::Entry;
use super::pairs::{Pairs, encode_exact};
use super::property;
use super::settings::{PluginSettings, Source};
use super::shared::Shared;
use crate::http::Version;
use crate::plugin::Message;
use std::sync::{Arc, Weak};

/// Decodes a map. One that is well-formed is encoded again and must be the same.
pub fn pairs(bytes: &[u8]) {
    let Some(map) = Pairs::parse(bytes) else { return };
    let mut encoded = Vec::new();
    encode_exact(|| map.iter(), &mut encoded);
    let again = Pairs::parse(&encoded).map(|again| again.iter().eq(map.iter()));
    assert_eq!(again, Some(true), "{bytes:?}");
}

/// Sets a property and reads it, in every phase, with and without attributes that may be changed.
pub fn property(path: &[u8], value: &[u8]) {
    let phases = [Phase::Root, Phase::RequestHeaders, Phase::ResponseBody, Phase::Log];
    for (at, phase) in phases.into_iter().enumerate() {
        let mut guest = guest(phase, at % 2 == 0);
        let mut out = Vec::new();
        let _ = property::get(&guest, path, &mut out);
        let set = property::set(&mut guest, path, value);
        out.clear();
        let got = property::get(&guest, path, &mut out);
        assert!(set.is_err() || got.is_ok() || value.is_empty(), "{path:?} was set");
    }
}

/// Calls a foreign function, a second time with what it gave: expressions give tokens.
pub fn foreign(name: &[u8], args: &[u8]) {
    let mut guest = guest(Phase::RequestHeaders, false);
    let mut out = Vec::new();
    if foreign::call(&mut guest, name, args, &mut out).is_ok() {
        let _ = foreign::call(&mut guest, b"expr_evaluate", &out, &mut Vec::new());
    }
}

/// A guest in the middle of a callback of that phase.
pub(super) fn guest(phase: Phase, writable: bool) -> Guest {
    let settings = PluginSettings {
        writable_properties: writable,
        ..PluginSettings::new("p", 0, Source::Bytes(Arc::default()))
    };
    let facts = Facts::new(settings, Abi::V0_2_1, &Shared::default());
    let mut guest = Guest::new(Arc::new(facts), Weak::<Entry>::new(), None);
    if phase != Phase::Root {
        guest.frame = Frame::stream(phase, 1, false);
    }
    guest.message = Box::new(message());
    guest
}

fn message() -> Message {
    let mut message = Message::default();
    message.request.method = b"GET".to_vec();
    message.request.target = b"/a?b=c".to_vec();
    message.request.path = b"/a".to_vec();
    message.request.authority = b"host.example".to_vec();
    message.request.version = Version::Http11;
    message.request.headers.append(b"X-Some", b"1");
    message.response.status = 200;
    message.response.headers.append(b"Server", b"up");
    message
}

#[cfg(test)]
mod tests {
    const WORDS: [&[u8]; 18] = [
        b"request",
        b"response",
        b"headers",
        b"path",
        b"query",
        b"code",
        b"metadata",
        b"filter_metadata",
        b"filter_state",
        b"wasm.a",
        b"xds",
        b"node",
        b"upstream",
        b"x-some",
        b":path",
        b"a",
        b"",
        b"\xff",
    ];

    #[test]
    fn any_path_has_an_answer() {
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..20_000 {
            let segments = random.usize(0..6);
            let words = (0..segments).map(|_| WORDS[random.usize(0..WORDS.len())]);
            let path = words.collect::<Vec<_>>().join(&0);
            let value = [&b"/x?y"[..], b"", b"200", &200_u64.to_le_bytes(), b"\xff\0"];
            super::property(&path, value[random.usize(0..value.len())]);
        }
    }

    #[test]
    fn any_map_has_an_answer() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..50_000 {
            let len = random.usize(0..40);
            let bytes: Vec<u8> = (0..len).map(|_| random.u8(0..4)).collect();
            super::pairs(&bytes);
        }
    }
}
