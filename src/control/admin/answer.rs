//! Answers of the Admin API, and the words APISIX has for what goes wrong.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, SERVER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A status and a JSON body, if there is one.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::control) struct Answer {
    pub(in crate::control) status: StatusCode,
    pub(in crate::control) body: Option<Value>,
}

impl Answer {
    pub(in crate::control) fn new(status: StatusCode, body: Value) -> Self {
        Self { status, body: Some(body) }
    }

    pub(in crate::control) fn ok(body: Value) -> Self {
        Self::new(StatusCode::OK, body)
    }

    pub(in crate::control) fn empty(status: StatusCode) -> Self {
        Self { status, body: None }
    }

    /// `{"error_msg": ...}`.
    pub(in crate::control) fn error(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, json!({ "error_msg": message.into() }))
    }

    pub(in crate::control) fn bad(message: impl Into<String>) -> Self {
        Self::error(StatusCode::BAD_REQUEST, message)
    }

    /// What APISIX says of a value that is wrong.
    pub(in crate::control) fn invalid(why: impl std::fmt::Display) -> Self {
        Self::bad(format!("invalid configuration: {why}"))
    }

    pub(in crate::control) fn no_such_key() -> Self {
        Self::new(StatusCode::NOT_FOUND, json!({ "message": "Key not found" }))
    }

    pub(in crate::control) fn unavailable(why: &str) -> Self {
        Self::error(StatusCode::SERVICE_UNAVAILABLE, why)
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let text = self.body.map(|body| format!("{body}\n")).unwrap_or_default();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(SERVER, HeaderValue::from_static("ringgate"));
        headers.insert("x-api-version", HeaderValue::from_static("v3"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
