#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "near.h"
#include "recs_fixture.h"
#include "siren/metrics.h"
#include "siren/random.h"
#include "siren/workspace.h"

static struct siren_error err;
static const struct siren_scale stars = {1, 5, 1}, halves = {0.5, 5, 0.5};

static void test_decoders(void **state)
{
    const double p[5] = {0.3, 0.2, 0.1, 0.1, 0.3};
    near(siren_decode(SIREN_ARGMAX, &stars, p), 1, 0); /* of equals the lowest */
    near(siren_decode(SIREN_MEAN, &stars, p), 2.9, 1e-12);
    near(siren_decode(SIREN_MEDIAN, &stars, p), 2, 0); /* cumulative is 0.5 exactly at 2 */
    const double one[5] = {0, 0, 0, 0, 1};
    for (int d = 0; d < 3; d++) near(siren_decode((enum siren_decoder)d, &stars, one), 5, 0);
    /* 0.1 five times sums to a little less than 0.5 or not: it counts as reached */
    double ten[10];
    for (int i = 0; i < 10; i++) ten[i] = 0.1;
    near(siren_decode(SIREN_MEDIAN, &halves, ten), 2.5, 0);
}

static void test_losses_by_hand(void **state)
{
    const double p[5] = {0.1, 0.2, 0.3, 0.4, 0};
    near(siren_log_loss(&stars, p, 3), -log(0.3), 1e-15);
    near(siren_log_loss(&stars, p, 5), -log(1e-12), 1e-12);
    /* cumulative 0.1 0.3 0.6 1 against 0 0 1 1 */
    near(siren_rps(&stars, p, 3), (0.01 + 0.09 + 0.16 + 0) / 4, 1e-15);
    const double sure[5] = {1, 0, 0, 0, 0};
    near(siren_rps(&stars, sure, 5), 1, 1e-15);
    near(siren_rps(&stars, sure, 1), 0, 1e-15);
}

static void test_equals_scikit_learn(void **state)
{
    json_t *root = fixture_load("tests/fixtures/recs/metrics.json");
    size_t n = (size_t)fixture_number(root, "n"), k = (size_t)fixture_number(root, "k");
    double *p = fixture_doubles(root, "p"), *truth = fixture_doubles(root, "truth");
    const char *const decoders[] = {"argmax", "mean", "median"};
    double *decoded[3];
    for (int d = 0; d < 3; d++) {
        decoded[d] = fixture_doubles(root, decoders[d]);
        for (size_t i = 0; i < n; i++)
            near(siren_decode((enum siren_decoder)d, &halves, p + i * k), decoded[d][i], 1e-12);
    }
    struct siren_outcomes o = {n, truth, decoded[1], p, NULL};
    struct siren_metrics m;
    assert_int_equal(siren_metrics_compute(&m, &halves, &o, &err), 0);
    near(m.mae, fixture_number(root, "mae"), 1e-12);
    near(m.rmse, fixture_number(root, "rmse"), 1e-12);
    near(m.log_loss, fixture_number(root, "log_loss"), 1e-10);
    near(m.rps, fixture_number(root, "rps"), 1e-12);
    near(m.ece, fixture_number(root, "ece"), 1e-12);
    double mae = 0;
    size_t rows = 0;
    for (int i = 0; i < m.n_labels; i++) {
        mae += m.label[i].mae * (double)m.label[i].n / (double)n;
        rows += m.label[i].n;
    }
    assert_int_equal(rows, n);
    near(mae, m.mae, 1e-12);
    for (int d = 0; d < 3; d++) free(decoded[d]);
    free(p);
    free(truth);
    json_decref(root);
}

static void test_metrics_by_hand(void **state)
{
    const double truth[4] = {5, 5, 1, 3}, predicted[4] = {4, 5, 3, 3};
    const unsigned char invalid[4] = {0, 1, 0, 0};
    struct siren_outcomes o = {4, truth, predicted, NULL, invalid};
    struct siren_metrics m;
    assert_int_equal(siren_metrics_compute(&m, &stars, &o, &err), 0);
    near(m.mae, 0.75, 1e-15);
    near(m.rmse, sqrt(1.25), 1e-15);
    near(m.invalid, 0.25, 0);
    assert_int_equal(m.has_distribution, 0);
    assert_int_equal(m.label[4].n, 2);
    near(m.label[4].mae, 0.5, 0);
    near(m.label[0].rmse, 2, 0);
    assert_int_equal(m.label[1].n, 0);
}

static void test_metrics_errors(void **state)
{
    struct siren_metrics m;
    double truth[2] = {5, 7}, predicted[2] = {4, 4}, p[10] = {0, 0, 0, 0, 1, 0, 0, 0, 0, 0.5};
    struct siren_outcomes o = {2, truth, predicted, NULL, NULL};
    assert_int_equal(siren_metrics_compute(&m, &stars, &o, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "row 1"));
    truth[1] = 1;
    predicted[1] = NAN;
    assert_int_equal(siren_metrics_compute(&m, &stars, &o, &err), SIREN_ENUMERIC);
    predicted[1] = 1;
    o.distributions = p;
    assert_int_equal(siren_metrics_compute(&m, &stars, &o, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "sum"));
    p[9] = -1;
    assert_int_equal(siren_metrics_compute(&m, &stars, &o, &err), SIREN_ENUMERIC);
    o.n = 0;
    assert_int_equal(siren_metrics_compute(&m, &stars, &o, &err), SIREN_EINVAL);
}

enum { ROWS = 600 };

/* Losses with a user effect; b is better by `gain` on average. */
static void made_up_losses(double *a, double *b, int32_t *user, double gain)
{
    for (int i = 0; i < ROWS; i++) {
        user[i] = i % 100;
        double common = 1 + siren_random_normal(1, 0, (uint64_t)user[i]) * 0.2;
        a[i] = common + 0.3 * siren_random_normal(1, 1, (uint64_t)i);
        b[i] = common - gain + 0.3 * siren_random_normal(1, 2, (uint64_t)i);
    }
}

static void test_bootstrap(void **state)
{
    static double a[ROWS], b[ROWS];
    static int32_t user[ROWS];
    struct siren_difference d, again;
    made_up_losses(a, b, user, 0.1);
    struct siren_bootstrap_options o = {.resamples = 4000, .seed = 2};
    assert_int_equal(siren_bootstrap(&d, a, b, user, ROWS, SIREN_STAT_MEAN, &o, NULL, &err), 0);
    assert_int_equal(d.n_users, 100);
    assert_true(d.low < d.difference && d.difference < d.high);
    assert_true(d.low > 0 && d.p < 0.01 && d.p > 0);
    /* the interval of a mean of independent user sums: about ± 1.96 standard errors */
    double sums[100] = {0}, variance = 0;
    for (int i = 0; i < ROWS; i++) sums[user[i]] += (a[i] - b[i]) / 6;
    for (int u = 0; u < 100; u++) variance += pow(sums[u] - d.difference, 2) / 99;
    double error = 1.96 * sqrt(variance / 100);
    near(d.high - d.difference, error, 0.15 * error);
    near(d.difference - d.low, error, 0.15 * error);

    struct siren_pool *pool;
    assert_int_equal(siren_pool_create(&pool, 3, &err), 0);
    assert_int_equal(siren_bootstrap(&again, a, b, user, ROWS, SIREN_STAT_MEAN, &o, pool, &err), 0);
    siren_pool_free(pool);
    assert_memory_equal(&again, &d, sizeof d);

    made_up_losses(a, b, user, 0);
    assert_int_equal(siren_bootstrap(&d, a, b, user, ROWS, SIREN_STAT_MEAN, &o, NULL, &err), 0);
    assert_true(d.low < 0 && d.high > 0 && d.p > 0.05);
    /* a system against itself */
    assert_int_equal(siren_bootstrap(&d, a, a, user, ROWS, SIREN_STAT_MEAN, &o, NULL, &err), 0);
    assert_true(d.difference == 0 && d.low == 0 && d.high == 0 && d.p == 1);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The ends of the interval lie between order statistics of the resamples, as NumPy's linear
 * percentiles do: of eight and 50 %, at 1.75 and at 5.25. */
static void test_bootstrap_by_hand(void **state)
{
    const double a[5] = {1, 2, 4, 8, 16}, b[5] = {0};
    const int32_t user[5] = {0, 1, 2, 3, 4};
    double means[8] = {0};
    struct siren_bootstrap_options o = {.resamples = 8, .confidence = 0.5, .seed = 2};
    struct siren_difference d;
    for (uint64_t k = 0; k < 8; k++)
        for (uint64_t i = 0; i < 5; i++) means[k] += a[siren_random_below(o.seed, k, i, 5)] / 5;
    qsort(means, 8, sizeof *means, by_value);
    assert_int_equal(siren_bootstrap(&d, a, b, user, 5, SIREN_STAT_MEAN, &o, NULL, &err), 0);
    near(d.low, means[1] + 0.75 * (means[2] - means[1]), 1e-12);
    near(d.high, means[5] + 0.25 * (means[6] - means[5]), 1e-12);
    near(d.p, 2.0 / 9, 1e-12); /* what was observed counts as a ninth one, on the smaller side */
}

static void test_bootstrap_of_roots(void **state)
{
    const double a[4] = {4, 4, 0, 0}, b[4] = {1, 1, 1, 1};
    const int32_t user[4] = {9, 9, 3, 3};
    struct siren_difference d;
    struct siren_bootstrap_options o = {.resamples = 1000};
    assert_int_equal(siren_bootstrap(&d, a, b, user, 4, SIREN_STAT_ROOT_MEAN, &o, NULL, &err), 0);
    near(d.a, sqrt(2), 1e-15);
    near(d.b, 1, 1e-15);
    /* samples of two users: both 9, both 3, or one of each */
    near(d.low, -1, 1e-12);
    near(d.high, 1, 1e-12);
    assert_int_equal(d.n_users, 2);
}

/* A student half way: by hand, and where the gain is noise. */
static void test_bootstrap_share(void **state)
{
    static double before[ROWS], teacher[ROWS], student[ROWS], squared[3][ROWS];
    static int32_t user[ROWS];
    struct siren_share s, again;
    struct siren_difference d;
    struct siren_bootstrap_options o = {.resamples = 2000, .seed = 3};
    made_up_losses(before, teacher, user, 0.2);
    for (int i = 0; i < ROWS; i++) student[i] = (before[i] + teacher[i]) / 2;
    assert_int_equal(siren_bootstrap_share(&s, before, teacher, student, user, ROWS,
                                           SIREN_STAT_MEAN, &o, NULL, &err),
                     0);
    assert_int_equal(
        siren_bootstrap(&d, teacher, before, user, ROWS, SIREN_STAT_MEAN, &o, NULL, &err), 0);
    assert_memory_equal(&s.gain, &d, sizeof d);
    near(s.student, (s.gain.a + s.gain.b) / 2, 1e-12);
    near(s.share, 0.5, 1e-12); /* in every sample alike */
    near(s.low, 0.5, 1e-12);
    near(s.high, 0.5, 1e-12);

    struct siren_pool *pool;
    for (int i = 0; i < ROWS; i++) student[i] = teacher[i] + (i % 3 ? 0.1 : -0.2);
    assert_int_equal(siren_bootstrap_share(&s, before, teacher, student, user, ROWS,
                                           SIREN_STAT_MEAN, &o, NULL, &err),
                     0);
    near(s.share, 1, 1e-9);
    assert_true(s.low < 1 && s.high > 1);
    assert_int_equal(siren_pool_create(&pool, 3, &err), 0);
    assert_int_equal(siren_bootstrap_share(&again, before, teacher, student, user, ROWS,
                                           SIREN_STAT_MEAN, &o, pool, &err),
                     0);
    siren_pool_free(pool);
    assert_memory_equal(&again, &s, sizeof s);

    for (int i = 0; i < ROWS; i++) {
        squared[0][i] = before[i] * before[i];
        squared[1][i] = teacher[i] * teacher[i];
        squared[2][i] = before[i] * before[i];
    }
    assert_int_equal(siren_bootstrap_share(&s, squared[0], squared[1], squared[2], user, ROWS,
                                           SIREN_STAT_ROOT_MEAN, &o, NULL, &err),
                     0);
    assert_true(s.share == 0 && s.low == 0 && s.high == 0);

    made_up_losses(before, teacher, user, 0); /* no gain: no share */
    assert_int_equal(siren_bootstrap_share(&s, before, teacher, before, user, ROWS, SIREN_STAT_MEAN,
                                           &o, NULL, &err),
                     0);
    assert_true(isnan(s.share) && isnan(s.low) && isnan(s.high));
    assert_true(s.gain.low < 0 && s.gain.high > 0);
}

/* Few users give no certainty, however alike their rows are. */
static void test_bootstrap_of_few_users(void **state)
{
    double a[4] = {2, 2, 2, 2}, b[4] = {1, 1, 1, 1};
    int32_t user[4] = {7, 7, 8, 9};
    struct siren_difference d;
    struct siren_share s;
    assert_int_equal(siren_bootstrap(&d, a, b, user, 4, SIREN_STAT_MEAN, NULL, NULL, &err), 0);
    assert_true(d.n_users == 3 && d.p == 0.25 && d.low == 1 && d.high == 1);
    assert_int_equal(siren_bootstrap(&d, a, b, user, 2, SIREN_STAT_MEAN, NULL, NULL, &err), 0);
    assert_true(d.difference == 1 && d.p == 1 && isnan(d.low) && isnan(d.high));
    assert_int_equal(siren_bootstrap_share(&s, a, b, b, user, 2, SIREN_STAT_MEAN, NULL, NULL, &err),
                     0);
    assert_true(isnan(s.share));
}

static void test_bootstrap_errors(void **state)
{
    struct siren_difference d;
    double a[1] = {NAN};
    int32_t user[1] = {0};
    struct siren_bootstrap_options o = {.resamples = -1};
    assert_int_equal(siren_bootstrap(&d, a, a, user, 1, SIREN_STAT_MEAN, NULL, NULL, &err),
                     SIREN_ENUMERIC);
    a[0] = 1;
    assert_int_equal(siren_bootstrap(&d, a, a, user, 0, SIREN_STAT_MEAN, NULL, NULL, &err),
                     SIREN_EINVAL);
    assert_int_equal(siren_bootstrap(&d, a, a, user, 1, SIREN_STAT_MEAN, &o, NULL, &err),
                     SIREN_EINVAL);
}

static void test_holm(void **state)
{
    /* sorted 0.005 0.01 0.03 0.04: times 4, 3, 2, 1, never falling */
    double p[4] = {0.01, 0.04, 0.03, 0.005};
    assert_int_equal(siren_holm(p, 4, p, &err), 0);
    near(p[0], 0.03, 1e-15);
    near(p[1], 0.06, 1e-15);
    near(p[2], 0.06, 1e-15);
    near(p[3], 0.02, 1e-15);
    double high[2] = {0.9, 0.8};
    assert_int_equal(siren_holm(high, 2, high, &err), 0);
    near(high[0], 1, 0);
    near(high[1], 1, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decoders),
        cmocka_unit_test(test_losses_by_hand),
        cmocka_unit_test(test_equals_scikit_learn),
        cmocka_unit_test(test_metrics_by_hand),
        cmocka_unit_test(test_metrics_errors),
        cmocka_unit_test(test_bootstrap),
        cmocka_unit_test(test_bootstrap_by_hand),
        cmocka_unit_test(test_bootstrap_of_roots),
        cmocka_unit_test(test_bootstrap_share),
        cmocka_unit_test(test_bootstrap_of_few_users),
        cmocka_unit_test(test_bootstrap_errors),
        cmocka_unit_test(test_holm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
