//! The section `wasm`: APISIX's keys (wasm reference §1) and ours (DESIGN §4).

use super::super::load::Duplicate;
use super::super::settings::{Callouts, Dry, Isolation, OnError, Pause, WasmLimits, WasmPlugin};
use super::Once;
use super::ringgate::{POOL_MAX, size};
use crate::limits;
use crate::plugin::RequestPhase;
use crate::schema::{Object, Reader};
use serde_json::Value;
use std::time::Duration;

const MIB: usize = 1024 * 1024;

/// The longest a callback may be allowed to take; the worker serves nobody meanwhile.
const DEADLINE_MS_MAX: i64 = 60 * 60 * 1000;

/// What 32-bit memory can be.
const MEMORY_MB_MAX: i64 = 4096;

const BODY_MB_MAX: i64 = 4096;

/// The pooled engine's tables have no more room; real modules come near 30,000.
const TABLE_ELEMENTS_MAX: i64 = 100_000;

const SHARED_DATA_MB_MAX: i64 = 1024 * 1024;

/// Instances made ahead: one at work and one for the moment it traps.
const POOL: usize = 2;

/// With one for each request: as many as come in a burst.
const POOL_OF_REQUESTS: usize = 16;

const CALLOUTS_MAX: i64 = 1024;

const PHASES: [(&str, RequestPhase); 2] =
    [("access", RequestPhase::Access), ("rewrite", RequestPhase::Rewrite)];

pub(super) fn read(mut object: Object<'_>, duplicates: &mut Vec<Duplicate>) -> Vec<WasmPlugin> {
    let mut once = Once::new("the plugin");
    let entry = |element: Reader<'_>| plugin(element.object()?, &mut once, duplicates);
    let plugins = object.get("plugins").and_then(|reader| reader.list_of(1..=usize::MAX, entry));
    object.finish();
    plugins.unwrap_or_default()
}

fn plugin(
    mut object: Object<'_>,
    once: &mut Once,
    duplicates: &mut Vec<Duplicate>,
) -> Option<WasmPlugin> {
    let at = object.at().clone();
    let name = object.need("name").and_then(|reader| reader.string(1..=usize::MAX));
    if let Some(name) = name {
        once.see(name, &at.key("name"), duplicates);
    }
    let priority = object.need("priority").and_then(|r| r.integer(i64::MIN..=i64::MAX));
    let file = object.need("file").and_then(|reader| reader.string(1..=usize::MAX));
    let phase = object.one_of("http_request_phase", &PHASES).unwrap_or(RequestPhase::Access);
    let isolation = [("shared", Isolation::Shared), ("request", Isolation::Request)];
    let isolation = object.one_of("isolation", &isolation).unwrap_or_default();
    let pool = if isolation == Isolation::Request { POOL_OF_REQUESTS } else { POOL };
    let dry = [("make", Dry::Make), ("wait", Dry::Wait), ("refuse", Dry::Refuse)];
    let on_error = [("closed", OnError::Closed), ("open", OnError::Open)];
    let pause = [("hold", Pause::Hold), ("body", Pause::Body)];
    let plugin = WasmPlugin {
        at,
        name: name.unwrap_or_default().to_owned(),
        priority: priority.unwrap_or_default(),
        file: file.unwrap_or_default().to_owned(),
        phase,
        root_id: text(&mut object, "root_id"),
        vm_id: text(&mut object, "vm_id"),
        vm_config: vm_config(&mut object),
        isolation,
        pool: size(&mut object, "pool", 1, POOL_MAX).unwrap_or(pool),
        dry: object.one_of("dry", &dry).unwrap_or_default(),
        on_error: object.one_of("on_error", &on_error).unwrap_or_default(),
        limits: bounds(object.section("limits")),
        callouts: callouts(object.section("callouts")),
        pause: object.one_of("pause", &pause).unwrap_or_default(),
        writable_properties: object.boolean("writable_properties").unwrap_or(false),
    };
    object.finish();
    Some(plugin)
}

fn text(object: &mut Object<'_>, key: &'static str) -> String {
    object.string(key, 0..=usize::MAX).unwrap_or_default().to_owned()
}

fn vm_config(object: &mut Object<'_>) -> String {
    let Some(reader) = object.get("vm_config") else { return String::new() };
    match reader.value() {
        Value::String(text) => text.clone(),
        value @ Value::Object(_) => value.to_string(),
        _ => {
            reader.expected("a string or an object");
            String::new()
        }
    }
}

fn bounds(mut object: Object<'_>) -> WasmLimits {
    let deadline = object.integer("deadline_ms", 1..=DEADLINE_MS_MAX).unwrap_or(1000);
    let memory = size(&mut object, "memory_mb", 1, MEMORY_MB_MAX).unwrap_or(64);
    let body = size(&mut object, "body_mb", 0, BODY_MB_MAX);
    let table = size(&mut object, "table_elements", 1, TABLE_ELEMENTS_MAX);
    let instances = size(&mut object, "instances", 1, POOL_MAX);
    let wait = object.integer("wait_ms", 0..=DEADLINE_MS_MAX).unwrap_or(1000);
    let shared = size(&mut object, "shared_data_mb", 0, SHARED_DATA_MB_MAX).unwrap_or(256);
    let callouts = size(&mut object, "callouts", 0, CALLOUTS_MAX).unwrap_or(1024);
    object.finish();
    WasmLimits {
        deadline: Duration::from_millis(deadline.unsigned_abs()),
        memory_bytes: memory * MIB,
        body_bytes: body.map_or(limits::HELD_BODY_BYTES_MAX, |body| body * MIB),
        table_elements: table.unwrap_or(100_000),
        instances: instances.unwrap_or(256),
        wait: Duration::from_millis(wait.unsigned_abs()),
        shared_data_bytes: shared * MIB,
        callouts,
    }
}

fn callouts(mut object: Object<'_>) -> Callouts {
    let name = |element: Reader<'_>| element.string(1..=usize::MAX).map(str::to_owned);
    let callouts = Callouts {
        direct: object.boolean("direct").unwrap_or(false),
        allow: object.get("allow").and_then(|reader| reader.list_of(0..=usize::MAX, name)),
    };
    object.finish();
    callouts
}
