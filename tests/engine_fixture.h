/* A model made ready for a test, and sequences to run on it. */
#ifndef ENGINE_FIXTURE_H
#define ENGINE_FIXTURE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "siren/forest.h"
#include "siren/model.h"
#include "siren/random.h"
#include "siren/score.h"
#include "tensor/kernels.h"

struct fixture {
    struct siren_pool *pool;
    struct siren_model *model;
    struct siren_engine *engine;
    struct siren_error err;
};

/* isa, compute: NULL takes $SIREN_ISA, $SIREN_COMPUTE or the default; what: weights to be trained,
 * or NULL. */
static inline void fixture_open_trainable(struct fixture *f, const char *path, const char *isa,
                                          const char *compute, int threads,
                                          const struct siren_trainable *what)
{
    memset(f, 0, sizeof *f);
    struct siren_model_options load = {.trainable = what};
    struct siren_engine_options options = {.isa = isa ? isa : getenv("SIREN_ISA"),
                                           .compute = compute ? compute : getenv("SIREN_COMPUTE")};
    if (siren_pool_create(&f->pool, threads, &f->err) ||
        siren_model_load(&f->model, path, &load, f->pool, &f->err) ||
        siren_engine_create(&f->engine, f->model, f->pool, &options, &f->err))
        fail_msg("%s: %s", path, f->err.message);
}

static inline void fixture_open_mode(struct fixture *f, const char *path, const char *isa,
                                     const char *compute, int threads)
{
    fixture_open_trainable(f, path, isa, compute, threads, NULL);
}

static inline void fixture_open(struct fixture *f, const char *path, const char *isa, int threads)
{
    fixture_open_mode(f, path, isa, NULL, threads);
}

static inline void fixture_close(struct fixture *f)
{
    siren_engine_free(f->engine);
    siren_model_free(f->model);
    siren_pool_free(f->pool);
}

/* n ids that depend on (stream, position) only. */
static inline void fixture_ids(const struct fixture *f, uint64_t stream, int32_t *ids, size_t n)
{
    uint64_t vocab = (uint64_t)siren_model_config(f->model)->n_vocab;
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)siren_random_below(7, stream, i, vocab);
}

static inline void fixture_run(struct siren_forest *forest)
{
    struct siren_error err;
    if (siren_forest_plan(forest, &err)) fail_msg("plan: %s", err.message);
    assert_int_equal(siren_forest_run(forest, NULL), 0);
}

static inline int cpu_has(const char *name)
{
    enum isa isa;
    return !isa_parse(name, &isa, NULL) && kernels_select(isa, NULL);
}

/* The largest difference of two arrays. */
static inline double worst(const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= most)) most = d; /* NaN counts */
    }
    return most;
}

/* Logits to log-probabilities, in place. */
static inline void to_logprobs(float *x, size_t n)
{
    double most = x[0], sum = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > most) most = x[i];
    for (size_t i = 0; i < n; i++) sum += exp((double)x[i] - most);
    for (size_t i = 0; i < n; i++) x[i] = (float)((double)x[i] - most - log(sum));
}

/* The plan names what is wrong, and nothing runs. */
static inline void expect_refusal(struct siren_forest *forest, const char *words)
{
    struct siren_error err = {0};
    assert_int_not_equal(siren_forest_plan(forest, &err), 0);
    if (!strstr(err.message, words)) fail_msg("\"%s\" lacks \"%s\"", err.message, words);
    assert_int_not_equal(siren_forest_run(forest, NULL), 0);
    siren_forest_clear(forest);
}

#endif
