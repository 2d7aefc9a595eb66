/* GEMM: one FMA chain an output, on every set, at every T, in every cut of the panels. */
#include "kernels_case.h"

static const struct product_case cases[] = {
    {TENSOR_F32, 1, 16, 1},     {TENSOR_F32, 1, 200, 77},   {TENSOR_F32, 2, 100, 31},
    {TENSOR_F32, 3, 97, 300},   {TENSOR_F32, 4, 64, 576},   {TENSOR_F32, 5, 33, 257},
    {TENSOR_F32, 13, 48, 600},  {TENSOR_F32, 37, 80, 96},   {TENSOR_F32, 401, 17, 40},
    {TENSOR_F16, 1, 150, 33},   {TENSOR_F16, 7, 40, 290},   {TENSOR_BF16, 1, 150, 65},
    {TENSOR_BF16, 19, 40, 290}, {TENSOR_Q4_0, 1, 150, 96},  {TENSOR_Q4_0, 9, 50, 320},
    {TENSOR_Q4_1, 1, 130, 64},  {TENSOR_Q4_1, 2, 70, 288},  {TENSOR_Q4_1, 3, 70, 288},
    {TENSOR_Q4_1, 4, 70, 288},  {TENSOR_Q4_1, 25, 70, 544}, {TENSOR_Q8_0, 1, 140, 96},
    {TENSOR_Q8_0, 3, 70, 288},  {TENSOR_Q8_0, 12, 50, 320}, {TENSOR_Q6_K, 1, 64, 512},
    {TENSOR_Q6_K, 6, 64, 512},  {TENSOR_Q5_1, 4, 64, 64},   {TENSOR_F32, 217, 3, 1900},
    {TENSOR_F16, 2, 170, 63},   {TENSOR_F16, 4, 90, 34},    {TENSOR_BF16, 2, 170, 97},
    {TENSOR_BF16, 3, 90, 31},   {TENSOR_BF16, 4, 90, 64},   {TENSOR_BF16, 5, 90, 62},
    {TENSOR_Q4_0, 2, 170, 96},  {TENSOR_Q4_0, 3, 90, 64},   {TENSOR_Q4_0, 4, 90, 32},
    {TENSOR_Q4_1, 5, 90, 96},   {TENSOR_Q8_0, 2, 170, 64},  {TENSOR_Q8_0, 4, 90, 96},
};
enum { N_CASES = sizeof cases / sizeof *cases };

/* ---- the contract, spelt out ---- */

static void model_gemm(const struct kernels *kernels, const float *x, size_t ldx, int T,
                       const struct tensor *t, const float *bias, float *y, size_t ldy, int add)
{
    int N = (int)t->shape[0], K = (int)t->shape[1];
    float *row = floats((size_t)K);
    for (int n = 0; n < N; n++) {
        tensor_dequantize(t, (int64_t)n * K, K, row);
        for (int i = 0; i < T; i++) {
            float sum = chain(kernels, x + (size_t)i * ldx, row, K);
            if (bias) sum = sum + bias[n];
            float *out = y + (size_t)i * ldy + (size_t)n;
            *out = add ? *out + sum : sum;
        }
    }
    free(row);
}

static void free_product(struct tensor *t, struct packed *w, float *scratch)
{
    free(scratch);
    packed_free(w);
    free_tensor(t);
}

/* Of the machine's modes those that round to bf16. */
static int bf16_modes(const struct kernels *list[MODES_MOST])
{
    int n = machine_modes(list), n_bf16 = 0;
    for (int i = 0; i < n; i++)
        if (list[i]->compute == COMPUTE_BF16) list[n_bf16++] = list[i];
    return n_bf16;
}

static void check_case(const struct product_case *c, const struct kernels *kernels)
{
    size_t T = (size_t)c->T, N = (size_t)c->N, K = (size_t)c->K, ldx = K + 3, ldy = N + 5;
    struct tensor t = made_tensor(c->type, c->N, c->K, 3);
    struct packed w = packed_of(&t);
    float *x = normals(T * ldx, 1), *bias = normals(N, 2), *scratch = floats(gemm_scratch(&w));
    for (int mode = 0; mode < 4; mode++) {
        const float *b = mode & 1 ? bias : NULL;
        float *expected = normals(T * ldy, 4), *got = normals(T * ldy, 4);
        model_gemm(kernels, x, ldx, c->T, &t, b, expected, ldy, mode >> 1);
        kernels->gemm(x, ldx, c->T, &w, 0, w.n_panels, b, got, ldy, mode >> 1, scratch);
        assert_same(got, expected, T * ldy, kernels->name); /* columns behind N, too */
        free(expected);
        free(got);
    }
    free(x);
    free(bias);
    free_product(&t, &w, scratch);
}

static void test_equals_model(void **state)
{
    const struct kernels *list[MODES_MOST];
    int n = machine_modes(list);
    for (int i = 0; i < n; i++)
        for (int c = 0; c < N_CASES; c++) check_case(&cases[c], list[i]);
}

/* A row alone and in batches of every height; any range of panels. */
static void test_rows_and_ranges(void **state)
{
    const struct kernels *list[MODES_MOST];
    int n_isa = machine_modes(list);
    enum { T = 30, N = 150, K = 320 };
    const enum tensor_type types[] = {TENSOR_F32, TENSOR_BF16, TENSOR_Q4_0, TENSOR_Q4_1,
                                      TENSOR_Q8_0};
    for (int i = 0; i < n_isa; i++)
        for (int type = 0; type < 5; type++) {
            struct tensor t = made_tensor(types[type], N, K, 8);
            struct packed w = packed_of(&t);
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
            free_product(&t, &w, scratch);
        }
}

/* Against sums in double: the error bound of a chain, K·eps·Σ|x·w|. */
static void test_accuracy(void **state)
{
    const struct kernels *k = kernels_select(isa_best(), NULL);
    enum { T = 9, N = 32, K = 1536 };
    struct tensor t = made_tensor(TENSOR_F32, N, K, 5);
    struct packed w = packed_of(&t);
    const float *weights = t.data;
    float *x = normals(T * K, 6), *y = floats(T * N), *scratch = floats(gemm_scratch(&w));
    k->gemm(x, K, T, &w, 0, w.n_panels, NULL, y, N, 0, scratch);
    for (int i = 0; i < T; i++)
        for (int n = 0; n < N; n++)
            assert_chain(y[i * N + n], x + i * K, 1, weights + n * K, 1, K, 40);
    free(x);
    free(y);
    free_product(&t, &w, scratch);
}

static void test_swiglu(void **state)
{
    const struct kernels *list[MODES_MOST];
    int n_isa = machine_modes(list);
    enum { PAIRS = 7, K = 288, MOST = 40 };
    const enum tensor_type types[] = {TENSOR_F32, TENSOR_Q4_1};
    for (int type = 0; type < 2; type++) {
        struct tensor t = made_tensor(types[type], 32 * PAIRS, K, 8);
        struct packed w = packed_of(&t);
        float *x = normals(MOST * K, 1), *scratch = floats(gemm_scratch(&w));
        float *y = floats(MOST * 32 * PAIRS), *first = floats(MOST * 16 * PAIRS);
        for (int i = 0; i < MOST * K; i++) x[i] *= 0.1f;
        for (int i = 0; i < n_isa; i++) {
            list[i]->gemm(x, K, MOST, &w, 0, w.n_panels, NULL, y, 32 * PAIRS, 0, scratch);
            for (int T = 1; T <= MOST; T += T < 8 ? 1 : 11) {
                float *h = floats((size_t)T * 16 * PAIRS), *parts = floats((size_t)T * 16 * PAIRS);
                float *memory = aligned_alloc(64, ((size_t)T * 32 * PAIRS + 16) * sizeof(float));
                float *gates = memory + (T % 2 ? 4 : 0); /* past the caches where it is aligned */
                list[i]->gemm_swiglu(x, K, T, &w, 0, PAIRS, h, 16 * PAIRS, NULL, 0, scratch);
                list[i]->gemm_swiglu(x, K, T, &w, 0, 3, parts, 16 * PAIRS, gates, 32 * PAIRS,
                                     scratch);
                list[i]->gemm_swiglu(x, K, T, &w, 3, PAIRS, parts + 48, 16 * PAIRS, gates + 96,
                                     32 * PAIRS, scratch);
                assert_same(h, parts, (size_t)T * 16 * PAIRS, "pairs");
                assert_same(gates, y, (size_t)T * 32 * PAIRS, "gates");
                free(memory);
                for (int j = 0; j < T * 16 * PAIRS; j++) {
                    int pair = j % (16 * PAIRS) / 16, lane = j % 16, row = j / (16 * PAIRS);
                    float gate = y[row * 32 * PAIRS + 32 * pair + lane];
                    float up = y[row * 32 * PAIRS + 32 * pair + 16 + lane];
                    double expected = (double)gate / (1 + exp(-(double)gate)) * (double)up;
                    assert_true(fabs((double)h[j] - expected) <= 5e-7 * fabs(expected) + 1e-37);
                }
                if (T == 1 || T == 2) {
                    if (list[i]->isa == ISA_PORTABLE || list[i] == kernels_amx_model())
                        memcpy(first, h, (size_t)T * 64 * PAIRS);
                    assert_same(h, first, 16 * PAIRS, list[i]->name);
                }
                free(h);
                free(parts);
            }
        }
        free(x);
        free(y);
        free(first);
        free_product(&t, &w, scratch);
    }
}

/* Sums, products and rows about the least normal number: denormals are zeros before and after every
 * step, and a sum is denormal by its value with 24 digits. */
static void test_bf16_denormals(void **state)
{
    const struct kernels *list[MODES_MOST];
    int n_modes = bf16_modes(list);
    enum { T = 40, N = 48, K = 64 };
    struct tensor t = made_tensor(TENSOR_F32, N, K, 5);
    float *weights = (float *)(uintptr_t)t.data, *x = normals(T * K, 6), *expected = floats(T * N);
    for (int i = 0; i < N * K; i++)
        weights[i] = ldexpf(weights[i], -56 - (int)siren_random_below(1, 1, (uint64_t)i, 10));
    for (int i = 0; i < T * K; i++)
        x[i] = ldexpf(x[i], -66 - (int)siren_random_below(1, 2, (uint64_t)i, i % 7 ? 10 : 70));
    struct packed w = packed_of(&t);
    float *y = floats(T * N), *scratch = floats(gemm_scratch(&w));
    for (int i = 0; i < n_modes; i++) {
        model_gemm(list[i], x, K, T, &t, NULL, expected, N, 0);
        int n_small = 0;
        for (int j = 0; j < T * N; j++)
            n_small += expected[j] != 0 && fabsf(expected[j]) < 0x1p-120f;
        assert_true(n_small > 100);
        list[i]->gemm(x, K, T, &w, 0, w.n_panels, NULL, y, N, 0, scratch);
        assert_same(y, expected, T * N, list[i]->name);
        for (int row = 0; row < 12; row++) {
            int rows = 1 + row % 5;
            list[i]->gemm(x + row * K, K, rows, &w, 0, w.n_panels, NULL, y, N, 0, scratch);
            assert_same(y, expected + row * N, (size_t)rows * N, list[i]->name);
        }
    }
    /* 2^-126 - 2^-150, which only denormal digits would round up to the least normal number: step 2
     * follows step 0 in every order */
    for (int i = 0; i < N * K; i++) weights[i] = 0;
    for (int i = 0; i < K; i++) x[i] = 0;
    weights[2] = 0x1p-75f;
    weights[0] = 0x1p-63f;
    x[2] = -0x1p-75f;
    x[0] = 0x1p-63f;
    packed_fill(&w, 0, &t, 0, N);
    for (int i = 0; i < n_modes; i++) {
        list[i]->gemm(x, K, 1, &w, 0, 1, NULL, y, N, 0, scratch);
        assert_true(y[0] == 0);
    }
    free(x);
    free(y);
    free(expected);
    free_product(&t, &w, scratch);
}

/* Weights of blocks that are -0 (8 of Q4_0, whose scales are negative here), in chains that came to
 * -0: after two blocks of 32 steps with small sums, one of products that are negative denormals,
 * then of such weights. */
static void test_bf16_zeros(void **state)
{
    const struct kernels *list[MODES_MOST];
    int n_modes = bf16_modes(list);
    enum { T = 24, N = 144, K = 96, BYTES = 18 };
    struct tensor t = made_tensor(TENSOR_Q4_0, N, K, 5);
    unsigned char *data = (unsigned char *)(uintptr_t)t.data;
    for (int b = 0; b < N * K / 32; b++, data += BYTES) {
        data[0] = (unsigned char)(b * 37), data[1] = 0xa0; /* the scale: some -2^-7 */
        for (int i = 0; b % 3 == 2 && i < 16; i++)
            data[2 + i] = (unsigned char)(i < 14 ? 0x8a : 0x88);
    }
    float *x = normals(T * K, 6), *expected = floats(T * N), *y = floats(T * N);
    for (int i = 0; i < T * K; i++)
        x[i] = i % K < 64 ? ldexpf(x[i], -121) : ldexpf(fabsf(x[i]) + 1, -124);
    struct packed w = packed_of(&t);
    float *scratch = floats(gemm_scratch(&w));
    for (int i = 0; i < n_modes; i++) {
        model_gemm(list[i], x, K, T, &t, NULL, expected, N, 0);
        int n_negative = 0;
        for (int j = 0; j < T * N; j++) n_negative += expected[j] == 0 && signbit(expected[j]);
        assert_true(n_negative > 50);
        for (int rows = 1; rows <= T; rows += rows < 6 ? 1 : 9) {
            list[i]->gemm(x, K, rows, &w, 0, w.n_panels, NULL, y, N, 0, scratch);
            assert_same(y, expected, (size_t)rows * N, list[i]->name);
        }
    }
    free(x);
    free(y);
    free(expected);
    free_product(&t, &w, scratch);
}

/* Rounding as the contract has it, ties and the ends of the range among them. */
static void test_bf16_rounding(void **state)
{
    const struct kernels *list[MODES_MOST];
    int n_modes = bf16_modes(list);
    enum { N = 1024 };
    struct tensor t = made_tensor(TENSOR_F32, N, 1, 5);
    float *weights = (float *)(uintptr_t)t.data, *y = floats(N), *expected = floats(N), one = 1;
    for (int i = 0; i < N; i++) {
        uint32_t bits = (uint32_t)siren_random_bits(3, 1, (uint64_t)i) & 0xbfffffff;
        if (i % 3 == 0) bits = (bits & 0xffff0000) | 0x8000;
        if (i % 64 == 5) bits &= 0x807fffff;
        memcpy(weights + i, &bits, sizeof bits);
        expected[i] = rounded(weights[i]) + 0.0f;
    }
    struct packed w = packed_of(&t);
    float *scratch = floats(gemm_scratch(&w));
    for (int i = 0; i < n_modes; i++) {
        list[i]->gemm(&one, 1, 1, &w, 0, w.n_panels, NULL, y, N, 0, scratch);
        assert_same(y, expected, N, list[i]->name);
    }
    free(y);
    free(expected);
    free_product(&t, &w, scratch);
}

static void test_nothing_to_do(void **state)
{
    const struct kernels *k = kernels_select(isa_best(), NULL);
    struct tensor t = made_tensor(TENSOR_F32, 16, 4, 1);
    struct packed w = packed_of(&t);
    float x[4] = {1, 2, 3, 4}, y[16], *scratch = floats(gemm_scratch(&w));
    for (int i = 0; i < 16; i++) y[i] = 7;
    k->gemm(x, 4, 0, &w, 0, 1, NULL, y, 16, 0, scratch);
    k->gemm(x, 4, 1, &w, 1, 1, NULL, y, 16, 0, scratch);
    for (int i = 0; i < 16; i++) assert_true(y[i] == 7);
    free_product(&t, &w, scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_model),  cmocka_unit_test(test_rows_and_ranges),
        cmocka_unit_test(test_accuracy),      cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_nothing_to_do), cmocka_unit_test(test_bf16_denormals),
        cmocka_unit_test(test_bf16_rounding), cmocka_unit_test(test_bf16_zeros),
    };
    return cmocka_run_group_tests_name("gemm", tests, NULL, NULL);
}
