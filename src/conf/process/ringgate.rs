//! The section `ringgate`: what APISIX has no words for.

use super::super::load::Duplicate;
use super::super::settings::{Driver, Identity, Limits, WorkerConfig, Workers};
use super::{Once, listen, units};
use crate::limits;
use crate::listen::Options;
use crate::schema::{Fault, Object, Reader};
use log::LevelFilter;
use serde_json::Value;
use std::time::Duration;

/// More threads than any machine has cores.
const WORKERS_MAX: i64 = 4096;

/// The kernel's bound of a submission queue (`IORING_MAX_ENTRIES`).
const RING_ENTRIES_MAX: i64 = 32_768;

/// The largest head that may be allowed: heads are kept in one piece for every connection.
const HEAD_BYTES_CEILING: i64 = 1024 * 1024;

/// More than a process has descriptors.
const CONNECTIONS_MAX: i64 = 1 << 30;

/// Names that lead to a text of `node.metadata`.
const METADATA_DEPTH_MAX: usize = 8;

/// Instances of one plugin on one worker.
pub(super) const POOL_MAX: i64 = 1024;

/// Longest name of a user or a group (`LOGIN_NAME_MAX`).
const USER_BYTES_MAX: usize = 255;

const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::Off),
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];

const DRIVERS: [(&str, Driver); 3] =
    [("auto", Driver::Auto), ("uring", Driver::Uring), ("epoll", Driver::Epoll)];

pub(super) struct Ringgate {
    pub(super) listen: Vec<Options>,
    pub(super) workers: Workers,
    pub(super) driver: Driver,
    pub(super) via: bool,
    pub(super) limits: Limits,
    pub(super) drain: Duration,
    pub(super) upgrade: Duration,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    pub(super) watch: bool,
    pub(super) log_level: LevelFilter,
    pub(super) cache_dir: Option<String>,
    pub(super) store_dir: Option<String>,
    pub(super) node: Identity,
}

pub(super) fn read(mut object: Object<'_>, duplicates: &mut Vec<Duplicate>) -> Ringgate {
    let mut timeouts = object.section("timeouts");
    let mut log = object.section("log");
    let ringgate = Ringgate {
        listen: listen::more(&mut object, duplicates),
        workers: workers(&mut object, duplicates),
        driver: object.one_of("driver", &DRIVERS).unwrap_or_default(),
        via: object.boolean("via").unwrap_or(true),
        limits: bounds(object.section("limits")),
        drain: units::time(&mut timeouts, "drain", true).unwrap_or(Duration::from_secs(30)),
        upgrade: units::time(&mut timeouts, "upgrade", false).unwrap_or(Duration::from_secs(60)),
        user: object.string("user", 1..=USER_BYTES_MAX).map(str::to_owned),
        group: object.string("group", 1..=USER_BYTES_MAX).map(str::to_owned),
        watch: object.boolean("watch").unwrap_or(true),
        log_level: log.one_of("level", &LEVELS).unwrap_or(LevelFilter::Warn),
        cache_dir: object.string("cache_dir", 1..=usize::MAX).map(str::to_owned),
        store_dir: object.string("store_dir", 1..=usize::MAX).map(str::to_owned),
        node: node(object.section("node")),
    };
    if ringgate.group.is_some() && ringgate.user.is_none() {
        let fault = Fault::new("`group` is the group of a `user`");
        object.error(fault.hint("name the user as well"));
    }
    timeouts.finish();
    log.finish();
    object.finish();
    ringgate
}

fn node(mut object: Object<'_>) -> Identity {
    let mut text = |key| object.string(key, 1..=256).map(str::to_owned);
    let mut node = Identity {
        id: text("id"),
        cluster: text("cluster").unwrap_or_default(),
        region: text("region").unwrap_or_default(),
        zone: text("zone").unwrap_or_default(),
        sub_zone: text("sub_zone").unwrap_or_default(),
        metadata: Vec::new(),
    };
    if let Some(metadata) = object.get("metadata").and_then(Reader::object) {
        texts(&metadata, &mut Vec::new(), &mut node.metadata);
    }
    object.finish();
    node
}

/// All texts of an object, those in objects below it too.
fn texts(object: &Object<'_>, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, String)>) {
    for (name, reader) in object.members() {
        path.push(name.to_owned());
        match reader.value() {
            Value::Object(_) if path.len() < METADATA_DEPTH_MAX => {
                if let Some(below) = reader.object() {
                    texts(&below, path, found);
                }
            }
            Value::String(text) => found.push((path.clone(), text.clone())),
            _ => reader.expected("a string, or an object of strings"),
        }
        path.pop();
    }
}

fn bounds(mut object: Object<'_>) -> Limits {
    let head_bytes = size(&mut object, "head_bytes", limits::READ_BUFFER_BYTES, HEAD_BYTES_CEILING);
    let ceiling = i64::try_from(limits::HEADERS_CEILING).unwrap_or(i64::MAX);
    let headers = size(&mut object, "headers", 1, ceiling);
    if let Some(reader) = object.get("body_bytes") {
        let fault = Fault::new("`body_bytes` has a name in APISIX already");
        reader.error_on_key(fault.hint("use `nginx_config.http.client_max_body_size`"));
    }
    let connections = size(&mut object, "connections", 1, CONNECTIONS_MAX);
    let connections_per_source = size(&mut object, "connections_per_source", 1, CONNECTIONS_MAX);
    let requests = size(&mut object, "requests_per_worker", 1, CONNECTIONS_MAX);
    let head_rate = units::size(&mut object, "head_rate").unwrap_or(0);
    let body_rate = units::size(&mut object, "body_rate").unwrap_or(0);
    let rate_grace = units::time(&mut object, "rate_grace", true);
    object.finish();
    Limits {
        connections,
        connections_per_source,
        requests_per_worker: requests.map(|requests| requests as u64),
        head_rate,
        body_rate,
        rate_grace: rate_grace.unwrap_or(Duration::from_secs(5)),
        head_bytes: head_bytes.unwrap_or(limits::HEAD_BYTES_MAX),
        headers: headers.unwrap_or(limits::HEADERS_MAX),
    }
}

fn workers(object: &mut Object<'_>, duplicates: &mut Vec<Duplicate>) -> Workers {
    let Some(reader) = object.get("workers") else { return Workers::Auto };
    match reader.value() {
        Value::String(text) if text == "auto" => Workers::Auto,
        Value::Number(_) => {
            let count = reader.integer(1..=WORKERS_MAX);
            count.and_then(|count| count.try_into().ok()).map_or(Workers::Auto, Workers::Count)
        }
        Value::Array(_) => {
            let mut once = Once::new("the core");
            let entry = |element: Reader<'_>| worker(element.object()?, &mut once, duplicates);
            Workers::List(reader.list_of(1..=usize::MAX, entry).unwrap_or_default())
        }
        _ => {
            reader.expected("a number, `auto`, or a list of `{core: 0}`");
            Workers::Auto
        }
    }
}

fn worker(
    mut object: Object<'_>,
    once: &mut Once,
    duplicates: &mut Vec<Duplicate>,
) -> Option<WorkerConfig> {
    let at = object.at().clone();
    let core = object.need("core").and_then(|reader| reader.integer(0..=WORKERS_MAX - 1));
    if let Some(core) = core {
        once.see(&core.to_string(), &at.key("core"), duplicates);
    }
    let pooled = i64::try_from(limits::POOLED_BUFFER_BYTES_MAX).unwrap_or(i64::MAX);
    let ring_entries = object.integer("ring_entries", 16..=RING_ENTRIES_MAX);
    let buffer_bytes = size(&mut object, "buffer_bytes", 1024, pooled);
    let buffers = size(&mut object, "buffers", 0, 1024 * 1024);
    let pool = size(&mut object, "pool", 1, POOL_MAX);
    object.finish();
    Some(WorkerConfig {
        at,
        core: core?.try_into().ok()?,
        ring_entries: ring_entries.and_then(|entries| entries.try_into().ok()),
        buffer_bytes,
        buffers,
        pool,
    })
}

/// An integer in a range that a `usize` holds.
pub(super) fn size(
    object: &mut Object<'_>,
    key: &'static str,
    min: usize,
    max: i64,
) -> Option<usize> {
    let min = i64::try_from(min).unwrap_or(i64::MAX);
    object.integer(key, min..=max)?.try_into().ok()
}
