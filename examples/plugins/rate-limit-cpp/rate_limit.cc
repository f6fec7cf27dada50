// Lets each client have so many requests in so many seconds, counted over all workers together.

#include "bucket.hpp"
#include "proxy_wasm.hpp"
#include "settings.hpp"

namespace {

constexpr uint64_t SECOND = 1'000'000'000;

// Seconds, rounded up: who waits that long is not too early.
std::string seconds(uint64_t nanoseconds) { return std::to_string((nanoseconds + SECOND - 1) / SECOND); }

// Whom a request counts for.
class Key {
  public:
    // As APISIX spells it: `remote_addr`, or `http_` and a header's name with `_` for `-`.
    static std::expected<Key, Problem> named(std::string_view name) {
        constexpr std::string_view HEADER = "http_";
        if (name == "remote_addr") return Key("");
        if (!name.starts_with(HEADER) || name.size() == HEADER.size())
            return std::unexpected("key must be remote_addr or http_ and the name of a header");
        std::string header(name.substr(HEADER.size()));
        std::ranges::replace(header, '_', '-');
        return Key(std::move(header));
    }

    // A request without the header counts for its address, which no header's value can be mistaken for.
    std::string of_this_request() const {
        if (!header_.empty()) {
            auto value = proxy_wasm::header(MAP_REQUEST_HEADERS, header_);
            if (value && value->size() > 0) return "h" + std::string(value->view());
        }
        auto address = proxy_wasm::property(std::string_view("source\0address", 14));
        if (!address) return "a";
        std::string_view host = address->view();
        return "a" + std::string(host.substr(0, host.rfind(':')));
    }

  private:
    explicit Key(std::string header) : header_(std::move(header)) {}

    std::string header_;
};

// One configuration.
struct Limit {
    Key key;
    Buckets buckets;
    uint32_t quota;
    uint32_t rejected_code;
    std::string rejected_body;
    bool headers;
    bool allow_degradation;

    static std::expected<Limit, Problem> configured(proxy_wasm::Bytes document);
};

std::expected<Limit, Problem> Limit::configured(proxy_wasm::Bytes document) {
    // Equal configurations share their buckets, on all workers, unless they name different zones.
    std::string own_zone = std::to_string(Buckets::hashed(document.view()));
    auto settings = Settings::read(document.data(), document.size());
    if (!settings) return std::unexpected(settings.error());
    auto count = settings->integer("count", 1, 1'000'000);
    if (!count) return std::unexpected(count.error());
    auto window = settings->integer("time_window", 1, 86'400);
    if (!window) return std::unexpected(window.error());
    auto burst = settings->integer("burst", 1, 1'000'000, *count);
    if (!burst) return std::unexpected(burst.error());
    auto slots = settings->integer("slots", 16, 1'000'000, 16'384);
    if (!slots) return std::unexpected(slots.error());
    auto zone = settings->string("zone", own_zone);
    if (!zone) return std::unexpected(zone.error());
    auto name = settings->string("key", "remote_addr");
    if (!name) return std::unexpected(name.error());
    auto key = Key::named(*name);
    if (!key) return std::unexpected(key.error());
    auto code = settings->integer("rejected_code", 200, 599, 429);
    if (!code) return std::unexpected(code.error());
    auto body = settings->string("rejected_msg", "too many requests\n");
    if (!body) return std::unexpected(body.error());
    auto headers = settings->boolean("show_limit_quota_header", true);
    if (!headers) return std::unexpected(headers.error());
    auto degrade = settings->boolean("allow_degradation", false);
    if (!degrade) return std::unexpected(degrade.error());
    Rate rate{.burst = *burst, .interval = *window * SECOND / *count};
    return Limit{*key, Buckets(*zone, *slots, rate), *burst, *code, *body, *headers, *degrade};
}

// One configuration. The streams made under it share it, and keep it if another takes its place.
struct Root {
    std::shared_ptr<const Limit> limit;
};

struct Stream {
    explicit Stream(const Root &root) : limit(root.limit) {}
    std::shared_ptr<const Limit> limit;
    // What was decided, for the response's headers.
    std::optional<Decision> decision;
};

proxy_wasm::Contexts<Root, Stream> contexts;

uint32_t refuse(const Limit &limit, const Decision &decision) {
    proxy_wasm::Fields fields;
    fields.add("content-type", "text/plain");
    fields.add("retry-after", seconds(decision.token_in));
    proxy_wasm::respond(limit.rejected_code, limit.rejected_body, fields.encoded());
    return ACTION_PAUSE;
}

} // namespace

EXPORT(proxy_on_context_create)
void on_context_create(uint32_t context, uint32_t parent) { contexts.create(context, parent); }

EXPORT(proxy_on_configure)
uint32_t on_configure(uint32_t context, size_t size) {
    auto limit = Limit::configured(proxy_wasm::plugin_configuration(size));
    if (!limit) {
        proxy_wasm::log(LOG_ERROR, "rate-limit: " + limit.error());
        return false;
    }
    contexts.root(context).limit = std::make_shared<const Limit>(*std::move(limit));
    return true;
}

EXPORT(proxy_on_request_headers)
uint32_t on_request_headers(uint32_t context, uint32_t, uint32_t) {
    Stream &stream = contexts.stream(context);
    if (!stream.limit) __builtin_trap();
    const Limit &limit = *stream.limit;
    stream.decision = limit.buckets.take(limit.key.of_this_request(), proxy_wasm::now());
    if (stream.decision) return stream.decision->allowed ? ACTION_CONTINUE : refuse(limit, *stream.decision);
    if (limit.allow_degradation) return ACTION_CONTINUE;
    proxy_wasm::log(LOG_ERROR, "rate-limit: the host's shared data can't be used");
    proxy_wasm::respond(500, "");
    return ACTION_PAUSE;
}

// Refusals come here too.
EXPORT(proxy_on_response_headers)
uint32_t on_response_headers(uint32_t context, uint32_t, uint32_t) {
    const Stream &stream = contexts.stream(context);
    if (!stream.decision || !stream.limit->headers) return ACTION_CONTINUE;
    proxy_wasm::set_header(MAP_RESPONSE_HEADERS, "x-ratelimit-limit", std::to_string(stream.limit->quota));
    proxy_wasm::set_header(MAP_RESPONSE_HEADERS, "x-ratelimit-remaining",
                           std::to_string(stream.decision->remaining));
    proxy_wasm::set_header(MAP_RESPONSE_HEADERS, "x-ratelimit-reset", seconds(stream.decision->full_in));
    return ACTION_CONTINUE;
}

EXPORT(proxy_on_delete)
void on_delete(uint32_t context) { contexts.remove(context); }
