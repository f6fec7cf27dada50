// A reader for small JSON documents (RFC 8259) that allocates nothing.
//
// It works inside the document's own memory: a string is decoded in place, over its escaped form, which is
// never shorter. So the document must be writable, and must stay where it is for as long as its strings
// are used. It is read once, from front to back:
//
//     struct json json = json_over(document, size);
//     if (json_enter_object(&json))
//         while (json_next_member(&json, &key, &value)) ...
//     if (json_failed(&json) || !json_at_end(&json)) ... // json_offset(&json) tells where
//
// The members of objects and arrays within the object are checked, but not kept.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// Objects and arrays within each other, at most: what the recursion of json_value may use of the stack.
#define JSON_DEPTH 64

enum json_kind {
    JSON_NULL,
    JSON_BOOLEAN,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
};

struct json_value {
    enum json_kind kind;
    // A string decoded, anything else as it is written.
    char *text;
    size_t size;
};

struct json {
    char *start;
    char *at;
    char *end;
    bool failed;
    bool first_member;
};

static inline struct json json_over(char *document, size_t size) {
    return (struct json){
        .start = document, .at = document, .end = document + size, .failed = false, .first_member = false};
}

// Whether the document has turned out not to be JSON.
static inline bool json_failed(const struct json *json) { return json->failed; }

// How many bytes of the document have been read.
static inline size_t json_offset(const struct json *json) { return (size_t)(json->at - json->start); }

static inline bool json_fail(struct json *json) {
    json->failed = true;
    return false;
}

static inline void json_skip_space(struct json *json) {
    while (json->at < json->end &&
           (*json->at == ' ' || *json->at == '\t' || *json->at == '\n' || *json->at == '\r'))
        json->at++;
}

// Whether only white space is left.
static inline bool json_at_end(struct json *json) {
    json_skip_space(json);
    return json->at == json->end;
}

// Steps over the character, if it is the next one after white space.
static inline bool json_accept(struct json *json, char character) {
    json_skip_space(json);
    if (json->at == json->end || *json->at != character) return false;
    json->at++;
    return true;
}

static inline bool json_expect(struct json *json, char character) {
    return json_accept(json, character) || json_fail(json);
}

static inline bool json_literal(struct json *json, const char *literal) {
    size_t size = strlen(literal);
    if ((size_t)(json->end - json->at) < size || memcmp(json->at, literal, size) != 0)
        return json_fail(json);
    json->at += size;
    return true;
}

// One digit or more.
static inline bool json_digits(struct json *json) {
    const char *start = json->at;
    while (json->at < json->end && *json->at >= '0' && *json->at <= '9') json->at++;
    return json->at > start || json_fail(json);
}

static inline bool json_number(struct json *json) {
    if (json->at < json->end && *json->at == '-') json->at++;
    if (json->at < json->end && *json->at == '0')
        json->at++;
    else if (!json_digits(json))
        return false;
    if (json->at < json->end && *json->at == '.') {
        json->at++;
        if (!json_digits(json)) return false;
    }
    if (json->at < json->end && (*json->at == 'e' || *json->at == 'E')) {
        json->at++;
        if (json->at < json->end && (*json->at == '+' || *json->at == '-')) json->at++;
        if (!json_digits(json)) return false;
    }
    return true;
}

// The four hexadecimal digits of a \u escape.
static inline bool json_hex(struct json *json, uint32_t *unit) {
    *unit = 0;
    for (int digit = 0; digit < 4; digit++, json->at++) {
        if (json->at == json->end) return json_fail(json);
        char character = *json->at;
        uint32_t value;
        if (character >= '0' && character <= '9')
            value = (uint32_t)(character - '0');
        else if (character >= 'a' && character <= 'f')
            value = (uint32_t)(character - 'a' + 10);
        else if (character >= 'A' && character <= 'F')
            value = (uint32_t)(character - 'A' + 10);
        else
            return json_fail(json);
        *unit = *unit << 4 | value;
    }
    return true;
}

// What follows "\u": one code unit, or two where the first opens a surrogate pair. Half a pair is an error.
static inline bool json_code_point(struct json *json, uint32_t *point) {
    uint32_t low;
    if (!json_hex(json, point)) return false;
    if (*point < 0xd800 || *point > 0xdfff) return true;
    if (*point > 0xdbff || !json_literal(json, "\\u") || !json_hex(json, &low)) return json_fail(json);
    if (low < 0xdc00 || low > 0xdfff) return json_fail(json);
    *point = 0x10000 + ((*point - 0xd800) << 10) + (low - 0xdc00);
    return true;
}

// Writes a code point as UTF-8 and returns where it ends.
static inline char *json_put_utf8(char *out, uint32_t point) {
    if (point < 0x80) {
        *out++ = (char)point;
        return out;
    }
    if (point < 0x800) {
        *out++ = (char)(0xc0 | point >> 6);
    } else {
        if (point < 0x10000) {
            *out++ = (char)(0xe0 | point >> 12);
        } else {
            *out++ = (char)(0xf0 | point >> 18);
            *out++ = (char)(0x80 | (point >> 12 & 0x3f));
        }
        *out++ = (char)(0x80 | (point >> 6 & 0x3f));
    }
    *out++ = (char)(0x80 | (point & 0x3f));
    return out;
}

// How many bytes the UTF-8 sequence at the reader's place has; 0 if it is not well-formed.
static inline size_t json_utf8_size(const struct json *json) {
    const unsigned char *at = (const unsigned char *)json->at;
    size_t size = *at < 0x80 ? 1 : *at < 0xc2 ? 0 : *at < 0xe0 ? 2 : *at < 0xf0 ? 3 : *at < 0xf5 ? 4 : 0;
    if (size > (size_t)(json->end - json->at)) return 0;
    for (size_t index = 1; index < size; index++)
        if ((at[index] & 0xc0) != 0x80) return 0;
    // Forms that are longer than need be, surrogates, and what lies beyond the last code point.
    if (*at == 0xe0 && at[1] < 0xa0) return 0;
    if (*at == 0xed && at[1] > 0x9f) return 0;
    if (*at == 0xf0 && at[1] < 0x90) return 0;
    if (*at == 0xf4 && at[1] > 0x8f) return 0;
    return size;
}

// Steps over the next string and decodes it in place.
static inline bool json_string(struct json *json, char **text, size_t *size) {
    if (!json_expect(json, '"')) return false;
    char *out = *text = json->at;
    while (json->at < json->end && *json->at != '"') {
        if ((unsigned char)*json->at < 0x20) return json_fail(json);
        if (*json->at != '\\') {
            size_t sequence = json_utf8_size(json);
            if (sequence == 0) return json_fail(json);
            while (sequence-- > 0) *out++ = *json->at++;
            continue;
        }
        if (++json->at == json->end) return json_fail(json);
        uint32_t point;
        switch (*json->at++) {
        case '"': *out++ = '"'; break;
        case '\\': *out++ = '\\'; break;
        case '/': *out++ = '/'; break;
        case 'b': *out++ = '\b'; break;
        case 'f': *out++ = '\f'; break;
        case 'n': *out++ = '\n'; break;
        case 'r': *out++ = '\r'; break;
        case 't': *out++ = '\t'; break;
        case 'u':
            if (!json_code_point(json, &point)) return false;
            out = json_put_utf8(out, point);
            break;
        default: json->at--; return json_fail(json);
        }
    }
    *size = (size_t)(out - *text);
    return json_expect(json, '"');
}

static inline bool json_value(struct json *json, struct json_value *value, unsigned depth);

static inline bool json_array(struct json *json, unsigned depth) {
    struct json_value ignored;
    if (json_accept(json, ']')) return true;
    do {
        if (!json_value(json, &ignored, depth)) return false;
    } while (json_accept(json, ','));
    return json_expect(json, ']');
}

static inline bool json_object(struct json *json, unsigned depth) {
    struct json_value ignored;
    if (json_accept(json, '}')) return true;
    do {
        if (!json_string(json, &ignored.text, &ignored.size)) return false;
        if (!json_expect(json, ':') || !json_value(json, &ignored, depth)) return false;
    } while (json_accept(json, ','));
    return json_expect(json, '}');
}

// Steps over the next value, whatever it is. The depth is how much deeper it may go.
static inline bool json_value(struct json *json, struct json_value *value, unsigned depth) {
    json_skip_space(json);
    if (json->at == json->end) return json_fail(json);
    value->text = json->at;
    bool read;
    switch (*json->at) {
    case '"': value->kind = JSON_STRING; return json_string(json, &value->text, &value->size);
    case 'n': value->kind = JSON_NULL, read = json_literal(json, "null"); break;
    case 't': value->kind = JSON_BOOLEAN, read = json_literal(json, "true"); break;
    case 'f': value->kind = JSON_BOOLEAN, read = json_literal(json, "false"); break;
    case '[':
    case '{':
        if (depth == 0) return json_fail(json);
        value->kind = *json->at++ == '[' ? JSON_ARRAY : JSON_OBJECT;
        read = value->kind == JSON_ARRAY ? json_array(json, depth - 1) : json_object(json, depth - 1);
        break;
    default: value->kind = JSON_NUMBER, read = json_number(json); break;
    }
    value->size = (size_t)(json->at - value->text);
    return read;
}

// Steps into the object that comes next. False, with no step made, if something else comes.
static inline bool json_enter_object(struct json *json) {
    json->first_member = true;
    return json_accept(json, '{');
}

// Steps over the next member of the entered object, or over the object's end, where it returns false. It
// also returns false where the document is not JSON: ask json_failed.
static inline bool json_next_member(struct json *json, struct json_value *key, struct json_value *value) {
    if (json_accept(json, '}')) {
        // A comma with nothing behind it does not get here: the key is read right after the comma.
        return false;
    }
    if (!json->first_member && !json_expect(json, ',')) return false;
    json->first_member = false;
    key->kind = JSON_STRING;
    return json_string(json, &key->text, &key->size) && json_expect(json, ':') &&
           json_value(json, value, JSON_DEPTH);
}

static inline bool json_is(const struct json_value *string, const char *text) {
    return string->size == strlen(text) && memcmp(string->text, text, string->size) == 0;
}

// The value as a number without sign, fraction and exponent, if it is one of at most nine digits.
static inline bool json_unsigned(const struct json_value *value, uint32_t *number) {
    if (value->kind != JSON_NUMBER || value->size > 9) return false;
    *number = 0;
    for (size_t index = 0; index < value->size; index++) {
        if (value->text[index] < '0' || value->text[index] > '9') return false;
        *number = *number * 10 + (uint32_t)(value->text[index] - '0');
    }
    return true;
}
