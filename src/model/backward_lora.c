/* Gradients through and of LoRA's factors.
 *
 * y += B' low, low = A x, B' = scale · B:  dlow = dy B',  dx += dlow A,  dA += dlowᵀ x,
 * dB += dyᵀ (scale · low).  x is the input after dropout, whose mask applies to dlow A, too. */
#include <string.h>

#include "model/backward.h"

static int is_gated(enum siren_lora_target target)
{
    return target == SIREN_LORA_GATE || target == SIREN_LORA_UP;
}

/* The target's first column in its joined projection. */
static size_t first_column(const struct siren_config *c, enum siren_lora_target target)
{
    if (target == SIREN_LORA_K) return (size_t)config_q_width(c);
    if (target == SIREN_LORA_V) return (size_t)(config_q_width(c) + config_kv_width(c));
    return target == SIREN_LORA_UP ? 16 : 0;
}

/* dlow's columns of one target from dy (n, ldy), which points at the first row. */
static void target_dlow(const struct siren_forest *f, struct thread_scratch *t,
                        struct back_scratch *b, const struct siren_adapter *adapter, int at, int n,
                        const float *dy, size_t ldy, float *dlow, size_t width)
{
    enum siren_lora_target target = (enum siren_lora_target)(at % SIREN_LORA_TARGETS);
    const struct packed *w = &adapter->packed->b[at];
    dy += first_column(&f->engine->model->config, target);
    if (is_gated(target)) { /* every other panel: side by side first */
        size_t panels = (size_t)w->n_panels;
        for (int i = 0; i < n; i++)
            for (size_t p = 0; p < panels; p++)
                memcpy(b->plain + ((size_t)i * panels + p) * 16, dy + (size_t)i * ldy + p * 32,
                       16 * sizeof(float));
        dy = b->plain;
        ldy = panels * 16;
    }
    f->engine->kernels->gemm_dx(dy, ldy, n, w, 0, input_panels(w), dlow + adapter->packed->low[at],
                                width, 0, t->gemm);
}

/* What the factors' gradients need of rows [i, i + n): the input (dropped) and scale · A x. */
static void keep_input(struct siren_forest *f, struct thread_scratch *t, int layer,
                       enum lora_group group, const struct siren_adapter *adapter,
                       const struct rows *v, int i, int n, const float *in, size_t ldin)
{
    struct lora_tape *tape = &f->back->groups[group];
    const struct packed *a = &adapter->packed->a[layer * LORA_GROUPS + (int)group];
    size_t width = f->back->low_width, K = (size_t)a->k;
    float *x = tape->in + (size_t)i * tape->ld, *low = tape->low + (size_t)i * width;
    for (int j = 0; j < n; j++) {
        const float *from = in + (size_t)j * ldin;
        float *row = x + (size_t)j * tape->ld;
        if (lora_drops(f, adapter))
            lora_drop(f, adapter, layer, group, row_of(v, i + j), from, row, K);
        else
            memcpy(row, from, K * sizeof(float));
    }
    f->engine->kernels->gemm(x, tape->ld, n, a, 0, a->n_panels, NULL, low, width, 0, t->gemm);
    for (int j = 0; j < n; j++)
        for (int c = 0; c < a->n; c++) low[(size_t)j * width + (size_t)c] *= adapter->scale;
}

/* dx (n, lddx) += dlow A, where dropout let the input through. */
static void add_dx(struct siren_forest *f, struct thread_scratch *t, struct back_scratch *b,
                   int layer, enum lora_group group, const struct siren_adapter *adapter,
                   const struct rows *v, int i, int n, const float *dlow, float *dx, size_t lddx)
{
    const struct kernels *k = f->engine->kernels;
    const struct packed *a = &adapter->packed->a[layer * LORA_GROUPS + (int)group];
    size_t width = f->back->low_width, K = (size_t)a->k;
    int panels = input_panels(a);
    if (!lora_drops(f, adapter)) {
        k->gemm_dx(dlow, width, n, a, 0, panels, dx, lddx, 1, t->gemm);
        return;
    }
    k->gemm_dx(dlow, width, n, a, 0, panels, b->masked, K, 0, t->gemm);
    for (int j = 0; j < n; j++) {
        float *row = b->masked + (size_t)j * K;
        lora_drop(f, adapter, layer, group, row_of(v, i + j), row, row, K);
        k->add(dx + (size_t)j * lddx, row, K);
    }
}

void lora_back(struct siren_forest *f, struct thread_scratch *t, struct back_scratch *b, int layer,
               enum lora_group group, const struct rows *v, int i0, int n, const float *in,
               size_t ldin, const float *dy, size_t ldy, float *dx, size_t lddx)
{
    size_t width = f->back->low_width;
    if (!f->adapted) return;
    for (int i = i0, end; i < i0 + n; i = end) {
        const struct siren_adapter *adapter = row_adapter(f, v, i);
        for (end = i + 1; end < i0 + n && row_adapter(f, v, end) == adapter; end++) continue;
        if (!adapter || !adapter->packed->a[layer * LORA_GROUPS + (int)group].n) continue;
        size_t row = (size_t)(i - i0);
        float *dlow = f->back->groups[group].dlow + (size_t)i * width;
        for (int target = 0; target < SIREN_LORA_TARGETS; target++) {
            int at = layer * SIREN_LORA_TARGETS + target;
            if (lora_group_of((enum siren_lora_target)target) == group && adapter->packed->b[at].n)
                target_dlow(f, t, b, adapter, at, end - i, dy + row * ldy, ldy, dlow, width);
        }
        if (in && adapter_trains(adapter, layer, group))
            keep_input(f, t, layer, group, adapter, v, i, end - i, in + row * ldin, ldin);
        if (dx) add_dx(f, t, b, layer, group, adapter, v, i, end - i, dlow, dx + row * lddx, lddx);
    }
}

/* ---- sums over all rows ---- */

enum { A_COLUMNS = 192, B_ROWS = 96 };

/* One run of rows with one adapter, in its group's matrices. */
struct factor_run {
    const struct lora_factors *factors;
    int at, r, n;
    const float *in, *low, *dlow,
        *dy; /* at the run's first row; low, dlow at the target's column */
    size_t ld_in, width, ldy;
};

static void sum_a(const struct kernels *k, const struct factor_run *run, int column, float *scratch)
{
    int K = run->factors->in - column < A_COLUMNS ? run->factors->in - column : A_COLUMNS;
    k->gemm_dw_f32(run->dlow, run->width, run->in + column, run->ld_in, run->n, 0, run->r, K,
                   run->factors->da + column, (size_t)run->factors->in, scratch);
}

static void sum_b(const struct kernels *k, const struct factor_run *run, int row, float *scratch)
{
    int out = run->factors->out, end = out - row < B_ROWS ? out : row + B_ROWS;
    size_t r = (size_t)run->r;
    if (!is_gated((enum siren_lora_target)(run->at % SIREN_LORA_TARGETS))) {
        k->gemm_dw_f32(run->dy, run->ldy, run->low, run->width, run->n, row, end, run->r,
                       run->factors->db, r, scratch);
        return;
    }
    for (; row < end; row += 16) /* every other panel of dy */
        k->gemm_dw_f32(run->dy + (size_t)row * 2, run->ldy, run->low, run->width, run->n, 0,
                       end - row < 16 ? end - row : 16, run->r, run->factors->db + (size_t)row * r,
                       r, scratch);
}

/* The target `at` of one adapter, whose first run of rows is [first, end); dy, ldy: of all rows. */
struct factor {
    const struct siren_adapter *adapter;
    int at, first, end;
    enum lora_group group;
    const float *dy;
    size_t ldy;
};

static int run_end(const struct siren_forest *f, const struct rows *v, int i)
{
    const struct siren_adapter *adapter = row_adapter(f, v, i);
    int end = i + 1;
    while (end < v->n && row_adapter(f, v, end) == adapter) end++;
    return end;
}

static struct factor_run run_of(const struct siren_forest *f, const struct factor *x, int i, int n)
{
    const struct lora_tape *tape = &f->back->groups[x->group];
    const struct siren_config *c = &f->engine->model->config;
    size_t width = f->back->low_width, row = (size_t)i,
           column = (size_t)x->adapter->packed->low[x->at];
    return (struct factor_run){
        .factors = &x->adapter->factors[x->at],
        .at = x->at,
        .r = x->adapter->config.r,
        .n = n,
        .in = tape->in + row * tape->ld,
        .low = tape->low + row * width + column,
        .dlow = tape->dlow + row * width + column,
        .dy = x->dy + row * x->ldy +
              first_column(c, (enum siren_lora_target)(x->at % SIREN_LORA_TARGETS)),
        .ld_in = tape->ld,
        .width = width,
        .ldy = x->ldy};
}

/* One task: a part of dA (from that column on) or dB (from that row on) over all rows of the
 * adapter, between whose runs those of others may lie. */
static void sum_part(const struct siren_forest *f, const struct factor *x, const struct rows *v,
                     void (*sum)(const struct kernels *, const struct factor_run *, int, float *),
                     int from, float *scratch)
{
    for (int i = x->first, end = x->end;; i = end, end = run_end(f, v, i)) {
        if (row_adapter(f, v, i) == x->adapter) {
            struct factor_run run = run_of(f, x, i, end - i);
            sum(f->engine->kernels, &run, from, scratch);
        }
        if (end == v->n) return;
    }
}

/* The tasks of one target, those of this thread. */
static void sum_factors(const struct siren_forest *f, const struct factor *x, const struct rows *v,
                        struct back_tasks *tasks, float *scratch)
{
    const struct lora_factors *factors = &x->adapter->factors[x->at];
    for (int column = 0; column < factors->in; column += A_COLUMNS)
        if (back_task(tasks)) sum_part(f, x, v, sum_a, column, scratch);
    for (int row = 0; row < factors->out; row += B_ROWS)
        if (back_task(tasks)) sum_part(f, x, v, sum_b, row, scratch);
}

/* Whether a row before this one has its adapter, whose tasks are numbered there. */
static int seen_before(const struct siren_forest *f, const struct rows *v, int i)
{
    for (int j = 0; j < i; j = run_end(f, v, j))
        if (row_adapter(f, v, j) == row_adapter(f, v, i)) return 1;
    return 0;
}

void lora_gradients(struct siren_forest *f, struct back_scratch *b, int layer,
                    enum lora_group group, const struct rows *v, const float *dy, size_t ldy,
                    struct back_tasks *tasks)
{
    if (!f->adapted) return;
    for (int i = 0, end; i < v->n; i = end) {
        end = run_end(f, v, i);
        struct factor x = {.adapter = row_adapter(f, v, i),
                           .first = i,
                           .end = end,
                           .group = group,
                           .dy = dy,
                           .ldy = ldy};
        if (!x.adapter || seen_before(f, v, i)) continue;
        for (int target = 0; target < SIREN_LORA_TARGETS; target++) {
            x.at = layer * SIREN_LORA_TARGETS + target;
            const struct lora_factors *factors = &x.adapter->factors[x.at];
            if (lora_group_of((enum siren_lora_target)target) == group && factors->a && factors->da)
                sum_factors(f, &x, v, tasks, b->dw);
        }
    }
}
