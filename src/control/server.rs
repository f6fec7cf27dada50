//! A small HTTP server beside the workers, for operators: one thread, one request a connection.
//!
//! It answers few and trusted clients (Prometheus, a person with curl), one after the other, each
//! with a deadline. What it serves are functions from nothing to a text, so that another server can
//! serve them too.

use crate::http::{HeadLimits, Method, RequestHead, uri};
use crate::time::HttpDate;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a client may take to ask and to take its answer; others wait meanwhile.
const CLIENT: Duration = Duration::from_secs(2);

/// After an error of `accept`, most likely for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Something to be had at some paths.
pub(super) struct Page {
    pub(super) paths: Vec<String>,
    pub(super) content_type: &'static str,
    pub(super) text: Box<dyn Fn() -> String + Send>,
}

/// A server that listens and does not answer yet.
pub(super) struct Server {
    listener: TcpListener,
    pub(super) address: SocketAddr,
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// It is in use, or not ours.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        Ok(Self { address: listener.local_addr()?, listener })
    }

    /// Answers from a thread of its own for as long as the process runs.
    ///
    /// # Errors
    /// No thread could be made.
    pub(super) fn start(self, pages: Vec<Page>) -> io::Result<()> {
        let body = move || {
            for client in self.listener.incoming() {
                match client {
                    // Who does not ask properly, or leaves early, has no answer to expect.
                    Ok(client) => drop(serve(client, &pages)),
                    Err(_) => std::thread::sleep(PAUSE),
                }
            }
        };
        std::thread::Builder::new().name("ringgate-pages".to_owned()).spawn(body).map(drop)
    }
}

fn serve(mut client: TcpStream, pages: &[Page]) -> io::Result<()> {
    let mut input = Vec::new();
    let answer = match read_head(&mut client, &mut input)? {
        Some((method, path)) => answer(method, path, pages),
        None => plain("400 Bad Request", ""),
    };
    client.set_write_timeout(Some(CLIENT))?;
    client.write_all(answer.as_bytes())
}

/// The method and path asked for; none if it is not HTTP.
fn read_head<'a>(
    client: &mut TcpStream,
    input: &'a mut Vec<u8>,
) -> io::Result<Option<(Method, &'a [u8])>> {
    let until = Instant::now() + CLIENT;
    let mut head = RequestHead::default();
    let mut piece = [0; 2048];
    loop {
        match head.parse(input, HeadLimits::default()) {
            Ok(true) => return Ok(Some((head.method, uri::split(head.target.of(input)).path))),
            Ok(false) if input.len() <= HEAD_BYTES_MAX => {}
            Ok(false) | Err(_) => return Ok(None),
        }
        let left = until.saturating_duration_since(Instant::now());
        client.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match client.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if left.is_zero() => return Err(io::ErrorKind::TimedOut.into()),
            read => input.extend_from_slice(&piece[..read]),
        }
    }
}

fn answer(method: Method, path: &[u8], pages: &[Page]) -> String {
    let is_it = |page: &&Page| page.paths.iter().any(|known| known.as_bytes() == path);
    let Some(page) = pages.iter().find(is_it) else { return plain("404 Not Found", "") };
    match method {
        Method::Get => whole("200 OK", page.content_type, "", &(page.text)()),
        Method::Head => whole("200 OK", page.content_type, "", ""),
        _ => plain("405 Method Not Allowed", "Allow: GET, HEAD\r\n"),
    }
}

fn plain(status: &str, fields: &str) -> String {
    whole(status, "text/plain; charset=utf-8", fields, &format!("{status}\n"))
}

fn whole(status: &str, content_type: &str, fields: &str, body: &str) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let date = HttpDate::new(since.as_secs());
    let date = String::from_utf8_lossy(date.as_bytes());
    let len = body.len();
    format!(
        "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: {content_type}\r\n\
         Content-Length: {len}\r\n{fields}Connection: close\r\n\r\n{body}"
    )
}
