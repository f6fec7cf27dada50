//! As much of WASI as SDK runtimes need: output becomes log lines, there are no files, no network,
//! no arguments, no environment. Under both module names that toolchains use.

use super::super::guest::Guest;
use super::super::property::wall_clock_ns;
use super::{Host, Stop, meet, open};
use crate::vm::Exit;
use std::fs::File;
use std::io::Read;
use std::sync::{LazyLock, OnceLock};
use std::time::Instant;
use wasmtime::{FuncType, Linker, Val, ValType};

const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

const SUCCESS: u32 = 0;
const BADF: u32 = 8;
const NOTDIR: u32 = 20;
const FAULT: u32 = 21;
const INVAL: u32 = 28;
const IO: u32 = 29;
const NOENT: u32 = 44;
const NOSYS: u32 = 52;
const NOTSUP: u32 = 58;

const STDOUT: u32 = 1;
const STDERR: u32 = 2;

/// The right that the answer of `fd_fdstat_get` names.
const RIGHT_FD_WRITE: u64 = 64;

const RANDOM_BYTES_MAX: u32 = 64 << 10;
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Slices of one write that are looked at.
const SLICES_MAX: u32 = 1_024;

/// Functions that always give the same answer: their name, the types of their parameters (`i` 32
/// bits, `I` 64), the answer.
const FIXED: &[(&str, &str, u32)] = &[
    ("args_get", "ii", SUCCESS),
    ("environ_get", "ii", SUCCESS),
    ("fd_advise", "iIIi", SUCCESS),
    ("fd_close", "i", SUCCESS),
    ("fd_fdstat_set_flags", "ii", NOSYS),
    ("fd_filestat_get", "ii", BADF),
    ("fd_pread", "iiiIi", NOSYS),
    ("fd_prestat_dir_name", "iii", NOSYS),
    ("fd_prestat_get", "ii", BADF),
    ("fd_read", "iiii", NOSYS),
    ("fd_readdir", "iiiIi", NOTDIR),
    ("fd_seek", "iIii", SUCCESS),
    ("path_create_directory", "iii", NOTSUP),
    ("path_filestat_get", "iiiii", NOTSUP),
    ("path_filestat_set_times", "iiiiIIi", NOTSUP),
    ("path_link", "iiiiiii", NOTSUP),
    ("path_open", "iiiiiIIii", NOENT),
    ("path_readlink", "iiiiii", NOTSUP),
    ("path_remove_directory", "iii", NOTSUP),
    ("path_rename", "iiiiii", NOTSUP),
    ("path_symlink", "iiiii", NOTSUP),
    ("path_unlink_file", "iii", NOTSUP),
    ("proc_raise", "i", NOTSUP),
    ("sched_yield", "", SUCCESS),
    ("sock_accept", "iii", NOTSUP),
    ("sock_recv", "iiiiii", NOTSUP),
    ("sock_send", "iiiii", NOTSUP),
    ("sock_shutdown", "ii", NOTSUP),
];

/// Functions that succeed on standard output and error, where they have nothing to do, and know no
/// other files.
const STREAMS_ONLY: &[(&str, &str)] = &[
    ("fd_allocate", "iII"),
    ("fd_datasync", "i"),
    ("fd_fdstat_set_rights", "iII"),
    ("fd_filestat_set_size", "iI"),
    ("fd_filestat_set_times", "iIIi"),
    ("fd_sync", "i"),
];

pub(super) fn register(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    MODULES.into_iter().try_for_each(|module| {
        constants(linker, module)?;
        files(linker, module)?;
        system(linker, module)
    })
}

/// Functions whose answer depends on nothing but a file's number.
fn constants(linker: &mut Linker<Guest>, module: &str) -> wasmtime::Result<()> {
    for (name, params, errno) in FIXED {
        define(linker, module, name, params, move |_| *errno)?;
    }
    for (name, params) in STREAMS_ONLY {
        define(linker, module, name, params, |fd| if is_output(fd) { SUCCESS } else { BADF })?;
    }
    define(linker, module, "fd_renumber", "ii", |fd| if is_output(fd) { NOTSUP } else { BADF })
}

/// Standard output and error.
fn files(linker: &mut Linker<Guest>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap(module, "fd_write", |mut host: Host<'_>, fd, slices, count, out| {
        errno(fd_write(&mut host, fd, slices, count, out))
    })?;
    linker.func_wrap(
        module,
        "fd_pwrite",
        |mut host: Host<'_>, fd, slices, count, _offset: u64, out| {
            errno(fd_write(&mut host, fd, slices, count, out))
        },
    )?;
    linker.func_wrap(module, "fd_fdstat_get", |mut host: Host<'_>, fd, out| {
        errno(fd_fdstat_get(&mut host, fd, out))
    })?;
    linker.func_wrap(module, "fd_tell", |mut host: Host<'_>, fd, out| {
        errno(if is_output(fd) { write_u64(&mut host, out, 0) } else { Err(Errno(BADF)) })
    })?;
    Ok(())
}

/// Arguments, clocks, random numbers, and the end.
fn system(linker: &mut Linker<Guest>, module: &str) -> wasmtime::Result<()> {
    for name in ["args_sizes_get", "environ_sizes_get"] {
        linker.func_wrap(module, name, |mut host: Host<'_>, count, bytes| {
            errno(write_words(&mut host, &[(count, 0), (bytes, 0)]))
        })?;
    }
    linker.func_wrap(
        module,
        "poll_oneoff",
        |mut host: Host<'_>, _in: u32, _out: u32, _count: u32, events_at| {
            errno(write_words(&mut host, &[(events_at, 0)]))
        },
    )?;
    linker.func_wrap(module, "clock_time_get", |host: Host<'_>, id, _precision: u64, out| {
        errno(clock_time_get(&mut meet(host), id, out))
    })?;
    linker.func_wrap(module, "clock_res_get", |mut host: Host<'_>, _id: u32, out| {
        errno(write_u64(&mut host, out, 1))
    })?;
    linker.func_wrap(module, "random_get", |host: Host<'_>, out, len| {
        errno(random_get(&mut meet(host), out, len))
    })?;
    linker.func_wrap(module, "proc_exit", |_: Host<'_>, code: i32| {
        Err::<(), _>(wasmtime::Error::new(Exit(code)))
    })?;
    Ok(())
}

/// An answer other than success, or the end of the call.
struct Errno(u32);

type Answer = Result<(), Errno>;

impl From<Stop> for Errno {
    fn from(_: Stop) -> Self {
        Self(FAULT)
    }
}

impl From<crate::vm::OutOfBounds> for Errno {
    fn from(_: crate::vm::OutOfBounds) -> Self {
        Self(FAULT)
    }
}

fn errno(answer: Answer) -> u32 {
    answer.err().map_or(SUCCESS, |Errno(errno)| errno)
}

/// A function whose answer depends on nothing but its first parameter.
fn define(
    linker: &mut Linker<Guest>,
    module: &str,
    name: &str,
    params: &str,
    answer: impl Fn(u32) -> u32 + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    let params = params.chars().map(|c| if c == 'I' { ValType::I64 } else { ValType::I32 });
    let ty = FuncType::new(linker.engine(), params, [ValType::I32]);
    linker.func_new(module, name, ty, move |_, params, results| {
        let first = params.first().and_then(Val::i32).unwrap_or_default();
        results[0] = Val::I32(answer(first.cast_unsigned()).cast_signed());
        Ok(())
    })?;
    Ok(())
}

fn is_output(fd: u32) -> bool {
    fd == STDOUT || fd == STDERR
}

/// One log line for each call, whatever number of slices it has.
fn fd_write(host: &mut Host<'_>, fd: u32, slices: u32, count: u32, written_at: u32) -> Answer {
    if !is_output(fd) {
        return Err(Errno(BADF));
    }
    let (mut memory, guest) = open(host)?;
    memory.check(written_at, 4)?;
    let mut text = std::mem::take(&mut guest.scratch);
    text.clear();
    let gathered = gather(&memory, slices, count, &mut text);
    if gathered.is_ok() {
        let level = if fd == STDERR { log::Level::Error } else { log::Level::Info };
        guest.say(level, text.strip_suffix(b"\n").unwrap_or(&text));
    }
    let len = text.len() as u32;
    guest.scratch = text;
    gathered?;
    memory.write_u32(written_at, len)?;
    Ok(())
}

fn gather(
    memory: &crate::vm::GuestMemory<'_>,
    slices: u32,
    count: u32,
    text: &mut Vec<u8>,
) -> Answer {
    if count > SLICES_MAX {
        return Err(Errno(INVAL));
    }
    memory.check(slices, count * 8)?;
    for slice in (slices..).step_by(8).take(count as usize) {
        let (at, len) = (memory.read_u32(slice)?, memory.read_u32(slice + 4)?);
        let bytes = memory.slice(at, len)?;
        // Slices may overlap, so their sum can be far more than the memory.
        if text.len() + bytes.len() > WRITE_BYTES_MAX {
            return Err(Errno(INVAL));
        }
        text.extend_from_slice(bytes);
    }
    Ok(())
}

fn fd_fdstat_get(host: &mut Host<'_>, fd: u32, out: u32) -> Answer {
    if !is_output(fd) {
        return Err(Errno(BADF));
    }
    let mut stat = [0; 24];
    stat[8..16].copy_from_slice(&RIGHT_FD_WRITE.to_le_bytes());
    let (mut memory, _) = open(host)?;
    Ok(memory.write(out, &stat)?)
}

fn clock_time_get(host: &mut Host<'_>, id: u32, out: u32) -> Answer {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let time = match id {
        0 => wall_clock_ns(),
        1 => u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX),
        _ => return Err(Errno(NOTSUP)),
    };
    write_u64(host, out, time)
}

/// From the system: guests make keys and tokens of it.
fn random_get(host: &mut Host<'_>, out: u32, len: u32) -> Answer {
    static SOURCE: OnceLock<Option<File>> = OnceLock::new();
    if len > RANDOM_BYTES_MAX {
        return Err(Errno(INVAL));
    }
    let (mut memory, _) = open(host)?;
    let bytes = memory.slice_mut(out, len)?;
    let source = SOURCE.get_or_init(|| File::open("/dev/urandom").ok());
    let mut source = source.as_ref().ok_or(Errno(IO))?;
    source.read_exact(bytes).map_err(|_| Errno(IO))
}

fn write_u64(host: &mut Host<'_>, at: u32, value: u64) -> Answer {
    let (mut memory, _) = open(host)?;
    Ok(memory.write_u64(at, value)?)
}

fn write_words(host: &mut Host<'_>, words: &[(u32, u32)]) -> Answer {
    let (mut memory, _) = open(host)?;
    words.iter().try_for_each(|(at, word)| memory.write_u32(*at, *word)).map_err(Errno::from)
}
