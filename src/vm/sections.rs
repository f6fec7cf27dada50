//! Adding to the sections of a module.
//!
//! Most sections are a count and as many entries. What is added goes behind those that are there,
//! so nothing that refers to one of them by its number changes.

use std::ops::Range;
use wasmparser::{Parser, Payload};

pub(super) const TYPES: u8 = 1;
pub(super) const FUNCTIONS: u8 = 3;
pub(super) const GLOBALS: u8 = 6;
pub(super) const EXPORTS: u8 = 7;
pub(super) const CODE: u8 = 10;

const CUSTOM: u8 = 0;
/// What the custom section `name` begins with, and the number of its list of functions.
const NAME_HEAD: &[u8] = b"\x04name";
const FUNCTION_NAMES: u8 = 1;

/// What the names of all exports begin with that are added to modules.
const ADDED: &str = "ringgate:";

/// Whether an export was added here.
#[must_use]
pub fn is_added_export(name: &str) -> bool {
    name.starts_with(ADDED)
}

/// The first export of a module that is called like one that is added.
pub(super) fn export_with_our_name(module: &[u8]) -> Option<String> {
    let exports = Parser::new(0).parse_all(module).find_map(|payload| match payload {
        Ok(Payload::ExportSection(exports)) => Some(exports),
        _ => None,
    })?;
    let mut names = exports.into_iter().flatten().map(|export| export.name);
    names.find(|name| is_added_export(name)).map(str::to_owned)
}

/// The magic number and the version.
const PREAMBLE_BYTES: usize = 8;

/// What may be exported.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Function = 0,
    Memory = 2,
    Global = 3,
}

/// Entries for one section.
#[derive(Default)]
pub(super) struct Entries {
    count: u32,
    bytes: Vec<u8>,
}

impl Entries {
    /// One more, as `write` writes it.
    pub(super) fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.count += 1;
        write(&mut self.bytes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// For [`EXPORTS`].
    pub(super) fn export(&mut self, name: &str, kind: Kind, index: u32) {
        self.add(|out| {
            text(name, out);
            out.push(kind as u8);
            leb(index, out);
        });
    }

    /// For the list of functions in [`Additions::names`].
    pub(super) fn name(&mut self, index: u32, name: &str) {
        self.add(|out| {
            leb(index, out);
            text(name, out);
        });
    }
}

/// Entries for a module's sections.
#[derive(Default)]
pub(super) struct Additions {
    pub(super) sections: Vec<(u8, Entries)>,
    /// Names of functions, for backtraces and profiles. A module without such names gets none.
    pub(super) names: Entries,
}

impl Additions {
    /// The module with all of this; `None` if it is no module, or has not one of the sections. Of
    /// those only [`GLOBALS`] may be missing: they are made right before the exports then.
    pub(super) fn to(&self, module: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(module.len() + 512);
        out.extend_from_slice(module.get(..PREAMBLE_BYTES)?);
        let (mut at, mut added) = (PREAMBLE_BYTES, 0);
        let mut globals_seen = false;
        while at < module.len() {
            let (id, content) = section(module, at)?;
            let bytes = &module[content.clone()];
            globals_seen |= id == GLOBALS;
            if id == EXPORTS && !globals_seen && self.of(GLOBALS).is_some() {
                added += 1;
                write_section(GLOBALS, &extended(&[0], self.of(GLOBALS)?)?, &mut out);
            }
            match self.of(id) {
                Some(entries) => {
                    added += 1;
                    write_section(id, &extended(bytes, entries)?, &mut out);
                }
                None => match self.named(id, bytes) {
                    Some(named) => write_section(id, &named, &mut out),
                    None => out.extend_from_slice(&module[at..content.end]),
                },
            }
            at = content.end;
        }
        (added == self.sections.len()).then_some(out)
    }

    fn of(&self, id: u8) -> Option<&Entries> {
        self.sections.iter().find(|(section, _)| *section == id).map(|(_, entries)| entries)
    }

    /// The custom section `name` with more functions in it. `None`: it is another section, or can't
    /// be read, which is no reason to refuse a module.
    fn named(&self, id: u8, content: &[u8]) -> Option<Vec<u8>> {
        if id != CUSTOM || self.names.count == 0 || !content.starts_with(NAME_HEAD) {
            return None;
        }
        let (mut out, mut at) = (NAME_HEAD.to_vec(), NAME_HEAD.len());
        while at < content.len() {
            let (id, part) = section(content, at)?;
            match id {
                FUNCTION_NAMES => {
                    let names = extended(&content[part.clone()], &self.names)?;
                    write_section(id, &names, &mut out);
                }
                _ => out.extend_from_slice(&content[at..part.end]),
            }
            at = part.end;
        }
        Some(out)
    }
}

/// A section's number and where its content is.
fn section(module: &[u8], at: usize) -> Option<(u8, Range<usize>)> {
    let after = module.get(at + 1..)?;
    let length_bytes = leb_len(after)?;
    let begin = at + 1 + length_bytes;
    let end = begin.checked_add(usize::try_from(leb_value(&after[..length_bytes])).ok()?)?;
    (end <= module.len()).then_some((module[at], begin..end))
}

fn write_section(id: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(id);
    leb(content.len() as u32, out);
    out.extend_from_slice(content);
}

/// A section's content, a count and entries, with more of them.
fn extended(content: &[u8], more: &Entries) -> Option<Vec<u8>> {
    let count_bytes = leb_len(content)?;
    let count = u32::try_from(leb_value(&content[..count_bytes])).ok()?;
    let mut out = Vec::with_capacity(content.len() + more.bytes.len() + 4);
    leb(count.checked_add(more.count)?, &mut out);
    out.extend_from_slice(&content[count_bytes..]);
    out.extend_from_slice(&more.bytes);
    Some(out)
}

fn text(text: &str, out: &mut Vec<u8>) {
    leb(text.len() as u32, out);
    out.extend_from_slice(text.as_bytes());
}

/// An unsigned number as wasm has it.
pub(super) fn leb(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes of the number that these begin with.
fn leb_len(bytes: &[u8]) -> Option<usize> {
    Some(bytes.iter().take(5).position(|byte| byte & 0x80 == 0)? + 1)
}

fn leb_value(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::Anatomy;

    fn export(name: &str) -> Entries {
        let mut entries = Entries::default();
        entries.export(name, Kind::Memory, 0);
        entries
    }

    fn exports(bytes: &[u8]) -> Vec<String> {
        let module = wasmtime::Module::new(&wasmtime::Engine::default(), bytes).expect("valid");
        module.exports().map(|export| export.name().to_owned()).collect()
    }

    #[test]
    fn long_sections_keep_their_content() {
        let functions: String =
            (0..3_000).map(|at| format!("(func (export \"function {at}\"))")).collect();
        let module = wat::parse_str(format!("(module (memory 1) {functions})")).expect("a module");
        let additions =
            Additions { sections: vec![(EXPORTS, export("more"))], ..Additions::default() };
        let names = exports(&additions.to(&module).expect("it has exports"));
        assert_eq!(names.len(), 3_001);
        assert_eq!((&*names[2_999], &*names[3_000]), ("function 2999", "more"));
    }

    #[test]
    fn globals_are_made_where_there_are_none() {
        let additions = |index| {
            let (mut globals, mut exports) = (Entries::default(), export("more"));
            globals.add(|out| out.extend_from_slice(&[0x7f, 1, 0x41, 0, 0x0b]));
            exports.export("global", Kind::Global, index);
            let sections = vec![(GLOBALS, globals), (EXPORTS, exports)];
            Additions { sections, ..Additions::default() }
        };
        for (text, index) in [
            (r#"(module (memory 1) (func (export "f")))"#, 0),
            (r#"(module (memory 1) (global i64 (i64.const 1)) (func (export "f")))"#, 1),
        ] {
            let bytes = additions(index).to(&wat::parse_str(text).expect("a module"));
            assert_eq!(exports(&bytes.expect("added")), ["f", "more", "global"], "{text}");
        }
        // Without exports there is no place for them either.
        assert!(
            additions(0).to(&wat::parse_str("(module (memory 1))").expect("a module")).is_none()
        );
    }

    #[test]
    fn functions_get_names_where_others_have_some() {
        let named = wat::parse_str(r#"(module (memory 1) (func $own (export "f")))"#);
        let stripped = wat::parse_str(r#"(module (memory 1) (func (export "f")))"#);
        let mut additions =
            Additions { sections: vec![(EXPORTS, export("more"))], ..Additions::default() };
        additions.names.name(1, "another");
        let names = |module: Vec<u8>| {
            let bytes = additions.to(&module).expect("added");
            Anatomy::of(&bytes).expect("a module").function_names
        };
        assert_eq!(names(named.expect("a module")), ["own", "another"]);
        assert_eq!(names(stripped.expect("a module")), [""; 0]);
    }

    #[test]
    fn what_is_no_module_is_left_alone() {
        let additions =
            Additions { sections: vec![(EXPORTS, export("more"))], ..Additions::default() };
        for junk in [&b""[..], b"junk", b"\0asm\x01\0\0\0\x07\x01", b"\0asm\x01\0\0\0\x07\xff\xff"]
        {
            assert!(additions.to(junk).is_none(), "{junk:?}");
        }
        // A broken list of names breaks nothing.
        let mut module = wat::parse_str(r#"(module (memory 1) (func (export "f")))"#).expect("it");
        module.extend_from_slice(b"\0\x07\x04name\x01\x7f");
        let mut additions = additions;
        additions.names.name(1, "another");
        assert_eq!(exports(&additions.to(&module).expect("added")), ["f", "more"]);
    }

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for value in [0, 1, 127, 128, 300, 1 << 14, (1 << 21) - 1, u32::MAX] {
            let mut bytes = Vec::new();
            leb(value, &mut bytes);
            assert_eq!(leb_len(&bytes), Some(bytes.len()));
            assert_eq!(leb_value(&bytes), u64::from(value));
        }
        assert_eq!(leb_len(&[0x80; 9]), None);
    }
}
