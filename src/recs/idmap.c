#include "recs/idmap.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/alloc.h"
#include "siren/error.h"

static size_t find_slot(const struct idmap *map, const char *id, size_t length)
{
    size_t mask = map->n_slots - 1, at = XXH3_64bits(id, length) & mask;
    for (; map->slot[at]; at = (at + 1) & mask) {
        const char *known = idmap_id(map, map->slot[at] - 1);
        if (!strncmp(known, id, length) && !known[length]) break;
    }
    return at;
}

int64_t idmap_find(const struct idmap *map, const char *id, size_t length)
{
    if (!map->n_slots) return -1;
    return (int64_t)map->slot[find_slot(map, id, length)] - 1;
}

static int grow_slots(struct idmap *map)
{
    struct idmap bigger = *map;
    bigger.n_slots = map->n_slots ? map->n_slots * 2 : 1024;
    bigger.slot = alloc_zeroed(bigger.n_slots, sizeof *bigger.slot);
    if (!bigger.slot) return SIREN_ENOMEM;
    for (size_t i = 0; i < map->n; i++) {
        const char *id = idmap_id(map, i);
        bigger.slot[find_slot(&bigger, id, strlen(id))] = (uint32_t)i + 1;
    }
    free(map->slot);
    *map = bigger;
    return SIREN_OK;
}

int64_t idmap_add(struct idmap *map, const char *id, size_t length)
{
    if (map->n + map->n / 2 >= map->n_slots && grow_slots(map)) return -2;
    size_t at = find_slot(map, id, length);
    if (map->slot[at]) return (int64_t)map->slot[at] - 1;
    if (map->n >= INT32_MAX ||
        alloc_grow(&map->offset, &map->offset_capacity, map->n + 1, sizeof *map->offset) ||
        alloc_grow(&map->text, &map->text_capacity, map->text_size + length + 1, 1))
        return -2;
    memcpy(map->text + map->text_size, id, length);
    map->text[map->text_size + length] = 0;
    map->offset[map->n] = map->text_size;
    map->text_size += length + 1;
    map->slot[at] = (uint32_t)++map->n;
    return (int64_t)map->n - 1;
}

void idmap_free(struct idmap *map)
{
    free(map->text);
    free(map->offset);
    free(map->slot);
    *map = (struct idmap){0};
}
