#include "app/labels.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static const struct example *example_of(const struct labels *l, size_t item)
{
    return &l->examples->list[item];
}

/* ---- set-up ---- */

static int join(struct labels *l, struct siren_error *err)
{
    size_t n = l->examples->n, n_labels = (size_t)l->readout.n, total = 0, i = 0;
    for (size_t item = 0; item < n; item++)
        for (size_t k = 0; k < n_labels; k++)
            total += example_of(l, item)->n_prompt + l->readout.tokens[k].n_ids - 1;
    l->joined = alloc_array(total + 1, sizeof *l->joined);
    l->joined_at = alloc_array(n * n_labels + 1, sizeof *l->joined_at);
    if (!l->joined || !l->joined_at)
        return siren_fail_memory(err, "the labels of the rows", total * sizeof *l->joined);
    l->joined_at[0] = 0;
    for (size_t item = 0; item < n; item++)
        for (size_t k = 0; k < n_labels; k++, i++) {
            const struct example *e = example_of(l, item);
            const struct siren_tokens *label = &l->readout.tokens[k];
            int32_t *ids = l->joined + l->joined_at[i];
            memcpy(ids, e->ids, e->n_prompt * sizeof *ids);
            memcpy(ids + e->n_prompt, label->ids, (label->n_ids - 1) * sizeof *ids);
            l->joined_at[i + 1] = l->joined_at[i] + e->n_prompt + label->n_ids - 1;
        }
    return 0;
}

static int make_sequences(struct labels *l, struct siren_error *err)
{
    l->one_token = 1;
    for (int k = 0; k < l->readout.n; k++) {
        l->one_token &= l->readout.tokens[k].n_ids == 1;
        l->n_outputs += l->readout.tokens[k].n_ids;
    }
    if (l->one_token) l->n_outputs = 1;
    l->outputs = alloc_array(l->examples->n * l->n_outputs + 1, sizeof *l->outputs);
    if (!l->outputs) return siren_fail_memory(err, "the outputs of a training", l->examples->n);
    if (!l->one_token) return join(l, err);
    l->ids = alloc_array((size_t)l->readout.n, sizeof *l->ids);
    if (!l->ids) return siren_fail_memory(err, "the labels", (size_t)l->readout.n);
    for (int k = 0; k < l->readout.n; k++) l->ids[k] = l->readout.tokens[k].ids[0];
    return 0;
}

int labels_create(struct labels *out, const struct siren_app *app, const struct siren_lm *lm,
                  const struct examples *examples, struct siren_error *err)
{
    int rc;
    *out = (struct labels){.examples = examples};
    rc = siren_readout_create(&out->readout, lm->tokenizer, &app->meta.scale, err);
    if (!rc) rc = make_sequences(out, err);
    if (rc) labels_clear(out);
    return rc;
}

void labels_clear(struct labels *l)
{
    siren_readout_clear(&l->readout);
    free(l->ids);
    free(l->joined);
    free(l->joined_at);
    free(l->outputs);
    *l = (struct labels){0};
}

/* ---- the passes ---- */

size_t labels_n_sequences(const struct labels *l)
{
    return l->one_token ? 1 : (size_t)l->readout.n;
}

struct siren_tokens labels_sequence(const struct labels *l, size_t item, size_t k)
{
    const struct example *e = example_of(l, item);
    size_t at = item * (size_t)l->readout.n + k;
    if (l->one_token) return (struct siren_tokens){e->ids, e->n_prompt};
    return (struct siren_tokens){l->joined + l->joined_at[at],
                                 l->joined_at[at + 1] - l->joined_at[at]};
}

static int want_label(struct labels *l, size_t item, size_t k, int **outputs,
                      struct siren_forest *forest, const struct trainer_item *place)
{
    const struct siren_tokens *label = &l->readout.tokens[k];
    for (size_t i = 0; i < label->n_ids; i++) {
        int segment;
        size_t token;
        trainer_place(place, k, example_of(l, item)->n_prompt - 1 + i, &segment, &token);
        **outputs = siren_forest_want_logprob(forest, segment, token, label->ids[i], 1);
        if (*(*outputs)++ < 0) return SIREN_ENOMEM;
    }
    return 0;
}

int labels_want(struct labels *l, size_t item, struct siren_forest *forest,
                const struct trainer_item *place, struct siren_error *err)
{
    int *outputs = l->outputs + item * l->n_outputs, rc = 0;
    if (l->one_token) {
        int segment;
        size_t token;
        trainer_place(place, 0, example_of(l, item)->n_prompt - 1, &segment, &token);
        *outputs = siren_forest_want_logits(forest, segment, token, l->ids, (size_t)l->readout.n);
        rc = *outputs < 0;
    }
    for (size_t k = 0; k < (size_t)l->readout.n && !l->one_token && !rc; k++)
        rc = want_label(l, item, k, &outputs, forest, place);
    return rc ? siren_fail_memory(err, "the outputs of a pass", 0) : 0;
}

void labels_scores(const struct labels *l, size_t item, struct siren_forest *forest, double *scores)
{
    const int *outputs = l->outputs + item * l->n_outputs;
    for (int k = 0; k < l->readout.n; k++) {
        scores[k] = 0;
        if (l->one_token) scores[k] = (double)siren_forest_output(forest, *outputs)[k];
        for (size_t i = 0; i < l->readout.tokens[k].n_ids && !l->one_token; i++)
            scores[k] += (double)*siren_forest_output(forest, *outputs++);
    }
}

void labels_gradient(const struct labels *l, size_t item, struct siren_forest *forest,
                     double coefficient, const double *gradient)
{
    const int *outputs = l->outputs + item * l->n_outputs;
    for (int k = 0; k < l->readout.n; k++) {
        float g = (float)(coefficient * gradient[k]);
        if (l->one_token) siren_forest_gradient(forest, *outputs)[k] = g;
        for (size_t i = 0; i < l->readout.tokens[k].n_ids && !l->one_token; i++)
            *siren_forest_gradient(forest, *outputs++) = g;
    }
}
