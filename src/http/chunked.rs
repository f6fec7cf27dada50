//! The chunked transfer coding, decoded as it arrives (RFC 9112 §7.1).
//!
//! ```text
//!  Size ─► Extension ─► SizeLf ─► Data ─► DataCr ─► DataLf ─┐
//!   ▲                     │ size 0                           │
//!   └─────────────────────┼──────────────────────────────────┘
//!                         ▼
//!                      Trailers ─► Done
//! ```

use super::fields::field_of;
use super::{Field, Headers};
use crate::limits;

/// A decoder for one body.
#[derive(Clone, Debug, Default)]
pub struct Chunked {
    state: State,
    /// Bytes of the current size line, or of the trailer section.
    line_bytes: usize,
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    SizeStart,
    Size(u64),
    /// Between the size and its line end; ignored (RFC 9112 §7.1.1).
    Extension(u64),
    SizeLf(u64),
    /// Bytes left of this chunk.
    Data(u64),
    DataCr,
    DataLf,
    Trailers,
    Done,
}

/// How far one call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Input bytes used up.
    pub consumed: usize,
    /// Whether the body is complete, trailers included.
    pub done: bool,
}

/// What is wrong with a chunked body; no byte after it can be trusted.
pub type ChunkError = &'static str;

impl Chunked {
    /// Forgets the body and keeps the memory.
    pub fn reset(&mut self) {
        self.state = State::SizeStart;
        self.line_bytes = 0;
        self.trailers.clear();
    }

    /// Decodes `input`; body bytes go to the end of `out`.
    ///
    /// # Errors
    /// The rule that the coding breaks.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Progress, ChunkError> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            match self.state {
                State::Data(left) => at += self.copy(left, &input[at..], out),
                State::Trailers => at += self.gather_trailers(&input[at..])?,
                _ => {
                    self.step(input[at])?;
                    at += 1;
                }
            }
        }
        Ok(Progress { consumed: at, done: self.state == State::Done })
    }

    /// Puts the trailer fields of a complete body into `headers`.
    ///
    /// # Errors
    /// The rule that the trailer section breaks.
    pub fn trailers(&self, headers: &mut Headers) -> Result<(), ChunkError> {
        headers.clear();
        if self.trailers.len() <= 2 {
            return Ok(());
        }
        let mut table = [httparse::EMPTY_HEADER; limits::HEADERS_MAX];
        match httparse::parse_headers(&self.trailers, &mut table) {
            Ok(httparse::Status::Complete((_, fields))) => {
                let mut spans = [Field::default(); limits::HEADERS_MAX];
                for (span, field) in spans.iter_mut().zip(fields) {
                    *span = field_of(&self.trailers, field);
                }
                headers.adopt(&self.trailers, &spans[..fields.len()]);
                Ok(())
            }
            _ => Err("an invalid trailer field"),
        }
    }

    fn copy(&mut self, left: u64, input: &[u8], out: &mut Vec<u8>) -> usize {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        out.extend_from_slice(&input[..take]);
        let left = left - take as u64;
        self.state = if left == 0 { State::DataCr } else { State::Data(left) };
        take
    }

    fn step(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.line_bytes += 1;
        if self.line_bytes > limits::CHUNK_LINE_BYTES_MAX {
            return Err("a chunk size line is too long");
        }
        self.state = match (self.state, byte) {
            (State::SizeStart, _) => State::Size(hex(byte).ok_or("a chunk size is not hex")?),
            (State::Size(size) | State::Extension(size), b'\r') => State::SizeLf(size),
            // BWS before an extension is allowed (RFC 9112 §7.1.1), a space inside or before the
            // size is not.
            (State::Size(size), b';' | b' ' | b'\t') => State::Extension(size),
            (State::Size(size), _) => State::Size(grow(size, byte)?),
            (State::Extension(_), b'\n' | 0) => return Err("a control byte in a chunk extension"),
            (State::Extension(size), _) => State::Extension(size),
            (State::SizeLf(0), b'\n') => self.begin(State::Trailers),
            (State::SizeLf(size), b'\n') => self.begin(State::Data(size)),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => self.begin(State::SizeStart),
            (State::SizeLf(_), _) => return Err("a chunk size line without LF"),
            (State::DataCr | State::DataLf, _) => return Err("a chunk without CRLF at its end"),
            (State::Data(_) | State::Trailers | State::Done, _) => self.state,
        };
        Ok(())
    }

    fn begin(&mut self, state: State) -> State {
        self.line_bytes = 0;
        state
    }

    /// Takes trailer bytes until the empty line. Looks at line ends only; fields are checked later.
    fn gather_trailers(&mut self, input: &[u8]) -> Result<usize, ChunkError> {
        for (at, byte) in input.iter().enumerate() {
            if *byte == b'\n' && self.trailers.last() != Some(&b'\r') {
                return Err("a trailer line ends in a bare LF");
            }
            self.trailers.push(*byte);
            if *byte == b'\n' && (self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n"))
            {
                self.state = State::Done;
                let mut checked = Headers::new();
                self.trailers(&mut checked)?;
                return Ok(at + 1);
            }
            if self.trailers.len() > limits::TRAILERS_BYTES_MAX {
                return Err("the trailer section is too large");
            }
        }
        Ok(input.len())
    }
}

fn hex(byte: u8) -> Option<u64> {
    (byte as char).to_digit(16).map(u64::from)
}

fn grow(size: u64, byte: u8) -> Result<u64, ChunkError> {
    let digit = hex(byte).ok_or("a chunk size is not hex")?;
    if size >> 58 != 0 {
        return Err("a chunk size is too large");
    }
    Ok(size << 4 | digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes in pieces of `step` bytes; gives the body, what was left over, and the trailers.
    fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, usize, Vec<String>), ChunkError> {
        let (mut decoder, mut out, mut used) = (Chunked::default(), Vec::new(), 0);
        for piece in input.chunks(step) {
            let progress = decoder.decode(piece, &mut out)?;
            used += progress.consumed;
            if progress.done {
                let mut headers = Headers::new();
                decoder.trailers(&mut headers)?;
                let names = headers.iter().map(|(n, _)| String::from_utf8_lossy(n).into_owned());
                return Ok((out, input.len() - used, names.collect()));
            }
        }
        Err("incomplete")
    }

    #[test]
    fn bodies_in_pieces_of_any_size() {
        let input = b"5\r\nhello\r\n6;a=b\r\n world\r\n00\r\nX: y\r\nZ: \r\n\r\nNEXT";
        for step in 1..=input.len() {
            let (body, left, trailers) = decode(input, step).expect("valid");
            assert_eq!(body, b"hello world", "{step}");
            assert_eq!(trailers, ["X", "Z"], "{step}");
            assert!(left >= 4, "{step}: the next request's bytes stay");
        }
        assert_eq!(decode(b"0\r\n\r\n", 1), Ok((vec![], 0, vec![])));
        assert_eq!(decode(b"a\r\n0123456789\r\n0\r\n\r\n", 3).map(|d| d.0.len()), Ok(10));
        assert_eq!(decode(b"A \t;x\r\n0123456789\r\n0\r\n\r\n", 3).map(|d| d.0.len()), Ok(10));
    }

    #[test]
    fn refused() {
        let long_extension = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(5000));
        let long_trailer = format!("0\r\nX: {}\r\n\r\n", "x".repeat(9000));
        for input in [
            "\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "-1\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5\r\rhello",
            "5\r\nhelloX",
            "5\r\nhello\rX",
            "5\r\nhello\n0\r\n\r\n",
            "fffffffffffffffff\r\n",
            "10000000000000000\r\n",
            "g\r\n",
            "5;a\n\r\nhello",
            "0\r\n\n",
            "0\r\nA: b\n\r\n",
            "0\r\nA: b\n\n",
            "0\r\nA : b\r\n\r\n",
            "0\r\n A: b\r\n\r\n",
            "0\r\nnocolon\r\n\r\n",
            &long_extension,
            &long_trailer,
        ] {
            for step in [1, 3, 1000] {
                let outcome = decode(input.as_bytes(), step);
                assert!(outcome.is_err() && outcome != Err("incomplete"), "{input:?} {outcome:?}");
            }
        }
    }

    #[test]
    fn the_largest_size_is_kept_whole() {
        let mut decoder = Chunked::default();
        let progress = decoder.decode(b"3ffffffffffffff\r\n", &mut Vec::new()).expect("fits");
        assert!(!progress.done);
        assert_eq!(decoder.state, State::Data(0x03ff_ffff_ffff_ffff));
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = fastrand::Rng::with_seed(2);
        for _ in 0..20_000 {
            let mut input = b"5;a\r\nhello\r\n0\r\nA: b\r\n\r\n".to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..input.len());
                input[at] = random.u8(..);
            }
            let step = random.usize(1..9);
            let _ = decode(&input, step);
        }
    }
}
