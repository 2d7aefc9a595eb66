/* The packed forms of an adapter's factors, and their part in a pass. */
#include "model/backward.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "siren/random.h"

/* ---- packing ---- */

static const struct lora_factors *factors_of(const struct siren_adapter *a, int layer, int target)
{
    const struct lora_factors *f = &a->factors[layer * SIREN_LORA_TARGETS + target];
    return f->a ? f : NULL;
}

/* Columns [column, column + rows) of w from the (rows, w->k) matrix of f32 numbers. */
static void fill_from(struct packed *w, int column, const float *values, int rows)
{
    struct tensor t = {.type = TENSOR_F32, .data = values};
    packed_fill(w, column, &t, 0, rows);
}

/* One rounding a number: the product is then part of the weights. */
static void scale_packed(struct packed *w, float scale)
{
    float *values = (float *)(void *)w->data;
    size_t n = w->panel_bytes / sizeof *values * (size_t)w->n_panels;
    for (size_t i = 0; i < n; i++) values[i] *= scale;
}

static void fill_layer(struct siren_adapter *adapter, int layer)
{
    struct adapter_packed *p = adapter->packed;
    for (int target = 0; target < SIREN_LORA_TARGETS; target++) {
        const struct lora_factors *f = factors_of(adapter, layer, target);
        if (!f) continue;
        int at = layer * SIREN_LORA_TARGETS + target;
        int group = layer * LORA_GROUPS + (int)lora_group_of((enum siren_lora_target)target);
        fill_from(&p->a[group], p->low[at], f->a, adapter->config.r);
        fill_from(&p->b[at], 0, f->b, f->out);
        scale_packed(&p->b[at], adapter->scale);
    }
}

static int allocate_layer(struct siren_adapter *adapter, int layer, struct siren_error *err)
{
    struct adapter_packed *p = adapter->packed;
    int r = adapter->config.r, width[LORA_GROUPS] = {0}, in[LORA_GROUPS] = {0}, rc = SIREN_OK;
    for (int target = 0; !rc && target < SIREN_LORA_TARGETS; target++) {
        const struct lora_factors *f = factors_of(adapter, layer, target);
        if (!f) continue;
        int at = layer * SIREN_LORA_TARGETS + target;
        enum lora_group group = lora_group_of((enum siren_lora_target)target);
        p->low[at] = width[group];
        width[group] += r;
        in[group] = f->in;
        if (group == LORA_FFN_INPUT) p->adapts_ffn_input = 1;
        rc = packed_alloc_in(&p->arena, &p->b[at], PACKED_F32, f->out, r, err);
    }
    for (int g = 0; !rc && g < LORA_GROUPS; g++)
        if (width[g])
            rc = packed_alloc_in(&p->arena, &p->a[layer * LORA_GROUPS + g], PACKED_F32, width[g],
                                 in[g], err);
    return rc;
}

static int allocate_packed(struct siren_adapter *adapter, struct siren_error *err)
{
    size_t layers = (size_t)adapter->n_layers;
    struct adapter_packed *p = calloc(1, sizeof *p);
    if (!p) return siren_fail_memory(err, "adapter", sizeof *p);
    adapter->packed = p;
    p->a = alloc_zeroed(layers * LORA_GROUPS, sizeof *p->a);
    p->b = alloc_zeroed(layers * SIREN_LORA_TARGETS, sizeof *p->b);
    p->low = alloc_zeroed(layers * SIREN_LORA_TARGETS, sizeof *p->low);
    int rc = p->a && p->b && p->low
                 ? SIREN_OK
                 : siren_fail_memory(err, "adapter", layers * SIREN_LORA_TARGETS * sizeof *p->b);
    for (int l = 0; !rc && l < adapter->n_layers; l++) rc = allocate_layer(adapter, l, err);
    if (!rc) return SIREN_OK;
    adapter_packed_free(p);
    adapter->packed = NULL;
    return rc;
}

int adapter_pack(struct siren_adapter *adapter, struct siren_error *err)
{
    static atomic_uint_least64_t last_version;
    int rc = adapter->packed ? SIREN_OK : allocate_packed(adapter, err);
    if (rc) return rc;
    for (int l = 0; l < adapter->n_layers; l++) fill_layer(adapter, l);
    adapter->version = atomic_fetch_add(&last_version, 1) + 1;
    return SIREN_OK;
}

void adapter_packed_free(struct adapter_packed *p)
{
    if (!p) return;
    packed_arena_free(&p->arena);
    free(p->a);
    free(p->b);
    free(p->low);
    free(p);
}

void siren_adapter_changed(struct siren_adapter *adapter)
{
    adapter_pack(adapter, NULL);
}

/* ---- dropout ---- */

int lora_drops(const struct siren_forest *f, const struct siren_adapter *adapter)
{
    return f->recorded && f->training.dropout && adapter->config.dropout > 0;
}

void lora_drop(const struct siren_forest *f, const struct siren_adapter *adapter, int layer,
               enum lora_group group, int row, const float *x, float *out, size_t width)
{
    unsigned threshold = (unsigned)((double)adapter->config.dropout * 65536 + 0.5);
    uint64_t stream = f->training.dropout_step << 16 ^ (uint64_t)(layer * LORA_GROUPS + (int)group);
    uint64_t key = siren_random_bits(adapter->config.seed, stream, (uint64_t)row);
    float keep = (float)(65536.0 / (65536.0 - (double)threshold));
    f->engine->kernels->dropout(key, threshold, keep, x, out, width);
}

/* ---- in a pass ---- */

int lora_low_width(const struct siren_adapter *adapter)
{
    int widest = 0;
    for (int i = 0; i < adapter->n_layers * LORA_GROUPS; i++)
        if (adapter->packed->a[i].n_panels * 16 > widest)
            widest = adapter->packed->a[i].n_panels * 16;
    return widest;
}

/* The first panel of the joined projection that belongs to the target. */
static int first_panel(const struct siren_config *c, enum siren_lora_target target)
{
    if (target == SIREN_LORA_K) return config_q_width(c) / 16;
    if (target == SIREN_LORA_V) return (config_q_width(c) + config_kv_width(c)) / 16;
    return 0;
}

/* A run of rows with one adapter. */
struct lora_run {
    const struct siren_adapter *adapter;
    const float *low; /* (n, width) */
    size_t width;
    int n;
};

/* y[columns of the target] += low · B: of the joined projection's panels [p0, p1), y points at
 * column 16·p0. */
static void add_target(const struct siren_forest *f, const struct lora_run *run, int layer,
                       enum siren_lora_target target, int p0, int p1, float *y, size_t ldy,
                       float *scratch)
{
    const struct kernels *k = f->engine->kernels;
    int at = layer * SIREN_LORA_TARGETS + (int)target;
    const struct packed *b = &run->adapter->packed->b[at];
    if (!b->n) return;
    const float *low = run->low + run->adapter->packed->low[at];
    if (target == SIREN_LORA_GATE || target == SIREN_LORA_UP) { /* every other panel */
        for (int p = p0 + ((p0 & 1) != (target == SIREN_LORA_UP)); p < p1; p += 2)
            k->gemm(low, run->width, run->n, b, p / 2, p / 2 + 1, NULL, y + (size_t)(p - p0) * 16,
                    ldy, 1, scratch);
        return;
    }
    int first = first_panel(&f->engine->model->config, target), end = first + b->n_panels;
    int from = p0 > first ? p0 : first, to = p1 < end ? p1 : end;
    if (from < to)
        k->gemm(low, run->width, run->n, b, from - first, to - first, NULL,
                y + (size_t)(from - p0) * 16, ldy, 1, scratch);
}

int lora_touches(const struct siren_forest *f, int layer, enum lora_group group,
                 const struct rows *v, int i0, int n)
{
    if (!f->adapted) return 0;
    for (int i = i0; i < i0 + n; i++) {
        const struct siren_adapter *a = row_adapter(f, v, i);
        if (a && a->packed->a[layer * LORA_GROUPS + (int)group].n) return 1;
    }
    return 0;
}

void lora_add(const struct siren_forest *f, struct thread_scratch *t, int layer,
              enum lora_group group, const struct rows *v, int i0, int n, const float *in,
              size_t ldin, int p0, int p1, float *y, size_t ldy)
{
    if (!f->adapted) return;
    for (int i = i0, end; i < i0 + n; i = end) {
        const struct siren_adapter *adapter = row_adapter(f, v, i);
        for (end = i + 1; end < i0 + n && row_adapter(f, v, end) == adapter; end++) continue;
        const struct packed *a =
            adapter ? &adapter->packed->a[layer * LORA_GROUPS + (int)group] : NULL;
        if (!a || !a->n) continue;
        struct lora_run run = {adapter, t->low, (size_t)a->n_panels * 16, end - i};
        const float *x = in + (size_t)(i - i0) * ldin;
        size_t ldx = ldin;
        if (lora_drops(f, adapter)) {
            ldx = (size_t)a->k;
            for (int j = 0; j < run.n; j++)
                lora_drop(f, adapter, layer, group, row_of(v, i + j), x + (size_t)j * ldin,
                          t->dropped + (size_t)j * ldx, ldx);
            x = t->dropped;
        }
        f->engine->kernels->gemm(x, ldx, run.n, a, 0, a->n_panels, NULL, t->low, run.width, 0,
                                 t->gemm);
        for (int target = 0; target < SIREN_LORA_TARGETS; target++)
            if (lora_group_of((enum siren_lora_target)target) == group)
                add_target(f, &run, layer, (enum siren_lora_target)target, p0, p1,
                           y + (size_t)(i - i0) * ldy, ldy, t->gemm);
    }
}
