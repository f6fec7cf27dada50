//! What tests and fuzzers of the room stand on: a runner's frames made by hand, a plugin without a
//! worker.

mod frames;
pub(crate) mod rig;

pub(crate) use frames::*;

use super::decode::Ask;
use super::schema::a6;

/// Ends the request, without a body if there is nothing in it.
pub(crate) fn stop(status: u16, headers: Pairs<'_>, body: &[u8]) -> Vec<u8> {
    stop_with(status, headers, Some(body).filter(|body| !body.is_empty()))
}

/// A runner's question.
pub(crate) fn asks(ask: Ask<'_>) -> Vec<u8> {
    match ask {
        Ask::Var(name) => var(name),
        Ask::RequestBody => request_body(),
        Ask::ResponseBody => response_body(),
    }
}
