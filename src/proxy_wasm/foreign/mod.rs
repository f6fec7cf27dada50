//! What `proxy_call_foreign_function` offers: Envoy's foreign functions (`wasm/foreign.cc`), and
//! Higress's `get_log_level`.
//!
//! ```text
//! compress uncompress              zlib
//! sign verify_signature            signatures
//! declare_property                 state: what a value of `proxy_set_property` is
//! set_envoy_filter_state           state: a value without the prefix of properties
//! expr_create _evaluate _delete    expressions: CEL over the properties
//! clear_route_cache get_log_level  the same as the host functions of that name
//! ```

mod expressions;
mod signatures;
mod state;
#[cfg(test)]
mod tests;
mod zlib;

pub(super) use expressions::Expressions;

use super::abi::{Status, current_log_level};
use super::guest::Guest;

/// Bytes a function may be given to compress, and may give back.
const BYTES_MAX: usize = 16 << 20;

/// Calls the function of that name; what it gives is appended to `out`.
pub(super) fn call(
    guest: &mut Guest,
    name: &[u8],
    args: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Status> {
    match name {
        b"compress" => zlib::compress(args, out),
        b"uncompress" => zlib::uncompress(args, out),
        b"verify_signature" => signatures::verify(args, out),
        b"sign" => signatures::sign(args, out),
        b"declare_property" => state::declare_property(guest, args),
        b"set_envoy_filter_state" => state::set_envoy_filter_state(guest, args),
        b"expr_create" => expressions::create(guest, args, out),
        b"expr_evaluate" => expressions::evaluate(guest, args, out),
        b"expr_delete" => expressions::delete(guest, args),
        b"clear_route_cache" => {
            guest.clear_route_cache();
            Ok(())
        }
        b"get_log_level" => {
            out.extend_from_slice(&current_log_level().to_le_bytes());
            Ok(())
        }
        _ => Err(Status::NotFound),
    }
}
