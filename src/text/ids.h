/* A growing list of token ids; failure is sticky, as in struct buf. */
#ifndef SIREN_TEXT_IDS_H
#define SIREN_TEXT_IDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"

struct ids {
    int32_t *items;
    size_t n, capacity;
    int failed;
};

static inline void ids_add(struct ids *ids, int32_t id)
{
    if (ids->n == ids->capacity &&
        alloc_grow(&ids->items, &ids->capacity, ids->n + 1, sizeof *ids->items)) {
        ids->failed = 1;
        return;
    }
    ids->items[ids->n++] = id;
}

#endif
