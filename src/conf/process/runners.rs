//! The section `ext-plugin`: APISIX's keys (external plugin reference §1) and ours.
//!
//! APISIX knows one runner, of `cmd` or `path_for_test`; `runners` has others by their names.

use super::super::settings::RunnerConfig;
use super::ringgate::size;
use super::units;
use crate::limits;
use crate::schema::{Fault, Object, Path, Reader};
use std::time::Duration;

/// More than any runner serves at a time.
const CONNECTIONS_MAX: i64 = 4096;

const QUEUE_MAX: i64 = 1024 * 1024;

/// What the kernel lets a socket's path be, less the NUL (`sockaddr_un`).
pub(super) const SOCKET_BYTES_MAX: usize = 107;

/// What users may call a runner: it stands in paths and in metrics.
const NAME_CHARS_MAX: usize = 32;

pub(super) fn read(mut object: Object<'_>) -> Vec<RunnerConfig> {
    let mut runners = Vec::new();
    let plain = runner(&mut object, "path_for_test", String::new());
    if !plain.cmd.is_empty() || plain.socket.is_some() {
        runners.push(plain);
    }
    if let Some(named) = object.get("runners").and_then(Reader::object) {
        for (name, reader) in named.members() {
            check_name(&reader, name);
            let Some(mut object) = reader.object() else { continue };
            let runner = runner(&mut object, "socket", name.to_owned());
            if runner.cmd.is_empty() && runner.socket.is_none() {
                let fault = Fault::new(format!("nobody can find runner `{name}`"));
                object.error(fault.hint("give `cmd` to have it started, `socket`, or both"));
            }
            object.finish();
            runners.push(runner);
        }
        named.allow_unknown();
    }
    object.finish();
    runners
}

fn runner(object: &mut Object<'_>, socket: &'static str, name: String) -> RunnerConfig {
    let at = object.at().clone();
    let word = |reader: Reader<'_>| reader.string(0..=usize::MAX).map(str::to_owned);
    RunnerConfig {
        at: at.clone(),
        name,
        cmd: object
            .get("cmd")
            .and_then(|reader| reader.list_of(1..=usize::MAX, word))
            .unwrap_or_default(),
        socket: object.get(socket).and_then(|reader| path(&reader)),
        connections: size(object, "connections", 1, CONNECTIONS_MAX)
            .unwrap_or(limits::RUNNER_CONNECTIONS),
        queue: size(object, "queue", 0, QUEUE_MAX).unwrap_or(limits::RUNNER_QUEUE),
        call_timeout: timeout(object, "call_timeout", &at, limits::RUNNER_CALL_MS, false),
        start_timeout: timeout(object, "start_timeout", &at, limits::RUNNER_START_MS, true),
    }
}

fn timeout(
    object: &mut Object<'_>,
    key: &'static str,
    at: &Path,
    default_ms: u64,
    zero: bool,
) -> Duration {
    let default = Duration::from_millis(default_ms);
    let most = Duration::from_millis(limits::RUNNER_CALL_MS);
    let time = units::time(object, key, zero).unwrap_or(default);
    if time > most {
        let fault = format!("{}: expected at most {} s", at.key(key), most.as_secs());
        let held = limits::HOLD_MS_MAX / 1000;
        object.error(Fault::new(fault).hint(format!("no plugin holds a request for {held} s")));
    }
    time
}

/// The socket's path. APISIX wants it without `unix:`, and users write it all the same.
fn path(reader: &Reader<'_>) -> Option<String> {
    let text = reader.string(1..=usize::MAX)?;
    let path = text.strip_prefix("unix:").unwrap_or(text);
    if path.len() > SOCKET_BYTES_MAX {
        reader.error(format!("a socket's path has at most {SOCKET_BYTES_MAX} bytes"));
    }
    Some(path.to_owned())
}

fn check_name(reader: &Reader<'_>, name: &str) {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.bytes().all(good) {
        let fault = Fault::new(format!("`{name}` can't be the name of a runner"));
        let hint = format!("up to {NAME_CHARS_MAX} letters, digits, `-` and `_`");
        reader.error_on_key(fault.hint(hint));
    }
}
