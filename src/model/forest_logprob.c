/* Log-probabilities and entropies: the whole vocabulary's logits of a chunk of rows at a time. */
#include <stdlib.h>
#include <string.h>

#include "model/backward.h"

static int by_compact(const void *a, const void *b, void *forest)
{
    const struct request *all = ((const struct siren_forest *)forest)->requests;
    int x = *(const int *)a, y = *(const int *)b;
    if (all[x].compact != all[y].compact) return all[x].compact < all[y].compact ? -1 : 1;
    return (x > y) - (x < y);
}

static int rows_of_chunk(int rows, size_t most)
{
    size_t chunks = ((size_t)rows + most - 1) / most;
    return chunks ? (int)(((size_t)rows + chunks - 1) / chunks) : 0;
}

void order_logprobs(struct siren_forest *f)
{
    int n = 0, rows = 0;
    for (size_t i = 0; i < f->n_requests; i++)
        if (f->requests[i].layer < 0 && f->requests[i].row_set == LOGPROB)
            f->logprob_order[n++] = (int)i;
    qsort_r(f->logprob_order, (size_t)n, sizeof *f->logprob_order, by_compact, f);
    for (int i = 0; i < n; i++) {
        int compact = f->requests[f->logprob_order[i]].compact;
        if (rows && f->logprob_compact[rows - 1] == compact) continue;
        f->logprob_compact[rows] = compact;
        f->logprob_first[rows++] = i;
    }
    f->logprob_first[rows] = n;
    f->n_logprob_rows = rows;
    f->chunk_rows = rows_of_chunk(rows, f->most_rows);
}

/* All requests of one row, whose logits are x. */
static void finish_row(struct siren_forest *f, struct thread_scratch *t, int row, const float *x)
{
    const struct kernels *k = f->engine->kernels;
    size_t V = (size_t)f->engine->model->config.n_vocab;
    for (int i = f->logprob_first[row]; i < f->logprob_first[row + 1]; i++) {
        const struct request *r = &f->requests[f->logprob_order[i]];
        const float *logits = tempered(f, t, x, r->temperature);
        float normalizer = k->logsumexp(logits, V), *out = f->outputs + r->offset;
        if (f->tape) f->back->logprob_lse[f->logprob_order[i]] = normalizer;
        out[0] = logits[r->target] - normalizer;
        out[1] = k->entropy(logits, V, normalizer);
    }
}

void gather_logprob_states(struct siren_forest *f, int first, int n)
{
    size_t d = (size_t)f->engine->model->config.d_model;
    struct rows v = active_rows(f);
    for (int i = 0; i < n; i++)
        memcpy(f->logprob_states + (size_t)i * d, v.x + (size_t)f->logprob_compact[first + i] * d,
               d * sizeof(float));
}

void logprob_chunk(struct siren_forest *f, int thread, int n, atomic_long *cursor)
{
    const struct siren_model *m = f->engine->model;
    size_t d = (size_t)m->config.d_model, V = (size_t)m->config.n_vocab;
    int panels = logit_panels(f, m->head.n_panels);
    long chunks = (m->head.n_panels + panels - 1) / panels;
    for (long c; (c = claim_next(cursor, chunks)) >= 0;) {
        int p0 = (int)c * panels, p1 = p0 + panels;
        if (p1 > m->head.n_panels) p1 = m->head.n_panels;
        f->engine->kernels->gemm(f->logprob_states, d, n, &m->head, p0, p1, NULL,
                                 f->logprob_logits + (size_t)p0 * 16, V, 0,
                                 f->scratch[thread].gemm);
    }
}

const float *tempered(const struct siren_forest *f, struct thread_scratch *t, const float *x,
                      float temperature)
{
    size_t V = (size_t)f->engine->model->config.n_vocab;
    if (temperature == 1) return x;
    for (size_t v = 0; v < V; v++) t->scaled[v] = x[v] / temperature;
    return t->scaled;
}

void emit_logprobs(struct pass_run *run, int thread)
{
    struct siren_forest *f = run->forest;
    size_t V = (size_t)f->engine->model->config.n_vocab;
    for (int first = 0, n; first < f->n_logprob_rows; first += n) {
        n = f->n_logprob_rows - first;
        if (n > f->chunk_rows) n = f->chunk_rows;
        if (thread == 0) {
            gather_logprob_states(f, first, n);
            atomic_store(&run->cursors[0], 0);
            atomic_store(&run->cursors[1], 0);
        }
        siren_pool_barrier(f->engine->pool);
        logprob_chunk(f, thread, n, &run->cursors[0]);
        siren_pool_barrier(f->engine->pool);
        for (long i; (i = claim_next(&run->cursors[1], n)) >= 0;)
            finish_row(f, &f->scratch[thread], first + (int)i, f->logprob_logits + (size_t)i * V);
        siren_pool_barrier(f->engine->pool);
    }
}
