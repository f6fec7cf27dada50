//! What makes an instance what it is, and modules of which all of that can be reached.
//!
//! An instance is its memory, its globals, its tables and the segments not yet dropped. A host
//! reaches the memory, and of the globals those that are exported; compilers export none. So a
//! module whose code changes nothing but its memory and its globals is compiled with all of these
//! exported, under names that no module may have. Every other module is compiled as it is.

use super::sections::{Additions, EXPORTS, Entries, Kind};
use std::borrow::Cow;
use wasmparser::{ElementItems, Operator, Parser, Payload, RefType, ValType};

/// The memory, once more: the mark of such a module. Its mutable globals are `ringgate:state:0`,
/// `ringgate:state:1`, ...
pub(super) const MARK: &str = "ringgate:state";

/// Goes into the names of compiled files: those of another version were made from other bytes.
pub(super) const VERSION: &[u8] = b"state 1";

/// An instance with more of them is no plugin of any compiler.
const GLOBALS_MAX: usize = 64;

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
        let mut exports = Entries::default();
        exports.export(MARK, Kind::Memory, 0);
        for (at, global) in self.mutable.iter().enumerate() {
            exports.export(&global_name(at), Kind::Global, *global);
        }
        Additions { sections: vec![(EXPORTS, exports)], ..Additions::default() }.to(bytes)
    }
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
        ] {
            let bytes = wat::parse_str(text).expect("a module");
            assert_eq!(with_state_exported(Cow::Borrowed(&bytes)), bytes, "{text}");
        }
        for junk in [&b""[..], b"junk", b"\0asm\x01\0\0\0\x07\x01"] {
            assert_eq!(with_state_exported(Cow::Borrowed(junk)), junk);
        }
    }
}
