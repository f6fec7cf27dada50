//! The health of upstreams' nodes in the control API, in APISIX's shape (reference §10;
//! `apisix/control/v1.lua`).

use super::admin::Answer;
use super::document::Document;
use crate::snapshot::{NodeHealth, Snapshot, UpstreamHealth};
use axum::http::StatusCode;
use axum::response::Html;
use serde_json::{Value, json};
use std::fmt::Write;

/// Kinds of resources that may have health checks.
const KINDS: [&str; 4] = ["routes", "services", "stream_routes", "upstreams"];

/// All of them, or one: `path` is what follows `healthcheck` and its slash. `document` knows which
/// resources there are, where they are not in files.
pub(super) fn answer(snapshot: &Snapshot, document: &Document, path: &str) -> Answer {
    if path.is_empty() {
        return Answer::ok(snapshot.health().map(|upstream| described(&upstream)).collect());
    }
    let (kind, id) = match path.split_once('/') {
        Some((kind, id)) if !id.is_empty() => (kind, id),
        _ => {
            let kind = path.trim_end_matches('/');
            return not_found(format!("missing src id for src type {kind}"));
        }
    };
    if !KINDS.contains(&kind) {
        return Answer::bad(format!("invalid src type {kind}"));
    }
    let name = format!("/apisix/{kind}/{id}");
    if let Some(upstream) = snapshot.health().find(|upstream| upstream.name == name) {
        return Answer::ok(described(&upstream));
    }
    let has_upstream =
        snapshot.upstreams.iter().flatten().any(|upstream| upstream.board.key() == name);
    let is_there = has_upstream
        || document.get(&format!("{kind}/{id}")).is_some()
        || kind == "routes"
            && snapshot.routes.iter().flatten().any(|route| route.facts.route_id == id);
    not_found(match is_there {
        true => format!("no checker for {kind}[{id}]"),
        false => format!("{kind}[{id}] not found"),
    })
}

fn not_found(message: String) -> Answer {
    Answer::error(StatusCode::NOT_FOUND, message)
}

fn described(upstream: &UpstreamHealth<'_>) -> Value {
    let nodes: Vec<Value> = upstream.nodes.iter().map(described_node).collect();
    json!({ "name": upstream.name, "type": upstream.kind, "nodes": nodes })
}

fn described_node(node: &NodeHealth<'_>) -> Value {
    let health = &node.health;
    json!({
        "ip": ip(node),
        "port": node.address.map_or(node.port, |address| address.port()),
        "hostname": node.host,
        "status": health.status.as_str(),
        "counter": {
            "success": health.successes,
            "http_failure": health.http_failures,
            "tcp_failure": health.tcp_failures,
            "timeout_failure": health.timeouts,
        },
    })
}

/// Its address, or the name it has none for yet.
fn ip(node: &NodeHealth<'_>) -> String {
    node.address.map_or_else(|| node.host.to_owned(), |address| address.ip().to_string())
}

/// All of them as a page for people.
pub(super) fn page(snapshot: &Snapshot) -> Html<String> {
    let mut page = String::from(
        "<!DOCTYPE html>\n<html><head><title>Health of upstreams</title></head><body>\n<table>\n\
         <tr><th>Upstream</th><th>Check</th><th>Host</th><th>Address</th><th>Status</th>\
         <th>Successes</th><th>HTTP failures</th><th>TCP failures</th><th>Timeouts</th></tr>\n",
    );
    for upstream in snapshot.health() {
        for node in &upstream.nodes {
            let health = &node.health;
            let address = format!("{}:{}", ip(node), node.port);
            let counters =
                [health.successes, health.http_failures, health.tcp_failures, health.timeouts];
            let texts = [upstream.name, upstream.kind, node.host, &address, health.status.as_str()];
            page.push_str("<tr>");
            for text in texts {
                let _ = write!(page, "<td>{}</td>", escaped(text));
            }
            for counter in counters {
                let _ = write!(page, "<td>{counter}</td>");
            }
            page.push_str("</tr>\n");
        }
    }
    page.push_str("</table>\n</body></html>\n");
    Html(page)
}

/// Hosts and ids stand in files and stores: they are texts, not marks.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
