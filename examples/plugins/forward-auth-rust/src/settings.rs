//! The plugin's configuration, checked.

use std::time::Duration;

use serde::Deserialize;

/// Milliseconds, at most: nobody waits longer for a page.
const TIMEOUT_MS_MAX: u64 = 60_000;

/// Whom to ask, what to tell, and what to do with the answer. Names of headers are in lower case.
pub(crate) struct Settings {
    /// An upstream as the host names it.
    pub(crate) upstream: String,
    /// The request to the service, as pseudo headers.
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authority: String,
    pub(crate) timeout: Duration,
    /// Headers of the request that the service sees.
    pub(crate) request_headers: Vec<String>,
    /// Headers of the service's 2xx that the upstream sees.
    pub(crate) upstream_headers: Vec<String>,
    /// Headers of the service's refusal that the client sees.
    pub(crate) client_headers: Vec<String>,
    /// What the client gets where there is no answer; nothing: the request passes.
    pub(crate) status_on_error: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    upstream: String,
    #[serde(default = "get")]
    method: String,
    #[serde(default = "root")]
    path: String,
    authority: Option<String>,
    #[serde(default = "timeout")]
    timeout: u64,
    #[serde(default)]
    request_headers: Vec<String>,
    #[serde(default)]
    upstream_headers: Vec<String>,
    #[serde(default)]
    client_headers: Vec<String>,
    #[serde(default = "status_on_error")]
    status_on_error: u32,
    #[serde(default)]
    allow_degradation: bool,
}

fn get() -> String {
    "GET".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

fn timeout() -> u64 {
    3_000
}

fn status_on_error() -> u32 {
    503
}

impl Settings {
    /// Reads the configuration's JSON. The error is a sentence for whoever wrote it.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let fields: Fields = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if fields.upstream.is_empty() {
            return Err("upstream is empty".to_owned());
        }
        if !matches!(fields.method.as_str(), "GET" | "HEAD" | "POST") {
            return Err("method is GET, HEAD or POST".to_owned());
        }
        if !fields.path.starts_with('/') || fields.path.bytes().any(|byte| byte <= b' ') {
            return Err("path starts with / and has no blanks".to_owned());
        }
        if !(1..=TIMEOUT_MS_MAX).contains(&fields.timeout) {
            return Err(format!("timeout is from 1 to {TIMEOUT_MS_MAX} milliseconds"));
        }
        if !(400..=599).contains(&fields.status_on_error) {
            return Err("status_on_error is from 400 to 599".to_owned());
        }
        Ok(Self {
            authority: fields.authority.unwrap_or_else(|| fields.upstream.clone()),
            upstream: fields.upstream,
            method: fields.method,
            path: fields.path,
            timeout: Duration::from_millis(fields.timeout),
            request_headers: names(fields.request_headers)?,
            upstream_headers: names(fields.upstream_headers)?,
            client_headers: names(fields.client_headers)?,
            status_on_error: (!fields.allow_degradation).then_some(fields.status_on_error),
        })
    }
}

/// Tokens as HTTP defines them, in lower case.
fn names(names: Vec<String>) -> Result<Vec<String>, String> {
    let is_of_a_name =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    names
        .into_iter()
        .map(|name| match !name.is_empty() && name.bytes().all(is_of_a_name) {
            true => Ok(name.to_ascii_lowercase()),
            false => Err(format!("{name:?} is not a header name")),
        })
        .collect()
}
