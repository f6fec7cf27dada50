//! Exports that a host calls one after the other, joined to one.
//!
//! Entering a guest costs some two hundred instructions, whatever it does there; calling one of its
//! functions from another costs a handful. Where the host has nothing to do between two calls, the
//! module gets a function more that makes them all:
//!
//! ```text
//! host ─► done ─► host ─► log ─► host ─► delete ─► host
//! host ─► joined ─┬─ step = 0 ─► done
//!                 ├─ step = 1 ─► log
//!                 └─ step = 2 ─► delete ─► host
//! ```
//!
//! The step is a global, so that the host can tell the calls apart when one of them asks it
//! something.

use super::sections::{Additions, CODE, EXPORTS, Entries, FUNCTIONS, GLOBALS, Kind, TYPES, leb};
use std::borrow::Cow;
use wasmparser::{CompositeInnerType, ExternalKind, FuncType, Parser, Payload, TypeRef, ValType};

/// The exported global that has the step. Its number changes with what joined functions do, so that
/// modules compiled before are not taken for ones that do what is expected now.
pub const STEP: &str = "ringgate:step:2";

/// Goes into the names of compiled files: those of another version were made from other bytes.
pub(super) const VERSION: &[u8] = STEP.as_bytes();

const OP_END: u8 = 0x0b;
const OP_CALL: u8 = 0x10;
const OP_DROP: u8 = 0x1a;
const OP_LOCAL_GET: u8 = 0x20;
const OP_GLOBAL_SET: u8 = 0x24;
const OP_I32_CONST: u8 = 0x41;
const TYPE_I32: u8 = 0x7f;
const TYPE_FUNCTION: u8 = 0x60;
const MUTABLE: u8 = 1;

/// Which exports are joined, and what the joined one is called.
///
/// Those a module does not have are left out; where fewer than two are left nothing is joined. All
/// of them must take and give nothing but `i32`, at least one and at most one. The joined function
/// takes the first parameter once, for it is the same for all, and then the others' in their order.
/// It gives what the last of them gives.
#[derive(Clone, Copy, Debug)]
pub struct Join {
    /// The name of the added export.
    pub name: &'static str,
    /// The exports, in the order in which they are called.
    pub calls: &'static [&'static str],
}

/// A module with these joins where it can have them; otherwise what was given.
pub(super) fn with_joined<'a>(bytes: Cow<'a, [u8]>, joins: &[Join]) -> Cow<'a, [u8]> {
    let joined = Found::of(&bytes).and_then(|found| found.additions(joins)?.to(&bytes));
    joined.map_or(bytes, Cow::Owned)
}

/// What the joined functions are made from.
#[derive(Default)]
struct Found {
    /// `None` for types that are not functions'.
    types: Vec<Option<FuncType>>,
    /// The type of each function, imported ones first.
    functions: Vec<u32>,
    globals: u32,
    exports: Vec<(String, ExternalKind, u32)>,
}

/// A function that is called in a joined one.
struct Call {
    function: u32,
    params: usize,
    returns: bool,
}

impl Found {
    fn of(bytes: &[u8]) -> Option<Self> {
        let mut found = Self::default();
        for payload in Parser::new(0).parse_all(bytes) {
            found.see(payload.ok()?)?;
        }
        Some(found)
    }

    fn see(&mut self, payload: Payload<'_>) -> Option<()> {
        match payload {
            Payload::TypeSection(types) => {
                for group in types {
                    self.types.extend(group.ok()?.into_types().map(|ty| {
                        match ty.composite_type.inner {
                            CompositeInnerType::Func(ty) => Some(ty),
                            _ => None,
                        }
                    }));
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    match import.ok()?.ty {
                        TypeRef::Func(ty) | TypeRef::FuncExact(ty) => self.functions.push(ty),
                        TypeRef::Global(_) => self.globals += 1,
                        TypeRef::Table(_) | TypeRef::Memory(_) | TypeRef::Tag(_) => {}
                    }
                }
            }
            Payload::FunctionSection(functions) => {
                for ty in functions {
                    self.functions.push(ty.ok()?);
                }
            }
            Payload::GlobalSection(globals) => {
                self.globals = self.globals.checked_add(globals.count())?;
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export.ok()?;
                    self.exports.push((export.name.to_owned(), export.kind, export.index));
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Everything that makes the joined functions; `None` if there is nothing to join.
    fn additions(&self, joins: &[Join]) -> Option<Additions> {
        let mut types = Entries::default();
        let mut functions = Entries::default();
        let mut globals = Entries::default();
        let mut exports = Entries::default();
        let mut code = Entries::default();
        let mut names = Entries::default();
        let (mut ty, mut function) = (self.types.len() as u32, self.functions.len() as u32);
        for join in joins {
            let calls: Option<Vec<_>> =
                join.calls.iter().filter_map(|name| self.call(name)).collect();
            let Some(calls) = calls.filter(|calls| calls.len() > 1) else { continue };
            types.add(|out| write_type(&calls, out));
            functions.add(|out| leb(ty, out));
            exports.export(join.name, Kind::Function, function);
            code.add(|out| write_function(&calls, self.globals, out));
            names.name(function, join.name);
            (ty, function) = (ty + 1, function + 1);
        }
        if functions.is_empty() {
            return None;
        }
        globals.add(|out| out.extend_from_slice(&[TYPE_I32, MUTABLE, OP_I32_CONST, 0, OP_END]));
        exports.export(STEP, Kind::Global, self.globals);
        let sections = vec![
            (TYPES, types),
            (FUNCTIONS, functions),
            (GLOBALS, globals),
            (EXPORTS, exports),
            (CODE, code),
        ];
        Some(Additions { sections, names })
    }

    /// How an export is called; nothing if there is none, `Some(None)` if it can't be joined.
    fn call(&self, name: &str) -> Option<Option<Call>> {
        let (_, kind, index) = self.exports.iter().find(|(export, ..)| export == name)?;
        Some(if *kind == ExternalKind::Func { self.call_of(*index) } else { None })
    }

    fn call_of(&self, function: u32) -> Option<Call> {
        let ty = *self.functions.get(function as usize)?;
        let ty = self.types.get(ty as usize)?.as_ref()?;
        let all_i32 = ty.params().iter().chain(ty.results()).all(|ty| *ty == ValType::I32);
        let (params, results) = (ty.params().len(), ty.results().len());
        let fits = all_i32 && params >= 1 && results <= 1;
        fits.then_some(Call { function, params, returns: results == 1 })
    }
}

fn write_type(calls: &[Call], out: &mut Vec<u8>) {
    let params = 1 + calls.iter().map(|call| call.params - 1).sum::<usize>();
    out.push(TYPE_FUNCTION);
    leb(params as u32, out);
    out.resize(out.len() + params, TYPE_I32);
    match calls.last() {
        Some(Call { returns: true, .. }) => out.extend_from_slice(&[1, TYPE_I32]),
        _ => out.push(0),
    }
}

fn write_function(calls: &[Call], step: u32, out: &mut Vec<u8>) {
    // No locals beside the parameters.
    let mut body = vec![0];
    let mut param = 1;
    for (at, call) in calls.iter().enumerate() {
        body.push(OP_I32_CONST);
        // Below 64 the signed number that is wanted here looks like the unsigned one.
        body.push(at as u8 & 0x3f);
        body.push(OP_GLOBAL_SET);
        leb(step, &mut body);
        body.extend_from_slice(&[OP_LOCAL_GET, 0]);
        for _ in 1..call.params {
            body.push(OP_LOCAL_GET);
            leb(param, &mut body);
            param += 1;
        }
        body.push(OP_CALL);
        leb(call.function, &mut body);
        if call.returns && at + 1 < calls.len() {
            body.push(OP_DROP);
        }
    }
    body.push(OP_END);
    leb(body.len() as u32, out);
    out.extend_from_slice(&body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::{Engine, Instance, Linker, Module, Store};

    const JOINS: &[Join] = &[
        Join { name: "ringgate:both", calls: &["first", "second"] },
        Join { name: "ringgate:all", calls: &["a", "b", "c"] },
    ];

    fn joined(text: &str) -> Vec<u8> {
        let bytes = wat::parse_str(text).expect("a module");
        with_joined(Cow::Owned(bytes), JOINS).into_owned()
    }

    /// What the calls of an export say, each with its step, and what it gives.
    fn say(text: &str, name: &str, params: &[i32]) -> (Vec<(i32, i32)>, Vec<i32>) {
        let mut config = wasmtime::Config::new();
        config.wasm_gc(true).wasm_function_references(true).wasm_exceptions(true);
        let engine = Engine::new(&config).expect("an engine");
        let module = Module::new(&engine, joined(text)).expect("valid");
        let mut store = Store::new(&engine, Vec::new());
        let mut linker = Linker::<Vec<(i32, i32)>>::new(&engine);
        let step = |caller: &mut wasmtime::Caller<'_, _>| {
            let step = caller.get_export(STEP).and_then(wasmtime::Extern::into_global);
            step.map_or(-1, |step| step.get(caller).unwrap_i32())
        };
        let say = move |mut caller: wasmtime::Caller<'_, Vec<_>>, what: i32| {
            let said = (step(&mut caller), what);
            caller.data_mut().push(said);
        };
        linker.func_wrap("env", "say", say).expect("once");
        let instance: Instance = linker.instantiate(&mut store, &module).expect("linked");
        let function = instance.get_func(&mut store, name).expect("joined");
        let params: Vec<_> = params.iter().map(|param| wasmtime::Val::I32(*param)).collect();
        let mut results = vec![wasmtime::Val::I32(0); function.ty(&store).results().len()];
        function.call(&mut store, &params, &mut results).expect("no trap");
        (store.into_data(), results.iter().map(wasmtime::Val::unwrap_i32).collect())
    }

    #[test]
    fn calls_get_their_parameters_in_order_and_the_last_one_answers() {
        let text = r#"(module (import "env" "say" (func $say (param i32)))
            (func (export "first") (param i32 i32) (call $say (local.get 0)) (call $say (local.get 1)))
            (func (export "second") (param i32 i32 i32) (result i32)
                (call $say (local.get 0)) (call $say (local.get 1)) (call $say (local.get 2))
                (i32.const 70)))"#;
        let (said, gave) = say(text, "ringgate:both", &[7, 8, 9, 10]);
        assert_eq!(said, [(0, 7), (0, 8), (1, 7), (1, 9), (1, 10)]);
        assert_eq!(gave, [70]);
    }

    #[test]
    fn what_is_missing_is_left_out_and_what_others_give_is_dropped() {
        let text = r#"(module (import "env" "say" (func $say (param i32)))
            (global i32 (i32.const 3))
            (func (export "a") (param i32) (result i32) (call $say (local.get 0)) (i32.const 1))
            (func (export "c") (param i32) (call $say (local.get 0))))"#;
        assert_eq!(say(text, "ringgate:all", &[5]), (vec![(0, 5), (1, 5)], vec![]));
    }

    /// Numbers of types, functions and globals count what is imported, grouped or no function.
    #[test]
    fn other_things_in_the_module_are_counted() {
        let text = r#"(module
            (rec (type $pair (struct (field i32) (field (mut i64)))) (type $list (array (mut i8))))
            (type $event (func (param i32 i32)))
            (import "env" "say" (func $say (param i32)))
            (rec (type $one (func (param i32))) (type $other (func (result (ref null $pair)))))
            (tag $oops (type $event))
            (global $mine (mut i32) (i32.const 5)) (global $null (ref null $list) (ref.null $list))
            (func $unused (type $other) (ref.null $pair))
            (func (export "a") (type $one) (call $say (global.get $mine)) (global.set $mine (i32.const 6)))
            (func (export "b") (type $one) (call $say (global.get $mine)))
            (func (export "c") (param i32 i32) (result i32) (call $say (local.get 1)) (i32.const 4)))"#;
        assert_eq!(say(text, "ringgate:all", &[1, 7]), (vec![(0, 5), (1, 6), (2, 7)], vec![4]));
    }

    #[test]
    fn names_are_for_backtraces() {
        let text = r#"(module (func $one (export "a") (param i32))
            (func $two (export "b") (param i32)))"#;
        let names = crate::vm::Anatomy::of(&joined(text)).expect("a module").function_names;
        assert_eq!(names, ["one", "two", "ringgate:all"]);
    }

    #[test]
    fn modules_without_a_pair_stay_as_they_are() {
        for text in [
            "(module)",
            r#"(module (func (export "first") (param i32)))"#,
            // No parameter, another type, more results than one.
            r#"(module (func $f (export "a")) (export "b" (func $f)))"#,
            r#"(module (func $f (export "a") (param i64)) (export "b" (func $f)))"#,
            r#"(module (func $f (export "a") (param i32) (result i32 i32)
                (i32.const 1) (i32.const 2)) (export "b" (func $f)))"#,
            // Not a function.
            r#"(module (memory (export "a") 1) (func (export "b") (param i32)))"#,
        ] {
            let bytes = wat::parse_str(text).expect("a module");
            assert_eq!(joined(text), bytes, "{text}");
        }
        for junk in [&b""[..], b"junk", b"\0asm\x01\0\0\0\x01\x01"] {
            assert_eq!(with_joined(Cow::Borrowed(junk), JOINS), junk);
        }
    }

    /// Bytes of a file that is no module may say anything; so may a module's lengths and counts.
    #[test]
    fn broken_modules_are_no_reason_to_panic() {
        let text = r#"(module (import "e" "f" (func (param i32))) (global (mut i32) (i32.const 1))
            (func $one (export "a") (param i32)) (func $two (export "b") (param i32)))"#;
        let whole = wat::parse_str(text).expect("a module");
        assert_ne!(with_joined(Cow::Borrowed(&whole), JOINS), whole);
        for end in 0..whole.len() {
            let _ = with_joined(Cow::Borrowed(&whole[..end]), JOINS);
        }
        let mut broken = whole.clone();
        for at in 0..whole.len() {
            for byte in 0..=u8::MAX {
                broken[at] = byte;
                let _ = with_joined(Cow::Borrowed(&broken), JOINS);
            }
            broken[at] = whole[at];
        }
    }
}
