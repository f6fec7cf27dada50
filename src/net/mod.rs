//! Room `net`: the event loop and its sockets.
//!
//! In: addresses, owned buffers.
//! Out: completions, sockets, classified errors.
//! May not know: HTTP, routes, plugins.
//!
//! Buffers are rented: an operation takes one by value and gives it back with its result, so a
//! buffer is in exactly one of two hands, ours or the kernel's.

mod doorbell;
mod http2;
mod letterbox;
mod listen;
mod listener;
mod runtime;
mod socket;

pub use doorbell::{Bell, Doorbell, Listening, doorbell};
pub use http2::{Http2Driver, Http2Sender, connect_http2};
pub use letterbox::{
    MESSAGE_BYTES_MAX, MESSAGE_FDS_MAX, is_letterbox, letterboxes, receive_message, send_message,
};
pub use listen::{adopt, reserve, set_options};
pub use listener::{Accepted, Listener};
pub use runtime::{DriverChoice, DriverKind, pin_to_core, run, sleep_ms, spawn, within_ms};
pub use socket::{Socket, connect, connect_unix, read, send, send_some};
