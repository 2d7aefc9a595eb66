#include "app/labels.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* ---- set-up ---- */

int labels_create(struct labels *out, const struct siren_app *app, const struct siren_lm *lm,
                  struct siren_error *err)
{
    int rc;
    *out = (struct labels){.one_token = 1};
    rc = siren_readout_create(&out->readout, lm->tokenizer, &app->meta.scale, err);
    if (rc) return rc;
    for (int k = 0; k < out->readout.n; k++) {
        out->one_token &= out->readout.tokens[k].n_ids == 1;
        out->n_outputs += out->readout.tokens[k].n_ids;
    }
    if (!out->one_token) return 0;
    out->n_outputs = 1;
    out->ids = alloc_array((size_t)out->readout.n, sizeof *out->ids);
    if (!out->ids) {
        labels_clear(out);
        return siren_fail_memory(err, "the labels", SIREN_MAX_LABELS * sizeof *out->ids);
    }
    for (int k = 0; k < out->readout.n; k++) out->ids[k] = out->readout.tokens[k].ids[0];
    return 0;
}

static void take_prompts(struct labels *l)
{
    free(l->prompts);
    free(l->joined);
    free(l->joined_at);
    free(l->outputs);
    l->prompts = NULL;
    l->joined = NULL;
    l->joined_at = NULL;
    l->outputs = NULL;
    l->n = 0;
}

static int join_labels(struct labels *l, struct siren_error *err)
{
    size_t n_labels = (size_t)l->readout.n, total = 0, i = 0;
    for (size_t item = 0; item < l->n; item++)
        for (size_t k = 0; k < n_labels; k++)
            total += l->prompts[item].n_ids + l->readout.tokens[k].n_ids - 1;
    l->joined = alloc_array(total + 1, sizeof *l->joined);
    l->joined_at = alloc_array(l->n * n_labels + 1, sizeof *l->joined_at);
    if (!l->joined || !l->joined_at)
        return siren_fail_memory(err, "the labels of the rows", total * sizeof *l->joined);
    l->joined_at[0] = 0;
    for (size_t item = 0; item < l->n; item++)
        for (size_t k = 0; k < n_labels; k++, i++) {
            const struct siren_tokens *prompt = &l->prompts[item], *label = &l->readout.tokens[k];
            int32_t *ids = l->joined + l->joined_at[i];
            memcpy(ids, prompt->ids, prompt->n_ids * sizeof *ids);
            memcpy(ids + prompt->n_ids, label->ids, (label->n_ids - 1) * sizeof *ids);
            l->joined_at[i + 1] = l->joined_at[i] + prompt->n_ids + label->n_ids - 1;
        }
    return 0;
}

int labels_put(struct labels *l, const struct siren_tokens *prompts, size_t n,
               struct siren_error *err)
{
    int rc = 0;
    take_prompts(l);
    l->prompts = alloc_array(n + 1, sizeof *l->prompts);
    l->outputs = alloc_array(n * l->n_outputs + 1, sizeof *l->outputs);
    if (!l->prompts || !l->outputs) rc = siren_fail_memory(err, "the outputs of a training", n);
    if (!rc && n) memcpy(l->prompts, prompts, n * sizeof *prompts);
    l->n = n;
    if (!rc && !l->one_token) rc = join_labels(l, err);
    if (rc) take_prompts(l);
    return rc;
}

int labels_of_examples(struct labels *out, const struct siren_app *app, const struct siren_lm *lm,
                       const struct examples *examples, struct siren_error *err)
{
    struct siren_tokens *prompts = alloc_array(examples->n + 1, sizeof *prompts);
    int rc;
    *out = (struct labels){0};
    if (!prompts) return siren_fail_memory(err, "prompts", examples->n * sizeof *prompts);
    for (size_t i = 0; i < examples->n; i++)
        prompts[i] = (struct siren_tokens){examples->list[i].ids, examples->list[i].n_prompt};
    rc = labels_create(out, app, lm, err);
    if (!rc) rc = labels_put(out, prompts, examples->n, err);
    if (rc) labels_clear(out);
    free(prompts);
    return rc;
}

void labels_clear(struct labels *l)
{
    take_prompts(l);
    siren_readout_clear(&l->readout);
    free(l->ids);
    *l = (struct labels){0};
}

/* ---- the passes ---- */

size_t labels_n_sequences(const struct labels *l)
{
    return l->one_token ? 1 : (size_t)l->readout.n;
}

struct siren_tokens labels_sequence(const struct labels *l, size_t item, size_t k)
{
    size_t at = item * (size_t)l->readout.n + k;
    if (l->one_token) return l->prompts[item];
    return (struct siren_tokens){l->joined + l->joined_at[at],
                                 l->joined_at[at + 1] - l->joined_at[at]};
}

static int want_label(struct labels *l, size_t item, size_t k, int **outputs,
                      struct siren_forest *forest, const struct trainer_item *place, size_t first)
{
    const struct siren_tokens *label = &l->readout.tokens[k];
    for (size_t i = 0; i < label->n_ids; i++) {
        int segment;
        size_t token;
        trainer_place(place, first + k, l->prompts[item].n_ids - 1 + i, &segment, &token);
        **outputs = siren_forest_want_logprob(forest, segment, token, label->ids[i], 1);
        if (*(*outputs)++ < 0) return SIREN_ENOMEM;
    }
    return 0;
}

int labels_want(struct labels *l, size_t item, struct siren_forest *forest,
                const struct trainer_item *place, size_t first, struct siren_error *err)
{
    int *outputs = l->outputs + item * l->n_outputs, rc = 0;
    if (l->one_token) {
        int segment;
        size_t token;
        trainer_place(place, first, l->prompts[item].n_ids - 1, &segment, &token);
        *outputs = siren_forest_want_logits(forest, segment, token, l->ids, (size_t)l->readout.n);
        rc = *outputs < 0;
    }
    for (size_t k = 0; k < (size_t)l->readout.n && !l->one_token && !rc; k++)
        rc = want_label(l, item, k, &outputs, forest, place, first);
    return rc ? siren_fail_memory(err, "the outputs of a pass", 0) : 0;
}

static void read_scores(const struct labels *l, size_t item, struct siren_forest *forest,
                        double *scores)
{
    const int *outputs = l->outputs + item * l->n_outputs;
    for (int k = 0; k < l->readout.n; k++) {
        scores[k] = 0;
        if (l->one_token) scores[k] = (double)siren_forest_output(forest, *outputs)[k];
        for (size_t i = 0; i < l->readout.tokens[k].n_ids && !l->one_token; i++)
            scores[k] += (double)*siren_forest_output(forest, *outputs++);
    }
}

static void write_gradient(const struct labels *l, size_t item, struct siren_forest *forest,
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

double labels_loss(const struct labels *l, size_t item, struct siren_forest *forest,
                   const struct siren_rating_loss *loss, int label, const double *teacher,
                   double coefficient)
{
    double scores[SIREN_MAX_LABELS], gradient[SIREN_MAX_LABELS], value;
    read_scores(l, item, forest, scores);
    value = siren_rating_loss(loss, l->readout.n, scores, label, teacher, gradient);
    if (coefficient != 0) write_gradient(l, item, forest, coefficient, gradient);
    return value;
}
