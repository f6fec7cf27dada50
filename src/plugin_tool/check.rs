//! `ringgate plugin check`: whether a module can run here, and what it is.

use super::engine;
use ringgate::proxy_wasm::{Host, Inspection, PluginSettings, Source, guess_sdk, inspect};
use ringgate::vm::{Anatomy, Module};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

const PAGE_KIB: u64 = 64;

/// All that is known of a module.
struct Report {
    file: String,
    bytes: usize,
    sdk: Option<&'static str>,
    anatomy: Anatomy,
    found: Inspection,
    compiled_in: Duration,
    machine_code: usize,
    started_in: Duration,
    /// Why it can't run here.
    problem: Option<String>,
}

/// Prints what a module is; tells whether it can run here.
///
/// # Errors
/// When the file can't be read or is no module at all.
pub(crate) fn check(file: &Path, as_json: bool) -> Result<bool, String> {
    let report = Report::of(file).map_err(|why| format!("{}: {why}", file.display()))?;
    if as_json {
        println!("{:#}", report.json());
    } else {
        print!("{}", report.text());
    }
    Ok(report.problem.is_none())
}

impl Report {
    fn of(file: &Path) -> Result<Self, String> {
        let engine = engine()?;
        let bytes = std::fs::read(file).map_err(|error| format!("can't be read: {error}"))?;
        let start = Instant::now();
        let module = engine.load_file(file).map_err(|error| error.to_string())?;
        let compiled_in = start.elapsed();
        // Precompiled code has lost its custom sections.
        let anatomy = Anatomy::of(&bytes).unwrap_or_default();
        let found = inspect(&module);
        let (started_in, refused) = match &found.problem {
            None => try_start(&Host::new(engine), file),
            Some(_) => (Duration::ZERO, None),
        };
        Ok(Self {
            file: file.display().to_string(),
            bytes: bytes.len(),
            sdk: guess_sdk(&module, &anatomy),
            problem: found.problem.as_ref().map(ToString::to_string).or(refused),
            anatomy,
            found,
            compiled_in,
            machine_code: Module::image_bytes(&module),
            started_in,
        })
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n", self.file);
        let mut line = |name: &str, value: String| text += &format!("  {name:<13} {value}\n");
        match &self.problem {
            None => line("runs here", "yes".to_owned()),
            Some(why) => line("runs here", format!("no: {why}")),
        }
        line("ABI", self.found.abi.unwrap_or("none").to_owned());
        let mut made_by = vec![self.sdk.unwrap_or("unknown").to_owned()];
        made_by.extend(self.anatomy.tools.iter().cloned());
        line("made by", made_by.join(", "));
        let anatomy = &self.anatomy;
        let names = if anatomy.function_names.is_empty() { "without" } else { "with" };
        line(
            "module",
            format!(
                "{} KiB, {} functions, {names} names for backtraces",
                self.bytes / 1024,
                anatomy.functions
            ),
        );
        line("memory", memory(&self.found));
        let code = self.machine_code / 1024;
        let ms = milliseconds(self.compiled_in);
        line("compiled in", format!("{ms:.1} ms, to {code} KiB"));
        if self.problem.is_none() {
            line("started in", format!("{:.1} ms", milliseconds(self.started_in)));
        }
        list(&mut line, "callbacks", &self.found.callbacks);
        list(&mut line, "other exports", &self.found.other_exports);
        list(&mut line, "imports", &self.found.imports);
        list(&mut line, "stubbed", &self.found.unknown_imports);
        text
    }

    fn json(&self) -> Value {
        let found = &self.found;
        json!({
            "file": self.file,
            "runs": self.problem.is_none(),
            "problem": self.problem,
            "abi": found.abi,
            "sdk": self.sdk,
            "languages": self.anatomy.languages,
            "tools": self.anatomy.tools,
            "module_bytes": self.bytes,
            "functions": self.anatomy.functions,
            "function_names": self.anatomy.function_names.len(),
            "memory_pages": found.memory_pages.map(|pages| pages.0),
            "memory_pages_max": found.memory_pages.and_then(|pages| pages.1),
            "compile_ms": milliseconds(self.compiled_in),
            "machine_code_bytes": self.machine_code,
            "start_ms": self.problem.is_none().then(|| milliseconds(self.started_in)),
            "callbacks": found.callbacks,
            "other_exports": found.other_exports,
            "imports": found.imports,
            "stubbed_imports": found.unknown_imports,
        })
    }
}

/// Starts the module once; how long that took and why it failed, if it did.
fn try_start(host: &Host, file: &Path) -> (Duration, Option<String>) {
    let settings = PluginSettings::new("plugin", 0, Source::File(file.to_owned()));
    let plugins = match host.load(vec![settings]) {
        Ok(plugins) => plugins,
        Err(errors) => return (Duration::ZERO, errors.first().map(|e| e.reason.to_string())),
    };
    let start = Instant::now();
    let started = plugins.try_start("plugin");
    (start.elapsed(), started.err().map(|error| error.reason.to_string()))
}

fn memory(found: &Inspection) -> String {
    let Some((pages, max)) = found.memory_pages else { return "none".to_owned() };
    let max = match max {
        Some(max) => format!("at most {} KiB", max * PAGE_KIB),
        None => "no maximum of its own".to_owned(),
    };
    format!("{} KiB at start, {max}", pages * PAGE_KIB)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Names one a line, the list's own name before the first.
fn list(line: &mut impl FnMut(&str, String), name: &str, entries: &[String]) {
    for (at, entry) in entries.iter().enumerate() {
        line(if at == 0 { name } else { "" }, entry.clone());
    }
}
