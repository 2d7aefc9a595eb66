/* Packing and decoding: a decoded panel has the bits of tensor_dequantize. */
#include "kernels_case.h"

static const enum tensor_type types[] = {TENSOR_F32,  TENSOR_F16,  TENSOR_BF16, TENSOR_Q8_0,
                                         TENSOR_Q4_0, TENSOR_Q4_1, TENSOR_Q5_0, TENSOR_Q5_1,
                                         TENSOR_Q4_K, TENSOR_Q5_K, TENSOR_Q6_K};
enum { N_TYPES = sizeof types / sizeof *types };

/* Column `column` of w against row `row` of t. */
static void check_column(const struct kernels *k, const struct packed *w, int column,
                         const struct tensor *t, int row)
{
    int K = w->k, panel = column / 16, lane = column % 16;
    float *expected = floats((size_t)K), *decoded = floats((size_t)K * 16);
    float *got = floats((size_t)K);
    tensor_dequantize(t, (int64_t)row * K, K, expected);
    int middle = K / 2 / 32 * 32; /* in two parts */
    k->panel_decode(w, panel, 0, middle, decoded);
    k->panel_decode(w, panel, middle, K, decoded + (size_t)middle * 16);
    for (int i = 0; i < K; i++) got[i] = decoded[i * 16 + lane];
    assert_same(got, expected, (size_t)K, tensor_type_name(t->type));
    free(expected);
    free(decoded);
    free(got);
}

/* What is packed for mode bf16 is what that mode rounds at every product. */
static void test_rounded(void **state)
{
    const struct kernels *k = kernels_select(ISA_PORTABLE, NULL);
    enum { ROWS = 37, K = 512 };
    for (int i = 0; i < N_TYPES; i++) {
        struct tensor t = made_tensor(types[i], ROWS, K, 5);
        struct packed w;
        float *expected = floats(K), *got = floats(K * 16);
        assert_int_equal(packed_alloc(&w, PACKED_BF16, ROWS, K, NULL), 0);
        packed_fill(&w, 0, &t, 0, 20);
        packed_fill(&w, 20, &t, 20, ROWS - 20);
        for (int row = 0; row < ROWS; row++) {
            tensor_dequantize(&t, row * K, K, expected);
            k->panel_decode(&w, row / 16, 0, K, got);
            for (int j = 0; j < K; j++)
                assert_true(got[j * 16 + row % 16] ==
                            (types[i] == TENSOR_BF16 ? expected[j] : rounded(expected[j])));
        }
        free(expected);
        free(got);
        packed_free(&w);
        free_tensor(&t);
    }
}

static void check_zero_padding(const struct kernels *k, const struct packed *w)
{
    float *decoded = floats((size_t)w->k * 16);
    k->panel_decode(w, w->n_panels - 1, 0, w->k, decoded);
    for (int i = 0; i < w->k; i++)
        for (int lane = (w->n - 1) % 16 + 1; lane < 16; lane++)
            assert_true(decoded[i * 16 + lane] == 0.0f);
    free(decoded);
}

static void check_type(enum tensor_type type, int expand)
{
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list), rows = 37, K = 512;
    struct tensor t = made_tensor(type, rows, K, (uint64_t)type);
    struct packed w;
    assert_int_equal(packed_alloc(&w, packed_kind_for(type, expand), rows, K, NULL), 0);
    packed_fill(&w, 0, &t, 0, 5); /* pieces that end inside panels */
    packed_fill(&w, 5, &t, 5, 20);
    packed_fill(&w, 25, &t, 25, rows - 25);
    for (int i = 0; i < n_isa; i++) {
        for (int column = 0; column < rows; column++) check_column(list[i], &w, column, &t, column);
        check_zero_padding(list[i], &w);
    }
    packed_free(&w);
    free_tensor(&t);
}

static void test_types(void **state)
{
    for (int i = 0; i < N_TYPES; i++) {
        check_type(types[i], 0);
        check_type(types[i], 1);
    }
}

static void test_row_list(void **state)
{
    const struct kernels *k = kernels_select(ISA_PORTABLE, NULL);
    int32_t list[] = {7, 0, 3, 3, 19, 18, 1};
    int n = sizeof list / sizeof *list, K = 256;
    for (int i = 0; i < N_TYPES; i++) {
        struct tensor t = made_tensor(types[i], 20, K, 90 + (uint64_t)i);
        struct packed w;
        assert_int_equal(packed_alloc(&w, packed_kind_for(types[i], 0), 20 + n, K, NULL), 0);
        packed_fill(&w, 0, &t, 0, 20);
        packed_fill_rows(&w, 20, &t, list, n);
        for (int c = 0; c < n; c++) check_column(k, &w, 20 + c, &t, list[c]);
        check_column(k, &w, 19, &t, 19);
        packed_free(&w);
        free_tensor(&t);
    }
}

/* Matrices joined from tensors of any two types. */
static void test_joined_kinds(void **state)
{
    const struct kernels *k = kernels_select(isa_best(), NULL);
    int K = 256, rows = 19;
    for (int i = 0; i < N_TYPES; i++)
        for (int j = 0; j < N_TYPES; j++) {
            struct tensor a = made_tensor(types[i], rows, K, 1),
                          b = made_tensor(types[j], rows, K, 2);
            enum packed_kind kind =
                packed_kind_join(packed_kind_for(types[i], 0), packed_kind_for(types[j], 0));
            struct packed w;
            assert_int_equal(packed_alloc(&w, kind, 2 * rows, K, NULL), 0);
            packed_fill(&w, 0, &a, 0, rows);
            packed_fill(&w, rows, &b, 0, rows);
            for (int r = 0; r < rows; r += 6) {
                check_column(k, &w, r, &a, r);
                check_column(k, &w, rows + r, &b, r);
            }
            packed_free(&w);
            free_tensor(&a);
            free_tensor(&b);
        }
}

/* Matrices of one arena, more than a chunk of it. */
static void test_arena(void **state)
{
    const struct kernels *k = kernels_select(isa_best(), NULL);
    struct packed_arena arena = {0};
    enum { N_MATRICES = 5, ROWS = 4099, K = 640 };
    struct tensor t = made_tensor(TENSOR_F32, 21, K, 9);
    struct packed w[N_MATRICES];
    for (int i = 0; i < N_MATRICES; i++) {
        int rows = i == 2 ? 4 * ROWS : ROWS; /* 10 MB; 42 MB: larger than a chunk */
        assert_int_equal(packed_alloc_in(&arena, &w[i], PACKED_F32, rows, K, NULL), 0);
        assert_int_equal((uintptr_t)w[i].data % 64, 0);
        packed_fill(&w[i], 0, &t, i, 16); /* the first panel and the last */
        packed_fill(&w[i], rows - 3, &t, i, 3);
    }
    assert_true(arena.n_chunks >= 3);
    for (int i = 0; i < N_MATRICES; i++) {
        check_column(k, &w[i], 15, &t, i + 15);
        check_column(k, &w[i], w[i].n - 1, &t, i + 2);
        packed_free(&w[i]);
    }
    assert_int_equal(packed_alloc_in(&arena, &w[0], PACKED_Q8, 16, 33, NULL), SIREN_EINVAL);
    packed_arena_free(&arena);
    packed_arena_free(&arena);
    free_tensor(&t);
}

static void test_errors(void **state)
{
    struct siren_error err;
    struct packed w;
    assert_int_equal(packed_alloc(&w, PACKED_F32, 0, 32, &err), SIREN_EINVAL);
    assert_int_equal(packed_alloc(&w, PACKED_F32, 16, -1, &err), SIREN_EINVAL);
    assert_int_equal(packed_alloc(&w, PACKED_Q4, 16, 48, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "48"));
#ifndef __SANITIZE_ADDRESS__ /* which ends the program for a request of this size */
    assert_int_equal(packed_alloc(&w, PACKED_F32, 2147483647, 2147483647, &err), SIREN_ENOMEM);
#endif
    assert_null(w.data);
    packed_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),        cmocka_unit_test(test_row_list),
        cmocka_unit_test(test_joined_kinds), cmocka_unit_test(test_arena),
        cmocka_unit_test(test_errors),       cmocka_unit_test(test_rounded),
    };
    return cmocka_run_group_tests_name("pack", tests, NULL, NULL);
}
