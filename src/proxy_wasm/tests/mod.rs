//! Whole plugins, from text to action.

mod rig;

mod lifecycle;

use rig::{Rig, settings};
