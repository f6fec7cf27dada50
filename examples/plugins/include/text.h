// Building a text in a buffer of fixed size. What does not fit is cut off.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct text {
    char *start;
    size_t size;
    size_t capacity;
};

// An empty text in an array.
#define TEXT_IN(array) ((struct text){.start = (array), .size = 0, .capacity = sizeof(array)})

static inline void text_bytes(struct text *text, const char *bytes, size_t size) {
    size_t room = text->capacity - text->size;
    if (size > room) size = room;
    if (size == 0) return;
    memcpy(text->start + text->size, bytes, size);
    text->size += size;
}

static inline void text_string(struct text *text, const char *string) {
    text_bytes(text, string, strlen(string));
}

static inline void text_number(struct text *text, uint64_t number) {
    char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    text_bytes(text, digits + at, sizeof(digits) - at);
}
