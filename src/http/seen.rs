//! Lines that the last head had, too.
//!
//! ```text
//! last  Host: a\r\nUser-Agent: b\r\nCookie: c\r\nAccept: d\r\n\r\n
//! now   Host: a\r\nUser-Agent: b\r\nCookie: x\r\nAccept: d\r\n\r\n
//!       └── again ──────────────┘└─ read ───┘└─ again ─┘
//! ```
//!
//! A client sends most of its fields with every request, and an upstream's responses differ in a
//! line or two. A line that stands there again, byte for byte, was read and checked before; what
//! was found holds again, at another place. Looking whether it does costs a fifth of reading it.

use super::Field;
use super::scan::common;
use crate::limits;
use std::fmt;

/// The fields of the last head, if that was plain and whole, and what they came to.
#[derive(Clone)]
pub(super) struct Seen<F> {
    /// Its field lines, the empty one included; empty: there was no head, or a long one.
    text: Vec<u8>,
    /// Its lines, as offsets into the text; without a text they say nothing. While a head is read,
    /// those before the line that comes next are that head's already.
    lines: Vec<Field>,
    /// What all of them together say, if that was found to be in order.
    pub(super) facts: Option<F>,
}

impl<F> Seen<F> {
    /// All lines, if `rest` begins with just these.
    #[inline]
    pub(super) fn all(&self, rest: &[u8]) -> Option<&[Field]> {
        let again = !self.text.is_empty() && rest.starts_with(&self.text);
        again.then_some(&self.lines)
    }

    /// How long all of them are.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// The lines from `number` on that `rest`, which is `at` that far into its section, begins
    /// with; they are noted as the head's that is being read. And where the next one begins.
    #[inline]
    pub(super) fn run(&mut self, number: usize, rest: &[u8], at: usize) -> (&[Field], usize) {
        let Some(first) = self.lines.get(number).filter(|_| !self.text.is_empty()) else {
            return (&[], at);
        };
        let from = first.name.start as usize;
        let same = from + common(&self.text[from..], rest);
        let ends = |line: usize| match self.lines.get(line + 1) {
            Some(next) => next.name.start as usize,
            // The empty line is no part of the last one.
            None => self.text.len() - 2,
        };
        let (mut until, mut end) = (number, from);
        while until < self.lines.len() && ends(until) <= same {
            end = ends(until);
            until += 1;
        }
        let run = &mut self.lines[number..until];
        if at != from {
            run.iter_mut().for_each(|line| *line = line.moved(from, at));
        }
        (run, at + end - from)
    }

    /// Notes what a line of the head that is being read is, in place of the one that was seen.
    #[inline]
    pub(super) fn note(&mut self, number: usize, line: Field) {
        if let Some(seen) = self.lines.get_mut(number) {
            *seen = line;
        } else if number < limits::SEEN_LINES_MAX {
            self.lines.push(line);
        }
    }

    /// Remembers a head all lines of which were noted.
    pub(super) fn learn(&mut self, text: &[u8], lines: usize) {
        self.forget();
        if text.len() <= limits::SEEN_BYTES_MAX && lines <= limits::SEEN_LINES_MAX {
            self.text.reserve_exact(text.len());
            self.text.extend_from_slice(text);
            self.lines.truncate(lines);
        }
    }

    /// Bytes and lines that there is room for.
    #[cfg(test)]
    pub(super) fn room(&self) -> (usize, usize) {
        (self.text.capacity(), self.lines.capacity())
    }

    /// What was noted is not to be used.
    pub(super) fn forget(&mut self) {
        self.text.clear();
        self.facts = None;
    }
}

impl<F> Default for Seen<F> {
    fn default() -> Self {
        Self { text: Vec::new(), lines: Vec::new(), facts: None }
    }
}

/// It says nothing about the head that it belongs to.
impl<F> fmt::Debug for Seen<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seen")
    }
}
