/* Sentence embeddings: encoder passes over texts sorted by length, pooled. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/pass.h"
#include "siren/score.h"

enum { PASS_TOKENS = 2048 };

struct order {
    size_t text, n_ids;
};

static int by_length(const void *a, const void *b)
{
    const struct order *x = a, *y = b;
    if (x->n_ids != y->n_ids) return x->n_ids < y->n_ids ? -1 : 1;
    return (x->text > y->text) - (x->text < y->text);
}

/* Tokens in order, one chain: the bits do not depend on the other texts. */
static void pool_text(const struct siren_config *c, const struct siren_forest *forest, int first,
                      size_t n, float *out)
{
    size_t d = (size_t)c->d_model;
    memcpy(out, siren_forest_output(forest, first), d * sizeof *out);
    if (c->pooling == SIREN_POOL_MEAN) {
        for (size_t t = 1; t < n; t++) {
            const float *x = siren_forest_output(forest, first + (int)t);
            for (size_t i = 0; i < d; i++) out[i] += x[i];
        }
        for (size_t i = 0; i < d; i++) out[i] /= (float)n;
    }
    if (!c->normalize) return;
    double square = 0;
    for (size_t i = 0; i < d; i++) square += (double)out[i] * (double)out[i];
    double length = sqrt(square);
    for (size_t i = 0; i < d && length > 0; i++) out[i] = (float)((double)out[i] / length);
}

static int embed_pass(struct siren_forest *forest, const struct siren_config *c,
                      const struct siren_tokens *texts, const struct order *order, size_t from,
                      size_t to, float *out, struct siren_error *err)
{
    siren_forest_clear(forest);
    for (size_t i = from; i < to; i++) {
        const struct siren_tokens *t = &texts[order[i].text];
        int segment = siren_forest_add(forest, SIREN_ROOT, t->ids, t->n_ids, 0);
        size_t wanted = c->pooling == SIREN_POOL_CLS ? 1 : t->n_ids;
        for (size_t j = 0; segment >= 0 && j < wanted; j++)
            if (siren_forest_want_hidden(forest, segment, j, c->n_layers) < 0) segment = -1;
        if (segment < 0) return siren_fail_memory(err, "the forest of a pass", to - from);
    }
    int rc = siren_forest_plan(forest, err);
    if (rc) return rc;
    siren_forest_run(forest, NULL);
    int output = 0;
    for (size_t i = from; i < to; i++) {
        size_t n = c->pooling == SIREN_POOL_CLS ? 1 : order[i].n_ids;
        pool_text(c, forest, output, n, out + order[i].text * (size_t)c->d_model);
        output += (int)n;
    }
    return SIREN_OK;
}

static int embed_all(struct siren_forest *forest, const struct siren_config *c,
                     const struct siren_tokens *texts, const struct order *order, size_t n,
                     float *out, const struct siren_progress *progress, struct siren_error *err)
{
    int rc = SIREN_OK;
    for (size_t from = 0, to; !rc && from < n; from = to) {
        size_t tokens = 0;
        for (to = from; to < n; to++) {
            tokens += order[to].n_ids;
            if (to > from && tokens > PASS_TOKENS) break;
        }
        rc = embed_pass(forest, c, texts, order, from, to, out, err);
        if (!rc && siren_progress_update(progress, "texts", to, n))
            rc = siren_fail(err, SIREN_ECANCEL, "stopped after %zu of %zu texts", to, n);
    }
    return rc;
}

int siren_embed_many(struct siren_engine *engine, const struct siren_tokens *texts, size_t n,
                     float *out, const struct siren_progress *progress, struct siren_error *err)
{
    const struct siren_config *c = &engine->model->config;
    if (!siren_is_encoder(c))
        return siren_fail(err, SIREN_EINVAL, "%s is a language model, expected a sentence encoder",
                          siren_model_path(engine->model));
    struct order *order = alloc_array(n, sizeof *order);
    struct siren_forest *forest = NULL;
    int rc = order ? siren_forest_create(&forest, engine, err)
                   : siren_fail_memory(err, "texts", n * sizeof *order);
    for (size_t i = 0; !rc && i < n; i++) {
        order[i] = (struct order){i, texts[i].n_ids};
        if (!texts[i].n_ids) rc = siren_fail(err, SIREN_EINVAL, "text %zu has no tokens", i);
    }
    if (!rc) {
        qsort(order, n, sizeof *order, by_length);
        rc = embed_all(forest, c, texts, order, n, out, progress, err);
    }
    siren_forest_free(forest);
    free(order);
    return rc;
}
