//! `/apisix/admin/configs`: the whole configuration at once, in the API-driven standalone mode
//! (APISIX reference §2.3).

use super::super::document::{Change, Document};
use super::super::store::{Edited, now_s};
use super::kinds::{KINDS, id_text};
use super::resources::{failed, listed_value, refused};
use super::{Admin, Answer, Asked, not_allowed};
use crate::conf::Source;
use crate::conf::resources;
use crate::time::HttpDate;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::sync::{MutexGuard, PoisonError};

const DIGEST: HeaderName = HeaderName::from_static("x-digest");
const LAST_MODIFIED: HeaderName = HeaderName::from_static("x-last-modified");

/// What is known of the configuration that was put last.
#[derive(Debug, Default)]
pub(super) struct Known {
    digest: Option<HeaderValue>,
    modified_s: u64,
    /// `<collection>_conf_version`.
    versions: BTreeMap<&'static str, u64>,
}

/// A configuration that was put, read.
struct Put {
    changes: Vec<Change>,
    versions: BTreeMap<&'static str, u64>,
}

/// GET, HEAD and PUT.
pub(super) async fn answer(admin: &Admin, asked: &Asked) -> Response {
    match &asked.method {
        &Method::GET | &Method::HEAD => {
            let is_yaml = asked
                .headers
                .get(ACCEPT)
                .is_some_and(|accept| accept.to_str().is_ok_and(|accept| accept.contains("yaml")));
            let mut response = Answer::ok(all(admin)).into_response();
            if is_yaml {
                // JSON is YAML.
                let kind = HeaderValue::from_static("application/yaml");
                response.headers_mut().insert(CONTENT_TYPE, kind);
            }
            with_headers(admin, response)
        }
        &Method::PUT => match put(admin, asked).await {
            Ok(answer) => with_headers(admin, answer.into_response()),
            Err(answer) => answer.into_response(),
        },
        _ => not_allowed().into_response(),
    }
}

/// `POST /apisix/admin/configs/validate`.
pub(super) async fn validate(admin: &Admin, asked: &Asked) -> Answer {
    let read = body(asked).and_then(|value| {
        let known = BTreeMap::new();
        read(&admin.store.document(), &value, &known)
    });
    let changes = match read {
        Ok(put) => put.changes,
        Err(answer) => return answer,
    };
    match admin.store.check(changes).await {
        Ok(()) => Answer::empty(StatusCode::OK),
        Err(failure) => failed(&failure),
    }
}

fn known(admin: &Admin) -> MutexGuard<'_, Known> {
    admin.configs.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with_headers(admin: &Admin, mut response: Response) -> Response {
    let known = known(admin);
    if let Some(digest) = &known.digest {
        let date = HttpDate::new(known.modified_s);
        let headers = response.headers_mut();
        headers.insert(DIGEST, digest.clone());
        if let Ok(date) = HeaderValue::from_bytes(date.as_bytes()) {
            headers.insert(LAST_MODIFIED, date);
        }
    }
    response
}

fn all(admin: &Admin) -> Value {
    let document = admin.store.document();
    let known = known(admin);
    let mut members = Map::new();
    for kind in &KINDS {
        let prefix = format!("{}/", kind.plural);
        let below = document.below(&prefix);
        let list: Vec<Value> =
            below.map(|(key, item)| listed_value(&key[prefix.len()..], item)).collect();
        if !list.is_empty() {
            members.insert(kind.plural.to_owned(), Value::Array(list));
        }
        let version = known.versions.get(kind.plural).copied().unwrap_or(0);
        members.insert(format!("{}_conf_version", kind.plural), version.into());
    }
    Value::Object(members)
}

async fn put(admin: &Admin, asked: &Asked) -> Result<Answer, Answer> {
    let Some(digest) = asked.headers.get(DIGEST).filter(|digest| !digest.is_empty()) else {
        return Err(Answer::bad("missing digest header"));
    };
    // One at a time: versions are compared with those of the one before.
    let _turn = admin.putting.lock().await;
    if known(admin).digest.as_ref() == Some(digest) {
        return Ok(Answer::empty(StatusCode::NO_CONTENT));
    }
    let value = body(asked)?;
    let before = known(admin).versions.clone();
    let versions = read(&admin.store.document(), &value, &before)?.versions;
    let plan = move |document: &Document| Ok(read(document, &value, &before)?.changes);
    match admin.store.edit(&asked.cause(), plan).await {
        Ok(Edited { live, .. }) => {
            *known(admin) = Known { digest: Some(digest.clone()), modified_s: now_s(), versions };
            match live.late.is_empty() {
                true => Ok(Answer::empty(StatusCode::ACCEPTED)),
                false => {
                    let warning = format!("not live yet on workers {:?}", live.late);
                    Ok(Answer::new(StatusCode::ACCEPTED, serde_json::json!({ "warning": warning })))
                }
            }
        }
        Err(refusal) => Err(refused(refusal)),
    }
}

/// The body as JSON or YAML, by its type.
fn body(asked: &Asked) -> Result<Value, Answer> {
    let kind = asked.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if !kind.is_some_and(|kind| kind.contains("yaml")) {
        return asked.json();
    }
    let text = String::from_utf8_lossy(&asked.body);
    resources::plain_value(&Source::new("body", text)).map_err(|report| {
        Answer::bad(format!("invalid request body: {}", report.lines().join("; ")))
    })
}

/// What a whole configuration changes.
fn read(
    document: &Document,
    value: &Value,
    known: &BTreeMap<&'static str, u64>,
) -> Result<Put, Answer> {
    let Value::Object(members) = value else {
        return Err(Answer::bad("invalid request body: expected an object"));
    };
    let mut put = Put { changes: Vec::new(), versions: BTreeMap::new() };
    let mut names = HashSet::new();
    for kind in &KINDS {
        let version_key = format!("{}_conf_version", kind.plural);
        let current = known.get(kind.plural).copied().unwrap_or(0);
        let version = match members.get(&version_key) {
            None => current + 1,
            Some(version) => version
                .as_u64()
                .ok_or_else(|| Answer::bad(format!("{version_key} must be a number")))?,
        };
        if version < current {
            let message = format!("{version_key} must be greater than or equal to ({current})");
            return Err(Answer::bad(message));
        }
        // Before the first PUT all versions are 0: nothing is there to be kept.
        let is_kept = version == current && current > 0;
        let items = items(kind.plural, kind.id_key, members.get(kind.plural))?;
        if !is_kept {
            replace(document, kind.plural, items, &mut put.changes)?;
        }
        put.versions.insert(kind.plural, version);
        names.extend([kind.plural.to_owned(), version_key]);
    }
    match members.keys().find(|key| !names.contains(*key)) {
        Some(key) => Err(Answer::invalid(format!("unknown key `{key}`"))),
        None => Ok(put),
    }
}

/// The items of a collection with their ids.
fn items(
    collection: &str,
    id_key: &str,
    value: Option<&Value>,
) -> Result<Vec<(String, Value)>, Answer> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(Answer::invalid(format!("{collection}: expected a list"))),
    };
    let item = |(at, item): (usize, &Value)| {
        let mut item = item.clone();
        let own = item.get(id_key).or_else(|| item.get("id")).and_then(id_text);
        let id = own.unwrap_or_else(|| format!("arr_{}", at + 1));
        if let Some(members) = item.as_object_mut() {
            members.shift_remove("modifiedIndex");
        }
        (id, item)
    };
    Ok(list.iter().enumerate().map(item).collect())
}

fn replace(
    document: &Document,
    collection: &str,
    items: Vec<(String, Value)>,
    changes: &mut Vec<Change>,
) -> Result<(), Answer> {
    let prefix = format!("{collection}/");
    let mut ids = HashSet::new();
    for (id, value) in items {
        if !ids.insert(id.clone()) {
            let message = format!("{collection}: found duplicate id {id}");
            return Err(Answer::invalid(message));
        }
        let key = format!("{prefix}{id}");
        if document.get(&key).is_none_or(|item| item.value != value) {
            changes.push(Change::Put { key, value, ttl_s: None });
        }
    }
    let gone = document.below(&prefix).filter(|(key, _)| !ids.contains(&key[prefix.len()..]));
    changes.extend(gone.map(|(key, _)| Change::Delete { key: key.to_owned() }));
    Ok(())
}
