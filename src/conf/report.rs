//! What is wrong with a document, for people: position, source line, caret and hint.
//!
//! ```text
//! conf/apisix.yaml:12:9: error: unknown key `plugin` in routes[0]
//!    12 |     plugin:
//!       |     ^^^^^^ did you mean `plugins`?
//! ```

use super::positions::{Positions, Spot};
use super::source::{Source, mask};
use crate::schema::{Fault, Problem};
use serde_json::{Value, json};
use std::fmt::{self, Display, Write};

/// The most characters of a source line that are shown; minified JSON is one line.
const SHOWN_CHARS_MAX: usize = 120;

/// Characters shown before the caret where a line is cut.
const SHOWN_BEFORE: usize = 40;

/// Whether a document may be used in spite of a diagnostic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It must not.
    Error,
    /// It may.
    Warning,
}

/// One problem at its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The document's name.
    pub file: String,
    /// From 1; 0 if there is no position.
    pub line: usize,
    /// From 1, in characters; 0 if there is no position.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    excerpt: Option<Excerpt>,
}

impl Diagnostic {
    /// The diagnostic for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "severity": self.severity.to_string(),
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "length": self.excerpt.as_ref().map(|excerpt| excerpt.length),
            "message": self.message,
            "hint": self.hint,
        })
    }

    /// `conf/apisix.yaml:12:9: error: what is wrong; what to do about it`.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { file, line, column, severity, message, hint, .. } = self;
        let place = if *line > 0 { format!(":{line}:{column}") } else { String::new() };
        let hint = hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("{}{place}: {severity}: {}{}", Shown(file), Shown(message), Shown(&hint))
    }
}

/// A source line, cut to fit, and the part under the caret.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Excerpt {
    text: String,
    before: usize,
    length: usize,
}

/// The diagnostics of one or more documents, in the order of their positions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    diagnostics: Vec<Diagnostic>,
}

/// Reports errors of a document, also those found long after it was parsed.
#[must_use]
pub fn report(source: &Source, problems: Vec<Problem>) -> Report {
    Report::new(source, problems, Vec::new())
}

impl Report {
    /// Reports errors and warnings of a document.
    #[must_use]
    pub fn new(source: &Source, errors: Vec<Problem>, warnings: Vec<Problem>) -> Self {
        if errors.is_empty() && warnings.is_empty() {
            return Self::default();
        }
        let page = Page::new(source);
        let errors = errors.into_iter().map(|problem| page.place(Severity::Error, problem));
        let warnings = warnings.into_iter().map(|problem| page.place(Severity::Warning, problem));
        Self::of(errors.chain(warnings).collect())
    }

    pub(super) fn of(mut diagnostics: Vec<Diagnostic>) -> Self {
        sort(&mut diagnostics);
        Self { diagnostics }
    }

    /// All diagnostics.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// One line for each diagnostic, without source lines and carets.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.diagnostics.iter().map(Diagnostic::line).collect()
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// Whether there is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Adds what another report says.
    pub fn extend(&mut self, other: Self) {
        self.diagnostics.extend(other.diagnostics);
        sort(&mut self.diagnostics);
    }
}

/// By position; what an alias shows more than once is said once.
fn sort(diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.sort_by(|a, b| {
        (&a.file, a.line, a.column, a.severity).cmp(&(&b.file, b.line, b.column, b.severity))
    });
    diagnostics.dedup();
}

/// A document opened for finding positions.
pub(super) struct Page<'a> {
    name: &'a str,
    lines: Vec<&'a str>,
    pub(super) positions: Positions,
}

impl<'a> Page<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self {
            name: &source.name,
            lines: source.text.lines().collect(),
            positions: Positions::of(&mask(&source.text)),
        }
    }

    /// The diagnostic for a problem.
    pub(super) fn place(&self, severity: Severity, problem: Problem) -> Diagnostic {
        let Problem { at, on_key, mut message, hint } = problem;
        let found = self.positions.locate(&at, on_key);
        if !found.is_some_and(|found| found.exact) && !at.steps().is_empty() {
            let _ = write!(message, " (at {at})");
        }
        self.at(severity, found.map(|found| found.spot), Fault { message, hint })
    }

    /// The diagnostic for a fault at a position.
    pub(super) fn at(&self, severity: Severity, spot: Option<Spot>, fault: Fault) -> Diagnostic {
        let spot = spot.and_then(|spot| self.inside(spot));
        let excerpt = spot.and_then(|spot| self.excerpt(spot));
        Diagnostic {
            severity,
            file: self.name.to_owned(),
            line: spot.map_or(0, |spot| spot.line),
            column: spot.map_or(0, |spot| spot.column),
            message: fault.message,
            hint: fault.hint,
            excerpt,
        }
    }

    /// The spot, or the end of the text if the spot is beyond it: parsers count differently there.
    fn inside(&self, spot: Spot) -> Option<Spot> {
        let last = self.lines.len();
        if (1..=last).contains(&spot.line) {
            return Some(spot);
        }
        let column = self.lines.last()?.chars().count() + 1;
        Some(Spot { line: last, column, length: 1 })
    }

    fn excerpt(&self, spot: Spot) -> Option<Excerpt> {
        let line: Vec<char> = self.lines.get(spot.line.checked_sub(1)?)?.chars().collect();
        let column = (spot.column - 1).min(line.len());
        let length = spot.length.min(line.len() - column);
        let cut = line.len() > SHOWN_CHARS_MAX;
        let start = if cut { column.saturating_sub(SHOWN_BEFORE) } else { 0 };
        let end = line.len().min(start + SHOWN_CHARS_MAX);
        let mut text = String::new();
        if start > 0 {
            text.push('…');
        }
        text.extend(line[start..end].iter().copied().map(shown));
        if end < line.len() {
            text.push('…');
        }
        let before = column - start + usize::from(start > 0);
        Some(Excerpt { text, before, length: length.min(end.saturating_sub(column)).max(1) })
    }
}

/// A tab as one space, so that carets fit; other control characters must not reach a terminal.
fn shown(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// Text that may hold what a user's file held.
struct Shown<'a>(&'a str);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| f.write_char(shown(c)))
    }
}

impl Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

impl Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Shown(&self.file))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}: {}", self.severity, Shown(&self.message))?;
        let hint = self.hint.as_deref().unwrap_or_default();
        let Some(Excerpt { text, before, length }) = &self.excerpt else {
            return if hint.is_empty() { Ok(()) } else { write!(f, "\n      = {}", Shown(hint)) };
        };
        write!(f, "\n{:>5} | {text}\n      | ", self.line)?;
        write!(f, "{:before$}{:^<length$}", "", "")?;
        if hint.is_empty() { Ok(()) } else { write!(f, " {}", Shown(hint)) }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            let separator = if index > 0 { "\n" } else { "" };
            write!(f, "{separator}{diagnostic}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Path;

    fn problem(at: Path, message: &str, hint: &str) -> Problem {
        Problem::new(at, Fault::new(message).hint(hint))
    }

    #[test]
    fn diagnostics_show_the_place() {
        let text = "routes:\n  -\n    uri: /a\n    plugin:\n      é:\t\"x\"\n";
        let source = Source::new("conf/apisix.yaml", text);
        let route = Path::root().key("routes").index(0);
        let key = problem(route.key("plugin"), "unknown key `plugin`", "did you mean `plugins`?");
        let value = Problem::new(route.key("plugin").key("é"), "expected \u{1b}[1ma thing");
        let lost = Problem::new(route.key("gone").key("too"), "is gone");
        let warning = problem(route.key("uri"), "odd", "why");
        let report = Report::new(&source, vec![value, key.on_key(), lost], vec![warning]);
        assert!(report.has_errors());
        let wanted = "\
conf/apisix.yaml:3:5: error: is gone (at routes[0].gone.too)
    3 |     uri: /a
      |     ^
conf/apisix.yaml:3:10: warning: odd
    3 |     uri: /a
      |          ^^ why
conf/apisix.yaml:4:5: error: unknown key `plugin`
    4 |     plugin:
      |     ^^^^^^ did you mean `plugins`?
conf/apisix.yaml:5:10: error: expected \u{fffd}[1ma thing
    5 |       é: \"x\"
      |          ^^^";
        assert_eq!(report.to_string(), wanted);
        let first = &report.diagnostics()[1];
        assert_eq!((first.line, first.column, first.severity), (3, 10, Severity::Warning));
    }

    #[test]
    fn long_lines_are_cut() {
        let text =
            format!("a: {:?}\nb: [{}7, {}]\n", "x".repeat(200), "1, ".repeat(50), "2,".repeat(99));
        let source = Source::new("f", text);
        let at = |path| report(&source, vec![Problem::new(path, "here")]).to_string();
        let shown = at(Path::root().key("b").index(50));
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[0], "f:2:155: error: here");
        assert_eq!(lines[1].chars().count(), 8 + 122);
        assert!(lines[1].starts_with("    2 | …") && lines[1].ends_with('…'));
        assert_eq!(lines[1].chars().nth(lines[2].find('^').expect("a caret")), Some('7'));
        assert!(at(Path::root().key("a")).ends_with(&format!("      |    {}", "^".repeat(117))));
    }

    #[test]
    fn without_a_position_there_is_still_a_message() {
        let source = Source::new("f", "");
        let report =
            report(&source, vec![problem(Path::root(), "nothing here", "write something")]);
        assert_eq!(report.to_string(), "f: error: nothing here\n      = write something");
        let mut all = Report::default();
        assert!(all.is_empty() && !all.has_errors());
        all.extend(report);
        assert_eq!(all.diagnostics().len(), 1);
    }
}
