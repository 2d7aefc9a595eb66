/* One layer at one prompt: attention of the query token, and the derivative of the state after the
 * layer with respect to it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "train/theorem.h"

enum { MOST_HALF = 256 }; /* head_dim / 2: kernels.h has at most 512 */

struct sizes {
    size_t d, Q, W, D, H, F, qkv;
};

static struct sizes sizes_of(const struct siren_engine *e)
{
    const struct siren_config *c = &e->model->config;
    return (struct sizes){.d = (size_t)c->d_model,
                          .Q = (size_t)config_q_width(c),
                          .W = (size_t)config_kv_width(c),
                          .D = (size_t)c->head_dim,
                          .H = (size_t)c->n_heads,
                          .F = (size_t)config_ffn_stride(c),
                          .qkv = (size_t)config_qkv_width(c)};
}

int linear_prompt_create(struct linear_prompt *p, const struct siren_engine *e, int T,
                         struct siren_error *err)
{
    struct sizes z = sizes_of(e);
    size_t t = (size_t)T;
    size_t parts[] = {t * z.d,   z.d * t,   t * z.W, z.Q * t, z.H * t,   z.H * z.d, z.Q,
                      z.Q * z.d, z.d * z.Q, z.d,     t * z.d, t * z.qkv, z.W * t};
    float **at[] = {&p->x,  &p->xt, &p->values, &p->p,      &p->weights, &p->mixed, &p->o,
                    &p->jt, &p->j,  &p->output, &p->hidden, &p->qkv,     &p->dk};
    size_t total = 0, n = sizeof parts / sizeof *parts;
    for (size_t i = 0; i < n; i++) total += whole_panels(parts[i]);
    *p = (struct linear_prompt){.T = T, .memory = alloc_aligned(total, sizeof(float))};
    if (!p->memory) return siren_fail_memory(err, "a linearised prompt", total * sizeof(float));
    memset(p->memory, 0, total * sizeof(float));
    total = 0;
    for (size_t i = 0; i < n; i++) {
        *at[i] = p->memory + total;
        total += whole_panels(parts[i]);
    }
    return 0;
}

void linear_prompt_free(struct linear_prompt *p)
{
    free(p->memory);
    *p = (struct linear_prompt){0};
}

static size_t largest_scratch(const struct siren_engine *e)
{
    size_t most = layers_scratch(e->model, 1);
    if (gemm_dw_scratch() > most) most = gemm_dw_scratch();
    return whole_panels(most);
}

int linear_scratch_create(struct linear_scratch *s, const struct siren_engine *e,
                          struct siren_error *err)
{
    struct sizes z = sizes_of(e);
    size_t gemm = largest_scratch(e), rows = whole_panels(2 * z.d * z.d);
    size_t total = gemm + rows + z.d * 3 * z.F + 3 * z.F + 2 * z.d;
    s->memory = alloc_aligned(total, sizeof(float));
    if (!s->memory) return siren_fail_memory(err, "a Jacobian", total * sizeof(float));
    memset(s->memory, 0, total * sizeof(float));
    s->gemm = s->memory;
    s->rows = s->gemm + gemm;
    s->wide = s->rows + rows;
    return 0;
}

void linear_scratch_free(struct linear_scratch *s)
{
    free(s->memory);
    *s = (struct linear_scratch){0};
}

static void transpose(const float *x, size_t rows, size_t columns, float *out)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++) out[j * rows + i] = x[i * columns + j];
}

/* ---- attention of the query token ---- */

/* Columns [column, column + W) of all rows of qkv += x w, w (d, W). */
static void add_update(struct linear_prompt *p, const struct siren_engine *e, const float *w,
                       size_t column, struct linear_scratch *s)
{
    struct sizes z = sizes_of(e);
    size_t T = (size_t)p->T;
    memset(p->dk, 0, z.W * T * sizeof *p->dk);
    e->kernels->gemm_dw_f32(w, z.W, p->xt, T, (int)z.d, 0, (int)z.W, p->T, p->dk, T, s->gemm);
    for (size_t t = 0; t < T; t++)
        for (size_t i = 0; i < z.W; i++) p->qkv[t * z.qkv + column + i] += p->dk[i * T + t];
}

static void project(struct linear_prompt *p, const struct siren_engine *e, int layer,
                    const float *dk, const float *dv, struct linear_scratch *s)
{
    const struct layer_weights *w = &e->model->layers[layer];
    struct sizes z = sizes_of(e);
    e->kernels->rmsnorm(p->hidden, z.d, p->T, (int)z.d, w->attention_norm,
                        e->model->config.norm_eps, p->x, z.d);
    transpose(p->x, (size_t)p->T, z.d, p->xt);
    e->kernels->gemm(p->x, z.d, p->T, &w->qkv, 0, w->qkv.n_panels, w->qkv_bias, p->qkv, z.qkv, 0,
                     s->gemm);
    if (dk) add_update(p, e, dk, z.Q, s);
    if (dv) add_update(p, e, dv, z.Q + z.W, s);
    for (int t = 0; t < p->T; t++)
        memcpy(p->values + (size_t)t * z.W, p->qkv + (size_t)t * z.qkv + z.Q + z.W,
               z.W * sizeof(float));
}

/* From a key before its norm and rotation and the query to p_hj, in place of the query. */
static void pull_back(const struct siren_engine *e, const struct layer_weights *w, size_t position,
                      const float *raw_key, float *query)
{
    const struct siren_config *c = &e->model->config;
    size_t D = (size_t)c->head_dim, half = D / 2;
    float sines[MOST_HALF];
    for (size_t i = 0; i < half; i++) sines[i] = -e->sines[position * half + i];
    e->kernels->rope(query, (int)D, e->cosines + position * half, sines);
    if (w->k_norm)
        e->kernels->rmsnorm_backward(raw_key, D, query, D, 1, (int)D, w->k_norm, c->norm_eps, query,
                                     D, 0, NULL);
}

/* Scores of one head, and p; then the softmax. */
static void score_head(struct linear_prompt *p, const struct siren_engine *e, int layer, size_t h,
                       const float *query)
{
    const struct siren_config *c = &e->model->config;
    struct sizes z = sizes_of(e);
    size_t T = (size_t)p->T, kv = h / (z.H / (size_t)c->n_kv_heads);
    float *a = p->weights + h * T, key[2 * MOST_HALF], pulled[2 * MOST_HALF];
    double most = -INFINITY, sum = 0;
    for (size_t t = 0; t < T; t++) {
        const struct layer_weights *w = &e->model->layers[layer];
        const float *raw = p->qkv + t * z.qkv + z.Q + kv * z.D;
        double score = 0;
        memcpy(key, raw, z.D * sizeof *key);
        if (w->k_norm) e->kernels->rmsnorm(key, z.D, 1, (int)z.D, w->k_norm, c->norm_eps, key, z.D);
        e->kernels->rope(key, (int)z.D, e->cosines + t * (z.D / 2), e->sines + t * (z.D / 2));
        for (size_t i = 0; i < z.D; i++) score += (double)key[i] * (double)query[i];
        a[t] = (float)(score / sqrt((double)z.D));
        memcpy(pulled, query, z.D * sizeof *pulled);
        pull_back(e, w, t, raw, pulled);
        for (size_t i = 0; i < z.D; i++)
            p->p[(h * z.D + i) * T + t] = pulled[i] / sqrtf((float)z.D);
        most = fmax(most, (double)a[t]);
    }
    for (size_t t = 0; t < T; t++) sum += exp((double)a[t] - most);
    for (size_t t = 0; t < T; t++) a[t] = (float)(exp((double)a[t] - most) / sum);
}

static void mix_head(struct linear_prompt *p, const struct siren_engine *e, size_t h)
{
    struct sizes z = sizes_of(e);
    size_t kv = h / (z.H / (size_t)e->model->config.n_kv_heads);
    const float *a = p->weights + h * (size_t)p->T;
    float *o = p->o + h * z.D, *s = p->mixed + h * z.d;
    memset(o, 0, z.D * sizeof *o);
    memset(s, 0, z.d * sizeof *s);
    for (size_t t = 0; t < (size_t)p->T; t++) {
        const float *v = p->values + t * z.W + kv * z.D, *x = p->x + t * z.d;
        for (size_t i = 0; i < z.D; i++) o[i] += a[t] * v[i];
        for (size_t i = 0; i < z.d; i++) s[i] += a[t] * x[i];
    }
}

static void attend(struct linear_prompt *p, const struct siren_engine *e, int layer)
{
    const struct siren_config *c = &e->model->config;
    const struct layer_weights *w = &e->model->layers[layer];
    struct sizes z = sizes_of(e);
    size_t last = (size_t)p->T - 1, half = z.D / 2;
    float *query = p->qkv + last * z.qkv;
    if (w->q_norm)
        e->kernels->rmsnorm(query, z.D, c->n_heads, (int)z.D, w->q_norm, c->norm_eps, query, z.D);
    for (size_t h = 0; h < z.H; h++) {
        e->kernels->rope(query + h * z.D, (int)z.D, e->cosines + last * half,
                         e->sines + last * half);
        score_head(p, e, layer, h, query + h * z.D);
        mix_head(p, e, h);
    }
}

/* ---- from there to the state after the layer ---- */

struct tail {
    float *u, *h, *gates; /* (d), (d) before the final norm, (2·F) */
};

static struct tail forward_tail(struct linear_prompt *p, const struct siren_engine *e, int layer,
                                struct linear_scratch *s)
{
    const struct siren_config *c = &e->model->config;
    const struct layer_weights *w = &e->model->layers[layer];
    const struct kernels *k = e->kernels;
    struct sizes z = sizes_of(e);
    struct tail t = {.u = s->wide + z.d * 3 * z.F, .h = s->wide + z.d * 3 * z.F + z.d};
    float *ffn = t.h + z.d + 2 * z.F;
    t.gates = t.h + z.d;
    memcpy(t.u, p->hidden + ((size_t)p->T - 1) * z.d, z.d * sizeof *t.u);
    k->gemm(p->o, z.Q, 1, &w->out, 0, w->out.n_panels, w->out_bias, t.u, z.d, 1, s->gemm);
    k->rmsnorm(t.u, z.d, 1, (int)z.d, w->ffn_norm, c->norm_eps, t.h, z.d);
    k->gemm_swiglu(t.h, z.d, 1, &w->ffn_in, 0, w->ffn_in.n_panels / 2, ffn, z.F, t.gates, 2 * z.F,
                   s->gemm);
    memcpy(t.h, t.u, z.d * sizeof *t.h);
    k->gemm(ffn, z.F, 1, &w->ffn_out, 0, w->ffn_out.n_panels, w->ffn_out_bias, t.h, z.d, 1,
            s->gemm);
    memcpy(p->output, t.h, z.d * sizeof *t.h);
    if (layer == c->n_layers - 1)
        k->rmsnorm(t.h, z.d, 1, (int)z.d, e->model->final_norm, c->norm_eps, p->output, z.d);
    return t;
}

/* Row i of J is the gradient of output i: the backward pass of d rows, which are the identity.  The
 * activations are one row for all of them (a stride of 0). */
static void backward_tail(struct linear_prompt *p, const struct siren_engine *e, int layer,
                          const struct tail *t, struct linear_scratch *s)
{
    const struct siren_config *c = &e->model->config;
    const struct layer_weights *w = &e->model->layers[layer];
    const struct kernels *k = e->kernels;
    struct sizes z = sizes_of(e);
    int n = (int)z.d;
    float *du = s->rows, *dn = du + z.d * z.d, *dffn = s->wide, *dgates = dffn + z.d * z.F;
    memset(du, 0, z.d * z.d * sizeof *du);
    for (size_t i = 0; i < z.d; i++) du[i * z.d + i] = 1;
    if (layer == c->n_layers - 1)
        k->rmsnorm_backward(t->h, 0, du, z.d, n, n, e->model->final_norm, c->norm_eps, du, z.d, 0,
                            NULL);
    memset(dffn, 0, z.d * z.F * sizeof *dffn);
    k->gemm_dx(du, z.d, n, &w->ffn_out, 0, input_panels(&w->ffn_out), dffn, z.F, 0, s->gemm);
    k->swiglu_backward(t->gates, 0, dffn, z.F, n, w->ffn_in.n_panels / 2, dgates, 2 * z.F);
    k->gemm_dx(dgates, 2 * z.F, n, &w->ffn_in, 0, input_panels(&w->ffn_in), dn, z.d, 0, s->gemm);
    k->rmsnorm_backward(t->u, 0, dn, z.d, n, n, w->ffn_norm, c->norm_eps, du, z.d, 1, NULL);
    k->gemm_dx(du, z.d, n, &w->out, 0, input_panels(&w->out), p->j, z.Q, 0, s->gemm);
    transpose(p->j, z.d, z.Q, p->jt);
}

void linearise(struct linear_prompt *p, const struct siren_engine *e, int layer, const float *dk,
               const float *dv, int jacobian, struct linear_scratch *s)
{
    struct tail t;
    project(p, e, layer, dk, dv, s);
    attend(p, e, layer);
    t = forward_tail(p, e, layer, s);
    if (jacobian) backward_tail(p, e, layer, &t, s);
}
