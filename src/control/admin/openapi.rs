//! The Admin API described by itself, for clients and for tests that try everything.

use super::kinds::{KINDS, Kind};
use super::schemas::{described_definitions, described_item};
use serde_json::{Map, Value, json};

/// Where the definitions are in the description.
const PLACE: &str = "#/components/schemas/";

/// The description, OpenAPI 3.1.
pub(super) fn description(is_standalone: bool) -> Value {
    let mut paths = Map::new();
    if is_standalone {
        paths.insert("/apisix/admin/configs".to_owned(), configs());
    } else {
        for kind in &KINDS {
            add(&mut paths, kind);
        }
        add_credentials(&mut paths);
    }
    paths.insert("/apisix/admin/configs/validate".to_owned(), post(json!({ "type": "object" })));
    for kind in &KINDS {
        let path = format!("/apisix/admin/schema/validate/{}", kind.plural);
        paths.insert(path, post(described_item(kind.plural, PLACE)));
    }
    for path in
        ["/apisix/admin/plugins", "/apisix/admin/plugins/list", "/apisix/admin/openapi.json"]
    {
        paths.insert(path.to_owned(), json!({ "get": operation(&[], None) }));
    }
    for path in ["/apisix/admin/plugins/{id}", "/apisix/admin/schema/{id}"] {
        paths.insert(path.to_owned(), json!({ "get": operation(&[in_path("id")], None) }));
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "ringgate Admin API", "version": env!("CARGO_PKG_VERSION") },
        "security": [{ "key": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": { "type": "apiKey", "in": "header", "name": "X-API-KEY" },
            },
            "schemas": described_definitions(PLACE),
        },
    })
}

fn add(paths: &mut Map<String, Value>, kind: &Kind) {
    let (base, item) =
        (format!("/apisix/admin/{}", kind.plural), described_item(kind.plural, PLACE));
    let has = |method: &str| !kind.without.contains(&method);
    let mut all = Map::new();
    all.insert("get".to_owned(), operation(&filters(), None));
    all.insert("put".to_owned(), operation(&[in_query("ttl", "integer")], Some(&item)));
    if has("post") {
        all.insert("post".to_owned(), operation(&[in_query("ttl", "integer")], Some(&item)));
    }
    paths.insert(base.clone(), Value::Object(all));
    let is_secret = kind.plural == "secrets";
    let ids = if is_secret { vec![in_path("manager"), in_path("id")] } else { vec![in_path("id")] };
    let one = one(&ids, &item, has("patch"));
    let path = if is_secret { "{manager}/{id}" } else { "{id}" };
    paths.insert(format!("{base}/{path}"), one);
    if has("patch") && !is_secret {
        let parameters = [in_path("id"), in_path("member")];
        let patch = operation(&parameters, Some(&json!(true)));
        paths.insert(format!("{base}/{{id}}/{{member}}"), json!({ "patch": patch }));
    }
}

fn add_credentials(paths: &mut Map<String, Value>) {
    let item = json!({
        "type": "object",
        "required": ["plugins"],
        "properties": { "plugins": { "type": "object", "maxProperties": 1 } },
    });
    let base = "/apisix/admin/consumers/{username}/credentials";
    let consumer = in_path("username");
    let mut parameters = filters();
    parameters.push(consumer.clone());
    paths.insert(base.to_owned(), json!({ "get": operation(&parameters, None) }));
    paths.insert(format!("{base}/{{id}}"), one(&[consumer, in_path("id")], &item, false));
}

/// The operations of one item.
fn one(ids: &[Value], item: &Value, has_patch: bool) -> Value {
    let with = |more: Value| {
        let mut parameters = ids.to_vec();
        parameters.push(more);
        parameters
    };
    let mut one = Map::new();
    one.insert("get".to_owned(), operation(ids, None));
    one.insert("put".to_owned(), operation(&with(in_query("ttl", "integer")), Some(item)));
    one.insert("delete".to_owned(), operation(&with(in_query("force", "boolean")), None));
    if has_patch {
        one.insert("patch".to_owned(), operation(ids, Some(&json!({ "type": "object" }))));
    }
    Value::Object(one)
}

fn configs() -> Value {
    let digest = json!({
        "name": "X-Digest", "in": "header", "required": true, "schema": { "type": "string" },
    });
    json!({
        "get": operation(&[], None),
        "put": operation(&[digest], Some(&json!({ "type": "object" }))),
    })
}

fn post(body: Value) -> Value {
    json!({ "post": operation(&[], Some(&body)) })
}

fn operation(parameters: &[Value], body: Option<&Value>) -> Value {
    let answer = |what: &str| json!({ "description": what });
    let mut operation = json!({
        "parameters": parameters,
        "responses": {
            "2XX": answer("done, and live on every worker unless the answer says otherwise"),
            "4XX": answer("refused; `error_msg` or `message` says why"),
            "503": answer("the store can't be reached"),
        },
    });
    if let Some(schema) = body {
        let content = json!({ "application/json": { "schema": schema } });
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}

fn in_path(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
}

fn in_query(name: &str, kind: &str) -> Value {
    json!({ "name": name, "in": "query", "schema": { "type": kind } })
}

fn filters() -> Vec<Value> {
    let texts = ["name", "label", "uri", "filter"].map(|name| in_query(name, "string"));
    let numbers = ["page", "page_size"].map(|name| in_query(name, "integer"));
    texts.into_iter().chain(numbers).collect()
}
