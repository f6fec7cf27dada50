//! The section `wasm`: APISIX's keys (wasm reference §1) and ours (DESIGN §4).

use super::super::load::Duplicate;
use super::super::settings::{Callouts, Isolation, OnError, Pause, WasmLimits, WasmPlugin};
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
        isolation: object.one_of("isolation", &isolation).unwrap_or_default(),
        pool: size(&mut object, "pool", 1, POOL_MAX).unwrap_or(2),
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
    let callouts = size(&mut object, "callouts", 0, CALLOUTS_MAX).unwrap_or(1024);
    object.finish();
    WasmLimits {
        deadline: Duration::from_millis(deadline.unsigned_abs()),
        memory_bytes: memory * MIB,
        body_bytes: body.map_or(limits::HELD_BODY_BYTES_MAX, |body| body * MIB),
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
