/* Element-wise kernels and sums over rows: the sets agree to the bit, and with the truth. */
#include "kernels_case.h"
#include "tensor/half.h"

enum { MOST = 700 };

static uint32_t float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* Distance in units of the last place; both of one sign. */
static uint32_t ulps(float a, float b)
{
    uint32_t x = float_bits(a), y = float_bits(b);
    return x > y ? x - y : y - x;
}

/* Every 997th float between the ends of the range of exp and its neighbourhood. */
static void test_exp(void **state)
{
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list);
    enum { CHUNK = 1 << 12 };
    float *x = floats(CHUNK), *y = floats(CHUNK), *first = floats(CHUNK);
    uint32_t worst = 0, bits = 0;
    while (bits < 0x43000000u) { /* to ±128 */
        for (int i = 0; i < CHUNK; i++, bits += 50021) {
            uint32_t u = bits | (i % 2 ? 0x80000000u : 0);
            memcpy(&x[i], &u, sizeof u);
        }
        for (int isa = 0; isa < n_isa; isa++) {
            list[isa]->exps(x, y, CHUNK);
            if (isa == 0) memcpy(first, y, CHUNK * sizeof *y);
            assert_same(y, first, CHUNK, list[isa]->name);
        }
        for (int i = 0; i < CHUNK; i++) {
            float truth = (float)exp((double)x[i]);
            if (ulps(y[i], truth) > worst) worst = ulps(y[i], truth);
        }
    }
    assert_in_range(worst, 0, 1);
    free(x);
    free(y);
    free(first);
}

static void test_exp_edges(void **state)
{
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list);
    for (int isa = 0; isa < n_isa; isa++) {
        float x[] = {-INFINITY, INFINITY, 0.0f, -0.0f, -104.5f, -3e38f, 88.73f, 3e38f, NAN};
        float y[9];
        list[isa]->exps(x, y, 9);
        const float expected[] = {0, INFINITY, 1, 1, 0, 0, INFINITY, INFINITY};
        assert_same(y, expected, 8, list[isa]->name);
        assert_true(isnan(y[8]));
    }
}

static double worst_gelu(const float *x, const float *y, int n)
{
    double worst = 0;
    for (int i = 0; i < n; i++) {
        double truth = (double)x[i] / 2 * erfc(-(double)x[i] / sqrt(2));
        /* the error of erf alone: gelu = x/2·(1 + erf) */
        double error = fabs((double)y[i] - truth) / fmax(fabs((double)x[i]) / 2, 1e-30);
        if (error > worst) worst = error;
    }
    return worst;
}

static void test_gelu(void **state)
{
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list);
    enum { N = 100003 };
    float *x = floats(N), *y = floats(N), *first = floats(N);
    for (int i = 0; i < N; i++) x[i] = (float)(i - N / 2) * (12.0f / N);
    x[0] = -3e30f, x[1] = 3e30f, x[2] = 1e-38f;
    for (int isa = 0; isa < n_isa; isa++) {
        memcpy(y, x, N * sizeof *x);
        list[isa]->gelu(y, N);
        if (isa == 0) memcpy(first, y, N * sizeof *y);
        assert_same(y, first, N, list[isa]->name);
    }
    assert_true(worst_gelu(x, y, N) <= 3e-7); /* erf 1.2e-7, two roundings of up to 1.2e-7 */
    free(x);
    free(y);
    free(first);
}

static void check_norms(const struct kernels *k, int n, float *out, float *out_layer)
{
    enum { T = 3 };
    size_t ldx = (size_t)n + 2, ldy = (size_t)n + 1;
    float *x = normals(T * ldx, 20), *w = normals((size_t)n, 21), *b = normals((size_t)n, 22);
    float *y = floats(T * ldy), *z = floats(T * ldy);
    k->rmsnorm(x, ldx, T, n, w, 1e-5f, y, ldy);
    k->layernorm(x, ldx, T, n, w, b, 1e-12f, z, ldy);
    for (size_t t = 0; t < T; t++) {
        double squares = 0, mean = 0, variance = 0;
        const float *row = x + t * ldx;
        for (int i = 0; i < n; i++)
            squares += (double)row[i] * (double)row[i], mean += (double)row[i];
        mean /= n;
        for (int i = 0; i < n; i++) variance += ((double)row[i] - mean) * ((double)row[i] - mean);
        double rms = 1 / sqrt(squares / n + 1e-5), inv = 1 / sqrt(variance / n + 1e-12);
        for (int i = 0; i < n; i++) {
            double r = (double)row[i] * rms * (double)w[i];
            double l = ((double)row[i] - mean) * inv * (double)w[i] + (double)b[i];
            assert_true(fabs((double)y[t * ldy + (size_t)i] - r) <= 4e-7 * (fabs(r) + 0.1));
            assert_true(n == 1 || fabs((double)z[t * ldy + (size_t)i] - l) <= 2e-6 * (fabs(l) + 1));
        }
        if (t + 1 < T) assert_true(isnan(y[t * ldy + (size_t)n]));
    }
    memcpy(out, y, (size_t)n * sizeof *y);
    memcpy(out_layer, z, (size_t)n * sizeof *z);
    free(x);
    free(w);
    free(b);
    free(y);
    free(z);
}

static void test_norms(void **state)
{
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list);
    const int sizes[] = {1, 15, 16, 17, 64, 100, 384, 576, 700};
    float first[2][MOST], out[2][MOST];
    for (int s = 0; s < 9; s++)
        for (int isa = 0; isa < n_isa; isa++) {
            check_norms(list[isa], sizes[s], out[0], out[1]);
            if (isa == 0) memcpy(first, out, sizeof out);
            assert_same(out[0], first[0], (size_t)sizes[s], list[isa]->name);
            assert_same(out[1], first[1], (size_t)sizes[s], list[isa]->name);
        }
}

/* The order of a sum of squares, spelt out. */
static void test_sum_order(void **state)
{
    const struct kernels *k = kernels_select(isa_best(), NULL);
    enum { N = 53 };
    float *x = normals(N, 30), ones[N], y[N], partial[16] = {0};
    for (int i = 0; i < N; i++) {
        partial[i % 16] = fmaf(x[i], x[i], partial[i % 16]);
        ones[i] = 1;
    }
    for (int step = 8; step; step /= 2)
        for (int i = 0; i < step; i++) partial[i] = partial[i] + partial[i + step];
    float inverse = 1.0f / sqrtf(partial[0] / (float)N + 1e-6f);
    k->rmsnorm(x, N, 1, N, ones, 1e-6f, y, N);
    for (int i = 0; i < N; i++) assert_true(y[i] == x[i] * inverse);
    free(x);
}

static void test_rope(void **state)
{
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list);
    const int dims[] = {2, 16, 32, 64, 80, 128};
    for (int at = 0; at < 6; at++)
        for (int isa = 0; isa < n_isa; isa++) {
            int D = dims[at], half = D / 2;
            float *x = normals((size_t)D, 40), c[64], s[64], expected[128];
            for (int i = 0; i < half; i++) {
                c[i] = (float)cos(i * 0.1 + 3);
                s[i] = (float)sin(i * 0.1 + 3);
                expected[i] = fmaf(x[i], c[i], -(x[i + half] * s[i]));
                expected[i + half] = fmaf(x[i + half], c[i], x[i] * s[i]);
            }
            list[isa]->rope(x, D, c, s);
            assert_same(x, expected, (size_t)D, list[isa]->name);
            free(x);
        }
}

/* The definition, with the set's own exp; any rest of a vector. */
static void test_entropy(void **state)
{
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list);
    for (size_t n = 1; n < 100; n += n < 40 ? 1 : 17)
        for (int isa = 0; isa < n_isa; isa++) {
            float *x = normals(n, 7), *l = floats(n), *p = floats(n);
            float lse = list[isa]->logsumexp(x, n);
            double partial[8] = {0}, sum = 0;
            for (size_t i = 0; i < n; i++) l[i] = x[i] - lse;
            list[isa]->exps(l, p, n);
            for (size_t i = 0; i < n; i++) partial[i % 8] -= (double)p[i] * (double)l[i];
            for (int i = 0; i < 8; i++) sum += partial[i];
            float got = list[isa]->entropy(x, n, lse), expected = (float)sum;
            assert_same(&got, &expected, 1, list[isa]->name);
            assert_true(expected >= -1e-6f && expected <= logf((float)n) + 1e-5f);
            free(x);
            free(l);
            free(p);
        }
}

static uint64_t split_mix(uint64_t state)
{
    uint64_t z = state + 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* The definition, number by number; all lengths about those of a vector; in place. */
static void test_dropout(void **state)
{
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list);
    const uint64_t key = 0xfedcba9876543210u;
    assert_true(split_mix(0) == 0xe220a8397b1dcdafu); /* the first number of its reference */
    for (size_t n = 0; n < 200; n++)
        for (int isa = 0; isa < n_isa; isa++) {
            float *x = normals(n + 3, 5), *y = normals(n + 3, 6), *expected = normals(n + 3, 6);
            for (size_t i = 0; i < n; i++) {
                uint64_t bits = split_mix(key + i / 4 * 4) >> i % 4 * 16 & 0xffff;
                expected[i] = bits < 20000 ? 0 : x[i] * 1.25f;
            }
            list[isa]->dropout(key, 20000, 1.25f, x, y, n);
            assert_same(y, expected, n + 3, list[isa]->name);
            list[isa]->dropout(key, 20000, 1.25f, x, x, n);
            assert_same(x, expected, n, "in place");
            list[isa]->dropout(key, 65536, 1.25f, y, y, n);
            for (size_t i = 0; i < n; i++) assert_true(y[i] == 0);
            free(x);
            free(y);
            free(expected);
        }
}

static void test_add(void **state)
{
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list);
    for (int isa = 0; isa < n_isa; isa++)
        for (size_t n = 0; n < 40; n++) {
            float *x = normals(n, 1), *y = normals(n, 2), *expected = floats(n);
            for (size_t i = 0; i < n; i++) expected[i] = y[i] + x[i];
            list[isa]->add(y, x, n);
            assert_same(y, expected, n, list[isa]->name);
            free(x);
            free(y);
            free(expected);
        }
}

/* To whole lines of the cache and across them, and nothing behind. */
static void test_put_away(void **state)
{
    enum { WIDTH = 70 };
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list);
    float *x = normals(WIDTH, 1);
    for (int isa = 0; isa < n_isa; isa++)
        for (int at = 0; at < 32; at += 8)
            for (size_t n = 0; n + (size_t)at < WIDTH; n++) {
                float to[WIDTH + 16] __attribute__((aligned(64))) = {0}, expected[WIDTH + 16] = {0};
                memcpy(expected + at, x, n * sizeof *x);
                list[isa]->put_away(to + at, x, n);
                assert_same(to, expected, WIDTH + 16, list[isa]->name);
            }
    free(x);
}

static void test_interleave(void **state)
{
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list);
    enum { LD = 103 };
    float *rows = normals(16 * LD, 70);
    for (int isa = 0; isa < n_isa; isa++)
        for (int n = 0; n <= 99; n += n < 34 ? 1 : 13) {
            float *out = floats(16 * 100), *expected = floats(16 * 100);
            memset(expected, 0, sizeof(float[16 * 100]));
            memset(out, 0, sizeof(float[16 * 100]));
            for (int k = 0; k < n; k++)
                for (int c = 0; c < 16; c++) expected[k * 16 + c] = rows[c * LD + k];
            list[isa]->interleave(rows, LD, n, out);
            assert_same(out, expected, 16 * 100, list[isa]->name); /* and nothing behind */
            free(out);
            free(expected);
        }
    free(rows);
}

static void test_interleave_pairs(void **state)
{
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list);
    enum { LD = 103, WORDS = 16 * 52 };
    float *rows = normals(16 * LD, 71);
    rows[3 * LD + 40] = NAN;
    rows[4 * LD + 2] = INFINITY;
    rows[5 * LD + 33] = 0x1p-130f; /* has no place in bfloat16 as it is used: zero */
    for (int isa = 0; isa < n_isa; isa++)
        for (int n = 0; n <= 103; n += n < 70 ? 1 : 11) {
            uint32_t out[WORDS] = {0}, expected[WORDS] = {0};
            for (int k = 0; k < n; k++)
                for (int c = 0; c < 16; c++)
                    expected[k / 2 * 16 + c] |= (uint32_t)float_to_bfloat(rows[c * LD + k])
                                                << k % 2 * 16;
            list[isa]->interleave_pairs(rows, LD, n, out);
            assert_memory_equal(out, expected, sizeof out); /* and nothing behind */
        }
    free(rows);
}

/* By hand: number i goes to sum i mod 8, in f64. */
static void test_squares(void **state)
{
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list);
    float *x = normals(MOST, 71);
    for (size_t n = 0; n < MOST; n += n < 40 ? 1 : 61) {
        double part[8] = {0}, sum = 0;
        for (size_t i = 0; i < n; i++) part[i % 8] += (double)x[i] * (double)x[i];
        for (int j = 0; j < 8; j++) sum += part[j];
        for (int isa = 0; isa < n_isa; isa++) assert_true(list[isa]->squares(x, n) == sum);
    }
    free(x);
}

static void test_logsumexp(void **state)
{
    const struct kernels *list[ISA_COUNT];
    int n_isa = machine_kernels(list);
    const size_t sizes[] = {1, 5, 16, 49, 49152};
    for (int s = 0; s < 5; s++) {
        float *x = normals(sizes[s], 60), first = 0;
        for (size_t i = 0; i < sizes[s]; i++) x[i] = x[i] * 5 - 30;
        double truth = 0;
        for (size_t i = 0; i < sizes[s]; i++) truth += exp((double)x[i] + 30);
        truth = log(truth) - 30;
        for (int isa = 0; isa < n_isa; isa++) {
            float got = list[isa]->logsumexp(x, sizes[s]);
            if (isa == 0) first = got;
            assert_int_equal(float_bits(got), float_bits(first));
            assert_true(fabs((double)got - truth) <= 1.2e-7 * fabs(truth) + 8e-6);
        }
        free(x);
    }
    for (int isa = 0; isa < n_isa; isa++) {
        float none[20], nan[3] = {1, NAN, 2};
        for (int i = 0; i < 20; i++) none[i] = -INFINITY;
        assert_true(list[isa]->logsumexp(none, 20) == -INFINITY);
        none[3] = 4;
        assert_true(list[isa]->logsumexp(none, 20) == 4);
        assert_true(isnan(list[isa]->logsumexp(nan, 3)));
    }
}

static void test_dispatch(void **state)
{
    struct siren_error err;
    enum isa isa;
    assert_int_equal(isa_parse("portable", &isa, &err), 0);
    assert_int_equal(isa, ISA_PORTABLE);
    assert_string_equal(kernels_select(isa, &err)->name, "portable");
    assert_int_equal(isa_parse("auto", &isa, &err), 0);
    assert_int_equal(isa, isa_best());
    assert_int_equal(kernels_select(isa, &err)->isa, isa);
    assert_int_equal(isa_parse("mmx", &isa, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "mmx"));
    assert_null(kernels_select(ISA_COUNT, &err));
    assert_int_equal(err.code, SIREN_EINVAL);
    assert_non_null(isa_describe());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp),
        cmocka_unit_test(test_exp_edges),
        cmocka_unit_test(test_gelu),
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_sum_order),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_logsumexp),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_entropy),
        cmocka_unit_test(test_put_away),
        cmocka_unit_test(test_interleave),
        cmocka_unit_test(test_interleave_pairs),
        cmocka_unit_test(test_squares),
        cmocka_unit_test(test_dispatch),
    };
    return cmocka_run_group_tests_name("elementwise", tests, NULL, NULL);
}
