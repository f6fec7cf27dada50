//! The plugin's configuration, checked.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::key::{self, Key};

/// Seconds of grace, at most: beyond it the times in a token would mean little.
const GRACE_S_MAX: u64 = 600;

/// Which tokens are good, where they are, and what becomes of their claims.
pub(crate) struct Settings {
    pub(crate) keys: Vec<Key>,
    /// Name of the header that has the token, in lower case.
    pub(crate) header: String,
    pub(crate) realm: String,
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
    pub(crate) require_exp: bool,
    pub(crate) grace_s: u64,
    /// Claims that must be there, with their value; with any value where it is null.
    pub(crate) required: BTreeMap<String, Value>,
    /// Claims, and the headers that get their values.
    pub(crate) to_headers: BTreeMap<String, String>,
    /// Whether the token is kept from the upstream.
    pub(crate) hide: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    keys: Vec<key::Fields>,
    #[serde(default = "authorization")]
    header: String,
    #[serde(default = "realm")]
    realm: String,
    issuer: Option<String>,
    audience: Option<String>,
    #[serde(default = "yes")]
    require_exp: bool,
    #[serde(default)]
    lifetime_grace_period: u64,
    #[serde(default)]
    required_claims: BTreeMap<String, Value>,
    #[serde(default)]
    claims_to_headers: BTreeMap<String, String>,
    #[serde(default)]
    hide_credentials: bool,
}

fn authorization() -> String {
    "authorization".to_owned()
}

fn realm() -> String {
    "jwt".to_owned()
}

fn yes() -> bool {
    true
}

impl Settings {
    /// Reads the configuration's JSON. The error is a sentence for whoever wrote it.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let fields: Fields = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if fields.keys.is_empty() {
            return Err("give at least one of keys".to_owned());
        }
        if fields.lifetime_grace_period > GRACE_S_MAX {
            return Err(format!("lifetime_grace_period is at most {GRACE_S_MAX} seconds"));
        }
        // It goes into a quoted string of WWW-Authenticate.
        if !fields.realm.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b"\"\\".contains(&byte))
        {
            return Err("realm is plain text without quotes and backslashes".to_owned());
        }
        let to_headers = fields.claims_to_headers.into_iter();
        let to_headers = to_headers.map(|(claim, name)| Ok((claim, header_name(&name)?)));
        Ok(Self {
            keys: fields.keys.into_iter().map(Key::new).collect::<Result<_, _>>()?,
            header: header_name(&fields.header)?,
            realm: fields.realm,
            issuer: fields.issuer,
            audience: fields.audience,
            require_exp: fields.require_exp,
            grace_s: fields.lifetime_grace_period,
            required: fields.required_claims,
            to_headers: to_headers.collect::<Result<_, String>>()?,
            hide: fields.hide_credentials,
        })
    }
}

/// A token as HTTP defines it, in lower case.
fn header_name(name: &str) -> Result<String, String> {
    let is_of_a_name =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_of_a_name) {
        return Err(format!("{name:?} is not a header name"));
    }
    Ok(name.to_ascii_lowercase())
}
