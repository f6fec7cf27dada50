// Random numbers without a call to the host: seeded once, then computed in the plugin.
#pragma once

#include <cstdint>
#include <optional>
#include <unistd.h>

// A SplitMix64 generator: good enough to draw lots with.
class Random {
  public:
    // Asks the host for a seed. Nothing, if it has none to give.
    static std::optional<Random> seeded() {
        Random random;
        if (getentropy(&random.state_, sizeof(random.state_)) != 0) return {};
        return random;
    }

    // A number in 0..bound.
    uint32_t below(uint32_t bound) {
        uint64_t mixed = state_ += 0x9e3779b97f4a7c15;
        mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
        mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
        // The upper half of the product of a 32-bit fraction and the bound.
        return static_cast<uint32_t>((mixed >> 32) * bound >> 32);
    }

  private:
    uint64_t state_ = 0;
};
