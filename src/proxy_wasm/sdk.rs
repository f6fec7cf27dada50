//! Which SDK a plugin was most likely built with, by the traces SDKs and toolchains leave.

use crate::vm::{Anatomy, Module};

/// What gives an SDK away, in order: the first that fits is it.
const TRACES: &[(&str, Fits)] = &[
    ("Rust SDK (proxy-wasm)", |t| t.function("proxy_wasm") && !t.function("github.com/")),
    ("Go SDK, TinyGo", |t| t.tool("TinyGo") || t.go_sdk() && t.export("asyncify_start_unwind")),
    ("Go SDK, TinyGo", |t| t.go_sdk() && t.function("runtime.alloc") && !t.language("Go")),
    ("Go SDK", |t| t.go_sdk() || t.language("Go")),
    ("AssemblyScript SDK", |t| t.export("__rtti_base") || t.import("env.abort")),
    ("C++ SDK", |t| t.function("ContextBase") || t.function("RegisterContextFactory")),
    ("C++ SDK, Emscripten", |t| t.import("env.emscripten_notify_memory_growth")),
    ("Zig", |t| t.language("Zig") || t.tool("zig") || t.function("builtin.zig")),
    ("Rust, no SDK that is known", |t| t.tool("rustc")),
    ("C++, no SDK that is known", |t| t.language("C_plus_plus")),
    ("C, no SDK", |t| t.language("C")),
];

type Fits = fn(&Traces<'_>) -> bool;

struct Traces<'a> {
    module: &'a wasmtime::Module,
    anatomy: &'a Anatomy,
}

/// The SDK's name, if anything tells. A guess: stripped modules of different SDKs look alike.
#[must_use]
pub fn guess_sdk(module: &Module, anatomy: &Anatomy) -> Option<&'static str> {
    let traces = Traces { module: module.wasmtime(), anatomy };
    TRACES.iter().find(|(_, fits)| fits(&traces)).map(|(name, _)| *name)
}

impl Traces<'_> {
    fn export(&self, name: &str) -> bool {
        self.module.get_export(name).is_some()
    }

    fn import(&self, wanted: &str) -> bool {
        let mut imports = self.module.imports();
        imports.any(|import| wanted == format!("{}.{}", import.module(), import.name()))
    }

    fn function(&self, part: &str) -> bool {
        self.anatomy.function_names.iter().any(|name| name.contains(part))
    }

    fn tool(&self, part: &str) -> bool {
        self.anatomy.tools.iter().any(|tool| tool.contains(part))
    }

    fn language(&self, start: &str) -> bool {
        self.anatomy.languages.iter().any(|language| language.starts_with(start))
    }

    fn go_sdk(&self) -> bool {
        self.function("proxy-wasm-go-sdk")
    }
}
