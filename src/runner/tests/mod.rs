//! Tests of the room.

mod coding;
mod fuzz;
mod loading;
mod talks;

use super::testing::{
    Changes, Pairs, asks, refused, response, rewrite, rig, stop, token, unchanged,
};
