/* The backward pass from the outputs to the last layer: final norm, logits, log-probabilities. */
#include <string.h>

#include "model/backward.h"

/* Panels of 16 columns of a state that one task takes. */
enum { OUTPUT_PANELS = 4, OUTPUT_PHASES = 1, CHUNK_PHASES = 4 };

static int n_chunks(const struct siren_forest *f)
{
    return f->chunk_rows ? (f->n_logprob_rows + f->chunk_rows - 1) / f->chunk_rows : 0;
}

size_t back_output_cursors(const struct siren_forest *f)
{
    return OUTPUT_PHASES + CHUNK_PHASES * (size_t)n_chunks(f);
}

/* to[rows[i]] += from[i] (or rows i where rows is NULL) for columns [c0, c1). */
static void add_rows(float *to, const float *from, const int *rows, int n, size_t d, size_t c0,
                     size_t c1)
{
    for (int i = 0; i < n; i++) {
        float *y = to + (size_t)rows[i] * d;
        for (size_t c = c0; c < c1; c++) y[c] += from[(size_t)i * d + c];
    }
}

/* Final hidden states, for columns [c0, c1). */
static void final_states(struct siren_forest *f, size_t c0, size_t c1)
{
    int n_layers = f->engine->model->config.n_layers;
    size_t d = (size_t)f->engine->model->config.d_model;
    for (int i = f->hidden_start[n_layers]; i < f->hidden_start[n_layers + 1]; i++) {
        const struct request *q = &f->requests[f->hidden_order[i]];
        add_rows(f->back->dstates, f->back->gradients + q->offset, &q->compact, 1, d, c0, c1);
    }
}

/* One set's logits, for panels [p0, p1) of the states. */
static void set_states(struct siren_forest *f, int set, int p0, int p1, size_t c0, size_t c1,
                       float *scratch)
{
    const struct siren_model *m = f->engine->model;
    const struct row_set *s = &f->sets[set];
    const struct packed *w = s->rows ? &s->weights : &m->head;
    struct backward *b = f->back;
    size_t d = (size_t)m->config.d_model;
    for (size_t i = 0; i < f->n_requests; i++) {
        const struct request *q = &f->requests[i];
        if (q->layer >= 0 || q->row_set != set) continue;
        f->engine->kernels->gemm_dx(b->gradients + q->offset, s->n_rows, 1, w, p0, p1,
                                    b->output_rows + c0, d, 0, scratch);
        add_rows(b->dstates, b->output_rows, &q->compact, 1, d, c0, c1);
    }
}

/* Everything but log-probabilities: a task has some columns of all rows. */
static void plain_outputs(struct siren_forest *f, int thread, atomic_long *cursor)
{
    size_t d = (size_t)f->engine->model->config.d_model;
    struct backward *b = f->back;
    int n_panels = (int)panels_for(d), tasks = (n_panels + OUTPUT_PANELS - 1) / OUTPUT_PANELS;
    for (long task; (task = claim_next(cursor, tasks)) >= 0;) {
        int p0 = (int)task * OUTPUT_PANELS, p1 = p0 + OUTPUT_PANELS;
        if (p1 > n_panels) p1 = n_panels;
        size_t c0 = (size_t)p0 * 16, c1 = (size_t)p1 * 16 < d ? (size_t)p1 * 16 : d;
        for (int i = 0; i < f->n_active; i++)
            memset(b->dstates + (size_t)i * d + c0, 0, (c1 - c0) * sizeof(float));
        final_states(f, c0, c1);
        for (size_t set = 0; set < f->n_sets; set++)
            if (f->sets[set].n_requests)
                set_states(f, (int)set, p0, p1, c0, c1, f->scratch[thread].gemm);
        if (b->weights) head_set_gradient(f, c0, c1);
    }
}

/* ---- log-probabilities: a chunk of rows at a time ---- */

/* One row's logits x become their gradient, that of all its requests. */
static void row_gradient(struct siren_forest *f, struct thread_scratch *t, int row, float *x)
{
    const struct kernels *k = f->engine->kernels;
    size_t V = (size_t)f->engine->model->config.n_vocab;
    int written = 0, first = f->logprob_first[row], end = f->logprob_first[row + 1];
    float *sum = end - first > 1 ? t->extra : x; /* others read x after the first */
    for (int i = first; i < end; i++) {
        int index = f->logprob_order[i];
        const struct request *r = &f->requests[index];
        const float *g = f->back->gradients + r->offset;
        float entropy = f->outputs[r->offset + 1], T = r->temperature;
        if (g[0] == 0 && g[1] == 0) continue;
        const float *logits = tempered(f, t, x, T);
        k->softmax_backward(logits, V, f->back->logprob_lse[index], r->target, g[0] / T, entropy,
                            g[1] / T, written ? sum + V : sum);
        if (written) k->add(sum, sum + V, V);
        written = 1;
    }
    if (!written)
        memset(x, 0, V * sizeof(float));
    else if (sum != x)
        memcpy(x, sum, V * sizeof(float));
}

/* Rows of a task, at most and, if some threads would be idle, at least.  A task has all columns of
 * the states, so that its rows' gradients are read, and in mode bf16 rounded, once; only if even
 * the least rows leave threads idle are there tasks of fewer columns.  256 is what gemm_dx takes of
 * a vocabulary's rows at once. */
enum { CHUNK_MOST = 256, CHUNK_LEAST = 96 };

static int ceiling(int a, int b)
{
    return (a + b - 1) / b;
}

static int chunk_blocks(int n, int n_threads)
{
    int blocks = ceiling(n, CHUNK_MOST), able = n / CHUNK_LEAST;
    if (blocks >= n_threads) return ceiling(blocks, n_threads) * n_threads;
    if (able >= n_threads) return n_threads;
    return able > blocks ? able : blocks;
}

static void chunk_states(struct siren_forest *f, int thread, int first, int n, atomic_long *cursor)
{
    const struct siren_model *m = f->engine->model;
    struct backward *b = f->back;
    int n_threads = siren_pool_threads(f->engine->pool);
    size_t d = (size_t)m->config.d_model, V = (size_t)m->config.n_vocab;
    int blocks = chunk_blocks(n, n_threads), rows = ceiling(n, blocks);
    int n_panels = ceiling((int)d, 16), group = ceiling(n_panels, ceiling(n_threads, blocks));
    group = ceiling(group, 2) * 2; /* the products take two panels at a time */
    int groups = ceiling(n_panels, group);
    for (long task; (task = claim_next(cursor, (long)blocks * groups)) >= 0;) {
        int r0 = (int)task / groups * rows, p0 = (int)task % groups * group, p1 = p0 + group;
        int more = n - r0 < rows ? n - r0 : rows;
        if (more <= 0) continue;
        if (p1 > n_panels) p1 = n_panels;
        size_t c0 = (size_t)p0 * 16, c1 = (size_t)p1 * 16 < d ? (size_t)p1 * 16 : d;
        float *states = b->output_rows + (size_t)r0 * d;
        f->engine->kernels->gemm_dx(f->logprob_logits + (size_t)r0 * V, V, more, &m->head, p0, p1,
                                    states + c0, d, 0, f->scratch[thread].gemm);
        add_rows(b->dstates, states, f->logprob_compact + first + r0, more, d, c0, c1);
    }
}

/* Where one chunk holds all rows, states and logits are there from the forward pass. */
static void logprob_outputs(struct siren_forest *f, int thread, atomic_long **cursor)
{
    size_t V = (size_t)f->engine->model->config.n_vocab;
    struct siren_pool *pool = f->engine->pool;
    for (int first = 0, n; first < f->n_logprob_rows; first += n) {
        n = f->n_logprob_rows - first;
        if (n > f->chunk_rows) n = f->chunk_rows;
        if (n < f->n_logprob_rows) {
            if (thread == 0) gather_logprob_states(f, first, n);
            siren_pool_barrier(pool);
            logprob_chunk(f, thread, n, *cursor);
            siren_pool_barrier(pool);
        }
        ++*cursor;
        for (long i; (i = claim_next(*cursor, n)) >= 0;)
            row_gradient(f, &f->scratch[thread], first + (int)i, f->logprob_logits + (size_t)i * V);
        ++*cursor;
        head_keep_states(f, thread, n);
        siren_pool_barrier(pool);
        chunk_states(f, thread, first, n, (*cursor)++);
        head_chunk_gradient(f, &f->back->scratch[thread], first, n, (*cursor)++);
    }
}

void back_outputs(struct siren_forest *f, int thread, int n_threads, atomic_long **cursor)
{
    const struct siren_model *m = f->engine->model;
    struct backward *b = f->back;
    size_t d = (size_t)m->config.d_model;
    plain_outputs(f, thread, (*cursor)++);
    logprob_outputs(f, thread, cursor);
    siren_pool_barrier(f->engine->pool);
    if (b->weights && thread == 0) final_norm_gradient(f, &b->scratch[0]);
    for (int i = thread; i < f->n_active; i += n_threads) /* rows are independent */
        f->engine->kernels->rmsnorm_backward(
            b->last + (size_t)i * d, d, b->dstates + (size_t)i * d, d, 1, m->config.d_model,
            m->final_norm, m->config.norm_eps, b->dx_active + (size_t)i * d, d, 0, NULL);
    siren_pool_barrier(f->engine->pool);
}
