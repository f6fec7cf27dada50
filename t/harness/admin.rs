//! A client of the Admin API.

use super::Client;
use serde_json::Value;
use std::net::SocketAddr;

/// Asks as the administrator, on a connection of its own each time.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) address: SocketAddr,
}

impl Admin {
    pub(crate) const KEY: &'static str = "the-key-of-the-tests";
    pub(crate) const VIEWER_KEY: &'static str = "the-key-of-a-viewer";

    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// The status and the body, null if there is none. Paths begin after `/apisix/admin`.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str, body: impl AsRef<str>) -> (u16, Value) {
        self.ask_with(&format!("X-API-KEY: {}\r\n", Self::KEY), method, path, body)
    }

    /// The same with other fields.
    #[track_caller]
    pub(crate) fn ask_with(
        &self,
        fields: &str,
        method: &str,
        path: &str,
        body: impl AsRef<str>,
    ) -> (u16, Value) {
        let body = body.as_ref();
        let length = body.len();
        let mut client = Client::connect(self.address);
        client.send(format!(
            "{method} /apisix/admin{path} HTTP/1.1\r\nHost: a\r\n{fields}\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ));
        let response = if method == "HEAD" { client.response_to_head() } else { client.response() };
        let text = response.text();
        let value = serde_json::from_str(&text).unwrap_or(Value::Null);
        assert!(text.is_empty() || !value.is_null(), "{path}: no JSON: {text}");
        (response.status(), value)
    }

    /// Puts a value that must be taken.
    #[track_caller]
    pub(crate) fn put(&self, path: &str, body: impl AsRef<str>) {
        let (status, answer) = self.ask("PUT", path, body);
        assert!([200, 201].contains(&status), "{path}: {status} {answer}");
    }
}
