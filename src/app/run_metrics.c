/* Metrics of a run's stored predictions. */
#include <math.h>
#include <stdlib.h>

#include "app/lineage.h"
#include "app/parts.h"
#include "app/prediction_columns.h"
#include "base/alloc.h"

enum { RESAMPLES = 2000 };

/* 95 % interval of a mean loss (or of its root): a difference to zero losses. */
static int interval(json_t *out, const char *name, const struct prediction_columns *c,
                    const double *losses, enum siren_statistic statistic, struct siren_pool *pool,
                    struct siren_error *err)
{
    struct siren_bootstrap_options options = {.resamples = RESAMPLES};
    struct siren_difference d;
    double *zeros = alloc_zeroed(c->n, sizeof *zeros);
    char key[32];
    int rc = zeros
                 ? siren_bootstrap(&d, losses, zeros, c->user, c->n, statistic, &options, pool, err)
                 : siren_fail_memory(err, "losses", c->n * sizeof *zeros);
    free(zeros);
    if (rc) return rc;
    json_object_set_new(out, name, app_real(d.a));
    snprintf(key, sizeof key, "%s_low", name);
    json_object_set_new(out, key, app_real(d.low));
    snprintf(key, sizeof key, "%s_high", name);
    json_object_set_new(out, key, app_real(d.high));
    return 0;
}

static json_t *per_label(const struct siren_app *app, const struct siren_metrics *m)
{
    json_t *out = json_object();
    for (int k = 0; k < m->n_labels; k++) {
        char label[24];
        json_t *star = json_object();
        siren_scale_text(&app->meta.scale, k, label);
        json_object_set_new(star, "n", json_integer((json_int_t)m->label[k].n));
        json_object_set_new(star, "mae", app_real(m->label[k].n ? m->label[k].mae : NAN));
        json_object_set_new(star, "rmse", app_real(m->label[k].n ? m->label[k].rmse : NAN));
        json_object_set_new(out, label, star);
    }
    return out;
}

static int decoder(json_t *decoders, json_t *report, const struct siren_app *app,
                   const struct prediction_columns *c, const char *name, const double *decoded,
                   struct siren_pool *pool, struct siren_error *err)
{
    struct siren_outcomes o = {c->n, c->truth, decoded, c->distributions, c->invalid};
    struct siren_metrics *m = alloc_zeroed(1, sizeof *m);
    double *losses = alloc_array(c->n, sizeof *losses);
    json_t *out = json_object();
    int rc = m && losses ? siren_metrics_compute(m, &app->meta.scale, &o, err)
                         : siren_fail_memory(err, "metrics", c->n * sizeof *losses);
    for (size_t i = 0; i < c->n && !rc; i++) losses[i] = fabs(decoded[i] - c->truth[i]);
    if (!rc) rc = interval(out, "mae", c, losses, SIREN_STAT_MEAN, pool, err);
    for (size_t i = 0; i < c->n && !rc; i++) losses[i] *= losses[i];
    if (!rc) rc = interval(out, "rmse", c, losses, SIREN_STAT_ROOT_MEAN, pool, err);
    if (!rc) {
        json_object_set_new(out, "stars", per_label(app, m));
        json_object_set_new(report, "invalid", app_real(m->invalid));
        if (m->has_distribution) {
            json_object_set_new(report, "log_loss", app_real(m->log_loss));
            json_object_set_new(report, "rps", app_real(m->rps));
            json_object_set_new(report, "ece", app_real(m->ece));
        }
        json_object_set_new(decoders, name, out);
    } else {
        json_decref(out);
    }
    free(m);
    free(losses);
    return rc;
}

static void costs(json_t *report, const struct prediction_columns *c)
{
    json_t *tokens = json_object(), *latency = json_object();
    json_object_set_new(report, "outside", app_real(c->outside));
    json_object_set_new(tokens, "in", app_real(c->tokens_in));
    json_object_set_new(tokens, "out", app_real(c->tokens_out));
    /* Of texts that are written it is not counted. */
    json_object_set_new(tokens, "cached", app_real(c->n_texts ? NAN : c->tokens_cached));
    json_object_set_new(report, "tokens", tokens);
    json_object_set_new(latency, "mean", app_real(c->latency / (double)c->n));
    json_object_set_new(report, "latency_ms", latency);
}

/* What the texts were like: shares of all texts. */
static json_t *reasoning(const struct prediction_columns *c)
{
    json_t *out = json_object(), *faults = json_object();
    double n = (double)c->n_texts;
    for (int k = 0; k < SIREN_FAULTS; k++)
        json_object_set_new(faults, siren_fault_name((enum siren_answer_fault)k),
                            app_real((double)c->faults[k] / n));
    json_object_set_new(out, "texts", json_integer((json_int_t)c->n_texts));
    json_object_set_new(out, "texts_a_row", app_real(n / (double)c->n));
    json_object_set_new(out, "tokens_a_text", app_real(c->tokens_out / n));
    json_object_set_new(out, "in_format", app_real((double)c->in_format / n));
    json_object_set_new(out, "faults", faults);
    return out;
}

static void tell_rows(json_t *report, const char *key, size_t n, int64_t run)
{
    if (n)
        json_object_set_new(report, key,
                            json_pack("{s:I,s:I}", "rows", (json_int_t)n, "run", (json_int_t)run));
}

/* How many of the rows its model was trained on, or chosen by, if any; and by which run. */
static int add_trained(json_t *report, struct siren_app *app, int64_t id,
                       const struct prediction_columns *c, struct siren_error *err)
{
    struct trained_rows trained;
    struct siren_run run;
    size_t n = 0, n_chosen = 0;
    int rc = siren_run_load(&run, app->ws, id, err);
    if (rc) return rc;
    rc = lineage_trained_rows(&trained, app, run.settings, err);
    siren_run_clear(&run);
    if (rc || !trained.row) return rc;
    for (size_t i = 0; i < c->n; i++) {
        int marks = trained_rows_marks(&trained, app, c->user[i], c->item[i]);
        n += (marks & LINEAGE_TRAINED) != 0;
        n_chosen += (marks & LINEAGE_CHOSEN_ON) != 0;
    }
    tell_rows(report, "trained_on", n, trained.run);
    tell_rows(report, "chosen_on", n_chosen, trained.chosen_run);
    trained_rows_clear(&trained);
    return 0;
}

int siren_run_metrics(struct siren_app *app, int64_t run, struct siren_pool *pool, char **json,
                      struct siren_error *err)
{
    struct prediction_columns c;
    json_t *report, *decoders;
    int rc = prediction_columns_load(&c, app, run, err);
    *json = NULL;
    if (rc) return rc;
    report = json_object();
    decoders = json_object();
    json_object_set_new(report, "n", json_integer((json_int_t)c.n));
    for (int d = 0; d < N_DECODERS && !rc; d++)
        if (c.decoded[d])
            rc = decoder(decoders, report, app, &c, siren_decoder_name((enum siren_decoder)d),
                         c.decoded[d], pool, err);
    if (!rc && c.number && c.distributions)
        rc = decoder(decoders, report, app, &c, "number", c.number, pool, err);
    json_object_set_new(report, "decoders", decoders);
    costs(report, &c);
    if (c.n_texts) json_object_set_new(report, "reasoning", reasoning(&c));
    if (!rc) rc = add_trained(report, app, run, &c, err);
    prediction_columns_clear(&c);
    if (!rc) return app_json_text(report, JSON_COMPACT, json, err);
    json_decref(report);
    return rc;
}
