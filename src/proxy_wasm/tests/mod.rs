//! Whole plugins, from text to action.

mod guest;
mod model;
mod rig;

mod calls;
mod faults;
mod joins;
mod lifecycle;
mod loading;
mod modules;
mod pools;
mod properties;
mod roots;
mod table;

use super::fuzz::any;
use guest::Guest;
use rig::{Rig, host, lines, pairs, settings};
