/* LoRA factors: memory, names, initial values. */
#include "model/adapter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/model.h"
#include "siren/random.h"

#define INIT_STREAM 0x4c6f524100000000u /* streams of the initial A */

static const struct {
    const char *block, *name;
} targets[SIREN_LORA_TARGETS] = {
    [SIREN_LORA_Q] = {"self_attn", "q_proj"}, [SIREN_LORA_K] = {"self_attn", "k_proj"},
    [SIREN_LORA_V] = {"self_attn", "v_proj"}, [SIREN_LORA_O] = {"self_attn", "o_proj"},
    [SIREN_LORA_GATE] = {"mlp", "gate_proj"}, [SIREN_LORA_UP] = {"mlp", "up_proj"},
    [SIREN_LORA_DOWN] = {"mlp", "down_proj"},
};

const char *siren_lora_target_name(enum siren_lora_target target)
{
    return (unsigned)target < SIREN_LORA_TARGETS ? targets[target].name : "?";
}

void adapter_name(char name[160], int layer, enum siren_lora_target target, char which)
{
    snprintf(name, 160, "base_model.model.model.layers.%d.%s.%s.lora_%c.weight", layer,
             targets[target].block, targets[target].name, which);
}

static void set_shape(struct lora_factors *f, const struct siren_config *c,
                      enum siren_lora_target target)
{
    int d = c->d_model, q = config_q_width(c), kv = config_kv_width(c), ffn = c->d_ffn;
    const int shapes[SIREN_LORA_TARGETS][2] = {
        [SIREN_LORA_Q] = {d, q},      [SIREN_LORA_K] = {d, kv},     [SIREN_LORA_V] = {d, kv},
        [SIREN_LORA_O] = {q, d},      [SIREN_LORA_GATE] = {d, ffn}, [SIREN_LORA_UP] = {d, ffn},
        [SIREN_LORA_DOWN] = {ffn, d},
    };
    f->in = shapes[target][0];
    f->out = shapes[target][1];
}

static int check_config(const struct siren_model *base, const struct siren_adapter_config *c,
                        struct siren_error *err)
{
    const struct siren_config *m = &base->config;
    if (siren_is_encoder(m))
        return siren_fail(err, SIREN_EUNSUPPORTED, "%s: an adapter for a %s model; only decoders",
                          base->path, siren_arch_name(m->arch));
    if (!c->targets || c->targets >> SIREN_LORA_TARGETS)
        return siren_fail(err, SIREN_EINVAL, "adapter: targets 0x%x, expected some of 0x%x",
                          c->targets, (1u << SIREN_LORA_TARGETS) - 1);
    if (c->first_layer < 0 || c->last_layer < c->first_layer || c->last_layer >= m->n_layers)
        return siren_fail(err, SIREN_EINVAL, "adapter: layers %d to %d, expected some of 0 to %d",
                          c->first_layer, c->last_layer, m->n_layers - 1);
    if (c->r < 1 || c->r > ADAPTER_MOST_R)
        return siren_fail(err, SIREN_EINVAL, "adapter: r is %d, expected 1 to %d", c->r,
                          ADAPTER_MOST_R);
    if (!(c->alpha >= ADAPTER_LEAST_ALPHA) || !(c->alpha <= ADAPTER_MOST_ALPHA))
        return siren_fail(err, SIREN_EINVAL, "adapter: alpha is %g, expected %g to %g",
                          (double)c->alpha, (double)ADAPTER_LEAST_ALPHA,
                          (double)ADAPTER_MOST_ALPHA);
    if (!(c->dropout >= 0) || c->dropout > ADAPTER_MOST_DROPOUT)
        return siren_fail(err, SIREN_EINVAL, "adapter: dropout is %g, expected 0 to %g",
                          (double)c->dropout, (double)ADAPTER_MOST_DROPOUT);
    return SIREN_OK;
}

static void add_param(struct siren_adapter *a, int layer, int target, char which, float *value,
                      int rows, int columns)
{
    struct siren_param *p = &a->params.list[a->params.n++];
    adapter_name(p->name, layer, (enum siren_lora_target)target, which);
    p->value = value;
    p->rows = rows;
    p->columns = columns;
}

/* Shapes first, then one block of memory, then the views into it. */
static size_t size_up(struct siren_adapter *a, size_t *n_adapted)
{
    const struct siren_adapter_config *c = &a->config;
    size_t n = 0;
    for (int layer = c->first_layer; layer <= c->last_layer; layer++)
        for (int t = 0; t < SIREN_LORA_TARGETS; t++) {
            if (!(c->targets >> t & 1)) continue;
            struct lora_factors *f = &a->factors[layer * SIREN_LORA_TARGETS + t];
            set_shape(f, &a->model->config, (enum siren_lora_target)t);
            n += (size_t)c->r * ((size_t)f->in + (size_t)f->out);
            ++*n_adapted;
        }
    return n;
}

static void lay_out(struct siren_adapter *a)
{
    float *at = a->values;
    for (int i = 0; i < a->n_layers * SIREN_LORA_TARGETS; i++) {
        struct lora_factors *f = &a->factors[i];
        int layer = i / SIREN_LORA_TARGETS, target = i % SIREN_LORA_TARGETS, r = a->config.r;
        if (!f->in) continue;
        f->a = at;
        f->b = at + (size_t)r * (size_t)f->in;
        at = f->b + (size_t)r * (size_t)f->out;
        add_param(a, layer, target, 'A', f->a, r, f->in);
        add_param(a, layer, target, 'B', f->b, f->out, r);
    }
}

float adapter_scale(const struct siren_adapter_config *c)
{
    return (float)((double)c->alpha / (c->rslora ? sqrt((double)c->r) : (double)c->r));
}

int adapter_allocate(struct siren_adapter **out, const struct siren_model *base,
                     const struct siren_adapter_config *config, struct siren_error *err)
{
    *out = NULL;
    int rc = check_config(base, config, err);
    if (rc) return rc;
    struct siren_adapter *a = alloc_zeroed(1, sizeof *a);
    if (!a) return siren_fail_memory(err, "adapter", sizeof *a);
    size_t n_adapted = 0;
    a->config = *config;
    a->model = base;
    a->n_layers = base->config.n_layers;
    a->scale = adapter_scale(config);
    a->factors = alloc_zeroed((size_t)a->n_layers * SIREN_LORA_TARGETS, sizeof *a->factors);
    if (a->factors) a->n_values = size_up(a, &n_adapted);
    a->values = alloc_aligned(a->n_values, sizeof *a->values);
    a->params.list = alloc_zeroed(2 * n_adapted, sizeof *a->params.list);
    if (!a->factors || !a->values || !a->params.list) {
        size_t bytes = a->n_values * sizeof *a->values;
        siren_adapter_free(a);
        return siren_fail_memory(err, "an adapter's factors", bytes);
    }
    memset(a->values, 0, a->n_values * sizeof *a->values);
    lay_out(a);
    *out = a;
    return SIREN_OK;
}

int siren_adapter_create(struct siren_adapter **out, const struct siren_model *base,
                         const struct siren_adapter_config *config, struct siren_error *err)
{
    int rc = adapter_allocate(out, base, config, err);
    if (rc) return rc;
    struct siren_adapter *a = *out;
    for (int i = 0; i < a->n_layers * SIREN_LORA_TARGETS; i++) {
        const struct lora_factors *f = &a->factors[i];
        size_t n = f->a ? (size_t)config->r * (size_t)f->in : 0;
        double bound = f->a ? 1 / sqrt((double)f->in) : 0;
        for (size_t k = 0; k < n; k++)
            f->a[k] =
                (float)(bound *
                        (2 * siren_random_uniform(config->seed, INIT_STREAM + (uint64_t)i, k) - 1));
    }
    rc = adapter_pack(a, err);
    if (rc) siren_adapter_free(a), *out = NULL;
    return rc;
}

void siren_adapter_free(struct siren_adapter *a)
{
    if (!a) return;
    adapter_packed_free(a->packed);
    free(a->factors);
    free(a->values);
    free(a->grads);
    free(a->params.list);
    free(a);
}

const struct siren_adapter_config *siren_adapter_config(const struct siren_adapter *a)
{
    return &a->config;
}
struct siren_params siren_adapter_params(struct siren_adapter *a)
{
    return a->params;
}

int siren_adapter_trainable(struct siren_adapter *a, struct siren_error *err)
{
    if (a->grads) return SIREN_OK;
    a->grads = alloc_aligned(a->n_values, sizeof *a->grads);
    if (!a->grads)
        return siren_fail_memory(err, "an adapter's gradients", a->n_values * sizeof *a->grads);
    memset(a->grads, 0, a->n_values * sizeof *a->grads);
    for (size_t i = 0; i < a->params.n; i++)
        a->params.list[i].grad = a->grads + (a->params.list[i].value - a->values);
    for (int i = 0; i < a->n_layers * SIREN_LORA_TARGETS; i++) {
        struct lora_factors *f = &a->factors[i];
        if (!f->a) continue;
        f->da = a->grads + (f->a - a->values);
        f->db = a->grads + (f->b - a->values);
    }
    return SIREN_OK;
}
