// Proxy-Wasm for plugins in C++23: the host functions of proxy_wasm.h with owners for the memory they hand
// over, and a place for what belongs to each context. No exceptions, no virtual functions: a plugin exports
// the callbacks it has work for, and the host saves itself the others.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

extern "C" {
#include "proxy_wasm.h"
}

namespace proxy_wasm {

// Bytes that the host has put into the plugin's memory, freed with this owner of theirs.
class Bytes {
  public:
    Bytes() = default;
    Bytes(char *start, size_t size) : start_(start), size_(size) {}

    char *data() { return start_.get(); }
    size_t size() const { return size_; }
    std::string_view view() const { return {start_.get(), size_}; }

  private:
    struct Free {
        void operator()(char *start) const { std::free(start); }
    };
    std::unique_ptr<char, Free> start_;
    size_t size_ = 0;
};

inline void log(log_level level, std::string_view text) { proxy_log(level, text.data(), text.size()); }

// The configuration of the plugin that is being configured; empty if it has none.
inline Bytes plugin_configuration(size_t size) {
    char *start = nullptr;
    size_t got = 0;
    if (proxy_get_buffer_bytes(BUFFER_PLUGIN_CONFIGURATION, 0, size, &start, &got) != STATUS_OK) return {};
    return {start, got};
}

// The first value of a header field.
inline std::optional<Bytes> header(header_map map, std::string_view name) {
    char *start = nullptr;
    size_t size = 0;
    if (proxy_get_header_map_value(map, name.data(), name.size(), &start, &size) != STATUS_OK) return {};
    return Bytes(start, size);
}

// Sets a header field, in place of whatever values it has.
inline void set_header(header_map map, std::string_view name, std::string_view value) {
    proxy_replace_header_map_value(map, name.data(), name.size(), value.data(), value.size());
}

// A property; the parts of its path are separated by NUL.
inline std::optional<Bytes> property(std::string_view path) {
    char *start = nullptr;
    size_t size = 0;
    if (proxy_get_property(path.data(), path.size(), &start, &size) != STATUS_OK) return {};
    return Bytes(start, size);
}

// Nanoseconds since 1970.
inline uint64_t now() {
    uint64_t time = 0;
    proxy_get_current_time_nanoseconds(&time);
    return time;
}

// Header fields in the form in which host and plugin exchange them: the count, all sizes, then names and
// values, each with a NUL behind it.
class Fields {
  public:
    void add(std::string_view name, std::string_view value) {
        count_++;
        number(sizes_, static_cast<uint32_t>(name.size()));
        number(sizes_, static_cast<uint32_t>(value.size()));
        texts_.append(name).push_back('\0');
        texts_.append(value).push_back('\0');
    }

    std::string encoded() const {
        std::string all;
        number(all, count_);
        return all.append(sizes_).append(texts_);
    }

  private:
    static void number(std::string &out, uint32_t number) {
        for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>(number >> shift));
    }

    uint32_t count_ = 0;
    std::string sizes_;
    std::string texts_;
};

// Answers the request instead of the upstream. The callback returns ACTION_PAUSE then.
inline void respond(uint32_t status, std::string_view body, const std::string &fields = {}) {
    uint32_t sent = proxy_send_local_response(status, nullptr, 0, body.data(), body.size(), fields.data(),
                                              fields.size(), NO_GRPC_STATUS);
    // A request that waits for an answer nobody gives would wait for ever.
    if (sent != STATUS_OK) __builtin_trap();
}

// What belongs to each live context: to a root, which is one configuration of the plugin, and to a stream,
// which is one request with its response. A stream is made from its root.
template <typename Root, typename Stream> class Contexts {
  public:
    // For `proxy_on_context_create`.
    void create(uint32_t context, uint32_t parent) {
        if (parent == 0)
            roots_.try_emplace(context);
        else
            streams_.try_emplace(context, root(parent));
    }

    // The host calls nothing for a context it has not created: an unknown one is a fault, and traps.
    Root &root(uint32_t context) { return found(roots_, context); }
    Stream &stream(uint32_t context) { return found(streams_, context); }

    // For `proxy_on_delete`.
    void remove(uint32_t context) {
        if (streams_.erase(context) == 0) roots_.erase(context);
    }

  private:
    template <typename Kind> static Kind &found(std::unordered_map<uint32_t, Kind> &map, uint32_t context) {
        auto place = map.find(context);
        if (place == map.end()) __builtin_trap();
        return place->second;
    }

    std::unordered_map<uint32_t, Root> roots_;
    std::unordered_map<uint32_t, Stream> streams_;
};

} // namespace proxy_wasm
