// What belongs to each live context: a map from context ids to pointers.
//
// An open-addressing table that only ever grows, so once it has seen the busiest moment a new context
// costs no allocation. The host counts contexts up from 1, so the low bits of an id spread well and 0 can
// mark an empty slot.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct context_slot {
    uint32_t id;
    void *value;
};

struct context_map {
    struct context_slot *slots;
    uint32_t capacity; // a power of two, or 0 before the first insertion
    uint32_t used;
};

// The slot that has the id, or the empty one where it would go. The table must have an empty slot.
static inline uint32_t context_map_slot(const struct context_map *map, uint32_t id) {
    uint32_t at = id & (map->capacity - 1);
    while (map->slots[at].id != 0 && map->slots[at].id != id) at = (at + 1) & (map->capacity - 1);
    return at;
}

// What was put under the id, or NULL.
static inline void *context_map_get(const struct context_map *map, uint32_t id) {
    return map->capacity == 0 ? NULL : map->slots[context_map_slot(map, id)].value;
}

static inline void context_map_grow(struct context_map *map) {
    struct context_map grown = {.capacity = map->capacity == 0 ? 64 : map->capacity * 2, .used = map->used};
    grown.slots = calloc(grown.capacity, sizeof(*grown.slots));
    if (grown.slots == NULL) __builtin_trap();
    for (uint32_t at = 0; at < map->capacity; at++) {
        struct context_slot slot = map->slots[at];
        if (slot.id != 0) grown.slots[context_map_slot(&grown, slot.id)] = slot;
    }
    free(map->slots);
    *map = grown;
}

static inline void context_map_put(struct context_map *map, uint32_t id, void *value) {
    if (id == 0 || value == NULL) __builtin_trap();
    // At most three quarters full.
    if (map->used >= map->capacity / 4 * 3) context_map_grow(map);
    struct context_slot *slot = &map->slots[context_map_slot(map, id)];
    if (slot->id == 0) map->used++;
    *slot = (struct context_slot){.id = id, .value = value};
}

// Takes the id out and returns what was under it, or NULL.
static inline void *context_map_remove(struct context_map *map, uint32_t id) {
    if (map->capacity == 0) return NULL;
    uint32_t mask = map->capacity - 1;
    uint32_t hole = context_map_slot(map, id);
    void *value = map->slots[hole].value;
    if (map->slots[hole].id == 0) return NULL;
    // Move back whatever had been pushed past the slot that is now free, so that no search ends early.
    for (uint32_t at = (hole + 1) & mask; map->slots[at].id != 0; at = (at + 1) & mask) {
        uint32_t home = map->slots[at].id & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            map->slots[hole] = map->slots[at];
            hole = at;
        }
    }
    map->slots[hole] = (struct context_slot){0};
    map->used--;
    return value;
}
