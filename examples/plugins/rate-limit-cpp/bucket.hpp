// Token buckets that all workers share, in a table of fixed size.
//
// A bucket is kept as one number, the time at which it will be full again (the "theoretical arrival time"
// of the generic cell rate algorithm): a request moves it into the future by what one token takes to come
// back, and is refused where that would go further ahead than a whole bucket. Nothing has to be refilled
// or reset, and a bucket that is full needs no memory.
//
// Keys are hashed into slots of the host's shared data. A key uses its own slot, else one of the next few
// whose bucket is full, else the one that is full soonest, whose key then starts afresh. So no flood of
// keys can fill the host's memory, and a key shares its bucket with no other one.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "proxy_wasm.hpp"

struct Rate {
    // Tokens in a full bucket.
    uint64_t burst;
    // Nanoseconds for one token to come back.
    uint64_t interval;
};

// What a request is told about its bucket.
struct Decision {
    bool allowed;
    // Tokens left.
    uint64_t remaining;
    // Nanoseconds until the bucket is full.
    uint64_t full_in;
    // Nanoseconds until there is a token; 0 where there is one.
    uint64_t token_in;
};

class Buckets {
  public:
    // FNV-1a, mixed once more so that the low bits depend on all of the text.
    static uint64_t hashed(std::string_view text) {
        uint64_t hash = 0xcbf29ce484222325;
        for (unsigned char byte : text) hash = (hash ^ byte) * 0x100000001b3;
        hash = (hash ^ hash >> 32) * 0x94d049bb133111eb;
        return hash ^ hash >> 29;
    }

    // The zone tells these buckets from those of other configurations.
    Buckets(std::string zone, uint32_t slots, Rate rate)
        : prefix_("rate-limit/" + std::move(zone) + "/"), slots_(slots), rate_(rate) {}

    // Takes a token from the key's bucket. Nothing where the host's shared data can't be used, which is
    // when it is full.
    std::optional<Decision> take(std::string_view key, uint64_t now) const {
        uint64_t hash = hashed(key);
        // Somebody else is served each time this one has to try again.
        for (;;) {
            Slot slot = choose(hash, now);
            uint64_t full_at = std::max(slot.bucket.full_at, now);
            uint64_t ahead = full_at - now + rate_.interval;
            uint64_t capacity = rate_.burst * rate_.interval;
            if (ahead > capacity)
                return Decision{false, 0, full_at - now, ahead - capacity};
            uint32_t status = write(slot, {now + ahead, hash});
            if (status == STATUS_OK) return Decision{true, (capacity - ahead) / rate_.interval, ahead, 0};
            if (status != STATUS_CAS_MISMATCH) return {};
        }
    }

  private:
    struct Bucket {
        uint64_t full_at = 0;
        // Whose it is.
        uint64_t hash = 0;
    };

    struct Slot {
        uint32_t index;
        uint32_t cas;
        Bucket bucket;
    };

    // Slots that a key may use.
    static constexpr uint32_t WAYS = 4;

    // A counter that no slot has: a new key of the shared data may be set with any, so with this one it is
    // set only if nobody else has set it in the meantime.
    static constexpr uint32_t CAS_OF_NONE = UINT32_MAX;

    Slot choose(uint64_t hash, uint64_t now) const {
        std::optional<Slot> best;
        for (uint32_t way = 0; way < WAYS; way++) {
            Slot slot = read(static_cast<uint32_t>((hash + way) % slots_));
            if (slot.bucket.hash == hash) return slot;
            // Past the time when it is full, a bucket is as good as none. The first of these is taken.
            slot.bucket.full_at = std::max(slot.bucket.full_at, now);
            if (!best || slot.bucket.full_at < best->bucket.full_at) best = slot;
        }
        best->bucket = {};
        return *best;
    }

    std::string name(uint32_t slot) const { return prefix_ + std::to_string(slot); }

    Slot read(uint32_t index) const {
        std::string key = name(index);
        char *start = nullptr;
        size_t size = 0;
        Slot slot{index, CAS_OF_NONE, {}};
        uint32_t cas = 0;
        if (proxy_get_shared_data(key.data(), key.size(), &start, &size, &cas) != STATUS_OK) return slot;
        proxy_wasm::Bytes bytes(start, size);
        slot.cas = cas;
        if (bytes.size() == sizeof(slot.bucket)) std::memcpy(&slot.bucket, bytes.data(), bytes.size());
        return slot;
    }

    uint32_t write(const Slot &slot, Bucket bucket) const {
        std::string key = name(slot.index);
        std::array<char, sizeof(bucket)> value;
        std::memcpy(value.data(), &bucket, sizeof(bucket));
        return proxy_set_shared_data(key.data(), key.size(), value.data(), value.size(), slot.cas);
    }

    std::string prefix_;
    uint32_t slots_;
    Rate rate_;
};
