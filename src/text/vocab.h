/* A vocabulary: token texts to ids by hash, ids to texts by index.  Ids may have
 * holes; two texts never share an id. */
#ifndef SIREN_TEXT_VOCAB_H
#define SIREN_TEXT_VOCAB_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Bytes of a token where each of its cuts is looked up, or a search lasts as long as it from each
 * byte of a text: a hostile one must not make that quadratic. */
enum { LONGEST_TOKEN = 1024 };

struct vocab_text {
    size_t offset; /* into texts; SIZE_MAX: a hole */
    size_t length;
};

struct vocab {
    struct buf texts;
    struct vocab_text *items; /* by id */
    size_t n_ids, capacity;   /* largest id + 1 */
    size_t n_texts;           /* ids that are no hole */
    int32_t *slots;           /* open addressing; -1 is free */
    size_t n_slots;
};

#define VOCAB_MAX_ID 0x0FFFFFFF

/* 0; SIREN_ENOMEM; SIREN_EEXISTS if the id has another text; SIREN_EINVAL for an id out of
 * range.  A text that is there already moves to the new id, as in a JSON object whose last
 * duplicate counts. */
int vocab_add(struct vocab *v, const char *text, size_t length, int32_t id);
int32_t vocab_find(const struct vocab *v, const char *text, size_t length); /* -1: none */
/* NULL for an id without a text. */
static inline const char *vocab_text(const struct vocab *v, int32_t id, size_t *length)
{
    if (id < 0 || (size_t)id >= v->n_ids || v->items[id].offset == SIZE_MAX) return NULL;
    *length = v->items[id].length;
    return buf_text(&v->texts) + v->items[id].offset;
}
void vocab_free(struct vocab *v);

#endif
