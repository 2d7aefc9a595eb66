/* What the benchmarks of the engine share: options, prompts, a model, clocks and peaks. */
#ifndef SIREN_BENCH_H
#define SIREN_BENCH_H

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "siren/forest.h"
#include "siren/score.h"
#include "siren/tokenizer.h"
#include "tensor/kernels.h"

struct bench {
    const char *program, *task, *model_path, *prompts_path, *isa, *compute, *output;
    int threads, expand, limit;
    int steps, full; /* of training; full: all weights are trained */
    size_t memory;   /* bytes that a recorded pass may hold */
    struct siren_pool *pool;
    struct siren_model *model;
    struct siren_engine *engine;
    struct siren_tokenizer *tokenizer;
    struct siren_tokens *prompts;
    char **texts;
    size_t n;
    struct siren_error err;
};

/* Of this program: getrusage() knows the peak of the one that started it, too. */
static inline double peak_memory_mb(void)
{
    char line[200];
    long kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmHWM: %ld kB", &kib) == 1) break;
    if (file) fclose(file);
    return (double)kib / 1024;
}

static inline void stop(const struct bench *b)
{
    fprintf(stderr, "%s: %s\n", b->program, b->err.message);
    exit(1);
}

static inline void read_prompts(struct bench *b, unsigned flags)
{
    FILE *file = fopen(b->prompts_path, "r");
    if (!file) siren_fail(&b->err, SIREN_EIO, "%s: cannot be read", b->prompts_path), stop(b);
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, file) > 0 && (!b->limit || b->n < (size_t)b->limit)) {
        json_t *o = json_loads(line, 0, NULL);
        const json_t *prompt = json_object_get(o, "prompt");
        const char *text = json_string_value(prompt ? prompt : json_object_get(o, "text"));
        if (!text)
            siren_fail(&b->err, SIREN_EFORMAT, "%s: a line has no \"prompt\" and no \"text\"",
                       b->prompts_path),
                stop(b);
        b->prompts = realloc(b->prompts, (b->n + 1) * sizeof *b->prompts);
        b->texts = realloc(b->texts, (b->n + 1) * sizeof *b->texts);
        b->texts[b->n] = strdup(text);
        int32_t *ids;
        size_t n_ids;
        if (siren_tokenizer_encode(b->tokenizer, text, strlen(text), flags, &ids, &n_ids, &b->err))
            stop(b);
        b->prompts[b->n++] = (struct siren_tokens){ids, n_ids};
        json_decref(o);
    }
    free(line);
    fclose(file);
}

static inline void open_model(struct bench *b)
{
    struct siren_model_options options = {
        .expand = b->expand, .compute = b->compute, .trainable = b->full ? &SIREN_TRAIN_ALL : NULL};
    struct siren_engine_options isa = {.isa = b->isa, .compute = b->compute};
    if (siren_model_load(&b->model, b->model_path, &options, b->pool, &b->err) ||
        siren_engine_create(&b->engine, b->model, b->pool, &isa, &b->err))
        stop(b);
}

struct peak {
    const struct kernels *kernels;
    double gflops[256];
};

static inline void peak_job(void *context, int thread, int n_threads)
{
    struct peak *p = context;
    p->gflops[thread] = kernels_peak_gflops(p->kernels, 0.7);
}

/* Of all threads at once, on one instruction set. */
static inline double peak_gflops(const struct bench *b, const struct kernels *kernels)
{
    struct peak p = {.kernels = kernels};
    double sum = 0;
    siren_pool_run(b->pool, peak_job, &p);
    for (int i = 0; i < siren_pool_threads(b->pool); i++) sum += p.gflops[i];
    return sum;
}

/* The kernels of --isa (or the best). */
static inline const struct kernels *chosen_kernels(struct bench *b)
{
    enum isa isa;
    enum compute compute;
    const struct kernels *kernels = NULL;
    if (!isa_parse(b->isa ? b->isa : "auto", &isa, &b->err) &&
        !compute_parse(b->compute ? b->compute : "f32", &compute, &b->err))
        kernels = kernels_select_compute(isa, compute, &b->err);
    if (!kernels) stop(b);
    return kernels;
}

/* Pairs of option and value from argv[from] on. */
static inline void parse(struct bench *b, int argc, char **argv, int from)
{
    for (int i = from; i < argc; i += 2) {
        if (i + 1 == argc) siren_fail(&b->err, SIREN_EINVAL, "%s: no value", argv[i]), stop(b);
        if (!strcmp(argv[i], "--model") || !strcmp(argv[i], "--encoder"))
            b->model_path = argv[i + 1];
        else if (!strcmp(argv[i], "--prompts"))
            b->prompts_path = argv[i + 1];
        else if (!strcmp(argv[i], "--isa"))
            b->isa = argv[i + 1];
        else if (!strcmp(argv[i], "--compute"))
            b->compute = argv[i + 1];
        else if (!strcmp(argv[i], "--output"))
            b->output = argv[i + 1];
        else if (!strcmp(argv[i], "--threads"))
            b->threads = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--expand"))
            b->expand = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--limit"))
            b->limit = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--steps"))
            b->steps = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--full"))
            b->full = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--memory-mb"))
            b->memory = (size_t)atol(argv[i + 1]) * 1000000;
        else
            siren_fail(&b->err, SIREN_EINVAL, "unknown option %s", argv[i]), stop(b);
    }
}

static inline int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static inline double median(double *x, size_t n)
{
    qsort(x, n, sizeof *x, by_size);
    return x[n / 2];
}

#endif
