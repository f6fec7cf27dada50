// The part of the Proxy-Wasm ABI 0.2.1 that the C and C++ plugins here use, bare: no SDK. What makes it
// comfortable in C++ is in proxy_wasm.hpp.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define IMPORT(name) __attribute__((import_module("env"), import_name(#name))) extern
#define EXPORT(name) __attribute__((export_name(#name), used))

enum status {
    STATUS_OK = 0,
    STATUS_NOT_FOUND = 1,
    STATUS_BAD_ARGUMENT = 2,
    STATUS_INVALID_MEMORY_ACCESS = 6,
    STATUS_CAS_MISMATCH = 8,
};

enum log_level {
    LOG_TRACE = 0,
    LOG_DEBUG = 1,
    LOG_INFO = 2,
    LOG_WARN = 3,
    LOG_ERROR = 4,
    LOG_CRITICAL = 5,
};

enum action {
    ACTION_CONTINUE = 0,
    ACTION_PAUSE = 1,
};

enum buffer {
    BUFFER_REQUEST_BODY = 0,
    BUFFER_RESPONSE_BODY = 1,
    BUFFER_VM_CONFIGURATION = 6,
    BUFFER_PLUGIN_CONFIGURATION = 7,
};

enum header_map {
    MAP_REQUEST_HEADERS = 0,
    MAP_RESPONSE_HEADERS = 2,
};

// As a gRPC status: this response is not a gRPC one.
#define NO_GRPC_STATUS (-1)

// Where a function returns bytes, the host has taken the memory from proxy_on_memory_allocate below, and
// the plugin frees it. A size of 0 comes with a null pointer.

IMPORT(proxy_log) uint32_t proxy_log(uint32_t level, const char *text, size_t size);

IMPORT(proxy_get_buffer_bytes)
uint32_t proxy_get_buffer_bytes(uint32_t buffer, size_t start, size_t size, char **out, size_t *out_size);

IMPORT(proxy_get_header_map_pairs)
uint32_t proxy_get_header_map_pairs(uint32_t map, char **out, size_t *out_size);

IMPORT(proxy_get_header_map_value)
uint32_t proxy_get_header_map_value(
    uint32_t map, const char *name, size_t name_size, char **out, size_t *out_size);

IMPORT(proxy_add_header_map_value)
uint32_t proxy_add_header_map_value(
    uint32_t map, const char *name, size_t name_size, const char *value, size_t value_size);

IMPORT(proxy_replace_header_map_value)
uint32_t proxy_replace_header_map_value(
    uint32_t map, const char *name, size_t name_size, const char *value, size_t value_size);

// Nanoseconds since 1970.
IMPORT(proxy_get_current_time_nanoseconds) uint32_t proxy_get_current_time_nanoseconds(uint64_t *time);

IMPORT(proxy_get_shared_data)
uint32_t proxy_get_shared_data(
    const char *key, size_t key_size, char **out, size_t *out_size, uint32_t *cas);

IMPORT(proxy_set_shared_data)
uint32_t proxy_set_shared_data(
    const char *key, size_t key_size, const char *value, size_t value_size, uint32_t cas);

IMPORT(proxy_get_property)
uint32_t proxy_get_property(const char *path, size_t path_size, char **out, size_t *out_size);

IMPORT(proxy_set_property)
uint32_t proxy_set_property(const char *path, size_t path_size, const char *value, size_t value_size);

IMPORT(proxy_send_local_response)
uint32_t proxy_send_local_response(
    uint32_t http_status, const char *details, size_t details_size, const char *body, size_t body_size,
    const char *headers, size_t headers_size, int32_t grpc_status);

// Exported by every plugin. Each is one source file, so this header may define them.

EXPORT(proxy_abi_version_0_2_1)
void proxy_abi_version(void) {}

EXPORT(proxy_on_memory_allocate)
void *proxy_memory_allocate(size_t size) { return malloc(size); }
