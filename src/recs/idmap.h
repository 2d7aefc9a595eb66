/* Texts to numbers, in order of appearance: external ids, terms. */
#ifndef SIREN_RECS_IDMAP_H
#define SIREN_RECS_IDMAP_H

#include <stddef.h>
#include <stdint.h>

struct idmap {
    char *text; /* the ids, NUL-terminated, one after another */
    size_t text_size, text_capacity;
    size_t *offset; /* (n) */
    size_t n, offset_capacity;
    uint32_t *slot; /* number + 1; 0: free */
    size_t n_slots; /* power of two */
};
/* The number of an id, added if new (add) or -1; -2: no memory. */
int64_t idmap_find(const struct idmap *map, const char *id, size_t length);
int64_t idmap_add(struct idmap *map, const char *id, size_t length);
static inline const char *idmap_id(const struct idmap *map, size_t number)
{
    return map->text + map->offset[number];
}
void idmap_free(struct idmap *map);

#endif
