//! Pages to look at a running gateway, without keys: the control API and the status (APISIX
//! reference §1, §10).

use super::admin::{Answer, id_text, shown};
use super::document::{Document, Item};
use super::healthcheck;
use super::store::{CLOSED, Store};
use super::upgrade::Upgrades;
use crate::plugin::RunnerPlace;
use axum::Router;
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

/// Collections by their plural and singular in the control API, with the keys' beginnings.
const COLLECTIONS: [(&str, &str, &str); 8] = [
    ("routes", "route", "routes/"),
    ("services", "service", "services/"),
    ("upstreams", "upstream", "upstreams/"),
    ("consumers", "consumer", "consumers/"),
    ("consumer_groups", "consumer_group", "consumer_groups/"),
    ("plugin_configs", "plugin_config", "plugin_configs/"),
    ("global_rules", "global_rule", "global_rules/"),
    ("plugin_metadatas", "plugin_metadata", "plugin_metadata/"),
];

/// The control API.
pub(super) fn control(store: Arc<Store>) -> Router {
    Router::new().fallback(async move |method: Method, uri: Uri, headers: HeaderMap| {
        let Some(path) = uri.path().strip_prefix("/v1/") else {
            return not_found(uri.path()).into_response();
        };
        let wants = headers.get(ACCEPT).and_then(|accepted| accepted.to_str().ok());
        let for_people = wants.is_some_and(|accepted| accepted.contains("text/html"));
        let answer = match (&method, path) {
            (&Method::GET | &Method::HEAD, "healthcheck") if for_people => {
                return healthcheck::page(&store.snapshot()).into_response();
            }
            (&Method::PUT, "plugins/reload") => {
                match store.reload_files("PUT /v1/plugins/reload").await {
                    Ok(_) => Answer::ok(json!("done")),
                    Err(failure) => Answer::unavailable(&failure.lines().join("; ")),
                }
            }
            // Memory is given back when its last user is gone; there is nothing to collect.
            (&Method::POST, "gc") => Answer::empty(StatusCode::OK),
            (&Method::GET | &Method::HEAD, path) => look(&store, path).await,
            _ => Answer::error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"),
        };
        answer.into_response()
    })
}

async fn look(store: &Store, path: &str) -> Answer {
    if path == "schema" {
        return Answer::ok(super::admin::all_schemas());
    }
    if let Some(rest) = path.strip_prefix("healthcheck")
        && (rest.is_empty() || rest.starts_with('/'))
    {
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        return healthcheck::answer(&store.snapshot(), &store.document(), rest);
    }
    let Some(wanted) = Wanted::of(path) else { return not_found(path) };
    match store.resources_file().await {
        Ok(Some(document)) => wanted.in_file(&document, store.status().serving),
        Ok(None) => wanted.in_store(&store.document()),
        Err(why) => Answer::unavailable(&why),
    }
}

/// Resources that are asked for: all of a collection, or one.
struct Wanted<'a> {
    singular: &'static str,
    prefix: &'static str,
    id: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn of(path: &'a str) -> Option<Self> {
        COLLECTIONS.into_iter().find_map(|(plural, singular, prefix)| {
            let id = path.strip_prefix(singular).and_then(|rest| rest.strip_prefix('/'));
            (path == plural || id.is_some()).then_some(Self { singular, prefix, id })
        })
    }

    fn in_store(&self, document: &Document) -> Answer {
        let Some(id) = self.id else {
            let key = |id| format!("{}{id}", self.prefix);
            let items = document.collection(self.prefix);
            return Answer::ok(items.map(|(id, item)| shown(&key(id), item)).collect());
        };
        let key = format!("{}{id}", self.prefix);
        document.get(&key).map_or_else(|| self.missing(id), |item| Answer::ok(shown(&key, item)))
    }

    /// In a document of `apisix.yaml`, taken as the snapshot of that number. Ids are those that
    /// APISIX gives (reference §2.1).
    fn in_file(&self, document: &Value, number: u64) -> Answer {
        let collection = self.prefix.trim_end_matches('/');
        let list = document[collection].as_array().map_or(&[][..], Vec::as_slice);
        let item = |(index, value): (usize, &Value)| {
            let own = value.get("id").or_else(|| value.get("username")).and_then(id_text);
            let id = own.unwrap_or_else(|| format!("arr_{}", index + 1));
            let (created, modified) = (number, number);
            (id, Item { value: value.clone(), created, modified, expires_s: None })
        };
        let key = |id: &str| format!("{}{id}", self.prefix);
        let mut items = list.iter().enumerate().map(item);
        let Some(id) = self.id else {
            return Answer::ok(items.map(|(id, item)| shown(&key(&id), &item)).collect());
        };
        let found = items.find(|(own, _)| own == id);
        found.map_or_else(|| self.missing(id), |(_, item)| Answer::ok(shown(&key(id), &item)))
    }

    fn missing(&self, id: &str) -> Answer {
        Answer::error(StatusCode::NOT_FOUND, format!("{}[{id}] not found", self.singular))
    }
}

fn not_found(path: &str) -> Answer {
    Answer::error(StatusCode::NOT_FOUND, format!("{path} not found"))
}

/// `/status`: the process is there; `/status/ready`: what it serves is what is wanted of it.
pub(super) fn status(store: Arc<Store>) -> Router {
    Router::new().fallback(async move |uri: Uri| match uri.path() {
        "/status" => Answer::ok(described(&store)),
        "/status/ready" => ready(&store),
        path => not_found(path),
    })
}

fn ready(store: &Store) -> Answer {
    let status = store.status();
    let why = |key: &str| status.left_out.get(key).map_or(key, String::as_str).to_owned();
    let missing: Vec<String> = store.document().missing_global_rules().map(why).collect();
    let error = if !missing.is_empty() {
        format!("{CLOSED}: {}", missing.join("; "))
    } else if !status.last.late.is_empty() {
        format!("workers {:?} did not take snapshot {} yet", status.last.late, status.serving)
    } else {
        return Answer::ok(json!({ "status": "ok" }));
    };
    let body = json!({ "status": "error", "error": error });
    Answer::new(StatusCode::SERVICE_UNAVAILABLE, body)
}

fn described_upgrades(upgrades: &Upgrades) -> Value {
    let last =
        upgrades.last().map(|refused| json!({ "at": seconds(refused.at), "why": refused.why }));
    json!({
        "good": upgrades.good.load(Ordering::Relaxed),
        "refused": upgrades.refused.load(Ordering::Relaxed),
        "last_refused": last,
    })
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn described_runner(runner: &RunnerPlace) -> Value {
    let figures = runner.life.figures();
    json!({
        "name": runner.name,
        "socket": runner.socket,
        "running": figures.running,
        "restarts": figures.restarts,
        "calls": figures.calls,
        "failures": figures.failures,
        "connections": figures.connections,
        "waiting": figures.waiting,
    })
}

fn described(store: &Store) -> Value {
    let status = store.status();
    json!({
        "status": "ok",
        "snapshot": { "number": status.serving, "since": seconds(status.since) },
        "loads": { "good": status.good, "refused": status.refused },
        "last_try": {
            "number": status.last.number,
            "at": seconds(status.last.at),
            "cause": status.last.cause,
            "errors": status.last.errors,
            "late_workers": status.last.late,
        },
        "left_out": status.left_out,
        "upgrades": described_upgrades(&store.upgrades),
        "runners": store.runners.iter().map(|runner| described_runner(runner)).collect::<Vec<_>>(),
        "store": { "revision": store.document().revision, "away": status.away },
    })
}
