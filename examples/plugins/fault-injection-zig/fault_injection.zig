//! Answers a share of the requests with a fixed response instead of letting them reach the upstream.

const std = @import("std");
const proxy_wasm = @import("proxy_wasm.zig");
const Settings = @import("settings.zig").Settings;

const allocator = proxy_wasm.allocator;

/// One configuration. The streams made under it point to it and copy nothing.
const Fault = struct {
    settings: Settings,
    /// Random numbers without a call to the host: seeded once, then computed here.
    random: std.Random.SplitMix64,
    /// Its root, while it is that root's, and its streams. Freed with the last of them.
    references: u32,

    fn fires(self: *Fault) bool {
        return switch (self.settings.percentage) {
            0 => false,
            100 => true,
            // The upper half of the product of a 32-bit fraction and 100.
            else => |percentage| (self.random.next() >> 32) * 100 >> 32 < percentage,
        };
    }

    fn release(self: *Fault) void {
        self.references -= 1;
        if (self.references > 0) return;
        self.settings.deinit(allocator);
        allocator.destroy(self);
    }
};

/// What each live context works with, be it a root or a stream under one. A root has nothing before it
/// is configured.
var contexts: std.AutoHashMapUnmanaged(u32, ?*Fault) = .empty;

export fn proxy_on_context_create(context: u32, parent: u32) void {
    // The host creates no stream under a root it does not have.
    const fault = if (parent == 0) null else contexts.get(parent).?;
    if (fault) |shared| shared.references += 1;
    contexts.put(allocator, context, fault) catch @trap();
}

export fn proxy_on_configure(context: u32, size: usize) bool {
    const fault = configured(size) orelse return false;
    // Streams keep the fault they began with when their root is configured once more.
    const place = contexts.getPtr(context).?;
    if (place.*) |old| old.release();
    place.* = fault;
    return true;
}

fn configured(size: usize) ?*Fault {
    const text = proxy_wasm.configuration(size) orelse &[_]u8{};
    defer allocator.free(text);
    var problem: []const u8 = undefined;
    const settings = Settings.read(allocator, text, &problem) catch return refuse(problem);
    var seed: u64 = 0;
    const draws = settings.percentage > 0 and settings.percentage < 100;
    if (draws and !proxy_wasm.random(std.mem.asBytes(&seed))) {
        settings.deinit(allocator);
        return refuse("the host has no random numbers, which a percentage needs");
    }
    const fault = allocator.create(Fault) catch @trap();
    fault.* = .{ .settings = settings, .random = .init(seed), .references = 1 };
    return fault;
}

fn refuse(problem: []const u8) ?*Fault {
    var line: [128]u8 = undefined;
    const prefix = "fault-injection: ";
    const whole = std.fmt.bufPrint(&line, prefix ++ "{s}", .{problem}) catch prefix;
    proxy_wasm.log(.@"error", whole);
    return null;
}

export fn proxy_on_request_headers(context: u32, headers: u32, end_of_stream: u32) proxy_wasm.Action {
    _ = headers;
    _ = end_of_stream;
    // Without a configuration the host should not have let a request come here.
    const fault = contexts.get(context).?.?;
    if (!fault.fires()) return .proceed;
    proxy_wasm.respond(fault.settings.http_status, fault.settings.body);
    return .pause;
}

export fn proxy_on_delete(context: u32) void {
    const entry = contexts.fetchRemove(context) orelse return;
    if (entry.value) |fault| fault.release();
}
