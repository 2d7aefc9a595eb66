#include "app/prediction_columns.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

void prediction_columns_clear(struct prediction_columns *c)
{
    free(c->user);
    free(c->item);
    free(c->truth);
    for (int d = 0; d < N_DECODERS; d++) free(c->decoded[d]);
    free(c->distributions);
    free(c->number);
    free(c->invalid);
    *c = (struct prediction_columns){0};
}

static int allocate_columns(struct prediction_columns *c, size_t n, int labels)
{
    c->user = alloc_zeroed(n + 1, sizeof *c->user);
    c->item = alloc_zeroed(n + 1, sizeof *c->item);
    c->truth = alloc_zeroed(n + 1, sizeof *c->truth);
    c->number = alloc_zeroed(n + 1, sizeof *c->number);
    c->invalid = alloc_zeroed(n + 1, 1);
    c->distributions = alloc_zeroed(n + 1, (size_t)labels * sizeof *c->distributions);
    for (int d = 0; d < N_DECODERS; d++) c->decoded[d] = alloc_zeroed(n + 1, sizeof *c->decoded[d]);
    return c->user && c->item && c->truth && c->number && c->invalid && c->distributions &&
           c->decoded[0] && c->decoded[1] && c->decoded[2];
}

/* float32 sums to 1 only nearly. */
static void copy_distribution(const struct siren_prediction *p, double *out)
{
    double sum = 0;
    for (int k = 0; k < p->n_labels; k++) sum += p->probabilities[k];
    for (int k = 0; k < p->n_labels; k++)
        out[k] = sum > 0 ? p->probabilities[k] / sum : 1.0 / p->n_labels;
}

struct presence {
    int decoded[N_DECODERS], distributions, texts;
    size_t n_outside;
};

/* 1: the row has texts. */
static int add_texts(struct prediction_columns *c, size_t i, const char *reasoning)
{
    json_t *j = reasoning ? json_loads(reasoning, 0, NULL) : NULL;
    const json_t *faults = json_object_get(j, "faults");
    size_t n = (size_t)json_integer_value(json_object_get(j, "texts"));
    c->n_texts += n;
    c->in_format += (size_t)json_integer_value(json_object_get(j, "in_format"));
    c->number[i] = json_number_value(json_object_get(j, "number"));
    for (int k = 0; k < SIREN_FAULTS; k++)
        c->faults[k] += (size_t)json_integer_value(
            json_object_get(faults, siren_fault_name((enum siren_answer_fault)k)));
    json_decref(j);
    return n > 0;
}

static void add_row(struct prediction_columns *c, const struct siren_prediction *p, int labels,
                    struct presence *has)
{
    const double values[N_DECODERS] = {p->argmax, p->mean, p->median};
    size_t i = c->n++;
    c->user[i] = p->user;
    c->item[i] = p->item;
    c->truth[i] = p->truth;
    c->invalid[i] = (unsigned char)p->invalid;
    c->latency += p->latency_ms;
    for (int d = 0; d < N_DECODERS; d++) {
        c->decoded[d][i] = values[d];
        has->decoded[d] &= isfinite(values[d]);
    }
    if (p->n_labels == labels && p->probabilities)
        copy_distribution(p, c->distributions + i * (size_t)labels);
    else
        has->distributions = 0;
    has->texts &= add_texts(c, i, p->reasoning);
    if (!isnan(p->outside)) {
        c->outside += p->outside;
        has->n_outside++;
    }
    c->tokens_in += p->tokens_in;
    c->tokens_out += p->tokens_out;
    c->tokens_cached += p->tokens_cached;
}

static void drop_column(double **column)
{
    free(*column);
    *column = NULL;
}

int prediction_columns_load(struct prediction_columns *out, struct siren_app *app, int64_t run,
                            struct siren_error *err)
{
    struct siren_predictions p;
    struct presence has = {{1, 1, 1}, 1, 1, 0};
    int labels = siren_scale_labels(&app->meta.scale);
    struct siren_run known;
    int rc = siren_run_load(&known, app->ws, run, err);
    *out = (struct prediction_columns){0};
    if (rc) return rc;
    siren_run_clear(&known);
    rc = siren_predictions_load(&p, app->ws, run, err);
    if (rc) return rc;
    if (allocate_columns(out, p.n, labels)) {
        for (size_t i = 0; i < p.n; i++)
            if (!isnan(p.prediction[i].truth)) add_row(out, &p.prediction[i], labels, &has);
        out->outside = has.n_outside ? out->outside / (double)has.n_outside : NAN;
        for (int d = 0; d < N_DECODERS; d++)
            if (!has.decoded[d]) drop_column(&out->decoded[d]);
        if (!has.distributions) drop_column(&out->distributions);
        if (!has.texts) drop_column(&out->number);
        if (!out->n)
            rc = siren_fail(err, SIREN_ENOTFOUND,
                            "run %lld has no predictions with a known true rating", (long long)run);
    } else {
        rc = siren_fail_memory(err, "predictions", p.n * sizeof(double));
    }
    siren_predictions_clear(&p);
    if (rc) prediction_columns_clear(out);
    return rc;
}

int prediction_columns_no_row_in_common(struct siren_app *app, const int64_t *runs, size_t n,
                                        struct siren_error *err)
{
    struct siren_run first, other;
    int rc = siren_run_load(&first, app->ws, runs[0], err);
    if (rc) return rc;
    for (size_t i = 1; i < n && !rc; i++) {
        rc = siren_run_load(&other, app->ws, runs[i], err);
        if (rc) break;
        if (strcmp(first.split, other.split) != 0)
            rc = siren_fail(err, SIREN_ENOTFOUND,
                            "these runs have no row (user, item) in common: run %lld is of the "
                            "split \"%s\", run %lld of \"%s\"; name those of one split",
                            (long long)first.id, first.split, (long long)other.id, other.split);
        siren_run_clear(&other);
    }
    siren_run_clear(&first);
    return rc ? rc
              : siren_fail(err, SIREN_ENOTFOUND, "these runs have no row (user, item) in common");
}
