/* Stochastic gradient descent: one rating at a time in a seeded order, on one thread. */
#include <stdlib.h>

#include "base/alloc.h"
#include "recs/baseline_mf.h"
#include "siren/random.h"

struct sgd {
    const struct siren_table *train;
    uint64_t *order; /* (n) */
};

static void sgd_close(void *state)
{
    struct sgd *s = state;
    if (!s) return;
    free(s->order);
    free(s);
}

static int sgd_open(void **state, const struct siren_mf *mf, const struct siren_table *train,
                    struct siren_pool *pool, struct siren_error *err)
{
    struct sgd *s = calloc(1, sizeof *s);
    if (s) s->order = alloc_array(train->n, sizeof *s->order);
    if (!s || !s->order) {
        free(s);
        return siren_fail_memory(err, "an order of ratings", train->n * sizeof *s->order);
    }
    s->train = train;
    *state = s;
    return 0;
}

static void sgd_epoch(void *state, struct siren_mf *mf, int epoch, struct siren_pool *pool)
{
    struct sgd *s = state;
    const struct siren_table *t = s->train;
    const struct siren_mf_options *o = &mf->options;
    double lr = o->lr / (1 + o->decay * epoch);
    siren_random_permutation(o->seed, 16 + (uint64_t)epoch, t->n, s->order);
    for (size_t i = 0; i < t->n; i++) {
        size_t row = s->order[i];
        int32_t user = t->users[row], item = t->items[row];
        double e = t->ratings[row] - mf_raw(mf, user, item);
        mf->bu[user] += lr * (e - o->lambda_bias * mf->bu[user]);
        mf->bi[item] += lr * (e - o->lambda_bias * mf->bi[item]);
        double *p = mf->p + (size_t)user * (size_t)mf->rank;
        double *q = mf->q + (size_t)item * (size_t)mf->rank;
        for (int f = 0; f < mf->rank; f++) {
            double pf = p[f];
            p[f] += lr * (e * q[f] - o->lambda * pf);
            q[f] += lr * (e * pf - o->lambda * q[f]);
        }
    }
}

const struct mf_method mf_sgd = {sgd_open, sgd_epoch, sgd_close, 100};
