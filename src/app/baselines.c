#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/baseline_job.h"
#include "app/parts.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "siren/features.h"
#include "siren/metrics.h"

/* ---- points ---- */

static int new_points(struct baseline_job *job, struct baseline_result *out,
                      struct siren_error *err)
{
    out->points = alloc_array(job->n, sizeof *out->points);
    return out->points ? 0 : siren_fail_memory(err, "predictions", job->n * sizeof *out->points);
}

static int fill_constant(struct baseline_job *job, struct baseline_result *out, double value,
                         struct siren_error *err)
{
    int rc = new_points(job, out, err);
    for (size_t i = 0; i < job->n && !rc; i++) out->points[i] = value;
    snprintf(out->row.settings, sizeof out->row.settings, "%g", value);
    return rc;
}

static int fill_top(struct baseline_job *job, struct baseline_result *out,
                    const struct siren_progress *progress, struct siren_error *err)
{
    return fill_constant(job, out, job->app->meta.scale.max, err);
}

static int fill_mode(struct baseline_job *job, struct baseline_result *out,
                     const struct siren_progress *progress, struct siren_error *err)
{
    return fill_constant(job, out, job->means.mode, err);
}

static int fill_global(struct baseline_job *job, struct baseline_result *out,
                       const struct siren_progress *progress, struct siren_error *err)
{
    return fill_constant(job, out, job->means.global, err);
}

/* Of what precedes the target; the global mean where nothing does. */
static int fill_user(struct baseline_job *job, struct baseline_result *out,
                     const struct siren_progress *progress, struct siren_error *err)
{
    const struct siren_ratings *r = &job->app->ratings;
    size_t *rows = alloc_array(r->n + 1, sizeof *rows);
    int rc = rows ? new_points(job, out, err) : siren_fail_memory(err, "a history", r->n * 8);
    for (size_t i = 0; i < job->n && !rc; i++) {
        size_t n = siren_history(r, job->targets[i], job->options->gap, rows);
        double sum = 0;
        for (size_t k = 0; k < n; k++) sum += (double)r->rating[rows[k]];
        out->points[i] = n ? sum / (double)n : job->means.global;
    }
    free(rows);
    return rc;
}

static int fill_item(struct baseline_job *job, struct baseline_result *out,
                     const struct siren_progress *progress, struct siren_error *err)
{
    int rc = new_points(job, out, err);
    for (size_t i = 0; i < job->n && !rc; i++)
        out->points[i] = job->means.item_mean[job->app->ratings.item[job->targets[i]]];
    return rc;
}

/* Behind those of the other half, if there are any. */
static void tell_settings(const struct siren_mf *mf, char *text, size_t size)
{
    const struct siren_mf_options *o = siren_mf_settings(mf);
    size_t used = strlen(text);
    const char *next = used ? "; " : "";
    if (o->rank)
        snprintf(text + used, size - used, "%srank %d, lambda %g, of biases %g, %d epochs", next,
                 o->rank, o->lambda, o->lambda_bias, siren_mf_epochs(mf));
    else
        snprintf(text + used, size - used, "%sbiases only, lambda %g, %d epochs", next,
                 o->lambda_bias, siren_mf_epochs(mf));
}

/* The targets of one half of the users where it is crossed, else all. */
static int fill_mf_half(struct baseline_job *job, struct baseline_result *out,
                        enum siren_mf_method method, int half,
                        const struct siren_progress *progress, struct siren_error *err)
{
    const struct siren_ratings *r = &job->app->ratings;
    struct siren_mf *mf;
    int rc = siren_mf_select(&mf, &job->app->meta.scale, &job->train, &job->choose[half], method,
                             job->options->seed, job->pool, progress, err);
    if (rc) return rc;
    for (size_t i = 0; i < job->n; i++) {
        size_t row = job->targets[i];
        int its = job->crossed ? siren_user_half(job->app->users.external[r->user[row]]) : 0;
        if (its == half) out->points[i] = siren_mf_predict(mf, r->user[row], r->item[row]);
    }
    tell_settings(mf, out->row.settings, sizeof out->row.settings);
    siren_mf_free(mf);
    return 0;
}

static int fill_mf(struct baseline_job *job, struct baseline_result *out,
                   enum siren_mf_method method, const struct siren_progress *progress,
                   struct siren_error *err)
{
    for (int h = 0; h <= job->crossed; h++)
        if (!job->choose[h].n) return 0;
    int rc = new_points(job, out, err);
    for (int h = 0; h <= job->crossed && !rc; h++) {
        struct app_part part = {progress, "settings", (size_t)h * 100, 100,
                                job->crossed ? 200 : 100};
        struct siren_progress inner = app_part_progress(&part);
        rc = fill_mf_half(job, out, method, h, &inner, err);
    }
    if (job->crossed)
        snprintf(out->row.fitted_on, sizeof out->row.fitted_on,
                 "all of train, settings on the other half of valid");
    return rc;
}

static int fill_sgd(struct baseline_job *job, struct baseline_result *out,
                    const struct siren_progress *progress, struct siren_error *err)
{
    return fill_mf(job, out, SIREN_MF_SGD, progress, err);
}

static int fill_als(struct baseline_job *job, struct baseline_result *out,
                    const struct siren_progress *progress, struct siren_error *err)
{
    return fill_mf(job, out, SIREN_MF_ALS, progress, err);
}

/* ---- the table ---- */

/* Fills points or distributions; leaves both NULL where there is nothing to fit on. */
typedef int baseline_fill(struct baseline_job *job, struct baseline_result *out,
                          const struct siren_progress *progress, struct siren_error *err);

enum { HABIT = SIREN_FEATURE_HISTOGRAM | SIREN_FEATURE_RECENT };

static const struct {
    const char *name, *fitted_on;
    baseline_fill *fill; /* NULL: baseline_habit, with what follows */
    int fit_label;
    unsigned groups;
} baselines[] = {
    {.name = "always the highest", .fitted_on = "", .fill = fill_top},
    {.name = "always the mode", .fitted_on = "train", .fill = fill_mode},
    {.name = "global mean", .fitted_on = "train", .fill = fill_global},
    {.name = "user's mean", .fitted_on = "what precedes", .fill = fill_user},
    {.name = "item's mean", .fitted_on = "all of train", .fill = fill_item},
    {.name = "matrix factorisation, SGD",
     .fitted_on = "all of train, settings on valid",
     .fill = fill_sgd},
    {.name = "matrix factorisation, ALS",
     .fitted_on = "all of train, settings on valid",
     .fill = fill_als},
    {"rating habit (train)", "train", NULL, SIREN_LABEL_TRAIN, HABIT},
    {"rating habit (valid)", "valid", NULL, SIREN_LABEL_VALID, HABIT},
    {"rating habit and item (train)", "train", NULL, SIREN_LABEL_TRAIN, HABIT | SIREN_FEATURE_ITEM},
    {"rating habit and item (valid)", "valid", NULL, SIREN_LABEL_VALID, HABIT | SIREN_FEATURE_ITEM},
    {"rating histogram (chosen rows)", "", NULL, BASELINE_CHOSEN, SIREN_FEATURE_HISTOGRAM},
    {"rating habit (chosen rows)", "", NULL, BASELINE_CHOSEN, HABIT},
    {"rating habit and item (chosen rows)", "", NULL, BASELINE_CHOSEN, HABIT | SIREN_FEATURE_ITEM},
};
enum { N_BASELINES = sizeof baselines / sizeof *baselines };

/* Predictions of one decoder. */
static void decode_all(const struct baseline_job *job, const struct baseline_result *r,
                       enum siren_decoder decoder, double *out)
{
    const struct siren_scale *scale = &job->app->meta.scale;
    size_t n_labels = (size_t)siren_scale_labels(scale);
    for (size_t i = 0; i < job->n; i++)
        out[i] = r->points ? r->points[i]
                           : siren_decode(decoder, scale, r->distributions + i * n_labels);
}

static int measure_baseline(const struct baseline_job *job, struct baseline_result *r,
                            struct siren_error *err)
{
    struct siren_metrics *m = alloc_array(1, sizeof *m);
    double *decoded = alloc_array(job->n, sizeof *decoded);
    struct siren_outcomes o = {job->n, job->truth, decoded, r->distributions, NULL};
    int rc = m && decoded ? 0 : siren_fail_memory(err, "metrics", job->n * sizeof *decoded);
    if (!rc) {
        decode_all(job, r, SIREN_MEDIAN, decoded);
        rc = siren_metrics_compute(m, &job->app->meta.scale, &o, err);
    }
    if (!rc) {
        r->row.n = job->n;
        r->row.mae = m->mae;
        r->row.log_loss = m->has_distribution ? m->log_loss : (double)NAN;
        r->row.rps = m->has_distribution ? m->rps : (double)NAN;
        decode_all(job, r, SIREN_MEAN, decoded);
        rc = siren_metrics_compute(m, &job->app->meta.scale, &o, err);
    }
    if (!rc) r->row.rmse = m->rmse;
    free(m);
    free(decoded);
    return rc;
}

/* ---- as a run ---- */

static int save_predictions(const struct baseline_job *job, const struct baseline_result *r,
                            int64_t run, struct siren_error *err)
{
    const struct siren_scale *scale = &job->app->meta.scale;
    int n_labels = siren_scale_labels(scale);
    struct siren_prediction *p = alloc_zeroed(job->n, sizeof *p);
    float *shares = alloc_array(job->n * (size_t)n_labels, sizeof *shares);
    if (!p || !shares) {
        free(p);
        free(shares);
        return siren_fail_memory(err, "predictions", job->n * sizeof *p);
    }
    for (size_t i = 0; i < job->n; i++) {
        size_t at = i * (size_t)n_labels, row = job->targets[i];
        p[i] = (struct siren_prediction){.row = (int64_t)i, .outside = (double)NAN};
        p[i].user = job->user[i];
        p[i].item = job->app->ratings.item[row];
        p[i].truth = job->truth[i];
        if (r->points) {
            p[i].argmax = p[i].mean = p[i].median = r->points[i];
            continue;
        }
        const double *d = r->distributions + at;
        for (int c = 0; c < n_labels; c++) shares[at + (size_t)c] = (float)d[c];
        p[i].n_labels = n_labels;
        p[i].probabilities = shares + at;
        p[i].argmax = siren_decode(SIREN_ARGMAX, scale, d);
        p[i].mean = siren_decode(SIREN_MEAN, scale, d);
        p[i].median = siren_decode(SIREN_MEDIAN, scale, d);
    }
    int rc = siren_predictions_save(job->app->ws, run, p, job->n, err);
    free(p);
    free(shares);
    return rc;
}

static char *settings_json(const struct baseline_job *job, const struct baseline_result *r)
{
    char hash[17], *text = NULL;
    app_data_hash(job->app, hash);
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I}", "baseline", r->row.name, "fitted_on",
                          r->row.fitted_on, "settings", r->row.settings, "data", hash, "protocol",
                          siren_protocol_name(job->app->meta.protocol), "seed",
                          (json_int_t)job->options->seed);
    if (job->options->gap)
        json_object_set_new(j, "gap", json_integer((json_int_t)job->options->gap));
    app_json_text(j, JSON_COMPACT | JSON_SORT_KEYS, &text, NULL);
    return text;
}

static int save_run(struct baseline_job *job, struct baseline_result *r, struct siren_error *err)
{
    const struct siren_baseline_options *o = job->options;
    char split[64], *settings = settings_json(job, r), *metrics = NULL;
    snprintf(split, sizeof split, "%s", siren_label_name(job->label));
    if (o->fold >= 0)
        snprintf(split, sizeof split, "fold %d of %d, %.20s", o->fold, job->app->ratings.n_folds,
                 siren_label_name(job->label));
    struct siren_run run = {.kind = "baseline",
                            .name = r->row.name,
                            .command = (char *)(o->command ? o->command : ""),
                            .settings = settings,
                            .model = "",
                            .split = split,
                            .seed = o->seed};
    struct siren_workspace *ws = job->app->ws;
    siren_workspace_timeout(ws, APP_PATIENCE_MS);
    int rc = settings ? siren_workspace_begin(ws, err) : siren_fail_memory(err, "settings", 0);
    if (rc) {
        free(settings);
        return rc;
    }
    rc = app_run_start(job->app, &run, err);
    if (!rc) rc = save_predictions(job, r, run.id, err);
    if (!rc) rc = siren_run_metrics(job->app, run.id, job->pool, &metrics, err);
    if (!rc) rc = siren_run_finish(ws, run.id, SIREN_RUN_DONE, metrics, NULL, err);
    rc = siren_workspace_end(ws, rc, err);
    if (!rc) r->row.run = run.id;
    free(settings);
    free(metrics);
    return rc;
}

/* ---- all of them ---- */

static int run_baseline(struct baseline_job *job, int index, struct siren_baseline *row, int *made,
                        const struct siren_progress *progress, struct siren_error *err)
{
    struct baseline_result r = {0};
    struct app_part part = {progress, "steps", (size_t)index * 100, 100, N_BASELINES * 100};
    struct siren_progress inner = app_part_progress(&part);
    *made = 0;
    if (siren_progress_update(progress, "steps", part.from, part.total))
        return siren_fail(err, SIREN_ECANCEL, "stopped after %d baselines", index);
    snprintf(r.row.name, sizeof r.row.name, "%s", baselines[index].name);
    snprintf(r.row.fitted_on, sizeof r.row.fitted_on, "%s", baselines[index].fitted_on);
    int rc = baselines[index].fill ? baselines[index].fill(job, &r, &inner, err)
                                   : baseline_habit(job, &r, baselines[index].fit_label,
                                                    baselines[index].groups, err);
    *made = !rc && (r.points || r.distributions);
    if (*made) rc = measure_baseline(job, &r, err);
    if (*made && !rc && job->options->save) rc = save_run(job, &r, err);
    *row = r.row;
    free(r.points);
    free(r.distributions);
    return rc;
}

/* A part of a name that none has would give an empty table. */
static int check_only(const char *only, struct siren_error *err)
{
    struct buf names = {0};
    int fits = !only;
    for (int i = 0; i < N_BASELINES && !fits; i++) {
        fits = strstr(baselines[i].name, only) != NULL;
        buf_printf(&names, "%s\"%s\"", i ? ", " : "", baselines[i].name);
    }
    int rc = fits ? 0
                  : siren_fail(err, SIREN_EINVAL, "no baseline has \"%.60s\" in its name: %s", only,
                               buf_text(&names));
    buf_free(&names);
    return rc;
}

int siren_baselines(struct siren_app *app, const struct siren_baseline_options *options,
                    struct siren_pool *pool, struct siren_baseline **rows, size_t *n_rows,
                    const struct siren_progress *progress, struct siren_error *err)
{
    struct baseline_job job;
    *n_rows = 0;
    *rows = NULL;
    int rc = check_only(options->only, err);
    if (rc) return rc;
    rc = baseline_open(&job, app, options, pool, err);
    if (rc) return rc;
    *rows = alloc_zeroed(N_BASELINES, sizeof **rows);
    if (!*rows) rc = siren_fail_memory(err, "a table", N_BASELINES * sizeof **rows);
    for (int i = 0; i < N_BASELINES && !rc; i++) {
        int made;
        if (options->only && !strstr(baselines[i].name, options->only)) continue;
        rc = run_baseline(&job, i, &(*rows)[*n_rows], &made, progress, err);
        *n_rows += made && !rc;
    }
    baseline_close(&job);
    if (!rc) siren_progress_update(progress, "steps", N_BASELINES * 100, N_BASELINES * 100);
    if (rc) {
        free(*rows);
        *rows = NULL;
        *n_rows = 0;
    }
    return rc;
}
