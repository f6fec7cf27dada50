//! The little of protobuf that foreign functions and properties need (protobuf's `encoding.md`).
//!
//! ```text
//! message: field*     field: key = number << 3 | type, then
//!   0 varint    1 eight bytes    2 length, bytes    5 four bytes
//! ```
//!
//! Groups (types 3 and 4) are gone from the language; a message with one is malformed here.

/// What is no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A field's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes; no message of ours has such a field.
    Fixed,
}

/// The fields of a message, in order.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field's number and content.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let (number, kind) = (key >> 3, key & 7);
        if number == 0 {
            return Err(Malformed);
        }
        let value = match kind {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(usize::try_from(len).map_err(|_| Malformed)?)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Malformed),
        };
        Ok(Some((number, value)))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.take(1)? else { return Err(Malformed) };
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// A message in the making.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// Adds a string, bytes or a message.
    pub(super) fn bytes(&mut self, number: u64, value: &[u8]) {
        self.varint(number << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// The same, unless it is empty: what is not there is read as empty.
    pub(super) fn some_bytes(&mut self, number: u64, value: &[u8]) {
        if !value.is_empty() {
            self.bytes(number, value);
        }
    }

    /// Adds a bool, unless it is false.
    pub(super) fn some_bool(&mut self, number: u64, value: bool) {
        if value {
            self.varint(number << 3);
            self.varint(1);
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &[u8]) -> Result<Vec<(u64, Value<'_>)>, Malformed> {
        let (mut fields, mut all) = (Fields::of(message), Vec::new());
        while let Some(field) = fields.next()? {
            all.push(field);
        }
        Ok(all)
    }

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.bytes(1, b"text");
        writer.some_bytes(2, b"");
        writer.some_bool(3, true);
        writer.some_bool(4, false);
        writer.bytes(1000, &[7; 300]);
        let message = writer.into_bytes();
        let fields =
            [(1, Value::Bytes(b"text")), (3, Value::Varint(1)), (1000, Value::Bytes(&[7; 300]))];
        assert_eq!(read(&message), Ok(fields.to_vec()));
    }

    #[test]
    fn rows() {
        for (message, expected) in [
            (&b""[..], Ok(vec![])),
            // protobuf's own example: field 1 is 150.
            (b"\x08\x96\x01", Ok(vec![(1, Value::Varint(150))])),
            (b"\x09\0\0\0\0\0\0\0\0", Ok(vec![(1, Value::Fixed)])),
            (b"\x0d\0\0\0\0", Ok(vec![(1, Value::Fixed)])),
            (b"\x12\x00", Ok(vec![(2, Value::Bytes(b""))])),
            (b"\x08", Err(Malformed)),
            (b"\x08\x80", Err(Malformed)),
            (b"\x09\0", Err(Malformed)),
            (b"\x0d\0\0\0", Err(Malformed)),
            (b"\x12\x01", Err(Malformed)),
            (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Err(Malformed)),
            (b"\x00\x00", Err(Malformed)),
            (b"\x0b", Err(Malformed)),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Err(Malformed)),
        ] {
            assert_eq!(read(message), expected, "{message:?}");
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..100_000 {
            let len = random.usize(0..24);
            let message: Vec<u8> = (0..len).map(|_| random.u8(0..24)).collect();
            let _ = read(&message);
        }
    }
}
