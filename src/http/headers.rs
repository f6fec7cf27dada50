//! The header section of one message: names and values as spans over one arena.
//!
//! ```text
//! arena  GET / HTTP/1.1\r\nHost: a\r\nX-K: v\r\n\r\n│new-value│another
//! fields            name^^^^ value^    …            └ appended by plugins
//! ```
//!
//! A received head is copied in once, as it came; the fields keep the offsets the parser found.
//! What plugins add goes to the end of the arena, so an edit never moves what is already there.
//! Both vectors are kept between exchanges: nothing is allocated in the steady state.

use super::{Known, KnownSet, write_field};
use crate::limits;

/// A range of an arena or of a received buffer. `u32` halves the table; heads are far below 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Span {
    /// The span from `start` to `end` (exclusive).
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= u32::MAX as usize);
        Self { start: start as u32, len: (end - start) as u32 }
    }

    fn end(self) -> usize {
        self.start as usize + self.len as usize
    }

    /// The bytes this span covers in `of`.
    #[must_use]
    pub fn of(self, of: &[u8]) -> &[u8] {
        &of[self.start as usize..self.end()]
    }
}

/// One field line: where its name and its value are, and what the name is to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// The field name as received (case kept).
    pub name: Span,
    /// The field value without surrounding whitespace.
    pub value: Span,
    /// What the name says.
    pub known: Known,
}

impl Field {
    /// The field of something that began at `from` and begins at `to` now.
    #[inline]
    pub(super) fn moved(self, from: usize, to: usize) -> Self {
        let at = |span: Span| Span { start: (span.start as usize - from + to) as u32, ..span };
        Self { name: at(self.name), value: at(self.value), ..self }
    }

    /// Most names differ in length already.
    #[inline]
    fn is_named(&self, name: &[u8], arena: &[u8]) -> bool {
        self.name.len as usize == name.len() && self.name.of(arena).eq_ignore_ascii_case(name)
    }

    /// Whether it lies in the arena as `name: value` and CRLF.
    fn is_line(&self, arena: &[u8]) -> bool {
        let (name_end, value_end) = (self.name.end(), self.value.end());
        self.value.start as usize == name_end + 2
            && arena[name_end..name_end + 2] == *b": "
            && arena.get(value_end..value_end + 2) == Some(b"\r\n")
    }

    /// Where that line ends.
    fn line_end(&self) -> usize {
        self.value.end() + 2
    }
}

/// A field that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    arena: &'a [u8],
    field: &'a Field,
}

impl<'a> Line<'a> {
    /// What its name says.
    #[must_use]
    pub fn known(&self) -> Known {
        self.field.known
    }

    /// Its name, as received.
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        self.field.name.of(self.arena)
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        self.field.value.of(self.arena)
    }
}

/// Lines that lie behind each other in an arena.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    start: usize,
    end: usize,
}

impl Run {
    /// Writes it, and is empty then.
    fn write(&mut self, arena: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&arena[self.start..self.end]);
        *self = Self::default();
    }
}

/// An ordered multi-map of header fields. Names compare without case (RFC 9110 §5.1); order and
/// repetition are kept (RFC 9110 §5.3).
#[derive(Clone, Debug, Default)]
pub struct Headers {
    arena: Vec<u8>,
    fields: Vec<Field>,
}

impl Headers {
    /// An empty section.
    #[must_use]
    pub const fn new() -> Self {
        Self { arena: Vec::new(), fields: Vec::new() }
    }

    /// Forgets everything and keeps the memory, unless that is a lot.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.arena.shrink_to(limits::POOLED_BUFFER_BYTES_MAX);
        self.fields.clear();
    }

    /// Takes over a received head: `arena` as it came, `fields` with offsets into it.
    pub fn adopt(&mut self, arena: &[u8], fields: &[Field]) {
        self.clear();
        self.arena.extend_from_slice(arena);
        self.fields.extend_from_slice(fields);
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The first value of `name`.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.position(name).map(|at| self.fields[at].value.of(&self.arena))
    }

    /// All values of `name`, in order.
    pub fn values<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        let named = self.fields.iter().filter(move |field| field.is_named(name, &self.arena));
        named.map(|field| field.value.of(&self.arena))
    }

    /// The first value of a field known to us.
    #[must_use]
    pub fn get_known(&self, known: Known) -> Option<&[u8]> {
        self.values_known(known).next()
    }

    /// All values of a field known to us, in order.
    pub fn values_known(&self, known: Known) -> impl Iterator<Item = &[u8]> + '_ {
        debug_assert_ne!(known, Known::Other);
        let named = self.fields.iter().filter(move |field| field.known == known);
        named.map(|field| field.value.of(&self.arena))
    }

    /// Whether there is a field of that set.
    #[must_use]
    pub fn has_any(&self, set: KnownSet) -> bool {
        self.fields.iter().any(|field| set.has(field.known))
    }

    /// All fields in order, as `(name, value)`.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + '_ {
        self.fields.iter().map(|f| (f.name.of(&self.arena), f.value.of(&self.arena)))
    }

    /// Writes the fields that `keep` wants as `name: value` lines. Neighbours that lie in the arena
    /// as they are written, which is how most heads come, are copied together.
    pub fn write_lines(&self, out: &mut Vec<u8>, mut keep: impl FnMut(Line<'_>) -> bool) {
        let mut run = Run::default();
        for field in &self.fields {
            let line = Line { arena: &self.arena, field };
            if !keep(line) {
                continue;
            }
            if !field.is_line(&self.arena) {
                run.write(&self.arena, out);
                write_field(out, line.name(), line.value());
                continue;
            }
            if run.end != field.name.start as usize {
                run.write(&self.arena, out);
                run.start = field.name.start as usize;
            }
            run.end = field.line_end();
        }
        run.write(&self.arena, out);
    }

    /// Adds a field at the end; an existing one of that name stays.
    pub fn append(&mut self, name: &[u8], value: &[u8]) {
        let known = Known::of(name);
        self.make_room(name.len() + value.len());
        let (name, value) = (self.store(name), self.store(value));
        self.fields.push(Field { name, value, known });
    }

    /// Gives `name` this one value: the first field of that name keeps its place, others go.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let Some(first) = self.position(name) else { return self.append(name, value) };
        self.make_room(value.len());
        let value = self.store(value);
        self.fields[first].value = value;
        let arena = &self.arena;
        let mut index = 0;
        self.fields.retain(|f| {
            let keep = index <= first || !f.is_named(name, arena);
            index += 1;
            keep
        });
    }

    /// Takes every field of that name away; tells whether there was one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let before = self.fields.len();
        let arena = &self.arena;
        self.fields.retain(|f| !f.is_named(name, arena));
        self.fields.len() != before
    }

    /// Takes every field away that `goes`, which may look at the section.
    pub fn remove_if(&mut self, goes: impl Fn(&Self, Line<'_>) -> bool) {
        let mut at = 0;
        while let Some(field) = self.fields.get(at) {
            if goes(self, Line { arena: &self.arena, field }) {
                self.fields.remove(at);
            } else {
                at += 1;
            }
        }
    }

    /// Bytes the section takes as `name: value` lines (without the closing empty line).
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.fields.iter().map(|f| (f.name.len + f.value.len) as usize + 4).sum()
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        self.fields.iter().position(|field| field.is_named(name, &self.arena))
    }

    /// Before the arena grows, what was replaced or removed goes, if that is most of it.
    fn make_room(&mut self, bytes: usize) {
        let grows = self.arena.len() + bytes > self.arena.capacity();
        if grows && self.arena.len() > 2 * self.encoded_len() {
            self.compact();
        }
    }

    fn compact(&mut self) {
        let arena = std::mem::take(&mut self.arena);
        for field in &mut self.fields {
            let (start, name) = (self.arena.len(), field.name.of(&arena));
            write_field(&mut self.arena, name, field.value.of(&arena));
            let (name_end, end) = (start + name.len(), self.arena.len() - 2);
            (field.name, field.value) = (Span::new(start, name_end), Span::new(name_end + 2, end));
        }
    }

    fn store(&mut self, bytes: &[u8]) -> Span {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        Span::new(start, self.arena.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(fields: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in fields {
            headers.append(name.as_bytes(), value.as_bytes());
        }
        headers
    }

    fn pairs(headers: &Headers) -> Vec<(String, String)> {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        headers.iter().map(|(n, v)| (text(n), text(v))).collect()
    }

    #[test]
    fn adopts_spans_of_a_received_head() {
        let head = b"Host: a\r\nX-K: v\r\n";
        let mut headers = Headers::new();
        headers.adopt(
            head,
            &[
                Field { name: Span::new(0, 4), value: Span::new(6, 7), known: Known::Host },
                Field { name: Span::new(9, 12), value: Span::new(14, 15), known: Known::Other },
            ],
        );
        assert_eq!(headers.get(b"host"), Some(&b"a"[..]));
        assert_eq!(headers.get(b"x-k"), Some(&b"v"[..]));
        assert_eq!(headers.get(b"x-l"), None);
        assert_eq!(headers.get_known(Known::Host), Some(&b"a"[..]));
        assert!(headers.has_any(KnownSet::of(&[Known::Te, Known::Host])));
        assert!(!headers.has_any(KnownSet::of(&[Known::Te])));
        headers.append(b"content-LENGTH", b"5");
        headers.append(b"Content-Length", b"6");
        let lengths: Vec<_> = headers.values_known(Known::ContentLength).collect();
        assert_eq!(lengths, [b"5", b"6"]);
        headers.remove(b"content-length");
        assert_eq!(headers.encoded_len(), head.len());
    }

    #[test]
    fn what_was_replaced_is_not_kept_for_ever() {
        let mut headers = section(&[("A", "1"), ("B", "2"), ("C", "")]);
        headers.remove(b"b");
        let long = vec![b'x'; 1000];
        for round in 0..1000 {
            headers.set(b"a", &long[round % 7..]);
            headers.append(b"D", b"4");
            headers.remove(b"d");
        }
        headers.set(b"A", b"9");
        assert_eq!(pairs(&headers), [("A", "9"), ("C", "")].map(|(n, v)| (n.into(), v.into())));
        assert!(headers.arena.capacity() < 8 * long.len(), "{}", headers.arena.capacity());
        headers.set(b"a", &vec![b'x'; limits::POOLED_BUFFER_BYTES_MAX + 1]);
        headers.clear();
        assert!(headers.arena.capacity() <= limits::POOLED_BUFFER_BYTES_MAX);
    }

    #[test]
    fn edits_keep_order_and_case() {
        let mut headers = section(&[("A", "1"), ("b", "2"), ("a", "3"), ("C", "4")]);
        headers.set(b"a", b"9");
        assert_eq!(
            pairs(&headers),
            [("A", "9"), ("b", "2"), ("C", "4")].map(|(n, v)| (n.to_owned(), v.to_owned()))
        );
        headers.append(b"B", b"5");
        assert_eq!(headers.values(b"b").collect::<Vec<_>>(), [b"2", b"5"]);
        assert!(headers.remove(b"B"));
        assert!(!headers.remove(b"B"));
        headers.set(b"new", b"n");
        assert_eq!(headers.get(b"New"), Some(&b"n"[..]));
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn lines_are_written_in_order_however_they_lie() {
        let head = b"A: 1\r\nB:2\r\nC:   3  \r\nD: 4\r\nE: 5\r\n\r\n";
        let spans =
            [(0, 1, 3, 4), (6, 7, 8, 9), (11, 12, 16, 17), (21, 22, 24, 25), (27, 28, 30, 31)];
        let fields = spans.map(|(a, b, c, d)| (Span::new(a, b), Span::new(c, d)));
        let fields = fields.map(|(name, value)| Field { name, value, known: Known::Other });
        let mut headers = Headers::new();
        headers.adopt(head, &fields);
        headers.set(b"e", b"9");
        headers.append(b"F", b"6");
        headers.append(b"G", b"");
        for dropped in [&b""[..], b"A", b"D", b"B", b"G", b"ADG", b"ABCDEFG"] {
            let mut out = Vec::new();
            headers.write_lines(&mut out, |line| !dropped.contains(&line.name()[0]));
            let kept = headers.iter().filter(|(name, _)| !dropped.contains(&name[0]));
            let mut lines = Vec::new();
            kept.for_each(|(name, value)| write_field(&mut lines, name, value));
            assert_eq!(out, lines, "without {dropped:?}");
        }
    }

    #[test]
    fn clearing_keeps_the_memory() {
        let mut headers = section(&[("A", "1"), ("b", "2")]);
        let capacity = headers.arena.capacity();
        headers.clear();
        assert!(headers.is_empty());
        assert_eq!(headers.arena.capacity(), capacity);
    }
}
