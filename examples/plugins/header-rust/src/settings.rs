//! The plugin's configuration, checked.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A name in lower case and the value it is set to.
pub(crate) type Header = (String, String);

/// The headers to set.
pub(crate) struct Settings {
    pub(crate) request: Vec<Header>,
    pub(crate) response: Vec<Header>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default)]
    request: BTreeMap<String, String>,
    #[serde(default)]
    response: BTreeMap<String, String>,
}

impl Settings {
    /// Reads the configuration's JSON. The error is a sentence for whoever wrote it.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let fields: Fields = serde_json::from_slice(text).map_err(|error| {
            format!(
                r#"expected {{"request": {{"name": "value"}}, "response": {{"name": "value"}}}}: {error}"#
            )
        })?;
        if fields.request.is_empty() && fields.response.is_empty() {
            return Err("name at least one header under request or response".to_owned());
        }
        Ok(Self { request: checked(fields.request)?, response: checked(fields.response)? })
    }
}

fn checked(headers: BTreeMap<String, String>) -> Result<Vec<Header>, String> {
    headers
        .into_iter()
        .map(|(name, value)| {
            if !is_name(&name) {
                return Err(format!("{name:?} is not a header name"));
            }
            if value.bytes().any(|byte| byte != b'\t' && byte.is_ascii_control()) {
                return Err(format!("the value of {name} has a control character"));
            }
            Ok((name.to_ascii_lowercase(), value))
        })
        .collect()
}

/// A token as HTTP defines it, or a pseudo header such as `:path`.
fn is_name(name: &str) -> bool {
    let token = name.strip_prefix(':').unwrap_or(name);
    !token.is_empty()
        && token
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
