#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "near.h"
#include "recs_fixture.h"
#include "siren/logistic.h"
#include "siren/random.h"

static struct siren_error err;

static void test_multinomial_equals_scikit_learn(void **state)
{
    json_t *root = fixture_load("tests/fixtures/recs/logistic.json");
    size_t n = (size_t)fixture_number(root, "n");
    int d = (int)fixture_number(root, "d"), k = (int)fixture_number(root, "k");
    double *x = fixture_doubles(root, "x"), *want = fixture_doubles(root, "p");
    int32_t *label = fixture_ints(root, "label");
    double *p = malloc(n * (size_t)k * sizeof *p);
    struct siren_logistic *m;
    struct siren_logistic_options o = {.l2 = fixture_number(root, "l2")};
    assert_int_equal(siren_logistic_fit(&m, x, label, NULL, n, d, k, &o, &err), 0);
    assert_int_equal(siren_logistic_predict(m, x, n, p, &err), 0);
    for (size_t i = 0; i < n * (size_t)k; i++) near(p[i], want[i], 1e-5);
    siren_logistic_free(m);
    free(x);
    free(want);
    free(label);
    free(p);
    json_decref(root);
}

enum { ROWS = 3000, D = 3 };

static struct {
    double x[ROWS * D];
    int32_t label[ROWS], user[ROWS];
    double p[ROWS * 5];
} set;

/* Ordered labels: a logistic score cut at -2, -1, 0.5, 2. */
static void make_ordinal(void)
{
    const double cut[4] = {-2, -1, 0.5, 2};
    for (int i = 0; i < ROWS; i++) {
        double score = 0;
        for (int j = 0; j < D; j++) {
            double z = siren_random_normal(5, (uint64_t)j, (uint64_t)i);
            set.x[i * D + j] = z * (j + 1) + 10;
            score += z * (j == 0 ? 1.5 : j == 1 ? -0.5 : 0);
        }
        double u = siren_random_uniform(5, 9, (uint64_t)i);
        score += log(u / (1 - u));
        set.label[i] = 0;
        for (int c = 0; c < 4; c++) set.label[i] += score > cut[c];
        set.user[i] = i / 6;
    }
}

/* The thresholds and weights that made the data come back. */
static void test_ordinal_finds_the_truth(void **state)
{
    struct siren_logistic *m;
    struct siren_logistic_options o = {.kind = SIREN_ORDINAL, .l2 = 1e-6};
    make_ordinal();
    assert_int_equal(siren_logistic_fit(&m, set.x, set.label, NULL, ROWS, D, 5, &o, &err), 0);
    const double row[D] = {10, 10, 10};
    double p[5], below = 0;
    assert_int_equal(siren_logistic_predict(m, row, 1, p, &err), 0);
    const double cut[4] = {-2, -1, 0.5, 2};
    for (int c = 0; c < 4; c++) {
        below += p[c];
        near(log(below / (1 - below)), cut[c], 0.2);
    }
    const double higher[D] = {11, 10, 10};
    assert_int_equal(siren_logistic_predict(m, higher, 1, p, &err), 0);
    near(log(p[4] / (1 - p[4])), -2 + 1.5, 0.2);
    near(p[0] + p[1] + p[2] + p[3] + p[4], 1, 1e-12);
    siren_logistic_free(m);
}

static double mean_log_loss(const double *p)
{
    double sum = 0;
    for (int i = 0; i < ROWS; i++) sum -= log(p[i * 5 + set.label[i]]) / ROWS;
    return sum;
}

static void test_penalty_is_chosen(void **state)
{
    struct siren_logistic *m, *weak;
    for (int kind = 0; kind < 2; kind++) {
        struct siren_logistic_options o = {.kind = (enum siren_logistic_kind)kind};
        make_ordinal();
        assert_int_equal(siren_logistic_fit(&m, set.x, set.label, set.user, 300, D, 5, &o, &err),
                         0);
        o.l2 = 1e-6;
        assert_int_equal(siren_logistic_fit(&weak, set.x, set.label, NULL, 300, D, 5, &o, &err), 0);
        assert_true(siren_logistic_l2(m) >= 1e-4 && siren_logistic_l2(m) <= 1);
        siren_logistic_predict(m, set.x, ROWS, set.p, &err);
        double chosen = mean_log_loss(set.p);
        siren_logistic_predict(weak, set.x, ROWS, set.p, &err);
        assert_true(chosen <= mean_log_loss(set.p) + 0.02);
        siren_logistic_free(m);
        siren_logistic_free(weak);
    }
}

/* Out-of-fold rows do not know their own labels: pure noise gains nothing. */
static void test_cross_fitting_is_out_of_fold(void **state)
{
    make_ordinal();
    for (int i = 0; i < ROWS; i++) set.label[i] = (int32_t)siren_random_below(8, 0, (uint64_t)i, 5);
    struct siren_logistic_options o = {.l2 = 1e-6};
    enum { N = 200 };
    int32_t own[ROWS];
    for (int i = 0; i < ROWS; i++) own[i] = i;
    assert_int_equal(siren_logistic_cross(set.x, set.label, own, N, D, 5, 2, &o, set.p, &err), 0);
    double loss = 0;
    for (int i = 0; i < N; i++) loss -= log(set.p[i * 5 + set.label[i]]) / N;
    assert_true(loss > log(5) - 0.005);
    /* a user's fold is what siren_user_fold() says: changing the labels of one half changes
     * only what the other half is told */
    double before[N * 5];
    memcpy(before, set.p, sizeof before);
    for (int i = 0; i < N; i++)
        if (siren_user_fold(0, i, 2) == 0) set.label[i] = 4 - set.label[i];
    assert_int_equal(siren_logistic_cross(set.x, set.label, own, N, D, 5, 2, &o, set.p, &err), 0);
    for (int i = 0; i < N; i++) {
        int same = !memcmp(before + i * 5, set.p + i * 5, 5 * sizeof *before);
        assert_int_equal(same, siren_user_fold(0, i, 2) == 0);
    }
}

static void test_missing_label(void **state)
{
    make_ordinal();
    for (int i = 0; i < ROWS; i++)
        if (set.label[i] == 1) set.label[i] = 2;
    for (int kind = 0; kind < 2; kind++) {
        struct siren_logistic *m;
        struct siren_logistic_options o = {.kind = (enum siren_logistic_kind)kind, .l2 = 1e-3};
        assert_int_equal(siren_logistic_fit(&m, set.x, set.label, NULL, ROWS, D, 5, &o, &err), 0);
        siren_logistic_predict(m, set.x, ROWS, set.p, &err);
        for (int i = 0; i < ROWS; i++) {
            assert_true(set.p[i * 5 + 1] > 0 && set.p[i * 5 + 1] < 0.01);
            for (int c = 0; c < 5; c++) assert_true(isfinite(set.p[i * 5 + c]));
        }
        siren_logistic_free(m);
    }
}

static void test_json(void **state)
{
    make_ordinal();
    for (int kind = 0; kind < 2; kind++) {
        struct siren_logistic *m, *again;
        struct siren_logistic_options o = {.kind = (enum siren_logistic_kind)kind, .l2 = 0.01};
        char *json;
        static double p[ROWS * 5];
        assert_int_equal(siren_logistic_fit(&m, set.x, set.label, NULL, 500, D, 5, &o, &err), 0);
        assert_int_equal(siren_logistic_save(m, &json, &err), 0);
        assert_int_equal(siren_logistic_load(&again, json, &err), 0);
        siren_logistic_predict(m, set.x, ROWS, p, &err);
        siren_logistic_predict(again, set.x, ROWS, set.p, &err);
        assert_memory_equal(p, set.p, sizeof p);
        assert_int_equal(siren_logistic_features(again), D);
        assert_int_equal(siren_logistic_labels(again), 5);
        siren_logistic_free(m);
        siren_logistic_free(again);
        free(json);
    }
    const char *const bad[] = {
        "",
        "{",
        "[]",
        "{\"kind\":\"cubic\",\"features\":1,\"labels\":2}",
        "{\"kind\":\"ordinal\",\"features\":-1,\"labels\":2}",
        "{\"kind\":\"ordinal\",\"features\":1,\"labels\":2000}",
        "{\"kind\":\"ordinal\",\"features\":1,\"labels\":2,\"mean\":[0],\"scale\":[1],\"weights\":["
        "1]}",
        "{\"kind\":\"ordinal\",\"features\":1,\"labels\":2,\"mean\":[0],\"scale\":[1],"
        "\"weights\":[1,\"x\"]}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct siren_logistic *m;
        assert_int_equal(siren_logistic_load(&m, bad[i], &err), SIREN_EFORMAT);
        assert_null(m);
    }
}

static void test_fit_errors(void **state)
{
    struct siren_logistic *m;
    double x[2] = {1, NAN};
    int32_t label[2] = {0, 1}, outside[2] = {0, 5}, one[2] = {3, 3};
    struct siren_logistic_options o = {.l2 = 1};
    assert_int_equal(siren_logistic_fit(&m, x, label, NULL, 2, 1, 5, &o, &err), SIREN_ENUMERIC);
    x[1] = 0;
    assert_int_equal(siren_logistic_fit(&m, x, outside, NULL, 2, 1, 5, &o, &err), SIREN_EINVAL);
    assert_int_equal(siren_logistic_fit(&m, x, label, NULL, 0, 1, 5, &o, &err), SIREN_EINVAL);
    assert_int_equal(siren_logistic_fit(&m, x, label, NULL, 2, 1, 5, NULL, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "users"));
    double p[10];
    assert_int_equal(siren_logistic_cross(x, label, NULL, 2, 1, 5, 2, &o, p, &err), SIREN_EINVAL);
    assert_int_equal(siren_logistic_cross(x, label, one, 2, 1, 5, 2, &o, p, &err), SIREN_ENOTFOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_multinomial_equals_scikit_learn),
        cmocka_unit_test(test_ordinal_finds_the_truth),
        cmocka_unit_test(test_penalty_is_chosen),
        cmocka_unit_test(test_cross_fitting_is_out_of_fold),
        cmocka_unit_test(test_missing_label),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_fit_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
