//! Pages to look at a running gateway, without keys: the control API and the status (APISIX
//! reference §1, §10).

use super::admin::{Answer, shown};
use super::store::Store;
use super::upgrade::Upgrades;
use crate::plugin::RunnerPlace;
use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

/// Collections by their plural and singular in the control API, with the keys' beginnings.
const COLLECTIONS: [(&str, &str, &str); 7] = [
    ("routes", "route", "routes/"),
    ("services", "service", "services/"),
    ("upstreams", "upstream", "upstreams/"),
    ("consumers", "consumer", "consumers/"),
    ("plugin_configs", "plugin_config", "plugin_configs/"),
    ("global_rules", "global_rule", "global_rules/"),
    ("plugin_metadatas", "plugin_metadata", "plugin_metadata/"),
];

/// The control API.
pub(super) fn control(store: Arc<Store>) -> Router {
    Router::new().fallback(async move |method: Method, uri: Uri| {
        let Some(path) = uri.path().strip_prefix("/v1/") else { return not_found(uri.path()) };
        match (&method, path) {
            (&Method::PUT, "plugins/reload") => {
                match store.reload_files("PUT /v1/plugins/reload").await {
                    Ok(_) => Answer::ok(json!("done")),
                    Err(failure) => Answer::unavailable(&failure.lines().join("; ")),
                }
            }
            // Memory is given back when its last user is gone; there is nothing to collect.
            (&Method::POST, "gc") => Answer::empty(StatusCode::OK),
            (&Method::GET | &Method::HEAD, path) => look(&store, path),
            _ => Answer::error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"),
        }
    })
}

fn look(store: &Store, path: &str) -> Answer {
    if path == "schema" {
        return Answer::ok(super::admin::all_schemas());
    }
    let document = store.document();
    for (plural, singular, prefix) in COLLECTIONS {
        if path == plural {
            let items = document.collection(prefix);
            return Answer::ok(
                items.map(|(id, item)| shown(&format!("{prefix}{id}"), item)).collect(),
            );
        }
        let Some(id) = path.strip_prefix(singular).and_then(|rest| rest.strip_prefix('/')) else {
            continue;
        };
        let key = format!("{prefix}{id}");
        return match document.get(&key) {
            Some(item) => Answer::ok(shown(&key, item)),
            None => Answer::error(StatusCode::NOT_FOUND, format!("{singular}[{id}] not found")),
        };
    }
    not_found(path)
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
    if status.last.late.is_empty() {
        return Answer::ok(json!({ "status": "ok" }));
    }
    let error =
        format!("workers {:?} did not take snapshot {} yet", status.last.late, status.serving);
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
