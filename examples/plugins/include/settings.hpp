// Reading a flat JSON object of settings, each of which is checked as it is taken.
//
//     auto settings = Settings::read(document);
//     if (!settings) return std::unexpected(settings.error());
//     auto count = settings->integer("count", 1, 1000);
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "json.h"

// A sentence for whoever wrote the configuration.
using Problem = std::string;

class Settings {
  public:
    // Takes the document apart. Other keys than those asked for later are ignored.
    static std::expected<Settings, Problem> read(char *document, size_t size) {
        if (size == 0) return std::unexpected("the configuration is empty");
        if (size > MAX_BYTES) return std::unexpected("the configuration is larger than 1 MiB");
        Settings settings;
        struct json reader = json_over(document, size);
        struct json_value key{}, value{};
        bool object = json_enter_object(&reader);
        if (object) {
            while (json_next_member(&reader, &key, &value))
                settings.members_.insert_or_assign(std::string(key.text, key.size),
                                                   Member{value.kind, std::string(value.text, value.size)});
        } else {
            json_value(&reader, &value, JSON_DEPTH);
        }
        if (json_failed(&reader) || !json_at_end(&reader))
            return std::unexpected("the configuration is not JSON: error at byte " +
                                   std::to_string(json_offset(&reader)));
        if (!object) return std::unexpected("the configuration must be a JSON object");
        return settings;
    }

    bool has(std::string_view name) const { return find(name) != nullptr; }

    // An integer within bounds, or the given one if there is none.
    std::expected<uint32_t, Problem>
    integer(std::string_view name, uint32_t least, uint32_t most, std::optional<uint32_t> absent = {}) const {
        const Member *member = find(name);
        if (member == nullptr) {
            if (absent) return *absent;
            return std::unexpected(std::string(name) + " is required");
        }
        std::string digits = member->text;
        struct json_value value{member->kind, digits.data(), digits.size()};
        uint32_t number;
        if (!json_unsigned(&value, &number) || number < least || number > most)
            return std::unexpected(std::string(name) + " must be an integer from " + std::to_string(least) +
                                   " to " + std::to_string(most));
        return number;
    }

    // A string, or the given one if there is none.
    std::expected<std::string, Problem> string(std::string_view name, std::string_view absent) const {
        const Member *member = find(name);
        if (member == nullptr) return std::string(absent);
        if (member->kind != JSON_STRING) return std::unexpected(std::string(name) + " must be a string");
        return member->text;
    }

    // True or false, or the given one of them if there is none.
    std::expected<bool, Problem> boolean(std::string_view name, bool absent) const {
        const Member *member = find(name);
        if (member == nullptr) return absent;
        if (member->kind != JSON_BOOLEAN) return std::unexpected(std::string(name) + " must be true or false");
        return member->text == "true";
    }

  private:
    static constexpr size_t MAX_BYTES = 1 << 20;

    struct Member {
        json_kind kind;
        // A string decoded, anything else as it is written.
        std::string text;
    };

    const Member *find(std::string_view name) const {
        auto place = members_.find(std::string(name));
        return place == members_.end() ? nullptr : &place->second;
    }

    std::unordered_map<std::string, Member> members_;
};
