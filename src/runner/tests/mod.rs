//! Tests of the room.

mod coding;
mod fuzz;
mod loading;
mod talks;

use super::testing::{
    Pairs, RewriteOf, asks, refused, response, rewrite, rig, stop, token, unchanged,
};
