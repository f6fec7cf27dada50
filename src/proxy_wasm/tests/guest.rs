//! Writes guests: text modules that make host calls in chosen callbacks and tell what came back.

use std::fmt::Write as _;

/// Where a guest has its results written.
pub(super) const OUT: u32 = 16;
pub(super) const OUT_LEN: u32 = 20;

/// One page.
pub(super) const MEMORY_END: u32 = 65_536;

const DATA: u32 = 256;

/// A guest in the making.
pub(super) struct Guest {
    imports: Vec<(String, String)>,
    data: Vec<u8>,
    functions: String,
    pub(super) abi: &'static str,
}

/// An argument: a word, or eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arg {
    W(u32),
    L(u64),
}

impl From<u32> for Arg {
    fn from(word: u32) -> Self {
        Self::W(word)
    }
}

impl Guest {
    pub(super) fn new() -> Self {
        let mut guest = Self {
            imports: Vec::new(),
            data: Vec::new(),
            functions: String::new(),
            abi: "proxy_abi_version_0_2_1",
        };
        guest.import("env.proxy_log", "(param i32 i32 i32) (result i32)");
        guest.import("env.proxy_set_property", "(param i32 i32 i32 i32) (result i32)");
        guest
    }

    /// Puts bytes in the guest's memory: where they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> (u32, u32) {
        let at = DATA + self.data.len() as u32;
        self.data.extend_from_slice(bytes);
        (at, bytes.len() as u32)
    }

    fn import(&mut self, name: &str, ty: &str) {
        let known = self.imports.iter().any(|(known, _)| known == name);
        if !known {
            self.imports.push((name.to_owned(), ty.to_owned()));
        }
    }

    /// A call of `module.function` that leaves its answer on the stack.
    pub(super) fn call(&mut self, name: &str, args: &[Arg]) -> String {
        let types = args.iter().map(|arg| if matches!(arg, Arg::W(_)) { " i32" } else { " i64" });
        let params = if args.is_empty() {
            String::new()
        } else {
            format!("(param{}) ", types.collect::<String>())
        };
        self.import(name, &format!("{params}(result i32)"));
        let mut text = format!("(call ${name}");
        for arg in args {
            let _ = match arg {
                Arg::W(word) => write!(text, " (i32.const {})", word.cast_signed()),
                Arg::L(long) => write!(text, " (i64.const {})", long.cast_signed()),
            };
        }
        text + ")"
    }

    /// Keeps the answer of a call in the property `status` (4 bytes), and what was written at `OUT`
    /// and `OUT_LEN` in `out`.
    pub(super) fn report(&mut self, call: &str) -> String {
        let (status, status_len) = self.bytes(b"status");
        let (out, out_len) = self.bytes(b"out");
        format!(
            "(i32.store (i32.const 8) {call})
             (drop (call $env.proxy_set_property (i32.const {status}) (i32.const {status_len})
                (i32.const 8) (i32.const 4)))
             (drop (call $env.proxy_set_property (i32.const {out}) (i32.const {out_len})
                (i32.load (i32.const {OUT})) (i32.load (i32.const {OUT_LEN}))))"
        )
    }

    /// Code that logs a line: the text, a space, and the first parameter if it is a callback.
    pub(super) fn say(&mut self, text: &str) -> String {
        let (at, len) = self.bytes(text.as_bytes());
        format!("(drop (call $env.proxy_log (i32.const 2) (i32.const {at}) (i32.const {len})))")
    }

    /// The same with the callback's context, which must be below 10.
    pub(super) fn say_context(&mut self, text: &str) -> String {
        let (at, len) = self.bytes(format!("{text} ?").as_bytes());
        format!(
            "(i32.store8 (i32.const {}) (i32.add (i32.const 48) (local.get 0)))
             (drop (call $env.proxy_log (i32.const 2) (i32.const {at}) (i32.const {len})))",
            at + len - 1
        )
    }

    /// Code that logs a line: the text, then all parameters of a callback as bytes from `0`.
    pub(super) fn say_params(&mut self, text: &str, count: usize) -> String {
        let blank = "?".repeat(count);
        let (at, len) = self.bytes(format!("{text} {blank}").as_bytes());
        let digit = |param: usize| {
            let place = at + len - (count - param) as u32;
            format!("(i32.store8 (i32.const {place}) (i32.add (i32.const 48) (local.get {param})))")
        };
        let digits: String = (0..count).map(digit).collect();
        format!(
            "{digits} (drop (call $env.proxy_log (i32.const 2) (i32.const {at}) (i32.const {len})))"
        )
    }

    /// Code that logs what a call gave at `OUT` and `OUT_LEN`, after its status as a byte from `0`.
    pub(super) fn say_answer(&mut self, call: &str) -> String {
        let (at, len) = self.bytes(b"?");
        format!(
            "(i32.store8 (i32.const {at}) (i32.add (i32.const 48) {call}))
             (drop (call $env.proxy_log (i32.const 2) (i32.const {at}) (i32.const {len})))
             (drop (call $env.proxy_log (i32.const 2)
                (i32.load (i32.const {OUT})) (i32.load (i32.const {OUT_LEN}))))"
        )
    }

    /// Adds an exported function. `ty` is like `(param i32) (result i32)`.
    pub(super) fn export(&mut self, name: &str, ty: &str, body: &str) -> &mut Self {
        let _ = writeln!(self.functions, "(func ${name} (export \"{name}\") {ty} {body})");
        self
    }

    /// A callback with its usual type, returning `result`.
    pub(super) fn on(&mut self, name: &str, body: &str, result: u32) -> &mut Self {
        let name = format!("proxy_on_{name}");
        let (params, returns) = callback_type(&name);
        let params = format!("(param{})", " i32".repeat(params));
        if returns {
            self.export(
                &name,
                &format!("{params} (result i32)"),
                &format!("{body} (i32.const {result})"),
            )
        } else {
            self.export(&name, &params, body)
        }
    }

    /// The module, with memory and an allocator that never gives the same block twice.
    pub(super) fn text(&self) -> String {
        self.text_with(
            "(func $proxy_on_memory_allocate (export \"proxy_on_memory_allocate\")
                (param $n i32) (result i32) (local $at i32)
                (if (i32.eqz (local.get $n)) (then unreachable))
                (local.set $at (global.get $top))
                (global.set $top (i32.add (global.get $top) (local.get $n)))
                (local.get $at))",
        )
    }

    /// The module with these functions beside the callbacks.
    pub(super) fn text_with(&self, more: &str) -> String {
        let mut text = String::from("(module\n");
        for (name, ty) in &self.imports {
            let (module, function) = name.split_once('.').expect("module.function");
            let _ = writeln!(text, "(import \"{module}\" \"{function}\" (func ${name} {ty}))");
        }
        let data: String = self.data.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let _ = writeln!(text, "(memory (export \"memory\") 1)");
        let _ = writeln!(text, "(data (i32.const {DATA}) \"{data}\")");
        let _ = writeln!(text, "(global $top (mut i32) (i32.const 32768))");
        let _ = writeln!(text, "(func (export \"{}\"))", self.abi);
        text + &self.functions + more + ")"
    }
}

fn callback_type(name: &str) -> (usize, bool) {
    match name {
        "proxy_on_tick" => (1, false),
        "proxy_on_http_call_response" => (5, false),
        "proxy_on_grpc_receive_initial_metadata"
        | "proxy_on_grpc_receive"
        | "proxy_on_grpc_receive_trailing_metadata"
        | "proxy_on_grpc_close" => (3, false),
        "proxy_on_context_create" | "proxy_on_queue_ready" => (2, false),
        "proxy_on_vm_start" | "proxy_on_configure" => (2, true),
        "proxy_on_request_trailers" | "proxy_on_response_trailers" => (2, true),
        "proxy_on_done" => (1, true),
        "proxy_on_log" | "proxy_on_delete" => (1, false),
        _ => (3, true),
    }
}
