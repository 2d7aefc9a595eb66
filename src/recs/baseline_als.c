/* Alternating least squares: with the items fixed, each user's bias and factors are the
 * solution of a small ridge regression, and the other way round.  Every user is
 * solved by one thread in one order, so threads change no bit. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/claim.h"
#include "recs/baseline_mf.h"
#include "recs/dots.h"

/* Ratings by user or by item (compressed rows). */
struct als_side {
    int32_t n;
    size_t *start;  /* (n + 1) */
    int32_t *other; /* (ratings) the item, or the user */
    double *rating; /* (ratings) */
};

struct als {
    struct als_side by_user, by_item;
    double *work; /* (threads, (rank + 1) · (rank + 2)): a system and its right side */
    /* of the half step that runs */
    struct siren_mf *mf;
    const struct als_side *side;
    double *bias, *factors;                   /* solved for */
    const double *other_bias, *other_factors; /* fixed */
    atomic_long cursor;
};

static void side_free(struct als_side *s)
{
    free(s->start);
    free(s->other);
    free(s->rating);
}

static int side_make(struct als_side *s, const int32_t *own, const int32_t *other,
                     const double *rating, size_t n, int32_t n_own, struct siren_error *err)
{
    s->n = n_own;
    s->start = alloc_zeroed((size_t)n_own + 2, sizeof *s->start);
    s->other = alloc_array(n, sizeof *s->other);
    s->rating = alloc_array(n, sizeof *s->rating);
    if (!s->start || !s->other || !s->rating)
        return siren_fail_memory(err, "ratings by user and by item", n * 12);
    for (size_t i = 0; i < n; i++) s->start[own[i] + 2]++;
    for (int32_t u = 1; u <= n_own; u++) s->start[u + 1] += s->start[u];
    for (size_t i = 0; i < n; i++) {
        size_t at = s->start[own[i] + 1]++;
        s->other[at] = other[i];
        s->rating[at] = rating[i];
    }
    return 0;
}

static void als_close(void *state)
{
    struct als *a = state;
    if (!a) return;
    side_free(&a->by_user);
    side_free(&a->by_item);
    free(a->work);
    free(a);
}

static int als_open(void **state, const struct siren_mf *mf, const struct siren_table *t,
                    struct siren_pool *pool, struct siren_error *err)
{
    struct als *a = calloc(1, sizeof *a);
    if (!a) return siren_fail_memory(err, "least squares", sizeof *a);
    *state = a;
    int code = side_make(&a->by_user, t->users, t->items, t->ratings, t->n, t->n_users, err);
    if (!code) code = side_make(&a->by_item, t->items, t->users, t->ratings, t->n, t->n_items, err);
    if (code) return code;
    size_t m = (size_t)mf->rank + 1, count = (size_t)dots_threads(pool) * m * (m + 1);
    a->work = alloc_array(count, sizeof *a->work);
    return a->work ? 0 : siren_fail_memory(err, "least squares", count * sizeof *a->work);
}

/* Solves A x = b in place (x in b) for a symmetric positive definite A (m, m): Cholesky. */
static void solve(double *A, double *b, int m)
{
    for (int i = 0; i < m; i++)
        for (int j = 0; j <= i; j++) {
            double sum = A[i * m + j];
            for (int k = 0; k < j; k++) sum -= A[i * m + k] * A[j * m + k];
            A[i * m + j] = i == j ? sqrt(sum) : sum / A[j * m + j];
        }
    for (int i = 0; i < m; i++) {
        for (int k = 0; k < i; k++) b[i] -= A[i * m + k] * b[k];
        b[i] /= A[i * m + i];
    }
    for (int i = m - 1; i >= 0; i--) {
        for (int k = i + 1; k < m; k++) b[i] -= A[k * m + i] * b[k];
        b[i] /= A[i * m + i];
    }
}

/* One row's regression on (1, factors of the other side). */
static void solve_row(struct als *a, int32_t row, double *work)
{
    int rank = a->mf->rank, m = rank + 1;
    double *A = work, *b = work + (size_t)m * (size_t)m;
    const struct als_side *s = a->side;
    if (s->start[row] == s->start[row + 1]) return;
    memset(work, 0, (size_t)m * ((size_t)m + 1) * sizeof *work);
    for (size_t i = s->start[row]; i < s->start[row + 1]; i++) {
        const double *z = a->other_factors + (size_t)s->other[i] * (size_t)rank;
        double target = s->rating[i] - a->mf->mu - a->other_bias[s->other[i]];
        A[0] += 1;
        b[0] += target;
        for (int f = 0; f < rank; f++) {
            double *line = A + (f + 1) * m;
            line[0] += z[f];
            for (int g = 0; g <= f; g++) line[g + 1] += z[f] * z[g];
            b[f + 1] += target * z[f];
        }
    }
    A[0] += a->mf->options.lambda_bias + 1e-9;
    for (int f = 1; f < m; f++) A[f * m + f] += a->mf->options.lambda + 1e-9;
    solve(A, b, m);
    a->bias[row] = b[0];
    memcpy(a->factors + (size_t)row * (size_t)rank, b + 1, (size_t)rank * sizeof *b);
}

static void als_job(void *context, int thread, int n_threads)
{
    struct als *a = context;
    size_t m = (size_t)a->mf->rank + 1;
    double *work = a->work + (size_t)thread * m * (m + 1);
    long i;
    while ((i = claim_next(&a->cursor, (a->side->n + 31) / 32)) >= 0)
        for (long row = i * 32; row < (i + 1) * 32 && row < a->side->n; row++)
            solve_row(a, (int32_t)row, work);
}

static void als_epoch(void *state, struct siren_mf *mf, int epoch, struct siren_pool *pool)
{
    struct als *a = state;
    a->mf = mf;
    a->side = &a->by_user;
    a->bias = mf->bu, a->factors = mf->p;
    a->other_bias = mf->bi, a->other_factors = mf->q;
    atomic_store(&a->cursor, 0);
    dots_run(pool, als_job, a);
    a->side = &a->by_item;
    a->bias = mf->bi, a->factors = mf->q;
    a->other_bias = mf->bu, a->other_factors = mf->p;
    atomic_store(&a->cursor, 0);
    dots_run(pool, als_job, a);
}

const struct mf_method mf_als = {als_open, als_epoch, als_close, 30};
