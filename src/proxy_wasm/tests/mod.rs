//! Whole plugins, from text to action.

mod guest;
mod rig;

mod calls;
mod faults;
mod lifecycle;
mod loading;
mod modules;
mod pools;
mod properties;
mod roots;

use guest::Guest;
use rig::{Rig, host, lines, settings};
