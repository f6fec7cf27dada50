//! The plugin's configuration, checked.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A name in lower case and a value.
pub(crate) type Header = (String, String);

/// What to do to the headers of each direction.
pub(crate) struct Settings {
    pub(crate) request: Edits,
    pub(crate) response: Edits,
}

/// What to do to headers, in this order.
#[derive(Default)]
pub(crate) struct Edits {
    pub(crate) remove: Vec<String>,
    /// In place of all values there are.
    pub(crate) set: Vec<Header>,
    /// Behind the values there are.
    pub(crate) add: Vec<Header>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default)]
    request: Direction,
    #[serde(default)]
    response: Direction,
}

/// Only headers to set, or what to do to which.
#[derive(Deserialize)]
#[serde(untagged)]
enum Direction {
    Set(BTreeMap<String, String>),
    Edits(Operations),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Operations {
    #[serde(default)]
    remove: Vec<String>,
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    add: BTreeMap<String, String>,
}

impl Default for Direction {
    fn default() -> Self {
        Self::Set(BTreeMap::new())
    }
}

const FORM: &str = r#"expected {"request": {"set": {"name": "value"}, "add": {"name": "value"}, "remove": ["name"]}, "response": the same}, or {"name": "value"} to set"#;

impl Settings {
    /// Reads the configuration's JSON. The error is a sentence for whoever wrote it.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let fields: Fields =
            serde_json::from_slice(text).map_err(|error| format!("{FORM}: {error}"))?;
        let settings = Self {
            request: Edits::checked(fields.request)?,
            response: Edits::checked(fields.response)?,
        };
        if settings.request.is_empty() && settings.response.is_empty() {
            return Err("name at least one header under request or response".to_owned());
        }
        Ok(settings)
    }
}

impl Edits {
    fn checked(direction: Direction) -> Result<Self, String> {
        match direction {
            Direction::Set(set) => Ok(Self { set: checked(set)?, ..Self::default() }),
            Direction::Edits(Operations { remove, set, add }) => Ok(Self {
                remove: remove.into_iter().map(lower_case).collect::<Result<_, _>>()?,
                set: checked(set)?,
                add: checked(add)?,
            }),
        }
    }

    fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

fn checked(headers: BTreeMap<String, String>) -> Result<Vec<Header>, String> {
    headers
        .into_iter()
        .map(|(name, value)| {
            if value.bytes().any(|byte| byte != b'\t' && byte.is_ascii_control()) {
                return Err(format!("the value of {name} has a control character"));
            }
            Ok((lower_case(name)?, value))
        })
        .collect()
}

fn lower_case(name: String) -> Result<String, String> {
    if is_name(&name) {
        Ok(name.to_ascii_lowercase())
    } else {
        Err(format!("{name:?} is not a header name"))
    }
}

/// A token as HTTP defines it, or a pseudo header such as `:path`.
fn is_name(name: &str) -> bool {
    let token = name.strip_prefix(':').unwrap_or(name);
    !token.is_empty()
        && token
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
