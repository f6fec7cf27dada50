//! From bytes to a compiled module.

use super::cache::{Cache, ContentHash, content_hash, map_trusted};
use super::engine::{Engine, EngineSettings};
use super::join::{Join, with_joined};
use super::sections::export_with_our_name;
use super::state::with_state_exported;
use super::ticker::Ticker;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Why a module could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// No engine can be set up on this host.
    Engine(String),
    /// The file can't be read.
    Read(String),
    /// The bytes are neither a wasm module nor its text form.
    NotWasm(String),
    /// A module, but not a valid one, or one that uses what the engine does not have.
    Invalid(String),
    /// Precompiled code that this engine can't run or may not trust.
    Precompiled(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(why) => write!(f, "no WebAssembly engine on this host: {why}"),
            Self::Read(why) => write!(f, "can't be read: {why}"),
            Self::NotWasm(why) => write!(f, "not a WebAssembly module: {why}"),
            Self::Invalid(why) => write!(f, "not a valid WebAssembly module: {why}"),
            Self::Precompiled(why) => write!(f, "precompiled code is unusable here: {why}"),
        }
    }
}

impl std::error::Error for LoadError {}

/// A compiled module; clones are the same one. While one is alive, the engine's epochs advance.
#[derive(Clone)]
pub struct Module(Arc<Compiled>);

struct Compiled {
    module: wasmtime::Module,
    hash: ContentHash,
    engine: Engine,
    _ticker: Arc<Ticker>,
}

/// The modules in use, by content: the same bytes are compiled once.
#[derive(Default)]
pub(super) struct Modules(Mutex<HashMap<ContentHash, Weak<Compiled>>>);

impl Module {
    /// The module itself, to link and to look into.
    #[must_use]
    pub fn wasmtime(&self) -> &wasmtime::Module {
        &self.0.module
    }

    /// The engine it was compiled for.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Bytes of machine code and read-only data.
    #[must_use]
    pub fn image_bytes(&self) -> usize {
        let image = self.0.module.image_range();
        image.end.addr() - image.start.addr()
    }

    /// SHA-256 of the bytes it was made from.
    #[must_use]
    pub fn hash(&self) -> &[u8; 32] {
        &self.0.hash
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("name", &self.0.module.name()).finish_non_exhaustive()
    }
}

impl Engine {
    /// A module from `.wasm` or `.wat` bytes: the one in use or in the cache, else compiled.
    ///
    /// # Errors
    /// When the bytes are no valid module.
    pub fn load(&self, bytes: &[u8]) -> Result<Module, LoadError> {
        self.once(bytes, |hash| match self.cache() {
            Some(cache) => cached(self, cache, hash, bytes),
            None => compile(self, bytes),
        })
    }

    /// The same from a file, which may also be `.cwasm`: what [`precompile`] made.
    ///
    /// # Errors
    /// When the file can't be read, is no valid module, or is precompiled code that others could
    /// have written or that was made for another engine.
    pub fn load_file(&self, path: &Path) -> Result<Module, LoadError> {
        let read = |error: std::io::Error| LoadError::Read(error.to_string());
        let bytes = std::fs::read(path).map_err(read)?;
        if wasmtime::Engine::detect_precompiled(&bytes).is_none() {
            return self.load(&bytes);
        }
        let file = File::open(path).map_err(read)?;
        self.once(&bytes, |_| {
            map_trusted(self.wasmtime(), file)
                .map_err(|error| LoadError::Precompiled(format!("{error:#}")))
        })
    }

    /// The module of these bytes that is in use, or a new one.
    fn once(
        &self,
        bytes: &[u8],
        make: impl FnOnce(&ContentHash) -> Result<wasmtime::Module, LoadError>,
    ) -> Result<Module, LoadError> {
        let hash = content_hash(bytes);
        let mut modules = self.modules().0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = modules.get(&hash).and_then(Weak::upgrade) {
            return Ok(Module(known));
        }
        let (engine, _ticker) = (self.clone(), self.ticker());
        let compiled = Arc::new(Compiled { module: make(&hash)?, hash, engine, _ticker });
        modules.retain(|_, module| module.strong_count() > 0);
        modules.insert(hash, Arc::downgrade(&compiled));
        Ok(Module(compiled))
    }
}

/// From the cache on disk, or compiled and put there.
fn cached(
    engine: &Engine,
    cache: &Cache,
    hash: &ContentHash,
    bytes: &[u8],
) -> Result<wasmtime::Module, LoadError> {
    if let Some(module) = cache.get(engine.wasmtime(), hash) {
        return Ok(module);
    }
    let elsewhere = engine.compiler().and_then(|program| cache.compile_with(program, hash, bytes));
    if let Some(module) = elsewhere.and_then(|()| cache.get(engine.wasmtime(), hash)) {
        return Ok(module);
    }
    let module = compile(engine, bytes)?;
    match module.serialize() {
        Ok(code) => cache.put(hash, &code),
        Err(error) => log::warn!(target: "wasm", "compiled code not kept: {error:#}"),
    }
    Ok(module)
}

/// Compiles `.wasm` or `.wat` bytes to what [`Engine::load_file`] takes on hosts like this one.
/// `joins` as in [`EngineSettings::joins`].
///
/// # Errors
/// When the bytes are no valid module.
pub fn precompile(bytes: &[u8], joins: &'static [Join]) -> Result<Vec<u8>, LoadError> {
    let engine = Engine::new(&EngineSettings { joins, ..EngineSettings::default() })?;
    let bytes = rewritten(&engine, bytes)?;
    engine.wasmtime().precompile_module(&bytes).map_err(|error| invalid(&error))
}

/// The binary form of a valid module, with what the host wants to have in it.
fn rewritten<'a>(engine: &Engine, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, LoadError> {
    let bytes = binary(bytes)?;
    // As it came: nothing that is added may make it valid, or be there already.
    wasmtime::Module::validate(engine.wasmtime(), &bytes).map_err(|error| invalid(&error))?;
    if let Some(name) = export_with_our_name(&bytes) {
        let why = format!("its export `{name}` has a name that is kept for the host");
        return Err(LoadError::Invalid(why));
    }
    Ok(with_joined(with_state_exported(bytes), engine.joins()))
}

/// The binary form; text is translated.
pub(super) fn binary(bytes: &[u8]) -> Result<Cow<'_, [u8]>, LoadError> {
    if bytes.starts_with(b"\0asm") {
        return Ok(Cow::Borrowed(bytes));
    }
    if wasmtime::Engine::detect_precompiled(bytes).is_some() {
        let why = "only files may hold it, so that their owner can be checked";
        return Err(LoadError::Precompiled(why.to_owned()));
    }
    wat::parse_bytes(bytes).map_err(|error| LoadError::NotWasm(first_line(&error.to_string())))
}

fn compile(engine: &Engine, bytes: &[u8]) -> Result<wasmtime::Module, LoadError> {
    let bytes = rewritten(engine, bytes)?;
    wasmtime::Module::from_binary(engine.wasmtime(), &bytes).map_err(|error| invalid(&error))
}

fn invalid(error: &wasmtime::Error) -> LoadError {
    LoadError::Invalid(format!("{error:#}"))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    const TEXT: &str = r#"(module (func (export "f")))"#;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let name = format!("ringgate-vm-{name}-{}", std::process::id());
            let dir = std::env::temp_dir().join(name);
            let _ = std::fs::remove_dir_all(&dir);
            Self(dir)
        }

        fn engine(&self) -> Engine {
            let cache_dir = Some(self.0.clone());
            Engine::new(&EngineSettings {
                cache_dir,
                instances_max: 2,
                ..EngineSettings::default()
            })
            .expect("engine")
        }

        fn files(&self) -> Vec<PathBuf> {
            let entries = std::fs::read_dir(&self.0).expect("cache dir");
            entries.map(|entry| entry.expect("entry").path()).collect()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn exports(module: &Module) -> Vec<String> {
        module.wasmtime().exports().map(|export| export.name().to_owned()).collect()
    }

    #[test]
    fn text_and_binary_load_and_others_say_why_not() {
        let engine = Engine::new(&EngineSettings { instances_max: 2, ..EngineSettings::default() })
            .expect("engine");
        let module = engine.load(TEXT.as_bytes()).expect("text");
        assert_eq!(exports(&module), ["f"]);
        let again = engine.load(TEXT.as_bytes()).expect("text");
        assert!(Arc::ptr_eq(&module.0, &again.0), "the same bytes are one module");
        let bytes = wat::parse_str(TEXT).expect("valid");
        assert_eq!(exports(&engine.load(&bytes).expect("binary")), ["f"]);
        for junk in [&b"junk"[..], b"", b"\x7fELF", b"(module (oops))"] {
            assert!(matches!(engine.load(junk), Err(LoadError::NotWasm(_))), "{junk:?}");
        }
        assert!(matches!(engine.load(&bytes[..9]), Err(LoadError::Invalid(_))));
        let missing = engine.load_file(Path::new("/nowhere/x.wasm"));
        assert!(matches!(missing, Err(LoadError::Read(_))));
    }

    /// Whatever is called like our additions would be taken for them.
    #[test]
    fn our_names_are_refused() {
        let engine = Engine::new(&EngineSettings { instances_max: 2, ..EngineSettings::default() })
            .expect("engine");
        for name in ["ringgate:open", "ringgate:step:2", "ringgate:state", "ringgate:"] {
            let text = format!(r#"(module (memory (export "m") 1) (memory (export "{name}") 1))"#);
            let refused = engine.load(text.as_bytes()).expect_err("refused").to_string();
            let why = format!("its export `{name}` has a name that is kept for the host");
            assert!(refused.ends_with(&why), "{refused}");
            assert!(precompile(text.as_bytes(), &[]).is_err());
        }
        engine.load(br#"(module (memory (export "ringgate") 1))"#).expect("another name");
    }

    /// The global that joined calls add is what this one lacks.
    #[test]
    fn additions_make_nothing_valid() {
        const JOINS: &[Join] = &[Join { name: "ringgate:both", calls: &["a", "b"] }];
        let settings =
            EngineSettings { instances_max: 2, joins: JOINS, ..EngineSettings::default() };
        let engine = Engine::new(&settings).expect("engine");
        let module = |global| {
            let text = r#"(module (global (mut i32) (i32.const 0)) (func (export "a") (param i32))
                (func (export "b") (param i32) (global.set GLOBAL (local.get 0))))"#;
            wat::parse_str(text.replace("GLOBAL", global)).expect("a module")
        };
        assert_eq!(exports(&engine.load(&module("0")).expect("valid")).len(), 4);
        let refused = engine.load(&module("1"));
        assert!(matches!(refused, Err(LoadError::Invalid(_))), "{refused:?}");
    }

    #[test]
    fn the_cache_is_used_and_repaired() {
        let dir = Dir::new("cache");
        let engine = dir.engine();
        engine.load(TEXT.as_bytes()).expect("compiled");
        let files = dir.files();
        assert_eq!(files.len(), 1);
        let good = std::fs::read(&files[0]).expect("code");
        assert_eq!(exports(&engine.load(TEXT.as_bytes()).expect("from the cache")), ["f"]);
        for bad in [&good[..good.len() / 2], b"junk", b""] {
            // A new file over the old name, as nobody may change a mapped one in place.
            std::fs::remove_file(&files[0]).expect("removed");
            std::fs::write(&files[0], bad).expect("written");
            assert_eq!(exports(&engine.load(TEXT.as_bytes()).expect("recompiled")), ["f"]);
            assert_eq!(std::fs::read(&files[0]).expect("repaired").len(), good.len());
        }
        assert_eq!(dir.files().len(), 1, "no temporary files stay");
    }

    #[test]
    fn code_that_others_may_write_is_not_mapped() {
        let dir = Dir::new("trust");
        std::fs::create_dir_all(&dir.0).expect("dir");
        std::fs::set_permissions(&dir.0, PermissionsExt::from_mode(0o777)).expect("mode");
        dir.engine().load(TEXT.as_bytes()).expect("compiled without a cache");
        assert_eq!(dir.files().len(), 0);

        let file = dir.0.join("p.cwasm");
        std::fs::write(&file, precompile(TEXT.as_bytes(), &[]).expect("code")).expect("written");
        let loaded = dir.engine().load_file(&file).expect("ours");
        assert_eq!(exports(&loaded), ["f"]);
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).expect("mode");
        let refused = dir.engine().load_file(&file);
        assert!(matches!(refused, Err(LoadError::Precompiled(_))), "{refused:?}");
    }
}
