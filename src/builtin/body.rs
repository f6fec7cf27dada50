//! Responses whose body a plugin changes.

use crate::http::BodyLength;
use crate::plugin::Message;

/// Removes the fields that speak of the body as it was: its length, its coding, what caches know it
/// by (APISIX `core.response.clear_header_as_body_modified`).
pub(super) fn forget_fields(message: &mut Message) {
    const FIELDS: [&[u8]; 4] = [b"content-length", b"content-encoding", b"last-modified", b"etag"];
    for name in FIELDS {
        message.response.headers.remove(name);
    }
}

/// Asks for body callbacks even if the response had none.
pub(super) fn announce(message: &mut Message, bytes: usize) {
    if message.response.body == BodyLength::None && bytes > 0 {
        message.response.body = BodyLength::Known(bytes as u64);
    }
}
