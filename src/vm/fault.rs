//! Why a call into a guest ended badly.

use std::fmt;
use wasmtime::{Trap, WasmBacktrace};

/// Frames kept of a backtrace; recursion without end has thousands.
const FRAMES_MAX: usize = 20;

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The guest trapped: `unreachable`, out of bounds, division by zero, stack overflow, ...
    Trap,
    /// The call ran longer than it may.
    Deadline,
    /// The guest gave up after more memory was refused to it.
    Memory,
    /// The guest called `proc_exit` with this code.
    Exit(i32),
    /// The host could not go on: no room for an instance, a missing import was called.
    Host,
}

/// A failed call, ready to be logged. The instance it happened in must not be called again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of failure.
    pub kind: FaultKind,
    /// One line: what happened.
    pub message: String,
    /// Names of the guest's functions, innermost first.
    pub backtrace: Vec<String>,
}

/// Returned by a host function as an error: the guest wants to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub i32);

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the guest exited with code {}", self.0)
    }
}

impl std::error::Error for Exit {}

impl Fault {
    /// Reads a wasmtime error. `memory_refused`: a growth was refused during the call.
    #[must_use]
    pub fn new(error: &wasmtime::Error, memory_refused: bool) -> Self {
        let kind = kind_of(error, memory_refused);
        let cause = error.root_cause().to_string();
        let message = match kind {
            FaultKind::Deadline => "ran longer than its deadline".to_owned(),
            FaultKind::Memory => format!("more memory was refused, then: {cause}"),
            FaultKind::Trap | FaultKind::Exit(_) | FaultKind::Host => cause,
        };
        Self { kind, message, backtrace: backtrace_of(error) }
    }

    /// A failure of the host's own.
    #[must_use]
    pub fn host(message: impl Into<String>) -> Self {
        Self { kind: FaultKind::Host, message: message.into(), backtrace: Vec::new() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (depth, name) in self.backtrace.iter().enumerate() {
            write!(f, "\n  {depth:>2}: {name}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

fn kind_of(error: &wasmtime::Error, memory_refused: bool) -> FaultKind {
    if let Some(Exit(code)) = error.downcast_ref::<Exit>() {
        return FaultKind::Exit(*code);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => FaultKind::Deadline,
        Some(_) if memory_refused => FaultKind::Memory,
        Some(_) => FaultKind::Trap,
        None => FaultKind::Host,
    }
}

/// The names as wasmtime prints them, which is demangled; its own lines read `  0: module!name`.
fn backtrace_of(error: &wasmtime::Error) -> Vec<String> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let printed = trace.to_string();
    let lines = printed.lines().skip(1).take(FRAMES_MAX);
    lines.zip(trace.frames()).map(|(line, frame)| function_name(line, frame)).collect()
}

fn function_name(line: &str, frame: &wasmtime::FrameInfo) -> String {
    let module = format!("{}!", frame.module().name().unwrap_or("<unknown>"));
    match line.split_once(&module) {
        Some((_, name)) => name.to_owned(),
        None => line.trim().to_owned(),
    }
}
