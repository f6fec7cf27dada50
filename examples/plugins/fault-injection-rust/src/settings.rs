//! The plugin's configuration, checked.

use serde_json::{Map, Value};

/// What to answer, and how often.
pub(crate) struct Settings {
    pub(crate) http_status: u32,
    pub(crate) body: String,
    pub(crate) percentage: u32,
}

impl Settings {
    /// Reads the configuration's JSON. The error is a sentence for whoever wrote it.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the configuration is empty".to_owned());
        }
        let value: Value = serde_json::from_slice(text)
            .map_err(|error| format!("the configuration is not JSON: {error}"))?;
        let Value::Object(fields) = value else {
            return Err("the configuration must be a JSON object".to_owned());
        };
        let http_status = integer(&fields, "http_status", 200, 999)?
            .ok_or_else(|| "http_status is required".to_owned())?;
        let body = match fields.get("body") {
            None => String::new(),
            Some(Value::String(body)) => body.clone(),
            Some(_) => return Err("body must be a string".to_owned()),
        };
        let percentage = integer(&fields, "percentage", 0, 100)?.unwrap_or(100);
        Ok(Self { http_status, body, percentage })
    }
}

/// The integer under `name`, if there is one.
fn integer(
    fields: &Map<String, Value>,
    name: &str,
    least: u32,
    most: u32,
) -> Result<Option<u32>, String> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    value
        .as_u64()
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| (least..=most).contains(number))
        .map(Some)
        .ok_or_else(|| format!("{name} must be an integer from {least} to {most}"))
}
