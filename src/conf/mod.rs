//! Room `conf`: the two configuration files as text, in; typed settings and resources, out.
//!
//! In: YAML or JSON text, environment variables through a closure.
//! Out: [`Config`] and [`Resources`], valid by type; or *all* that is wrong, each with file, line,
//! column, the source line, a caret and a hint ([`Report`]).
//! May not know: files, the environment, compiled forms, which plugins exist.
//!
//! ```text
//! text ─► substitute ${{VAR}} ─► decode (serde_yaml) ─► JSON value ─► read (room schema) ─► types
//!                                                                         │
//!                                          problems, each with its path ──┴─► Report: positions
//!                                                                             by saphyr-parser
//! ```

mod changes;
mod decode;
#[cfg(test)]
mod fuzz;
mod load;
mod model;
mod operators;
mod positions;
pub mod process;
mod report;
pub mod resources;
mod schema;
mod settings;
mod source;

pub use changes::{Change, by_id, changes};
pub use model::*;
pub use operators::*;
pub use report::{Diagnostic, Report, Severity, report};
pub use schema::{PluginSchema, process_schema, resources_schema};
pub use settings::*;
pub use source::{Env, Source};
