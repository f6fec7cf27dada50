//! A guest that makes any host call from any callback: its text, and the programs it runs.
//!
//! ```text
//! let mut program = Program::new();
//! program.on("request_headers").call("env.proxy_continue_stream", &[4]).say_answers();
//! settings.vm_config = program.text().into_bytes();       // of a plugin whose module is `text()`
//! ```
//!
//! The guest's log line is then `any 09 02000000`: the callback's number, and what was answered.
//! `any.wat` has the rest: the guest, its memory, and the encoding of programs.

use std::fmt::Write as _;

/// What a parameter of a host function means:
///
/// - `P` where bytes are that the host reads, `L` how many, always after their `P`
/// - `O` where the host writes four bytes, `T` eight
/// - `W` another word, `D` another eight bytes
pub(crate) type Params = &'static str;

/// Host functions of module `env`: their parameters and what they give.
pub(crate) const FUNCTIONS: &[(&str, Params, &str)] = &[
    ("proxy_log", "WPL", "i32"),
    ("proxy_get_log_level", "O", "i32"),
    ("proxy_get_current_time_nanoseconds", "T", "i32"),
    ("proxy_set_tick_period_milliseconds", "W", "i32"),
    ("proxy_get_configuration", "OO", "i32"),
    ("proxy_get_status", "OOO", "i32"),
    ("proxy_get_property", "PLOO", "i32"),
    ("proxy_set_property", "PLPL", "i32"),
    ("proxy_get_buffer_bytes", "WWWOO", "i32"),
    ("proxy_get_buffer_status", "WOO", "i32"),
    ("proxy_set_buffer_bytes", "WWWPL", "i32"),
    ("proxy_get_header_map_pairs", "WOO", "i32"),
    ("proxy_set_header_map_pairs", "WPL", "i32"),
    ("proxy_get_header_map_value", "WPLOO", "i32"),
    ("proxy_add_header_map_value", "WPLPL", "i32"),
    ("proxy_replace_header_map_value", "WPLPL", "i32"),
    ("proxy_remove_header_map_value", "WPL", "i32"),
    ("proxy_get_header_map_size", "WO", "i32"),
    ("proxy_continue_stream", "W", "i32"),
    ("proxy_close_stream", "W", "i32"),
    ("proxy_continue_request", "", "i32"),
    ("proxy_continue_response", "", "i32"),
    ("proxy_clear_route_cache", "", "i32"),
    ("proxy_send_local_response", "WPLPLPLW", "i32"),
    ("proxy_http_call", "PLPLPLPLWO", "i32"),
    ("proxy_grpc_call", "PLPLPLPLPLWO", "i32"),
    ("proxy_grpc_stream", "PLPLPLPLO", "i32"),
    ("proxy_grpc_send", "WPLW", "i32"),
    ("proxy_grpc_cancel", "W", "i32"),
    ("proxy_grpc_close", "W", "i32"),
    ("proxy_set_shared_data", "PLPLW", "i32"),
    ("proxy_get_shared_data", "PLOOO", "i32"),
    ("proxy_register_shared_queue", "PLO", "i32"),
    ("proxy_resolve_shared_queue", "PLPLO", "i32"),
    ("proxy_enqueue_shared_queue", "WPL", "i32"),
    ("proxy_dequeue_shared_queue", "WOO", "i32"),
    ("proxy_define_metric", "WPLO", "i32"),
    ("proxy_increment_metric", "WD", "i32"),
    ("proxy_record_metric", "WD", "i32"),
    ("proxy_get_metric", "WT", "i32"),
    ("proxy_set_effective_context", "W", "i32"),
    ("proxy_done", "", "i32"),
    ("proxy_call_foreign_function", "PLPLOO", "i32"),
    ("proxy_set_active_span_tag", "PLPL", "i32"),
    ("emscripten_notify_memory_growth", "W", ""),
    ("pthread_equal", "WW", "i32"),
    ("seed", "", "f64"),
    ("abort", "WWWW", ""),
];

/// Functions of WASI, under both names of its module.
pub(crate) const WASI: &[(&str, Params, &str)] = &[
    ("args_get", "WW", "i32"),
    ("args_sizes_get", "OO", "i32"),
    ("clock_res_get", "WT", "i32"),
    ("clock_time_get", "WDT", "i32"),
    ("environ_get", "WW", "i32"),
    ("environ_sizes_get", "OO", "i32"),
    ("fd_advise", "WDDW", "i32"),
    ("fd_allocate", "WDD", "i32"),
    ("fd_close", "W", "i32"),
    ("fd_datasync", "W", "i32"),
    ("fd_fdstat_get", "WW", "i32"),
    ("fd_fdstat_set_flags", "WW", "i32"),
    ("fd_fdstat_set_rights", "WDD", "i32"),
    ("fd_filestat_get", "WW", "i32"),
    ("fd_filestat_set_size", "WD", "i32"),
    ("fd_filestat_set_times", "WDDW", "i32"),
    ("fd_pread", "WWWDW", "i32"),
    ("fd_prestat_dir_name", "WWW", "i32"),
    ("fd_prestat_get", "WW", "i32"),
    ("fd_pwrite", "WWWDO", "i32"),
    ("fd_read", "WWWW", "i32"),
    ("fd_readdir", "WWWDW", "i32"),
    ("fd_renumber", "WW", "i32"),
    ("fd_seek", "WDWW", "i32"),
    ("fd_sync", "W", "i32"),
    ("fd_tell", "WT", "i32"),
    ("fd_write", "WWWO", "i32"),
    ("path_create_directory", "WWW", "i32"),
    ("path_filestat_get", "WWWWW", "i32"),
    ("path_filestat_set_times", "WWWWDDW", "i32"),
    ("path_link", "WWWWWWW", "i32"),
    ("path_open", "WWWWWDDWW", "i32"),
    ("path_readlink", "WWWWWW", "i32"),
    ("path_remove_directory", "WWW", "i32"),
    ("path_rename", "WWWWWW", "i32"),
    ("path_symlink", "WWWWW", "i32"),
    ("path_unlink_file", "WWW", "i32"),
    ("poll_oneoff", "WWWO", "i32"),
    ("proc_exit", "W", ""),
    ("proc_raise", "W", "i32"),
    ("random_get", "WW", "i32"),
    ("sched_yield", "", "i32"),
    ("sock_accept", "WWW", "i32"),
    ("sock_recv", "WWWWWW", "i32"),
    ("sock_send", "WWWWW", "i32"),
    ("sock_shutdown", "WW", "i32"),
];

/// The two names of WASI's module.
pub(crate) const WASI_MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

/// A callback of the guest: its place in this list is its number.
pub(crate) struct Callback {
    pub(crate) name: &'static str,
    export: &'static str,
    params: usize,
    /// What it returns if its sections do not say.
    returns: Option<u32>,
}

const fn callback(
    name: &'static str,
    export: &'static str,
    params: usize,
    returns: Option<u32>,
) -> Callback {
    Callback { name, export, params, returns }
}

/// All callbacks. One that roots and streams have in common is there twice, one name below the
/// other; an empty export is that of the line above.
pub(crate) const CALLBACKS: &[Callback] = &[
    callback("allocate", "", 0, None),
    callback("initialize", "_initialize", 0, None),
    callback("root_create", "proxy_on_context_create", 2, None),
    callback("stream_create", "", 2, None),
    callback("vm_start", "proxy_on_vm_start", 2, Some(1)),
    callback("configure", "proxy_on_configure", 2, Some(1)),
    callback("tick", "proxy_on_tick", 1, None),
    callback("queue_ready", "proxy_on_queue_ready", 2, None),
    callback("http_call_response", "proxy_on_http_call_response", 5, None),
    callback("grpc_initial_metadata", "proxy_on_grpc_receive_initial_metadata", 3, None),
    callback("grpc_receive", "proxy_on_grpc_receive", 3, None),
    callback("grpc_trailing_metadata", "proxy_on_grpc_receive_trailing_metadata", 3, None),
    callback("grpc_close", "proxy_on_grpc_close", 3, None),
    callback("foreign_function", "proxy_on_foreign_function", 3, None),
    callback("request_headers", "proxy_on_request_headers", 3, Some(0)),
    callback("request_body", "proxy_on_request_body", 3, Some(0)),
    callback("request_trailers", "proxy_on_request_trailers", 2, Some(0)),
    callback("response_headers", "proxy_on_response_headers", 3, Some(0)),
    callback("response_body", "proxy_on_response_body", 3, Some(0)),
    callback("response_trailers", "proxy_on_response_trailers", 2, Some(0)),
    callback("root_done", "proxy_on_done", 1, Some(1)),
    callback("done", "", 1, Some(1)),
    callback("root_log", "proxy_on_log", 1, None),
    callback("log", "", 1, None),
    callback("root_delete", "proxy_on_delete", 1, None),
    callback("delete", "", 1, None),
];

/// The guest's memory: 8 pages.
pub(crate) const MEMORY_END: u32 = 8 << 16;

/// Where programs may poke: from here to `FREE_END`.
pub(crate) const FREE: u32 = 0x100;
pub(crate) const FREE_END: u32 = 0x8000;

/// What the last call answered.
pub(crate) const ANSWER: u32 = 0x10;
const ARGS: u32 = 0x20;

/// All functions with their modules, in the order of the guest's table.
pub(crate) fn functions() -> impl Iterator<Item = (String, Params, &'static str)> {
    let of = |module: &'static str, list: &'static [(&'static str, Params, &'static str)]| {
        list.iter().map(move |(name, params, gives)| (format!("{module}.{name}"), *params, *gives))
    };
    of("env", FUNCTIONS).chain(of(WASI_MODULES[0], WASI)).chain(of(WASI_MODULES[1], WASI))
}

/// The parameters of a function, `module.name`.
pub(crate) fn params(name: &str) -> Params {
    let found = functions().find(|(known, ..)| known == name);
    found.unwrap_or_else(|| panic!("no function {name} in t/plugins/any.rs")).1
}

/// The number of a callback.
pub(crate) fn number(name: &str) -> u32 {
    let at = CALLBACKS.iter().position(|callback| callback.name == name);
    at.unwrap_or_else(|| panic!("no callback {name} in t/plugins/any.rs")) as u32
}

/// The module, as text.
pub(crate) fn text() -> String {
    let (mut imports, mut callers, mut elements) = (String::new(), String::new(), String::new());
    for (name, params, gives) in functions() {
        let (module, function) = name.split_once('.').expect("a module");
        let (mut types, mut args, mut at) = (String::new(), String::new(), ARGS);
        for param in params.chars() {
            let (ty, size) = if param == 'D' { ("i64", 8) } else { ("i32", 4) };
            let _ = write!(types, " {ty}");
            let _ = write!(args, " ({ty}.load (i32.const {at}))");
            at += size;
        }
        let result = if gives.is_empty() { String::new() } else { format!("(result {gives})") };
        let _ = writeln!(
            imports,
            "(import \"{module}\" \"{function}\" (func ${name} (param{types}) {result}))"
        );
        let call = format!("(call ${name}{args})");
        let caller = match gives {
            "i32" => format!("(i32.store (i32.const {ANSWER}) {call})"),
            "" => call,
            _ => format!("(drop {call})"),
        };
        let _ = writeln!(callers, "(func $call.{name} {caller})");
        let _ = write!(elements, " $call.{name}");
    }
    let _ = writeln!(callers, "(table funcref (elem{elements}))");
    include_str!("any.wat")
        .replace(";; IMPORTS", &imports)
        .replace(";; CALLERS", &callers)
        .replace(";; EXPORTS", &exports())
}

fn exports() -> String {
    let mut text = String::new();
    for (number, callback) in CALLBACKS.iter().enumerate() {
        if callback.export.is_empty() {
            continue;
        }
        let params = format!("(param{})", " i32".repeat(callback.params));
        let stream = CALLBACKS.get(number + 1).is_some_and(|next| next.export.is_empty());
        let number = match (stream, callback.params) {
            (false, _) => format!("(i32.const {number})"),
            // Created: the parent says what it is, and it is remembered.
            (true, 2) => format!(
                "(select (i32.const {number}) (i32.const {})
                    (call $create (local.get 0) (local.get 1)))",
                number + 1
            ),
            (true, _) => format!(
                "(select (i32.const {number}) (i32.const {}) (call $is_root (local.get 0)))",
                number + 1
            ),
        };
        let body = format!("(call $run {number} (i32.const {}))", callback.returns.unwrap_or(0));
        let (result, body) = match callback.returns {
            Some(_) => ("(result i32)", body),
            None => ("", format!("(drop {body})")),
        };
        let export = callback.export;
        let _ = writeln!(text, "(func (export \"{export}\") {params} {result} {body})");
    }
    text
}

/// What the guest does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    sections: Vec<Section>,
}

/// What it does in one callback, step by step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    callback: u32,
    words: Vec<u32>,
}

impl Program {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A new section for a callback, by its name in [`CALLBACKS`].
    pub(crate) fn on(&mut self, callback: &str) -> &mut Section {
        let section = Section { callback: number(callback), words: Vec::new() };
        self.sections.push(section);
        self.sections.last_mut().expect("it was just pushed")
    }

    /// A new section for every callback but the allocator.
    pub(crate) fn everywhere(&mut self) -> &mut Section {
        self.sections.push(Section { callback: u32::MAX, words: Vec::new() });
        self.sections.last_mut().expect("it was just pushed")
    }

    /// The program as the guest reads it.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for section in &self.sections {
            let head = [section.callback, section.words.len() as u32];
            for byte in head.iter().chain(&section.words).flat_map(|word| word.to_le_bytes()) {
                let _ = write!(text, "{byte:02x}");
            }
        }
        assert!(text.len() <= 0x8000 * 2, "a program of at most 32 KiB");
        text
    }
}

impl Section {
    fn step(&mut self, words: &[u32]) -> &mut Self {
        self.words.extend_from_slice(words);
        self
    }

    /// Calls a function, `module.name`, with these words; an `i64` takes two, the low one first.
    pub(crate) fn call(&mut self, name: &str, args: &[u32]) -> &mut Self {
        let number = functions().position(|(known, ..)| known == name);
        let number = number.unwrap_or_else(|| panic!("no function {name} in t/plugins/any.rs"));
        let wanted = params(name).chars().map(|p| if p == 'D' { 2 } else { 1 }).sum::<usize>();
        assert_eq!(args.len(), wanted, "words of {name}");
        self.args(args).step(&[1, number as u32])
    }

    fn args(&mut self, args: &[u32]) -> &mut Self {
        let bytes: Vec<u8> = args.iter().flat_map(|word| word.to_le_bytes()).collect();
        if bytes.is_empty() { self } else { self.poke(ARGS, &bytes) }
    }

    /// Puts bytes into the guest's memory.
    pub(crate) fn poke(&mut self, at: u32, bytes: &[u8]) -> &mut Self {
        self.step(&[2, at, bytes.len() as u32]);
        for chunk in bytes.chunks(4) {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            self.words.push(u32::from_le_bytes(word));
        }
        self
    }

    /// Copies memory.
    pub(crate) fn copy(&mut self, to: u32, from: u32, len: u32) -> &mut Self {
        self.step(&[3, to, from, len])
    }

    /// Logs bytes of memory.
    pub(crate) fn say(&mut self, at: u32, len: u32) -> &mut Self {
        self.step(&[4, at, len])
    }

    /// Logs the bytes whose address and length are at `at`: what a host function gave.
    pub(crate) fn say_at(&mut self, at: u32) -> &mut Self {
        self.step(&[5, at])
    }

    /// Logs what every call of this callback answered so far.
    pub(crate) fn say_answers(&mut self) -> &mut Self {
        self.step(&[6])
    }

    /// Lets the callback return this.
    pub(crate) fn value(&mut self, value: u32) -> &mut Self {
        self.step(&[7, value])
    }

    /// Traps.
    pub(crate) fn trap(&mut self) -> &mut Self {
        self.step(&[8])
    }

    /// Loops without end.
    pub(crate) fn forever(&mut self) -> &mut Self {
        self.step(&[9])
    }

    /// Grows the memory by so many pages.
    pub(crate) fn grow(&mut self, pages: u32) -> &mut Self {
        self.step(&[10, pages])
    }

    /// Calls itself without end.
    pub(crate) fn recurse(&mut self) -> &mut Self {
        self.step(&[11])
    }

    /// Does these steps only if the last answer was `answer`.
    pub(crate) fn when(&mut self, answer: u32, then: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        then(&mut inner);
        self.step(&[12, answer, inner.words.len() as u32]).step(&inner.words)
    }
}

/// Reads a line of the guest's: the callback's name and the bytes.
pub(crate) fn heard(line: &str) -> Option<(&'static str, Vec<u8>)> {
    let (_, said) = line.split_once("any ")?;
    let (callback, bytes) = said.split_once(' ')?;
    let callback = CALLBACKS.get(usize::from_str_radix(callback, 16).ok()?)?.name;
    let digits: Vec<u8> = bytes.chars().map_while(|c| c.to_digit(16)).map(|d| d as u8).collect();
    Some((callback, digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()))
}
