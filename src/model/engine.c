/* The engine: a model, a pool and a table of kernels, and the RoPE table that
 * grows with the longest prompt seen. */
#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "model/pass.h"
#include "model/rope.h"

int siren_engine_create(struct siren_engine **out, const struct siren_model *model,
                        struct siren_pool *pool, const struct siren_engine_options *options,
                        struct siren_error *err)
{
    *out = NULL;
    enum isa isa;
    int rc = isa_parse(options && options->isa ? options->isa : "auto", &isa, err);
    enum compute compute;
    if (!rc)
        rc = compute_parse(options && options->compute ? options->compute : "f32", &compute, err);
    if (rc) return rc;
    if (model->rounded && compute != COMPUTE_BF16)
        return siren_fail(err, SIREN_EINVAL,
                          "%s: its weights were packed for mode bf16, but the engine's mode is %s",
                          model->path, compute_name(compute));
    const struct kernels *kernels = kernels_select_compute(isa, compute, err);
    if (!kernels) return SIREN_EUNSUPPORTED;
    struct siren_engine *e = calloc(1, sizeof *e);
    if (!e) return siren_fail_memory(err, "engine", sizeof *e);
    e->model = model;
    e->pool = pool;
    e->kernels = kernels;
    *out = e;
    return SIREN_OK;
}

void siren_engine_free(struct siren_engine *e)
{
    if (!e) return;
    free(e->cosines);
    free(e->sines);
    free(e);
}

const char *siren_engine_isa(const struct siren_engine *e)
{
    return e->kernels->name;
}
const char *siren_engine_compute(const struct siren_engine *e)
{
    return compute_name(e->kernels->compute);
}

int engine_reserve_positions(struct siren_engine *e, int n, struct siren_error *err)
{
    if (n <= e->n_positions) return SIREN_OK;
    const struct siren_config *c = &e->model->config;
    int target = n < 512 ? 512 : n + n / 2;
    if (target > c->max_positions) target = c->max_positions;
    if (target < n) target = n;
    size_t half = (size_t)c->head_dim / 2;
    float *frequency = alloc_array(half, sizeof(float));
    float *cosines = alloc_aligned((size_t)target * half, sizeof(float));
    float *sines = alloc_aligned((size_t)target * half, sizeof(float));
    if (!frequency || !cosines || !sines) {
        free(frequency);
        free(cosines);
        free(sines);
        return siren_fail_memory(err, "rotary table", (size_t)target * half * sizeof(float));
    }
    float factor = rope_frequencies(c, frequency);
    for (int p = 0; p < target; p++)
        for (size_t i = 0; i < half; i++) {
            /* The angle is rounded to f32 first, as the reference does. */
            float angle = (float)p * frequency[i];
            cosines[(size_t)p * half + i] = (float)cos((double)angle) * factor;
            sines[(size_t)p * half + i] = (float)sin((double)angle) * factor;
        }
    free(frequency);
    free(e->cosines);
    free(e->sines);
    e->cosines = cosines;
    e->sines = sines;
    e->n_positions = target;
    return SIREN_OK;
}
