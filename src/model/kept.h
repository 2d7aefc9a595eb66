/* Pages of keys and values, and the segments whose pages are kept.
 *
 * A page holds ATTENTION_PAGE absolute positions of one kv head of one layer:
 * key_words() words of keys, then value_words() of values, in the kernels' own order
 * (a word is a float, or two numbers of mode bf16).  A page_ref names the same page
 * of all layers and heads. */
#ifndef SIREN_MODEL_KEPT_H
#define SIREN_MODEL_KEPT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "siren/forest.h"
#include "tensor/kernels.h"

/* Keys of (layer, head): base + layer·layer_stride + head·head_stride; values behind them. */
struct page_ref {
    float *base;
    size_t layer_stride, head_stride;
};

struct kept_chunk {
    struct kept_chunk *next;
    int n_pages, used;
    size_t bytes;
    float *data; /* [layer][head][page][keys, values] */
};

/* Chunks of segments that are gone, for those to come, 128 MiB at most: a rollout's texts take new
 * ones at every step, and the kernel clears what it gives.  One a model, used by all threads. */
struct kept_spare {
    pthread_mutex_t lock;
    struct kept_chunk *chunks;
    size_t bytes;
};
struct kept_spare *kept_spare_create(void); /* NULL: no memory */
void kept_spare_free(struct kept_spare *spare);

/* Invariants: pages[i] holds positions 32·i …; pages below start/32 belong to ancestors (parent
 * keeps them alive); the page of `start` is this segment's own, with the parent's part copied. */
struct siren_kept {
    atomic_int references;
    const struct siren_model *model;
    const struct kernels *kernels; /* pages are laid out by these */
    uint64_t adapter_version;      /* of the adapter it was computed with; 0: none */
    uint64_t model_version;        /* of the weights' values */
    struct siren_kept *parent;     /* reference held; NULL at a root */
    int start, end;                /* positions [start, end) are its own */
    int cached;                    /* entries of a session's cache that list it */
    int n_pages, page_capacity;
    struct page_ref *pages;
    struct kept_chunk *chunks;
    size_t bytes;
};

int kept_create(struct siren_kept **out, const struct siren_model *model,
                const struct kernels *kernels, struct siren_kept *parent, int start,
                struct siren_error *err);
/* Make room for positions up to `end` (exclusive); does not change kept->end. */
int kept_reserve(struct siren_kept *kept, int end, struct siren_error *err);

/* Words of a page: keys and values. */
static inline size_t page_total(const struct kernels *k, const struct siren_config *c)
{
    return key_words(c->head_dim) + value_words(k, c->head_dim);
}

/* Copy the first n_slots positions of a page; the others are left alone. */
void page_copy(const struct kernels *k, float *to, const float *from, int head_dim, int n_slots);

#endif
