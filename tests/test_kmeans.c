#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "recs_fixture.h"
#include "siren/kmeans.h"
#include "siren/random.h"

static struct siren_error err;

static float *made_up(size_t n, int d, uint64_t seed)
{
    float *x = malloc(n * (size_t)d * sizeof *x);
    for (size_t i = 0; i < n; i++)
        for (int j = 0; j < d; j++)
            x[i * (size_t)d + (size_t)j] =
                (float)(siren_random_normal(seed, i % 9, (uint64_t)j) * 3 +
                        siren_random_normal(seed, 100 + i, (uint64_t)j));
    return x;
}

/* From the same centres: scikit-learn's labels, and its inertia to 1e-6. */
static void test_equals_scikit_learn(void **state)
{
    json_t *root = fixture_load("tests/fixtures/recs/kmeans.json");
    size_t n = (size_t)fixture_number(root, "n"), i;
    int d = (int)fixture_number(root, "d");
    float *x = fixture_floats(root, "x");
    json_t *one;
    json_array_foreach(json_object_get(root, "cases"), i, one)
    {
        float *initial = fixture_floats(one, "initial");
        int32_t *labels = fixture_ints(one, "labels");
        struct siren_kmeans_options o = {.k = (int)fixture_number(one, "k"), .initial = initial};
        o.iterations = (int)fixture_number(one, "iterations");
        struct siren_kmeans km;
        assert_int_equal(siren_kmeans_fit(&km, x, n, d, &o, NULL, NULL, &err), 0);
        assert_memory_equal(km.labels, labels, n * sizeof *labels);
        double inertia = fixture_number(one, "inertia");
        assert_true(fabs(km.inertia - inertia) <= 1e-6 * inertia);
        siren_kmeans_clear(&km);
        free(initial);
        free(labels);
    }
    free(x);
    json_decref(root);
}

static void test_threads_change_no_bit(void **state)
{
    enum { N = 1001, D = 37 };
    float *x = made_up(N, D, 5);
    for (int spherical = 0; spherical < 2; spherical++) {
        struct siren_kmeans first = {0};
        for (int threads = 1; threads <= 3; threads++) {
            struct siren_pool *pool;
            struct siren_kmeans km;
            struct siren_kmeans_options o = {.k = 12, .seed = 7, .spherical = spherical};
            assert_int_equal(siren_pool_create(&pool, threads, &err), 0);
            assert_int_equal(siren_kmeans_fit(&km, x, N, D, &o, pool, NULL, &err), 0);
            siren_pool_free(pool);
            if (threads == 1) {
                first = km;
                continue;
            }
            assert_memory_equal(km.labels, first.labels, N * sizeof *km.labels);
            assert_memory_equal(km.centres, first.centres, 12 * D * sizeof *km.centres);
            assert_memory_equal(&km.inertia, &first.inertia, sizeof km.inertia);
            siren_kmeans_clear(&km);
        }
        siren_kmeans_clear(&first);
    }
    free(x);
}

/* A row gets the same topic alone as in the fit. */
static void test_nearest_agrees_with_fit(void **state)
{
    enum { N = 500, D = 24, K = 15 };
    float *x = made_up(N, D, 9);
    struct siren_kmeans km;
    struct siren_kmeans_options o = {.k = K, .seed = 1};
    assert_int_equal(siren_kmeans_fit(&km, x, N, D, &o, NULL, NULL, &err), 0);
    for (size_t i = 0; i < N; i++) {
        int32_t two[2];
        double distances[2];
        assert_int_equal(siren_kmeans_nearest(km.centres, K, D, x + i * D), km.labels[i]);
        siren_kmeans_nearest2(km.centres, K, D, x + i * D, two, distances);
        assert_int_equal(two[0], km.labels[i]);
        assert_int_not_equal(two[0], two[1]);
        assert_true(distances[0] <= distances[1] * (1 + 1e-6));
    }
    siren_kmeans_clear(&km);
    free(x);
}

static void test_seeds_and_restarts(void **state)
{
    enum { N = 400, D = 6, K = 9 };
    float *x = made_up(N, D, 11);
    struct siren_kmeans one, many, other;
    struct siren_kmeans_options o = {.k = K, .seed = 3, .restarts = 1};
    assert_int_equal(siren_kmeans_fit(&one, x, N, D, &o, NULL, NULL, &err), 0);
    o.restarts = 5;
    assert_int_equal(siren_kmeans_fit(&many, x, N, D, &o, NULL, NULL, &err), 0);
    assert_true(many.inertia <= one.inertia);
    o.restarts = 1;
    o.seed = 4;
    assert_int_equal(siren_kmeans_fit(&other, x, N, D, &o, NULL, NULL, &err), 0);
    assert_memory_not_equal(one.centres, other.centres, K * D * sizeof *one.centres);
    siren_kmeans_clear(&one);
    siren_kmeans_clear(&many);
    siren_kmeans_clear(&other);
    free(x);
}

static void test_spherical(void **state)
{
    /* Two directions, at lengths that differ a lot: Euclidean distance would split by length. */
    float x[40][2];
    for (int i = 0; i < 40; i++) {
        float length = i % 4 < 2 ? 0.1f : 10;
        float angle = (i % 2 ? 0.3f : 1.2f) + 0.001f * (float)i;
        x[i][0] = length * cosf(angle);
        x[i][1] = length * sinf(angle);
    }
    struct siren_kmeans km;
    struct siren_kmeans_options o = {.k = 2, .spherical = 1};
    assert_int_equal(siren_kmeans_fit(&km, x[0], 40, 2, &o, NULL, NULL, &err), 0);
    for (int i = 2; i < 40; i++) assert_int_equal(km.labels[i], km.labels[i % 2]);
    for (int c = 0; c < 2; c++) {
        float *centre = km.centres + c * 2;
        assert_true(fabsf(centre[0] * centre[0] + centre[1] * centre[1] - 1) < 1e-6f);
    }
    assert_int_equal(siren_kmeans_nearest(km.centres, 2, 2, x[3]), km.labels[3]);
    siren_kmeans_clear(&km);
}

/* All rows equal: clusters cannot be told apart, and nothing goes wrong. */
static void test_equal_rows(void **state)
{
    float x[30] = {0};
    for (int i = 0; i < 30; i++) x[i] = 2;
    struct siren_kmeans km;
    struct siren_kmeans_options o = {.k = 4};
    assert_int_equal(siren_kmeans_fit(&km, x, 10, 3, &o, NULL, NULL, &err), 0);
    assert_true(km.inertia == 0);
    siren_kmeans_clear(&km);
}

static int stop(void *context, const char *what, uint64_t done, uint64_t total)
{
    return done >= 2;
}

static void test_errors(void **state)
{
    struct siren_kmeans km;
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct siren_kmeans_options o = {.k = 5};
    assert_int_equal(siren_kmeans_fit(&km, x, 4, 2, &o, NULL, NULL, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "4 rows"));
    o.k = -1;
    assert_int_equal(siren_kmeans_fit(&km, x, 4, 2, &o, NULL, NULL, &err), SIREN_EINVAL);
    o.k = 2;
    x[5] = NAN;
    assert_int_equal(siren_kmeans_fit(&km, x, 4, 2, &o, NULL, NULL, &err), SIREN_ENUMERIC);
    assert_non_null(strstr(err.message, "row 2, column 1"));
    x[5] = 0;
    struct siren_progress p = {stop, NULL};
    assert_int_equal(siren_kmeans_fit(&km, x, 4, 2, &o, NULL, &p, &err), SIREN_ECANCEL);
    assert_null(km.labels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_scikit_learn),
        cmocka_unit_test(test_threads_change_no_bit),
        cmocka_unit_test(test_nearest_agrees_with_fit),
        cmocka_unit_test(test_seeds_and_restarts),
        cmocka_unit_test(test_spherical),
        cmocka_unit_test(test_equal_rows),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
