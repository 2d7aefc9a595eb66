#include "recs/baseline_mf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "siren/random.h"

double mf_raw(const struct siren_mf *mf, int32_t user, int32_t item)
{
    int has_user = user >= 0 && user < mf->n_users, has_item = item >= 0 && item < mf->n_items;
    double sum = mf->mu;
    if (has_user) sum += mf->bu[user];
    if (has_item) sum += mf->bi[item];
    if (!has_user || !has_item) return sum;
    const double *p = mf->p + (size_t)user * (size_t)mf->rank;
    const double *q = mf->q + (size_t)item * (size_t)mf->rank;
    double dot = 0;
    for (int f = 0; f < mf->rank; f++) dot += p[f] * q[f];
    return sum + dot;
}

double siren_mf_predict(const struct siren_mf *mf, int32_t user, int32_t item)
{
    double r = mf_raw(mf, user, item) * mf->unit;
    return r < mf->scale.min ? mf->scale.min : r > mf->scale.max ? mf->scale.max : r;
}

static double rmse_on(const struct siren_mf *mf, const struct siren_table *t)
{
    double sum = 0;
    for (size_t i = 0; i < t->n; i++) {
        double e = siren_mf_predict(mf, t->users[i], t->items[i]) - t->ratings[i];
        sum += e * e;
    }
    return sqrt(sum / (double)t->n);
}

static void lay_out(struct siren_mf *mf)
{
    mf->bu = mf->values;
    mf->bi = mf->bu + mf->n_users;
    mf->p = mf->bi + mf->n_items;
    mf->q = mf->p + (size_t)mf->n_users * (size_t)mf->rank;
}

/* Small random factors for the users (or items) that have a rating. */
static void start_factors(double *factors, const int32_t *ids, size_t n, int rank, uint64_t seed,
                          uint64_t stream)
{
    for (size_t i = 0; i < n; i++) {
        double *row = factors + (size_t)ids[i] * (size_t)rank;
        if (rank && row[0] != 0) continue; /* seen before */
        for (int f = 0; f < rank; f++)
            row[f] = 0.1 * siren_random_normal(seed, stream,
                                               (uint64_t)ids[i] * (uint64_t)rank + (uint64_t)f);
    }
}

/* Steps and penalties fit a scale as wide as 1..5, whatever the stars are. */
static double mf_unit(const struct siren_scale *scale)
{
    double unit = (scale->max - scale->min) / 4;
    return unit > 0 ? unit : 1;
}

static int in_units(struct siren_table *out, const struct siren_table *t,
                    const struct siren_scale *scale, struct siren_error *err)
{
    double unit = mf_unit(scale), *ratings = alloc_array(t->n, sizeof *ratings);
    *out = *t;
    out->ratings = ratings;
    if (!ratings) return siren_fail_memory(err, "ratings", t->n * sizeof *ratings);
    for (size_t i = 0; i < t->n; i++) ratings[i] = t->ratings[i] / unit;
    return 0;
}

static int mf_create(struct siren_mf **out, const struct siren_scale *scale,
                     const struct siren_table *train, const struct siren_mf_options *o,
                     struct siren_error *err)
{
    struct siren_mf *mf = calloc(1, sizeof *mf);
    if (!mf) return siren_fail_memory(err, "matrix factorisation", sizeof *mf);
    mf->options = *o;
    mf->scale = *scale;
    mf->unit = mf_unit(scale);
    mf->n_users = train->n_users, mf->n_items = train->n_items;
    mf->rank = o->rank;
    mf->n_values = ((size_t)mf->n_users + (size_t)mf->n_items) * ((size_t)mf->rank + 1);
    mf->values = alloc_zeroed(mf->n_values, sizeof *mf->values);
    if (!mf->values) {
        int code = siren_fail_memory(err, "factors", mf->n_values * sizeof *mf->values);
        free(mf);
        return code;
    }
    lay_out(mf);
    for (size_t i = 0; i < train->n; i++) mf->mu += train->ratings[i];
    mf->mu /= (double)train->n;
    mf->valid_rmse = NAN;
    start_factors(mf->p, train->users, train->n, mf->rank, o->seed, 1);
    start_factors(mf->q, train->items, train->n, mf->rank, o->seed, 2);
    *out = mf;
    return 0;
}

static int mf_check(const struct siren_mf_options *o, struct siren_error *err)
{
    if (o->rank < 0 || o->rank > 512)
        return siren_fail(err, SIREN_EINVAL, "matrix factorisation: rank %d: expected 0 to 512",
                          o->rank);
    if (o->epochs < 0 || o->patience < 0 || !(o->lambda >= 0) || !(o->lambda_bias >= 0) ||
        !(o->decay >= 0))
        return siren_fail(err, SIREN_EINVAL, "matrix factorisation: a setting is negative");
    if (o->method == SIREN_MF_SGD && !(o->lr > 0 && o->lr < 1))
        return siren_fail(err, SIREN_EINVAL,
                          "matrix factorisation: learning rate %g: expected 0 to 1", o->lr);
    return 0;
}

static int all_finite(const struct siren_mf *mf)
{
    for (size_t i = 0; i < mf->n_values; i++)
        if (!isfinite(mf->values[i])) return 0;
    return 1;
}

/* Epochs until valid has not improved for `patience` of them. */
static int mf_train(struct siren_mf *mf, const struct mf_method *method, void *state,
                    const struct siren_table *valid, struct siren_pool *pool,
                    const struct siren_progress *progress, struct siren_error *err)
{
    int epochs = mf->options.epochs ? mf->options.epochs : method->default_epochs;
    int patience = mf->options.patience ? mf->options.patience : 5;
    size_t bytes = mf->n_values * sizeof *mf->values;
    double *best = valid ? malloc(bytes) : NULL;
    if (valid && !best) return siren_fail_memory(err, "factors", bytes);
    int code = 0;
    for (int e = 0; e < epochs && !code; e++) {
        method->epoch(state, mf, e, pool);
        if (siren_progress_update(progress, "epochs", (uint64_t)e + 1, (uint64_t)epochs))
            code = siren_fail(err, SIREN_ECANCEL, "matrix factorisation was stopped");
        if (!valid) {
            mf->epochs = e + 1;
            continue;
        }
        double rmse = rmse_on(mf, valid);
        if (e == 0 || rmse < mf->valid_rmse) {
            mf->valid_rmse = rmse;
            mf->epochs = e + 1;
            memcpy(best, mf->values, bytes);
        } else if (!(e + 1 - mf->epochs < patience)) {
            break;
        }
    }
    if (valid && !code) memcpy(mf->values, best, bytes);
    free(best);
    if (!code && !all_finite(mf))
        code = siren_fail(err, SIREN_ENUMERIC,
                          "matrix factorisation diverged: rank %d, learning rate %g", mf->rank,
                          mf->options.lr);
    return code;
}

int siren_mf_fit(struct siren_mf **out, const struct siren_scale *scale,
                 const struct siren_table *train, const struct siren_table *valid,
                 const struct siren_mf_options *options, struct siren_pool *pool,
                 const struct siren_progress *progress, struct siren_error *err)
{
    const struct mf_method *method = options->method == SIREN_MF_ALS ? &mf_als : &mf_sgd;
    struct siren_mf *mf = NULL;
    struct siren_table units = {0};
    void *state = NULL;
    *out = NULL;
    if (valid && !valid->n) valid = NULL;
    int code = baseline_check(train, "matrix factorisation, train", err);
    if (!code && valid) code = baseline_check(valid, "matrix factorisation, valid", err);
    if (!code) code = mf_check(options, err);
    if (!code) code = in_units(&units, train, scale, err);
    if (!code) code = mf_create(&mf, scale, &units, options, err);
    if (!code) code = method->open(&state, mf, &units, pool, err);
    if (!code) code = mf_train(mf, method, state, valid, pool, progress, err);
    method->close(state);
    free((void *)units.ratings);
    if (code) {
        siren_mf_free(mf);
        return code;
    }
    *out = mf;
    return 0;
}

void siren_mf_free(struct siren_mf *mf)
{
    if (!mf) return;
    free(mf->values);
    free(mf);
}

const struct siren_mf_options *siren_mf_settings(const struct siren_mf *mf)
{
    return &mf->options;
}

int siren_mf_epochs(const struct siren_mf *mf)
{
    return mf->epochs;
}

/* ---- the grid ---- */

struct grid_point {
    int rank;
    double lambda, lambda_bias;
};

/* Small, and wide enough for both short histories (biases carry all: strong penalties) and dense
 * data (factors pay). */
static const struct grid_point sgd_grid[] = {
    {0, 0, 0.03}, {0, 0, 0.2}, {32, 0.1, 0.03}, {32, 0.1, 0.2}, {32, 0.2, 0.03}, {32, 0.2, 0.2},
};
static const struct grid_point als_grid[] = {
    {0, 0, 3}, {8, 3, 3}, {8, 15, 3}, {32, 3, 3}, {32, 15, 3},
};

static struct siren_mf_options grid_options(enum siren_mf_method method, int index, uint64_t seed)
{
    const struct grid_point *g = method == SIREN_MF_SGD ? &sgd_grid[index] : &als_grid[index];
    return (struct siren_mf_options){.method = method,
                                     .rank = g->rank,
                                     .lambda = g->lambda,
                                     .lambda_bias = g->lambda_bias,
                                     .lr = 0.01,
                                     .decay = 0.02,
                                     .seed = seed};
}

int siren_mf_select(struct siren_mf **out, const struct siren_scale *scale,
                    const struct siren_table *train, const struct siren_table *valid,
                    enum siren_mf_method method, uint64_t seed, struct siren_pool *pool,
                    const struct siren_progress *progress, struct siren_error *err)
{
    int n = method == SIREN_MF_SGD ? sizeof sgd_grid / sizeof *sgd_grid
                                   : sizeof als_grid / sizeof *als_grid;
    *out = NULL;
    if (!valid || !valid->n)
        return siren_fail(err, SIREN_EINVAL,
                          "matrix factorisation: settings cannot be chosen without valid ratings");
    for (int i = 0; i < n; i++) {
        struct siren_mf_options o = grid_options(method, i, seed);
        struct siren_mf *mf;
        int code = siren_mf_fit(&mf, scale, train, valid, &o, pool, NULL, err);
        if (!code && siren_progress_update(progress, "settings", (uint64_t)i + 1, (uint64_t)n)) {
            siren_mf_free(mf);
            code = siren_fail(err, SIREN_ECANCEL, "matrix factorisation was stopped");
        }
        if (code) {
            siren_mf_free(*out);
            *out = NULL;
            return code;
        }
        int better = !*out || mf->valid_rmse < (*out)->valid_rmse;
        siren_mf_free(better ? *out : mf);
        if (better) *out = mf;
    }
    return 0;
}
