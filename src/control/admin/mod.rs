//! The Admin API in APISIX's v3 shapes (APISIX reference §10).
//!
//! ```text
//! request ─► address allowed? ─► key and role ─► path ─┬─ resources: routes, services, …
//!                                                      ├─ plugins, schema, validation
//!                                                      └─ configs, in the standalone mode
//! ```

mod answer;
mod configs;
mod keys;
mod kinds;
mod list;
mod openapi;
mod patch;
mod query;
mod resources;
mod schemas;

pub(super) use answer::Answer;
pub(super) use keys::Guard;
pub(super) use kinds::id_text;
pub(super) use resources::shown;
pub(super) use schemas::all_schemas;

use super::backend::Backend;
use super::server::Client;
use super::store::Store;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use query::{Query, decode};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// Bytes of a request's body, as in APISIX.
const BODY_BYTES_MAX: usize = 1536 * 1024;

const BASE: &str = "/apisix/admin";

/// What all requests need.
struct Admin {
    store: Arc<Store>,
    guard: Guard,
    cors: bool,
    /// The names of the plugins that may be used.
    plugins: Vec<String>,
    /// Of the standalone mode: what was put last, and who is putting.
    configs: Mutex<configs::Known>,
    putting: tokio::sync::Mutex<()>,
}

/// A request that may be answered.
struct Asked {
    method: Method,
    /// The decoded steps of the path after the base.
    path: Vec<String>,
    query: Query,
    headers: HeaderMap,
    body: Bytes,
}

/// The pages of the Admin API.
pub(super) fn pages(store: Arc<Store>, guard: Guard, cors: bool, plugins: Vec<String>) -> Router {
    let (configs, putting) = Default::default();
    let admin = Arc::new(Admin { store, guard, cors, plugins, configs, putting });
    Router::new().fallback(
        async move |ConnectInfo(Client(client)): ConnectInfo<Client>, request: Request| {
            if !admin.guard.allows(client) {
                return Answer::error(StatusCode::FORBIDDEN, "this address is not allowed")
                    .into_response();
            }
            let head = request.method() == Method::HEAD;
            let mut response = admin.answer(request).await;
            if admin.cors {
                allow_origins(response.headers_mut());
            }
            if head {
                *response.body_mut() = Body::empty();
            }
            response
        },
    )
}

fn allow_origins(headers: &mut HeaderMap) {
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
        (ACCESS_CONTROL_EXPOSE_HEADERS, "*"),
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "*"),
        (ACCESS_CONTROL_MAX_AGE, "3600"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

impl Admin {
    async fn answer(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        // A browser asks first, without a key.
        if parts.method == Method::OPTIONS {
            return Answer::empty(StatusCode::OK).into_response();
        }
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        if let Err(denied) = self.guard.check(&parts.method, &parts.headers, &query) {
            return denied.into_response();
        }
        let Some(path) = parts.uri.path().strip_prefix(BASE) else {
            return not_found().into_response();
        };
        let path = path.split('/').filter(|step| !step.is_empty()).map(decode).collect();
        let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
            let why =
                format!("request size is greater than the maximum size {BODY_BYTES_MAX} allowed");
            return Answer::bad(format!("invalid request body: {why}")).into_response();
        };
        let (method, headers) = (parts.method, parts.headers);
        self.dispatch(Asked { method, path, query, headers, body }).await
    }

    async fn dispatch(&self, asked: Asked) -> Response {
        let steps: Vec<&str> = asked.path.iter().map(String::as_str).collect();
        let is_standalone = matches!(self.store.backend, Backend::Memory);
        let answer = match (&asked.method, &steps[..]) {
            (&Method::HEAD | &Method::GET, []) => Answer::empty(StatusCode::OK),
            (&Method::GET, ["openapi.json"]) => Answer::ok(openapi::description(is_standalone)),
            (&Method::POST, ["configs", "validate"]) => configs::validate(self, &asked).await,
            (&Method::POST, ["schema", "validate", kind]) => {
                resources::validate(self, kind, &asked).await
            }
            (_, ["configs"]) if is_standalone => return configs::answer(self, &asked).await,
            (_, ["plugins", "reload"]) => self.reload_plugins(&asked.method).await,
            (&Method::GET, ["plugins", ..] | ["schema", ..]) => {
                schemas::answer(self, &steps, &asked.query)
            }
            (_, ["plugins", ..] | ["schema", ..]) => not_allowed(),
            // A document that is replaced as a whole has no single parts to change.
            (_, _) if is_standalone => not_found(),
            (_, [kind, rest @ ..]) => resources::answer(self, kind, rest, &asked).await,
            _ => not_allowed(),
        };
        answer.into_response()
    }

    async fn reload_plugins(&self, method: &Method) -> Answer {
        if method != Method::PUT {
            return not_allowed();
        }
        match self.store.reload_files("PUT /apisix/admin/plugins/reload").await {
            Ok(_) => Answer::ok(json!("done")),
            Err(failure) => Answer::unavailable(&failure.lines().join("; ")),
        }
    }
}

fn not_found() -> Answer {
    Answer::error(StatusCode::NOT_FOUND, "not found")
}

fn not_allowed() -> Answer {
    Answer::error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
}

impl Asked {
    /// The body as JSON.
    ///
    /// # Errors
    /// The answer to a body that is none.
    fn json(&self) -> Result<Value, Answer> {
        if self.body.is_empty() {
            return Err(Answer::bad("missing configurations"));
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            let message = format!("invalid request body: {error}");
            let body = String::from_utf8_lossy(&self.body);
            let body = json!({ "error_msg": message, "req_body": body });
            Answer::new(StatusCode::BAD_REQUEST, body)
        })
    }

    /// `PUT /apisix/admin/routes/1`, without what might hold a key.
    fn cause(&self) -> String {
        format!("{} {BASE}/{}", self.method, self.path.join("/"))
    }
}
