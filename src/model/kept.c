#include "model/kept.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/model.h"

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
            free(c->data);
            free(c);
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
    struct kept_chunk *chunk = calloc(1, sizeof *chunk);
    size_t bytes;
    if (chunk && !__builtin_mul_overflow(page, (size_t)n_pages, &bytes)) {
        /* What memory is taken for them holds more pages, perhaps. */
        chunk->bytes = alloc_aligned_size(bytes);
        chunk->n_pages = (int)(chunk->bytes / page);
        chunk->data = alloc_aligned(chunk->bytes, 1);
    }
    if (!chunk || !chunk->data) {
        free(chunk);
        siren_fail_memory(err, "keys and values", page);
        return NULL;
    }
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
    size_t D = (size_t)head_dim, per_word = ATTENTION_PAGE * D / page_words(k, head_dim);
    size_t rows = (size_t)n_slots / per_word, odd = (size_t)n_slots % per_word;
    for (int half = 0; half < 2; half++) {
        int n = n_slots - 16 * half < 16 ? n_slots - 16 * half : 16;
        for (size_t d = 0; n > 0 && d < D / per_word; d++) {
            size_t at = ((size_t)half * D / per_word + d) * 16;
            memcpy(to + at, from + at, (size_t)n * sizeof *to);
        }
    }
    for (size_t b = 0; b < D / 16; b++) {
        size_t at = page_words(k, head_dim) + b * ATTENTION_PAGE / per_word * 16;
        memcpy(to + at, from + at, rows * 16 * sizeof *to);
        if (odd) copy_even(to + at + rows * 16, from + at + rows * 16);
    }
}
