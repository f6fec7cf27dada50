//! Lets requests pass that carry a valid JSON Web Token, and hands its claims to the upstream.

mod key;
mod settings;
mod token;

use std::rc::Rc;
use std::time::UNIX_EPOCH;

use log::error;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use serde_json::{Value, json};

use settings::Settings;
use token::{Claims, Refusal};

proxy_wasm::main! {{
    // Also installs the hook that logs a panic's message before the module traps.
    proxy_wasm::set_log_level(LogLevel::Error);
    proxy_wasm::set_root_context(|_| Box::new(Root { settings: None }));
}}

/// One configuration, shared by the streams made under it.
struct Root {
    settings: Option<Rc<Settings>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        match Settings::parse(&self.get_plugin_configuration().unwrap_or_default()) {
            Ok(settings) => {
                self.settings = Some(Rc::new(settings));
                true
            }
            Err(problem) => {
                error!("jwt: {problem}");
                false
            }
        }
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        let settings = Rc::clone(self.settings.as_ref()?);
        Some(Box::new(Stream { settings }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    settings: Rc<Settings>,
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let verified = self.token().and_then(|token| {
            let now = self.get_current_time().duration_since(UNIX_EPOCH).unwrap_or_default();
            token::verify(&self.settings, &token, now.as_secs())
        });
        match verified {
            Ok(claims) => {
                self.hand_over(&claims);
                Action::Continue
            }
            Err(refusal) => {
                self.refuse(refusal);
                Action::Pause
            }
        }
    }
}

impl Stream {
    /// The request's token. `authorization` may have other schemes than Bearer; any other header may
    /// have the token alone.
    fn token(&self) -> Result<String, Refusal> {
        let value = self.get_http_request_header_bytes(&self.settings.header);
        let value =
            value.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(Refusal::Missing)?;
        let value = value.trim();
        match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Ok(token.trim_start().to_owned())
            }
            None if self.settings.header != "authorization" && !value.is_empty() => {
                Ok(value.to_owned())
            }
            _ => Err(Refusal::Missing),
        }
    }

    /// Sets the headers for the upstream. One whose claim is missing is removed: nobody but a token may
    /// make the upstream believe it.
    fn hand_over(&self, claims: &Claims) {
        for (claim, name) in &self.settings.to_headers {
            let value = claims.get(claim).and_then(header_value);
            self.set_http_request_header(name, value.as_deref());
        }
        if self.settings.hide {
            self.set_http_request_header(&self.settings.header, None);
        }
    }

    /// As RFC 6750 §3 has it: no error code where there was no token.
    fn refuse(&self, refusal: Refusal) {
        let realm = &self.settings.realm;
        let (status, message, error) = match refusal {
            Refusal::Missing => (401, "the request has no token", None),
            Refusal::Invalid(why) => (401, why, Some("invalid_token")),
            Refusal::Insufficient => {
                (403, "the token does not allow this", Some("insufficient_scope"))
            }
        };
        let challenge = match error {
            None => format!("Bearer realm=\"{realm}\""),
            Some(error) => format!(
                "Bearer realm=\"{realm}\", error=\"{error}\", error_description=\"{message}\""
            ),
        };
        let body = json!({ "message": message }).to_string();
        let headers =
            vec![("content-type", "application/json"), ("www-authenticate", challenge.as_str())];
        self.send_http_response(status, headers, Some(body.as_bytes()));
    }
}

/// A claim as the value of a header: a text as it is, a list of texts with commas, anything else as
/// JSON. Nothing where the text would not be one line.
fn header_value(claim: &Value) -> Option<String> {
    let text = match claim {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    };
    (!text.bytes().any(|byte| byte.is_ascii_control())).then_some(text)
}
