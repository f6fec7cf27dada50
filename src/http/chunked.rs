//! The chunked transfer coding, decoded as it arrives (RFC 9112 §7.1).
//!
//! ```text
//!  SizeStart ─► Size ─┬───────────────────────► SizeLf ─► Data ─► DataCr ─► DataLf ─► SizeStart
//!                     └─► extensions, checked ──►  │ size 0
//!                         and ignored (§7.1.1)     ▼
//!                                               Trailers ─► Done
//! ```
//!
//! The grammar is taken at its word: a size line with stray spaces, an extension without a name, a
//! quote that does not end are read differently by different parsers, so they end the message.

use super::fields::{field_of, is_tchar};
use super::{Field, Headers};
use crate::limits;

/// A decoder for one body.
#[derive(Clone, Debug, Default)]
pub struct Chunked {
    state: State,
    /// The size of the current chunk; in its data, bytes that are still to come.
    size: u64,
    /// Bytes of the current size line.
    line_bytes: usize,
    /// Bytes of extensions in the whole body.
    extension_bytes: usize,
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    SizeStart,
    Size,
    Extension(Extension),
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    Done,
}

/// Where in `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` the decoder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    /// After whitespace: a semicolon must follow.
    Gap,
    /// After the semicolon.
    Start,
    Name,
    /// After a name and whitespace.
    NameGap,
    /// After the equals sign.
    ValueStart,
    Value,
    Quoted,
    QuotedPair,
    QuoteEnd,
}

impl Extension {
    /// The state after one more byte; `None`: it may not stand there.
    fn next(self, byte: u8) -> Option<State> {
        use Extension::{
            Gap, Name, NameGap, QuoteEnd, Quoted, QuotedPair, Start, Value, ValueStart,
        };
        let next = match (self, byte) {
            (Name | Value | QuoteEnd, b'\r') => return Some(State::SizeLf),
            (Gap | Name | NameGap | Value | QuoteEnd, b';') => Start,
            (Name | NameGap, b'=') => ValueStart,
            (Gap | Value | QuoteEnd, b' ' | b'\t') => Gap,
            (Start | ValueStart, b' ' | b'\t') => self,
            (Name | NameGap, b' ' | b'\t') => NameGap,
            (Start | Name, byte) if is_tchar(byte) => Name,
            (ValueStart, b'"') => Quoted,
            (ValueStart | Value, byte) if is_tchar(byte) => Value,
            (Quoted, b'"') => QuoteEnd,
            (Quoted, b'\\') => QuotedPair,
            (Quoted | QuotedPair, byte) if is_text(byte) => Quoted,
            _ => return None,
        };
        Some(State::Extension(next))
    }
}

/// What may stand in a quoted string: no control but tab (RFC 9110 §5.6.4).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
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
        self.size = 0;
        self.line_bytes = 0;
        self.extension_bytes = 0;
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
                State::Data => at += self.copy(&input[at..], out),
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

    fn copy(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let take = usize::try_from(self.size).unwrap_or(usize::MAX).min(input.len());
        out.extend_from_slice(&input[..take]);
        self.size -= take as u64;
        if self.size == 0 {
            self.state = State::DataCr;
        }
        take
    }

    fn step(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.line_bytes += 1;
        if self.line_bytes > limits::CHUNK_LINE_BYTES_MAX {
            return Err("a chunk size line is too long");
        }
        self.state = match (self.state, byte) {
            (State::SizeStart, _) => {
                self.size = hex(byte).ok_or("a chunk size is not hex")?;
                State::Size
            }
            (State::Size, b'\r') => State::SizeLf,
            (State::Size, b';') => State::Extension(Extension::Start),
            (State::Size, b' ' | b'\t') => State::Extension(Extension::Gap),
            (State::Size, _) => {
                self.size = grow(self.size, byte)?;
                State::Size
            }
            (State::Extension(extension), _) => self.extend(extension, byte)?,
            (State::SizeLf, b'\n') if self.size == 0 => self.begin(State::Trailers),
            (State::SizeLf, b'\n') => self.begin(State::Data),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => self.begin(State::SizeStart),
            (State::SizeLf, _) => return Err("a chunk size line without LF"),
            (State::DataCr | State::DataLf, _) => return Err("a chunk without CRLF at its end"),
            (State::Data | State::Trailers | State::Done, _) => self.state,
        };
        Ok(())
    }

    /// One more byte of an extension. All of a body's are bounded (RFC 9112 §7.1.1).
    fn extend(&mut self, extension: Extension, byte: u8) -> Result<State, ChunkError> {
        self.extension_bytes += 1;
        if self.extension_bytes > limits::CHUNK_EXTENSIONS_BYTES_MAX {
            return Err("the chunk extensions are too large");
        }
        extension.next(byte).ok_or("an invalid chunk extension")
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
        let input =
            b"5\r\nhello\r\n6;a=b ; c = \"\\\"d;\" ;e\r\n world\r\n00\r\nX: y\r\nZ: \r\n\r\nNEXT";
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
            "5 \r\nhello",
            "5 5\r\nhello",
            "5 a\r\nhello",
            "5;\r\nhello",
            "5;a=\r\nhello",
            "5;a b\r\nhello",
            "5;a=b c\r\nhello",
            "5;a=\"b\r\nhello",
            "5;a=\"b\"c\r\nhello",
            "5;a=\"\0\"\r\nhello",
            "5;a\rb\r\nhello",
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
    fn extensions_of_a_whole_body_are_bounded() {
        let chunk = format!("1;a={}\r\nx\r\n", "y".repeat(1000));
        let fits = limits::CHUNK_EXTENSIONS_BYTES_MAX / chunk.len();
        assert_eq!(decode(chunk.repeat(fits).as_bytes(), 999), Err("incomplete"));
        let refused = decode(chunk.repeat(fits + 1).as_bytes(), 999);
        assert_eq!(refused, Err("the chunk extensions are too large"));
    }

    #[test]
    fn the_largest_size_is_kept_whole() {
        let mut decoder = Chunked::default();
        let progress = decoder.decode(b"3ffffffffffffff\r\n", &mut Vec::new()).expect("fits");
        assert!(!progress.done);
        assert_eq!((decoder.state, decoder.size), (State::Data, 0x03ff_ffff_ffff_ffff));
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
