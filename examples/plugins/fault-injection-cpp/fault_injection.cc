// Answers a share of the requests with a fixed response instead of letting them reach the upstream.

#include "proxy_wasm.hpp"
#include "random.hpp"
#include "settings.hpp"

namespace {

// What to answer, and how often.
class Fault {
  public:
    static std::expected<Fault, Problem> configured(proxy_wasm::Bytes document) {
        auto settings = Settings::read(document.data(), document.size());
        if (!settings) return std::unexpected(settings.error());
        auto status = settings->integer("http_status", 200, 999);
        if (!status) return std::unexpected(status.error());
        auto body = settings->string("body", "");
        if (!body) return std::unexpected(body.error());
        auto percentage = settings->integer("percentage", 0, 100, 100);
        if (!percentage) return std::unexpected(percentage.error());

        Fault fault(*status, *std::move(body), *percentage);
        if (!fault.draws()) return fault;
        auto random = Random::seeded();
        if (!random) return std::unexpected("the host has no random numbers, which a percentage needs");
        fault.random_ = *random;
        return fault;
    }

    bool fires() { return draws() ? random_.below(100) < percentage_ : percentage_ == 100; }

    void respond() const { proxy_wasm::respond(status_, body_); }

  private:
    Fault(uint32_t status, std::string body, uint32_t percentage)
        : status_(status), body_(std::move(body)), percentage_(percentage) {}

    bool draws() const { return percentage_ > 0 && percentage_ < 100; }

    uint32_t status_;
    std::string body_;
    uint32_t percentage_;
    Random random_;
};

// One configuration. The streams made under it share it, and keep it if another takes its place.
struct Root {
    std::shared_ptr<Fault> fault;
};

struct Stream {
    explicit Stream(const Root &root) : fault(root.fault) {}
    std::shared_ptr<Fault> fault;
};

proxy_wasm::Contexts<Root, Stream> contexts;

} // namespace

EXPORT(proxy_on_context_create)
void on_context_create(uint32_t context, uint32_t parent) { contexts.create(context, parent); }

EXPORT(proxy_on_configure)
uint32_t on_configure(uint32_t context, size_t size) {
    auto fault = Fault::configured(proxy_wasm::plugin_configuration(size));
    if (!fault) {
        proxy_wasm::log(LOG_ERROR, "fault-injection: " + fault.error());
        return false;
    }
    contexts.root(context).fault = std::make_shared<Fault>(*std::move(fault));
    return true;
}

EXPORT(proxy_on_request_headers)
uint32_t on_request_headers(uint32_t context, uint32_t, uint32_t) {
    const auto &fault = contexts.stream(context).fault;
    // Without a configuration there is nothing to answer with: the host should not have let it come here.
    if (!fault) __builtin_trap();
    if (!fault->fires()) return ACTION_CONTINUE;
    fault->respond();
    return ACTION_PAUSE;
}

EXPORT(proxy_on_delete)
void on_delete(uint32_t context) { contexts.remove(context); }
