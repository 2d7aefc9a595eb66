/* A LoRA adapter made by hand for a test: random factors, or those of a file. */
#ifndef ADAPTER_FIXTURE_H
#define ADAPTER_FIXTURE_H

#include "engine_fixture.h"
#include "model/adapter.h"
#include "model/model.h"

enum { ALL_TARGETS = (1 << SIREN_LORA_TARGETS) - 1 };

static inline void lora_sizes(const struct siren_config *c, int target, int *in, int *out)
{
    int q = config_q_width(c), kv = config_kv_width(c);
    int sizes[SIREN_LORA_TARGETS][2] = {
        {c->d_model, q},        {c->d_model, kv},       {c->d_model, kv},      {q, c->d_model},
        {c->d_model, c->d_ffn}, {c->d_model, c->d_ffn}, {c->d_ffn, c->d_model}};
    *in = sizes[target][0];
    *out = sizes[target][1];
}

static inline void random_values(float *x, int n, uint64_t seed, uint64_t stream)
{
    for (int i = 0; i < n; i++)
        x[i] = (float)(0.3 * siren_random_normal(seed, stream, (uint64_t)i));
}

/* Every layer from first_layer on; factors depend on the seed only. */
static inline struct siren_adapter *adapter_make(const struct siren_model *model, unsigned targets,
                                                 int first_layer, int r, uint64_t seed)
{
    const struct siren_config *c = siren_model_config(model);
    struct siren_adapter *a = calloc(1, sizeof *a);
    a->config = (struct siren_adapter_config){.targets = targets,
                                              .first_layer = first_layer,
                                              .last_layer = c->n_layers - 1,
                                              .r = r,
                                              .alpha = 2 * (float)r};
    a->model = model;
    a->n_layers = c->n_layers;
    a->scale = 2;
    a->factors = calloc((size_t)c->n_layers * SIREN_LORA_TARGETS, sizeof *a->factors);
    for (int i = first_layer * SIREN_LORA_TARGETS; i < c->n_layers * SIREN_LORA_TARGETS; i++) {
        struct lora_factors *f = &a->factors[i];
        if (!(targets >> i % SIREN_LORA_TARGETS & 1)) continue;
        lora_sizes(c, i % SIREN_LORA_TARGETS, &f->in, &f->out);
        f->a = calloc((size_t)(r * f->in), sizeof *f->a);
        f->b = calloc((size_t)(r * f->out), sizeof *f->b);
        random_values(f->a, r * f->in, seed, 2 * (uint64_t)i);
        random_values(f->b, r * f->out, seed, 2 * (uint64_t)i + 1);
    }
    struct siren_error err;
    if (adapter_pack(a, &err)) fail_msg("%s", err.message);
    return a;
}

/* All numbers of a file, n of them; free() them. */
static inline float *floats_read(const char *path, size_t *n)
{
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s", path);
    fseek(file, 0, SEEK_END);
    size_t bytes = (size_t)ftell(file);
    rewind(file);
    float *x = malloc(bytes);
    assert_int_equal(fread(x, 1, bytes, file), bytes);
    fclose(file);
    *n = bytes / sizeof *x;
    return x;
}

/* tests/fixtures/adapters/NAME-WHAT.f32 */
static inline float *floats_open(const char *name, const char *what, size_t *n)
{
    char path[256];
    snprintf(path, sizeof path, "tests/fixtures/adapters/%s-%s.f32", name, what);
    return floats_read(path, n);
}

static inline void adapter_drop(struct siren_adapter *a)
{
    for (int i = 0; i < a->n_layers * SIREN_LORA_TARGETS; i++) {
        free(a->factors[i].a);
        free(a->factors[i].b);
    }
    free(a->factors);
    adapter_packed_free(a->packed);
    free(a);
}

#endif
