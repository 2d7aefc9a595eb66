/* A split's rows and what the baselines fit on. */
#ifndef SIREN_APP_BASELINE_JOB_H
#define SIREN_APP_BASELINE_JOB_H

#include "siren/baseline_runs.h"
#include "siren/baselines.h"
#include "siren/logistic.h"

struct baseline_job {
    struct siren_app *app;
    const struct siren_baseline_options *options;
    struct siren_pool *pool;
    int label;       /* of the targets: SIREN_LABEL_TEST or _VALID */
    size_t *targets; /* (n) rows of the ratings */
    double *truth;   /* (n) */
    int32_t *user;   /* (n) */
    size_t n;
    size_t *chosen, n_chosen; /* rows of options->fit_split; without it none */
    struct siren_table train;
    /* What settings are chosen on: all of valid (choose[1] is empty); where valid is judged, for
     * the users of half h the rows of the other half's, choose[h]. */
    int crossed;
    struct siren_table choose[2];
    struct siren_means means;
};

/* What a baseline says: a point for each target, or a distribution. */
struct baseline_result {
    double *points;        /* (n) or NULL */
    double *distributions; /* (n, labels) or NULL */
    struct siren_baseline row;
};

int baseline_open(struct baseline_job *job, struct siren_app *app,
                  const struct siren_baseline_options *options, struct siren_pool *pool,
                  struct siren_error *err);
void baseline_close(struct baseline_job *job);

/* The rows with a label, malloc'ed. */
int baseline_rows(const struct siren_ratings *r, int label, size_t **rows, size_t *n,
                  struct siren_error *err);

/* A logistic model over groups of features (SIREN_FEATURE_…): the histogram of the user's earlier
 * ratings; the rating habit, which is the histogram and the last of them; the item's train ratings
 * beside it.  It is fitted on the rows of a label, or on job->chosen: BASELINE_CHOSEN.
 * Leaves distributions NULL where there is nothing to fit on. */
enum { BASELINE_CHOSEN = -1 };
int baseline_habit(struct baseline_job *job, struct baseline_result *out, int fit_label,
                   unsigned groups, struct siren_error *err);

#endif
