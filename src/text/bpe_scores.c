#include "text/bpe_scores.h"

#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/utf8.h"

struct cut {
    double score;
    int32_t whole, left, right;
    uint32_t n_left, n_right; /* characters */
};
struct cuts {
    struct cut *items;
    size_t n, capacity;
};

static int descending(uint32_t a, uint32_t b)
{
    return (a < b) - (a > b);
}

static int ascending(int32_t a, int32_t b)
{
    return (a > b) - (a < b);
}

static int by_rank(const void *a, const void *b)
{
    const struct cut *x = a, *y = b;
    int order = (x->score < y->score) - (x->score > y->score);
    if (!order) order = descending(x->n_left, y->n_left);
    if (!order) order = descending(x->n_right, y->n_right);
    if (!order) order = ascending(x->whole, y->whole);
    if (!order) order = ascending(x->left, y->left);
    return order ? order : ascending(x->right, y->right);
}

static uint32_t count_characters(const char *text, size_t length)
{
    uint32_t n = 0;
    for (size_t at = 0; at < length; at += utf8_length(text[at])) n++;
    return n;
}

static int32_t find_part(const struct bpe *m, const double *scores, const char *text, size_t length)
{
    int32_t id = vocab_find(&m->vocab, text, length);
    return id >= 0 && scores[id] == -INFINITY ? -1 : id;
}

static int add_cuts(const struct bpe *m, const double *scores, int32_t whole, struct cuts *cuts,
                    struct siren_error *err)
{
    size_t length;
    const char *text = vocab_text(&m->vocab, whole, &length);
    if (!text || !length || scores[whole] == -INFINITY) return 0;
    if (length > LONGEST_TOKEN)
        return siren_fail(err, SIREN_EFORMAT, "token %d has %zu bytes, expected at most %d",
                          (int)whole, length, LONGEST_TOKEN);
    uint32_t n = count_characters(text, length), n_left = 1;
    for (size_t at = utf8_length(*text); at < length; at += utf8_length(text[at]), n_left++) {
        int32_t left = find_part(m, scores, text, at);
        int32_t right = left < 0 ? -1 : find_part(m, scores, text + at, length - at);
        if (right < 0) continue;
        if (alloc_grow(&cuts->items, &cuts->capacity, cuts->n + 1, sizeof *cuts->items))
            return siren_fail_memory(err, "merges", cuts->n);
        cuts->items[cuts->n++] =
            (struct cut){scores[whole], whole, left, right, n_left, n - n_left};
    }
    return 0;
}

int bpe_merges_from_scores(struct bpe *m, const double *scores, struct siren_error *err)
{
    struct cuts cuts = {0};
    int code = 0;
    for (size_t id = 0; id < m->vocab.n_ids && !code; id++)
        code = add_cuts(m, scores, (int32_t)id, &cuts, err);
    if (!code && bpe_reserve(m, cuts.n)) code = siren_fail_memory(err, "merges", cuts.n);
    if (!code && cuts.n) qsort(cuts.items, cuts.n, sizeof *cuts.items, by_rank);
    for (size_t i = 0; i < cuts.n && !code; i++) {
        const struct cut *c = &cuts.items[i];
        size_t n_left = 0, n_right = 0;
        const char *left = vocab_text(&m->vocab, c->left, &n_left);
        const char *right = vocab_text(&m->vocab, c->right, &n_right);
        if (bpe_add_merge(m, left, n_left, right, n_right))
            code = siren_fail_memory(err, "merges", cuts.n);
    }
    free(cuts.items);
    return code;
}
