//! Compiled code on disk: `<dir>/<hash>.cwasm`, the hash over the module's bytes and over all of
//! the engine that decides what code comes out.
//!
//! Trust: mapping such a file runs it as machine code of this process. So the directory and the
//! file must belong to the user we run as and be writable by nobody else; otherwise there is no
//! cache. Who can write there as us could replace the gateway itself.

use super::join::Join;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory that was found trustworthy.
#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    fingerprint: [u8; 32],
}

/// Names a module's bytes.
pub(super) type ContentHash = [u8; 32];

pub(super) fn content_hash(bytes: &[u8]) -> ContentHash {
    Sha256::digest(bytes).into()
}

impl Cache {
    /// Makes the directory if need be. With a directory that can't be trusted or made, warns and
    /// gives none: everything works, only slower at start.
    pub(super) fn open(dir: &Path, engine: &wasmtime::Engine, joins: &[Join]) -> Option<Self> {
        match trusted_dir(dir) {
            Ok(()) => {
                let fingerprint = engine_fingerprint(engine, joins);
                Some(Self { dir: dir.to_owned(), fingerprint })
            }
            Err(error) => {
                let dir = dir.display();
                log::warn!(target: "wasm", "no cache of compiled modules in {dir}: {error}");
                None
            }
        }
    }

    /// The compiled module, if a good one is there. A file that is broken or from elsewhere counts
    /// as not there.
    pub(super) fn get(
        &self,
        engine: &wasmtime::Engine,
        hash: &ContentHash,
    ) -> Option<wasmtime::Module> {
        let path = self.path(hash);
        let file = File::open(&path).ok()?;
        match map_trusted(engine, file) {
            Ok(module) => Some(module),
            Err(error) => {
                let path = path.display();
                log::warn!(target: "wasm", "{path} is unusable and will be replaced: {error:#}");
                None
            }
        }
    }

    /// Keeps compiled code. A failure costs only the next start some time.
    pub(super) fn put(&self, hash: &ContentHash, code: &[u8]) {
        let path = self.path(hash);
        if let Err(error) = write_whole(&path, code) {
            let path = path.display();
            log::warn!(target: "wasm", "compiled code not kept in {path}: {error}");
        }
    }

    /// Lets another process compile a module and keeps what it made. `None` if that did not work,
    /// whatever the reason: compiling here will tell.
    pub(super) fn compile_with(
        &self,
        program: &Path,
        hash: &ContentHash,
        bytes: &[u8],
    ) -> Option<()> {
        let made = self.path(hash);
        let source = made.with_extension(format!("{}.wasm", std::process::id()));
        let result = source.with_extension("made");
        let code = write_whole(&source, bytes).and_then(|()| {
            let status = Command::new(program)
                .args(["plugin", "build"])
                .arg(&source)
                .arg("-o")
                .arg(&result)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()?;
            if status.success() { std::fs::read(&result) } else { Err(io::Error::other("failed")) }
        });
        for leftover in [&source, &result] {
            // Not there if something failed before.
            let _ = std::fs::remove_file(leftover);
        }
        self.put(hash, &code.ok()?);
        Some(())
    }

    fn path(&self, hash: &ContentHash) -> PathBuf {
        let mut both = Sha256::new();
        both.update(hash);
        both.update(self.fingerprint);
        let mut name = String::with_capacity(64 + 6);
        for byte in both.finalize() {
            let _ = write!(name, "{byte:02x}");
        }
        name.push_str(".cwasm");
        self.dir.join(name)
    }
}

/// Maps a file of machine code after checking that only we may have written it.
pub(super) fn map_trusted(
    engine: &wasmtime::Engine,
    file: File,
) -> wasmtime::Result<wasmtime::Module> {
    ours_alone(&file.metadata()?)?;
    // SAFETY: the open file belongs to us or to root and is writable by nobody else (checked on
    // this very handle), so its content is what wasmtime wrote; we never change a file in place,
    // only rename a new one over it, which leaves this mapping alone.
    unsafe { wasmtime::Module::deserialize_open_file(engine, file) }
}

fn trusted_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let found = std::fs::metadata(dir)?;
    if !found.is_dir() {
        return Err(io::Error::other("not a directory"));
    }
    ours_alone(&found)
}

fn ours_alone(found: &Metadata) -> io::Result<()> {
    let us = rustix::process::geteuid().as_raw();
    if found.uid() != us && found.uid() != 0 {
        let owner = found.uid();
        return Err(io::Error::other(format!("it belongs to user {owner}, we are {us}")));
    }
    if found.mode() & 0o022 != 0 {
        let mode = found.mode() & 0o777;
        return Err(io::Error::other(format!("others may write to it (mode {mode:03o})")));
    }
    Ok(())
}

/// All or nothing: a reader sees no file or a whole one.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let aside = path.with_extension(format!("{}-{serial}.tmp", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&aside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&aside);
    }
    written
}

fn engine_fingerprint(engine: &wasmtime::Engine, joins: &[Join]) -> [u8; 32] {
    struct Collect(Sha256);
    impl Hasher for Collect {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut collect = Collect(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut collect);
    collect.write(super::state::VERSION);
    collect.write(super::join::VERSION);
    for join in joins {
        (join.name, join.calls).hash(&mut collect);
    }
    collect.0.finalize().into()
}
