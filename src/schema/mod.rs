//! Room `schema`: typed reads of JSON values that collect every problem with its path.
//!
//! In: a JSON value and the path it stands at.
//! Out: typed fields, or problems, all of them; the JSON Schema of what is read
//! ([`survey`](fn@survey)).
//! May not know: files, positions in text, what the values configure.
//!
//! ```text
//! let problems = Problems::new();
//! let mut object = Reader::new(&value, at, &problems).object()?;
//! let status = object.need("http_status").and_then(|r| r.integer(200..=599));
//! let body = object.string("body", 0..=usize::MAX);
//! object.finish();                       // keys nobody asked for are problems
//! ```

mod check;
mod reader;
mod survey;
#[cfg(test)]
pub(crate) mod validate;

pub use check::{describe, nearest};
pub use reader::{Object, Reader};
pub use survey::{Style, survey};

use std::cell::RefCell;
use std::fmt;
use survey::Survey;

/// One step from a value to a value inside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A member of an object.
    Key(String),
    /// An element of an array, from 0.
    Index(usize),
}

/// Where a value stands in its document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Path(Vec<Step>);

impl Path {
    /// The document itself.
    #[must_use]
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The path of a member.
    #[must_use]
    pub fn key(&self, name: &str) -> Self {
        self.with(Step::Key(name.to_owned()))
    }

    /// The path of an element.
    #[must_use]
    pub fn index(&self, at: usize) -> Self {
        self.with(Step::Index(at))
    }

    /// The steps from the root.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(name) if at == 0 => write!(f, "{name}")?,
                Step::Key(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub at: Path,
    /// Whether the caret belongs under the key of `at` (an unknown key) or under its value.
    pub on_key: bool,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem with the value at `at`.
    #[must_use]
    pub fn new(at: Path, fault: impl Into<Fault>) -> Self {
        let Fault { message, hint } = fault.into();
        Self { at, on_key: false, message, hint }
    }

    /// The same problem, but with the key.
    #[must_use]
    pub fn on_key(mut self) -> Self {
        self.on_key = true;
        self
    }
}

/// A problem that does not say where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// See [`Problem::message`].
    pub message: String,
    /// See [`Problem::hint`].
    pub hint: Option<String>,
}

impl Fault {
    /// A fault without a hint.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<&str> for Fault {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

/// What is wrong with one document, so far. Readers of its parts share it.
#[derive(Debug, Default)]
pub struct Problems {
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    /// There while a schema is made: readers then read what it makes up.
    survey: Option<Survey>,
}

impl Problems {
    /// Nothing is wrong.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The document must not be used.
    pub fn error(&self, problem: Problem) {
        if let Some(survey) = &self.survey {
            survey.wrong(&problem);
        }
        self.errors.borrow_mut().push(problem);
    }

    /// The document may be used, but the user should know.
    pub fn warn(&self, problem: Problem) {
        if let Some(survey) = &self.survey {
            survey.warned(&problem);
        }
        self.warnings.borrow_mut().push(problem);
    }

    /// How many errors there are so far: a reader that wants to know whether its part is right
    /// compares before and after.
    #[must_use]
    pub fn count(&self) -> usize {
        self.errors.borrow().len()
    }

    /// Whether there are no errors.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.errors.borrow().is_empty()
    }

    /// The errors and the warnings, in the order found.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Problem>, Vec<Problem>) {
        (self.errors.into_inner(), self.warnings.into_inner())
    }
}
