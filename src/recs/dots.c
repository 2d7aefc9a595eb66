#include "recs/dots.h"

#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"

enum { BLOCK = 96 };

void dots_run(struct siren_pool *pool, siren_job *job, void *context)
{
    if (pool)
        siren_pool_run(pool, job, context);
    else
        job(context, 0, 1);
}

int dots_threads(const struct siren_pool *pool)
{
    return pool ? siren_pool_threads(pool) : 1;
}

float dots_one(const float *a, const float *b, int d)
{
    float chain = 0;
    for (int j = 0; j < d; j++) chain = fmaf(a[j], b[j], chain);
    return chain;
}

double dots_square(const float *a, int d)
{
    double sum = 0;
    for (int j = 0; j < d; j++) sum += (double)a[j] * a[j];
    return sum;
}

struct dots_work {
    const float *x, *centres;
    size_t n;
    int d, k;
    float *out; /* (threads, BLOCK, k) */
    dots_sink *sink;
    void *context;
    atomic_long cursor;
};

static void dots_job(void *context, int thread, int n_threads)
{
    struct dots_work *w = context;
    float *out = w->out + (size_t)thread * BLOCK * (size_t)w->k;
    long n_blocks = (long)((w->n + BLOCK - 1) / BLOCK), b;
    while ((b = siren_claim(&w->cursor, n_blocks)) >= 0) {
        size_t first = (size_t)b * BLOCK;
        int rows = w->n - first < BLOCK ? (int)(w->n - first) : BLOCK;
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < w->k; c++)
                out[r * w->k + c] = dots_one(w->x + (first + (size_t)r) * (size_t)w->d,
                                             w->centres + (size_t)c * (size_t)w->d, w->d);
        w->sink(w->context, first, rows, out);
    }
}

int dots_each(const float *x, size_t n, int d, const float *centres, int k, struct siren_pool *pool,
              dots_sink *sink, void *context, struct siren_error *err)
{
    size_t count = (size_t)dots_threads(pool) * BLOCK * (size_t)k;
    struct dots_work w = {.x = x, .centres = centres, .n = n, .d = d, .k = k, .sink = sink};
    w.context = context;
    w.out = alloc_array(count, sizeof *w.out);
    if (!w.out) return siren_fail_memory(err, "distances", count * sizeof *w.out);
    dots_run(pool, dots_job, &w);
    free(w.out);
    return 0;
}
