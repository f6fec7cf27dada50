//! GET, PUT, POST, PATCH and DELETE of resources.

use super::super::Failure;
use super::super::document::{Change, Document, Item, key_of};
use super::super::load::lines;
use super::super::store::{Edited, Refusal, now_s};
use super::kinds::{CREDENTIAL, Kind, dangling, id_text, of, public};
use super::list::list;
use super::patch::{merge, put_at};
use super::{Admin, Answer, Asked};
use crate::builtin::has_metadata;
use crate::schema::{Problem, Step};
use axum::http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Where a request points to.
struct Place {
    kind: &'static Kind,
    /// What a key of the collection begins with.
    prefix: String,
    id: Option<String>,
    /// The path below an item, for PATCH.
    sub_path: String,
}

/// Members that the gateway fills in.
const FILLED: [&str; 2] = ["create_time", "update_time"];

/// The answer to a request below a collection's name.
pub(super) async fn answer(admin: &Admin, name: &str, rest: &[&str], asked: &Asked) -> Answer {
    let place = match Place::new(name, rest) {
        Ok(place) => place,
        Err(answer) => return answer,
    };
    if let Some(consumer) = place.consumer()
        && admin.store.document().get(&consumer).is_none()
    {
        return Answer::error(StatusCode::NOT_FOUND, "consumer not found");
    }
    let method = asked.method.as_str().to_ascii_lowercase();
    if place.kind.without.contains(&method.as_str()) {
        let message =
            format!("not supported `{}` method for {}", asked.method, place.kind.singular);
        return Answer::error(StatusCode::METHOD_NOT_ALLOWED, message);
    }
    match &asked.method {
        &Method::GET | &Method::HEAD => get(admin, &place, asked),
        &Method::PUT => put(admin, place, asked).await,
        &Method::POST => post(admin, place, asked).await,
        &Method::PATCH => patch(admin, place, asked).await,
        &Method::DELETE => delete(admin, place, asked).await,
        _ => super::not_allowed(),
    }
}

impl Place {
    fn new(name: &str, rest: &[&str]) -> Result<Self, Answer> {
        let Some(kind) = of(name) else {
            let message = format!("Unsupported resource type: {name}");
            return Err(Answer::error(StatusCode::NOT_FOUND, message));
        };
        let place = |kind, prefix: String, id: &[&str], sub: &[&str]| Self {
            kind,
            prefix,
            id: (!id.is_empty()).then(|| id.join("/")),
            sub_path: sub.join("/"),
        };
        let plain = format!("{name}/");
        Ok(match (name, rest) {
            ("consumers", [consumer, "credentials", rest @ ..]) => {
                let (id, sub) = rest.split_at(rest.len().min(1));
                place(&CREDENTIAL, format!("consumers/{consumer}/credentials/"), id, sub)
            }
            // The manager is part of the id: `secrets/vault/1`.
            ("secrets", rest) => {
                let (id, sub) = rest.split_at(rest.len().min(2));
                place(kind, plain, id, sub)
            }
            (_, rest) => {
                let (id, sub) = rest.split_at(rest.len().min(1));
                place(kind, plain, id, sub)
            }
        })
    }

    /// The key of the consumer that a credential belongs to.
    fn consumer(&self) -> Option<String> {
        self.prefix.strip_suffix("/credentials/").map(str::to_owned)
    }

    fn key(&self, id: &str) -> String {
        format!("{}{id}", self.prefix)
    }

    fn missing_id(&self) -> Answer {
        Answer::bad(format!("missing {} id", self.kind.singular))
    }
}

/// A key as clients see it.
fn shown_key(key: &str) -> String {
    format!("/apisix/{key}")
}

/// An item as GET shows it, here and in the control API.
pub(in crate::control) fn shown(key: &str, item: &Item) -> Value {
    let key = shown_key(key);
    json!({
        "value": public(&key, &item.value),
        "key": key,
        "createdIndex": item.created,
        "modifiedIndex": item.modified,
    })
}

fn get(admin: &Admin, place: &Place, asked: &Asked) -> Answer {
    let document = admin.store.document();
    match &place.id {
        // What is below a part of an id, as of a secrets' manager, is a list.
        Some(id) if place.kind.plural != "secrets" || id.contains('/') => {
            match document.get(&place.key(id)) {
                Some(item) => Answer::ok(shown(&place.key(id), item)),
                None => Answer::no_such_key(),
            }
        }
        _ if place.kind.plural == "secrets" => {
            let prefix = place.id.as_ref().map_or_else(|| place.prefix.clone(), |id| place.key(id));
            let items = document.below(&prefix).map(|(key, item)| (key.to_owned(), item));
            list(items, &asked.query, shown)
        }
        _ => {
            let items = document.collection(&place.prefix);
            let items = items.map(|(id, item)| (place.key(id), item));
            list(items, &asked.query, shown)
        }
    }
}

async fn put(admin: &Admin, place: Place, asked: &Asked) -> Answer {
    let (value, ttl_s) = match body(asked).and_then(|value| Ok((value, ttl(asked)?))) {
        Ok(read) => read,
        Err(answer) => return answer,
    };
    let own = value.get(place.kind.id_key).or_else(|| value.get("id")).and_then(id_text);
    let id = match (&place.id, own) {
        (Some(id), Some(own)) if *id != own && !id.ends_with(&format!("/{own}")) => {
            return Answer::bad(format!("wrong {} id", place.kind.singular));
        }
        (Some(id), _) => id.clone(),
        (None, Some(own)) => own,
        (None, None) => return place.missing_id(),
    };
    if place.kind.plural == "plugin_metadata" && !admin.plugins.contains(&id) {
        return Answer::bad("invalid plugin name");
    }
    write(admin, place, asked, id, value, ttl_s).await
}

async fn post(admin: &Admin, place: Place, asked: &Asked) -> Answer {
    if place.id.is_some() {
        let singular = place.kind.singular;
        return Answer::bad(format!("wrong {singular} id, do not need it"));
    }
    let (value, ttl_s) = match body(asked).and_then(|value| Ok((value, ttl(asked)?))) {
        Ok(read) => read,
        Err(answer) => return answer,
    };
    if value.get("id").is_some() {
        let singular = place.kind.singular;
        return Answer::bad(format!("wrong {singular} id, do not need it"));
    }
    let next = admin.store.document().revision + 1;
    let id = match admin.store.backend.next_id(next).await {
        Ok(number) => format!("{number:020}"),
        Err(why) => return Answer::unavailable(&why),
    };
    write(admin, place, asked, id, value, ttl_s).await
}

/// Puts a whole value under an id.
async fn write(
    admin: &Admin,
    place: Place,
    asked: &Asked,
    id: String,
    value: Value,
    ttl_s: Option<u64>,
) -> Answer {
    let key = place.key(&id);
    let plan = move |document: &Document| {
        let mut value = value.clone();
        if let Some(message) = dangling(document, &value) {
            return Err(Answer::bad(message));
        }
        fill_in(&mut value, place.kind, &id, document.get(&key).map(|item| &item.value));
        Ok(vec![Change::Put { key: key.clone(), value, ttl_s }])
    };
    written(admin.store.edit(&asked.cause(), plan).await)
}

async fn patch(admin: &Admin, place: Place, asked: &Asked) -> Answer {
    let Some(id) = place.id.clone() else { return place.missing_id() };
    let (patch, ttl_s) = match asked.json().and_then(|patch| Ok((patch, ttl(asked)?))) {
        Ok(read) => read,
        Err(answer) => return answer,
    };
    if place.sub_path.is_empty() && !patch.is_object() {
        return Answer::invalid("expected an object");
    }
    let key = place.key(&id);
    let plan = move |document: &Document| {
        let Some(item) = document.get(&key) else { return Err(Answer::no_such_key()) };
        let mut value = item.value.clone();
        if place.sub_path.is_empty() {
            merge(&mut value, patch.clone());
        } else {
            put_at(&mut value, &place.sub_path, patch.clone()).map_err(Answer::bad)?;
        }
        if let Some(message) = dangling(document, &value) {
            return Err(Answer::bad(message));
        }
        fill_in(&mut value, place.kind, &id, Some(&item.value));
        Ok(vec![Change::Put { key: key.clone(), value, ttl_s }])
    };
    written(admin.store.edit(&asked.cause(), plan).await)
}

async fn delete(admin: &Admin, place: Place, asked: &Asked) -> Answer {
    let Some(id) = place.id.clone() else { return place.missing_id() };
    let key = place.key(&id);
    let force = asked.query.is_true("force");
    let plan = move |document: &Document| {
        if document.get(&key).is_none() {
            return Err(Answer::no_such_key());
        }
        if let Some(message) = place.kind.user(document, &id).filter(|_| !force) {
            return Err(Answer::bad(message));
        }
        // A consumer's credentials go with it.
        let below = format!("{key}/");
        let keys = document.below(&below).map(|(below, _)| below.to_owned());
        let keys = std::iter::once(key.clone()).chain(keys);
        Ok(keys.map(|key| Change::Delete { key }).collect())
    };
    match admin.store.edit(&asked.cause(), plan).await {
        Ok(Edited { live, changes }) => {
            let key = changes.first().map(|(change, _)| shown_key(change.key()));
            let body = json!({ "deleted": "1", "key": key });
            announced(StatusCode::OK, body, &live.late)
        }
        Err(refusal) => refused(refusal),
    }
}

/// A body that is an object and says nothing that the gateway says.
fn body(asked: &Asked) -> Result<Value, Answer> {
    let value = asked.json()?;
    let Value::Object(members) = &value else { return Err(Answer::invalid("expected an object")) };
    match FILLED.iter().find(|key| members.contains_key(**key)) {
        Some(key) => Err(Answer::invalid(format!(
            "property \"{key}\" validation failed: the property is forbidden: {key}"
        ))),
        None => Ok(value),
    }
}

fn ttl(asked: &Asked) -> Result<Option<u64>, Answer> {
    let Some(text) = asked.query.get("ttl") else { return Ok(None) };
    match text.parse() {
        Ok(ttl) if ttl > 0 && ttl <= u64::from(u32::MAX) => Ok(Some(ttl)),
        _ => Err(Answer::bad(format!("invalid ttl: {text}"))),
    }
}

/// The id, and when the item was made and changed.
fn fill_in(value: &mut Value, kind: &Kind, id: &str, before: Option<&Value>) {
    let Value::Object(members) = value else { return };
    let own = id.rsplit('/').next().unwrap_or(id);
    match kind.plural {
        "consumers" => drop(members.insert("username".to_owned(), own.into())),
        _ => drop(members.insert("id".to_owned(), own.into())),
    }
    let made = before.and_then(|before| before.get("create_time")).cloned();
    members.insert("create_time".to_owned(), made.unwrap_or_else(|| now_s().into()));
    members.insert("update_time".to_owned(), now_s().into());
    fill_defaults(kind.plural, members);
}

/// What APISIX's schemas fill in (reference §3, §5) that says how an item of `collection` works;
/// what it has inside has its own.
fn fill_defaults(collection: &str, members: &mut Map<String, Value>) {
    let defaults = match collection {
        "routes" => &[("priority", json!(0)), ("status", json!(1))][..],
        "upstreams" => &[
            ("type", json!("roundrobin")),
            ("scheme", json!("http")),
            ("pass_host", json!("pass")),
            ("hash_on", json!("vars")),
        ],
        _ => &[],
    };
    for (key, value) in defaults {
        members.entry(*key).or_insert_with(|| value.clone());
    }
    if ["routes", "services"].contains(&collection)
        && let Some(Value::Object(upstream)) = members.get_mut("upstream")
    {
        fill_defaults("upstreams", upstream);
    }
}

fn written(outcome: Result<Edited, Refusal<Answer>>) -> Answer {
    let Edited { live, changes } = match outcome {
        Ok(edited) => edited,
        Err(refusal) => return refused(refusal),
    };
    let Some((Change::Put { key, value, .. }, was_there)) = changes.into_iter().next() else {
        return Answer::empty(StatusCode::OK);
    };
    let warning = without_effect(&key);
    let key = shown_key(&key);
    let mut body = json!({ "value": public(&key, &value), "key": key });
    if let Some(warning) = warning {
        body["warning"] = warning.into();
    }
    announced(if was_there { StatusCode::OK } else { StatusCode::CREATED }, body, &live.late)
}

/// What to know of a resource that is kept for others and means nothing here.
fn without_effect(key: &str) -> Option<String> {
    match key.split_once('/')? {
        ("ssls" | "protos" | "secrets" | "stream_routes", _) => {
            Some("stored, and without effect in this gateway".to_owned())
        }
        ("plugin_metadata", name) if !has_metadata(name) => {
            Some(format!("stored, and without effect: plugin {name} has no metadata here"))
        }
        _ => None,
    }
}

/// An answer of success, or of one that is still to come on some workers.
fn announced(status: StatusCode, mut body: Value, late: &[usize]) -> Answer {
    if late.is_empty() {
        return Answer::new(status, body);
    }
    body["warning"] = format!("stored, and not live yet on workers {late:?}").into();
    Answer::new(StatusCode::ACCEPTED, body)
}

pub(super) fn refused(refusal: Refusal<Answer>) -> Answer {
    match refusal {
        Refusal::Planned(answer) => answer,
        Refusal::Failed(failure) => failed(&failure),
        Refusal::Unavailable(why) => Answer::unavailable(&why),
        Refusal::Conflict => Answer::error(
            StatusCode::CONFLICT,
            "others change the same resource all the time: try again",
        ),
    }
}

/// What our checker says of a configuration.
pub(super) fn failed(failure: &Failure) -> Answer {
    match failure {
        Failure::Items(problems) => {
            let keys: Vec<_> = problems.iter().map(key_of).collect();
            let alone = keys.windows(2).all(|pair| pair[0] == pair[1]);
            // Where all of it is about one item, and that is the one asked for, paths begin there.
            let said =
                if alone { problems.iter().map(below_item).collect() } else { lines(problems) };
            Answer::invalid(said.join("; "))
        }
        Failure::Wrong(_) | Failure::NotTaken(_) => Answer::invalid(failure.lines().join("; ")),
        Failure::File(_) | Failure::Broken(_) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Answer::error(status, failure.lines().join("; "))
        }
    }
}

/// `plugins.echo.body: what is wrong; what to do about it`.
fn below_item(problem: &Problem) -> String {
    let steps = problem.at.steps().get(2..).unwrap_or_default();
    let mut at = crate::schema::Path::root();
    for step in steps {
        at = match step {
            Step::Key(key) => at.key(key),
            Step::Index(index) => at.index(*index),
        };
    }
    let place = if steps.is_empty() { String::new() } else { format!("{at}: ") };
    let hint = problem.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("{place}{}{hint}", problem.message)
}

/// `POST /apisix/admin/schema/validate/{kind}`: whether a value would be taken, under no id yet.
pub(super) async fn validate(admin: &Admin, name: &str, asked: &Asked) -> Answer {
    let Some(kind) = of(name) else {
        let message = format!("Unsupported resource type: {name}");
        return Answer::error(StatusCode::NOT_FOUND, message);
    };
    let mut value = match body(asked) {
        Ok(value) => value,
        Err(answer) => return answer,
    };
    let own = value.get(kind.id_key).and_then(id_text);
    let id = own.unwrap_or_else(|| "validated".to_owned());
    if let Value::Object(members) = &mut value
        && kind.id_key == "id"
    {
        members.entry("id").or_insert_with(|| id.clone().into());
    }
    let key = format!("{}/{id}", kind.plural);
    match admin.store.check(vec![Change::Put { key, value, ttl_s: None }]).await {
        Ok(()) => Answer::empty(StatusCode::OK),
        Err(failure) => failed(&failure),
    }
}

/// An item's value with what a list of `/apisix/admin/configs` has.
pub(super) fn listed_value(id: &str, item: &Arc<Item>) -> Value {
    let mut value = item.value.clone();
    if let Value::Object(members) = &mut value {
        members.insert("id".to_owned(), id.into());
        members.insert("modifiedIndex".to_owned(), item.modified.into());
    }
    value
}
