//! The part of the Proxy-Wasm ABI 0.2.1 that the plugin uses: no SDK.

const std = @import("std");

/// All memory comes from here, that of the host too: what it returns it has taken from
/// `proxy_on_memory_allocate`, and the plugin frees it.
pub const allocator = std.heap.wasm_allocator;

pub const LogLevel = enum(u32) { trace, debug, info, warn, @"error", critical };

/// What a callback for headers or a body wants to happen next.
pub const Action = enum(u32) { proceed, pause };

const ok = 0;
const plugin_configuration = 7;
/// As a gRPC status: this response is not a gRPC one.
const no_grpc_status = -1;

const host = struct {
    extern "env" fn proxy_log(level: LogLevel, text: [*]const u8, size: usize) u32;
    extern "env" fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        size: usize,
        out: *?[*]u8,
        out_size: *usize,
    ) u32;
    extern "env" fn proxy_send_local_response(
        status: u32,
        details: ?[*]const u8,
        details_size: usize,
        body: ?[*]const u8,
        body_size: usize,
        headers: ?[*]const u8,
        headers_size: usize,
        grpc_status: i32,
    ) u32;
    extern "wasi_snapshot_preview1" fn random_get(bytes: [*]u8, size: usize) u16;
};

pub fn log(level: LogLevel, text: []const u8) void {
    _ = host.proxy_log(level, text.ptr, text.len);
}

/// The configuration of the plugin that is being configured; the caller frees it. Null if it has none.
pub fn configuration(size: usize) ?[]u8 {
    var start: ?[*]u8 = null;
    var got: usize = 0;
    if (host.proxy_get_buffer_bytes(plugin_configuration, 0, size, &start, &got) != ok) return null;
    const bytes = start orelse return null;
    return bytes[0..got];
}

/// Answers the request instead of the upstream. The callback returns `.pause` then.
pub fn respond(status: u32, body: []const u8) void {
    // An empty slice may point anywhere, and the host takes no address that is out of bounds.
    const start = if (body.len == 0) null else body.ptr;
    const sent = host.proxy_send_local_response(status, null, 0, start, body.len, null, 0, no_grpc_status);
    // A request that waits for an answer nobody gives would wait for ever.
    if (sent != ok) @trap();
}

/// Fills the bytes with random ones. False if the host has none to give.
pub fn random(bytes: []u8) bool {
    return host.random_get(bytes.ptr, bytes.len) == ok;
}

export fn proxy_abi_version_0_2_1() void {}

export fn proxy_on_memory_allocate(size: usize) ?[*]u8 {
    const bytes = allocator.alloc(u8, size) catch return null;
    return bytes.ptr;
}

comptime {
    // The exports above are there because this file is used, whatever is used of it.
    _ = &proxy_abi_version_0_2_1;
    _ = &proxy_on_memory_allocate;
}
