/* Baselines without a language model: means, the mode, biased matrix factorisation.
 * The model over the user's rating histogram is in siren/logistic.h. */
#ifndef SIREN_BASELINES_H
#define SIREN_BASELINES_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"
#include "siren/pool.h"
#include "siren/progress.h"

#ifdef __cplusplus
extern "C" {
#endif

struct siren_scale; /* siren/workspace.h */

/* Ratings as columns; users and items are numbered from 0. */
struct siren_table {
    const int32_t *users, *items; /* (n) */
    const double *ratings;        /* (n) */
    size_t n;
    int32_t n_users, n_items; /* ids are below */
};

/* ---- means and the mode ---- */
struct siren_means {
    double global;
    double mode; /* the most frequent label; of equals, the highest */
    int32_t n_users, n_items;
    double *user_mean, *item_mean; /* (n_users), (n_items): the global mean where there is none */
    int32_t *user_count, *item_count;
};
/* SIREN_EINVAL for an empty table or ids out of range. */
int siren_means_fit(struct siren_means *out, const struct siren_scale *scale,
                    const struct siren_table *train, struct siren_error *err);
void siren_means_clear(struct siren_means *m);

/* ---- biased matrix factorisation: r = mu + b_u + b_i + p_u · q_i, clamped to the scale ----
 *
 * It is fitted on ratings in quarters of the scale's width (stars, on 1..5), so that a step or a
 * penalty means the same on every scale. */
enum siren_mf_method { SIREN_MF_SGD, SIREN_MF_ALS };
struct siren_mf_options {
    enum siren_mf_method method;
    int rank;           /* 0: biases only */
    int epochs;         /* most; 0: 100 (SGD), 30 (ALS) */
    int patience;       /* stop after so many epochs without a better valid RMSE; 0: 5 */
    double lambda;      /* L2 of factors */
    double lambda_bias; /* L2 of biases */
    double lr;          /* SGD: step, falling as lr / (1 + epoch · decay) */
    double decay;
    uint64_t seed;
};
struct siren_mf;

/* Keeps the parameters of the epoch that was best on valid (valid NULL or empty: the
 * last).  SGD visits ratings in a seeded order on one thread; ALS works in parallel: the
 * bits do not depend on the threads. */
int siren_mf_fit(struct siren_mf **out, const struct siren_scale *scale,
                 const struct siren_table *train, const struct siren_table *valid,
                 const struct siren_mf_options *options, struct siren_pool *pool,
                 const struct siren_progress *progress, struct siren_error *err);
/* Tries a small grid of options for the method and keeps the best on valid. */
int siren_mf_select(struct siren_mf **out, const struct siren_scale *scale,
                    const struct siren_table *train, const struct siren_table *valid,
                    enum siren_mf_method method, uint64_t seed, struct siren_pool *pool,
                    const struct siren_progress *progress, struct siren_error *err);
void siren_mf_free(struct siren_mf *mf); /* NULL is allowed */
/* Ids out of range or unseen in train: the known parts only. */
double siren_mf_predict(const struct siren_mf *mf, int32_t user, int32_t item);
const struct siren_mf_options *siren_mf_settings(const struct siren_mf *mf); /* used or chosen */
int siren_mf_epochs(const struct siren_mf *mf); /* of the parameters kept */

#ifdef __cplusplus
}
#endif
#endif
