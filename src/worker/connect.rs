//! Connections to nodes, wherever they listen.

use crate::net::{self, Socket};
use crate::upstream::Address;
use std::io;

/// Connects.
pub(super) async fn connect(address: Address) -> io::Result<Socket> {
    match address {
        Address::Inet(address) => net::connect(address).await,
        Address::Unix(path) => net::connect_unix(&path),
    }
}
