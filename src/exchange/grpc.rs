//! gRPC on top of HTTP/2, without I/O: messages in frames, statuses in fields.
//!
//! ```text
//! │ compressed? │ length, 4 bytes, big-endian │ message │ ...
//! ```

/// Bytes before every message.
const PREFIX_BYTES: usize = 5;

/// gRPC statuses that the gateway itself gives.
pub mod status {
    /// The peer gave no status, or one that is none.
    pub const UNKNOWN: u32 = 2;
    /// It took too long.
    pub const DEADLINE_EXCEEDED: u32 = 4;
    /// A message is too large.
    pub const RESOURCE_EXHAUSTED: u32 = 8;
    /// The peer breaks the protocol.
    pub const INTERNAL: u32 = 13;
    /// The peer can't be reached.
    pub const UNAVAILABLE: u32 = 14;
}

/// Appends a message with its prefix.
///
/// # Errors
/// It is longer than a prefix can say.
pub fn write_grpc_message(out: &mut Vec<u8>, message: &[u8]) -> Result<(), u32> {
    let len = u32::try_from(message.len()).map_err(|_| status::RESOURCE_EXHAUSTED)?;
    out.push(0);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(message);
    Ok(())
}

/// Takes messages out of a stream of bytes.
#[derive(Debug)]
pub struct GrpcMessages {
    bytes: Vec<u8>,
    message_bytes_max: usize,
}

impl GrpcMessages {
    /// For messages of at most so many bytes.
    #[must_use]
    pub fn new(message_bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), message_bytes_max }
    }

    /// Bytes that arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message.
    ///
    /// # Errors
    /// It is compressed, which was not asked for, or too large: a gRPC status.
    pub fn take(&mut self) -> Result<Option<Vec<u8>>, u32> {
        let Some((prefix, rest)) = self.bytes.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        if prefix[0] != 0 {
            return Err(status::INTERNAL);
        }
        let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if len > self.message_bytes_max {
            return Err(status::RESOURCE_EXHAUSTED);
        }
        if rest.len() < len {
            return Ok(None);
        }
        let message = rest[..len].to_vec();
        self.bytes.drain(..PREFIX_BYTES + len);
        Ok(Some(message))
    }

    /// Whether a message has begun that is not whole.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        !self.bytes.is_empty()
    }
}

/// The status that the value of a `grpc-status` field names; unknown numbers are `UNKNOWN`.
#[must_use]
pub fn grpc_status(value: &[u8]) -> u32 {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.filter(|number| *number <= 16).unwrap_or(status::UNKNOWN)
}

/// The words of a `grpc-message` field, which are percent-encoded.
#[must_use]
pub fn grpc_message(value: &[u8]) -> String {
    let mut out = Vec::with_capacity(value.len());
    let mut at = 0;
    while at < value.len() {
        let escaped = value.get(at + 1..at + 3).filter(|_| value[at] == b'%');
        let byte = escaped.and_then(|two| {
            let two = std::str::from_utf8(two).ok()?;
            u8::from_str_radix(two, 16).ok()
        });
        out.push(byte.unwrap_or(value[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What an HTTP status means where gRPC's own is missing.
#[must_use]
pub fn grpc_status_of_http(http: u16) -> u32 {
    match http {
        400 => status::INTERNAL,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => status::UNAVAILABLE,
        _ => status::UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_in_pieces() {
        let mut bytes = Vec::new();
        for message in ["one", "", "three"] {
            write_grpc_message(&mut bytes, message.as_bytes()).expect("short");
        }
        for size in [1, 4, 100] {
            let mut messages = GrpcMessages::new(5);
            let mut got = Vec::new();
            for piece in bytes.chunks(size) {
                messages.push(piece);
                while let Some(message) = messages.take().expect("good") {
                    got.push(String::from_utf8(message).expect("text"));
                }
            }
            assert_eq!(got, ["one", "", "three"]);
            assert!(!messages.is_cut());
        }
    }

    #[test]
    fn bad_messages() {
        for (bytes, status) in [
            (&[1, 0, 0, 0, 0][..], status::INTERNAL),
            (&[0, 0, 0, 0, 6], status::RESOURCE_EXHAUSTED),
            (&[0, 255, 255, 255, 255], status::RESOURCE_EXHAUSTED),
        ] {
            let mut messages = GrpcMessages::new(5);
            messages.push(bytes);
            assert_eq!(messages.take(), Err(status));
        }
        let mut messages = GrpcMessages::new(5);
        messages.push(&[0, 0, 0, 0, 2, b'x']);
        assert_eq!(messages.take(), Ok(None));
        assert!(messages.is_cut());
    }

    #[test]
    fn statuses_and_their_words() {
        for (value, status) in [("0", 0), ("16", 16), ("17", 2), ("", 2), ("-1", 2), ("x", 2)] {
            assert_eq!(grpc_status(value.as_bytes()), status, "{value}");
        }
        for (value, words) in
            [("no%20way", "no way"), ("100%", "100%"), ("%zz%41", "%zzA"), ("%f", "%f")]
        {
            assert_eq!(grpc_message(value.as_bytes()), words);
        }
        assert_eq!([grpc_status_of_http(404), grpc_status_of_http(503)], [12, 14]);
    }
}
