#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/claim.h"
#include "recs/dots.h"
#include "siren/metrics.h"
#include "siren/random.h"

enum { MAX_LOSSES = 3 };

/* What a user adds to the sums. */
struct user_sums {
    int32_t user;
    size_t row; /* the first */
    double sums[MAX_LOSSES], n;
};

struct bootstrap {
    struct user_sums *users;
    size_t n_users;
    int n_losses;
    enum siren_statistic statistic;
    uint64_t seed;
    long resamples;
    double confidence;
    double *differences; /* (resamples) of the first two losses */
    double *shares;      /* (resamples) of three losses; NULL: there are two */
    atomic_long cursor;
};

static int by_user(const void *a, const void *b)
{
    const struct user_sums *x = a, *y = b;
    if (x->user != y->user) return x->user < y->user ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static double statistic_of(enum siren_statistic statistic, double sum, double n)
{
    return statistic == SIREN_STAT_MEAN ? sum / n : sqrt(sum / n);
}

/* Losses a, b and, of three, c: a − b and (c − b) / (a − b). */
static void resample(struct bootstrap *w, long stream)
{
    double sums[MAX_LOSSES] = {0}, value[MAX_LOSSES] = {0}, n = 0;
    for (size_t i = 0; i < w->n_users; i++) {
        const struct user_sums *u =
            &w->users[siren_random_below(w->seed, (uint64_t)stream, (uint64_t)i, w->n_users)];
        for (int k = 0; k < w->n_losses; k++) sums[k] += u->sums[k];
        n += u->n;
    }
    for (int k = 0; k < w->n_losses; k++) value[k] = statistic_of(w->statistic, sums[k], n);
    double gain = value[0] - value[1], own = value[2] - value[1];
    w->differences[stream] = gain;
    if (w->shares)
        w->shares[stream] = own == 0 ? 0 : own / gain; /* no NaN, which has no place in an order */
}

static void bootstrap_job(void *context, int thread, int n_threads)
{
    struct bootstrap *w = context;
    long i;
    while ((i = claim_next(&w->cursor, w->resamples)) >= 0) resample(w, i);
}

/* Rows to one entry a user; rows of a user are summed in order. */
static int collect_users(struct bootstrap *w, const double *const *losses, const int32_t *user,
                         size_t n, struct siren_error *err)
{
    w->users = alloc_array(n, sizeof *w->users);
    if (!w->users) return siren_fail_memory(err, "bootstrap", n * sizeof *w->users);
    for (size_t i = 0; i < n; i++) {
        w->users[i] = (struct user_sums){.user = user[i], .row = i, .n = 1};
        for (int k = 0; k < w->n_losses; k++) {
            w->users[i].sums[k] = losses[k][i];
            if (!isfinite(losses[k][i]))
                return siren_fail(err, SIREN_ENUMERIC,
                                  "bootstrap: the loss of row %zu is not finite", i);
        }
    }
    qsort(w->users, n, sizeof *w->users, by_user);
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        if (m && w->users[m - 1].user == w->users[i].user) {
            for (int k = 0; k < w->n_losses; k++) w->users[m - 1].sums[k] += w->users[i].sums[k];
            w->users[m - 1].n += 1;
        } else {
            w->users[m++] = w->users[i];
        }
    }
    w->n_users = m;
    return 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Linear interpolation between order statistics, as numpy.percentile. */
static double quantile(const double *sorted, long n, double q)
{
    double at = q * (double)(n - 1);
    long i = (long)floor(at);
    if (i + 1 >= n) return sorted[n - 1];
    return sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]);
}

/* Sorts the values. */
static void interval(const struct bootstrap *w, double *values, double *low, double *high)
{
    qsort(values, (size_t)w->resamples, sizeof *values, by_value);
    *low = quantile(values, w->resamples, (1 - w->confidence) / 2);
    *high = quantile(values, w->resamples, (1 + w->confidence) / 2);
}

static void summarise(struct siren_difference *out, struct bootstrap *w)
{
    long below = 0, above = 0;
    for (long i = 0; i < w->resamples; i++) {
        below += w->differences[i] <= 0;
        above += w->differences[i] >= 0;
    }
    interval(w, w->differences, &out->low, &out->high);
    /* The observed sample counts as one resample: p is never 0.  Nor is it less than the chance
     * that so many users differ in one direction. */
    double least = (double)(below < above ? below : above) + 1;
    double chance = ldexp(1, 1 - (int)fmin((double)w->n_users, 1000));
    out->p = fmin(1, fmax(chance, 2 * least / ((double)w->resamples + 1)));
    if (w->n_users == 1) out->low = out->high = NAN; /* one user's resamples are one sample */
}

static int bootstrap_begin(struct bootstrap *w, const double *const *losses, const int32_t *user,
                           size_t n, const struct siren_bootstrap_options *options,
                           struct siren_error *err)
{
    struct siren_bootstrap_options o = options ? *options : (struct siren_bootstrap_options){0};
    w->seed = o.seed;
    w->resamples = o.resamples ? o.resamples : 10000;
    w->confidence = o.confidence ? o.confidence : 0.95;
    if (!n) return siren_fail(err, SIREN_EINVAL, "bootstrap of no rows");
    if (w->resamples < 1 || !(w->confidence > 0 && w->confidence < 1))
        return siren_fail(err, SIREN_EINVAL,
                          "bootstrap: %ld resamples, confidence %g: expected a positive number and "
                          "one between 0 and 1",
                          w->resamples, w->confidence);
    int rc = collect_users(w, losses, user, n, err);
    if (rc) return rc;
    w->differences = alloc_array((size_t)w->resamples, sizeof *w->differences);
    int three = w->n_losses == 3;
    if (three) w->shares = alloc_array((size_t)w->resamples, sizeof *w->shares);
    if (w->differences && (w->shares || !three)) return 0;
    return siren_fail_memory(err, "bootstrap",
                             (unsigned long long)w->resamples * sizeof *w->differences);
}

/* The statistic of all rows. */
static double whole(const struct bootstrap *w, int loss)
{
    double sum = 0, n = 0;
    for (size_t i = 0; i < w->n_users; i++) {
        sum += w->users[i].sums[loss];
        n += w->users[i].n;
    }
    return statistic_of(w->statistic, sum, n);
}

static void difference(struct siren_difference *out, struct bootstrap *w, struct siren_pool *pool)
{
    out->a = whole(w, 0);
    out->b = whole(w, 1);
    out->difference = out->a - out->b;
    out->n_users = w->n_users;
    dots_run(pool, bootstrap_job, w);
    summarise(out, w);
}

static void bootstrap_end(struct bootstrap *w)
{
    free(w->users);
    free(w->differences);
    free(w->shares);
}

int siren_bootstrap(struct siren_difference *out, const double *loss_a, const double *loss_b,
                    const int32_t *user, size_t n, enum siren_statistic statistic,
                    const struct siren_bootstrap_options *options, struct siren_pool *pool,
                    struct siren_error *err)
{
    struct bootstrap w = {.statistic = statistic, .n_losses = 2};
    const double *const losses[] = {loss_a, loss_b};
    memset(out, 0, sizeof *out);
    int rc = bootstrap_begin(&w, losses, user, n, options, err);
    if (!rc) difference(out, &w, pool);
    bootstrap_end(&w);
    return rc;
}

int siren_bootstrap_share(struct siren_share *out, const double *before, const double *teacher,
                          const double *student, const int32_t *user, size_t n,
                          enum siren_statistic statistic,
                          const struct siren_bootstrap_options *options, struct siren_pool *pool,
                          struct siren_error *err)
{
    struct bootstrap w = {.statistic = statistic, .n_losses = 3};
    const double *const losses[] = {teacher, before, student};
    *out = (struct siren_share){.share = NAN, .low = NAN, .high = NAN};
    int rc = bootstrap_begin(&w, losses, user, n, options, err);
    if (!rc) {
        difference(&out->gain, &w, pool);
        out->student = whole(&w, 2);
        if (out->gain.low > 0 || out->gain.high < 0) {
            out->share = (out->student - out->gain.b) / out->gain.difference;
            interval(&w, w.shares, &out->low, &out->high);
        }
    }
    bootstrap_end(&w);
    return rc;
}

/* ---- Holm ---- */

struct ranked_p {
    double p;
    size_t index;
};

static int by_p(const void *a, const void *b)
{
    const struct ranked_p *x = a, *y = b;
    if (x->p != y->p) return x->p < y->p ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

int siren_holm(const double *p, size_t n, double *adjusted, struct siren_error *err)
{
    struct ranked_p *ranked = alloc_array(n, sizeof *ranked);
    if (!ranked) return siren_fail_memory(err, "Holm's correction", n * sizeof *ranked);
    for (size_t i = 0; i < n; i++) ranked[i] = (struct ranked_p){p[i], i};
    qsort(ranked, n, sizeof *ranked, by_p);
    double running = 0;
    for (size_t i = 0; i < n; i++) {
        double value = fmin(1, ranked[i].p * (double)(n - i));
        running = fmax(running, value);
        adjusted[ranked[i].index] = running;
    }
    free(ranked);
    return 0;
}
