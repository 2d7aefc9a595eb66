/* The kernels beside PyTorch (tests/reference/kernels.py), on every set of this machine. */
#include "kernels_case.h"

enum { T = 4, N = 100, R = 5, J = 70, D = 32, OUTPUTS = 24 };

/* torch.f32, array for array. */
struct fixture {
    float x[T * N], up[T * N], weight[N], bias[N];
    float gelu[T * N], swiglu[T * N], rmsnorm[T * N], layernorm[T * N], logsumexp[T];
    float matrix[OUTPUTS * N], linear[T * OUTPUTS];
    float q[R * D], k[J * D], v[J * D], attention[R * D];
    float cosines[D / 2], sines[D / 2], rope[R * D];
};

static struct fixture fixture;
static const struct kernels *sets[ISA_COUNT];
static int n_sets;

static int setup(void **state)
{
    n_sets = machine_kernels(sets);
    return read_arrays("tests/fixtures/kernels/torch.f32", &fixture, sizeof fixture);
}

static void test_elementwise(void **state)
{
    for (int i = 0; i < n_sets; i++) {
        float y[T * N];
        memcpy(y, fixture.x, sizeof y);
        sets[i]->gelu(y, T * N);
        assert_near(y, fixture.gelu, T * N, 5e-7, "gelu");
        sets[i]->rmsnorm(fixture.x, N, T, N, fixture.weight, 1e-5f, y, N);
        assert_near(y, fixture.rmsnorm, T * N, 5e-7, "rmsnorm");
        sets[i]->layernorm(fixture.x, N, T, N, fixture.weight, fixture.bias, 1e-5f, y, N);
        assert_near(y, fixture.layernorm, T * N, 1e-6, "layernorm");
        for (int t = 0; t < T; t++) y[t] = sets[i]->logsumexp(fixture.x + t * N, N);
        assert_near(y, fixture.logsumexp, T, 3e-7, "logsumexp");
        memcpy(y, fixture.q, sizeof fixture.q);
        for (int r = 0; r < R; r++) sets[i]->rope(y + r * D, D, fixture.cosines, fixture.sines);
        assert_near(y, fixture.rope, R * D, 3e-7, "rope");
    }
}

static struct packed pack_f32(const float *data, int n, int k)
{
    struct packed w;
    struct tensor t = {.type = TENSOR_F32, .n_dims = 2, .shape = {n, k}, .data = data};
    assert_int_equal(packed_alloc(&w, PACKED_F32, n, k, NULL), 0);
    packed_fill(&w, 0, &t, 0, n);
    return w;
}

static void test_linear(void **state)
{
    struct packed w = pack_f32(fixture.matrix, OUTPUTS, N);
    float *scratch = floats(gemm_scratch(&w));
    for (int i = 0; i < n_sets; i++) {
        float y[T * OUTPUTS];
        sets[i]->gemm(fixture.x, N, T, &w, 0, w.n_panels, fixture.bias, y, OUTPUTS, 0, scratch);
        assert_near(y, fixture.linear, T * OUTPUTS, 2e-6, "linear");
    }
    free(scratch);
    packed_free(&w);
}

/* Gate and up from the fixture, by a product with the identity. */
static void test_swiglu(void **state)
{
    float identity[32 * 32] = {0};
    for (int i = 0; i < 32; i++) identity[33 * i] = 1;
    struct packed w = pack_f32(identity, 32, 32);
    float *scratch = floats(gemm_scratch(&w));
    for (int i = 0; i < n_sets; i++)
        for (int t = 0; t < T; t++)
            for (int at = 0; at + 16 <= N; at += 12) {
                float x[32], h[16];
                memcpy(x, fixture.x + t * N + at, 64);
                memcpy(x + 16, fixture.up + t * N + at, 64);
                sets[i]->gemm_swiglu(x, 32, 1, &w, 0, 1, h, 16, NULL, 0, scratch);
                assert_near(h, fixture.swiglu + t * N + at, 16, 3e-7, "swiglu");
            }
    free(scratch);
    packed_free(&w);
}

static void test_attention(void **state)
{
    enum { PAGES = (J + ATTENTION_PAGE - 1) / ATTENTION_PAGE, SIZE = D * ATTENTION_PAGE };
    const int counts[R] = {1, 17, 32, 51, 70};
    const size_t offsets[R] = {0, D, 2 * D, 3 * D, 4 * D};
    float *scratch = floats(attention_scratch(R, PAGES));
    for (int i = 0; i < n_sets; i++) {
        float keys[PAGES][SIZE] = {0}, values[PAGES][SIZE] = {0}, out[R * D];
        const float *k[PAGES], *v[PAGES];
        for (int p = 0; p < PAGES; p++) k[p] = keys[p], v[p] = values[p];
        for (int j = 0; j < J; j++)
            sets[i]->page_store(keys[j / 32], values[j / 32], D, j % 32, 1, fixture.k + j * D, D,
                                fixture.v + j * D, D);
        sets[i]->attention(fixture.q, offsets, counts, R, k, v, PAGES, NULL, 0, D, 1.0f / sqrtf(D),
                           out, scratch);
        assert_near(out, fixture.attention, R * D, 1e-6, "attention");
    }
    free(scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elementwise),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_attention),
    };
    return cmocka_run_group_tests_name("kernels", tests, setup, NULL);
}
