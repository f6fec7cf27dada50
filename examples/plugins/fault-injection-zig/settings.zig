//! The plugin's configuration, checked.

const std = @import("std");

pub const Settings = struct {
    http_status: u32,
    /// Belongs to the allocator that `read` was given.
    body: []const u8,
    percentage: u32,

    /// Reads the configuration's JSON. Where it is wrong, `problem` is set to a sentence for whoever
    /// wrote it.
    pub fn read(allocator: std.mem.Allocator, text: []const u8, problem: *[]const u8) error{Refused}!Settings {
        if (text.len == 0) return refuse(problem, "the configuration is empty");
        const document = std.json.parseFromSlice(std.json.Value, allocator, text, .{}) catch
            return refuse(problem, "the configuration is not JSON");
        defer document.deinit();
        const fields = switch (document.value) {
            .object => |object| object,
            else => return refuse(problem, "the configuration must be a JSON object"),
        };

        const status = fields.get("http_status") orelse return refuse(problem, "http_status is required");
        const http_status = integer(status, 200, 999) orelse
            return refuse(problem, "http_status must be an integer from 200 to 999");
        const percentage = integer(fields.get("percentage") orelse .{ .integer = 100 }, 0, 100) orelse
            return refuse(problem, "percentage must be an integer from 0 to 100");
        const body = switch (fields.get("body") orelse std.json.Value{ .string = "" }) {
            .string => |string| string,
            else => return refuse(problem, "body must be a string"),
        };
        return .{
            .http_status = http_status,
            .body = allocator.dupe(u8, body) catch return refuse(problem, "there is no memory for the body"),
            .percentage = percentage,
        };
    }

    pub fn deinit(self: Settings, allocator: std.mem.Allocator) void {
        allocator.free(self.body);
    }
};

fn integer(value: std.json.Value, least: u32, most: u32) ?u32 {
    const number = switch (value) {
        .integer => |number| number,
        else => return null,
    };
    return if (number >= least and number <= most) @intCast(number) else null;
}

fn refuse(problem: *[]const u8, sentence: []const u8) error{Refused} {
    problem.* = sentence;
    return error.Refused;
}

test "what is read and what is refused" {
    const allocator = std.testing.allocator;
    var problem: []const u8 = "";
    const good = try Settings.read(allocator, "{\"http_status\": 418, \"body\": \"a\\n\"}", &problem);
    defer good.deinit(allocator);
    try std.testing.expectEqual(418, good.http_status);
    try std.testing.expectEqualStrings("a\n", good.body);
    try std.testing.expectEqual(100, good.percentage);
    for ([_][]const u8{ "", "{", "[]", "{}", "{\"http_status\": 199}", "{\"http_status\": 2e2}" }) |text|
        try std.testing.expectError(error.Refused, Settings.read(allocator, text, &problem));
}
