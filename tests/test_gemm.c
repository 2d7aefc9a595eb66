/* GEMM: one FMA chain an output, on every set, at every T, in every cut of the panels. */
#include "kernels_case.h"

struct gemm_case {
    enum tensor_type type;
    int T, N, K;
};

static const struct gemm_case cases[] = {
    {TENSOR_F32, 1, 16, 1},     {TENSOR_F32, 1, 200, 77},   {TENSOR_F32, 2, 100, 31},
    {TENSOR_F32, 3, 97, 300},   {TENSOR_F32, 4, 64, 576},   {TENSOR_F32, 5, 33, 257},
    {TENSOR_F32, 13, 48, 600},  {TENSOR_F32, 37, 80, 96},   {TENSOR_F32, 401, 17, 40},
    {TENSOR_F16, 1, 150, 33},   {TENSOR_F16, 7, 40, 290},   {TENSOR_BF16, 1, 150, 65},
    {TENSOR_BF16, 19, 40, 290}, {TENSOR_Q4_0, 1, 150, 96},  {TENSOR_Q4_0, 9, 50, 320},
    {TENSOR_Q4_1, 1, 130, 64},  {TENSOR_Q4_1, 2, 70, 288},  {TENSOR_Q4_1, 3, 70, 288},
    {TENSOR_Q4_1, 4, 70, 288},  {TENSOR_Q4_1, 25, 70, 544}, {TENSOR_Q8_0, 1, 140, 96},
    {TENSOR_Q8_0, 3, 70, 288},  {TENSOR_Q8_0, 12, 50, 320}, {TENSOR_Q6_K, 1, 64, 512},
    {TENSOR_Q6_K, 6, 64, 512},  {TENSOR_Q5_1, 4, 64, 64},
};
enum { N_CASES = sizeof cases / sizeof *cases };

static void pack(struct packed *w, const struct tensor *t)
{
    int n = (int)t->shape[0], k = (int)t->shape[1];
    assert_int_equal(packed_alloc(w, packed_kind_for(t->type, 0), n, k, NULL), 0);
    packed_fill(w, 0, t, 0, n);
}

/* The contract, spelt out. */
static void model_gemm(const float *x, size_t ldx, int T, const struct tensor *t, const float *bias,
                       float *y, size_t ldy, int add)
{
    int N = (int)t->shape[0], K = (int)t->shape[1];
    float *row = floats((size_t)K);
    for (int n = 0; n < N; n++) {
        tensor_dequantize(t, (int64_t)n * K, K, row);
        for (int i = 0; i < T; i++) {
            float sum = 0;
            for (int k = 0; k < K; k++) sum = fmaf(x[(size_t)i * ldx + (size_t)k], row[k], sum);
            if (bias) sum = sum + bias[n];
            float *out = y + (size_t)i * ldy + (size_t)n;
            *out = add ? *out + sum : sum;
        }
    }
    free(row);
}

static void check_case(const struct gemm_case *c, const struct kernels *kernels)
{
    size_t T = (size_t)c->T, N = (size_t)c->N, K = (size_t)c->K, ldx = K + 3, ldy = N + 5;
    struct tensor t = made_tensor(c->type, c->N, c->K, 3);
    struct packed w;
    pack(&w, &t);
    float *x = normals(T * ldx, 1), *bias = normals(N, 2), *scratch = floats(gemm_scratch(&w));
    for (int mode = 0; mode < 4; mode++) {
        const float *b = mode & 1 ? bias : NULL;
        float *expected = normals(T * ldy, 4), *got = normals(T * ldy, 4);
        model_gemm(x, ldx, c->T, &t, b, expected, ldy, mode >> 1);
        kernels->gemm(x, ldx, c->T, &w, 0, w.n_panels, b, got, ldy, mode >> 1, scratch);
        assert_same(got, expected, T * ldy, kernels->name); /* columns behind N, too */
        free(expected);
        free(got);
    }
    free(x);
    free(bias);
    free(scratch);
    packed_free(&w);
    free_tensor(&t);
}

static void test_equals_model(void **state)
{
    const struct kernels *list[ISA_COUNT];
    int n = machine_kernels(list);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < N_CASES; c++) check_case(&cases[c], list[i]);
}

/* A row alone and in batches of every height; any range of panels. */
static void test_rows_and_ranges(void **state)
{
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list);
    enum { T = 30, N = 150, K = 320 };
    const enum tensor_type types[] = {TENSOR_F32, TENSOR_Q4_1, TENSOR_Q8_0};
    for (int i = 0; i < n_isa; i++)
        for (int type = 0; type < 3; type++) {
            struct tensor t = made_tensor(types[type], N, K, 8);
            struct packed w;
            pack(&w, &t);
            float *x = normals(T * K, 1), *bias = normals(N, 2);
            float *all = floats(T * N), *got = floats(T * N), *scratch = floats(gemm_scratch(&w));
            list[i]->gemm(x, K, T, &w, 0, w.n_panels, bias, all, N, 0, scratch);
            for (int height = 1; height < T; height++) {
                list[i]->gemm(x, K, height, &w, 0, w.n_panels, bias, got, N, 0, scratch);
                assert_same(got, all, (size_t)height * N, "rows");
            }
            for (int p0 = 0; p0 < w.n_panels; p0++)
                for (int p1 = p0; p1 <= w.n_panels; p1 += 3)
                    list[i]->gemm(x, K, T, &w, p0, p1, bias + 16 * p0, got + 16 * p0, N, 0,
                                  scratch);
            assert_same(got, all, T * N, "panels");
            free(x);
            free(bias);
            free(all);
            free(got);
            free(scratch);
            packed_free(&w);
            free_tensor(&t);
        }
}

/* Against sums in double: the error bound of a chain, K·eps·Σ|x·w|. */
static void test_accuracy(void **state)
{
    const struct kernels *k = kernels_select(isa_best(), NULL);
    enum { T = 9, N = 32, K = 1536 };
    struct tensor t = made_tensor(TENSOR_F32, N, K, 5);
    struct packed w;
    pack(&w, &t);
    const float *weights = t.data;
    float *x = normals(T * K, 6), *y = floats(T * N), *scratch = floats(gemm_scratch(&w));
    k->gemm(x, K, T, &w, 0, w.n_panels, NULL, y, N, 0, scratch);
    for (int i = 0; i < T; i++)
        for (int n = 0; n < N; n++) {
            double sum = 0, size = 0;
            for (int j = 0; j < K; j++) {
                double product = (double)x[i * K + j] * (double)weights[n * K + j];
                sum += product;
                size += fabs(product);
            }
            assert_true(fabs((double)y[i * N + n] - sum) <= 0x1p-24 * 40 * size);
        }
    free(x);
    free(y);
    free(scratch);
    packed_free(&w);
    free_tensor(&t);
}

static void test_swiglu(void **state)
{
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list);
    enum { PAIRS = 7, K = 288, MOST = 40 };
    const enum tensor_type types[] = {TENSOR_F32, TENSOR_Q4_1};
    for (int type = 0; type < 2; type++) {
        struct tensor t = made_tensor(types[type], 32 * PAIRS, K, 8);
        struct packed w;
        pack(&w, &t);
        float *x = normals(MOST * K, 1), *scratch = floats(gemm_scratch(&w));
        float *y = floats(MOST * 32 * PAIRS), *first = floats(MOST * 16 * PAIRS);
        for (int i = 0; i < MOST * K; i++) x[i] *= 0.1f;
        for (int i = 0; i < n_isa; i++) {
            list[i]->gemm(x, K, MOST, &w, 0, w.n_panels, NULL, y, 32 * PAIRS, 0, scratch);
            for (int T = 1; T <= MOST; T += T < 8 ? 1 : 11) {
                float *h = floats((size_t)T * 16 * PAIRS), *parts = floats((size_t)T * 16 * PAIRS);
                float *gates = floats((size_t)T * 32 * PAIRS);
                list[i]->gemm_swiglu(x, K, T, &w, 0, PAIRS, h, 16 * PAIRS, NULL, 0, scratch);
                list[i]->gemm_swiglu(x, K, T, &w, 0, 3, parts, 16 * PAIRS, gates, 32 * PAIRS,
                                     scratch);
                list[i]->gemm_swiglu(x, K, T, &w, 3, PAIRS, parts + 48, 16 * PAIRS, gates + 96,
                                     32 * PAIRS, scratch);
                assert_same(h, parts, (size_t)T * 16 * PAIRS, "pairs");
                assert_same(gates, y, (size_t)T * 32 * PAIRS, "gates");
                free(gates);
                for (int j = 0; j < T * 16 * PAIRS; j++) {
                    int pair = j % (16 * PAIRS) / 16, lane = j % 16, row = j / (16 * PAIRS);
                    float gate = y[row * 32 * PAIRS + 32 * pair + lane];
                    float up = y[row * 32 * PAIRS + 32 * pair + 16 + lane];
                    double expected = (double)gate / (1 + exp(-(double)gate)) * (double)up;
                    assert_true(fabs((double)h[j] - expected) <= 5e-7 * fabs(expected) + 1e-37);
                }
                if (T == 1 || T == 2) {
                    if (i == 0) memcpy(first, h, (size_t)T * 64 * PAIRS);
                    assert_same(h, first, 16 * PAIRS, list[i]->name);
                }
                free(h);
                free(parts);
            }
        }
        free(x);
        free(y);
        free(first);
        free(scratch);
        packed_free(&w);
        free_tensor(&t);
    }
}

static void test_nothing_to_do(void **state)
{
    const struct kernels *k = kernels_select(isa_best(), NULL);
    struct tensor t = made_tensor(TENSOR_F32, 16, 4, 1);
    struct packed w;
    pack(&w, &t);
    float x[4] = {1, 2, 3, 4}, y[16], *scratch = floats(gemm_scratch(&w));
    for (int i = 0; i < 16; i++) y[i] = 7;
    k->gemm(x, 4, 0, &w, 0, 1, NULL, y, 16, 0, scratch);
    k->gemm(x, 4, 1, &w, 1, 1, NULL, y, 16, 0, scratch);
    for (int i = 0; i < 16; i++) assert_true(y[i] == 7);
    free(scratch);
    packed_free(&w);
    free_tensor(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_model),  cmocka_unit_test(test_rows_and_ranges),
        cmocka_unit_test(test_accuracy),      cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_nothing_to_do),
    };
    return cmocka_run_group_tests_name("gemm", tests, NULL, NULL);
}
