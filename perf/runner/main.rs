//! The least a plugin runner can do: `runner SOCKET`. What is measured with it is the way there and
//! back. It runs on the gateway's own event loop.

mod answers;

use answers::Answers;
use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{ListenerOpts, UnixListener, UnixStream};
use ringgate::net::{self, DriverChoice};
use std::io;
use std::rc::Rc;

/// Room for what comes in one read, and for the answers to it.
const ROOM_BYTES: usize = 16 * 1024;

const RING_ENTRIES: u32 = 1024;

fn main() -> io::Result<()> {
    let named = std::env::args().nth(1);
    let Some(socket) = named.or_else(|| std::env::var("APISIX_LISTEN_ADDRESS").ok()) else {
        return Err(io::Error::other("usage: runner SOCKET"));
    };
    let path = socket.trim_start_matches("unix:").to_owned();
    net::run(DriverChoice::Auto, RING_ENTRIES, |_, _| {}, serve(path))?
}

async fn serve(path: String) -> io::Result<()> {
    if std::fs::exists(&path)? {
        std::fs::remove_file(&path)?;
    }
    // By default monoio shares the port, which sockets of files don't have.
    let listener = UnixListener::bind_with_config(&path, &ListenerOpts::new().reuse_port(false))?;
    let answers = Rc::new(Answers::default());
    println!("listening on {path}");
    loop {
        let (stream, _) = listener.accept().await?;
        let answers = Rc::clone(&answers);
        net::spawn(async move {
            // The gateway hangs up when it is done; there is nothing to do about that.
            let _ = talk(stream, &answers).await;
        });
    }
}

async fn talk(mut stream: UnixStream, answers: &Answers) -> io::Result<()> {
    let mut input = Vec::with_capacity(ROOM_BYTES);
    let mut out = Vec::with_capacity(ROOM_BYTES);
    loop {
        if input.len() == input.capacity() {
            input.reserve(ROOM_BYTES);
        }
        let (used, room) = (input.len(), input.capacity());
        let (read, slice) = stream.read(input.slice_mut(used..room)).await;
        input = slice.into_inner();
        if read? == 0 {
            return Ok(());
        }
        let used = answers.answer(&input, &mut out);
        input.drain(..used);
        if !out.is_empty() {
            let (sent, buffer) = stream.write_all(out).await;
            sent?;
            out = buffer;
            out.clear();
        }
    }
}
