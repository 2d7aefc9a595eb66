/* What the two ways of fitting a matrix factorisation share. */
#ifndef SIREN_RECS_BASELINE_MF_H
#define SIREN_RECS_BASELINE_MF_H

#include "siren/baselines.h"
#include "siren/workspace.h"

/* The parameters are one array, so that the best epoch's can be kept by one copy. */
struct siren_mf {
    struct siren_mf_options options;
    struct siren_scale scale;
    int32_t n_users, n_items;
    int rank, epochs;
    double unit; /* stars in one of the units that the parameters are in: 1 on 1..5 */
    double mu;
    double valid_rmse; /* in stars */
    size_t n_values;
    double *values;  /* bu (n_users), bi (n_items), p (n_users, rank), q (n_items, rank) */
    double *bu, *bi; /* into values */
    double *p, *q;   /* into values; all 0 for users and items without a rating */
};

int baseline_check(const struct siren_table *t, const char *what, struct siren_error *err);

/* mu + b_u + b_i + p_u · q_i in units, as it is. */
double mf_raw(const struct siren_mf *mf, int32_t user, int32_t item);

/* One way of fitting: open makes its working memory, epoch improves mf's parameters once.  The
 * train ratings are in units. */
struct mf_method {
    int (*open)(void **state, const struct siren_mf *mf, const struct siren_table *train,
                struct siren_pool *pool, struct siren_error *err);
    void (*epoch)(void *state, struct siren_mf *mf, int epoch, struct siren_pool *pool);
    void (*close)(void *state);
    int default_epochs;
};
extern const struct mf_method mf_sgd, mf_als;

#endif
