#include "model/kept.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/model.h"

/* ---- chunks ---- */

enum { SPARE_BYTES = 128 << 20 };

struct kept_spare *kept_spare_create(void)
{
    struct kept_spare *spare = calloc(1, sizeof *spare);
    if (spare) pthread_mutex_init(&spare->lock, NULL);
    return spare;
}

static void free_chunk(struct kept_chunk *c)
{
    free(c->data);
    free(c);
}

void kept_spare_free(struct kept_spare *spare)
{
    if (!spare) return;
    for (struct kept_chunk *c = spare->chunks, *next; c; c = next) {
        next = c->next;
        free_chunk(c);
    }
    pthread_mutex_destroy(&spare->lock);
    free(spare);
}

/* Room is made by those that have waited longest. */
static void spare_chunk(struct kept_spare *spare, struct kept_chunk *c)
{
    pthread_mutex_lock(&spare->lock);
    c->next = spare->chunks;
    spare->chunks = c;
    spare->bytes += c->bytes;
    while (spare->bytes > SPARE_BYTES) {
        struct kept_chunk **last = &spare->chunks;
        while ((*last)->next) last = &(*last)->next;
        spare->bytes -= (*last)->bytes;
        free_chunk(*last);
        *last = NULL;
    }
    pthread_mutex_unlock(&spare->lock);
}

/* One of just so many bytes, if there is one. */
static struct kept_chunk *take_chunk(struct kept_spare *spare, size_t bytes)
{
    pthread_mutex_lock(&spare->lock);
    struct kept_chunk **at = &spare->chunks;
    while (*at && (*at)->bytes != bytes) at = &(*at)->next;
    struct kept_chunk *c = *at;
    if (c) {
        *at = c->next;
        spare->bytes -= bytes;
    }
    pthread_mutex_unlock(&spare->lock);
    return c;
}

static struct kept_chunk *new_chunk(size_t bytes)
{
    struct kept_chunk *c = malloc(sizeof *c);
    float *data = c ? alloc_aligned(bytes, 1) : NULL;
    if (!data) {
        free(c);
        return NULL;
    }
    c->bytes = bytes;
    c->data = data;
    return c;
}

/* ---- segments ---- */

struct siren_kept *siren_kept_ref(struct siren_kept *kept)
{
    if (kept) atomic_fetch_add(&kept->references, 1);
    return kept;
}

void siren_kept_unref(struct siren_kept *kept)
{
    while (kept && atomic_fetch_sub(&kept->references, 1) == 1) {
        struct siren_kept *parent = kept->parent;
        for (struct kept_chunk *c = kept->chunks, *next; c; c = next) {
            next = c->next;
            spare_chunk(kept->model->spare, c);
        }
        free(kept->pages);
        free(kept);
        kept = parent; /* a chain of a thousand segments must not recurse */
    }
}

size_t siren_kept_tokens(const struct siren_kept *kept)
{
    return (size_t)kept->end;
}
size_t siren_kept_bytes(const struct siren_kept *kept)
{
    return kept->bytes;
}

int kept_create(struct siren_kept **out, const struct siren_model *model,
                const struct kernels *kernels, struct siren_kept *parent, int start,
                struct siren_error *err)
{
    struct siren_kept *kept = calloc(1, sizeof *kept);
    if (!kept) return siren_fail_memory(err, "kept segment", sizeof *kept);
    kept->references = 1;
    kept->model = model;
    kept->model_version = model->version;
    kept->kernels = kernels;
    kept->parent = siren_kept_ref(parent);
    kept->start = kept->end = start;
    kept->n_pages = start / ATTENTION_PAGE;
    *out = kept;
    return SIREN_OK;
}

static int grow_table(struct siren_kept *kept, int need, struct siren_error *err)
{
    if (need <= kept->page_capacity) return SIREN_OK;
    int target = need + need / 2;
    struct page_ref *grown = alloc_resize(kept->pages, (size_t)target, sizeof *grown);
    if (!grown) return siren_fail_memory(err, "page table", (size_t)target * sizeof *grown);
    kept->pages = grown;
    kept->page_capacity = target;
    return SIREN_OK;
}

static struct kept_chunk *add_chunk(struct siren_kept *kept, int n_pages, struct siren_error *err)
{
    const struct siren_config *c = &kept->model->config;
    size_t page =
        (size_t)c->n_layers * (size_t)c->n_kv_heads * page_total(kept->kernels, c) * sizeof(float);
    struct kept_chunk *chunk = NULL;
    size_t bytes;
    if (!__builtin_mul_overflow(page, (size_t)n_pages, &bytes)) {
        bytes = alloc_aligned_size(bytes);
        chunk = take_chunk(kept->model->spare, bytes);
        if (!chunk) chunk = new_chunk(bytes);
    }
    if (!chunk) {
        siren_fail_memory(err, "keys and values", page);
        return NULL;
    }
    chunk->n_pages = (int)(bytes / page); /* what memory is taken may hold more */
    chunk->used = 0;
    chunk->next = kept->chunks;
    kept->chunks = chunk;
    kept->bytes += chunk->bytes;
    return chunk;
}

int kept_reserve(struct siren_kept *kept, int end, struct siren_error *err)
{
    const struct siren_config *c = &kept->model->config;
    int need = (end + ATTENTION_PAGE - 1) / ATTENTION_PAGE;
    int shared = kept->start / ATTENTION_PAGE;
    int rc = grow_table(kept, need, err);
    if (rc) return rc;
    if (kept->n_pages == shared && kept->parent && shared)
        memcpy(kept->pages, kept->parent->pages, (size_t)shared * sizeof *kept->pages);
    while (kept->n_pages < need) {
        struct kept_chunk *chunk = kept->chunks;
        if (!chunk || chunk->used == chunk->n_pages) {
            /* A growing segment (a rollout) takes a few pages at a time. */
            int missing = need - kept->n_pages;
            chunk = add_chunk(kept, kept->n_pages > shared && missing < 4 ? 4 : missing, err);
            if (!chunk) return SIREN_ENOMEM;
        }
        size_t page = page_total(kept->kernels, c), head = page * (size_t)chunk->n_pages;
        kept->pages[kept->n_pages++] =
            (struct page_ref){.base = chunk->data + page * (size_t)chunk->used++,
                              .layer_stride = head * (size_t)c->n_kv_heads,
                              .head_stride = head};
    }
    return SIREN_OK;
}

/* The even halves of words: position 2j, where 2j + 1 is not wanted. */
static void copy_even(float *to, const float *from)
{
    for (int i = 0; i < 16; i++) memcpy(to + i, from + i, 2);
}

void page_copy(const struct kernels *k, float *to, const float *from, int head_dim, int n_slots)
{
    size_t D = (size_t)head_dim, per_word = ATTENTION_PAGE * D / value_words(k, head_dim);
    size_t rows = (size_t)n_slots / per_word, odd = (size_t)n_slots % per_word;
    for (int half = 0; half < 2; half++) {
        int n = n_slots - 16 * half < 16 ? n_slots - 16 * half : 16;
        for (size_t d = 0; n > 0 && d < D; d++) {
            size_t at = ((size_t)half * D + d) * 16;
            memcpy(to + at, from + at, (size_t)n * sizeof *to);
        }
    }
    for (size_t b = 0; b < D / 16; b++) {
        size_t at = key_words(head_dim) + b * ATTENTION_PAGE / per_word * 16;
        memcpy(to + at, from + at, rows * 16 * sizeof *to);
        if (odd) copy_even(to + at + rows * 16, from + at + rows * 16);
    }
}
