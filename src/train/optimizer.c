/* AdamW, gradient norms, schedules. */
#include "siren/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "tensor/kernels.h"

struct moments {
    float *m, *v;
    double lr_factor, weight_decay;
};

struct siren_adamw {
    struct siren_params params;
    struct siren_adamw_options options;
    struct moments *moments; /* one for each parameter */
    float *numbers;          /* theirs, m of all and then v of all */
    const struct kernels *kernels;
    uint64_t steps;
};

static size_t count_of(const struct siren_param *p)
{
    return (size_t)p->rows * (size_t)p->columns;
}

struct siren_adamw_options siren_adamw_defaults(void)
{
    return (struct siren_adamw_options){0.9, 0.999, 1e-8, 0.01};
}

static int check_options(const struct siren_adamw_options *o, struct siren_error *err)
{
    if (!(o->beta1 >= 0 && o->beta1 < 1))
        return siren_fail(err, SIREN_EINVAL, "beta1 is %g, expected [0, 1)", o->beta1);
    if (!(o->beta2 >= 0 && o->beta2 < 1))
        return siren_fail(err, SIREN_EINVAL, "beta2 is %g, expected [0, 1)", o->beta2);
    if (!(o->eps > 0 && isfinite(o->eps)))
        return siren_fail(err, SIREN_EINVAL, "eps is %g, expected a positive number", o->eps);
    if (!(o->weight_decay >= 0 && isfinite(o->weight_decay)))
        return siren_fail(err, SIREN_EINVAL, "weight decay is %g, expected 0 or more",
                          o->weight_decay);
    return 0;
}

static int apply_group(struct siren_adamw *a, const struct siren_param_group *g,
                       struct siren_error *err)
{
    if (g->first > a->params.n || g->n > a->params.n - g->first)
        return siren_fail(err, SIREN_EINVAL, "group of parameters %zu + %zu, but there are %zu",
                          g->first, g->n, a->params.n);
    if (!(g->lr_factor >= 0 && isfinite(g->lr_factor)) ||
        !(g->weight_decay >= 0 && isfinite(g->weight_decay)))
        return siren_fail(err, SIREN_EINVAL,
                          "group with lr factor %g and weight decay %g, expected 0 or more",
                          g->lr_factor, g->weight_decay);
    for (size_t i = g->first; i < g->first + g->n; i++) {
        a->moments[i].lr_factor = g->lr_factor;
        a->moments[i].weight_decay = a->params.list[i].no_decay ? 0 : g->weight_decay;
    }
    return 0;
}

/* In whole cache lines. */
static size_t room_of(const struct siren_param *p)
{
    return whole_panels(count_of(p));
}

static int allocate_moments(struct siren_adamw *a, struct siren_error *err)
{
    size_t total = 0, at = 0;
    for (size_t i = 0; i < a->params.n; i++) {
        const struct siren_param *p = &a->params.list[i];
        if (p->rows < 0 || p->columns < 0)
            return siren_fail(err, SIREN_EINVAL, "%s: shape (%d, %d)", p->name, p->rows,
                              p->columns);
        total += room_of(p);
    }
    a->moments = alloc_zeroed(a->params.n, sizeof *a->moments);
    a->numbers = alloc_aligned(2 * total, sizeof *a->numbers);
    if (!a->moments || !a->numbers)
        return siren_fail_memory(err, "the moments", 2 * total * sizeof *a->numbers);
    memset(a->numbers, 0, 2 * total * sizeof *a->numbers);
    for (size_t i = 0; i < a->params.n; i++) {
        const struct siren_param *p = &a->params.list[i];
        a->moments[i] = (struct moments){.m = a->numbers + at,
                                         .v = a->numbers + total + at,
                                         .lr_factor = 1,
                                         .weight_decay = p->no_decay ? 0 : a->options.weight_decay};
        at += room_of(p);
    }
    return 0;
}

int siren_adamw_create(struct siren_adamw **out, struct siren_params params,
                       const struct siren_adamw_options *options,
                       const struct siren_param_group *groups, size_t n_groups,
                       struct siren_error *err)
{
    struct siren_adamw *a;
    int rc = check_options(options, err);
    *out = NULL;
    if (rc) return rc;
    a = calloc(1, sizeof *a);
    if (!a) return siren_fail_memory(err, "the optimiser", sizeof *a);
    a->params = params;
    a->options = *options;
    a->kernels = kernels_select(isa_best(), err); /* the bits are those of every set */
    rc = allocate_moments(a, err);
    for (size_t i = 0; !rc && i < n_groups; i++) rc = apply_group(a, &groups[i], err);
    if (rc)
        siren_adamw_free(a);
    else
        *out = a;
    return rc;
}

void siren_adamw_free(struct siren_adamw *a)
{
    if (!a) return;
    free(a->numbers);
    free(a->moments);
    free(a);
}

/* ---- Work shared out ---- */

/* Parameters are worked on in chunks, one after the other, so that threads have equal shares of
 * many small ones and of a vocabulary's alike. */
enum { CHUNK = 1 << 16 };

/* Numbers from … from + n - 1 of a parameter. */
struct chunk {
    size_t index, param, from, n;
};
typedef void chunk_fn(const struct chunk *chunk, void *context);

struct chunk_job {
    struct siren_params params;
    chunk_fn *work;
    void *context;
};

static void work_share(void *context, int thread, int n_threads)
{
    const struct chunk_job *job = context;
    struct chunk c = {0};
    for (c.param = 0; c.param < job->params.n; c.param++) {
        size_t count = count_of(&job->params.list[c.param]);
        for (c.from = 0; c.from < count; c.from += CHUNK, c.index++) {
            c.n = count - c.from < CHUNK ? count - c.from : CHUNK;
            if (c.index % (size_t)n_threads == (size_t)thread) job->work(&c, job->context);
        }
    }
}

static void for_chunks(struct siren_params params, struct siren_pool *pool, chunk_fn *work,
                       void *context)
{
    struct chunk_job job = {params, work, context};
    if (pool)
        siren_pool_run(pool, work_share, &job);
    else
        work_share(&job, 0, 1);
}

static size_t count_chunks(struct siren_params params)
{
    size_t n = 0;
    for (size_t i = 0; i < params.n; i++) n += (count_of(&params.list[i]) + CHUNK - 1) / CHUNK;
    return n;
}

/* ---- Zeros: noted where the owner lets them be (siren_param.unwritten), else written ---- */

static void zero_chunk(const struct chunk *c, void *context)
{
    const struct siren_params *params = context;
    memset(params->list[c->param].grad + c->from, 0, c->n * sizeof(float));
}

static void zero_chunk_unnoted(const struct chunk *c, void *context)
{
    const struct siren_params *params = context;
    if (!params->list[c->param].unwritten) zero_chunk(c, context);
}

static void zero_chunk_noted(const struct chunk *c, void *context)
{
    const struct siren_params *params = context;
    const int *unwritten = params->list[c->param].unwritten;
    if (unwritten && *unwritten) zero_chunk(c, context);
}

static void note_zeros(struct siren_params params, int zeros)
{
    for (size_t i = 0; i < params.n; i++)
        if (params.list[i].unwritten) *params.list[i].unwritten = zeros;
}

void siren_gradients_zero(struct siren_params params, struct siren_pool *pool)
{
    for_chunks(params, pool, zero_chunk_unnoted, &params);
    note_zeros(params, 1);
}

/* For those who read gradients. */
static void write_zeros(struct siren_params params, struct siren_pool *pool)
{
    for_chunks(params, pool, zero_chunk_noted, &params);
    note_zeros(params, 0);
}

/* ---- A step ---- */

static struct adamw_scalars scalars_of(const struct siren_adamw *a, const struct moments *s,
                                       double lr, float factor)
{
    const struct siren_adamw_options *o = &a->options;
    double t = (double)a->steps, rate = lr * s->lr_factor;
    struct adamw_scalars k;
    k.keep = (float)(1 - rate * s->weight_decay);
    k.beta2 = (float)o->beta2;
    k.one_beta1 = (float)(1 - o->beta1);
    k.one_beta2 = (float)(1 - o->beta2);
    k.minus_rate = (float)-(rate / (1 - pow(o->beta1, t)));
    k.root2 = (float)sqrt(1 - pow(o->beta2, t));
    k.eps = (float)o->eps;
    k.factor = factor;
    return k;
}

struct step_job {
    const struct siren_adamw *adamw;
    double lr;
    float factor;
};

static void step_chunk(const struct chunk *c, void *context)
{
    const struct step_job *job = context;
    const struct siren_param *p = &job->adamw->params.list[c->param];
    const struct moments *s = &job->adamw->moments[c->param];
    struct adamw_scalars k = scalars_of(job->adamw, s, job->lr, job->factor);
    job->adamw->kernels->adamw(p->value + c->from, p->grad + c->from, s->m + c->from,
                               s->v + c->from, c->n, &k);
    struct siren_params params = job->adamw->params;
    zero_chunk_unnoted(c, &params);
}

void siren_adamw_step(struct siren_adamw *a, double lr, float factor, struct siren_pool *pool)
{
    struct step_job job = {a, lr, factor};
    a->steps++;
    write_zeros(a->params, pool);
    for_chunks(a->params, pool, step_chunk, &job);
    note_zeros(a->params, 1);
}

float *siren_adamw_m(struct siren_adamw *a, size_t i)
{
    return a->moments[i].m;
}

float *siren_adamw_v(struct siren_adamw *a, size_t i)
{
    return a->moments[i].v;
}

uint64_t siren_adamw_steps(const struct siren_adamw *a)
{
    return a->steps;
}

void siren_adamw_set_steps(struct siren_adamw *a, uint64_t steps)
{
    a->steps = steps;
}

/* ---- Gradients ---- */

struct gradient_job {
    struct siren_params params;
    const struct kernels *kernels; /* the bits are those of every set */
    double *squares;               /* of each chunk */
};

/* Squares are below 1.2e77 each, so the sum of finite ones is finite. */
static void square_chunk(const struct chunk *c, void *context)
{
    const struct gradient_job *job = context;
    const float *gradients = job->params.list[c->param].grad + c->from;
    job->squares[c->index] = job->kernels->squares(gradients, c->n);
}

/* Where the first number is that is not finite: there is one. */
static int fail_gradient(const struct siren_param *p, struct siren_error *err)
{
    for (size_t i = 0;; i++, p++)
        for (size_t j = 0, n = count_of(p); j < n; j++)
            if (!isfinite(p->grad[j]))
                return siren_fail(err, SIREN_ENUMERIC,
                                  "the gradient of %s (parameter %zu) is %f at row %zu, column %zu",
                                  p->name, i, p->grad[j], j / (size_t)p->columns,
                                  j % (size_t)p->columns);
}

int siren_gradients_norm(struct siren_params params, struct siren_pool *pool, double *norm,
                         struct siren_error *err)
{
    size_t n = count_chunks(params);
    struct gradient_job job = {.params = params,
                               .kernels = kernels_select(isa_best(), err),
                               .squares = alloc_array(n, sizeof(double))};
    double sum = 0;
    if (!job.squares) return siren_fail_memory(err, "the gradients' norm", n * sizeof(double));
    write_zeros(params, pool);
    for_chunks(params, pool, square_chunk, &job);
    for (size_t i = 0; i < n; i++) sum += job.squares[i];
    free(job.squares);
    if (!isfinite(sum)) return fail_gradient(params.list, err);
    *norm = sqrt(sum);
    return 0;
}

int siren_gradients_clip(struct siren_params params, double max_norm, struct siren_pool *pool,
                         double *norm, float *factor, struct siren_error *err)
{
    double found;
    int rc;
    if (!(max_norm > 0))
        return siren_fail(err, SIREN_EINVAL, "largest gradient norm is %g, expected more than 0",
                          max_norm);
    rc = siren_gradients_norm(params, pool, &found, err);
    if (rc) return rc;
    if (norm) *norm = found;
    *factor = max_norm / (found + 1e-6) < 1 ? (float)(max_norm / (found + 1e-6)) : 1;
    return 0;
}

/* ---- Schedules ---- */

static const char *const kinds[] = {"constant", "linear", "cosine"};

double siren_schedule_factor(const struct siren_schedule *s, uint64_t step)
{
    double span, done;
    if (step < s->warmup) return (double)step / (double)s->warmup;
    if (s->kind == SIREN_SCHEDULE_CONSTANT) return 1;
    if (step >= s->total) return 0;
    span = (double)(s->total - s->warmup);
    done = (double)(step - s->warmup);
    if (s->kind == SIREN_SCHEDULE_LINEAR) return (double)(s->total - step) / span;
    return fmax(0, 0.5 * (1 + cos(3.14159265358979323846 * (done / span))));
}

int siren_schedule_parse(enum siren_schedule_kind *out, const char *word, struct siren_error *err)
{
    for (int i = 0; i < 3; i++)
        if (strcmp(word, kinds[i]) == 0) {
            *out = (enum siren_schedule_kind)i;
            return 0;
        }
    return siren_fail(err, SIREN_EINVAL, "schedule '%s', expected constant, linear or cosine",
                      word);
}
