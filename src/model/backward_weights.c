/* Gradients of a model's own weights: sums over all rows of the pass, one chain for each number. */
#include <string.h>

#include "model/backward.h"

enum { EMBEDDING_COLUMNS = 64 };

/* A product's output gradients dy (n, ldy), sixteen of its columns every `apart` numbers, and its
 * inputs as they were kept.  further: not the first of this pass for its weight. */
struct product {
    const float *dy, *kept;
    size_t ldy;
    int apart, n, further;
};

/* A norm's output gradients dy (n, ldy) and inputs x (n, ldx). */
struct normed {
    const float *dy, *x;
    size_t ldy, ldx;
    int n;
};

/* grad (rows, K) += dyᵀ x, or, where nothing is written yet, =. */
static void matrix_gradient(struct siren_forest *f, struct back_scratch *b, const struct product *p,
                            const struct master *m, struct back_tasks *tasks)
{
    int rows = (int)m->tensor.shape[0], K = (int)m->tensor.shape[1];
    for (int row = 0; row < rows; row += WEIGHT_ROWS)
        if (back_task(tasks))
            f->engine->kernels->gemm_dw(p->dy, p->ldy, p->apart, p->kept, p->n, row,
                                        rows - row < WEIGHT_ROWS ? rows : row + WEIGHT_ROWS, K,
                                        m->grad, (size_t)K, p->further || !m->unwritten, b->dw);
}

static void bias_gradient(struct siren_forest *f, const struct product *p, const struct master *m,
                          struct back_tasks *tasks)
{
    if (m && back_task(tasks))
        f->engine->kernels->column_sums(p->dy, p->ldy, p->n, (int)m->tensor.shape[0], m->grad);
}

/* The weight of an RMSNorm of x, n rows one behind the other. */
static void norm_gradient(struct siren_forest *f, struct back_scratch *b, const struct normed *p,
                          const float *weight, const struct master *m)
{
    const struct siren_config *c = &f->engine->model->config;
    f->engine->kernels->rmsnorm_backward(p->x, p->ldx, p->dy, p->ldy, p->n, (int)m->tensor.shape[0],
                                         weight, c->norm_eps, b->row, 0, 0, m->grad);
}

static const struct master *trained(const struct siren_forest *f, int layer,
                                    enum model_tensor which)
{
    return master_find(f->engine->model, layer, which);
}

/* 1: matrix_gradient() writes all of the head's, before anything else is added. */
static int head_written_whole(const struct siren_forest *f)
{
    for (size_t i = 0; i < f->n_requests; i++)
        if (f->requests[i].layer < 0 && f->requests[i].row_set != LOGPROB) return 0;
    return f->n_logprob_rows > 0;
}

/* The same of a weight; layers below the lowest get no gradient. */
static int written_whole(const struct siren_forest *f, int layer, int which, const struct master *w)
{
    int tied = f->engine->model->config.tied_head;
    if (which == (tied ? MODEL_TOKEN_EMBEDDING : MODEL_HEAD)) return head_written_whole(f);
    return model_is_layer_tensor((enum model_tensor)which) && w->tensor.n_dims == 2 &&
           layer >= f->back->lowest && f->n_active > 0;
}

/* The next of them, from *i on, that needs zeros; NULL: none. */
static struct master *next_unwritten(const struct siren_forest *f, int *i)
{
    const struct siren_model *m = f->engine->model;
    int n = m->config.n_layers * MODEL_TENSORS;
    for (; *i < n; ++*i) {
        struct master *w = &m->masters[*i];
        if (w->value && w->unwritten &&
            !written_whole(f, *i / MODEL_TENSORS, *i % MODEL_TENSORS, w))
            return w;
    }
    return NULL;
}

static void write_zeros(void *context, int thread, int n_threads)
{
    const struct siren_forest *f = context;
    struct master *w;
    for (int i = 0; (w = next_unwritten(f, &i)); i++) {
        size_t n = w->tensor.bytes / sizeof *w->grad, from = n * (size_t)thread / (size_t)n_threads,
               to = n * (size_t)(thread + 1) / (size_t)n_threads;
        memset(w->grad + from, 0, (to - from) * sizeof *w->grad);
    }
}

void write_unwritten(struct siren_forest *f)
{
    struct master *w;
    if (!f->back->weights) return;
    siren_pool_run(f->engine->pool, write_zeros, f);
    for (int i = 0; (w = next_unwritten(f, &i)); i++) w->unwritten = 0;
}

void all_written(struct siren_forest *f)
{
    const struct siren_model *m = f->engine->model;
    size_t n = (size_t)m->config.n_layers * MODEL_TENSORS;
    for (size_t i = 0; f->back->weights && i < n; i++) m->masters[i].unwritten = 0;
}

void weight_gradients(struct siren_forest *f, struct back_scratch *b, int layer,
                      const struct rows *v, struct back_tasks *tasks)
{
    const struct siren_config *c = &f->engine->model->config;
    const struct layer_weights *w = &f->engine->model->layers[layer];
    const struct backward *back = f->back;
    size_t d = (size_t)c->d_model, F = (size_t)config_ffn_stride(c);
    if (!trained(f, layer, MODEL_Q)) return;
    const float *dmid = v->list ? back->dx_active : back->dx;
    struct product out = {dmid, back->kept[LORA_O_INPUT], d, 16, v->n, 0};
    struct product gate = {back->dgates, back->kept[LORA_FFN_INPUT], 2 * F, 32, v->n, 0};
    struct product up = {back->dgates + 16, gate.kept, 2 * F, 32, v->n, 0};
    struct product down = {back->dffn_out, back->kept[LORA_DOWN_INPUT], d, 16, v->n, 0};
    struct normed norm = {back->dffn_normed, f->tape[layer].mid, d, d, v->n};
    matrix_gradient(f, b, &gate, trained(f, layer, MODEL_GATE), tasks);
    matrix_gradient(f, b, &up, trained(f, layer, MODEL_UP), tasks);
    matrix_gradient(f, b, &down, trained(f, layer, MODEL_DOWN), tasks);
    matrix_gradient(f, b, &out, trained(f, layer, MODEL_O), tasks);
    bias_gradient(f, &out, trained(f, layer, MODEL_O_BIAS), tasks);
    if (back_task(tasks))
        norm_gradient(f, b, &norm, w->ffn_norm, trained(f, layer, MODEL_FFN_NORM));
}

/* The weights that all heads of queries (of keys) share: row after row, head after head. */
static void head_norm_gradient(struct siren_forest *f, struct back_scratch *b, int column,
                               int n_heads, const float *weight, const struct master *m)
{
    const struct siren_config *c = &f->engine->model->config;
    size_t width = (size_t)config_qkv_width(c), D = (size_t)c->head_dim;
    for (int r = 0; r < f->T; r++) {
        size_t at = (size_t)r * width + (size_t)column;
        struct normed p = {f->back->dnormed_heads + at, f->back->raw_heads + at, D, D, n_heads};
        norm_gradient(f, b, &p, weight, m);
    }
}

void qkv_gradients(struct siren_forest *f, struct back_scratch *b, int layer,
                   struct back_tasks *tasks)
{
    static const enum model_tensor matrices[3] = {MODEL_Q, MODEL_K, MODEL_V};
    static const enum model_tensor biases[3] = {MODEL_Q_BIAS, MODEL_K_BIAS, MODEL_V_BIAS};
    const struct siren_config *c = &f->engine->model->config;
    const struct layer_weights *w = &f->engine->model->layers[layer];
    const struct backward *back = f->back;
    size_t d = (size_t)c->d_model, width = (size_t)config_qkv_width(c);
    int first[3] = {0, config_q_width(c), config_q_width(c) + config_kv_width(c)};
    if (!trained(f, layer, MODEL_Q)) return;
    for (int i = 0; i < 3; i++) {
        struct product p = {
            back->dqkv + first[i], back->kept[LORA_ATTENTION_INPUT], width, 16, f->T, 0};
        matrix_gradient(f, b, &p, trained(f, layer, matrices[i]), tasks);
        bias_gradient(f, &p, trained(f, layer, biases[i]), tasks);
    }
    struct normed norm = {back->dattention_normed, f->tape[layer].x, d, d, f->T};
    if (back_task(tasks))
        norm_gradient(f, b, &norm, w->attention_norm, trained(f, layer, MODEL_ATTN_NORM));
    if (!c->qk_norm) return;
    if (back_task(tasks))
        head_norm_gradient(f, b, 0, c->n_heads, w->q_norm, trained(f, layer, MODEL_Q_NORM));
    if (back_task(tasks))
        head_norm_gradient(f, b, first[1], c->n_kv_heads, w->k_norm,
                           trained(f, layer, MODEL_K_NORM));
}

void embedding_gradient(struct siren_forest *f, struct back_tasks *tasks)
{
    const struct master *m = trained(f, 0, MODEL_TOKEN_EMBEDDING);
    size_t d = (size_t)f->engine->model->config.d_model;
    for (size_t c0 = 0; m && c0 < d; c0 += EMBEDDING_COLUMNS) {
        size_t c1 = d - c0 < EMBEDDING_COLUMNS ? d : c0 + EMBEDDING_COLUMNS;
        if (!back_task(tasks)) continue;
        for (int i = f->hidden_start[0]; i < f->hidden_start[1]; i++) {
            const struct request *q = &f->requests[f->hidden_order[i]];
            float *dx = f->back->dx + (size_t)q->row * d;
            const float *g = f->back->gradients + q->offset;
            for (size_t c = c0; c < c1; c++) dx[c] += g[c];
        }
        for (int r = 0; r < f->T; r++) {
            const struct segment *s = &f->segments[f->row_segment[r]];
            size_t id = (size_t)f->ids[s->first_id + (size_t)(f->row_position[r] - s->start)];
            const float *dx = f->back->dx + (size_t)r * d;
            for (size_t c = c0; c < c1; c++) m->grad[id * d + c] += dx[c];
        }
    }
}

/* ---- the head ---- */

void head_keep_states(struct siren_forest *f, int thread, int n)
{
    size_t d = (size_t)f->engine->model->config.d_model;
    int from, to;
    if (!f->back->weights || !trained(f, 0, MODEL_HEAD)) return;
    share(n, thread, siren_pool_threads(f->engine->pool), &from, &to);
    f->engine->kernels->keep_inputs(f->logprob_states + (size_t)from * d, d, from, to - from, n,
                                    (int)d, f->back->kept_states);
}

void head_chunk_gradient(struct siren_forest *f, struct back_scratch *b, int first, int n,
                         atomic_long *cursor)
{
    const struct master *m = f->back->weights ? trained(f, 0, MODEL_HEAD) : NULL;
    size_t V = (size_t)f->engine->model->config.n_vocab;
    if (!m) return;
    struct product p = {f->logprob_logits, f->back->kept_states, V, 16, n, first > 0};
    struct back_tasks tasks = {.cursor = cursor, .mine = claim_next(cursor, INT32_MAX)};
    matrix_gradient(f, b, &p, m, &tasks);
}

void head_set_gradient(struct siren_forest *f, size_t c0, size_t c1)
{
    const struct master *m = trained(f, 0, MODEL_HEAD);
    size_t d = (size_t)f->engine->model->config.d_model;
    struct rows v = active_rows(f);
    for (size_t i = 0; m && i < f->n_requests; i++) {
        const struct request *q = &f->requests[i];
        if (q->layer >= 0 || q->row_set == LOGPROB) continue;
        const struct row_set *s = &f->sets[q->row_set];
        const float *g = f->back->gradients + q->offset, *x = v.x + (size_t)q->compact * d;
        for (size_t j = 0; j < s->n_rows; j++) {
            float *grad = m->grad + (s->rows ? (size_t)s->rows[j] : j) * d;
            for (size_t c = c0; c < c1; c++) grad[c] += g[j] * x[c];
        }
    }
}

void final_norm_gradient(struct siren_forest *f, struct back_scratch *b)
{
    const struct siren_model *model = f->engine->model;
    const struct master *m = trained(f, 0, MODEL_FINAL_NORM);
    size_t d = (size_t)model->config.d_model;
    struct normed p = {f->back->dstates, f->back->last, d, d, f->n_active};
    if (m) norm_gradient(f, b, &p, model->final_norm, m);
}
