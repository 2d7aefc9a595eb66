/* Gradients: the contract spelt out, on every set of this machine; sums in double; differences of
 * the forward kernels; PyTorch (tests/reference/backward_kernels.py). */
#include <stdio.h>

#include "kernels_case.h"

static const struct kernels *sets[ISA_COUNT], *modes[MODES_MOST];
static int n_sets, n_modes;

/* ---- products --------------------------------------------------------------- */

static const struct product_case cases[] = {
    {TENSOR_F32, 1, 16, 1},      {TENSOR_F32, 1, 200, 77},
    {TENSOR_F32, 2, 31, 100},    {TENSOR_F32, 5, 33, 257},
    {TENSOR_F32, 13, 600, 48},   {TENSOR_F32, 37, 97, 15},
    {TENSOR_F32, 300, 17, 40},   {TENSOR_F16, 7, 40, 290},
    {TENSOR_F16, 3, 17, 33},     {TENSOR_BF16, 19, 50, 65},
    {TENSOR_Q4_0, 9, 50, 96},    {TENSOR_Q4_1, 1, 130, 64},
    {TENSOR_Q4_1, 25, 70, 96},   {TENSOR_Q8_0, 12, 50, 96},
    {TENSOR_Q8_0, 3, 70, 288},   {TENSOR_Q6_K, 6, 64, 256},
    {TENSOR_Q5_1, 4, 430, 64},   {TENSOR_Q4_K, 14, 20, 256},
    {TENSOR_BF16, 30, 600, 96},  {TENSOR_BF16, 40, 17, 33},
    {TENSOR_BF16, 14, 33, 16},   {TENSOR_F32, 217, 1900, 3},
    {TENSOR_Q4_1, 5, 52000, 32}, {TENSOR_BF16, 3, 16401, 47}, /* vocabularies: by parts of n */
};
enum { N_CASES = sizeof cases / sizeof *cases };

static float *decoded(const struct tensor *t)
{
    size_t n = (size_t)t->shape[0] * (size_t)t->shape[1];
    float *w = floats(n);
    tensor_dequantize(t, 0, (int64_t)n, w);
    return w;
}

static void model_dx(const struct kernels *kernels, const float *dy, size_t ldy,
                     const struct product_case *c, const float *w, float *dx, size_t ldx, int add)
{
    float *column = floats((size_t)c->N);
    for (int k = 0; k < c->K; k++) {
        for (int n = 0; n < c->N; n++) column[n] = w[n * c->K + k];
        for (size_t t = 0; t < (size_t)c->T; t++) {
            float sum = chain(kernels, dy + t * ldy, column, c->N), *out = dx + t * ldx + k;
            *out = add ? *out + sum : sum;
        }
    }
    free(column);
}

/* One set in one mode against the chain spelt out. */
static void check_dx(const struct product_case *c, const struct kernels *kernels)
{
    size_t T = (size_t)c->T, ldx = (size_t)c->K + 5, ldy = (size_t)c->N + 3;
    struct tensor t = made_tensor(c->type, c->N, c->K, 3);
    struct packed w = packed_of(&t);
    float *weights = decoded(&t), *dy = normals(T * ldy, 1), *scratch = floats(gemm_dx_scratch(&w));
    int panels = (c->K + 15) / 16;
    for (int add = 0; add < 2; add++) {
        float *expected = normals(T * ldx, 4);
        model_dx(kernels, dy, ldy, c, weights, expected, ldx, add);
        for (int cut = 0; cut <= panels && cut < 5; cut++) {
            float *got = normals(T * ldx, 4);
            kernels->gemm_dx(dy, ldy, c->T, &w, 0, cut, got, ldx, add, scratch);
            kernels->gemm_dx(dy, ldy, c->T, &w, cut, panels, got + 16 * cut, ldx, add, scratch);
            assert_same(got, expected, T * ldx, kernels->name); /* columns behind K, too */
            free(got);
        }
        free(expected);
    }
    free(dy);
    free(scratch);
    free(weights);
    packed_free(&w);
    free_tensor(&t);
}

static void test_dx(void **state)
{
    const struct kernels *list[MODES_MOST];
    int n = machine_modes(list);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < N_CASES; c++) check_dx(&cases[c], list[i]);
}

/* Rows first … first + n - 1 of a case, alone. */
struct row_part {
    int first, n;
};

/* Parts of the rows have the bits of all; slow: on sets of plain C, too. */
static void check_dx_parts(const struct product_case *c, int slow, const struct row_part *parts,
                           int n_parts)
{
    size_t N = (size_t)c->N, K = (size_t)c->K, n_dx = (size_t)c->T * K;
    struct tensor t = made_tensor(c->type, c->N, c->K, 8);
    struct packed w = packed_of(&t);
    float *dy = normals((size_t)c->T * N, 1), *all = floats(n_dx), *got = floats(n_dx);
    float *scratch = floats(gemm_dx_scratch(&w));
    const struct kernels *list[MODES_MOST];
    int n = machine_modes(list), panels = (c->K + 15) / 16;
    for (int i = 0; i < n; i++) {
        int plain = first_of_order(list[i]);
        if (plain && !slow) continue;
        list[i]->gemm_dx(dy, N, c->T, &w, 0, panels, all, K, 0, scratch);
        for (const struct row_part *p = parts; p < parts + n_parts; p++) {
            list[i]->gemm_dx(dy + (size_t)p->first * N, N, p->n, &w, 0, panels, got, K, 0, scratch);
            assert_same(got, all + (size_t)p->first * K, (size_t)p->n * K, "rows");
        }
    }
    free(dy);
    free(all);
    free(got);
    free(scratch);
    packed_free(&w);
    free_tensor(&t);
}

/* A row alone and in batches of every height; and rows of a vocabulary, which go in blocks. */
static void test_dx_rows(void **state)
{
    const struct product_case layer = {TENSOR_Q4_1, 30, 150, 64};
    const struct product_case vocabulary = {TENSOR_BF16, 259, 16401, 20};
    const struct row_part ends[] = {{0, 1}, {256, 1}};
    struct row_part heights[29];
    for (int i = 0; i < 29; i++) heights[i] = (struct row_part){0, i + 1};
    check_dx_parts(&layer, 1, heights, 29);
    check_dx_parts(&vocabulary, 0, ends, 2);
}

/* n columns, sixteen every `apart` numbers. */
static float *transposed(const float *x, size_t ldx, int apart, int T, int n)
{
    float *out = floats((size_t)n * (size_t)T + 1);
    for (int t = 0; t < T; t++)
        for (int i = 0; i < n; i++)
            out[(size_t)i * (size_t)T + (size_t)t] = x[(size_t)t * ldx + i / 16 * apart + i % 16];
    return out;
}

/* One set in one mode; F32: by the product that is f32 in every mode; GATED: dY's panels are every
 * other; WRITTEN: not added to what is there; PUT_AWAY: nor, in whole cache lines. */
enum dw_case { DW, DW_GATED, DW_F32, DW_WRITTEN, DW_PUT_AWAY, DW_CASES };

static void check_dw(const struct kernels *kernels, enum dw_case which, int T, int N, int K)
{
    int f32 = which == DW_F32, apart = which == DW_GATED ? 32 : 16, add = which < DW_WRITTEN;
    size_t ldy = (size_t)(N / 16 * apart + N % 16) + 3, ldx = (size_t)K + 2,
           ldw = which == DW_PUT_AWAY ? ((size_t)K + 15) / 16 * 16 : (size_t)K + 1,
           n_w = (size_t)N * ldw;
    float *dy = normals((size_t)T * ldy, 1), *x = normals((size_t)T * ldx, 2);
    float *expected = normals(n_w, 4), *scratch = floats(gemm_dw_scratch());
    float *rows = transposed(dy, ldy, apart, T, N), *columns = transposed(x, ldx, 16, T, K);
    float *kept = floats(kept_words(kernels, T, K));
    for (int n = 0; n < N; n++)
        for (int k = 0; k < K; k++) {
            float *w = &expected[(size_t)n * ldw + (size_t)k];
            *w = (add ? *w : 0) + chain(f32 ? sets[0] : kernels, rows + n * T, columns + k * T, T);
        }
    for (int cut = 0; cut < N; cut = 2 * cut + (apart == 16 ? 7 : 16)) {
        float *got = normals(n_w, 4);
        int rows_cut = cut < T ? cut : T; /* the later rows first; odd cuts share a pair */
        memset(kept, 0xff, kept_words(kernels, T, K) * sizeof *kept);
        kernels->keep_inputs(x + (size_t)rows_cut * ldx, ldx, rows_cut, T - rows_cut, T, K, kept);
        kernels->keep_inputs(x, ldx, 0, rows_cut, T, K, kept);
        for (int part = 0; part < 2; part++) {
            int from = part ? 0 : cut, to = part ? cut : N;
            if (f32)
                kernels->gemm_dw_f32(dy, ldy, x, ldx, T, from, to, K, got, ldw, scratch);
            else
                kernels->gemm_dw(dy, ldy, apart, kept, T, from, to, K, got, ldw, add, scratch);
        }
        assert_same(got, expected, n_w, kernels->name);
        free(got);
    }
    free(dy);
    free(x);
    free(kept);
    free(rows);
    free(columns);
    free(expected);
    free(scratch);
}

static void test_adamw(void **state)
{
    enum { MOST = 50 };
    const struct adamw_scalars k = {0.999f, 0.98f, 0.1f, 0.02f, -3e-3f, 0.3f, 1e-8f, 0.7f};
    for (int n = 0; n < MOST; n++) {
        float *x = normals(MOST, 1), *g = normals(MOST, 2), *m = normals(MOST, 3);
        float *v = normals(MOST, 4);
        for (int i = 0; i < MOST; i++) v[i] *= v[i];
        for (int s = 0; s < n_sets; s++) {
            float *x2 = normals(MOST, 1), *m2 = normals(MOST, 3), *v2 = floats(MOST);
            memcpy(v2, v, MOST * sizeof *v);
            sets[s]->adamw(x2, g, m2, v2, (size_t)n, &k);
            for (int i = 0; i < MOST; i++) {
                float d = g[i] * k.factor, mean = fmaf(k.one_beta1, d - m[i], m[i]);
                float square = fmaf(k.one_beta2 * d, d, v[i] * k.beta2);
                float y = x[i] * k.keep + k.minus_rate * mean / (sqrtf(square) / k.root2 + k.eps);
                assert_true(x2[i] == (i < n ? y : x[i]));
                assert_true(m2[i] == (i < n ? mean : m[i]) && v2[i] == (i < n ? square : v[i]));
            }
            free(x2), free(m2), free(v2);
        }
        free(x), free(g), free(m), free(v);
    }
}

static void test_dw(void **state)
{
    static const int shapes[][3] = {{1, 1, 1},     {0, 5, 9},     {3, 17, 33},  {20, 31, 16},
                                    {257, 13, 47}, {40, 110, 70}, {9, 25, 430}, {530, 100, 20}};
    const struct kernels *list[MODES_MOST];
    int n = machine_modes(list);
    for (int i = 0; i < n; i++)
        for (int s = 0; s < 8; s++)
            for (int which = 0; which < (shapes[s][0] ? DW_CASES : DW_WRITTEN); which++)
                check_dw(list[i], (enum dw_case)which, shapes[s][0], shapes[s][1], shapes[s][2]);
}

/* Against sums in double: the error of a chain is within a few roots of its length. */
static void test_product_accuracy(void **state)
{
    enum { T = 300, N = 96, K = 32 };
    const struct kernels *k = kernels_select(isa_best(), NULL);
    struct tensor t = made_tensor(TENSOR_F32, N, K, 5);
    struct packed w = packed_of(&t);
    const float *weights = t.data;
    float *dy = normals(T * N, 1), *x = normals(T * K, 2), *dx = floats(T * K), dw[N * K] = {0};
    float *scratch = floats(gemm_dx_scratch(&w)), *more = floats(gemm_dw_scratch());
    float *kept = floats(kept_words(k, T, K));
    k->gemm_dx(dy, N, T, &w, 0, K / 16, dx, K, 0, scratch);
    k->keep_inputs(x, K, 0, T, T, K, kept);
    k->gemm_dw(dy, N, 16, kept, T, 0, N, K, dw, K, 0, more);
    for (int c = 0; c < K; c++) {
        for (int i = 0; i < T; i++)
            assert_chain(dx[i * K + c], dy + i * N, 1, weights + c, K, N, 20);
        for (int n = 0; n < N; n++) assert_chain(dw[n * K + c], dy + n, N, x + c, K, T, 20);
    }
    free(dy);
    free(x);
    free(dx);
    free(scratch);
    free(more);
    free(kept);
    packed_free(&w);
    free_tensor(&t);
}

/* ---- rows ------------------------------------------------------------------- */

static float tree(float p[16])
{
    for (int step = 8; step; step /= 2)
        for (int i = 0; i < step; i++) p[i] = p[i] + p[i + step];
    return p[0];
}

static void test_column_sums(void **state)
{
    enum { T = 9, MOST = 70 };
    float *x = normals(T * MOST, 1), *start = normals(MOST, 2);
    for (int n = 1; n <= MOST; n += 3)
        for (int i = 0; i < n_sets; i++) {
            float expected[MOST], got[MOST];
            memcpy(expected, start, sizeof expected);
            memcpy(got, start, sizeof got);
            for (int t = 0; t < T; t++)
                for (int c = 0; c < n; c++) expected[c] = expected[c] + x[t * MOST + c];
            sets[i]->column_sums(x, MOST, T, n, got);
            assert_same(got, expected, MOST, sets[i]->name);
        }
    free(x);
    free(start);
}

static void model_rmsnorm(const float *x, const float *dy, int n, const float *weight, float *dx,
                          int add, float *dweight)
{
    float squares[16] = {0}, dots[16] = {0};
    for (int i = 0; i < n; i++) {
        squares[i % 16] = fmaf(x[i], x[i], squares[i % 16]);
        dots[i % 16] = fmaf(dy[i] * weight[i], x[i], dots[i % 16]);
    }
    float r = 1.0f / sqrtf(tree(squares) / (float)n + 1e-5f);
    float along = tree(dots) / (float)n * r * r;
    for (int i = 0; i < n; i++) {
        float out = fmaf(-x[i], along, dy[i] * weight[i]) * r;
        dweight[i] = fmaf(dy[i], x[i] * r, dweight[i]);
        dx[i] = add ? dx[i] + out : out;
    }
}

static void test_rmsnorm(void **state)
{
    enum { T = 3, LD = 130 };
    float *x = normals(T * LD, 1), *dy = normals(T * LD, 2), *weight = normals(LD, 3);
    for (int n = 1; n < LD; n += n < 36 ? 1 : 19)
        for (int add = 0; add < 2; add++) {
            float *expected = normals(T * LD, 4), *dw = normals(LD, 5);
            for (int t = 0; t < T; t++)
                model_rmsnorm(x + t * LD, dy + t * LD, n, weight, expected + t * LD, add, dw);
            for (int i = 0; i < n_sets; i++) {
                float *got = normals(T * LD, 4), *got_dw = normals(LD, 5);
                sets[i]->rmsnorm_backward(x, LD, dy, LD, T, n, weight, 1e-5f, got, LD, add, got_dw);
                assert_same(got, expected, T * LD, sets[i]->name);
                assert_same(got_dw, dw, LD, "weight");
                memcpy(got, dy, T * LD * sizeof *got); /* in place */
                sets[i]->rmsnorm_backward(x, LD, got, LD, T, n, weight, 1e-5f, got, LD, 0, NULL);
                for (int t = 0; t < T && !add; t++)
                    assert_same(got + t * LD, expected + t * LD, (size_t)n, "in place");
                free(got);
                free(got_dw);
            }
            free(expected);
            free(dw);
        }
    free(x);
    free(dy);
    free(weight);
}

static void test_swiglu(void **state)
{
    enum { T = 3, PAIRS = 5, F = 16 * PAIRS, LD = 2 * F + 4 };
    float *gates = normals(T * LD, 1), *dh = normals(T * F, 2);
    for (int i = 0; i < T * LD; i++) gates[i] *= 1 + (float)(i % 9);
    gates[0] = -200, gates[1] = 200, gates[2] = 0, gates[3] = -0.0f, gates[4] = -88.8f;
    float *first = floats(T * LD);
    for (int i = 0; i < n_sets; i++) {
        float *d = floats(T * LD);
        sets[i]->swiglu_backward(gates, LD, dh, F, T, PAIRS, d, LD);
        for (int t = 0; t < T; t++)
            for (int j = 0; j < F; j++) {
                int at = t * LD + j / 16 * 32 + j % 16;
                double g = (double)gates[at], u = (double)gates[at + 16], s = 1 / (1 + exp(-g));
                double y = (double)dh[t * F + j], slope = s * (1 + g * (1 - s));
                assert_true(fabs((double)d[at + 16] - y * g * s) <= 6e-7 * fabs(y * g * s) + 1e-35);
                assert_true(fabs((double)d[at] - y * u * slope) <=
                            2e-6 * fabs(y * u) * s * (1 + fabs(g)) + 1e-35);
            }
        if (i == 0) memcpy(first, d, T * LD * sizeof *d);
        for (int t = 0; t < T; t++) assert_same(d + t * LD, first + t * LD, 2 * F, sets[i]->name);
        memcpy(d, gates, T * LD * sizeof *d); /* in place */
        sets[i]->swiglu_backward(d, LD, dh, F, T, PAIRS, d, LD);
        for (int t = 0; t < T; t++) assert_same(d + t * LD, first + t * LD, 2 * F, "in place");
        free(d);
    }
    free(gates);
    free(dh);
    free(first);
}

/* Gate and up as gemm_swiglu stores them give its h to the bit. */
static void test_swiglu_saved(void **state)
{
    enum { T = 9, PAIRS = 3, K = 50 };
    struct tensor t = made_tensor(TENSOR_F32, 32 * PAIRS, K, 8);
    struct packed w = packed_of(&t);
    float *x = normals(T * K, 1), *scratch = floats(gemm_scratch(&w));
    float h[T * 16 * PAIRS], again[T * 16 * PAIRS], gates[T * 32 * PAIRS];
    for (int i = 0; i < n_sets; i++) {
        sets[i]->gemm_swiglu(x, K, T, &w, 0, PAIRS, h, 16 * PAIRS, gates, 32 * PAIRS, scratch);
        sets[i]->swiglu(gates, 32 * PAIRS, T, PAIRS, again, 16 * PAIRS);
        assert_same(again, h, T * 16 * PAIRS, sets[i]->name);
    }
    free(x);
    free(scratch);
    packed_free(&w);
    free_tensor(&t);
}

static void test_softmax(void **state)
{
    enum { N = 1003 };
    float *x = normals(N, 1), *y = floats(N), *first = floats(N), *chunks = floats(N);
    for (int i = 0; i < N; i++) x[i] *= 4;
    x[7] = -INFINITY; /* a forbidden token */
    x[8] = -3e38f;
    for (int mode = 0; mode < 2; mode++)
        for (int i = 0; i < n_sets; i++) {
            float lse = sets[i]->logsumexp(x, N), b = mode ? 0.7f : 0.0f, a = -1.5f;
            double entropy = 0;
            for (int j = 0; j < N; j++) {
                double l = (double)x[j] - (double)lse;
                if (isfinite(l)) entropy -= exp(l) * l;
            }
            sets[i]->softmax_backward(x, N, lse, 40, a, (float)entropy, b, y);
            for (int j = 0; j < N; j++) {
                double l = (double)x[j] - (double)lse, p = exp(l);
                double bonus = p > 0 ? (double)b * p * (l + entropy) : 0;
                double expected = (double)a * ((j == 40) - p) - bonus;
                /* the rounding of l goes into p, and with b into p·(l + entropy) */
                double size = p > 0 ? p * (1 + fabs(l)) * (1 + fabs(l + entropy)) : 0;
                assert_true(fabs((double)y[j] - expected) <= 5e-7 * (size + (j == 40)) + 1e-37);
            }
            if (i == 0) memcpy(first, y, N * sizeof *y);
            assert_same(y, first, N, sets[i]->name);
            memcpy(chunks, x, N * sizeof *x); /* in chunks, in place */
            for (int64_t at = 0; at < N; at += 30) {
                size_t n = N - at < 30 ? (size_t)(N - at) : 30;
                sets[i]->softmax_backward(chunks + at, n, lse, 40 - at, a, (float)entropy, b,
                                          chunks + at);
            }
            assert_same(chunks, first, N, "chunks");
        }
    free(x);
    free(y);
    free(first);
    free(chunks);
}

/* ---- attention -------------------------------------------------------------- */

/* Pages of one kv head, their mirrors and gradients: keys k and values v are (positions, D). */
struct pages {
    int n, D;
    const float *k, *v;
    float **list[6]; /* k, v, mirror_k, mirror_v, dk, dv */
};

static struct pages make_pages(const struct kernels *kernels, int positions, int D, const float *k,
                               const float *v)
{
    struct pages p = {
        .n = (positions + ATTENTION_PAGE - 1) / ATTENTION_PAGE, .D = D, .k = k, .v = v};
    for (int l = 0; l < 6; l++) {
        p.list[l] = alloc_zeroed((size_t)p.n, sizeof *p.list[l]);
        for (int i = 0; i < p.n; i++) {
            size_t size = (size_t)D * ATTENTION_PAGE * sizeof(float);
            p.list[l][i] = alloc_zeroed(size, 1);
            if (l < 4) memset(p.list[l][i], 0xff, size); /* NaN where nothing is stored */
        }
    }
    for (int j = 0; j < positions; j++)
        kernels->page_store(p.list[0][j / 32], p.list[1][j / 32], D, j % 32, 1, k + j * D,
                            (size_t)D, v + j * D, (size_t)D);
    for (int i = 0; i < p.n; i++)
        kernels->page_mirror(p.list[0][i], p.list[1][i], D, p.list[2][i], p.list[3][i]);
    return p;
}

static void free_pages(struct pages *p)
{
    for (int l = 0; l < 6; l++) {
        for (int i = 0; i < p->n; i++) free(p->list[l][i]);
        free(p->list[l]);
    }
}

static void run(const struct kernels *kernels, const struct pages *p, const float *q,
                const float *dout, const size_t *offsets, const int *counts, int R, float scale,
                float *dq, int add)
{
    float *scratch = floats(attention_backward_scratch(p->D, p->n));
    struct attention_pages pages = {
        (const float *const *)p->list[0],
        (const float *const *)p->list[1],
        (const float *const *)p->list[2],
        (const float *const *)p->list[3],
        p->list[4],
        p->list[5],
    };
    kernels->attention_backward(q, dout, offsets, counts, R, &pages, p->n, p->D, scale, dq, add,
                                scratch);
    free(scratch);
}

/* The contract for one row; exp from the kernels under test.  s, dp: P and dS, by position. */
static void model_row(const struct kernels *kernels, const struct pages *p, const float *q,
                      const float *dout, int count, float scale, float *dq, float *s, float *dp)
{
    float *keys = floats((size_t)count);
    float sums[16] = {0}, deltas[16] = {0}, highest = -INFINITY;
    for (int j = 0; j < count; j++) {
        s[j] = score(kernels, q, p->k + j * p->D, p->D) * scale;
        dp[j] = chain(kernels, dout, p->v + j * p->D, p->D);
        if (s[j] > highest) highest = s[j];
    }
    for (int j = 0; j < count; j++) s[j] = s[j] - highest;
    kernels->exps(s, s, (size_t)count);
    for (int j = 0; j < count; j++) sums[j % 16] = sums[j % 16] + s[j];
    float inverse = 1.0f / tree(sums);
    for (int j = 0; j < count; j++) {
        s[j] = s[j] * inverse;
        deltas[j % 16] = fmaf(s[j], dp[j], deltas[j % 16]);
    }
    float delta = tree(deltas);
    for (int j = 0; j < count; j++) dp[j] = s[j] * (dp[j] - delta) * scale;
    for (int d = 0; d < p->D; d++) {
        for (int j = 0; j < count; j++) keys[j] = p->k[j * p->D + d];
        dq[d] = chain(kernels, dp, keys, count) + 0.0f;
    }
    free(keys);
}

/* … and for the sums over R rows: x (R, positions) of P or dS, y rows at offsets; out (positions,
 * D). */
static void model_sums(const struct kernels *kernels, const float *x, int positions, const float *y,
                       const size_t *offsets, int R, int D, float *out)
{
    float *column = floats((size_t)R), *other = floats((size_t)R);
    for (int j = 0; j < positions; j++)
        for (int d = 0; d < D; d++) {
            for (int r = 0; r < R; r++) {
                column[r] = x[r * positions + j];
                other[r] = y[offsets[r] + (size_t)d];
            }
            out[j * D + d] = chain(kernels, column, other, R) + 0.0f;
        }
    free(column);
    free(other);
}

static void assert_pages(const struct pages *p, const float *dk, const float *dv, int positions,
                         const char *what)
{
    for (int j = 0; j < p->n * ATTENTION_PAGE; j++)
        for (int side = 0; side < 2; side++) {
            const float *got = p->list[4 + side][j / 32] + j % 32 * p->D;
            if (j < positions)
                assert_same(got, (side ? dv : dk) + j * p->D, (size_t)p->D, what);
            else
                for (int d = 0; d < p->D; d++) assert_true(got[d] == 0);
        }
}

/* One set in one mode against the contract spelt out. */
static void check_attention(const struct kernels *kernels, int D, int positions, int R, int sorted)
{
    size_t all = (size_t)(positions * D), rows = (size_t)(R * D);
    float *k = normals(all, 50), *v = normals(all, 51), scale = 1.0f / sqrtf((float)D);
    size_t *offsets = alloc_array((size_t)R, sizeof *offsets);
    int *counts = alloc_array((size_t)R, sizeof *counts);
    for (int r = 0; r < R; r++) {
        counts[r] = 1 + (sorted ? r * positions / R : r * 59 % positions); /* any order */
        offsets[r] = (size_t)((R - 1 - r) * D);
    }
    float *q = normals(rows, 52), *dout = normals(rows, 53), *got = normals(rows, 54);
    float *added = normals(rows, 54), *dq = floats(rows);
    float *dk = floats(all), *dv = floats(all);
    float *P = alloc_zeroed((size_t)(R * positions), sizeof *P);
    float *dS = alloc_zeroed((size_t)(R * positions), sizeof *dS);
    struct pages p = make_pages(kernels, positions, D, k, v);
    for (int r = 0; r < R; r++)
        model_row(kernels, &p, q + offsets[r], dout + offsets[r], counts[r], scale, dq + offsets[r],
                  P + r * positions, dS + r * positions);
    model_sums(kernels, dS, positions, q, offsets, R, D, dk);
    model_sums(kernels, P, positions, dout, offsets, R, D, dv);
    for (size_t i = 0; i < rows; i++) added[i] = added[i] + dq[i];
    run(kernels, &p, q, dout, offsets, counts, R, scale, got, 1);
    assert_same(got, added, rows, kernels->name);
    assert_pages(&p, dk, dv, positions, kernels->name);
    for (int way = 0; way < 2; way++) { /* in place */
        for (int page = 0; page < p.n; page++)
            for (int side = 4; side < 6; side++)
                memset(p.list[side][page], 0, (size_t)(D * ATTENTION_PAGE) * sizeof(float));
        memcpy(got, way ? dout : q, rows * sizeof *got);
        run(kernels, &p, way ? q : got, way ? got : dout, offsets, counts, R, scale, got, 0);
        assert_same(got, dq, rows, "in place");
        assert_pages(&p, dk, dv, positions, "in place");
    }
    free_pages(&p);
    free(k), free(v), free(offsets), free(counts), free(q), free(dout), free(got);
    free(dq), free(added), free(dk), free(dv), free(P), free(dS);
}

static void test_attention_model(void **state)
{
    static const int sizes[][3] = {{16, 1, 1},    {16, 40, 5},   {32, 33, 50},
                                   {48, 96, 13},  {64, 130, 97}, {80, 65, 49},
                                   {128, 70, 20}, {96, 32, 144}, {512, 3, 50}};
    for (int i = 0; i < n_modes; i++)
        for (int c = 0; c < 9; c++)
            check_attention(modes[i], sizes[c][0], sizes[c][1], sizes[c][2], c % 2 == 0);
}

/* Cuts of the run into calls (mode bf16: at even rows, by tiles at multiples of 32), more pages
 * behind, other numbers in masked positions: no bit moves. */
static void test_attention_cuts(void **state)
{
    enum { R = 120, POSITIONS = 140, D = 32, SIZE = POSITIONS * D };
    float *k = normals(SIZE, 50), *v = normals(SIZE, 51), *q = normals(R * D, 52);
    float *dout = normals(R * D, 53), *first = floats(R * D), *got = floats(R * D);
    size_t offsets[R];
    int counts[R];
    for (int r = 0; r < R; r++) offsets[r] = (size_t)(r * D), counts[r] = 1 + r * 2 / 3;
    for (int d = 0; d < D; d++) q[50 * D + d] = 1e-38f, dout[50 * D + d] = -1e-44f; /* underflow */
    for (int i = 0; i < n_modes; i++) {
        struct pages all = make_pages(modes[i], counts[R - 1], D, k, v);
        run(modes[i], &all, q, dout, offsets, counts, R, 0.2f, got, 0);
        if (first_of_order(modes[i])) memcpy(first, got, R * D * sizeof *got);
        assert_same(got, first, R * D, modes[i]->name);
        int whole = order_of_tiles(modes[i]) ? 32 : modes[i]->compute == COMPUTE_BF16 ? 2 : 1;
        for (int part = 1, step; part < R; part += part < 14 ? 3 : 17) {
            step = (part + whole - 1) / whole * whole;
            struct pages p = make_pages(modes[i], POSITIONS, D, k, v);
            for (int j = counts[R - 1]; j < POSITIONS; j++) {
                float huge[D];
                for (int d = 0; d < D; d++) huge[d] = (j + d) % 2 ? 3e38f : -3e38f;
                modes[i]->page_store(p.list[0][j / 32], p.list[1][j / 32], D, j % 32, 1, huge, D,
                                     huge, D);
            }
            for (int page = 0; page < p.n; page++)
                modes[i]->page_mirror(p.list[0][page], p.list[1][page], D, p.list[2][page],
                                      p.list[3][page]);
            for (int r = 0; r < R; r += step)
                run(modes[i], &p, q, dout, offsets + r, counts + r, R - r < step ? R - r : step,
                    0.2f, got, 0);
            assert_same(got, first, R * D, "cut");
            for (int page = 0; page < all.n; page++)
                for (int side = 4; side < 6; side++)
                    assert_same(p.list[side][page], all.list[side][page], 32 * D, "cut");
            free_pages(&p);
        }
        free_pages(&all);
    }
    free(k), free(v), free(q), free(dout), free(first), free(got);
}

/* ---- differences of the forward kernels --------------------------------------- */

static double dot(const float *a, const float *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Slope of loss() when x moves along `way` (n numbers), from four differences: its error is of the
 * fifth derivative.  x is left as it was. */
static double slope(double (*loss)(void *), void *self, float *x, const float *way, int n)
{
    const double h = 1.0 / 128;
    static const int steps[4] = {-2, -1, 1, 2}, weights[4] = {1, -8, 8, -1};
    double sum = 0;
    float *kept = floats((size_t)n);
    memcpy(kept, x, (size_t)n * sizeof *x);
    for (int s = 0; s < 4; s++) {
        for (int i = 0; i < n; i++) x[i] = (float)((double)kept[i] + h * steps[s] * (double)way[i]);
        sum += weights[s] * loss(self);
    }
    memcpy(x, kept, (size_t)n * sizeof *x);
    free(kept);
    return sum / (12 * h);
}

static void assert_slope(double measured, double expected, const char *what)
{
    if (!(fabs(measured - expected) <= 1e-3 * (1 + fabs(expected))))
        fail_msg("%s: slope %.9g, gradient %.9g", what, measured, expected);
}

enum { FT = 5, FN = 64, FK = 40 };
struct forward {
    const struct kernels *k;
    float x[FT * FN], w[FN * FK], dy[FT * FN], weight[FN];
};

static double loss_rmsnorm(void *self)
{
    struct forward *f = self;
    float y[FT * FN];
    f->k->rmsnorm(f->x, FN, FT, FN, f->weight, 1e-5f, y, FN);
    return dot(y, f->dy, FT * FN);
}

/* x (FT, FK) · W (FN, FK), gate and up alternating when gated. */
static double product_loss(struct forward *f, int gated)
{
    struct tensor t = {.type = TENSOR_F32, .n_dims = 2, .shape = {FN, FK}, .data = f->w};
    struct packed w = packed_of(&t);
    float y[FT * FN], *scratch = floats(gemm_scratch(&w));
    if (gated)
        f->k->gemm_swiglu(f->x, FK, FT, &w, 0, FN / 32, y, FN / 2, NULL, 0, scratch);
    else
        f->k->gemm(f->x, FK, FT, &w, 0, w.n_panels, NULL, y, FN, 0, scratch);
    free(scratch);
    packed_free(&w);
    return dot(y, f->dy, gated ? FT * FN / 2 : FT * FN);
}

static double loss_gemm(void *self)
{
    return product_loss(self, 0);
}

static double loss_swiglu(void *self)
{
    return product_loss(self, 1);
}

/* Both gradients of a product from that of its output. */
static void check_product(struct forward *f, double (*loss)(void *), const float *dy,
                          const char *what)
{
    struct tensor t = {.type = TENSOR_F32, .n_dims = 2, .shape = {FN, FK}, .data = f->w};
    struct packed w = packed_of(&t);
    float dx[FT * FK], dw[FN * FK] = {0}, *way = normals(FN * FK, 9);
    float *scratch = floats(gemm_dx_scratch(&w)), *more = floats(gemm_dw_scratch());
    float *kept = floats(kept_words(f->k, FT, FK));
    f->k->gemm_dx(dy, FN, FT, &w, 0, (FK + 15) / 16, dx, FK, 0, scratch);
    f->k->keep_inputs(f->x, FK, 0, FT, FT, FK, kept);
    f->k->gemm_dw(dy, FN, 16, kept, FT, 0, FN, FK, dw, FK, 1, more);
    assert_slope(slope(loss, f, f->x, way, FT * FK), dot(dx, way, FT * FK), what);
    assert_slope(slope(loss, f, f->w, way, FN * FK), dot(dw, way, FN * FK), what);
    free(way);
    free(scratch);
    free(more);
    free(kept);
    packed_free(&w);
}

static void fill(float *x, int n, double size, uint64_t stream)
{
    for (int i = 0; i < n; i++) x[i] = (float)(size * siren_random_normal(3, stream, (uint64_t)i));
}

static void test_differences(void **state)
{
    struct forward f = {.k = kernels_select(isa_best(), NULL)};
    float gates[FT * FN], dx[FT * FN], dweight[FN] = {0}, *way = normals(FT * FN, 8);
    fill(f.x, FT * FN, 1, 1);
    fill(f.w, FN * FK, 0.1, 2);
    fill(f.dy, FT * FN, 1, 3);
    fill(f.weight, FN, 1, 4);
    f.k->rmsnorm_backward(f.x, FN, f.dy, FN, FT, FN, f.weight, 1e-5f, dx, FN, 0, dweight);
    assert_slope(slope(loss_rmsnorm, &f, f.x, way, FT * FN), dot(dx, way, FT * FN), "rmsnorm");
    assert_slope(slope(loss_rmsnorm, &f, f.weight, way, FN), dot(dweight, way, FN), "its weight");
    check_product(&f, loss_gemm, f.dy, "gemm");
    struct tensor t = {.type = TENSOR_F32, .n_dims = 2, .shape = {FN, FK}, .data = f.w};
    struct packed w = packed_of(&t);
    float h[FT * FN / 2], *scratch = floats(gemm_scratch(&w));
    f.k->gemm_swiglu(f.x, FK, FT, &w, 0, FN / 32, h, FN / 2, gates, FN, scratch);
    f.k->swiglu_backward(gates, FN, f.dy, FN / 2, FT, FN / 32, gates, FN);
    check_product(&f, loss_swiglu, gates, "swiglu");
    free(way);
    free(scratch);
    packed_free(&w);
}

enum { AR = 30, AJ = 50, AD = 32 };
struct attending {
    const struct kernels *kernels;
    float q[AR * AD], k[AJ * AD], v[AJ * AD], dout[AR * AD];
    size_t offsets[AR];
    int counts[AR];
};

static double loss_attention(void *self)
{
    struct attending *a = self;
    struct pages p = make_pages(a->kernels, AJ, AD, a->k, a->v);
    float out[AR * AD], *scratch = floats(attention_scratch(AR, p.n));
    a->kernels->attention(a->q, a->offsets, a->counts, AR, (const float *const *)p.list[0],
                          (const float *const *)p.list[1], p.n, NULL, 0, AD, 0.2f, out, scratch);
    free(scratch);
    free_pages(&p);
    return dot(out, a->dout, AR * AD);
}

static void test_attention_differences(void **state)
{
    struct attending a = {.kernels = kernels_select(isa_best(), NULL)};
    fill(a.q, AR * AD, 1, 1);
    fill(a.k, AJ * AD, 1, 2);
    fill(a.v, AJ * AD, 1, 3);
    fill(a.dout, AR * AD, 1, 4);
    for (int r = 0; r < AR; r++) {
        a.offsets[r] = (size_t)(r * AD);
        a.counts[r] = 1 + r * 5 / 3;
    }
    struct pages p = make_pages(a.kernels, AJ, AD, a.k, a.v);
    float dq[AR * AD], d[AJ * AD], *way = normals(AJ * AD, 8);
    run(a.kernels, &p, a.q, a.dout, a.offsets, a.counts, AR, 0.2f, dq, 0);
    assert_slope(slope(loss_attention, &a, a.q, way, AR * AD), dot(dq, way, AR * AD), "queries");
    for (int side = 0; side < 2; side++) {
        for (int j = 0; j < AJ; j++)
            memcpy(d + j * AD, p.list[4 + side][j / 32] + j % 32 * AD, AD * sizeof *d);
        assert_slope(slope(loss_attention, &a, side ? a.v : a.k, way, AJ * AD),
                     dot(d, way, AJ * AD), side ? "values" : "keys");
    }
    free(way);
    free_pages(&p);
}

/* ---- PyTorch ------------------------------------------------------------------ */

enum { T = 4, N = 96, HEADS = 3, TOKENS = 21, J = 51, D = 32, ROWS = TOKENS * HEADS };
enum { OUTPUTS = 50, INPUTS = 40 }; /* of a linear product */

/* backward.f32, array for array. */
static struct {
    float x[T * N], weight[N], dy[T * N], rmsnorm_dx[T * N], rmsnorm_dweight[N];
    float gate[T * N], up[T * N], dh[T * N], dgate[T * N], dup[T * N];
    float q[ROWS * D], k[J * D], v[J * D], dout[ROWS * D], dq[ROWS * D], dk[J * D], dv[J * D];
    float logits[T * N], cross_entropy[T * N], entropy[T * N];
    float heads[ROWS * D], dheads[ROWS * D], norm[D], cosines[TOKENS * D / 2],
        sines[TOKENS * D / 2];
    float rotated[ROWS * D], rotated_dx[ROWS * D];
    float normed[ROWS * D], normed_dx[ROWS * D], normed_dweight[D];
    float lx[TOKENS * INPUTS], lw[OUTPUTS * INPUTS], ldy[TOKENS * OUTPUTS], ly[TOKENS * OUTPUTS],
        ldx[TOKENS * INPUTS], ldw[OUTPUTS * INPUTS];
} fixture;

static int setup(void **state)
{
    n_sets = machine_kernels(sets);
    n_modes = machine_modes(modes);
    return read_arrays("tests/fixtures/kernels/backward.f32", &fixture, sizeof fixture);
}

static void test_torch_rows(void **state)
{
    const int targets[T] = {0, 31, 90, 95};
    for (int i = 0; i < n_sets; i++) {
        float y[T * N], dweight[N] = {0}, gates[T * 2 * N];
        sets[i]->rmsnorm_backward(fixture.x, N, fixture.dy, N, T, N, fixture.weight, 1e-5f, y, N, 0,
                                  dweight);
        assert_near(y, fixture.rmsnorm_dx, T * N, 1e-6, "rmsnorm");
        assert_near(dweight, fixture.rmsnorm_dweight, N, 1e-6, "rmsnorm's weight");
        for (int j = 0; j < T * N; j++) {
            int at = j / 16 * 32 + j % 16;
            gates[at] = fixture.gate[j];
            gates[at + 16] = fixture.up[j];
        }
        sets[i]->swiglu_backward(gates, 2 * N, fixture.dh, N, T, N / 16, gates, 2 * N);
        for (int j = 0; j < T * N; j++) {
            int at = j / 16 * 32 + j % 16;
            assert_near(gates + at, fixture.dgate + j, 1, 1e-6, "gate");
            assert_near(gates + at + 16, fixture.dup + j, 1, 1e-6, "up");
        }
        for (int t = 0; t < T; t++) {
            const float *x = fixture.logits + t * N;
            float lse = sets[i]->logsumexp(x, N), entropy = 0;
            sets[i]->softmax_backward(x, N, lse, targets[t], -1.0f / T, 0, 0, y);
            assert_near(y, fixture.cross_entropy + t * N, N, 1e-6, "cross-entropy");
            for (int j = 0; j < N; j++) entropy -= expf(x[j] - lse) * (x[j] - lse);
            sets[i]->softmax_backward(x, N, lse, -1, 0, entropy, 1, y);
            assert_near(y, fixture.entropy + t * N, N, 2e-6, "entropy");
        }
    }
}

static void test_torch_attention(void **state)
{
    size_t offsets[ROWS];
    int counts[ROWS];
    for (int r = 0; r < ROWS; r++) {
        offsets[r] = (size_t)(r * D);
        counts[r] = J - TOKENS + r / HEADS + 1;
    }
    for (int i = 0; i < n_sets; i++) {
        struct pages p = make_pages(sets[i], J, D, fixture.k, fixture.v);
        float dq[ROWS * D];
        run(sets[i], &p, fixture.q, fixture.dout, offsets, counts, ROWS, 1.0f / sqrtf(D), dq, 0);
        assert_near(dq, fixture.dq, ROWS * D, 2e-6, "queries");
        for (int j = 0; j < J; j++) {
            assert_near(p.list[4][j / 32] + j % 32 * D, fixture.dk + j * D, D, 2e-6, "keys");
            assert_near(p.list[5][j / 32] + j % 32 * D, fixture.dv + j * D, D, 2e-6, "values");
        }
        free_pages(&p);
    }
}

/* `sign` −1: the gradient of it. */
static void rotate(const struct kernels *k, float *x, float sign)
{
    for (int r = 0; r < ROWS; r++) {
        float sines[D / 2];
        for (int i = 0; i < D / 2; i++) sines[i] = sign * fixture.sines[r / HEADS * D / 2 + i];
        k->rope(x + r * D, D, fixture.cosines + r / HEADS * D / 2, sines);
    }
}

/* RoPE alone, and behind the norm of queries' and keys' heads, as qwen3 has it. */
static void test_torch_heads(void **state)
{
    for (int i = 0; i < n_sets; i++) {
        float y[ROWS * D], dx[ROWS * D], dweight[D] = {0};
        memcpy(y, fixture.heads, sizeof y);
        rotate(sets[i], y, 1);
        assert_near(y, fixture.rotated, ROWS * D, 1e-6, "rope");
        memcpy(dx, fixture.dheads, sizeof dx);
        rotate(sets[i], dx, -1);
        assert_near(dx, fixture.rotated_dx, ROWS * D, 1e-6, "rope's gradient");
        sets[i]->rmsnorm(fixture.heads, D, ROWS, D, fixture.norm, 1e-5f, y, D);
        rotate(sets[i], y, 1);
        assert_near(y, fixture.normed, ROWS * D, 2e-6, "norm of heads");
        sets[i]->rmsnorm_backward(fixture.heads, D, dx, D, ROWS, D, fixture.norm, 1e-5f, dx, D, 0,
                                  dweight);
        assert_near(dx, fixture.normed_dx, ROWS * D, 2e-6, "gradient of the norm of heads");
        assert_near(dweight, fixture.normed_dweight, D, 2e-6, "its weight");
    }
}

static void test_torch_products(void **state)
{
    struct tensor t = {
        .type = TENSOR_F32, .n_dims = 2, .shape = {OUTPUTS, INPUTS}, .data = fixture.lw};
    struct packed w = packed_of(&t);
    float *scratch = floats(gemm_scratch(&w)), *dx_scratch = floats(gemm_dx_scratch(&w)),
          *dw_scratch = floats(gemm_dw_scratch());
    for (int i = 0; i < n_sets; i++) {
        float y[TOKENS * OUTPUTS], dx[TOKENS * INPUTS];
        sets[i]->gemm(fixture.lx, INPUTS, TOKENS, &w, 0, w.n_panels, NULL, y, OUTPUTS, 0, scratch);
        assert_near(y, fixture.ly, TOKENS * OUTPUTS, 2e-6, "product");
        sets[i]->gemm_dx(fixture.ldy, OUTPUTS, TOKENS, &w, 0, (INPUTS + 15) / 16, dx, INPUTS, 0,
                         dx_scratch);
        assert_near(dx, fixture.ldx, TOKENS * INPUTS, 2e-6, "dX");
        for (int f32 = 0; f32 < 2; f32++) {
            float dw[OUTPUTS * INPUTS] = {0}, *kept = floats(kept_words(sets[i], TOKENS, INPUTS));
            sets[i]->keep_inputs(fixture.lx, INPUTS, 0, TOKENS, TOKENS, INPUTS, kept);
            if (f32)
                sets[i]->gemm_dw_f32(fixture.ldy, OUTPUTS, fixture.lx, INPUTS, TOKENS, 0, OUTPUTS,
                                     INPUTS, dw, INPUTS, dw_scratch);
            else
                sets[i]->gemm_dw(fixture.ldy, OUTPUTS, 16, kept, TOKENS, 0, OUTPUTS, INPUTS, dw,
                                 INPUTS, 1, dw_scratch);
            assert_near(dw, fixture.ldw, OUTPUTS * INPUTS, 2e-6, "dW");
            free(kept);
        }
    }
    free(scratch);
    free(dx_scratch);
    free(dw_scratch);
    packed_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dx),
        cmocka_unit_test(test_dx_rows),
        cmocka_unit_test(test_dw),
        cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_product_accuracy),
        cmocka_unit_test(test_column_sums),
        cmocka_unit_test(test_rmsnorm),
        cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_swiglu_saved),
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_attention_model),
        cmocka_unit_test(test_attention_cuts),
        cmocka_unit_test(test_differences),
        cmocka_unit_test(test_attention_differences),
        cmocka_unit_test(test_torch_rows),
        cmocka_unit_test(test_torch_attention),
        cmocka_unit_test(test_torch_heads),
        cmocka_unit_test(test_torch_products),
    };
    return cmocka_run_group_tests_name("backward_kernels", tests, setup, NULL);
}
