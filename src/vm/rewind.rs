//! Setting an instance back to what it was.
//!
//! Of a memory only the pages that were written since it was mapped are copied, which the kernel
//! tells (`PAGEMAP_SCAN`, Linux 6.7). Every page that it does not tell of is as it was mapped, so
//! one that is told of later, and is not among the copies, is given back to be as it was mapped.
//!
//! ```text
//! keep    written pages ──► copies          globals ──► values
//! rewind  written pages ◄── copies, or given back, then copied too    globals ◄── values
//! ```

use super::Module;
use super::state::{MARK, global_name};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};
use rustix::mm::{Advice, madvise};
use std::ffi::c_void;
use std::fs::File;
use std::ops::Range;
use std::sync::OnceLock;
use wasmtime::{AsContextMut, Global, Instance, Memory, ModuleExport, Val};

/// Runs of written pages that are looked at. More, and an instance is not set back: a new one is
/// as cheap then.
const RUNS_MAX: usize = 64;

/// Pages that are copied, of one instance: beyond them a new one is as cheap.
const COPIED_BYTES_MAX: usize = 2 << 20;

/// Where a module has all of its instances' state.
pub struct State {
    memory: ModuleExport,
    globals: Vec<ModuleExport>,
}

/// What an instance was.
#[derive(Debug)]
pub struct Kept {
    memory: Memory,
    bytes_len: usize,
    /// The pages that are copied, ascending, and their content in the same order.
    pages: Vec<usize>,
    content: Vec<u8>,
    globals: Vec<(Global, Val)>,
}

impl Module {
    /// Where its instances' state is, if an instance of it can be set back.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        let module = self.wasmtime();
        module.get_export(MARK)?.memory()?;
        let memory = module.get_export_index(MARK)?;
        let names = (0..).map(global_name);
        let globals = names.map_while(|name| module.get_export_index(&name)).collect();
        Some(State { memory, globals })
    }
}

impl State {
    /// Copies what an instance is now. `None` where the kernel does not tell what was written, or
    /// that is too much. The instance must be one of this state's module.
    pub fn keep(&self, mut store: impl AsContextMut, instance: Instance) -> Option<Kept> {
        let memory = instance.get_module_export(&mut store, &self.memory)?.into_memory()?;
        let mut globals = Vec::with_capacity(self.globals.len());
        for export in &self.globals {
            let global = instance.get_module_export(&mut store, export)?.into_global()?;
            let value = global.get(&mut store);
            globals.push((global, value));
        }
        let bytes = memory.data(&store);
        let mut kept = Kept {
            memory,
            bytes_len: bytes.len(),
            pages: Vec::new(),
            content: Vec::new(),
            globals,
        };
        let written = Written::of(bytes)?;
        kept.pages.extend(written.pages());
        let page_bytes = page_bytes();
        if kept.pages.len() * page_bytes > COPIED_BYTES_MAX {
            return None;
        }
        kept.content.reserve_exact(kept.pages.len() * page_bytes);
        for page in &kept.pages {
            kept.content.extend_from_slice(bytes.get(page * page_bytes..(page + 1) * page_bytes)?);
        }
        Some(kept)
    }
}

impl Kept {
    /// Makes the instance what it was when this was kept. If that is not possible, it must not be
    /// used any more.
    #[must_use]
    pub fn rewind(&mut self, mut store: impl AsContextMut) -> bool {
        let bytes = self.memory.data_mut(&mut store);
        if bytes.len() != self.bytes_len {
            return false;
        }
        let Some(written) = Written::of(bytes) else { return false };
        let page_bytes = page_bytes();
        let mut known = 0;
        for page in written.pages() {
            while self.pages.get(known).is_some_and(|known| *known < page) {
                known += 1;
            }
            let at = page * page_bytes..(page + 1) * page_bytes;
            let Some(bytes) = bytes.get_mut(at) else { return false };
            if self.pages.get(known) != Some(&page) {
                if !give_back(bytes) {
                    return false;
                }
                self.learn(known, page, bytes);
                continue;
            }
            bytes.copy_from_slice(&self.content[known * page_bytes..(known + 1) * page_bytes]);
        }
        self.globals.iter().all(|(global, value)| global.set(&mut store, *value).is_ok())
            && self.content.len() <= COPIED_BYTES_MAX
    }

    /// Copies a page that is written by one life after the other: giving it back costs more.
    #[cold]
    fn learn(&mut self, at: usize, page: usize, bytes: &[u8]) {
        self.pages.insert(at, page);
        let at = at * bytes.len();
        self.content.splice(at..at, bytes.iter().copied());
    }
}

/// Makes a page what it was mapped as: a part of the module's data, or zeros.
#[cold]
fn give_back(page: &mut [u8]) -> bool {
    // SAFETY: the page is a whole one of a guest's memory, which wasmtime has mapped privately, and
    // nobody else has a reference to it. Its content becomes that of the mapping, any of which is
    // good for bytes; where and how it is mapped does not change.
    unsafe { madvise(page.as_mut_ptr().cast(), page.len(), Advice::LinuxDontNeed).is_ok() }
}

fn page_bytes() -> usize {
    rustix::param::page_size()
}

/// Runs of pages that were written.
struct Written {
    runs: [Run; RUNS_MAX],
    len: usize,
    start: usize,
}

/// As the kernel has it (`struct page_region`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Run {
    start: u64,
    end: u64,
    categories: u64,
}

impl Written {
    /// Asks the kernel which pages of a memory were written.
    fn of(bytes: &[u8]) -> Option<Self> {
        static PAGEMAP: OnceLock<Option<File>> = OnceLock::new();
        let pagemap = PAGEMAP.get_or_init(|| File::open("/proc/self/pagemap").ok()).as_ref()?;
        let start = bytes.as_ptr().addr();
        let mut written = Self { runs: [Run::default(); RUNS_MAX], len: 0, start };
        let scan = Scan::new(bytes, &mut written.runs);
        // SAFETY: `Scan` is what this call reads and writes, and what it points to lives until the
        // call has returned. Nothing is written but the runs.
        let (len, walked_to) = unsafe { ioctl(pagemap, scan).ok()? };
        written.len = len;
        // With too many runs it stops early.
        (walked_to as usize == start + bytes.len()).then_some(written)
    }

    /// The numbers of all pages in them, ascending.
    fn pages(&self) -> impl Iterator<Item = usize> {
        let page = |at: u64| (at as usize - self.start) / page_bytes();
        let range = move |run: &Run| -> Range<usize> { page(run.start)..page(run.end) };
        self.runs[..self.len].iter().flat_map(range)
    }
}

/// `PAGEMAP_SCAN` (`struct pm_scan_arg`).
#[repr(C)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    runs: u64,
    runs_len: u64,
    pages_max: u64,
    inverted: u64,
    all_of: u64,
    any_of: u64,
    returned: u64,
}

impl Scan {
    const WRITTEN: u64 = 1 << 1;
    const FILE: u64 = 1 << 2;
    const PRESENT: u64 = 1 << 3;
    const SWAPPED: u64 = 1 << 4;
    const ZERO: u64 = 1 << 5;

    fn new(bytes: &[u8], runs: &mut [Run]) -> Self {
        let start = bytes.as_ptr().addr() as u64;
        Self {
            size: size_of::<Self>() as u64,
            flags: 0,
            start,
            end: start + bytes.len() as u64,
            walk_end: 0,
            runs: runs.as_mut_ptr().expose_provenance() as u64,
            runs_len: runs.len() as u64,
            pages_max: 0,
            // Written, and neither the file's page nor the one of zeros; in memory or swapped out.
            inverted: Self::FILE | Self::ZERO,
            all_of: Self::WRITTEN | Self::FILE | Self::ZERO,
            any_of: Self::PRESENT | Self::SWAPPED,
            returned: 0,
        }
    }
}

// SAFETY: the number is that of `PAGEMAP_SCAN`, whose argument is this structure (fs.h of Linux);
// it is written to, and the result is the number of runs.
unsafe impl Ioctl for Scan {
    type Output = (usize, u64);

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        rustix::ioctl::opcode::read_write::<Self>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut *self).cast()
    }

    unsafe fn output_from_ptr(
        out: IoctlOutput,
        scan: *mut c_void,
    ) -> rustix::io::Result<Self::Output> {
        // SAFETY: the pointer is the one that `as_ptr` gave.
        let scan = unsafe { &*scan.cast::<Self>() };
        let runs = usize::try_from(out).map_err(|_| rustix::io::Errno::INVAL)?;
        Ok((runs.min(RUNS_MAX), scan.walk_end))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Engine, EngineSettings, deadline_ticks};
    use super::*;

    /// An instance of a guest with two pages of 64 KiB, some data and a global.
    fn guest(more: &str) -> (Module, wasmtime::Store<()>, Instance) {
        let settings = EngineSettings { instances_max: 2, ..EngineSettings::default() };
        let engine = Engine::new(&settings).expect("engine");
        let text = format!(
            r#"(module (memory (export "memory") 2) (data (i32.const 8192) "data of the module")
            (global $g (mut i64) (i64.const 5))
            (func (export "grow") (drop (memory.grow (i32.const 1))))
            (func (export "next") (result i64) (global.set $g (i64.add (global.get $g)
                (i64.const 1))) (global.get $g)) {more})"#
        );
        let module = engine.load(text.as_bytes()).expect("module");
        let mut store = wasmtime::Store::new(engine.wasmtime(), ());
        store.set_epoch_deadline(deadline_ticks(10_000));
        let instance = Instance::new(&mut store, module.wasmtime(), &[]).expect("instance");
        (module, store, instance)
    }

    #[test]
    fn everything_is_as_it_was() {
        let (module, mut store, instance) = guest("");
        let memory = instance.get_memory(&mut store, "memory").expect("memory");
        let next = instance.get_typed_func::<(), i64>(&mut store, "next").expect("next");
        memory.write(&mut store, 100, b"kept").expect("inside");
        assert_eq!(next.call(&mut store, ()).expect("no trap"), 6);
        let state = module.state().expect("all of it can be reached");
        let Some(mut kept) = state.keep(&mut store, instance) else {
            println!("skipped: this kernel does not tell what was written");
            return;
        };
        let before = memory.data(&store).to_vec();
        let mut random = fastrand::Rng::with_seed(1);
        for life in 0..200 {
            for _ in 0..random.usize(0..40) {
                let at = random.usize(0..before.len());
                memory.data_mut(&mut store)[at] = random.u8(..);
            }
            assert_eq!(next.call(&mut store, ()).expect("no trap"), 7);
            assert!(kept.rewind(&mut store), "{life}");
            assert!(memory.data(&store) == before, "{life}");
        }
        assert_eq!(&memory.data(&store)[8192..8196], b"data");
        let grow = instance.get_typed_func::<(), ()>(&mut store, "grow").expect("grow");
        grow.call(&mut store, ()).expect("no trap");
        assert!(!kept.rewind(&mut store), "memory does not shrink");
    }

    #[test]
    fn what_cannot_be_reached_cannot_be_kept() {
        let (module, ..) =
            guest("(table $t 1 funcref) (func (table.set $t (i32.const 0) (ref.null func)))");
        assert!(module.state().is_none());
    }
}
