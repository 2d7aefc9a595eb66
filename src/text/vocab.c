#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/alloc.h"
#include "siren/error.h"

static size_t find_slot(const struct vocab *v, const char *text, size_t length)
{
    size_t slot = (size_t)XXH3_64bits(text, length) & (v->n_slots - 1);
    while (v->slots[slot] >= 0) {
        const struct vocab_text *t = &v->items[v->slots[slot]];
        if (t->length == length && t->offset != SIZE_MAX &&
            !memcmp(v->texts.data + t->offset, text, length))
            break;
        slot = (slot + 1) & (v->n_slots - 1);
    }
    return slot;
}

static int rehash(struct vocab *v)
{
    size_t n_slots = v->n_slots ? v->n_slots * 2 : 1024;
    int32_t *slots = alloc_array(n_slots, sizeof *slots);
    if (!slots) return SIREN_ENOMEM;
    memset(slots, 0xFF, n_slots * sizeof *slots);
    free(v->slots);
    v->slots = slots;
    v->n_slots = n_slots;
    for (size_t id = 0; id < v->n_ids; id++) {
        size_t length;
        const char *text = vocab_text(v, (int32_t)id, &length);
        if (text) v->slots[find_slot(v, text, length)] = (int32_t)id;
    }
    return 0;
}

int vocab_add(struct vocab *v, const char *text, size_t length, int32_t id)
{
    if (id < 0 || id > VOCAB_MAX_ID) return SIREN_EINVAL;
    size_t other;
    const char *there = vocab_text(v, id, &other);
    if (there) return other == length && !memcmp(there, text, length) ? 0 : SIREN_EEXISTS;
    if ((v->n_texts + 1) * 2 > v->n_slots && rehash(v)) return SIREN_ENOMEM;
    if (alloc_grow(&v->items, &v->capacity, (size_t)id + 1, sizeof *v->items)) return SIREN_ENOMEM;
    for (; v->n_ids <= (size_t)id; v->n_ids++) v->items[v->n_ids].offset = SIZE_MAX;
    size_t offset = v->texts.size;
    buf_append(&v->texts, text, length);
    buf_putc(&v->texts, 0);
    if (buf_failed(&v->texts)) return SIREN_ENOMEM;
    size_t slot = find_slot(v, text, length);
    if (v->slots[slot] >= 0)
        v->items[v->slots[slot]].offset = SIZE_MAX;
    else
        v->n_texts++;
    v->items[id] = (struct vocab_text){offset, length};
    v->slots[slot] = id;
    return 0;
}

int32_t vocab_find(const struct vocab *v, const char *text, size_t length)
{
    return v->n_slots ? v->slots[find_slot(v, text, length)] : -1;
}

void vocab_free(struct vocab *v)
{
    buf_free(&v->texts);
    free(v->items);
    free(v->slots);
    *v = (struct vocab){0};
}
