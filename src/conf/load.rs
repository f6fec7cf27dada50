//! From text to a JSON value and back to a report: what both documents share.

use super::decode::{Decoded, Repeated, SyntaxError, decode};
use super::positions::Spot;
use super::report::{Diagnostic, Page, Report, Severity};
use super::source::{Env, Expanded, Source, expand};
use crate::schema::{Fault, Path, Problem, Problems};
use serde_json::Value;

/// A problem about something that is there already.
#[derive(Debug)]
pub(super) struct Duplicate {
    /// The problem with the second; its hint will be the first one's line.
    pub(super) problem: Problem,
    /// The first.
    pub(super) first: Path,
}

/// A decoded document and what was wrong with it so far.
#[derive(Debug)]
pub(super) struct Document<'a> {
    source: &'a Source,
    pub(super) value: Value,
    /// Problems of values that are null since; what readers say about those is of no use.
    pub(super) early: Vec<Problem>,
    repeated: Vec<Repeated>,
    missing: Vec<(Spot, String)>,
}

impl<'a> Document<'a> {
    /// Decodes a document as it is.
    pub(super) fn plain(source: &'a Source) -> Result<Self, Report> {
        Self::decode(source, &source.text, None)
    }

    /// Decodes a document after its variables were replaced.
    pub(super) fn expanded(source: &'a Source, env: Env<'_>) -> Result<Self, Report> {
        let expanded = expand(&source.text, env);
        Self::decode(source, &expanded.text, Some(&expanded))
    }

    fn decode(source: &'a Source, text: &str, expanded: Option<&Expanded>) -> Result<Self, Report> {
        let missing: Vec<_> = expanded
            .into_iter()
            .flat_map(|expanded| &expanded.missing)
            .map(|missing| (spot_of(&source.text, &missing.range), missing.name.clone()))
            .collect();
        match decode(text) {
            Ok(Decoded { value, problems, repeated }) => {
                Ok(Self { source, value, early: problems, repeated, missing })
            }
            Err(error) => Err(refuse(source, text, expanded, error, &missing)),
        }
    }

    /// Ends the reading: what was read, whole only if the report has no errors, and the report.
    pub(super) fn conclude<T>(
        self,
        read: T,
        problems: Problems,
        duplicates: Vec<Duplicate>,
    ) -> (T, Report) {
        let (mut errors, warnings) = problems.into_parts();
        errors.retain(|problem| !self.early.iter().any(|early| early.at == problem.at));
        errors.extend(self.early);
        let quiet = errors.is_empty() && warnings.is_empty() && duplicates.is_empty();
        if quiet && self.repeated.is_empty() && self.missing.is_empty() {
            return (read, Report::default());
        }
        let page = Page::new(self.source);
        let errors = errors.into_iter().map(|problem| page.place(Severity::Error, problem));
        let warnings = warnings.into_iter().map(|problem| page.place(Severity::Warning, problem));
        let mut all: Vec<_> = errors.chain(warnings).collect();
        all.extend(duplicates.into_iter().map(|duplicate| second(&page, duplicate)));
        all.retain(|found| !self.missing.iter().any(|(spot, _)| spot.line == found.line));
        all.extend(self.repeated.into_iter().map(|repeated| again(&page, &repeated)));
        all.extend(self.missing.iter().map(|missing| unset(&page, missing)));
        (read, Report::of(all))
    }
}

/// What was read if nothing is wrong with it.
pub(super) fn whole<T>((read, report): (T, Report)) -> Result<(T, Report), Report> {
    if report.has_errors() { Err(report) } else { Ok((read, report)) }
}

fn refuse(
    source: &Source,
    text: &str,
    expanded: Option<&Expanded>,
    error: SyntaxError,
    missing: &[(Spot, String)],
) -> Report {
    let page = Page::new(source);
    let place = |(line, column)| {
        let offset = offset_of(text, line, column);
        let offset = expanded.map_or(offset, |expanded| expanded.original(offset));
        let mut spot = spot_of(&source.text, &(offset..offset));
        spot.length = 1;
        spot
    };
    let mut spot = error.position.map(place);
    let mut fault = error.fault;
    if error.second_document {
        spot = page.positions.second_document();
        fault = fault.hint("one file is one document: remove the `---`");
    }
    let mut all = vec![page.at(Severity::Error, spot, fault)];
    all.extend(missing.iter().map(|missing| unset(&page, missing)));
    Report::of(all)
}

fn second(page: &Page<'_>, duplicate: Duplicate) -> Diagnostic {
    let Duplicate { mut problem, first } = duplicate;
    if let Some(found) = page.positions.locate(&first, problem.on_key) {
        problem.hint = Some(format!("the first is on line {}", found.spot.line));
    }
    page.place(Severity::Error, problem)
}

fn again(page: &Page<'_>, repeated: &Repeated) -> Diagnostic {
    let Repeated { at, nth } = repeated;
    let name = at.to_string();
    let fault = Fault::new(format!("the key `{name}` is there twice"));
    let spots = page.positions.keys(at);
    let fault = match spots.first() {
        Some(first) => fault.hint(format!("the first is on line {}", first.line)),
        None => fault,
    };
    page.at(Severity::Error, spots.get(*nth).copied(), fault)
}

fn unset(page: &Page<'_>, (spot, name): &(Spot, String)) -> Diagnostic {
    page.at(Severity::Error, Some(*spot), unset_fault(name))
}

/// A variable without a value.
pub(super) fn unset_fault(name: &str) -> Fault {
    Fault::new(format!("the environment variable `{name}` is not set"))
        .hint(format!("set it, or give a default: ${{{{{name}:=value}}}}"))
}

/// The byte offset of a line and column, or the end of the text.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let line: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let characters = text[line..].char_indices().map(|(offset, _)| line + offset);
    characters.chain([text.len()]).nth(column - 1).unwrap_or(text.len())
}

fn spot_of(text: &str, range: &std::ops::Range<usize>) -> Spot {
    let before = &text[..range.start];
    let line = before.rsplit('\n').next().unwrap_or_default();
    Spot {
        line: before.matches('\n').count() + 1,
        column: line.chars().count() + 1,
        length: text[range.clone()].chars().count(),
    }
}
