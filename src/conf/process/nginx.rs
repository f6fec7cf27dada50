//! The section `nginx_config`: what of it is about HTTP.

use super::super::model::KeepalivePool;
use super::super::settings::{AccessLogConfig, Downstream};
use super::{ignore, units};
use crate::plugin::{Escape, LogFormat, check_log_format};
use crate::schema::{Fault, Object};
use serde_json::Value;
use std::time::Duration;

/// Keys without effect here.
const IGNORED: [&str; 13] = [
    "enable_cpu_affinity",
    "envs",
    "error_log",
    "error_log_level",
    "event",
    "max_pending_timers",
    "max_running_timers",
    "meta",
    "stream",
    "user",
    "worker_processes",
    "worker_rlimit_nofile",
    "worker_shutdown_timeout",
];

/// Keys of `http` without effect here.
const IGNORED_HTTP: [&str; 10] = [
    "access_log_buffer",
    "charset",
    "custom_lua_shared_dict",
    "lua_shared_dict",
    "proxy_ssl_server_name",
    "real_ip_header",
    "real_ip_recursive",
    "server_tokens",
    "variables_hash_max_size",
    "variables_hash_bucket_size",
];

const SNIPPETS: [&str; 7] = [
    "main_configuration_snippet",
    "http_configuration_snippet",
    "http_server_configuration_snippet",
    "http_server_location_configuration_snippet",
    "http_admin_configuration_snippet",
    "http_end_configuration_snippet",
    "stream_configuration_snippet",
];

/// Where APISIX logs requests.
const DEFAULT_ACCESS_LOG: &str = "logs/access.log";

/// Whom APISIX lets name the client's address by default.
const REAL_IP_FROM: [&str; 2] = ["127.0.0.1", "unix:"];

pub(super) struct Nginx {
    pub(super) downstream: Downstream,
    pub(super) access_log: Option<AccessLogConfig>,
    pub(super) keepalive: KeepalivePool,
}

pub(super) fn read(mut object: Object<'_>) -> Nginx {
    let mut http = object.section("http");
    let downstream = downstream(&mut http);
    let access_log = access_log(&mut http);
    let keepalive = keepalive(http.section("upstream"));
    real_ip_from(&mut http);
    ignore(&mut http, &IGNORED_HTTP);
    http.finish();
    for key in SNIPPETS {
        snippet(&mut object, key);
    }
    ignore(&mut object, &IGNORED);
    object.finish();
    Nginx { downstream, access_log, keepalive }
}

fn downstream(http: &mut Object<'_>) -> Downstream {
    let minute = Duration::from_secs(60);
    Downstream {
        keepalive_timeout: units::time(http, "keepalive_timeout", true).unwrap_or(minute),
        keepalive_requests: http
            .integer("keepalive_requests", 1..=i64::MAX)
            .and_then(|requests| requests.try_into().ok()),
        keepalive_time: units::time(http, "keepalive_time", false),
        client_header_timeout: units::time(http, "client_header_timeout", false).unwrap_or(minute),
        client_body_timeout: units::time(http, "client_body_timeout", false).unwrap_or(minute),
        send_timeout: units::time(http, "send_timeout", false).unwrap_or(Duration::from_secs(10)),
        client_max_body_size: units::size(http, "client_max_body_size").filter(|size| *size > 0),
        underscores_in_headers: switch(http, "underscores_in_headers").unwrap_or(true),
    }
}

/// APISIX's defaults, with two differences: requests are logged only where something of this stands
/// in the file, and then as lines of JSON unless a format says otherwise.
fn access_log(http: &mut Object<'_>) -> Option<AccessLogConfig> {
    let enabled = http.boolean("enable_access_log");
    let file = http.get("access_log").and_then(|reader| {
        let file = reader.string(1..=usize::MAX)?;
        if file.starts_with("syslog:") {
            let fault = Fault::new("an access log on syslog is not supported");
            reader.error(fault.hint("name a file, as in `logs/access.log` or `/dev/stdout`"));
        }
        Some(file.to_owned())
    });
    let format = http.get("access_log_format");
    let text = format.as_ref().and_then(|reader| reader.string(1..=usize::MAX));
    let escapes = [("default", Escape::Default), ("json", Escape::Json), ("none", Escape::None)];
    let escape = http.one_of("access_log_format_escape", &escapes).unwrap_or_default();
    let compiled = text.map(|text| LogFormat::compile(text, escape));
    if let (Some(compiled), Some(reader)) = (&compiled, &format) {
        check_log_format(compiled, reader);
    }
    let wanted = enabled.unwrap_or(file.is_some() || format.is_some());
    (wanted && file.as_deref() != Some("off")).then(|| AccessLogConfig {
        file: file.unwrap_or_else(|| DEFAULT_ACCESS_LOG.to_owned()),
        format: compiled.unwrap_or_else(LogFormat::json),
    })
}

fn keepalive(mut object: Object<'_>) -> KeepalivePool {
    let size = object.integer("keepalive", 0..=i64::from(u32::MAX));
    let requests = object.integer("keepalive_requests", 1..=i64::MAX);
    let pool = KeepalivePool {
        size: size.and_then(|size| size.try_into().ok()).unwrap_or(320),
        idle_timeout: units::time(&mut object, "keepalive_timeout", true)
            .unwrap_or(Duration::from_secs(60)),
        requests: requests.and_then(|requests| requests.try_into().ok()).unwrap_or(1000),
    };
    object.finish();
    pool
}

/// nginx's `on` and `off`; APISIX's files have them in quotes.
fn switch(object: &mut Object<'_>, key: &'static str) -> Option<bool> {
    let reader = object.get(key)?;
    match reader.value() {
        Value::Bool(value) => Some(*value),
        _ => reader.one_of(&[("on", true), ("off", false)]),
    }
}

/// Without it the peer is the client, whoever that is behind a proxy: rules on addresses would see
/// the proxy.
fn real_ip_from(http: &mut Object<'_>) {
    let Some(reader) = http.get("real_ip_from") else { return };
    let elements = reader.list_of(0..=usize::MAX, |element| {
        let known = REAL_IP_FROM.contains(&element.string(1..=usize::MAX)?);
        (!known).then_some(element)
    });
    for element in elements.unwrap_or_default() {
        let fault = Fault::new("taking the client's address from a header is not supported yet");
        element.error(fault.hint("without it, addresses are those of the peer"));
    }
}

/// Text for nginx.conf; comments say nothing.
fn snippet(object: &mut Object<'_>, key: &'static str) {
    let Some(reader) = object.get(key) else { return };
    let Some(text) = reader.string(0..=usize::MAX) else { return };
    if text.lines().map(str::trim).any(|line| !line.is_empty() && !line.starts_with('#')) {
        let fault = Fault::new(format!("`{key}` is text for nginx.conf, which is not there"));
        reader.error_on_key(fault.hint("remove it; look for a key of ringgate that does the same"));
    }
}
