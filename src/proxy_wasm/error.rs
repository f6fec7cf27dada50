//! Why a plugin can't be had, for the person who configured it.

use crate::vm::{Fault, LoadError};
use std::fmt;

/// A plugin that can't be loaded or a conf it does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The plugin's name.
    pub plugin: String,
    /// What is wrong.
    pub reason: Reason,
}

/// What is wrong with a plugin or its conf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Two entries have this name.
    Duplicate,
    /// No entry has this name.
    Unknown,
    /// The file is no module, or not one for this host.
    Load(LoadError),
    /// A module without a memory, or with one of another kind than the ABI has.
    Memory(&'static str),
    /// No `proxy_abi_version_*` export.
    NoAbi,
    /// Neither `proxy_on_memory_allocate` nor `malloc`.
    NoAllocator,
    /// An export of the ABI with the wrong type.
    Signature {
        /// The export.
        export: String,
        /// Its type, `(i32) -> i32`.
        found: String,
        /// What it must be.
        expected: String,
    },
    /// It imports something that is no function.
    Import(String),
    /// The guest failed before it was configured.
    Start(Fault),
    /// `plugins.<name>` has no `conf`, or a wrong one.
    Conf(&'static str),
    /// `proxy_on_vm_start` or `proxy_on_configure` said no. With what the guest logged as error.
    Refused {
        /// The callback.
        callback: &'static str,
        /// The guest's own words, if it logged any.
        said: Vec<String>,
    },
    /// `proxy_on_vm_start` or `proxy_on_configure` failed.
    Configure {
        /// How.
        fault: Fault,
        /// The guest's own words, if it logged any.
        said: Vec<String>,
    },
}

impl Reason {
    pub(super) fn of(self, plugin: &str) -> Error {
        Error { plugin: plugin.to_owned(), reason: self }
    }
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match &self.reason {
            Reason::Load(LoadError::NotWasm(_)) => "give a .wasm or .wat file",
            Reason::Load(LoadError::Precompiled(_)) => {
                "make it anew with `ringgate plugin build FILE`, writable by its owner only"
            }
            Reason::NoAbi => "build it with a Proxy-Wasm SDK, or export proxy_abi_version_0_2_1",
            Reason::NoAllocator => "export proxy_on_memory_allocate or malloc",
            Reason::Conf(_) => "give `conf` as a non-empty string or object",
            _ => return None,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin {}: {}", self.plugin, self.reason)
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate => f.write_str("there are two entries of this name"),
            Self::Unknown => f.write_str("there is no entry of this name in wasm.plugins"),
            Self::Load(error) => error.fmt(f),
            Self::Memory(what) => f.write_str(what),
            Self::NoAbi => f.write_str(
                "not a Proxy-Wasm plugin: no export proxy_abi_version_0_1_0, _0_2_0 or _0_2_1",
            ),
            Self::NoAllocator => f.write_str("no export proxy_on_memory_allocate or malloc"),
            Self::Signature { export, found, expected } => {
                write!(f, "export {export} has type {found}, expected {expected}")
            }
            Self::Import(what) => write!(f, "imports {what}; only functions can be imported"),
            Self::Start(fault) => write!(f, "failed to start: {fault}"),
            Self::Conf(what) => f.write_str(what),
            Self::Refused { callback, said } => {
                write!(f, "{callback} returned false")?;
                said.iter().try_for_each(|line| write!(f, "; it said: {line}"))
            }
            Self::Configure { fault, said } => {
                write!(f, "failed while being configured")?;
                said.iter().try_for_each(|line| write!(f, "; it said: {line}"))?;
                write!(f, ": {fault}")
            }
        }
    }
}
