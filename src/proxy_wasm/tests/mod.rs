//! Whole plugins, from text to action.

#[path = "../../../t/plugins/any.rs"]
#[allow(dead_code, reason = "it is written for other tests too")]
mod any;
mod guest;
mod model;
mod rig;

mod calls;
mod faults;
mod lifecycle;
mod loading;
mod modules;
mod pools;
mod properties;
mod table;

use guest::Guest;
use rig::{Rig, host, lines, settings};
