/* Fitting a calibration on one half of a run's users, and reporting it on the other. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/calibration.h"
#include "app/lineage.h"
#include "app/parts.h"
#include "app/split.h"
#include "base/alloc.h"

/* One half of the run's rows. */
struct half {
    const struct siren_prediction **prediction; /* (n) borrowed */
    struct siren_target *target;                /* (n) */
    int32_t *label, *user;                      /* (n) */
    double *x;                                  /* (n, d) of the features at hand */
    size_t n;
};

enum { RAW, CALIBRATED, PLAIN };
static const char *const names[] = {"as the model answered", "calibrated", "without the model"};

struct job {
    struct siren_app *app;
    const struct siren_calibrate_options *options;
    struct siren_pool *pool;
    struct siren_run run;
    json_t *settings;
    struct siren_predictions predictions;
    struct half half[2];
    double *p[3]; /* (n of half B, labels) distributions: RAW, CALIBRATED, PLAIN */
    unsigned groups;
    int n_labels;
    size_t n_chosen_on; /* rows of half B by which the model was chosen */
    struct siren_error *err;
};

/* ---- the rows ---- */

static int half_allocate(struct half *h, size_t n, struct siren_error *err)
{
    h->prediction = alloc_array(n, sizeof *h->prediction);
    h->target = alloc_array(n, sizeof *h->target);
    h->label = alloc_array(n, sizeof *h->label);
    h->user = alloc_array(n, sizeof *h->user);
    return h->prediction && h->target && h->label && h->user
               ? 0
               : siren_fail_memory(err, "the rows of a run", n * 64);
}

static void half_free(struct half *h)
{
    free(h->prediction);
    free(h->target);
    free(h->label);
    free(h->user);
    free(h->x);
}

/* A run of `siren eval` on valid: nothing else may be fitted on. */
static int load_run(struct job *j)
{
    long long id = (long long)j->options->run;
    struct split parts;
    int rc = siren_run_load(&j->run, j->app->ws, j->options->run, j->err);
    if (rc) return rc;
    j->settings = json_loads(j->run.settings, 0, NULL);
    const char *split = json_string_value(json_object_get(j->settings, "split"));
    if (strcmp(j->run.kind, "eval") || !split)
        return siren_fail(j->err, SIREN_EINVAL,
                          "run %lld is of kind \"%s\"; expected one of `siren eval --model`", id,
                          j->run.kind);
    rc = split_parse(split, &parts, j->err);
    if (rc) return rc;
    if (!split_is(&parts, SIREN_LABEL_VALID) || json_object_get(j->settings, "fold"))
        return siren_fail(j->err, SIREN_EINVAL,
                          "run %lld is on the split \"%s\"; a calibration is fitted on valid only",
                          id, split);
    if (json_object_get(json_object_get(j->settings, "predict"), "calibration"))
        return siren_fail(j->err, SIREN_EINVAL, "run %lld is calibrated already", id);
    if (j->run.status != SIREN_RUN_DONE)
        return siren_fail(j->err, SIREN_EINVAL,
                          "run %lld is %s, with %lld of its rows; expected one that is done (the "
                          "same `siren eval` goes on with it)",
                          id, siren_run_status_name(j->run.status),
                          (long long)j->run.n_predictions);
    return siren_predictions_load(&j->predictions, j->app->ws, j->options->run, j->err);
}

static int add_row(struct job *j, const struct siren_prediction *p)
{
    struct siren_app *app = j->app;
    size_t row = siren_ratings_row(&app->ratings, p->user, p->item);
    if (row == SIZE_MAX || isnan(p->truth)) return 0; /* it was deleted since */
    if (p->n_labels != j->n_labels || !p->logprobs || !p->probabilities)
        return siren_fail(j->err, SIREN_EINVAL,
                          "run %lld has answers without a distribution: its rows must be answered "
                          "directly, or with --samples",
                          (long long)j->options->run);
    struct half *h = &j->half[siren_user_half(app->users.external[p->user])];
    h->prediction[h->n] = p;
    h->target[h->n] = (struct siren_target){.user = p->user, .item = p->item, .row = row};
    h->label[h->n] = siren_scale_label(&app->meta.scale, p->truth);
    h->user[h->n++] = p->user;
    return 0;
}

static size_t count_users(const struct half *h)
{
    size_t n = 0;
    for (size_t i = 0; i < h->n; i++) n += !i || h->user[i] != h->user[i - 1];
    return n;
}

/* Without another rating there is nothing to tell apart, and without users to hold out any penalty
 * is as good as another. */
static int check_fitted(const struct job *j)
{
    const struct half *a = &j->half[0];
    long long run = (long long)j->options->run;
    size_t users = count_users(a), same = 0;
    char rating[24];
    while (same < a->n && a->label[same] == a->label[0]) same++;
    if (same == a->n) {
        siren_scale_text(&j->app->meta.scale, a->label[0], rating);
        return siren_fail(
            j->err, SIREN_ENOTFOUND,
            "run %lld: the ratings of half A (%zu) are all %s; expected two different "
            "ones to learn from",
            run, a->n, rating);
    }
    if (j->options->l2 > 0 || users >= SIREN_LOGISTIC_FOLDS) return 0;
    return siren_fail(j->err, SIREN_ENOTFOUND,
                      "run %lld has rows of %zu users of half A; expected %d or more, to choose "
                      "the penalty by cross-validation, or a penalty (--l2)",
                      run, users, SIREN_LOGISTIC_FOLDS);
}

/* Of rows that were trained on the model is surer than of others: what is fitted on these answers
 * is wrong for others, and what is reported on them says nothing. */
static int check_unseen(struct job *j)
{
    struct trained_rows trained;
    size_t n = 0;
    int rc = lineage_trained_rows(&trained, j->app, j->run.settings, j->err);
    for (int k = 0; k < 2 && !rc; k++)
        for (size_t i = 0; i < j->half[k].n; i++) {
            const struct siren_target *t = &j->half[k].target[i];
            int marks = trained_rows_marks(&trained, j->app, t->user, t->item);
            n += (marks & LINEAGE_TRAINED) != 0;
            j->n_chosen_on += k == 1 && marks & LINEAGE_CHOSEN_ON;
        }
    if (n)
        rc = siren_fail(j->err, SIREN_EINVAL,
                        "run %lld: %zu of its rows were trained on (run %lld); expected answers "
                        "for rows that the model has not seen: train on others",
                        (long long)j->options->run, n, (long long)trained.run);
    trained_rows_clear(&trained);
    return rc;
}

static int split_rows(struct job *j)
{
    size_t n = j->predictions.n;
    int rc = 0;
    for (int i = 0; i < 2 && !rc; i++) rc = half_allocate(&j->half[i], n, j->err);
    for (size_t i = 0; i < n && !rc; i++) rc = add_row(j, &j->predictions.prediction[i]);
    if (!rc && (!j->half[0].n || !j->half[1].n))
        rc =
            siren_fail(j->err, SIREN_ENOTFOUND,
                       "run %lld has %zu rows of half A and %zu of half B: both are needed, one to "
                       "fit and one to report",
                       (long long)j->options->run, j->half[0].n, j->half[1].n);
    if (!rc) rc = check_unseen(j);
    return rc ? rc : check_fitted(j);
}

/* ---- fitting ---- */

static int fill_features(struct job *j, struct half *h, const struct target_features *f)
{
    double logprobs[SIREN_MAX_LABELS];
    size_t d = (size_t)f->d;
    free(h->x);
    h->x = alloc_array(h->n * d, sizeof *h->x);
    if (!h->x) return siren_fail_memory(j->err, "features", h->n * d * sizeof *h->x);
    for (size_t i = 0; i < h->n; i++) {
        for (int k = 0; k < j->n_labels; k++) logprobs[k] = (double)h->prediction[i]->logprobs[k];
        calibration_features(f, &h->target[i], logprobs, j->n_labels, h->x + i * d);
    }
    return 0;
}

static int make_distributions(struct job *j, int which)
{
    size_t size = j->half[1].n * (size_t)j->n_labels;
    j->p[which] = alloc_array(size, sizeof(double));
    return j->p[which] ? 0 : siren_fail_memory(j->err, "distributions", size * sizeof(double));
}

/* A model of some features on half A; half B's distributions by it. */
static int fit_model(struct job *j, unsigned groups, int which, struct siren_logistic **model)
{
    const struct siren_calibrate_options *o = j->options;
    const struct siren_logistic_options options = {.kind = o->kind, .l2 = o->l2, .seed = o->seed};
    struct half *a = &j->half[0], *b = &j->half[1];
    struct target_features f;
    *model = NULL;
    int rc = make_distributions(j, which);
    if (!rc) rc = target_features_open(&f, j->app, groups, calibration_gap(j->settings), j->err);
    if (rc) return rc;
    rc = fill_features(j, a, &f);
    if (!rc) rc = fill_features(j, b, &f);
    if (!rc)
        rc = siren_logistic_fit(model, a->x, a->label, a->user, a->n, f.d, j->n_labels, &options,
                                j->err);
    if (!rc) rc = siren_logistic_predict(*model, b->x, b->n, j->p[which], j->err);
    target_features_close(&f);
    return rc;
}

/* ---- the report ---- */

static int decode(const struct job *j, enum siren_decoder decoder, int which, const double *truth,
                  double *decoded, struct siren_metrics *m)
{
    const double *p = j->p[which];
    struct siren_outcomes o = {j->half[1].n, truth, decoded, p, NULL};
    for (size_t i = 0; i < o.n; i++)
        decoded[i] = siren_decode(decoder, &j->app->meta.scale, p + i * (size_t)j->n_labels);
    return siren_metrics_compute(m, &j->app->meta.scale, &o, j->err);
}

static int measure_half(struct job *j, int which, int64_t run, json_t *rows)
{
    const struct half *h = &j->half[1];
    struct siren_metrics *m = alloc_array(2, sizeof *m);
    double *truth = alloc_array(h->n, sizeof *truth), *decoded = alloc_array(h->n, sizeof *decoded);
    int rc = m && truth && decoded ? 0 : siren_fail_memory(j->err, "metrics", h->n * 16);
    for (size_t i = 0; i < h->n && !rc; i++) truth[i] = h->prediction[i]->truth;
    if (!rc) rc = decode(j, SIREN_MEDIAN, which, truth, decoded, &m[0]);
    if (!rc) rc = decode(j, SIREN_MEAN, which, truth, decoded, &m[1]);
    if (!rc) {
        json_t *row = json_pack("{s:s, s:I, s:f, s:f, s:f, s:f, s:f}", "name", names[which], "n",
                                (json_int_t)h->n, "mae", m[0].mae, "rmse", m[1].rmse, "log_loss",
                                m[0].log_loss, "rps", m[0].rps, "ece", m[0].ece);
        if (run) json_object_set_new(row, "run", json_integer((json_int_t)run));
        json_array_append_new(rows, row);
    }
    free(m);
    free(truth);
    free(decoded);
    return rc;
}

static int save_rows(struct job *j, int64_t run, int which)
{
    const struct half *h = &j->half[1];
    const struct siren_scale *scale = &j->app->meta.scale;
    float shares[SIREN_MAX_LABELS];
    int rc = 0;
    for (size_t i = 0; i < h->n && !rc; i++) {
        const double *d = j->p[which] + i * (size_t)j->n_labels;
        struct siren_prediction p = {.row = (int64_t)i,
                                     .user = h->target[i].user,
                                     .item = h->target[i].item,
                                     .truth = h->prediction[i]->truth,
                                     .n_labels = j->n_labels,
                                     .probabilities = shares,
                                     .logprobs =
                                         which == CALIBRATED ? h->prediction[i]->logprobs : NULL,
                                     .outside = (double)NAN};
        for (int k = 0; k < j->n_labels; k++) shares[k] = (float)d[k];
        p.argmax = siren_decode(SIREN_ARGMAX, scale, d);
        p.mean = siren_decode(SIREN_MEAN, scale, d);
        p.median = siren_decode(SIREN_MEDIAN, scale, d);
        rc = siren_predictions_save(j->app->ws, run, &p, 1, j->err);
    }
    return rc;
}

/* Half B's distributions as a run.  Takes over settings. */
static int save_run(struct job *j, int which, const char *name, json_t *settings, int64_t *id)
{
    char *text = NULL, *metrics = NULL;
    int rc = app_json_text(settings, JSON_COMPACT | JSON_SORT_KEYS, &text, j->err);
    if (rc) return rc;
    struct siren_run run = {.kind = "calibration",
                            .name = (char *)name,
                            .command = (char *)(j->options->command ? j->options->command : ""),
                            .settings = text,
                            .model = which == CALIBRATED ? j->run.model : "",
                            .split = "valid:B",
                            .seed = j->options->seed};
    rc = app_run_start(j->app, &run, j->err);
    if (!rc) rc = save_rows(j, run.id, which);
    if (!rc) rc = siren_run_metrics(j->app, run.id, j->pool, &metrics, j->err);
    if (!rc) rc = siren_run_finish(j->app->ws, run.id, SIREN_RUN_DONE, metrics, NULL, j->err);
    *id = run.id;
    free(metrics);
    free(text);
    return rc;
}

static json_t *settings_of(const struct job *j, unsigned groups, json_t *calibration)
{
    char hash[17];
    app_data_hash(j->app, hash);
    return json_pack("{s:I, s:s, s:i, s:s, s:o*}", "of_run", (json_int_t)j->options->run, "data",
                     hash, "features", (int)groups, "kind",
                     j->options->kind == SIREN_ORDINAL ? "ordinal" : "multinomial", "calibration",
                     calibration);
}

/* ---- all of it ---- */

static int raw_row(struct job *j, json_t *rows)
{
    struct half *b = &j->half[1];
    int rc = make_distributions(j, RAW);
    for (size_t i = 0; i < b->n && !rc; i++)
        for (int k = 0; k < j->n_labels; k++)
            j->p[RAW][i * (size_t)j->n_labels + (size_t)k] =
                (double)b->prediction[i]->probabilities[k];
    return rc ? rc : measure_half(j, RAW, j->options->run, rows);
}

static int calibrated_row(struct job *j, struct siren_calibration *c, json_t *rows)
{
    int64_t run;
    json_t *saved = calibration_json(c, j->err);
    if (!saved) return SIREN_ENOMEM;
    int rc = save_run(j, CALIBRATED, "calibrated", settings_of(j, j->groups, saved), &run);
    return rc ? rc : measure_half(j, CALIBRATED, run, rows);
}

static unsigned plain_groups(const struct job *j)
{
    return j->groups & ~(unsigned)SIREN_FEATURE_LOGITS;
}

static int plain_row(struct job *j, json_t *rows)
{
    int64_t run;
    if (!plain_groups(j)) return 0;
    int rc = save_run(j, PLAIN, "calibration without the model",
                      settings_of(j, plain_groups(j), NULL), &run);
    return rc ? rc : measure_half(j, PLAIN, run, rows);
}

static int fit_both(struct job *j, struct siren_calibration *c)
{
    struct siren_logistic *plain = NULL;
    int rc = fit_model(j, j->groups, CALIBRATED, &c->model);
    if (!rc && plain_groups(j)) rc = fit_model(j, plain_groups(j), PLAIN, &plain);
    siren_logistic_free(plain);
    return rc;
}

/* The runs and the file are there all, or none: the file is written before the runs are kept. */
static int store_results(struct job *j, struct siren_calibration *c, json_t *rows)
{
    int rc = siren_workspace_begin(j->app->ws, j->err);
    if (rc) return rc;
    rc = raw_row(j, rows);
    if (!rc) rc = calibrated_row(j, c, rows);
    if (!rc) rc = plain_row(j, rows);
    if (!rc && j->options->path) rc = siren_calibration_save(c, j->options->path, j->err);
    return siren_workspace_end(j->app->ws, rc, j->err);
}

/* The fits, which take long, come before the write lock. */
static int fit_and_report(struct job *j, struct siren_calibration *c, char **json)
{
    json_t *rows = json_array();
    int rc = fit_both(j, c);
    if (!rc) rc = store_results(j, c, rows);
    if (rc) {
        json_decref(rows);
        return rc;
    }
    json_t *fitted =
        json_pack("{s:I, s:I, s:i, s:f}", "rows", (json_int_t)j->half[0].n, "users",
                  (json_int_t)count_users(&j->half[0]), "features",
                  siren_logistic_features(c->model), "l2", siren_logistic_l2(c->model));
    return app_json_text(json_pack("{s:I, s:o, s:o, s:I}", "run", (json_int_t)j->options->run,
                                   "fitted", fitted, "rows", rows, "chosen_on",
                                   (json_int_t)j->n_chosen_on),
                         JSON_COMPACT, json, j->err);
}

static unsigned all_groups(const struct siren_app *app)
{
    unsigned all =
        SIREN_FEATURE_HISTOGRAM | SIREN_FEATURE_RECENT | SIREN_FEATURE_ITEM | SIREN_FEATURE_LOGITS;
    return app->topics.k ? all | SIREN_FEATURE_TOPIC : all;
}

int siren_calibrate(struct siren_calibration **out, struct siren_app *app,
                    const struct siren_calibrate_options *options, struct siren_pool *pool,
                    char **json, struct siren_error *err)
{
    struct siren_error local;
    struct job j = {.app = app,
                    .options = options,
                    .pool = pool,
                    .groups = (options->groups ? options->groups : all_groups(app)) |
                              SIREN_FEATURE_LOGITS,
                    .n_labels = siren_scale_labels(&app->meta.scale),
                    .err = err ? err : &local};
    struct siren_calibration *c = alloc_zeroed(1, sizeof *c);
    *out = NULL;
    *json = NULL;
    int rc = c ? load_run(&j) : siren_fail_memory(err, "a calibration", sizeof *c);
    if (!rc) rc = split_rows(&j);
    if (!rc) {
        c->groups = j.groups;
        c->belongs = calibration_belongs(app, j.settings);
        rc = fit_and_report(&j, c, json);
    }
    for (int i = 0; i < 2; i++) half_free(&j.half[i]);
    for (int i = 0; i < 3; i++) free(j.p[i]);
    siren_predictions_clear(&j.predictions);
    json_decref(j.settings);
    siren_run_clear(&j.run);
    if (rc)
        siren_calibration_free(c);
    else
        *out = c;
    return rc;
}
