//! HTTP/2 connections as a client, for gRPC. The protocol is the `h2` crate's, on monoio through
//! its compatibility layer.

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use monoio::io::AsyncWriteRentExt;
use monoio::net::TcpStream;
use monoio_compat::TcpStreamCompat;
use std::io;
use std::net::SocketAddr;

/// Opens requests on a connection; cheap to clone.
pub type Http2Sender = SendRequest<Bytes>;

/// What drives a connection: it ends with the connection.
pub type Http2Driver = Connection<TcpStreamCompat, Bytes>;

/// Connects, sends `lead` if there is any, and shakes hands.
///
/// # Errors
/// No connection could be made, or the peer speaks no HTTP/2.
pub async fn connect_http2(
    address: SocketAddr,
    lead: Vec<u8>,
) -> io::Result<(Http2Sender, Http2Driver)> {
    let mut stream = TcpStream::connect_addr(address).await?;
    stream.set_nodelay(true)?;
    if !lead.is_empty() {
        stream.write_all(lead).await.0?;
    }
    let mut builder = h2::client::Builder::new();
    builder.enable_push(false);
    builder.handshake(TcpStreamCompat::new(stream)).await.map_err(io::Error::other)
}
