/* Theorem 1 on a model: layer by layer, rank by rank. */
#include "siren/theorem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/claim.h"
#include "siren/file.h"
#include "train/theorem.h"

enum { PASS_TOKENS = 2048 };

static const int default_ranks[] = {1, 2, 4, 8, 16};

int siren_theorem_most_rank(const struct siren_config *config)
{
    int width = config_kv_width(config);
    return width < config->d_model ? width : config->d_model;
}

struct siren_theorem_options siren_theorem_defaults(void)
{
    return (struct siren_theorem_options){.ranks = default_ranks,
                                          .n_ranks = 5,
                                          .keys = 1,
                                          .values = 1,
                                          .steps = 1,
                                          .ridge = 0.1,
                                          .iterations = 60};
}

struct job {
    struct siren_engine *engine;
    const struct siren_config *config;
    const struct siren_theorem_prompt *given;
    size_t n;
    const struct siren_theorem_options *options;
    struct siren_theorem *out;
    struct siren_forest *forest;
    struct linear_prompt *prompts;   /* (n) */
    struct linear_inputs *full;      /* (n): the inputs themselves */
    struct linear_inputs *projected; /* (n): in the directions that are kept */
    float *room;                     /* of `projected` */
    size_t room_floats;
    struct linear_scratch *scratch; /* (threads) */
    float *sums, *work;
    size_t unknowns;               /* 2·d·W */
    float *update;                 /* (unknowns): of the layer, as a whole */
    float *next;                   /* (unknowns): the solution of any rank; then steps of the fit */
    float *trial;                  /* (unknowns): a fit that may not be taken */
    float *wanted;                 /* (unknowns): the fit, in the directions that are kept */
    float *target, *promised;      /* (n, d) */
    float *directions;             /* 2·(W, d): of keys, of values */
    float *expected;               /* (n, L, d): h + dh */
    float *states;                 /* (n, L, d) */
    struct siren_adapter *adapter; /* of the present rank */
};

/* ---- passes over the forest ---- */

static const float *teacher_state(const struct job *j, size_t i, int layer)
{
    return j->given[i].teacher + (size_t)layer * (size_t)j->config->d_model;
}

/* One pass over prompts [from, *to): either the states before `layer` at all tokens (to `hidden`
 * of each prompt), or, layer -1, those after each layer at q (to states). */
static int run_pass(struct job *j, int layer, size_t from, size_t *to, struct siren_error *err)
{
    struct siren_forest *f = j->forest;
    size_t d = (size_t)j->config->d_model, L = (size_t)j->config->n_layers, tokens = 0;
    int rc, output = 0;
    siren_forest_clear(f);
    for (*to = from; *to < j->n; ++*to) {
        const struct siren_tokens *t = &j->given[*to].ids;
        int segment, got = 0;
        if (*to > from && tokens + t->n_ids > PASS_TOKENS) break;
        tokens += t->n_ids;
        segment = siren_forest_add(f, SIREN_ROOT, t->ids, t->n_ids, 0);
        if (segment >= 0) siren_forest_use_adapter(f, segment, j->adapter);
        for (size_t k = 0; segment >= 0 && got >= 0 && k < (layer < 0 ? L : t->n_ids); k++)
            got = layer < 0 ? siren_forest_want_hidden(f, segment, t->n_ids - 1, (int)k + 1)
                            : siren_forest_want_hidden(f, segment, k, layer);
        if (segment < 0 || got < 0) return siren_fail_memory(err, "the forest of a pass", tokens);
    }
    rc = siren_forest_plan(f, err);
    if (rc) return rc;
    siren_forest_run(f, NULL);
    for (size_t i = from; i < *to; i++) {
        size_t n = layer < 0 ? L : j->given[i].ids.n_ids;
        float *at = layer < 0 ? j->states + i * L * d : j->prompts[i].hidden;
        for (size_t k = 0; k < n; k++, at += d)
            memcpy(at, siren_forest_output(f, output++), d * sizeof *at);
    }
    return 0;
}

static int run_passes(struct job *j, int layer, struct siren_error *err)
{
    int rc = 0;
    for (size_t from = 0, to; !rc && from < j->n; from = to)
        rc = run_pass(j, layer, from, &to, err);
    return rc;
}

/* ---- one layer ---- */

struct linearising {
    struct job *job;
    int layer, jacobian;
    const float *dk, *dv;
    atomic_long cursor;
};

static void linearise_job(void *context, int thread, int n_threads)
{
    struct linearising *l = context;
    struct job *j = l->job;
    for (long i; (i = claim_next(&l->cursor, (long)j->n)) >= 0;)
        linearise(&j->prompts[i], j->engine, l->layer, l->dk, l->dv, l->jacobian,
                  &j->scratch[thread]);
}

static struct linear_map full_map(const struct job *j)
{
    int d = j->config->d_model;
    for (size_t i = 0; i < j->n; i++)
        j->full[i] = (struct linear_inputs){j->prompts[i].x, j->prompts[i].xt, j->prompts[i].mixed};
    return (struct linear_map){.engine = j->engine,
                               .n = j->n,
                               .prompts = j->prompts,
                               .inputs = j->full,
                               .mk = j->options->keys ? d : 0,
                               .mv = j->options->values ? d : 0,
                               .sums = j->sums,
                               .scratch = j->scratch};
}

/* out (rows, r) = x (rows, d) zᵀ; outt, if any, the other way round. */
static void project_rows(const float *x, size_t rows, const float *z, size_t r, size_t d,
                         float *out, float *outt)
{
    for (size_t t = 0; t < rows; t++)
        for (size_t k = 0; k < r; k++) {
            double dot = 0;
            for (size_t i = 0; i < d; i++) dot += (double)x[t * d + i] * (double)z[k * d + i];
            out[t * r + k] = (float)dot;
            if (outt) outt[k * rows + t] = (float)dot;
        }
}

static struct linear_map projected_map(const struct job *j, int rank)
{
    struct linear_map m = full_map(j);
    size_t d = (size_t)j->config->d_model, r = (size_t)rank, H = (size_t)j->config->n_heads;
    const float *zk = j->directions, *zv = zk + (m.mk ? r * d : 0);
    float *at = j->room;
    m.inputs = j->projected;
    for (size_t i = 0; i < j->n; i++) {
        const struct linear_prompt *p = &j->prompts[i];
        size_t T = (size_t)p->T;
        float *xk = at, *xkt = xk + T * r, *sv = xkt + T * r;
        at = sv + H * r;
        if (m.mk) project_rows(p->x, T, zk, r, d, xk, xkt);
        if (m.mv) project_rows(p->mixed, H, zv, r, d, sv, NULL);
        j->projected[i] = (struct linear_inputs){xk, xkt, sv};
    }
    m.mk = m.mk ? rank : 0;
    m.mv = m.mv ? rank : 0;
    return m;
}

static void find_directions(struct job *j, int rank)
{
    struct linear_map m = full_map(j);
    int d = j->config->d_model, W = config_kv_width(j->config);
    float *z = j->directions;
    if (m.mk) {
        leading_inputs(j->engine, j->next, d, W, rank, z, j->work, j->scratch->gemm);
        z += (size_t)rank * (size_t)d;
    }
    if (m.mv)
        leading_inputs(j->engine, j->next + (size_t)m.mk * (size_t)W, d, W, rank, z, j->work,
                       j->scratch->gemm);
}

/* The factors of this layer become A = directions, B = fit; fit: (r, W) of keys, then of values. */
static void set_factors(struct job *j, int layer, int rank, const float *fit)
{
    struct siren_params params = siren_adapter_params(j->adapter);
    size_t d = (size_t)j->config->d_model, r = (size_t)rank;
    size_t W = (size_t)config_kv_width(j->config);
    int n = (j->options->keys != 0) + (j->options->values != 0);
    for (int k = 0; k < n; k++) {
        struct siren_param *a = &params.list[2 * (n * layer + k)], *b = a + 1;
        memcpy(a->value, j->directions + (size_t)k * r * d, r * d * sizeof *a->value);
        for (size_t i = 0; i < r; i++)
            for (size_t w = 0; w < W; w++) b->value[w * r + i] = fit[((size_t)k * r + i) * W + w];
    }
    siren_adapter_changed(j->adapter);
}

/* update = Zᵀ fit, (d, W) of keys, then of values. */
static void expand(struct job *j, int rank, const float *fit)
{
    size_t d = (size_t)j->config->d_model, r = (size_t)rank;
    size_t W = (size_t)config_kv_width(j->config);
    size_t n = (size_t)(j->options->keys != 0) + (size_t)(j->options->values != 0);
    memset(j->update, 0, n * d * W * sizeof *j->update);
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < r; i++)
            for (size_t a = 0; a < d; a++) {
                float z = j->directions[(k * r + i) * d + a];
                float *row = j->update + (k * d + a) * W;
                for (size_t w = 0; w < W; w++) row[w] += z * fit[(k * r + i) * W + w];
            }
}

static void linearise_all(struct job *j, int layer, int changed, int jacobian)
{
    struct linear_map m = full_map(j);
    size_t W = (size_t)config_kv_width(j->config);
    struct linearising l = {.job = j, .layer = layer, .jacobian = jacobian};
    if (changed && m.mk) l.dk = j->update;
    if (changed && m.mv) l.dv = j->update + (size_t)m.mk * W;
    siren_pool_run(j->engine->pool, linearise_job, &l);
}

/* target = h^CoT − h; returns the mean of its length beside h^CoT. */
static double find_target(struct job *j, int layer)
{
    size_t d = (size_t)j->config->d_model;
    double mean = 0;
    for (size_t i = 0; i < j->n; i++) {
        const float *h = teacher_state(j, i, layer);
        double off = 0, all = 0;
        for (size_t k = 0; k < d; k++) {
            float gap = h[k] - j->prompts[i].output[k];
            j->target[i * d + k] = gap;
            off += (double)gap * (double)gap;
            all += (double)h[k] * (double)h[k];
        }
        mean += sqrt(off / all) / (double)j->n;
    }
    return mean;
}

/* promised, a change dh so far, becomes h + dh, h at the present fit. */
static void promise(struct job *j)
{
    size_t d = (size_t)j->config->d_model;
    for (size_t i = 0; i < j->n; i++)
        for (size_t k = 0; k < d; k++) j->promised[i * d + k] += j->prompts[i].output[k];
}

/* What was promised is what was done: it is expected. */
static void keep_promise(struct job *j, int layer)
{
    size_t d = (size_t)j->config->d_model, L = (size_t)j->config->n_layers;
    for (size_t i = 0; i < j->n; i++)
        memcpy(j->expected + (i * L + (size_t)layer) * d, j->promised + i * d,
               d * sizeof *j->expected);
}

/* One linearisation at the present fit: solve, and take the step if it lowers what is left, or else
 * a shorter one (a larger ridge).  `any`: take the first, whatever it does.  Returns 0 if no step
 * was taken. */
static int refine(struct job *j, int layer, int rank, int any, int linearised, double *ridge)
{
    enum { TRIES = 5 };
    const struct siren_theorem_options *o = j->options;
    float *fit = j->wanted, *step = j->next, *trial = j->trial;
    for (int i = 0; i < TRIES; i++) {
        struct linear_map low;
        double before;
        size_t n;
        if (i > 0 || !linearised) {
            expand(j, rank, fit);
            linearise_all(j, layer, 1, 1);
        }
        before = find_target(j, layer);
        low = projected_map(j, rank);
        n = linear_unknowns(&low);
        linear_solve(&low, j->target, *ridge, o->iterations, step, j->work);
        linear_apply(&low, step, j->promised);
        promise(j);
        for (size_t k = 0; k < n; k++) trial[k] = fit[k] + step[k];
        if (!any) {
            expand(j, rank, trial);
            linearise_all(j, layer, 1, 0);
        }
        if (any || find_target(j, layer) < before) {
            memcpy(fit, trial, n * sizeof *fit);
            keep_promise(j, layer);
            *ridge /= 4;
            return 1;
        }
        *ridge = *ridge > 0 ? *ridge * 8 : 1e-3;
    }
    return 0;
}

/* The layer's fit is left in j->wanted, the update in j->update, the promise in j->expected. */
static void solve_layer(struct job *j, int layer, int rank)
{
    const struct siren_theorem_options *o = j->options;
    struct linear_map full;
    double ridge = o->ridge;
    linearise_all(j, layer, 0, 1);
    find_target(j, layer);
    memset(j->promised, 0, j->n * (size_t)j->config->d_model * sizeof *j->promised);
    promise(j); /* where no step lowers anything */
    keep_promise(j, layer);
    full = full_map(j);
    linear_solve(&full, j->target, o->ridge, o->iterations, j->next, j->work);
    find_directions(j, rank);
    memset(j->wanted, 0, j->unknowns * sizeof *j->wanted);
    for (int step = 0; step < o->steps; step++)
        if (!refine(j, layer, rank, o->steps == 1, step == 0, &ridge)) break;
    expand(j, rank, j->wanted);
}

/* Frobenius norm of the rows of W_K and W_V that are updated, as they are packed for the mode. */
static double size_of_weights(const struct job *j, int layer)
{
    const struct packed *w = &j->engine->model->layers[layer].qkv;
    int Q = config_q_width(j->config), W = config_kv_width(j->config);
    int from = (Q + (j->options->keys ? 0 : W)) / 16,
        to = (Q + (j->options->values ? 2 : 1) * W) / 16;
    float block[32 * 16];
    double sum = 0;
    for (int panel = from; panel < to; panel++)
        for (int k = 0; k < w->k; k += 32) {
            int n = w->k - k < 32 ? w->k - k : 32;
            j->engine->kernels->panel_decode(w, panel, k, k + n, block);
            for (int i = 0; i < n * 16; i++) sum += (double)block[i] * (double)block[i];
        }
    return sqrt(sum);
}

static double size_of_update(const struct job *j)
{
    struct linear_map m = full_map(j);
    double sum = 0;
    for (size_t i = 0, n = linear_unknowns(&m); i < n; i++)
        sum += (double)j->update[i] * (double)j->update[i];
    return sqrt(sum);
}

/* ---- all layers ---- */

/* Mean over the prompts of ||a − b|| / ||h^CoT||; a, b: (n, L, d), NULL: the teacher's. */
static double mean_ratio(const struct job *j, const float *a, const float *b, int layer)
{
    size_t d = (size_t)j->config->d_model, L = (size_t)j->config->n_layers;
    double mean = 0;
    for (size_t i = 0; i < j->n; i++) {
        const float *h = teacher_state(j, i, layer);
        const float *x = a + (i * L + (size_t)layer) * d;
        const float *y = b ? b + (i * L + (size_t)layer) * d : h;
        double off = 0, all = 0;
        for (size_t k = 0; k < d; k++) {
            off += ((double)x[k] - (double)y[k]) * ((double)x[k] - (double)y[k]);
            all += (double)h[k] * (double)h[k];
        }
        mean += sqrt(off / all) / (double)j->n;
    }
    return mean;
}

static int adapt(struct job *j, int rank_index, const struct siren_progress *progress,
                 struct siren_error *err)
{
    struct siren_theorem *out = j->out;
    int L = j->config->n_layers, rank = out->ranks[rank_index], rc = 0;
    for (int l = 0; l < L && !rc; l++) {
        size_t at = (size_t)rank_index * (size_t)L + (size_t)l;
        rc = run_passes(j, l, err);
        if (rc) break;
        solve_layer(j, l, rank);
        set_factors(j, l, rank, j->wanted);
        out->size[at] = size_of_update(j) / size_of_weights(j, l);
        if (siren_progress_update(progress, "layers of all ranks", at + 1,
                                  (uint64_t)(L * out->n_ranks)))
            rc = siren_fail(err, SIREN_ECANCEL, "stopped after layer %d of rank %d", l + 1, rank);
    }
    if (!rc) rc = run_passes(j, -1, err);
    for (int l = 0; l < L && !rc; l++) {
        size_t at = (size_t)rank_index * (size_t)L + (size_t)l;
        out->predicted[at] = mean_ratio(j, j->expected, NULL, l);
        out->after[at] = mean_ratio(j, j->states, NULL, l);
        out->linear[at] = mean_ratio(j, j->states, j->expected, l);
    }
    return rc;
}

static int adapt_all(struct job *j, struct siren_adapter **adapters,
                     const struct siren_progress *progress, struct siren_error *err)
{
    const struct siren_theorem_options *o = j->options;
    int rc = run_passes(j, -1, err);
    for (int l = 0; l < j->config->n_layers && !rc; l++)
        j->out->before[l] = mean_ratio(j, j->states, NULL, l);
    for (int i = 0; i < o->n_ranks && !rc; i++) {
        struct siren_adapter_config config = {.targets = (o->keys ? 1u << SIREN_LORA_K : 0) |
                                                         (o->values ? 1u << SIREN_LORA_V : 0),
                                              .last_layer = j->config->n_layers - 1,
                                              .r = o->ranks[i],
                                              .alpha = (float)o->ranks[i]};
        rc = siren_adapter_create(&j->adapter, j->engine->model, &config, err);
        if (!rc) rc = adapt(j, i, progress, err);
        if (adapters && !rc)
            adapters[i] = j->adapter;
        else
            siren_adapter_free(j->adapter);
        j->adapter = NULL;
    }
    return rc;
}

/* ---- memory ---- */

static int check_problem(const struct siren_config *c, const struct siren_theorem_prompt *prompts,
                         size_t n, const struct siren_theorem_options *o, struct siren_error *err)
{
    if (siren_is_encoder(c))
        return siren_fail(err, SIREN_EUNSUPPORTED, "the theorem is about decoders");
    if (!n || (!o->keys && !o->values) || o->n_ranks < 1 || o->steps < 1 || o->iterations < 1 ||
        !(o->ridge >= 0))
        return siren_fail(err, SIREN_EINVAL,
                          "expected a prompt, keys or values, a rank, a step, an iteration and a "
                          "ridge that is not below 0");
    for (int i = 0; i < o->n_ranks; i++)
        if (o->ranks[i] < 1 || o->ranks[i] > siren_theorem_most_rank(c))
            return siren_fail(err, SIREN_EINVAL, "rank %d: expected 1 … %d", o->ranks[i],
                              siren_theorem_most_rank(c));
    for (size_t i = 0; i < n; i++) {
        if (prompts[i].ids.n_ids < 2)
            return siren_fail(err, SIREN_EINVAL, "prompt %zu has %zu tokens, expected 2 or more", i,
                              prompts[i].ids.n_ids);
        for (int l = 0; l < c->n_layers; l++) {
            double sum = 0;
            for (int k = 0; k < c->d_model; k++)
                sum += fabs((double)prompts[i].teacher[l * c->d_model + k]);
            if (!(sum > 0) || !isfinite(sum))
                return siren_fail(err, SIREN_ENUMERIC,
                                  "prompt %zu: the teacher's state of layer %d is %s", i, l + 1,
                                  sum == 0 ? "zero" : "not finite");
        }
    }
    return 0;
}

static int make_result(struct siren_theorem *out, int n_layers,
                       const struct siren_theorem_options *o, struct siren_error *err)
{
    size_t n = (size_t)n_layers * (size_t)o->n_ranks;
    *out = (struct siren_theorem){.n_layers = n_layers,
                                  .n_ranks = o->n_ranks,
                                  .ranks = alloc_array((size_t)o->n_ranks, sizeof *out->ranks),
                                  .before = alloc_zeroed((size_t)n_layers, sizeof *out->before),
                                  .predicted = alloc_zeroed(n, sizeof *out->predicted),
                                  .after = alloc_zeroed(n, sizeof *out->after),
                                  .linear = alloc_zeroed(n, sizeof *out->linear),
                                  .size = alloc_zeroed(n, sizeof *out->size)};
    if (!out->ranks || !out->before || !out->predicted || !out->after || !out->linear || !out->size)
        return siren_fail_memory(err, "the theorem's numbers", 4 * n * sizeof(double));
    memcpy(out->ranks, o->ranks, (size_t)o->n_ranks * sizeof *out->ranks);
    return 0;
}

static int make_prompts(struct job *j, struct siren_error *err)
{
    int threads = siren_pool_threads(j->engine->pool), rc = 0;
    j->prompts = alloc_zeroed(j->n, sizeof *j->prompts);
    j->full = alloc_zeroed(j->n, sizeof *j->full);
    j->projected = alloc_zeroed(j->n, sizeof *j->projected);
    j->scratch = alloc_zeroed((size_t)threads, sizeof *j->scratch);
    if (!j->prompts || !j->full || !j->projected || !j->scratch)
        return siren_fail_memory(err, "linearised prompts", j->n * sizeof *j->prompts);
    for (size_t i = 0; i < j->n && !rc; i++)
        rc = linear_prompt_create(&j->prompts[i], j->engine, (int)j->given[i].ids.n_ids, err);
    for (int i = 0; i < threads && !rc; i++)
        rc = linear_scratch_create(&j->scratch[i], j->engine, err);
    return rc;
}

static int make_vectors(struct job *j, struct siren_error *err)
{
    size_t d = (size_t)j->config->d_model, W = (size_t)config_kv_width(j->config);
    size_t states = j->n * d * (size_t)j->config->n_layers, unknowns = 2 * d * W, most = 0;
    for (int i = 0; i < j->options->n_ranks; i++)
        if ((size_t)j->options->ranks[i] > most) most = (size_t)j->options->ranks[i];
    for (size_t i = 0; i < j->n; i++)
        j->room_floats += most * (2 * j->given[i].ids.n_ids + (size_t)j->config->n_heads);
    j->unknowns = unknowns;
    size_t solving = 2 * j->n * d + 3 * unknowns, leading = W * W + 2 * most * W;
    struct {
        float **at;
        size_t n;
    } parts[] = {{&j->room, j->room_floats},
                 {&j->sums, j->n * unknowns},
                 {&j->work, solving > leading ? solving : leading},
                 {&j->update, unknowns},
                 {&j->next, unknowns},
                 {&j->wanted, unknowns},
                 {&j->trial, unknowns},
                 {&j->target, j->n * d},
                 {&j->promised, j->n * d},
                 {&j->directions, 2 * most * d},
                 {&j->expected, states},
                 {&j->states, states}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].at = alloc_zeroed(parts[i].n, sizeof(float));
        if (!*parts[i].at)
            return siren_fail_memory(err, "least squares", parts[i].n * sizeof(float));
    }
    return 0;
}

static void job_clear(struct job *j)
{
    for (size_t i = 0; j->prompts && i < j->n; i++) linear_prompt_free(&j->prompts[i]);
    for (int i = 0; j->scratch && i < siren_pool_threads(j->engine->pool); i++)
        linear_scratch_free(&j->scratch[i]);
    float *all[] = {j->room,   j->sums,     j->work,       j->update,   j->next,   j->wanted,
                    j->target, j->promised, j->directions, j->expected, j->states, j->trial};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(j->prompts);
    free(j->full);
    free(j->projected);
    free(j->scratch);
    siren_forest_free(j->forest);
}

int siren_theorem(struct siren_theorem *out, struct siren_engine *engine,
                  const struct siren_theorem_prompt *prompts, size_t n,
                  const struct siren_theorem_options *options, struct siren_adapter **adapters,
                  const struct siren_progress *progress, struct siren_error *err)
{
    struct job j = {.engine = engine,
                    .config = siren_model_config(engine->model),
                    .given = prompts,
                    .n = n,
                    .options = options,
                    .out = out};
    int rc = check_problem(j.config, prompts, n, options, err);
    *out = (struct siren_theorem){0};
    for (int i = 0; adapters && i < options->n_ranks; i++) adapters[i] = NULL;
    if (rc) return rc;
    rc = make_result(out, j.config->n_layers, options, err);
    if (!rc) rc = siren_forest_create(&j.forest, engine, err);
    if (!rc) rc = make_prompts(&j, err);
    if (!rc) rc = make_vectors(&j, err);
    if (!rc) rc = adapt_all(&j, adapters, progress, err);
    job_clear(&j);
    if (rc) siren_theorem_clear(out);
    for (int i = 0; rc && adapters && i < options->n_ranks; i++) {
        siren_adapter_free(adapters[i]);
        adapters[i] = NULL;
    }
    return rc;
}

void siren_theorem_clear(struct siren_theorem *t)
{
    free(t->ranks);
    free(t->before);
    free(t->predicted);
    free(t->after);
    free(t->linear);
    free(t->size);
    *t = (struct siren_theorem){0};
}
