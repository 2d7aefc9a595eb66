/* Running a planned pass.  Nothing here allocates or fails.
 *
 * Wide passes (many rows): a task is a block of rows.  In layer l it attends,
 * projects, runs the FFN, and goes straight on to the queries, keys and values
 * of layer l + 1, while its rows are in cache; keys and values go to the other
 * half of the scratch pages, so one barrier a layer is enough.
 *
 * Narrow passes (a decode step): all threads work on the same product, each on
 * its own columns, with a barrier after each.  An output element is the same
 * sequence of operations either way. */
#include <string.h>

#include "model/backward.h"

/* ---- embedding ---- */

static void embed_row(const struct siren_forest *f, int r)
{
    const struct siren_model *m = f->engine->model;
    const struct siren_config *c = &m->config;
    const struct segment *s = &f->segments[f->row_segment[r]];
    int position = f->row_position[r];
    int64_t id = f->ids[s->first_id + (size_t)(position - s->start)], d = c->d_model;
    float *x = f->x + (size_t)r * (size_t)d;
    tensor_dequantize(m->embedding, id * d, d, x);
    if (!siren_is_encoder(c)) return;
    const struct kernels *k = f->engine->kernels;
    k->add(x, m->token_type, (size_t)d);
    k->add(x, m->positions + (size_t)(position + c->position_offset) * (size_t)d, (size_t)d);
    k->layernorm(x, (size_t)d, 1, (int)d, m->embedding_norm, m->embedding_norm_bias, c->norm_eps, x,
                 (size_t)d);
}

/* ---- hidden-state outputs ---- */

/* Rows [r0, r1) of x hold the state after `layer` layers: copy what was asked for. */
static void emit_hidden(struct siren_forest *f, int layer, int r0, int r1)
{
    size_t d = (size_t)f->engine->model->config.d_model;
    int low = f->hidden_start[layer], end = f->hidden_start[layer + 1], high = end;
    while (low < high) {
        int middle = (low + high) / 2;
        if (f->requests[f->hidden_order[middle]].row < r0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < end && f->requests[f->hidden_order[low]].row < r1; low++) {
        const struct request *q = &f->requests[f->hidden_order[low]];
        memcpy(f->outputs + q->offset, f->x + (size_t)q->row * d, d * sizeof(float));
    }
}

/* ---- queries, keys, values ---- */

/* One row of qkv (bias added): norm, rotate, keep the query. */
static void finish_qkv_row(struct siren_forest *f, int layer, int r, float *qkv)
{
    const struct siren_engine *e = f->engine;
    const struct kernels *k = e->kernels;
    const struct siren_config *c = &e->model->config;
    const struct layer_weights *w = &e->model->layers[layer];
    size_t D = (size_t)c->head_dim, Q = (size_t)config_q_width(c);
    int heads = c->n_heads + c->n_kv_heads;
    float *keys = qkv + Q;
    if (w->q_norm) {
        k->rmsnorm(qkv, D, c->n_heads, (int)D, w->q_norm, c->norm_eps, qkv, D);
        k->rmsnorm(keys, D, c->n_kv_heads, (int)D, w->k_norm, c->norm_eps, keys, D);
    }
    if (!siren_is_encoder(c)) {
        size_t at = (size_t)f->row_position[r] * (D / 2);
        for (int h = 0; h < heads; h++)
            k->rope(qkv + (size_t)h * D, (int)D, e->cosines + at, e->sines + at);
    }
    memcpy(f->q + (size_t)r * Q, qkv, Q * sizeof(float));
}

/* Rows from r on, of n, that are neighbours on one page and go to no other. */
static int page_run(const struct siren_forest *f, int r, int n)
{
    const int *first = f->first_destination;
    int page = f->destinations[first[r]], run = 1;
    if (first[r + 1] - first[r] > 1) return 1;
    while (run < n && first[r + run + 1] - first[r + run] == 1 &&
           f->destinations[first[r + run]] == page)
        run++;
    return run;
}

/* Keys and values of rows r0 … r0+n-1 of qkv, once finished, to their pages. */
static void store_pages(const struct siren_forest *f, int layer, int r0, int n, const float *qkv)
{
    const struct kernels *k = f->engine->kernels;
    const struct siren_config *c = &f->engine->model->config;
    size_t D = (size_t)c->head_dim, width = (size_t)config_qkv_width(c);
    for (int r = r0, run; r < r0 + n; r += run) {
        const float *keys = qkv + (size_t)(r - r0) * width + config_q_width(c);
        const float *values = keys + config_kv_width(c);
        int slot = f->row_position[r] % ATTENTION_PAGE;
        run = page_run(f, r, r0 + n - r);
        for (int i = f->first_destination[r]; i < f->first_destination[r + 1]; i++)
            for (int h = 0; h < c->n_kv_heads; h++) {
                float *page = page_data(f, &f->pages[f->destinations[i]], layer, h);
                k->page_store(page, page + key_words((int)D), (int)D, slot, run,
                              keys + (size_t)h * D, width, values + (size_t)h * D, width);
            }
    }
}

/* What children take over from a kept ancestor's partial last page. */
static void copy_kept_pages(struct siren_forest *f, int layer, int thread, int n_threads)
{
    const struct siren_config *c = &f->engine->model->config;
    for (size_t i = (size_t)thread; i < f->n_copies; i += (size_t)n_threads) {
        const struct page_copy *copy = &f->copies[i];
        for (int h = 0; h < c->n_kv_heads; h++) {
            const float *from = page_data(f, &copy->from, layer, h);
            float *to = page_data(f, &f->pages[copy->to], layer, h);
            page_copy(f->engine->kernels, to, from, c->head_dim, copy->n_slots);
        }
    }
}

static void norm_into(const struct siren_forest *f, const float *x, int n, const float *weight,
                      float *out)
{
    const struct siren_config *c = &f->engine->model->config;
    size_t d = (size_t)c->d_model;
    f->engine->kernels->rmsnorm(x, d, n, c->d_model, weight, c->norm_eps, out, d);
}

/* The input of a block's first product: normed (decoder) or as it is (encoder, post-norm). */
static const float *layer_input(const struct siren_forest *f, const float *x, int n,
                                const float *weight, float *out)
{
    if (siren_is_encoder(&f->engine->model->config)) return x;
    norm_into(f, x, n, weight, out);
    return out;
}

/* Post-norm of an encoder: in place, after the residual was added. */
static void post_norm(const struct siren_forest *f, float *x, int n, const float *weight,
                      const float *bias)
{
    const struct siren_config *c = &f->engine->model->config;
    size_t d = (size_t)c->d_model;
    if (siren_is_encoder(c))
        f->engine->kernels->layernorm(x, d, n, c->d_model, weight, bias, c->norm_eps, x, d);
}

static void block_qkv(struct siren_forest *f, struct thread_scratch *t, int layer, int r0, int n)
{
    const struct siren_config *c = &f->engine->model->config;
    const struct layer_weights *w = &f->engine->model->layers[layer];
    size_t d = (size_t)c->d_model, width = (size_t)config_qkv_width(c);
    const float *in = layer_input(f, f->x + (size_t)r0 * d, n, w->attention_norm, t->normed);
    f->engine->kernels->gemm(in, d, n, &w->qkv, 0, w->qkv.n_panels, w->qkv_bias, t->qkv, width, 0,
                             t->gemm);
    struct rows v = all_rows(f);
    lora_add(f, t, layer, LORA_ATTENTION_INPUT, &v, r0, n, in, d, 0, w->qkv.n_panels, t->qkv,
             width);
    struct tape_layer *tape = f->tape ? &f->tape[layer] : NULL;
    if (tape && tape->raw)
        f->engine->kernels->put_away(tape->raw + (size_t)r0 * width, t->qkv, (size_t)n * width);
    for (int i = 0; i < n; i++) finish_qkv_row(f, layer, r0 + i, t->qkv + (size_t)i * width);
    store_pages(f, layer, r0, n, t->qkv);
    size_t Q = (size_t)config_q_width(c);
    if (tape && tape->q)
        f->engine->kernels->put_away(tape->q + (size_t)r0 * Q, f->q + (size_t)r0 * Q,
                                     (size_t)n * Q);
}

/* The tape's copy of a layer's input. */
static void tape_input(struct siren_forest *f, int layer, int r0, int n)
{
    size_t d = (size_t)f->engine->model->config.d_model;
    if (f->tape && f->tape[layer].x)
        f->engine->kernels->put_away(f->tape[layer].x + (size_t)r0 * d, f->x + (size_t)r0 * d,
                                     (size_t)n * d);
}

/* ---- attention ---- */

static const struct segment *segment_of(const struct siren_forest *f, const struct rows *v, int i)
{
    return &f->segments[f->row_segment[row_of(v, i)]];
}

/* Pages [from, to) of a segment, to be read by the kernel from index `at` on. */
static int list_pages(const struct siren_forest *f, struct thread_scratch *t, int layer, int head,
                      const struct segment *s, int from, int to, int at)
{
    size_t values = key_words(f->engine->model->config.head_dim);
    for (int p = from; p < to; p++, at++) {
        t->keys[at] = page_data(f, &f->pages[f->page_table[s->table + p]], layer, head);
        t->values[at] = t->keys[at] + values;
    }
    return at;
}

/* Rows i0 … i0+n-1 of the view for one kv head: a run of rows of one segment, or of neighbouring
 * segments whose first n_shared pages are the same.  out: (n, Q), its row 0 belongs to row i0. */
static void attend_tile(const struct siren_forest *f, struct thread_scratch *t, int layer,
                        const struct rows *v, int i0, int n, int n_shared, int head, float *out)
{
    const struct siren_config *c = &f->engine->model->config;
    size_t D = (size_t)c->head_dim, Q = (size_t)config_q_width(c);
    int group = c->n_heads / c->n_kv_heads, encoder = siren_is_encoder(c), n_branches = 0;
    int listed = list_pages(f, t, layer, head, segment_of(f, v, i0), 0, n_shared, 0);
    for (int i = 0; i < n; i++) {
        const struct segment *s = segment_of(f, v, i0 + i);
        if (i == 0 || s != segment_of(f, v, i0 + i - 1)) {
            int own = s->n_pages > n_shared ? s->n_pages - n_shared : 0;
            t->branches[n_branches++] = (struct attention_branch){0, listed, own};
            listed = list_pages(f, t, layer, head, s, n_shared, n_shared + own, listed);
        }
        t->branches[n_branches - 1].n_rows += group;
        for (int g = 0; g < group; g++) {
            t->offsets[i * group + g] = (size_t)i * Q + (size_t)(head * group + g) * D;
            t->counts[i * group + g] = encoder ? s->end : f->row_position[row_of(v, i0 + i)] + 1;
        }
    }
    f->engine->kernels->attention(v->q + (size_t)i0 * Q, t->offsets, t->counts, n * group, t->keys,
                                  t->values, n_shared, t->branches, n_branches, (int)D,
                                  attention_scale(f), out, t->attention);
}

/* Tokens of the largest tile. */
static int tile_tokens(const struct siren_forest *f)
{
    const struct siren_config *c = &f->engine->model->config;
    int most = ATTENTION_ROWS / (c->n_heads / c->n_kv_heads);
    return most > 1 ? most : 1;
}

/* The longest run of view rows from i, at most so many, and the pages that all of them see.
 * Rows of the next segment join where it shares pages with this one. */
static int tile_length(const struct siren_forest *f, const struct rows *v, int i, int end, int most,
                       int *n_shared)
{
    int n = 1, from = f->row_segment[row_of(v, i)];
    *n_shared = f->segments[from].n_pages;
    for (; n < most && i + n < end; n++) {
        int to = f->row_segment[row_of(v, i + n)], shared = *n_shared;
        for (; from < to; from++) /* segments without a row in the view may lie between */
            if (!f->segments[from + 1].ancestor && f->segments[from + 1].shared_pages < shared)
                shared = f->segments[from + 1].shared_pages;
        if (!shared) break;
        *n_shared = shared;
    }
    return n;
}

/* ---- a block through the rest of its layer ---- */

/* Pairs [p0, p1) of the gated product of view rows [i0, i0 + n): into h (n, F) and, where an
 * adapter adds to gate or up before the activation, by way of gates (n, 2·F).  `taped`: gates are
 * wanted in any case. */
static void gated_pairs(const struct siren_forest *f, struct thread_scratch *t, int layer,
                        const struct rows *v, int i0, int n, const float *in, int p0, int p1,
                        float *h, float *gates, int taped)
{
    const struct kernels *k = f->engine->kernels;
    const struct siren_config *c = &f->engine->model->config;
    const struct packed *w = &f->engine->model->layers[layer].ffn_in;
    size_t d = (size_t)c->d_model, F = (size_t)config_ffn_stride(c);
    h += p0 * 16;
    if (!lora_touches(f, layer, LORA_FFN_INPUT, v, i0, n)) {
        k->gemm_swiglu(in, d, n, w, p0, p1, h, F, taped ? gates + p0 * 32 : NULL, 2 * F, t->gemm);
        return;
    }
    gates += p0 * 32;
    k->gemm(in, d, n, w, 2 * p0, 2 * p1, NULL, gates, 2 * F, 0, t->gemm);
    lora_add(f, t, layer, LORA_FFN_INPUT, v, i0, n, in, d, 2 * p0, 2 * p1, gates, 2 * F);
    k->swiglu(gates, 2 * F, n, p1 - p0, h, F);
}

/* Attention and its projection of view rows [i0, i0 + n), added to x. */
static void block_attention(const struct siren_forest *f, struct thread_scratch *t, int layer,
                            const struct rows *v, int i0, int n)
{
    const struct siren_config *c = &f->engine->model->config;
    const struct layer_weights *w = &f->engine->model->layers[layer];
    const struct tape_layer *tape = f->tape ? &f->tape[layer] : NULL;
    size_t d = (size_t)c->d_model, Q = (size_t)config_q_width(c);
    float *x = v->x + (size_t)i0 * d;
    float *attended = tape && tape->attended ? tape->attended + (size_t)i0 * Q : t->attended;
    for (int h = 0; h < c->n_kv_heads; h++)
        for (int i = i0, m, shared; i < i0 + n; i += m) {
            m = tile_length(f, v, i, i0 + n, tile_tokens(f), &shared);
            attend_tile(f, t, layer, v, i, m, shared, h, attended + (size_t)(i - i0) * Q);
        }
    f->engine->kernels->gemm(attended, Q, n, &w->out, 0, w->out.n_panels, w->out_bias, x, d, 1,
                             t->gemm);
    lora_add(f, t, layer, LORA_O_INPUT, v, i0, n, attended, Q, 0, w->out.n_panels, x, d);
    post_norm(f, x, n, w->attention_norm, w->attention_norm_bias);
    if (tape && tape->mid)
        f->engine->kernels->put_away(tape->mid + (size_t)i0 * d, x, (size_t)n * d);
}

/* The FFN's inner activations of view rows [i0, i0 + n), into t->ffn. */
static void block_ffn_input(const struct siren_forest *f, struct thread_scratch *t, int layer,
                            const struct rows *v, int i0, int n)
{
    const struct kernels *k = f->engine->kernels;
    const struct siren_config *c = &f->engine->model->config;
    const struct layer_weights *w = &f->engine->model->layers[layer];
    const struct tape_layer *tape = f->tape ? &f->tape[layer] : NULL;
    size_t d = (size_t)c->d_model, F = (size_t)config_ffn_stride(c);
    const float *in = layer_input(f, v->x + (size_t)i0 * d, n, w->ffn_norm, t->normed);
    if (siren_is_encoder(c)) {
        k->gemm(in, d, n, &w->ffn_in, 0, w->ffn_in.n_panels, w->ffn_in_bias, t->ffn, F, 0, t->gemm);
        k->gelu(t->ffn, (size_t)n * F);
        return;
    }
    int taped = tape && tape->gates;
    float *gates = taped ? tape->gates + (size_t)i0 * 2 * F : t->gates;
    gated_pairs(f, t, layer, v, i0, n, in, 0, w->ffn_in.n_panels / 2, t->ffn, gates, taped);
}

/* View rows [i0, i0 + n): attention, projection, FFN; x holds the layer's output after. */
static void block_layer(const struct siren_forest *f, struct thread_scratch *t, int layer,
                        const struct rows *v, int i0, int n)
{
    const struct siren_config *c = &f->engine->model->config;
    const struct layer_weights *w = &f->engine->model->layers[layer];
    size_t d = (size_t)c->d_model, F = (size_t)config_ffn_stride(c);
    float *x = v->x + (size_t)i0 * d;
    block_attention(f, t, layer, v, i0, n);
    block_ffn_input(f, t, layer, v, i0, n);
    f->engine->kernels->gemm(t->ffn, F, n, &w->ffn_out, 0, w->ffn_out.n_panels, w->ffn_out_bias, x,
                             d, 1, t->gemm);
    lora_add(f, t, layer, LORA_DOWN_INPUT, v, i0, n, t->ffn, F, 0, w->ffn_out.n_panels, x, d);
    post_norm(f, x, n, w->ffn_norm, w->ffn_norm_bias);
}

/* View rows [i0, i0 + n) of x (T, d) and q (T, Q) side by side, where a layer runs on a few rows
 * only, or its input is on the tape. */
static void gather_active(struct siren_forest *f, const float *x, const float *q,
                          const struct rows *v, int i0, int n)
{
    const struct siren_config *c = &f->engine->model->config;
    size_t d = (size_t)c->d_model, Q = (size_t)config_q_width(c);
    if (x == v->x) return;
    for (int i = i0; i < i0 + n; i++) {
        size_t r = (size_t)row_of(v, i);
        memcpy(f->x_active + (size_t)i * d, x + r * d, d * sizeof(float));
        memcpy(f->q_active + (size_t)i * Q, q + r * Q, Q * sizeof(float));
    }
}

/* ---- parts of a layer once more, for the backward pass (backward.h) ---- */

void pass_qkv_again(struct siren_forest *f, struct thread_scratch *t, int layer, int r0, int n)
{
    size_t d = (size_t)f->engine->model->config.d_model;
    memcpy(f->x + (size_t)r0 * d, f->tape[layer].x + (size_t)r0 * d, (size_t)n * d * sizeof(float));
    block_qkv(f, t, layer, r0, n);
}

void pass_layer_again(struct siren_forest *f, struct thread_scratch *t, int layer,
                      const struct rows *v, int i0, int n)
{
    const struct tape_layer *tape = &f->tape[layer];
    if (tape->saved)
        gather_active(f, tape->x, tape->q, v, i0, n);
    else
        gather_active(f, f->x, f->q, v, i0, n);
    block_attention(f, t, layer, v, i0, n);
    block_ffn_input(f, t, layer, v, i0, n);
}

/* ---- after the last layer ---- */

static void final_norm(const struct siren_forest *f, const struct rows *v, int i0, int n)
{
    const struct siren_model *m = f->engine->model;
    size_t d = (size_t)m->config.d_model;
    float *x = v->x + (size_t)i0 * d;
    if (f->tape) memcpy(f->back->last + (size_t)i0 * d, x, (size_t)n * d * sizeof(float));
    if (m->final_norm) norm_into(f, x, n, m->final_norm, x);
}

/* Final states and logits; the states of all active rows are ready. */
static void emit_final(struct pass_run *run, int thread)
{
    struct siren_forest *f = run->forest;
    const struct siren_model *m = f->engine->model;
    size_t d = (size_t)m->config.d_model;
    struct rows v = active_rows(f);
    if (thread == 0)
        for (int i = f->hidden_start[m->config.n_layers];
             i < f->hidden_start[m->config.n_layers + 1]; i++) {
            const struct request *q = &f->requests[f->hidden_order[i]];
            memcpy(f->outputs + q->offset, v.x + (size_t)(v.list ? q->compact : q->row) * d,
                   d * sizeof(float));
        }
}

static void gather_logit_rows(struct siren_forest *f, int set)
{
    size_t d = (size_t)f->engine->model->config.d_model, n = 0;
    struct rows v = active_rows(f);
    for (size_t i = 0; i < f->n_requests; i++) {
        const struct request *q = &f->requests[i];
        if (q->layer >= 0 || q->row_set != set) continue;
        size_t row = (size_t)(v.list ? q->compact : q->row);
        memcpy(f->logit_rows + d * n++, v.x + row * d, d * sizeof(float));
    }
}

/* Panels [p0, p1) of one set's logits, straight into the outputs where they lie one after the
 * other. */
static void logits_panels(struct siren_forest *f, struct thread_scratch *t, int set, int p0, int p1)
{
    const struct siren_model *m = f->engine->model;
    const struct row_set *s = &f->sets[set];
    const struct packed *w = s->rows ? &s->weights : &m->head;
    size_t d = (size_t)m->config.d_model, done = 0, i = 0;
    while (i < f->n_requests) {
        /* A run of requests of this set whose outputs are evenly spaced is one product. */
        while (i < f->n_requests && (f->requests[i].layer >= 0 || f->requests[i].row_set != set))
            i++;
        if (i == f->n_requests) break;
        size_t first = i, stride = 0;
        for (i++; i < f->n_requests && f->requests[i].layer < 0 && f->requests[i].row_set == set;
             i++)
            stride = f->requests[i].offset - f->requests[i - 1].offset;
        f->engine->kernels->gemm(f->logit_rows + done * d, d, (int)(i - first), w, p0, p1, NULL,
                                 f->outputs + f->requests[first].offset + (size_t)p0 * 16,
                                 stride ? stride : s->n_rows, 0, t->gemm);
        done += i - first;
    }
}

static void emit_logits(struct pass_run *run, int thread, atomic_long *cursors)
{
    struct siren_forest *f = run->forest;
    struct siren_pool *pool = f->engine->pool;
    for (size_t set = 0; set < f->n_sets; set++) {
        if (!f->sets[set].n_requests) continue;
        if (thread == 0) {
            gather_logit_rows(f, (int)set);
            atomic_store(&cursors[0], 0);
        }
        siren_pool_barrier(pool);
        const struct packed *w =
            f->sets[set].rows ? &f->sets[set].weights : &f->engine->model->head;
        int panels = logit_panels(f, w->n_panels);
        long chunks = (w->n_panels + panels - 1) / panels;
        for (long i; (i = claim_next(&cursors[0], chunks)) >= 0;) {
            int p0 = (int)i * panels, p1 = p0 + panels;
            logits_panels(f, &f->scratch[thread], (int)set, p0,
                          p1 < w->n_panels ? p1 : w->n_panels);
        }
        siren_pool_barrier(pool);
    }
}

/* ---- the two schedules ---- */

/* Barrier at the end of a layer; 1: the caller asked to stop. */
static int end_layer(struct pass_run *run, int thread, int layer)
{
    if (thread == 0 && run->cancel && *run->cancel) atomic_store(&run->cancel_layer, layer);
    siren_pool_barrier(run->forest->engine->pool);
    return atomic_load(&run->cancel_layer) == layer;
}

static int wide_pass(struct pass_run *run, int thread, int n_threads)
{
    struct siren_forest *f = run->forest;
    struct thread_scratch *t = &f->scratch[thread];
    int n_layers = f->engine->model->config.n_layers;
    copy_kept_pages(f, 0, thread, n_threads);
    for (struct row_block b; claim_rows(f, f->T, &run->cursors[0], &b);) {
        for (int r = b.first; r < b.first + b.n; r++) embed_row(f, r);
        emit_hidden(f, 0, b.first, b.first + b.n);
        tape_input(f, 0, b.first, b.n);
        block_qkv(f, t, 0, b.first, b.n);
    }
    if (end_layer(run, thread, 0)) return 1;
    for (int l = 0; l < n_layers; l++) {
        int last = l == n_layers - 1;
        struct rows v = last ? active_rows(f) : all_rows(f);
        if (!last) copy_kept_pages(f, l + 1, thread, n_threads);
        for (struct row_block b; claim_rows(f, v.n, &run->cursors[l + 1], &b);) {
            if (last) gather_active(f, f->x, f->q, &v, b.first, b.n);
            block_layer(f, t, l, &v, b.first, b.n);
            if (last) {
                final_norm(f, &v, b.first, b.n);
            } else {
                emit_hidden(f, l + 1, b.first, b.first + b.n);
                tape_input(f, l + 1, b.first, b.n);
                block_qkv(f, t, l + 1, b.first, b.n);
            }
        }
        if (end_layer(run, thread, l + 1)) return 1;
    }
    return 0;
}

static void narrow_qkv(struct pass_run *run, int layer, int thread, int n_threads)
{
    struct siren_forest *f = run->forest;
    struct thread_scratch *t = &f->scratch[thread];
    const struct siren_config *c = &f->engine->model->config;
    const struct layer_weights *w = &f->engine->model->layers[layer];
    size_t d = (size_t)c->d_model, width = (size_t)config_qkv_width(c);
    int p0, p1;
    const float *in = layer_input(f, f->x, f->T, w->attention_norm, t->normed);
    share(w->qkv.n_panels, thread, n_threads, &p0, &p1);
    f->engine->kernels->gemm(in, d, f->T, &w->qkv, p0, p1,
                             w->qkv_bias ? w->qkv_bias + p0 * 16 : NULL, f->qkv + p0 * 16, width, 0,
                             t->gemm);
    struct rows v = all_rows(f);
    lora_add(f, t, layer, LORA_ATTENTION_INPUT, &v, 0, f->T, in, d, p0, p1, f->qkv + p0 * 16,
             width);
    copy_kept_pages(f, layer, thread, n_threads);
    siren_pool_barrier(f->engine->pool);
    for (int r = thread; r < f->T; r += n_threads) {
        float *qkv = f->qkv + (size_t)r * width;
        finish_qkv_row(f, layer, r, qkv);
        store_pages(f, layer, r, 1, qkv);
    }
    siren_pool_barrier(f->engine->pool);
}

/* Tokens of a tile where all threads are to have as many: three heads of keys and one tile would
 * be two turns of two threads for one and a half.  Every part reads the shared pages again. */
static int narrow_tokens(const struct siren_forest *f, int n, int n_threads)
{
    int heads = f->engine->model->config.n_kv_heads, most = tile_tokens(f), even = 1;
    while (even < n_threads && heads * even % n_threads) even++;
    int parts = even;
    while (parts * most < n) parts += even;
    return (n + parts - 1) / parts;
}

static void narrow_attention(struct pass_run *run, int layer, const struct rows *v, int thread,
                             int n_threads)
{
    struct siren_forest *f = run->forest;
    const struct siren_config *c = &f->engine->model->config;
    size_t Q = (size_t)config_q_width(c);
    int most = narrow_tokens(f, v->n, n_threads);
    long task = 0, mine = claim_next(&run->cursors[layer], INT32_MAX);
    for (int i = 0, m, shared; i < v->n; i += m) {
        m = tile_length(f, v, i, v->n, most, &shared);
        for (int h = 0; h < c->n_kv_heads; h++, task++) {
            if (task != mine) continue;
            attend_tile(f, &f->scratch[thread], layer, v, i, m, shared, h,
                        f->attended + (size_t)i * Q);
            mine = claim_next(&run->cursors[layer], INT32_MAX);
        }
    }
    siren_pool_barrier(f->engine->pool);
}

static void narrow_ffn(struct pass_run *run, int layer, const struct rows *v, int thread,
                       int n_threads)
{
    struct siren_forest *f = run->forest;
    struct thread_scratch *t = &f->scratch[thread];
    const struct kernels *k = f->engine->kernels;
    const struct siren_config *c = &f->engine->model->config;
    const struct layer_weights *w = &f->engine->model->layers[layer];
    size_t d = (size_t)c->d_model, F = (size_t)config_ffn_stride(c);
    int p0, p1;
    const float *in = layer_input(f, v->x, v->n, w->ffn_norm, t->normed);
    if (siren_is_encoder(c)) {
        share(w->ffn_in.n_panels, thread, n_threads, &p0, &p1);
        k->gemm(in, d, v->n, &w->ffn_in, p0, p1, w->ffn_in_bias + p0 * 16, f->ffn + p0 * 16, F, 0,
                t->gemm);
        int to = p1 * 16 < c->d_ffn ? p1 * 16 : c->d_ffn;
        for (int i = 0; i < v->n && to > p0 * 16; i++)
            k->gelu(f->ffn + (size_t)i * F + p0 * 16, (size_t)(to - p0 * 16));
    } else {
        share(w->ffn_in.n_panels / 2, thread, n_threads, &p0, &p1);
        gated_pairs(f, t, layer, v, 0, v->n, in, p0, p1, f->ffn, f->gates, 0);
    }
    siren_pool_barrier(f->engine->pool);
    share(w->ffn_out.n_panels, thread, n_threads, &p0, &p1);
    k->gemm(f->ffn, F, v->n, &w->ffn_out, p0, p1,
            w->ffn_out_bias ? w->ffn_out_bias + p0 * 16 : NULL, v->x + p0 * 16, d, 1, t->gemm);
    lora_add(f, t, layer, LORA_DOWN_INPUT, v, 0, v->n, f->ffn, F, p0, p1, v->x + p0 * 16, d);
    siren_pool_barrier(f->engine->pool);
}

/* Whole rows are normed by one thread each: the norm needs the whole row. */
static void narrow_post_norm(struct pass_run *run, const struct rows *v, const float *weight,
                             const float *bias, int thread, int n_threads)
{
    struct siren_forest *f = run->forest;
    if (!siren_is_encoder(&f->engine->model->config)) return;
    size_t d = (size_t)f->engine->model->config.d_model;
    for (int i = thread; i < v->n; i += n_threads)
        post_norm(f, v->x + (size_t)i * d, 1, weight, bias);
    siren_pool_barrier(f->engine->pool);
}

static void narrow_layer(struct pass_run *run, int layer, const struct rows *v, int thread,
                         int n_threads)
{
    struct siren_forest *f = run->forest;
    struct thread_scratch *t = &f->scratch[thread];
    const struct siren_config *c = &f->engine->model->config;
    const struct layer_weights *w = &f->engine->model->layers[layer];
    size_t d = (size_t)c->d_model, Q = (size_t)config_q_width(c);
    int p0, p1;
    if (v->list) {
        if (thread == 0) gather_active(f, f->x, f->q, v, 0, v->n);
        siren_pool_barrier(f->engine->pool);
    }
    narrow_attention(run, layer, v, thread, n_threads);
    share(w->out.n_panels, thread, n_threads, &p0, &p1);
    f->engine->kernels->gemm(f->attended, Q, v->n, &w->out, p0, p1,
                             w->out_bias ? w->out_bias + p0 * 16 : NULL, v->x + p0 * 16, d, 1,
                             t->gemm);
    lora_add(f, t, layer, LORA_O_INPUT, v, 0, v->n, f->attended, Q, p0, p1, v->x + p0 * 16, d);
    siren_pool_barrier(f->engine->pool);
    narrow_post_norm(run, v, w->attention_norm, w->attention_norm_bias, thread, n_threads);
    narrow_ffn(run, layer, v, thread, n_threads);
    narrow_post_norm(run, v, w->ffn_norm, w->ffn_norm_bias, thread, n_threads);
}

static int narrow_pass(struct pass_run *run, int thread, int n_threads)
{
    struct siren_forest *f = run->forest;
    size_t d = (size_t)f->engine->model->config.d_model;
    int n_layers = f->engine->model->config.n_layers;
    for (int r = thread; r < f->T; r += n_threads) {
        embed_row(f, r);
        emit_hidden(f, 0, r, r + 1);
    }
    if (end_layer(run, thread, 0)) return 1;
    for (int l = 0; l < n_layers; l++) {
        narrow_qkv(run, l, thread, n_threads);
        struct rows v = l == n_layers - 1 ? active_rows(f) : all_rows(f);
        if (v.n) narrow_layer(run, l, &v, thread, n_threads);
        if (l < n_layers - 1 && thread == 0) emit_hidden(f, l + 1, 0, f->T);
        if (end_layer(run, thread, l + 1)) return 1;
    }
    struct rows v = active_rows(f);
    for (int i = thread; i < v.n; i += n_threads)
        if (f->engine->model->final_norm)
            norm_into(f, v.x + (size_t)i * d, 1, f->engine->model->final_norm, v.x + (size_t)i * d);
    siren_pool_barrier(f->engine->pool);
    return 0;
}

static void pass_thread(void *context, int thread, int n_threads)
{
    struct pass_run *run = context;
    struct siren_forest *f = run->forest;
    int stopped =
        f->narrow ? narrow_pass(run, thread, n_threads) : wide_pass(run, thread, n_threads);
    if (stopped) return;
    emit_final(run, thread);
    emit_logits(run, thread, run->cursors);
    emit_logprobs(run, thread);
}

int siren_forest_run(struct siren_forest *f, const volatile int *cancel)
{
    if (!f->planned) return SIREN_EINVAL;
    struct pass_run run = {
        .forest = f, .cancel = cancel, .cancel_layer = -1, .cursors = f->cursors};
    for (int i = 0; i <= f->engine->model->config.n_layers; i++) atomic_store(&f->cursors[i], 0);
    siren_pool_run(f->engine->pool, pass_thread, &run);
    if (atomic_load(&run.cancel_layer) >= 0) return SIREN_ECANCEL;
    for (size_t i = 0; i < f->n_segments; i++) {
        struct segment *s = &f->segments[i];
        if (s->ancestor || !s->kept) continue;
        /* What it was planned with first may have been changed since. */
        s->kept->end = s->end;
        s->kept->adapter_version = s->adapter ? s->adapter->version : 0;
        s->kept->model_version = f->engine->model->version;
    }
    if (f->tape) memset(f->back->gradients, 0, f->back->n_gradients * sizeof(float));
    f->planned = 0; /* a second run would append kept tokens twice */
    f->done = 1;
    return SIREN_OK;
}
