//! One end of a connection: exact bytes out, messages in.
//!
//! The reader is strict, so that every test checks what all tests would have to: line ends, field
//! names, one framing per message.

use super::{DEADLINE, Message};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

/// A socket with what was read from it and not used yet.
pub(crate) struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
}

/// Why a message is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The connection ended.
    End,
    /// The connection was reset.
    Reset,
    /// Nothing came in time.
    Late,
}

/// How a body is framed.
pub(crate) enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilEnd,
}

impl Wire {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("a connection");
        Self::new(stream)
    }

    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).expect("a read deadline");
        stream.set_write_timeout(Some(DEADLINE)).expect("a write deadline");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, input: Vec::new() }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends exactly these bytes; whether the peer took them is for the reads to tell.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    pub(crate) fn end_sending(&self) {
        // A connection that is gone has ended already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes with a reset instead of an end.
    pub(crate) fn reset(self) {
        self.reset_on_drop();
    }

    /// Ends with a reset when it is dropped.
    pub(crate) fn reset_on_drop(&self) {
        let none = Some(std::time::Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&self.stream, none).expect("a socket");
    }

    /// How long a read waits for bytes, instead of [`DEADLINE`].
    pub(crate) fn wait_at_most(&self, time: std::time::Duration) {
        self.stream.set_read_timeout(Some(time)).expect("a socket");
    }

    /// Bytes received and not used yet.
    pub(crate) fn unused(&self) -> &[u8] {
        &self.input
    }

    /// Waits until this is in what was received and not used yet.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, part: &str) {
        while !self.input.windows(part.len()).any(|bytes| bytes == part.as_bytes()) {
            self.fill().expect("more bytes");
        }
    }

    fn fill(&mut self) -> Result<(), Cut> {
        let mut piece = vec![0; 64 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(Cut::End),
            Ok(bytes) => {
                self.input.extend_from_slice(&piece[..bytes]);
                Ok(())
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(Cut::Late),
                ErrorKind::Interrupted => Ok(()),
                _ => Err(Cut::Reset),
            },
        }
    }

    fn take(&mut self, bytes: usize) -> Vec<u8> {
        let rest = self.input.split_off(bytes);
        std::mem::replace(&mut self.input, rest)
    }

    /// This many bytes.
    #[track_caller]
    pub(crate) fn exactly(&mut self, bytes: usize) -> Vec<u8> {
        let mut came = Vec::new();
        self.copy(bytes, &mut came).expect("as many bytes");
        came
    }

    /// Some bytes, as they come; `None` at the end, however it comes.
    pub(crate) fn some(&mut self) -> Option<Vec<u8>> {
        if self.input.is_empty() {
            self.fill().ok()?;
        }
        Some(self.take(self.input.len()))
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> Result<String, Cut> {
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line = self.take(end + 1);
                let line = line.strip_suffix(b"\r\n").expect("a line ends in CRLF");
                assert!(!line.contains(&b'\r') && !line.contains(&0), "control bytes in a line");
                return Ok(String::from_utf8_lossy(line).into_owned());
            }
            self.fill()?;
        }
    }

    fn fields(&mut self) -> Result<Vec<(String, String)>, Cut> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').expect("a field has a colon");
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            assert!(!name.is_empty() && name.chars().all(token), "a field name: {name:?}");
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    /// A message up to its body.
    pub(crate) fn head(&mut self) -> Result<Message, Cut> {
        let start = self.line()?;
        let fields = self.fields()?;
        Ok(Message { start, fields, ..Message::default() })
    }

    /// Reads the body into the message. What came of it stays there if it is cut.
    pub(crate) fn body(&mut self, message: &mut Message, framing: Framing) -> Result<(), Cut> {
        match framing {
            Framing::None => Ok(()),
            Framing::Length(bytes) => self.copy(bytes, &mut message.body),
            Framing::Chunked => self.chunks(message),
            Framing::UntilEnd => match self.copy(usize::MAX, &mut message.body) {
                Err(Cut::End) => Ok(()),
                other => other,
            },
        }
    }

    fn copy(&mut self, mut left: usize, body: &mut Vec<u8>) -> Result<(), Cut> {
        loop {
            let taken = self.take(left.min(self.input.len()));
            left -= taken.len();
            body.extend_from_slice(&taken);
            if left == 0 {
                return Ok(());
            }
            self.fill()?;
        }
    }

    fn chunks(&mut self, message: &mut Message) -> Result<(), Cut> {
        message.chunked = true;
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(&line, 16).expect("a chunk size, no extension");
            if size == 0 {
                message.trailers = self.fields()?;
                return Ok(());
            }
            self.copy(size, &mut message.body)?;
            assert_eq!(self.line()?, "", "a chunk ends in CRLF");
        }
    }

    /// Reads to the end, however it comes; gives what came.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, Cut) {
        let mut bytes = Vec::new();
        let cut = self.copy(usize::MAX, &mut bytes).expect_err("an endless read ends by a cut");
        (bytes, cut)
    }
}
