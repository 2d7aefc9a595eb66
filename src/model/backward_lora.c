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
    f->engine->kernels->gemm_dx(dy, ldy, n, w, 0, (w->k + 15) / 16, dlow + adapter->packed->low[at],
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
    int panels = (a->k + 15) / 16;
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

/* The tasks of one run and target, those of this thread; tasks are numbered by *task. */
static void sum_factors(const struct kernels *k, const struct factor_run *run,
                        struct back_tasks *tasks, float *scratch)
{
    for (int column = 0; column < run->factors->in; column += A_COLUMNS)
        if (back_task(tasks)) sum_a(k, run, column, scratch);
    for (int row = 0; row < run->factors->out; row += B_ROWS)
        if (back_task(tasks)) sum_b(k, run, row, scratch);
}

void lora_gradients(struct siren_forest *f, struct back_scratch *b, int layer,
                    enum lora_group group, const struct rows *v, const float *dy, size_t ldy,
                    struct back_tasks *tasks)
{
    const struct lora_tape *tape = &f->back->groups[group];
    size_t width = f->back->low_width;
    if (!f->adapted) return;
    for (int i = 0, end; i < v->n; i = end) {
        const struct siren_adapter *adapter = row_adapter(f, v, i);
        for (end = i + 1; end < v->n && row_adapter(f, v, end) == adapter; end++) continue;
        for (int target = 0; adapter && target < SIREN_LORA_TARGETS; target++) {
            int at = layer * SIREN_LORA_TARGETS + target;
            const struct lora_factors *factors = &adapter->factors[at];
            if (lora_group_of((enum siren_lora_target)target) != group || !factors->a ||
                !factors->da)
                continue;
            size_t row = (size_t)i, column = (size_t)adapter->packed->low[at];
            struct factor_run run = {
                factors,
                at,
                adapter->config.r,
                end - i,
                tape->in + row * tape->ld,
                tape->low + row * width + column,
                tape->dlow + row * width + column,
                dy + row * ldy +
                    first_column(&f->engine->model->config, (enum siren_lora_target)target),
                tape->ld,
                width,
                ldy};
            sum_factors(f->engine->kernels, &run, tasks, b->dw);
        }
    }
}
