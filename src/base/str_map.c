/* str_map.c: byte strings to numbers, by open addressing with linear probing.
 *
 * At most three quarters full. Every map has a seed of its own (hash.c says why); nothing ever
 * walks the table, so that the seed changes no result.
 */
#include "base_internal.h"

#include <sys/random.h>

enum { CAPACITY_FIRST = 16 };

struct str_map_slot {
    const char *key; /* NULL: free */
    size_t length;
    uint32_t hash;
    int32_t value;
};

void str_map_init(struct str_map *map, struct mem *mem)
{
    *map = (struct str_map){.mem = mem};
    if (getrandom(&map->seed, sizeof(map->seed), GRND_NONBLOCK) != (ssize_t)sizeof(map->seed))
        map->seed = (uint64_t)(uintptr_t)map * 0x9E3779B97F4A7C15u; /* early in a boot only */
}

/* The slot that holds the key, or the free one where it belongs. Some slot is always free. */
static struct str_map_slot *find(const struct str_map *map, const char *key, size_t length,
                                 uint32_t hash)
{
    size_t mask = map->capacity - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        struct str_map_slot *slot = &map->slots[i];
        if (!slot->key ||
            (slot->hash == hash && slot->length == length && !memcmp(slot->key, key, length)))
            return slot;
    }
}

static uint32_t hash_of(const struct str_map *map, const char *key, size_t length)
{
    return (uint32_t)hash_bytes(key, length, map->seed);
}

static bool fits(size_t count, size_t capacity)
{
    return count <= capacity / 4 * 3;
}

bool str_map_reserve(struct str_map *map, size_t count)
{
    if (fits(count, map->capacity))
        return true;
    size_t capacity = map->capacity ? map->capacity : CAPACITY_FIRST;
    while (!fits(count, capacity))
        if (!size_mul(capacity, 2, &capacity))
            return false;
    struct str_map larger = *map;
    larger.capacity = capacity;
    larger.slots = mem_calloc(map->mem, capacity, sizeof(*larger.slots));
    if (!larger.slots)
        return false;
    for (size_t i = 0; i < map->capacity; i++) {
        const struct str_map_slot *slot = &map->slots[i];
        if (slot->key)
            *find(&larger, slot->key, slot->length, slot->hash) = *slot;
    }
    mem_free(map->mem, map->slots);
    *map = larger;
    return true;
}

bool str_map_put(struct str_map *map, const char *key, size_t length, int32_t value, bool *existing)
{
    if (!str_map_reserve(map, map->count + 1))
        return false;
    if (!length)
        key = "";
    uint32_t hash = hash_of(map, key, length);
    struct str_map_slot *slot = find(map, key, length, hash);
    if (existing)
        *existing = slot->key != NULL;
    if (!slot->key) {
        *slot = (struct str_map_slot){key, length, hash, value};
        map->count++;
    }
    return true;
}

int32_t str_map_get(const struct str_map *map, const char *key, size_t length)
{
    if (!map->count)
        return -1;
    if (!length)
        key = "";
    const struct str_map_slot *slot = find(map, key, length, hash_of(map, key, length));
    return slot->key ? slot->value : -1;
}

void str_map_free(struct str_map *map)
{
    mem_free(map->mem, map->slots);
    map->slots = NULL;
    map->count = map->capacity = 0;
}
