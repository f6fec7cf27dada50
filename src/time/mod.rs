//! Room `time`: coarse deadlines and the HTTP date.
//!
//! In: `now`, deadlines.
//! Out: what is due; the date as every response shows it.
//! May not know: the clock. `now` always comes from outside, in milliseconds since the process
//! started (deadlines) or seconds since the epoch (the date).

mod date;
mod deadlines;

pub use date::{HttpDate, timestamp};
pub use deadlines::{DeadlineId, Deadlines};
