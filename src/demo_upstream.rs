//! A small upstream for `make run` and `make demo`: answers every request with what it received.
//!
//! One thread per connection, the library's own parser, nothing else: it is there to be proxied to,
//! not to be fast.

use ringgate::http::{BodyLength, Chunked, HeadLimits, RequestHead};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Serves until the process is stopped.
pub(crate) fn run(address: SocketAddr) -> std::io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("upstream: listening on http://{address}");
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || serve(stream));
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Vec::new();
    let mut head = RequestHead::default();
    loop {
        while !matches!(head.parse(&input, HeadLimits::default()), Ok(true)) {
            if !read_more(&mut stream, &mut input)? {
                return Ok(());
            }
        }
        let request = input[..head.len].to_vec();
        input.drain(..head.len);
        let received = read_body(&mut stream, &mut input, &head)?;
        stream.write_all(&answer(&request, received))?;
        if !head.keep_alive {
            return Ok(());
        }
    }
}

fn answer(request: &[u8], received: usize) -> Vec<u8> {
    let mut body = b"hello from the upstream; it received:\n\n".to_vec();
    body.extend_from_slice(request);
    if received > 0 {
        body.extend_from_slice(format!("({received} bytes of body)\n").as_bytes());
    }
    let mut response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    response.extend_from_slice(&body);
    response
}

fn read_body(
    stream: &mut TcpStream,
    input: &mut Vec<u8>,
    head: &RequestHead,
) -> std::io::Result<usize> {
    let (mut body, mut chunked) = (Vec::new(), Chunked::default());
    let wanted = match head.body {
        BodyLength::Known(bytes) => bytes as usize,
        BodyLength::Chunked => loop {
            let progress = chunked.decode(input, &mut body).map_err(std::io::Error::other)?;
            input.drain(..progress.consumed);
            if progress.done || !read_more(stream, input)? {
                return Ok(body.len());
            }
        },
        BodyLength::None | BodyLength::UntilClose => 0,
    };
    while input.len() < wanted {
        if !read_more(stream, input)? {
            break;
        }
    }
    input.drain(..wanted.min(input.len()));
    Ok(wanted)
}

fn read_more(stream: &mut TcpStream, input: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut piece = [0; 16 * 1024];
    let bytes = stream.read(&mut piece)?;
    input.extend_from_slice(&piece[..bytes]);
    Ok(bytes > 0)
}
