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
        if let Some((piece, done)) = self.plain(input) {
            out.extend_from_slice(piece);
            return Ok(Progress { consumed: piece.len(), done });
        }
        let progress = match self.kind {
            Kind::Chunked => self.chunked.decode(input, out)?,
            _ => Progress { consumed: 0, done: true },
        };
        if progress.done {
            self.kind = Kind::Done;
        }
        Ok(progress)
    }

    /// What of the body `input` begins with, and whether it ends there, if it lies in it as it is:
    /// not in chunks.
    #[inline]
    pub(super) fn plain<'a>(&mut self, input: &'a [u8]) -> Option<(&'a [u8], bool)> {
        match self.kind {
            Kind::Done | Kind::Chunked => None,
            Kind::UntilClose => Some((input, false)),
            Kind::Known(left) => {
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                let left = left - take as u64;
                self.kind = if left == 0 { Kind::Done } else { Kind::Known(left) };
                Some((&input[..take], left == 0))
            }
        }
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
    /// Writes a piece of the body, which is empty afterwards. `end`: it is the last one, and these
    /// trailers follow.
    pub(super) fn write(
        &mut self,
        out: &mut Vec<u8>,
        piece: &mut Vec<u8>,
        end: Option<&Headers>,
    ) -> Result<(), LengthBroken> {
        let moves = out.is_empty() && piece.len() > COPIED_BYTES_MAX && *self != Self::Chunked;
        let wrote = self.admit(piece.len(), end.is_some());
        match wrote {
            Ok(()) if moves => std::mem::swap(out, piece),
            Ok(()) => self.put(out, piece, end),
            Err(LengthBroken) => {}
        }
        piece.clear();
        wrote
    }

    /// The same for a piece that stays where it is.
    pub(super) fn copy(
        &mut self,
        out: &mut Vec<u8>,
        piece: &[u8],
        end: Option<&Headers>,
    ) -> Result<(), LengthBroken> {
        self.admit(piece.len(), end.is_some())?;
        self.put(out, piece, end);
        Ok(())
    }

    /// Whether a piece of that length may follow.
    fn admit(&mut self, len: usize, end: bool) -> Result<(), LengthBroken> {
        match self {
            Self::None if len > 0 => Err(LengthBroken),
            Self::Length(left) => {
                *left = left.checked_sub(len as u64).ok_or(LengthBroken)?;
                // The last byte must not go before the end is known: with more to come, what went
                // out would look whole.
                let is_whole = *left == 0;
                if is_whole != end && (end || len > 0) { Err(LengthBroken) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// Puts a piece behind what is in `out`, in its frame.
    fn put(self, out: &mut Vec<u8>, piece: &[u8], end: Option<&Headers>) {
        if self != Self::Chunked {
            return out.extend_from_slice(piece);
        }
        write_chunk(out, piece);
        if let Some(trailers) = end {
            write_last_chunk(out, trailers);
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
        let none = Headers::new();
        let table: [(&[&str], Result<(), LengthBroken>, &str); 6] = [
            (&["abc"], Ok(()), "abc"),
            (&["a", "bc"], Ok(()), "abc"),
            (&["a", "", "bc"], Ok(()), "abc"),
            (&["ab"], Err(LengthBroken), ""),
            (&["ab", "cd"], Err(LengthBroken), "ab"),
            (&["abc", "d"], Err(LengthBroken), ""),
        ];
        for (pieces, expected, written) in table {
            let (mut encoder, mut out) = (Encoder::Length(3), Vec::new());
            let last = pieces.len() - 1;
            let outcome = pieces.iter().enumerate().try_for_each(|(at, piece)| {
                let end = (at == last).then_some(&none);
                encoder.write(&mut out, &mut piece.as_bytes().to_vec(), end)
            });
            assert_eq!((outcome, out.as_slice()), (expected, written.as_bytes()), "{pieces:?}");
        }
        let refused = Encoder::None.write(&mut Vec::new(), &mut b"x".to_vec(), None);
        assert_eq!(refused, Err(LengthBroken));
    }

    #[test]
    fn a_piece_is_written_alike_wherever_it_lies() {
        let mut trailers = Headers::new();
        trailers.append(b"t", b"1");
        let long = "x".repeat(COPIED_BYTES_MAX + 1);
        let lengths = [3, long.len() as u64].map(Encoder::Length);
        let others = [Encoder::None, Encoder::Chunked, Encoder::UntilClose];
        for encoder in lengths.into_iter().chain(others) {
            for (piece, end) in
                ["", "ab", "abc", &long].iter().flat_map(|p| [(*p, false), (*p, true)])
            {
                let end = end.then_some(&trailers);
                let (mut moved, mut copied) = ((encoder, Vec::new()), (encoder, Vec::new()));
                let one = moved.0.write(&mut moved.1, &mut piece.as_bytes().to_vec(), end);
                let other = copied.0.copy(&mut copied.1, piece.as_bytes(), end);
                assert_eq!((one, moved), (other, copied), "{encoder:?} {}", piece.len());
            }
        }
    }

    #[test]
    fn large_pieces_move_and_small_ones_are_copied() {
        let (mut out, mut piece) = (Vec::new(), vec![b'x'; COPIED_BYTES_MAX + 1]);
        let at = piece.as_ptr();
        assert_eq!(Encoder::UntilClose.write(&mut out, &mut piece, None), Ok(()));
        assert!(out.as_ptr() == at && piece.is_empty());
        piece.extend_from_slice(b"yz");
        assert_eq!(Encoder::Chunked.write(&mut out, &mut piece, Some(&Headers::new())), Ok(()));
        assert!(out.ends_with(b"x2\r\nyz\r\n0\r\n\r\n"));
    }
}
