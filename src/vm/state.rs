//! What makes an instance what it is, and modules of which all of that can be reached.
//!
//! An instance is its memory, its globals, its tables and the segments not yet dropped. A host
//! reaches the memory, and of the globals those that are exported; compilers export none. So a
//! module whose code changes nothing but its memory and its globals is compiled with all of these
//! exported, under names that nothing else has. Every other module is compiled as it is.

use std::borrow::Cow;
use std::ops::Range;
use wasmparser::{ElementItems, ExternalKind, Operator, Parser, Payload, RefType, ValType};

/// The memory, once more: the mark of such a module. Its mutable globals are `ringgate:state:0`,
/// `ringgate:state:1`, ...
pub(super) const MARK: &str = "ringgate:state";

/// Goes into the names of compiled files: those of another version were made from other bytes.
pub(super) const VERSION: &[u8] = b"state 1";

/// An instance with more of them is no plugin of any compiler.
const GLOBALS_MAX: usize = 64;

const EXPORT_SECTION: u8 = 7;

/// Whether an export was added here.
#[must_use]
pub fn is_added_export(name: &str) -> bool {
    name.starts_with(MARK)
}

/// The name of the export of a mutable global.
pub(super) fn global_name(at: usize) -> String {
    format!("{MARK}:{at}")
}

/// A module with its state exported, if it can be; otherwise what was given.
pub(super) fn with_state_exported(bytes: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let found = Found::of(&bytes);
    match found.and_then(|found| found.rewritten(&bytes)) {
        Some(rewritten) => Cow::Owned(rewritten),
        None => bytes,
    }
}

/// What there is to export.
#[derive(Default)]
struct Found {
    memories: usize,
    globals: u32,
    /// The mutable ones.
    mutable: Vec<u32>,
    /// The export section's content, and where the whole section is.
    exports: Option<Exports>,
}

struct Exports {
    content: Range<usize>,
    count: u32,
}

impl Found {
    /// `None` if the module has state that can't be reached, or is not understood.
    fn of(bytes: &[u8]) -> Option<Self> {
        let mut found = Self::default();
        for payload in Parser::new(0).parse_all(bytes) {
            found.see(payload.ok()?)?;
        }
        (found.memories == 1 && found.mutable.len() <= GLOBALS_MAX).then_some(found)
    }

    fn see(&mut self, payload: Payload<'_>) -> Option<()> {
        match payload {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    matches!(import.ok()?.ty, wasmparser::TypeRef::Func(_)).then_some(())?;
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    let memory = memory.ok()?;
                    (!memory.memory64 && !memory.shared).then_some(())?;
                    self.memories += 1;
                }
            }
            Payload::GlobalSection(globals) => {
                for global in globals {
                    let ty = global.ok()?.ty;
                    is_number(ty.content_type).then_some(())?;
                    if ty.mutable {
                        self.mutable.push(self.globals);
                    }
                    self.globals += 1;
                }
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    is_function(table.ok()?.ty.element_type).then_some(())?;
                }
            }
            Payload::ElementSection(elements) => {
                for element in elements {
                    match element.ok()?.items {
                        ElementItems::Functions(_) => {}
                        ElementItems::Expressions(ty, _) => is_function(ty).then_some(())?,
                    }
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports.clone() {
                    let export = export.ok()?;
                    (!is_added_export(export.name)).then_some(())?;
                }
                let (content, count) = (exports.range(), exports.count());
                self.exports = Some(Exports { content, count });
            }
            Payload::CodeSectionEntry(body) => {
                for operator in body.get_operators_reader().ok()? {
                    is_harmless(&operator.ok()?).then_some(())?;
                }
            }
            Payload::TagSection(_) => return None,
            _ => {}
        }
        Some(())
    }

    /// The same module with more exports.
    fn rewritten(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let exports = self.exports.as_ref()?;
        let old = bytes.get(exports.content.clone())?;
        let count_len = leb_len(old)?;
        let added = 1 + u32::try_from(self.mutable.len()).ok()?;
        let mut content = Vec::with_capacity(old.len() + 64);
        leb(exports.count.checked_add(added)?, &mut content);
        content.extend_from_slice(&old[count_len..]);
        entry(MARK, ExternalKind::Memory, 0, &mut content);
        for (at, global) in self.mutable.iter().enumerate() {
            entry(&global_name(at), ExternalKind::Global, *global, &mut content);
        }
        // Before the content: the section's number and its length.
        let head = section_head(bytes, &exports.content)?;
        let mut out = Vec::with_capacity(bytes.len() + content.len());
        out.extend_from_slice(&bytes[..head]);
        out.push(EXPORT_SECTION);
        leb(u32::try_from(content.len()).ok()?, &mut out);
        out.extend_from_slice(&content);
        out.extend_from_slice(&bytes[exports.content.end..]);
        Some(out)
    }
}

/// Where a section begins whose content is there: its length may be written in up to five bytes.
fn section_head(bytes: &[u8], content: &Range<usize>) -> Option<usize> {
    (2..=6).filter_map(|back| content.start.checked_sub(back)).find(|&head| {
        let length = &bytes[head + 1..content.start];
        bytes[head] == EXPORT_SECTION
            && leb_len(length) == Some(length.len())
            && leb_value(length) == content.len() as u64
    })
}

fn is_number(ty: ValType) -> bool {
    matches!(ty, ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64)
}

fn is_function(ty: RefType) -> bool {
    ty == RefType::FUNCREF
}

/// Whether an instruction leaves tables and segments alone.
fn is_harmless(operator: &Operator<'_>) -> bool {
    !matches!(
        operator,
        Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
            | Operator::ElemDrop { .. }
            | Operator::DataDrop { .. }
    )
}

fn entry(name: &str, kind: ExternalKind, index: u32, out: &mut Vec<u8>) {
    leb(name.len() as u32, out);
    out.extend_from_slice(name.as_bytes());
    out.push(match kind {
        ExternalKind::Memory => 2,
        _ => 3,
    });
    leb(index, out);
}

/// An unsigned number as wasm has it.
fn leb(mut value: u32, out: &mut Vec<u8>) {
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

    /// The names a module exports after it was looked at.
    fn exports(text: &str) -> Vec<String> {
        let bytes = wat::parse_str(text).expect("a module");
        let bytes = with_state_exported(Cow::Owned(bytes));
        let module = wasmtime::Module::new(&wasmtime::Engine::default(), &bytes).expect("valid");
        module.exports().map(|export| export.name().to_owned()).collect()
    }

    #[test]
    fn state_is_exported_where_all_of_it_can_be() {
        let text = r#"(module (memory (export "memory") 1) (global i32 (i32.const 7))
            (global $a (mut i32) (i32.const 1)) (global $b (export "b") (mut f64) (f64.const 1))
            (table 1 funcref) (elem (i32.const 0) func $f)
            (func $f (export "f") (global.set $a (i32.const 2)) (memory.fill (i32.const 0)
                (i32.const 0) (i32.const 0))))"#;
        let added = ["ringgate:state", "ringgate:state:0", "ringgate:state:1"];
        assert_eq!(exports(text), [&["memory", "b", "f"][..], &added].concat());
        let text = r#"(module (memory (export "memory") 1))"#;
        assert_eq!(exports(text), ["memory", "ringgate:state"]);
    }

    #[test]
    fn long_sections_keep_their_content() {
        let functions: String =
            (0..3_000).map(|at| format!("(func (export \"function {at}\"))")).collect();
        let names = exports(&format!("(module (memory 1) {functions})"));
        assert_eq!(names.len(), 3_001);
        assert_eq!((&*names[2_999], &*names[3_000]), ("function 2999", "ringgate:state"));
    }

    #[test]
    fn other_state_keeps_a_module_as_it_is() {
        for text in [
            // Nothing to set back, or more than one memory.
            r#"(module (func (export "f")))"#,
            r#"(module (memory 1) (memory (export "f") 1))"#,
            // No exports at all can't be a plugin.
            r#"(module (memory 1))"#,
            // What is not the instance's own.
            r#"(module (import "a" "b" (global (mut i32))) (memory (export "f") 1))"#,
            // Tables and segments that change.
            r#"(module (memory (export "f") 1) (table $t 1 funcref)
                (func (table.set $t (i32.const 0) (ref.null func))))"#,
            r#"(module (memory (export "f") 1) (data $d "x") (func (data.drop $d)))"#,
            // References.
            r#"(module (memory (export "f") 1) (global (mut externref) (ref.null extern)))"#,
            r#"(module (memory (export "f") 1) (table 1 externref))"#,
            r#"(module (memory (export "f") 1) (tag))"#,
            // Somebody has our names.
            r#"(module (memory (export "f") 1) (memory (export "ringgate:state") 1))"#,
        ] {
            let bytes = wat::parse_str(text).expect("a module");
            assert_eq!(with_state_exported(Cow::Borrowed(&bytes)), bytes, "{text}");
        }
        for junk in [&b""[..], b"junk", b"\0asm\x01\0\0\0\x07\x01"] {
            assert_eq!(with_state_exported(Cow::Borrowed(junk)), junk);
        }
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
