//! The plugin's configuration, checked and made ready to search with.

use memchr::memmem::Finder;
use serde::Deserialize;

/// What to replace in each direction.
pub(crate) struct Settings {
    pub(crate) request: Option<Replacement>,
    pub(crate) response: Option<Replacement>,
}

/// One text and what stands in its place.
pub(crate) struct Replacement {
    from: Finder<'static>,
    to: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    request: Option<Pair>,
    response: Option<Pair>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    from: String,
    to: String,
}

impl Settings {
    /// Reads the configuration's JSON. The error is a sentence for whoever wrote it.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let fields: Fields = serde_json::from_slice(text).map_err(|error| {
            format!(
                r#"expected {{"request": {{"from": "a", "to": "b"}}, "response": {{"from": "a", "to": "b"}}}}: {error}"#
            )
        })?;
        if fields.request.is_none() && fields.response.is_none() {
            return Err("give a replacement under request or response".to_owned());
        }
        Ok(Self {
            request: fields.request.map(Replacement::new).transpose()?,
            response: fields.response.map(Replacement::new).transpose()?,
        })
    }
}

impl Replacement {
    fn new(Pair { from, to }: Pair) -> Result<Self, String> {
        if from.is_empty() {
            return Err("from must not be empty".to_owned());
        }
        Ok(Self { from: Finder::new(&from).into_owned(), to: to.into_bytes() })
    }

    /// Whether an edited body can have another length than the original.
    pub(crate) fn resizes(&self) -> bool {
        self.from.needle().len() != self.to.len()
    }

    /// The edited body, or nothing where the text does not occur.
    pub(crate) fn apply(&self, body: &[u8]) -> Option<Vec<u8>> {
        let mut edited = Vec::new();
        let mut copied = 0;
        for found in self.from.find_iter(body) {
            edited.extend_from_slice(&body[copied..found]);
            edited.extend_from_slice(&self.to);
            copied = found + self.from.needle().len();
        }
        if copied == 0 {
            return None;
        }
        edited.extend_from_slice(&body[copied..]);
        Some(edited)
    }
}
