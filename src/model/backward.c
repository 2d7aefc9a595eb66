/* The backward pass, layer by layer. */
#include "model/backward.h"

#include <string.h>

/* Of one layer: the two of computing it again, and three of its backward. */
enum { LAYER_PHASES = 5 };

size_t back_cursors(const struct siren_forest *f)
{
    return back_output_cursors(f) +
           LAYER_PHASES * (size_t)(f->engine->model->config.n_layers - f->back->lowest) + 1;
}

/* ---- a layer from its output to attention's output ---- */

static float *gradient_of(const struct siren_forest *f, const struct rows *v)
{
    return v->list ? f->back->dx_active : f->back->dx;
}

/* What was asked of the state after `layer` layers, view rows [i0, i0 + n): added to what comes
 * from above, which is nothing where layers learn locally. */
static void add_hidden(struct siren_forest *f, int layer, const struct rows *v, int i0, int n)
{
    size_t d = (size_t)f->engine->model->config.d_model;
    float *dx = gradient_of(f, v);
    if (f->training.layer_local) memset(dx + (size_t)i0 * d, 0, (size_t)n * d * sizeof(float));
    for (int j = f->hidden_start[layer]; j < f->hidden_start[layer + 1]; j++) {
        const struct request *q = &f->requests[f->hidden_order[j]];
        int i = v->list ? q->compact : q->row;
        if (i >= i0 && i < i0 + n)
            f->engine->kernels->add(dx + (size_t)i * d, f->back->gradients + q->offset, d);
    }
}

/* How far this layer goes. */
static enum back_depth depth_at(const struct siren_forest *f, int layer)
{
    if (f->training.layer_local) return trained_depth(f, layer);
    return layer > f->back->lowest ? BACK_WHOLE : f->back->depth;
}

/* A group's input, rows [i0, i0 + n) of the view, where weights are trained (lora_back() keeps what
 * an adapter wants). */
static void keep_rows(struct siren_forest *f, enum lora_group group, const struct rows *v, int i0,
                      int n, const float *in)
{
    size_t ld = f->back->groups[group].ld;
    float *kept = f->back->kept[group];
    int K = group == LORA_DOWN_INPUT ? f->engine->model->config.d_ffn : (int)ld; /* no padding */
    if (kept) f->engine->kernels->keep_inputs(in, ld, i0, n, v->n, K, kept);
}

/* From dy, the gradient of the FFN's output, to that of its gates; ends with dy unchanged. */
static void block_gates(struct siren_forest *f, struct thread_scratch *t, struct back_scratch *b,
                        int layer, const struct rows *v, int i0, int n, const float *dy,
                        float *dgates)
{
    const struct kernels *k = f->engine->kernels;
    const struct siren_config *c = &f->engine->model->config;
    const struct packed *w = &f->engine->model->layers[layer].ffn_out;
    size_t d = (size_t)c->d_model, F = (size_t)config_ffn_stride(c);
    const float *gates = f->tape[layer].gates + (size_t)i0 * 2 * F;
    int panels = input_panels(w), pairs = (int)(F / 16),
        trained = input_wanted(f, layer, LORA_DOWN_INPUT);
    if ((size_t)w->k < F) /* padding columns of the last panel */
        memset(b->dffn, 0, (size_t)n * F * sizeof(float));
    if (trained) {
        k->swiglu(gates, 2 * F, n, pairs, t->ffn, F);
        keep_rows(f, LORA_DOWN_INPUT, v, i0, n, t->ffn);
        memcpy(f->back->dffn_out + (size_t)i0 * d, dy, (size_t)n * d * sizeof(float));
    }
    k->gemm_dx(dy, d, n, w, 0, panels, b->dffn, F, 0, t->gemm);
    lora_back(f, t, b, layer, LORA_DOWN_INPUT, v, i0, n, trained ? t->ffn : NULL, F, dy, d, b->dffn,
              F);
    k->swiglu_backward(gates, 2 * F, b->dffn, F, n, pairs, dgates, 2 * F);
}

/* View rows [i0, i0 + n): dx becomes the gradient of the state between attention and FFN. */
static void block_ffn_back(struct siren_forest *f, struct thread_scratch *t, struct back_scratch *b,
                           int layer, const struct rows *v, int i0, int n)
{
    const struct kernels *k = f->engine->kernels;
    const struct siren_config *c = &f->engine->model->config;
    const struct layer_weights *w = &f->engine->model->layers[layer];
    size_t d = (size_t)c->d_model, F = (size_t)config_ffn_stride(c);
    float *dx = gradient_of(f, v) + (size_t)i0 * d;
    const float *mid = f->tape[layer].mid + (size_t)i0 * d, *in = NULL;
    float *dgates = f->back->dgates ? f->back->dgates + (size_t)i0 * 2 * F : b->dgates;
    enum back_depth depth = depth_at(f, layer);
    block_gates(f, t, b, layer, v, i0, n, dx, dgates);
    if (depth == BACK_DOWN) return;
    if (input_wanted(f, layer, LORA_FFN_INPUT)) {
        k->rmsnorm(mid, d, n, c->d_model, w->ffn_norm, c->norm_eps, t->normed, d);
        keep_rows(f, LORA_FFN_INPUT, v, i0, n, t->normed);
        in = t->normed;
    }
    k->gemm_dx(dgates, 2 * F, n, &w->ffn_in, 0, input_panels(&w->ffn_in), b->dnormed, d, 0,
               t->gemm);
    lora_back(f, t, b, layer, LORA_FFN_INPUT, v, i0, n, in, d, dgates, 2 * F, b->dnormed, d);
    if (depth == BACK_FFN) return;
    if (f->back->weights)
        memcpy(f->back->dffn_normed + (size_t)i0 * d, b->dnormed, (size_t)n * d * sizeof(float));
    k->rmsnorm_backward(mid, d, b->dnormed, d, n, c->d_model, w->ffn_norm, c->norm_eps, dx, d, 1,
                        NULL);
}

/* … and dattended that of attention's output. */
static void block_out_back(struct siren_forest *f, struct thread_scratch *t, struct back_scratch *b,
                           int layer, const struct rows *v, int i0, int n)
{
    const struct siren_config *c = &f->engine->model->config;
    const struct packed *w = &f->engine->model->layers[layer].out;
    size_t d = (size_t)c->d_model, Q = (size_t)config_q_width(c);
    const float *dy = gradient_of(f, v) + (size_t)i0 * d;
    float *dattended = f->back->dattended + (size_t)i0 * Q;
    const float *in =
        lora_trains(f, layer, LORA_O_INPUT) ? f->tape[layer].attended + (size_t)i0 * Q : NULL;
    keep_rows(f, LORA_O_INPUT, v, i0, n, f->tape[layer].attended + (size_t)i0 * Q);
    f->engine->kernels->gemm_dx(dy, d, n, w, 0, input_panels(w), dattended, Q, 0, t->gemm);
    lora_back(f, t, b, layer, LORA_O_INPUT, v, i0, n, in, Q, dy, d, dattended, Q);
}

static void phase_blocks(struct siren_forest *f, int thread, int layer, const struct rows *v,
                         atomic_long *cursor)
{
    struct thread_scratch *t = &f->scratch[thread];
    struct back_scratch *b = &f->back->scratch[thread];
    int last = layer == f->engine->model->config.n_layers - 1;
    for (struct row_block r; claim_rows(f, v->n, cursor, &r);) {
        if (!last) add_hidden(f, layer + 1, v, r.first, r.n);
        block_ffn_back(f, t, b, layer, v, r.first, r.n);
        if (depth_at(f, layer) >= BACK_O) block_out_back(f, t, b, layer, v, r.first, r.n);
    }
}

/* ---- from queries, keys and values to the layer's input ---- */

/* One row of dqkv before norm and RoPE, from dattended (queries) and the pages' gradients. */
static void gather_dqkv(struct siren_forest *f, const struct rows *v, int r, float *dqkv)
{
    const struct siren_config *c = &f->engine->model->config;
    size_t Q = (size_t)config_q_width(c);
    int i = v->list ? f->back->active_of_row[r] : r;
    if (i >= 0)
        memcpy(dqkv, f->back->dattended + (size_t)i * Q, Q * sizeof(float));
    else
        memset(dqkv, 0, Q * sizeof(float));
    gather_keys(f, r, dqkv + Q, dqkv + Q + config_kv_width(c));
}

static void unrotate(struct siren_forest *f, struct back_scratch *b, int layer, int r, float *dqkv)
{
    const struct siren_engine *e = f->engine;
    const struct siren_config *c = &e->model->config;
    const struct layer_weights *w = &e->model->layers[layer];
    size_t D = (size_t)c->head_dim, Q = (size_t)config_q_width(c);
    size_t at = (size_t)f->row_position[r] * (D / 2);
    for (size_t i = 0; i < D / 2; i++) b->sines[i] = -e->sines[at + i];
    for (int h = 0; h < c->n_heads + c->n_kv_heads; h++)
        e->kernels->rope(dqkv + (size_t)h * D, (int)D, e->cosines + at, b->sines);
    if (!w->q_norm) return;
    size_t width = (size_t)config_qkv_width(c), row = (size_t)r * width;
    const float *raw = f->tape[layer].raw + row;
    if (f->back->weights) {
        memcpy(f->back->dnormed_heads + row, dqkv, width * sizeof *dqkv);
        memcpy(f->back->raw_heads + row, raw, width * sizeof *raw);
    }
    e->kernels->rmsnorm_backward(raw, D, dqkv, D, c->n_heads, (int)D, w->q_norm, c->norm_eps, dqkv,
                                 D, 0, NULL);
    e->kernels->rmsnorm_backward(raw + Q, D, dqkv + Q, D, c->n_kv_heads, (int)D, w->k_norm,
                                 c->norm_eps, dqkv + Q, D, 0, NULL);
}

/* The last layer's gradient is that of its active rows. */
static void spread_active(struct siren_forest *f, int r0, int n)
{
    struct backward *b = f->back;
    size_t d = (size_t)f->engine->model->config.d_model;
    for (int r = r0; r < r0 + n; r++) {
        float *dx = b->dx + (size_t)r * d;
        if (b->active_of_row[r] >= 0)
            memcpy(dx, b->dx_active + (size_t)b->active_of_row[r] * d, d * sizeof(float));
        else
            memset(dx, 0, d * sizeof(float));
    }
}

static void block_qkv_back(struct siren_forest *f, struct thread_scratch *t, struct back_scratch *b,
                           int layer, const struct rows *v, int r0, int n)
{
    const struct kernels *k = f->engine->kernels;
    const struct siren_config *c = &f->engine->model->config;
    const struct layer_weights *w = &f->engine->model->layers[layer];
    size_t d = (size_t)c->d_model, width = (size_t)config_qkv_width(c);
    struct rows all = all_rows(f);
    float *dqkv = f->back->dqkv + (size_t)r0 * width, *dx = f->back->dx + (size_t)r0 * d;
    const float *x = f->tape[layer].x + (size_t)r0 * d, *in = NULL;
    int whole = depth_at(f, layer) == BACK_WHOLE;
    for (int i = 0; i < n; i++) {
        gather_dqkv(f, v, r0 + i, dqkv + (size_t)i * width);
        unrotate(f, b, layer, r0 + i, dqkv + (size_t)i * width);
    }
    if (input_wanted(f, layer, LORA_ATTENTION_INPUT)) {
        k->rmsnorm(x, d, n, c->d_model, w->attention_norm, c->norm_eps, t->normed, d);
        keep_rows(f, LORA_ATTENTION_INPUT, &all, r0, n, t->normed);
        in = t->normed;
    }
    if (whole)
        k->gemm_dx(dqkv, width, n, &w->qkv, 0, input_panels(&w->qkv), b->dnormed, d, 0, t->gemm);
    lora_back(f, t, b, layer, LORA_ATTENTION_INPUT, &all, r0, n, in, d, dqkv, width,
              whole ? b->dnormed : NULL, d);
    if (!whole) return;
    if (f->back->weights)
        memcpy(f->back->dattention_normed + (size_t)r0 * d, b->dnormed,
               (size_t)n * d * sizeof(float));
    if (v->list) spread_active(f, r0, n);
    k->rmsnorm_backward(x, d, b->dnormed, d, n, c->d_model, w->attention_norm, c->norm_eps, dx, d,
                        1, NULL);
}

static void phase_qkv(struct siren_forest *f, int thread, int layer, const struct rows *v,
                      atomic_long *cursor)
{
    struct thread_scratch *t = &f->scratch[thread];
    for (struct row_block r; claim_rows(f, f->T, cursor, &r);)
        block_qkv_back(f, t, &f->back->scratch[thread], layer, v, r.first, r.n);
}

/* ---- the whole ---- */

/* The rows of a layer whose outputs' gradients are not 0. */
static struct rows rows_at(const struct siren_forest *f, int layer)
{
    int last = layer == f->engine->model->config.n_layers - 1;
    return last || f->training.layer_local ? active_rows(f) : all_rows(f);
}

/* Where what is computed again goes; what is saved stays. */
static void lend_tape(struct siren_forest *f, int layer)
{
    struct tape_layer again = f->back->again, *tape = &f->tape[layer];
    int last = layer == f->engine->model->config.n_layers - 1;
    tape->attended = again.attended;
    tape->mid = again.mid;
    tape->gates = again.gates;
    if (tape->saved) return;
    tape->raw = again.raw;
    tape->q = last || f->training.layer_local ? NULL : again.q;
}

static void layer_again(struct siren_forest *f, int thread, int layer, const struct rows *v,
                        atomic_long *cursors)
{
    struct thread_scratch *t = &f->scratch[thread];
    struct siren_pool *pool = f->engine->pool;
    if (thread == 0) lend_tape(f, layer);
    siren_pool_barrier(pool);
    if (!f->tape[layer].saved) {
        for (struct row_block r; claim_rows(f, f->T, &cursors[0], &r);)
            pass_qkv_again(f, t, layer, r.first, r.n);
        siren_pool_barrier(pool);
    }
    for (struct row_block r; claim_rows(f, v->n, &cursors[1], &r);)
        pass_layer_again(f, t, layer, v, r.first, r.n);
    siren_pool_barrier(pool);
}

/* The sums over rows that wait: of this layer, and of the QKV projection of the layer above. */
static void phase_tasks(struct siren_forest *f, int thread, int layer, const struct rows *v,
                        atomic_long *cursor)
{
    const struct siren_config *c = &f->engine->model->config;
    struct back_scratch *b = &f->back->scratch[thread];
    size_t d = (size_t)c->d_model, F = (size_t)config_ffn_stride(c);
    struct back_tasks tasks = {.cursor = cursor, .mine = claim_next(cursor, INT32_MAX)};
    struct rows all = all_rows(f);
    if (layer >= f->back->lowest) {
        if (depth_at(f, layer) >= BACK_ATTENTION) attention_tasks(f, b, layer, v, &tasks);
        lora_gradients(f, b, layer, LORA_O_INPUT, v, gradient_of(f, v), d, &tasks);
        if (f->back->dgates)
            lora_gradients(f, b, layer, LORA_FFN_INPUT, v, f->back->dgates, 2 * F, &tasks);
        if (f->back->dffn_out)
            lora_gradients(f, b, layer, LORA_DOWN_INPUT, v, f->back->dffn_out, d, &tasks);
        if (f->back->weights) weight_gradients(f, b, layer, v, &tasks);
    }
    if (layer + 1 < c->n_layers)
        lora_gradients(f, b, layer + 1, LORA_ATTENTION_INPUT, &all, f->back->dqkv,
                       (size_t)config_qkv_width(c), &tasks);
    if (f->back->weights && layer + 1 < c->n_layers) qkv_gradients(f, b, layer + 1, &tasks);
    if (f->back->weights && layer < 0) embedding_gradient(f, &tasks);
}

struct back_run {
    struct siren_forest *forest;
    const volatile int *cancel;
    atomic_int cancel_layer; /* before which all threads stop; -1: none */
};

/* Barrier before a layer; 1: the caller asked to stop. */
static int begin_layer(struct back_run *run, int thread, int layer)
{
    if (thread == 0 && run->cancel && *run->cancel) atomic_store(&run->cancel_layer, layer);
    siren_pool_barrier(run->forest->engine->pool);
    return atomic_load(&run->cancel_layer) == layer;
}

static void backward_thread(void *context, int thread, int n_threads)
{
    struct back_run *run = context;
    struct siren_forest *f = run->forest;
    struct backward *b = f->back;
    struct siren_pool *pool = f->engine->pool;
    atomic_long *cursor = b->cursors;
    int n_layers = f->engine->model->config.n_layers;
    back_outputs(f, thread, n_threads, &cursor);
    for (int layer = n_layers - 1; layer >= b->lowest; layer--, cursor += LAYER_PHASES) {
        struct rows v = rows_at(f, layer);
        int local = f->training.layer_local, trained = depth_at(f, layer) != BACK_NONE;
        if (begin_layer(run, thread, layer)) return;
        if (trained && (local || !f->tape[layer].saved)) layer_again(f, thread, layer, &v, cursor);
        if (!local && layer < n_layers - 1 && f->tape[layer].q) v.q = f->tape[layer].q;
        if (trained) phase_blocks(f, thread, layer, &v, &cursor[2]);
        siren_pool_barrier(pool);
        phase_tasks(f, thread, layer, &v, &cursor[3]);
        if (depth_at(f, layer) < BACK_ATTENTION) continue;
        siren_pool_barrier(pool);
        phase_qkv(f, thread, layer, &v, &cursor[4]);
    }
    siren_pool_barrier(pool);
    struct rows all = all_rows(f);
    phase_tasks(f, thread, b->lowest - 1, &all, cursor);
}

int siren_forest_backward(struct siren_forest *f, const volatile int *cancel)
{
    if (!f->done || !f->tape) return SIREN_EINVAL;
    struct back_run run = {.forest = f, .cancel = cancel, .cancel_layer = -1};
    for (size_t i = 0; i < f->back->n_cursors; i++) atomic_store(&f->back->cursors[i], 0);
    write_unwritten(f);
    siren_pool_run(f->engine->pool, backward_thread, &run);
    f->done = 0; /* the tape is used up */
    if (atomic_load(&run.cancel_layer) >= 0) return SIREN_ECANCEL;
    all_written(f);
    return SIREN_OK;
}
