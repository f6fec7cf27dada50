//! What compilers' own runtimes import from `env`.

use super::super::guest::Guest;
use super::{Host, Outcome, Stop, answer, meet, open};
use wasmtime::Linker;

/// A message longer than this is cut.
const ABORT_BYTES_MAX: u32 = 1_024;

pub(super) fn register(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let no_growth_notice = |_: Host<'_>, _memory: u32| {};
    linker.func_wrap("env", "emscripten_notify_memory_growth", no_growth_notice)?;
    linker.func_wrap("env", "pthread_equal", |_: Host<'_>, a: u32, b: u32| u32::from(a == b))?;
    let tag = |host: Host<'_>, key, key_len, value, value_len| {
        answer(proxy_set_active_span_tag(host, key, key_len, value, value_len))
    };
    linker.func_wrap("env", "proxy_set_active_span_tag", tag)?;
    linker.func_wrap("env", "seed", |host: Host<'_>| {
        let _ = meet(host);
        fastrand::f64()
    })?;
    linker.func_wrap("env", "abort", abort)?;
    Ok(())
}

/// Old Istio plugins tag spans; there are none here.
fn proxy_set_active_span_tag(
    mut host: Host<'_>,
    key: u32,
    key_len: u32,
    value: u32,
    value_len: u32,
) -> Outcome {
    let (memory, _) = open(&mut host)?;
    memory.check(key, key_len)?;
    memory.check(value, value_len)?;
    Ok(())
}

/// AssemblyScript's `abort`: says where, then ends the call.
fn abort(mut host: Host<'_>, text: u32, file: u32, line: u32, column: u32) -> wasmtime::Result<()> {
    let said = match open(&mut host) {
        Ok((memory, _)) => [text, file].map(|at| utf16(&memory, at).unwrap_or_default()),
        Err(Stop::Answer(_)) => Default::default(),
        Err(Stop::Trap(error)) => return Err(error),
    };
    let [text, file] = said;
    let text = format!("abort: {text} at {file}:{line}:{column}");
    host.data_mut().say(log::Level::Error, text.as_bytes());
    Err(wasmtime::Trap::UnreachableCodeReached.into())
}

/// A string of AssemblyScript: UTF-16, its length in bytes in the word before it.
fn utf16(memory: &crate::vm::GuestMemory<'_>, at: u32) -> Option<String> {
    let len = memory.read_u32(at.checked_sub(4)?).ok()?.min(ABORT_BYTES_MAX);
    let bytes = memory.slice(at, len).ok()?;
    let units: Vec<u16> = bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    Some(String::from_utf16_lossy(&units))
}
