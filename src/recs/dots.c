#include "recs/dots.h"

#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/claim.h"
#include "tensor/kernels.h"

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

double dots_distance(const float *a, const float *b, int d)
{
    double sum = 0;
    for (int j = 0; j < d; j++) {
        double e = (double)a[j] - b[j];
        sum += e * e;
    }
    return sum;
}

struct dots_work {
    const float *x;
    size_t n;
    int d, k;
    const struct kernels *kernels;
    struct packed centres;
    float *out;     /* (threads, BLOCK, k) */
    float *scratch; /* (threads, gemm_scratch()) */
    dots_sink *sink;
    void *context;
    atomic_long cursor;
};

static void dots_job(void *context, int thread, int n_threads)
{
    struct dots_work *w = context;
    size_t k = (size_t)w->k, d = (size_t)w->d;
    float *out = w->out + (size_t)thread * BLOCK * k;
    float *scratch = w->scratch + (size_t)thread * gemm_scratch(&w->centres);
    long n_blocks = (long)((w->n + BLOCK - 1) / BLOCK), b;
    while ((b = claim_next(&w->cursor, n_blocks)) >= 0) {
        size_t first = (size_t)b * BLOCK;
        int rows = w->n - first < BLOCK ? (int)(w->n - first) : BLOCK;
        w->kernels->gemm(w->x + first * d, d, rows, &w->centres, 0, w->centres.n_panels, NULL, out,
                         k, 0, scratch);
        w->sink(w->context, first, rows, out);
    }
}

static int pack_centres(struct dots_work *w, const float *centres, struct siren_error *err)
{
    struct tensor t = {.name = "centres", .type = TENSOR_F32, .n_dims = 2, .data = centres};
    t.shape[0] = w->k, t.shape[1] = w->d;
    t.bytes = (size_t)w->k * (size_t)w->d * sizeof *centres;
    w->kernels = kernels_select(isa_best(), err);
    if (!w->kernels) return SIREN_EUNSUPPORTED;
    int code = packed_alloc(&w->centres, PACKED_F32, w->k, w->d, err);
    if (!code) packed_fill(&w->centres, 0, &t, 0, w->k);
    return code;
}

int dots_each(const float *x, size_t n, int d, const float *centres, int k, struct siren_pool *pool,
              dots_sink *sink, void *context, struct siren_error *err)
{
    size_t threads = (size_t)dots_threads(pool);
    struct dots_work w = {.x = x, .n = n, .d = d, .k = k, .sink = sink, .context = context};
    int code = pack_centres(&w, centres, err);
    if (!code) {
        w.out = alloc_aligned(threads * BLOCK * (size_t)k, sizeof *w.out);
        w.scratch = alloc_aligned(threads * gemm_scratch(&w.centres), sizeof *w.scratch);
        if (!w.out || !w.scratch)
            code = siren_fail_memory(err, "distances", threads * BLOCK * (size_t)k * 4);
    }
    if (!code) dots_run(pool, dots_job, &w);
    free(w.out);
    free(w.scratch);
    packed_free(&w.centres);
    return code;
}
