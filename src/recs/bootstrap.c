#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "recs/dots.h"
#include "siren/metrics.h"
#include "siren/random.h"

/* What a user adds to the sums. */
struct user_sums {
    int32_t user;
    size_t row; /* the first */
    double a, b, n;
};

struct bootstrap {
    struct user_sums *users;
    size_t n_users;
    enum siren_statistic statistic;
    uint64_t seed;
    long resamples;
    double *differences; /* (resamples) */
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

static double resample(const struct bootstrap *w, uint64_t stream)
{
    double a = 0, b = 0, n = 0;
    for (size_t i = 0; i < w->n_users; i++) {
        const struct user_sums *u =
            &w->users[siren_random_below(w->seed, stream, (uint64_t)i, w->n_users)];
        a += u->a;
        b += u->b;
        n += u->n;
    }
    return statistic_of(w->statistic, a, n) - statistic_of(w->statistic, b, n);
}

static void bootstrap_job(void *context, int thread, int n_threads)
{
    struct bootstrap *w = context;
    long i;
    while ((i = siren_claim(&w->cursor, w->resamples)) >= 0)
        w->differences[i] = resample(w, (uint64_t)i);
}

/* Rows to one entry a user; rows of a user are summed in order. */
static int collect_users(struct bootstrap *w, const double *a, const double *b, const int32_t *user,
                         size_t n, struct siren_error *err)
{
    w->users = alloc_array(n, sizeof *w->users);
    if (!w->users) return siren_fail_memory(err, "bootstrap", n * sizeof *w->users);
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(a[i]) || !isfinite(b[i]))
            return siren_fail(err, SIREN_ENUMERIC, "bootstrap: the loss of row %zu is not finite",
                              i);
        w->users[i] = (struct user_sums){user[i], i, a[i], b[i], 1};
    }
    qsort(w->users, n, sizeof *w->users, by_user);
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        if (m && w->users[m - 1].user == w->users[i].user) {
            w->users[m - 1].a += w->users[i].a;
            w->users[m - 1].b += w->users[i].b;
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

static void summarise(struct siren_difference *out, struct bootstrap *w, double confidence)
{
    long below = 0, above = 0;
    for (long i = 0; i < w->resamples; i++) {
        below += w->differences[i] <= 0;
        above += w->differences[i] >= 0;
    }
    qsort(w->differences, (size_t)w->resamples, sizeof *w->differences, by_value);
    out->low = quantile(w->differences, w->resamples, (1 - confidence) / 2);
    out->high = quantile(w->differences, w->resamples, (1 + confidence) / 2);
    /* The observed sample counts as one resample: p is never 0. */
    double least = (double)(below < above ? below : above) + 1;
    out->p = fmin(1, 2 * least / ((double)w->resamples + 1));
}

int siren_bootstrap(struct siren_difference *out, const double *loss_a, const double *loss_b,
                    const int32_t *user, size_t n, enum siren_statistic statistic,
                    const struct siren_bootstrap_options *options, struct siren_pool *pool,
                    struct siren_error *err)
{
    struct siren_bootstrap_options o = options ? *options : (struct siren_bootstrap_options){0};
    struct bootstrap w = {.statistic = statistic, .seed = o.seed};
    w.resamples = o.resamples ? o.resamples : 10000;
    double confidence = o.confidence ? o.confidence : 0.95;
    memset(out, 0, sizeof *out);
    if (!n) return siren_fail(err, SIREN_EINVAL, "bootstrap of no rows");
    if (w.resamples < 1 || !(confidence > 0 && confidence < 1))
        return siren_fail(err, SIREN_EINVAL,
                          "bootstrap: %ld resamples, confidence %g: expected a positive number and "
                          "one between 0 and 1",
                          w.resamples, confidence);
    int code = collect_users(&w, loss_a, loss_b, user, n, err);
    if (!code) {
        w.differences = alloc_array((size_t)w.resamples, sizeof *w.differences);
        if (!w.differences)
            code = siren_fail_memory(err, "bootstrap",
                                     (unsigned long long)w.resamples * sizeof *w.differences);
    }
    if (!code) {
        double a = 0, b = 0;
        for (size_t i = 0; i < w.n_users; i++) a += w.users[i].a, b += w.users[i].b;
        out->a = statistic_of(statistic, a, (double)n);
        out->b = statistic_of(statistic, b, (double)n);
        out->difference = out->a - out->b;
        out->n_users = w.n_users;
        dots_run(pool, bootstrap_job, &w);
        summarise(out, &w, confidence);
    }
    free(w.users);
    free(w.differences);
    return code;
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
