/* The baselines over a workspace: fitted, judged on a split, and stored as runs that a language
 * model's run can be compared with.
 *
 * Rows: the top of the scale, the mode, the global, user's and item's mean, biased matrix
 * factorisation by SGD and ALS, and the multinomial model over the user's rating habit, fitted on
 * train and on valid, without and with the item's earlier ratings, and on rows of one's choice:
 * what a language model that was trained on few rows is to be held against.  The user's mean and
 * the habit use only what precedes each target (siren_history()), item statistics of the habit
 * model only train ratings with an earlier time; the item's mean and matrix factorisation use all
 * of train, as the paper does.  If valid is judged, models that are fitted or tuned on it are
 * cross-fitted: each half of the users is predicted by models of the other half. */
#ifndef SIREN_BASELINE_RUNS_H
#define SIREN_BASELINE_RUNS_H

#include <stddef.h>
#include <stdint.h>

#include "siren/app.h"
#include "siren/error.h"
#include "siren/pool.h"
#include "siren/progress.h"

#ifdef __cplusplus
extern "C" {
#endif

struct siren_baseline_options {
    const char *split; /* "test" (NULL too) or "valid" */
    int fold;          /* -1; else the fold that is the test set (a tenth of the rest is valid) */
    size_t gap;        /* siren_history()'s: of the rows that are judged and fitted on */
    const char *only;  /* part of a row's name: only those rows; NULL: all */
    /* The rows that the habit model is fitted on once more, as siren_eval_targets() takes them:
     * "train:last"; NULL: not.  Rows of the split that is judged are refused. */
    const char *fit_split;
    size_t fit_rows; /* drawn with the seed; 0: all */
    uint64_t seed;
    int save;            /* 1: each row becomes a run of kind "baseline" */
    const char *command; /* of the runs; NULL */
};

struct siren_baseline {
    char name[64];      /* "user's mean" */
    char fitted_on[96]; /* "train", "all of train, settings on valid", "valid" */
    char settings[128]; /* "rank 8, lambda 15, of biases 3, 22 epochs"; "" */
    size_t n;
    double mae, rmse;     /* of the median and of the mean, where there is a distribution */
    double log_loss, rps; /* NAN without a distribution */
    int64_t run;          /* 0: not saved */
};

/* *rows is malloc'ed, one entry a baseline; one that the workspace has no rows to fit on (no
 * valid, or valid's users all in one half where valid is judged) is left out.  After a failure or
 * SIREN_ECANCEL, the runs that were saved before stay. */
int siren_baselines(struct siren_app *app, const struct siren_baseline_options *options,
                    struct siren_pool *pool, struct siren_baseline **rows, size_t *n_rows,
                    const struct siren_progress *progress, struct siren_error *err);

#ifdef __cplusplus
}
#endif
#endif
