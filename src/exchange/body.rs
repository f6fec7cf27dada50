//! Body framing, in and out.

use crate::http::{
    BodyLength, ChunkError, Chunked, Headers, Progress, write_chunk, write_last_chunk,
};

/// Pieces up to this size are copied behind what is in a buffer; moving larger ones is cheaper, and
/// buffers of small exchanges stay small.
const COPIED_BYTES_MAX: usize = 4 * 1024;

/// Takes the framing off a body as it arrives.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    kind: Kind,
    chunked: Chunked,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Done,
    /// This many bytes are still to come, more than none.
    Known(u64),
    Chunked,
    UntilClose,
}

impl Decoder {
    pub(super) fn begin(&mut self, length: BodyLength) {
        self.chunked.reset();
        self.kind = match length {
            BodyLength::None => Kind::Done,
            BodyLength::Known(bytes) => Kind::Known(bytes),
            BodyLength::Chunked => Kind::Chunked,
            BodyLength::UntilClose => Kind::UntilClose,
        };
    }

    pub(super) fn is_done(&self) -> bool {
        self.kind == Kind::Done
    }

    /// Bytes that are sure to come, as far as that is known.
    pub(super) fn left(&self) -> u64 {
        if let Kind::Known(left) = self.kind { left } else { 0 }
    }

    /// Decodes `input`; body bytes go to the end of `out`.
    pub(super) fn decode(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Progress, ChunkError> {
        let progress = match self.kind {
            Kind::Done => Progress { consumed: 0, done: true },
            Kind::UntilClose => {
                out.extend_from_slice(input);
                Progress { consumed: input.len(), done: false }
            }
            Kind::Known(left) => {
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                out.extend_from_slice(&input[..take]);
                let left = left - take as u64;
                self.kind = Kind::Known(left);
                Progress { consumed: take, done: left == 0 }
            }
            Kind::Chunked => self.chunked.decode(input, out)?,
        };
        if progress.done {
            self.kind = Kind::Done;
        }
        Ok(progress)
    }

    /// The end of the connection: whether it may end the body (RFC 9112 §6.3, last case).
    pub(super) fn ends_with_connection(&mut self) -> bool {
        let ends = self.kind == Kind::UntilClose;
        if ends {
            self.kind = Kind::Done;
        }
        ends
    }

    /// The trailers of a complete chunked body.
    pub(super) fn trailers(&self, headers: &mut Headers) -> Result<(), ChunkError> {
        self.chunked.trailers(headers)
    }
}

/// Puts framing on a body as it leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Encoder {
    /// No body follows the head.
    #[default]
    None,
    /// This many bytes are still to be written.
    Length(u64),
    Chunked,
    UntilClose,
}

/// More or fewer bytes than the head announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LengthBroken;

impl Encoder {
    pub(super) fn write(&mut self, out: &mut Vec<u8>, data: &[u8]) -> Result<(), LengthBroken> {
        match self {
            Self::None if data.is_empty() => {}
            Self::None => return Err(LengthBroken),
            Self::Length(_) => {
                self.count(data.len())?;
                out.extend_from_slice(data);
            }
            Self::Chunked => write_chunk(out, data),
            Self::UntilClose => out.extend_from_slice(data),
        }
        Ok(())
    }

    /// As [`Encoder::write`], and `data` is empty afterwards. A body without framing of its own moves
    /// instead of being copied where nothing stands before it.
    pub(super) fn write_all(
        &mut self,
        out: &mut Vec<u8>,
        data: &mut Vec<u8>,
    ) -> Result<(), LengthBroken> {
        let plain = matches!(self, Self::Length(_) | Self::UntilClose);
        let wrote = if plain && out.is_empty() && data.len() > COPIED_BYTES_MAX {
            std::mem::swap(out, data);
            self.count(out.len())
        } else {
            self.write(out, data)
        };
        data.clear();
        wrote
    }

    /// Takes that many bytes off a known length.
    fn count(&mut self, len: usize) -> Result<(), LengthBroken> {
        if let Self::Length(left) = self {
            *left = left.checked_sub(len as u64).ok_or(LengthBroken)?;
        }
        Ok(())
    }

    pub(super) fn finish(self, out: &mut Vec<u8>, trailers: &Headers) -> Result<(), LengthBroken> {
        match self {
            Self::Length(left) if left > 0 => Err(LengthBroken),
            Self::Chunked => {
                write_last_chunk(out, trailers);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_lengths_leave_the_rest() {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        decoder.begin(BodyLength::Known(5));
        assert_eq!(decoder.decode(b"hel", &mut out), Ok(Progress { consumed: 3, done: false }));
        assert_eq!(decoder.left(), 2);
        assert_eq!(decoder.decode(b"loNEXT", &mut out), Ok(Progress { consumed: 2, done: true }));
        assert!(decoder.is_done() && !decoder.ends_with_connection());
        assert_eq!(out, b"hello");
    }

    #[test]
    fn only_an_open_body_ends_with_its_connection() {
        let mut decoder = Decoder::default();
        for (length, ends) in [
            (BodyLength::Known(1), false),
            (BodyLength::Chunked, false),
            (BodyLength::UntilClose, true),
        ] {
            decoder.begin(length);
            assert_eq!(decoder.ends_with_connection(), ends, "{length:?}");
        }
    }

    #[test]
    fn a_length_is_kept_exactly() {
        let (mut out, none) = (Vec::new(), Headers::new());
        let mut encoder = Encoder::Length(3);
        assert_eq!(encoder.write(&mut out, b"ab"), Ok(()));
        assert_eq!(encoder.finish(&mut out, &none), Err(LengthBroken));
        assert_eq!(encoder.write(&mut out, b"cd"), Err(LengthBroken));
        assert_eq!(Encoder::None.write(&mut out, b"x"), Err(LengthBroken));
        assert_eq!(out, b"ab");
    }
}
