#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "near.h"
#include "recs_fixture.h"
#include "siren/optimizer.h"
#include "siren/random.h"

static struct siren_error err;

/* Two parameters, (5, 7) and (1, 11), as in tests/reference/optimizer.py. */
enum { N0 = 35, N1 = 11, N = N0 + N1 };
static float value[N], grad[N];
static struct siren_param list[2] = {
    {.name = "w", .value = value, .grad = grad, .rows = 5, .columns = 7},
    {.name = "b", .value = value + N0, .grad = grad + N0, .rows = 1, .columns = 11, .no_decay = 1}};
static const struct siren_params params = {list, 2};

/* To the bit in every step, where PyTorch's square root is exact (optimizer.py). */
static void test_adamw_equals_pytorch(void **state)
{
    json_t *root = fixture_load("tests/fixtures/train/optimizer.json");
    int steps = (int)fixture_number(root, "steps");
    float *start = fixture_floats(root, "start"), *g = fixture_floats(root, "gradients");
    float *want = fixture_floats(root, "values"), *m = fixture_floats(root, "m");
    float *v = fixture_floats(root, "v");
    struct siren_adamw_options o = siren_adamw_defaults();
    struct siren_param_group half = {1, 1, 0.5, 0.3};
    struct siren_adamw *a;
    o.weight_decay = 0.05;
    memcpy(value, start, sizeof value);
    assert_int_equal(siren_adamw_create(&a, params, &o, &half, 1, &err), 0);
    for (int s = 0; s < steps; s++) {
        memcpy(grad, g + s * N, sizeof grad);
        siren_adamw_step(a, 3e-3, 1, NULL);
        for (int i = 0; i < N; i++) assert_true(grad[i] == 0);
        assert_memory_equal(value, want + s * N, sizeof value);
    }
    assert_memory_equal(siren_adamw_m(a, 0), m, N0 * sizeof *m);
    assert_memory_equal(siren_adamw_m(a, 1), m + N0, N1 * sizeof *m);
    assert_memory_equal(siren_adamw_v(a, 0), v, N0 * sizeof *v);
    assert_memory_equal(siren_adamw_v(a, 1), v + N0, N1 * sizeof *v);
    assert_int_equal(siren_adamw_steps(a), steps);
    siren_adamw_free(a);
    free(start), free(g), free(want), free(m), free(v);
    json_decref(root);
}

/* Where gradients are 0 only the decay is left, at the rate of the parameter's group. */
static void test_decay_by_hand(void **state)
{
    struct siren_param_group both = {0, 2, 0.5, 0.3};
    struct siren_adamw_options o = siren_adamw_defaults();
    struct siren_adamw *a;
    assert_int_equal(siren_adamw_create(&a, params, &o, &both, 1, &err), 0);
    for (int i = 0; i < N; i++) value[i] = 1;
    siren_gradients_zero(params, NULL);
    siren_adamw_step(a, 0.1, 1, NULL);
    near(value[0], 1 - 0.1 * 0.5 * 0.3, 1e-6);
    assert_true(value[N0] == 1); /* no_decay, in a group, too */
    siren_adamw_free(a);
}

/* The bits of `n` numbers after five steps, clipped, on a pool of so many threads (0: none). */
static void run_steps(float *x, size_t n, int threads)
{
    float *g = malloc(n * sizeof *g);
    struct siren_param p = {.name = "w", .value = x, .grad = g, .rows = 1, .columns = (int)n};
    struct siren_adamw_options o = siren_adamw_defaults();
    struct siren_pool *pool = NULL;
    struct siren_adamw *a;
    if (threads) assert_int_equal(siren_pool_create(&pool, threads, &err), 0);
    assert_int_equal(siren_adamw_create(&a, (struct siren_params){&p, 1}, &o, NULL, 0, &err), 0);
    for (size_t i = 0; i < n; i++) x[i] = (float)siren_random_normal(1, 0, i);
    siren_gradients_zero((struct siren_params){&p, 1}, pool);
    for (int s = 0; s < 5; s++) {
        float factor;
        for (size_t i = 0; i < n; i++) g[i] += (float)siren_random_normal(2, (uint64_t)s, i);
        assert_int_equal(
            siren_gradients_clip((struct siren_params){&p, 1}, 0.75, pool, NULL, &factor, &err), 0);
        siren_adamw_step(a, 1e-2, factor, pool);
    }
    siren_adamw_free(a);
    siren_pool_free(pool);
    free(g);
}

static void test_threads_move_no_bit(void **state)
{
    enum { MANY = 150001 }; /* chunks of 65,536 */
    static float alone[MANY], shared[MANY];
    run_steps(alone, MANY, 0);
    for (int threads = 1; threads <= 5; threads += 2) {
        run_steps(shared, MANY, threads);
        assert_memory_equal(shared, alone, sizeof alone);
    }
    run_steps(alone, 2, 0); /* fewer numbers than threads */
    run_steps(shared, 2, 5);
    assert_memory_equal(shared, alone, 2 * sizeof *alone);
}

static void test_clip_equals_pytorch(void **state)
{
    json_t *root = fixture_load("tests/fixtures/train/optimizer.json");
    int steps = (int)fixture_number(root, "steps");
    float *g = fixture_floats(root, "gradients");
    double *clip = fixture_doubles(root, "clip"), norm;
    float factor;
    memcpy(grad, g + (steps - 1) * N, sizeof grad);
    assert_int_equal(siren_gradients_clip(params, 1.0, NULL, &norm, &factor, &err), 0);
    near(norm, clip[0], 1e-6 * clip[0]);
    near(factor * grad[0], clip[1], 1e-6);
    free(g), free(clip);
    json_decref(root);
}

static void test_clip_by_hand(void **state)
{
    double norm;
    float factor = 0;
    siren_gradients_zero(params, NULL);
    grad[1] = 3, grad[N0 + 2] = -4;
    assert_int_equal(siren_gradients_clip(params, 10, NULL, &norm, &factor, &err), 0);
    assert_true(norm == 5 && factor == 1);
    assert_int_equal(siren_gradients_clip(params, 2.5, NULL, NULL, &factor, &err), 0);
    near(factor, 0.5, 1e-6);
    /* PyTorch's 1e-6 beside the norm. */
    assert_int_equal(siren_gradients_clip(params, 5, NULL, NULL, &factor, &err), 0);
    assert_true(factor == (float)(5 / (5 + 1e-6)) && factor < 1);
    assert_true(grad[1] == 3 && grad[N0 + 2] == -4);                    /* the step multiplies */
    grad[0] = 1e38f, grad[1] = 1e38f, grad[2] = 1e38f, grad[3] = 3e38f; /* f32 would overflow */
    assert_int_equal(siren_gradients_clip(params, INFINITY, NULL, &norm, &factor, &err), 0);
    near(norm / 1e38, sqrt(12), 1e-6);
    assert_true(factor == 1);
    assert_int_equal(siren_gradients_clip(params, 0, NULL, &norm, &factor, &err), SIREN_EINVAL);
}

/* What is only noted to be zeros counts as such, whatever it holds. */
static void test_noted_zeros(void **state)
{
    float x[2][3] = {{1, 2, 3}, {1, 2, 3}}, g[2][3] = {{NAN, INFINITY, 7}, {9, 9, 9}};
    int noted = 0;
    struct siren_param own[2] = {
        {.name = "noted",
         .value = x[0],
         .grad = g[0],
         .rows = 1,
         .columns = 3,
         .unwritten = &noted},
        {.name = "plain", .value = x[1], .grad = g[1], .rows = 1, .columns = 3}};
    struct siren_params both = {own, 2};
    struct siren_adamw_options o = siren_adamw_defaults();
    struct siren_adamw *a;
    double norm;
    assert_int_equal(siren_adamw_create(&a, both, &o, NULL, 0, &err), 0);
    siren_gradients_zero(both, NULL);
    assert_true(noted == 1 && isnan(g[0][0]) && g[1][0] == 0);
    assert_int_equal(siren_gradients_norm(both, NULL, &norm, &err), 0);
    assert_true(norm == 0 && noted == 0 && g[0][0] == 0);
    g[0][1] = 2;
    siren_adamw_step(a, 1e-2, 1, NULL);
    assert_true(noted == 1 && g[0][1] == 2 && x[0][1] < x[1][1]);
    siren_adamw_step(a, 1e-2, 1, NULL); /* by zeros, not by that 2 once more */
    float once = 0.1f * 2, m = siren_adamw_m(a, 0)[1];
    near(m, once * 0.9f, 1e-6);
    siren_adamw_free(a);
}

/* The order of the contract: chunks of 65,536 with eight partials each, parameters in their order.
 */
static void test_norm_is_spelt_out(void **state)
{
    enum { FIRST = 65536 + 1003, SECOND = 21 };
    float *g = malloc((FIRST + SECOND) * sizeof *g);
    struct siren_param both[2] = {{.name = "a", .grad = g, .rows = 1, .columns = FIRST},
                                  {.name = "b", .grad = g + FIRST, .rows = 3, .columns = 7}};
    const size_t starts[4] = {0, 65536, FIRST, FIRST + SECOND};
    struct siren_pool *pool;
    double sum = 0, norm;
    for (int i = 0; i < FIRST + SECOND; i++) g[i] = (float)siren_random_normal(3, 0, (uint64_t)i);
    for (int chunk = 0; chunk < 3; chunk++) {
        double part[8] = {0}, all = 0;
        for (size_t i = starts[chunk]; i < starts[chunk + 1]; i++)
            part[(i - starts[chunk]) % 8] += (double)g[i] * (double)g[i];
        for (int j = 0; j < 8; j++) all += part[j];
        sum += all;
    }
    assert_int_equal(siren_pool_create(&pool, 2, &err), 0);
    assert_int_equal(siren_gradients_norm((struct siren_params){both, 2}, pool, &norm, &err), 0);
    assert_true(norm == sqrt(sum));
    siren_pool_free(pool);
    free(g);
}

static void test_not_a_number_is_named(void **state)
{
    double norm = -1;
    float factor;
    siren_gradients_zero(params, NULL);
    grad[0] = 2, grad[2 * 7 + 3] = NAN;
    assert_int_equal(siren_gradients_clip(params, 1, NULL, &norm, &factor, &err), SIREN_ENUMERIC);
    assert_non_null(strstr(err.message, "gradient of w (parameter 0)"));
    assert_non_null(strstr(err.message, "row 2, column 3"));
    assert_true(norm == -1 && grad[0] == 2);
    grad[2 * 7 + 3] = 0, grad[N0 + 10] = -INFINITY;
    assert_int_equal(siren_gradients_norm(params, NULL, &norm, &err), SIREN_ENUMERIC);
    assert_non_null(strstr(err.message, "gradient of b (parameter 1) is -inf at row 0, column 10"));
}

static void test_schedules_equal_transformers(void **state)
{
    static const char *const words[] = {"constant", "linear", "cosine"};
    json_t *root = fixture_load("tests/fixtures/train/optimizer.json");
    struct siren_schedule s = {.warmup = 7, .total = 40};
    double *want;
    for (int k = 0; k < 3; k++) {
        assert_int_equal(siren_schedule_parse(&s.kind, words[k], &err), 0);
        want = fixture_doubles(root, words[k]);
        for (uint64_t t = 0; t <= 40; t++) near(siren_schedule_factor(&s, t), want[t], 1e-15);
        free(want);
    }
    s.warmup = 0;
    want = fixture_doubles(root, "no_warmup");
    for (uint64_t t = 0; t <= 40; t++) near(siren_schedule_factor(&s, t), want[t], 1e-15);
    free(want);
    assert_true(siren_schedule_factor(&s, 1000) == 0);
    s = (struct siren_schedule){SIREN_SCHEDULE_LINEAR, 5, 5}; /* nothing behind the warm-up */
    assert_true(siren_schedule_factor(&s, 4) == 0.8 && siren_schedule_factor(&s, 5) == 0);
    assert_int_equal(siren_schedule_parse(&s.kind, "cosin", &err), SIREN_EINVAL);
    json_decref(root);
}

static void test_wrong_options(void **state)
{
    const struct siren_adamw_options good = siren_adamw_defaults();
    struct siren_param_group far = {1, 2, 1, 0}, negative = {0, 1, -1, 0};
    struct siren_adamw *a;
    struct siren_adamw_options o = good;
    o.beta1 = 1;
    assert_int_equal(siren_adamw_create(&a, params, &o, NULL, 0, &err), SIREN_EINVAL);
    o = good, o.beta2 = -0.1;
    assert_int_equal(siren_adamw_create(&a, params, &o, NULL, 0, &err), SIREN_EINVAL);
    o = good, o.eps = 0;
    assert_int_equal(siren_adamw_create(&a, params, &o, NULL, 0, &err), SIREN_EINVAL);
    o = good, o.weight_decay = NAN;
    assert_int_equal(siren_adamw_create(&a, params, &o, NULL, 0, &err), SIREN_EINVAL);
    assert_int_equal(siren_adamw_create(&a, params, &good, &far, 1, &err), SIREN_EINVAL);
    assert_int_equal(siren_adamw_create(&a, params, &good, &negative, 1, &err), SIREN_EINVAL);
    assert_null(a);
    siren_adamw_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw_equals_pytorch),
        cmocka_unit_test(test_decay_by_hand),
        cmocka_unit_test(test_threads_move_no_bit),
        cmocka_unit_test(test_clip_equals_pytorch),
        cmocka_unit_test(test_clip_by_hand),
        cmocka_unit_test(test_noted_zeros),
        cmocka_unit_test(test_norm_is_spelt_out),
        cmocka_unit_test(test_not_a_number_is_named),
        cmocka_unit_test(test_schedules_equal_transformers),
        cmocka_unit_test(test_wrong_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
