// What the SDK gets from the host wrongly or not at all.

import { proxy_get_buffer_bytes, proxy_get_property } from "@solo-io/proxy-runtime/imports";
import { BufferTypeValues, WasmResultValues } from "@solo-io/proxy-runtime/runtime";
import { free } from "@solo-io/proxy-runtime/malloc";

// Bytes the host has put into memory taken from `malloc`. Whoever got them releases them before the next.
export class Bytes {
  at: usize = 0;
  size: usize = 0;
}

const received = new Bytes();

function atSlot(): usize {
  return changetype<usize>(received) + offsetof<Bytes>("at");
}

function sizeSlot(): usize {
  return changetype<usize>(received) + offsetof<Bytes>("size");
}

function forgetReceived(): void {
  received.at = 0;
  received.size = 0;
}

export function release(bytes: Bytes): void {
  if (bytes.at != 0) free(bytes.at);
}

// The plugin's configuration; empty if there is none. The SDK's own reading of it passes the size where
// the host expects the address to write the size to.
export function pluginConfiguration(size: u32): Bytes {
  forgetReceived();
  let result = proxy_get_buffer_bytes(
    BufferTypeValues.PluginConfiguration, 0, size, atSlot(), sizeSlot());
  if (result != WasmResultValues.Ok) forgetReceived();
  return received;
}

// The name the host knows this plugin's root context by; empty if it has none.
export function pluginRootId(): string {
  let path = String.UTF8.encode("plugin_root_id");
  forgetReceived();
  let result = proxy_get_property(changetype<usize>(path), path.byteLength, atSlot(), sizeSlot());
  if (result != WasmResultValues.Ok || received.size == 0) return "";
  let name = String.UTF8.decodeUnsafe(received.at, received.size);
  release(received);
  return name;
}
