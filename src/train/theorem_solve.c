/* Least squares on linearised layers: the linear map, LSQR, leading directions. */
#include <math.h>
#include <string.h>

#include "base/claim.h"
#include "siren/random.h"
#include "train/theorem.h"

/* ---- the map ---- */

struct product {
    const struct linear_map *m;
    const float *in;
    float *out;
    atomic_long cursor;
};

static int kv_of(const struct linear_map *m, int h)
{
    const struct siren_config *c = &m->engine->model->config;
    return h / (c->n_heads / c->n_kv_heads);
}

/* do of one prompt. */
static void apply_attention(const struct linear_map *m, size_t i, const float *updates, float *o,
                            struct linear_scratch *s)
{
    const struct siren_config *c = &m->engine->model->config;
    const struct linear_prompt *p = &m->prompts[i];
    const struct linear_inputs *in = &m->inputs[i];
    size_t T = (size_t)p->T, D = (size_t)c->head_dim, W = (size_t)config_kv_width(c);
    memset(o, 0, (size_t)config_q_width(c) * sizeof *o);
    memset(p->dk, 0, W * T * sizeof *p->dk);
    if (m->mk)
        m->engine->kernels->gemm_dw_f32(updates, W, in->xkt, T, m->mk, 0, (int)W, p->T, p->dk, T,
                                        s->gemm);
    for (int h = 0; h < c->n_heads; h++) {
        size_t kv = (size_t)kv_of(m, h) * D, head = (size_t)h * D;
        float *out = o + head, *change = p->qkv; /* (T): the scores' */
        const float *v = updates + (size_t)m->mk * W + kv;
        double sum = 0;
        memset(change, 0, T * sizeof *change);
        for (size_t d = 0; d < D && m->mk; d++)
            for (size_t t = 0; t < T; t++)
                change[t] += p->p[(head + d) * T + t] * p->dk[(kv + d) * T + t];
        for (size_t t = 0; t < T && m->mk; t++) {
            float b = change[t] * p->weights[(size_t)h * T + t];
            sum += (double)b;
            for (size_t d = 0; d < D; d++) out[d] += b * p->values[t * W + kv + d];
        }
        for (size_t d = 0; d < D; d++) out[d] -= (float)sum * p->o[head + d];
        for (int k = 0; k < m->mv; k++) {
            float b = in->sv[h * m->mv + k];
            for (size_t d = 0; d < D; d++) out[d] += b * v[(size_t)k * W + d];
        }
    }
}

static void apply_job(void *context, int thread, int n_threads)
{
    struct product *q = context;
    const struct siren_config *c = &q->m->engine->model->config;
    struct linear_scratch *s = &q->m->scratch[thread];
    size_t d = (size_t)c->d_model, Q = (size_t)config_q_width(c);
    float *o = s->rows;
    for (long i; (i = claim_next(&q->cursor, (long)q->m->n)) >= 0;) {
        float *out = q->out + (size_t)i * d;
        apply_attention(q->m, (size_t)i, q->in, o, s);
        memset(out, 0, d * sizeof *out);
        for (size_t k = 0; k < Q; k++) {
            const float *row = q->m->prompts[i].jt + k * d;
            for (size_t a = 0; a < d; a++) out[a] += o[k] * row[a];
        }
    }
}

/* What one prompt adds to the transposed product: y (Q) is Jᵀ dh. */
static void pull_attention(const struct linear_map *m, size_t i, const float *y, float *updates,
                           struct linear_scratch *s)
{
    const struct siren_config *c = &m->engine->model->config;
    const struct linear_prompt *p = &m->prompts[i];
    const struct linear_inputs *in = &m->inputs[i];
    size_t T = (size_t)p->T, D = (size_t)c->head_dim, W = (size_t)config_kv_width(c);
    float *rows = p->qkv; /* (T, W): for each token, sum over heads of t_hj p_hj */
    memset(p->dk, 0, W * T * sizeof *p->dk);
    for (int h = 0; h < c->n_heads; h++) {
        size_t kv = (size_t)kv_of(m, h) * D, head = (size_t)h * D;
        float *change = rows, *v = updates + (size_t)m->mk * W + kv;
        double base = 0;
        for (size_t d = 0; d < D; d++) base += (double)y[head + d] * (double)p->o[head + d];
        for (size_t t = 0; t < T && m->mk; t++) {
            double dot = 0;
            for (size_t d = 0; d < D; d++)
                dot += (double)y[head + d] * (double)p->values[t * W + kv + d];
            change[t] = (float)((dot - base) * (double)p->weights[(size_t)h * T + t]);
        }
        for (size_t d = 0; d < D && m->mk; d++)
            for (size_t t = 0; t < T; t++)
                p->dk[(kv + d) * T + t] += change[t] * p->p[(head + d) * T + t];
        for (int k = 0; k < m->mv; k++) {
            float b = in->sv[h * m->mv + k];
            for (size_t d = 0; d < D; d++) v[(size_t)k * W + d] += b * y[head + d];
        }
    }
    if (!m->mk) return;
    for (size_t n = 0; n < W; n++)
        for (size_t t = 0; t < T; t++) rows[t * W + n] = p->dk[n * T + t];
    m->engine->kernels->gemm_dw_f32(in->xk, (size_t)m->mk, rows, W, p->T, 0, m->mk, (int)W, updates,
                                    W, s->gemm);
}

static void transposed_job(void *context, int thread, int n_threads)
{
    struct product *q = context;
    const struct siren_config *c = &q->m->engine->model->config;
    struct linear_scratch *s = &q->m->scratch[thread];
    size_t d = (size_t)c->d_model, Q = (size_t)config_q_width(c), n = linear_unknowns(q->m);
    float *y = s->rows;
    for (long i; (i = claim_next(&q->cursor, (long)q->m->n)) >= 0;) {
        const float *in = q->in + (size_t)i * d;
        memset(y, 0, Q * sizeof *y);
        for (size_t a = 0; a < d; a++) {
            const float *row = q->m->prompts[i].j + a * Q;
            for (size_t k = 0; k < Q; k++) y[k] += in[a] * row[k];
        }
        memset(q->m->sums + (size_t)i * n, 0, n * sizeof *q->m->sums);
        pull_attention(q->m, (size_t)i, y, q->m->sums + (size_t)i * n, s);
    }
}

size_t linear_unknowns(const struct linear_map *m)
{
    return (size_t)(m->mk + m->mv) * (size_t)config_kv_width(&m->engine->model->config);
}

void linear_apply(const struct linear_map *m, const float *updates, float *dh)
{
    struct product q = {.m = m, .in = updates, .out = dh};
    siren_pool_run(m->engine->pool, apply_job, &q);
}

void linear_transposed(const struct linear_map *m, const float *dh, float *updates)
{
    struct product q = {.m = m, .in = dh};
    size_t n = linear_unknowns(m);
    siren_pool_run(m->engine->pool, transposed_job, &q);
    memcpy(updates, m->sums, n * sizeof *updates);
    for (size_t i = 1; i < m->n; i++) m->engine->kernels->add(updates, m->sums + i * n, n);
}

/* ---- LSQR ---- */

static double norm(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* x = a·x + b·y */
static void combine(float *x, double a, double b, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)(a * (double)x[i] + b * (double)y[i]);
}

static double normalise(float *x, size_t n)
{
    double length = norm(x, n);
    if (length > 0) combine(x, 1 / length, 0, x, n);
    return length;
}

/* Golub-Kahan's bidiagonalisation and the rotations that solve it, as in the paper's section 4. */
struct lsqr {
    const struct linear_map *m;
    size_t n_b, n_x;
    float *u, *v, *w, *au, *av;
    double alpha, beta, rho, phi, ridge;
};

static void bidiagonalise(struct lsqr *s)
{
    linear_apply(s->m, s->v, s->au);
    combine(s->u, -s->alpha, 1, s->au, s->n_b);
    s->beta = normalise(s->u, s->n_b);
    linear_transposed(s->m, s->u, s->av);
    combine(s->v, -s->beta, 1, s->av, s->n_x);
    s->alpha = normalise(s->v, s->n_x);
}

/* Returns by how much the residual fell, relative to what it was. */
static double rotate(struct lsqr *s, float *x)
{
    double damped = hypot(s->rho, s->ridge), phi = s->phi * s->rho / damped;
    double rho = hypot(damped, s->beta), cosine = damped / rho, sine = s->beta / rho;
    double theta = sine * s->alpha;
    s->rho = -cosine * s->alpha;
    s->phi = sine * phi;
    combine(x, 1, cosine * phi / rho, s->w, s->n_x);
    combine(s->w, -theta / rho, 1, s->v, s->n_x);
    return phi != 0 ? 1 - fabs(s->phi / phi) : 0;
}

int linear_solve(const struct linear_map *m, const float *b, double ridge, int iterations, float *x,
                 float *work)
{
    enum { PATIENCE = 5 };
    struct lsqr s = {
        .m = m, .n_b = m->n * (size_t)m->engine->model->config.d_model, .n_x = linear_unknowns(m)};
    int made = 0, idle = 0;
    double first;
    s.u = work;
    s.au = s.u + s.n_b;
    s.v = s.au + s.n_b;
    s.w = s.v + s.n_x;
    s.av = s.w + s.n_x;
    memset(x, 0, s.n_x * sizeof *x);
    memcpy(s.u, b, s.n_b * sizeof *b);
    first = s.phi = normalise(s.u, s.n_b);
    if (!(first > 0)) return 0;
    linear_transposed(m, s.u, s.v);
    s.alpha = s.rho = normalise(s.v, s.n_x);
    s.ridge = ridge * s.alpha;
    memcpy(s.w, s.v, s.n_x * sizeof *s.w);
    while (made < iterations && s.alpha > 0 && fabs(s.phi) > 1e-6 * first && idle < PATIENCE) {
        bidiagonalise(&s);
        idle = rotate(&s, x) < 1e-5 ? idle + 1 : 0;
        made++;
    }
    return made;
}

/* ---- leading directions ---- */

/* Rows of x (r, n) become orthonormal, in order; one that is left without a length becomes 0. */
static void orthonormalise(float *x, int r, size_t n)
{
    for (int i = 0; i < r; i++) {
        float *row = x + (size_t)i * n;
        double before = norm(row, n), after;
        for (int turn = 0; turn < 2; turn++)
            for (int j = 0; j < i; j++) {
                const float *other = x + (size_t)j * n;
                double dot = 0;
                for (size_t k = 0; k < n; k++) dot += (double)row[k] * (double)other[k];
                combine(row, 1, -dot, other, n);
            }
        after = norm(row, n);
        combine(row, after > 1e-5 * before ? 1 / after : 0, 0, row, n);
    }
}

/* Block power iteration on wᵀw; all W directions where r is W. */
static void leading_outputs(const float *gram, int W, int r, float *u, float *work)
{
    enum { TURNS = 30 };
    size_t n = (size_t)W;
    for (int i = 0; i < r; i++)
        for (size_t k = 0; k < n; k++)
            u[(size_t)i * n + k] =
                r == W ? (float)(k == (size_t)i) : (float)siren_random_normal(1, (uint64_t)i, k);
    for (int turn = 0; turn < TURNS && r < W; turn++) {
        orthonormalise(u, r, n);
        memset(work, 0, (size_t)r * n * sizeof *work);
        for (int i = 0; i < r; i++)
            for (size_t k = 0; k < n; k++) {
                float a = u[(size_t)i * n + k];
                for (size_t j = 0; j < n; j++) work[(size_t)i * n + j] += a * gram[k * n + j];
            }
        memcpy(u, work, (size_t)r * n * sizeof *u);
    }
    orthonormalise(u, r, n);
}

void leading_inputs(const struct siren_engine *e, const float *w, int d, int W, int r, float *z,
                    float *work, float *gemm_scratch)
{
    float *gram = work, *u = gram + (size_t)W * (size_t)W, *turned = u + (size_t)r * (size_t)W;
    memset(gram, 0, (size_t)W * (size_t)W * sizeof *gram);
    e->kernels->gemm_dw_f32(w, (size_t)W, w, (size_t)W, d, 0, W, W, gram, (size_t)W, gemm_scratch);
    leading_outputs(gram, W, r, u, turned);
    for (int i = 0; i < r; i++)
        for (int k = 0; k < d; k++) {
            double dot = 0;
            for (int j = 0; j < W; j++)
                dot += (double)u[(size_t)i * (size_t)W + (size_t)j] *
                       (double)w[(size_t)k * (size_t)W + (size_t)j];
            z[(size_t)i * (size_t)d + (size_t)k] = (float)dot;
        }
    orthonormalise(z, r, (size_t)d);
}
