//! Frames: a type, a length, a payload.
//!
//! ```text
//! byte 0   1 2 3              4 …
//!    type  length, big-endian  payload: one finished FlatBuffer
//! ```

use crate::limits;

/// Bytes before a payload.
pub const HEADER_BYTES: usize = 4;

/// What a frame carries. A reply has its request's kind, or is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The runner could not do what it was asked.
    Error = 0,
    /// A configuration; its token.
    PrepareConf = 1,
    /// A request; what becomes of it.
    RequestCall = 2,
    /// The runner asks for something; it gets it.
    ExtraInfo = 3,
    /// A response; what becomes of it.
    ResponseCall = 4,
}

impl Kind {
    /// APISIX's name of it, as its log lines have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "RPC_ERROR",
            Self::PrepareConf => "RPC_PREPARE_CONF",
            Self::RequestCall => "RPC_HTTP_REQ_CALL",
            Self::ExtraInfo => "RPC_EXTRA_INFO",
            Self::ResponseCall => "RPC_HTTP_RESP_CALL",
        }
    }

    /// The kind of that number.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Error,
            1 => Self::PrepareConf,
            2 => Self::RequestCall,
            3 => Self::ExtraInfo,
            4 => Self::ResponseCall,
            _ => return None,
        })
    }
}

/// A payload does not fit into a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong(pub usize);

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // APISIX's words.
        let most = limits::RUNNER_FRAME_BYTES_MAX;
        write!(f, "the max length of data is {most} but got {}", self.0)
    }
}

impl std::error::Error for TooLong {}

/// Appends a frame.
///
/// # Errors
/// The payload is longer than a frame can say; nothing is written.
pub fn write_frame(out: &mut Vec<u8>, kind: Kind, payload: &[u8]) -> Result<(), TooLong> {
    if payload.len() > limits::RUNNER_FRAME_BYTES_MAX {
        return Err(TooLong(payload.len()));
    }
    let [_, high, middle, low] = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&[kind as u8, high, middle, low]);
    out.extend_from_slice(payload);
    Ok(())
}

/// The first frame of some bytes, as far as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// All of it is there.
    Whole {
        /// Its type; may be none that is known.
        kind: u8,
        /// What it carries.
        payload: &'a [u8],
    },
    /// This many bytes are still to come, at least.
    Missing(usize),
}

/// Looks at the first frame.
#[must_use]
pub fn first_frame(bytes: &[u8]) -> Frame<'_> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Frame::Missing(HEADER_BYTES - bytes.len());
    };
    let [kind, high, middle, low] = *header;
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    match rest.get(..length) {
        Some(payload) => Frame::Whole { kind, payload },
        None => Frame::Missing(length - rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, Kind::ExtraInfo, b"abc").expect("short");
        assert_eq!(bytes, b"\x03\0\0\x03abc");
        write_frame(&mut bytes, Kind::Error, b"").expect("empty is fine");
        assert_eq!(first_frame(&bytes), Frame::Whole { kind: 3, payload: b"abc" });
        assert_eq!(first_frame(&bytes[7..]), Frame::Whole { kind: 0, payload: b"" });
        let missing = [(0, 4), (3, 1), (4, 3), (6, 1)];
        for (have, missing) in missing {
            assert_eq!(first_frame(&bytes[..have]), Frame::Missing(missing), "{have}");
        }
    }

    #[test]
    fn lengths_have_three_bytes() {
        let most = vec![7; limits::RUNNER_FRAME_BYTES_MAX];
        let mut bytes = Vec::new();
        write_frame(&mut bytes, Kind::RequestCall, &most).expect("it just fits");
        assert_eq!(bytes[..4], [2, 0xff, 0xff, 0xff]);
        assert!(matches!(first_frame(&bytes), Frame::Whole { payload, .. } if payload == most));
        let mut bytes = b"before".to_vec();
        let refused = write_frame(&mut bytes, Kind::RequestCall, &vec![7; most.len() + 1]);
        assert_eq!((refused, &bytes[..]), (Err(TooLong(16_777_216)), &b"before"[..]));
        assert_eq!(
            TooLong(16_777_216).to_string(),
            "the max length of data is 16777215 but got 16777216"
        );
    }

    #[test]
    fn kinds_have_numbers() {
        for byte in 0..=255 {
            let kind = Kind::from_byte(byte);
            assert_eq!(kind.map(|kind| kind as u8), Some(byte).filter(|byte| *byte <= 4));
        }
    }
}
