/* The multinomial model over what a user's past ratings look like. */
#include <stdio.h>
#include <stdlib.h>

#include "app/baseline_job.h"
#include "app/target_features.h"
#include "base/alloc.h"

enum {
    /* Beyond so many rows the penalty hardly matters, and choosing it takes minutes. */
    CHOOSE_UP_TO = 10000
};

/* Features of rows, with what to predict. */
struct design {
    double *x;      /* (n, d) */
    int32_t *label; /* (n) */
    int32_t *user;  /* (n) */
    size_t n;
    int d;
};

static void design_free(struct design *s)
{
    free(s->x);
    free(s->label);
    free(s->user);
}

static int design_make(struct design *s, const struct baseline_job *job, unsigned groups,
                       const size_t *targets, size_t n, struct siren_error *err)
{
    const struct siren_ratings *r = &job->app->ratings;
    struct target_features f;
    size_t cells;
    int rc = target_features_open(&f, job->app, groups, job->options->gap, err);
    if (rc) return rc;
    s->n = n;
    s->d = f.d;
    int overflow = __builtin_mul_overflow(n, (size_t)s->d, &cells);
    s->x = overflow ? NULL : alloc_array(cells, sizeof *s->x);
    s->label = alloc_array(n, sizeof *s->label);
    s->user = alloc_array(n, sizeof *s->user);
    if (!s->x || !s->label || !s->user)
        rc = siren_fail_memory(err, "features", n * (size_t)s->d * sizeof *s->x);
    for (size_t i = 0; i < n && !rc; i++) {
        const struct siren_target t = {
            .user = r->user[targets[i]], .item = r->item[targets[i]], .row = targets[i]};
        target_features_fill(&f, &t, NULL, s->x + i * (size_t)s->d);
        s->label[i] = siren_scale_label(&job->app->meta.scale, (double)r->rating[targets[i]]);
        s->user[i] = r->user[targets[i]];
    }
    target_features_close(&f);
    return rc;
}

static int fit_and_predict(const struct design *fit, const struct design *on, int n_labels,
                           const struct siren_logistic_options *o, struct baseline_result *out,
                           struct siren_error *err)
{
    struct siren_logistic *m;
    int rc =
        siren_logistic_fit(&m, fit->x, fit->label, fit->user, fit->n, fit->d, n_labels, o, err);
    if (rc) return rc;
    rc = siren_logistic_predict(m, on->x, on->n, out->distributions, err);
    snprintf(out->row.settings, sizeof out->row.settings, "%d features, L2 %g", fit->d,
             siren_logistic_l2(m));
    siren_logistic_free(m);
    return rc;
}

/* On the targets' own split: each half of the users is predicted by a model of the other.  Nothing
 * where one half has all users (one user, two with some seeds): there are no rows to fit on. */
static int cross_predict(const struct design *on, int n_labels,
                         const struct siren_logistic_options *o, struct baseline_result *out,
                         struct siren_error *err)
{
    snprintf(out->row.fitted_on, sizeof out->row.fitted_on, "valid, cross-fitted by user");
    snprintf(out->row.settings, sizeof out->row.settings, "%d features", on->d);
    int rc = siren_logistic_cross(on->x, on->label, on->user, on->n, on->d, n_labels, 2, o,
                                  out->distributions, err);
    if (rc != SIREN_ENOTFOUND) return rc;
    free(out->distributions);
    out->distributions = NULL;
    return 0;
}

int baseline_habit(struct baseline_job *job, struct baseline_result *out, int fit_label,
                   unsigned groups, struct siren_error *err)
{
    struct design fit = {0}, on = {0};
    struct siren_logistic_options o = {.seed = job->options->seed};
    size_t *rows = NULL, n = 0;
    int n_labels = siren_scale_labels(&job->app->meta.scale);
    int chosen = fit_label == BASELINE_CHOSEN;
    int rc = chosen ? 0 : baseline_rows(&job->app->ratings, fit_label, &rows, &n, err);
    if (chosen) n = job->n_chosen;
    if (rc || !n) {
        free(rows);
        return rc;
    }
    if (chosen)
        snprintf(out->row.fitted_on, sizeof out->row.fitted_on, "%.63s, %zu rows",
                 job->options->fit_split, n);
    if (n > CHOOSE_UP_TO) o.l2 = 1e-3;
    out->distributions = alloc_array(job->n * (size_t)n_labels, sizeof *out->distributions);
    if (!out->distributions) rc = siren_fail_memory(err, "distributions", job->n * 8);
    if (!rc) rc = design_make(&on, job, groups, job->targets, job->n, err);
    if (!rc && fit_label == job->label) {
        rc = cross_predict(&on, n_labels, &o, out, err);
    } else if (!rc) {
        rc = design_make(&fit, job, groups, chosen ? job->chosen : rows, n, err);
        if (!rc) rc = fit_and_predict(&fit, &on, n_labels, &o, out, err);
    }
    design_free(&fit);
    design_free(&on);
    free(rows);
    return rc;
}
