#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "near.h"
#include "recs/baseline_mf.h"
#include "siren/baselines.h"
#include "siren/random.h"
#include "siren/workspace.h"

static struct siren_error err;
static const struct siren_scale stars = {1, 5, 1};

static void test_means(void **state)
{
    const int32_t users[5] = {0, 0, 1, 1, 3}, items[5] = {0, 1, 0, 2, 2};
    const double ratings[5] = {5, 3, 4, 3, 5};
    struct siren_table t = {users, items, ratings, 5, 5, 4};
    struct siren_means m;
    assert_int_equal(siren_means_fit(&m, &stars, &t, &err), 0);
    near(m.global, 4, 1e-15);
    near(m.mode, 5, 0); /* twice 3, twice 5: the higher */
    near(m.user_mean[0], 4, 0);
    near(m.user_mean[1], 3.5, 0);
    near(m.user_mean[2], 4, 0); /* no rating: the global mean */
    assert_int_equal(m.user_count[2], 0);
    near(m.item_mean[2], 4, 0);
    near(m.item_mean[3], 4, 0);
    siren_means_clear(&m);
    t.n = 0;
    assert_int_equal(siren_means_fit(&m, &stars, &t, &err), SIREN_EINVAL);
    t.n = 5, t.n_items = 2;
    assert_int_equal(siren_means_fit(&m, &stars, &t, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "rating 3"));
}

/* ---- matrix factorisation on ratings that have rank 2 and biases ---- */

enum { USERS = 120, ITEMS = 80, MOST = USERS * ITEMS };

struct made {
    int32_t users[MOST], items[MOST];
    double ratings[MOST];
    size_t n;
};
static struct made train, valid, test;

static double truth(int u, int i)
{
    double sum = 3 + 0.5 * siren_random_normal(3, 0, (uint64_t)u) +
                 0.5 * siren_random_normal(3, 1, (uint64_t)i);
    for (uint64_t f = 0; f < 2; f++)
        sum += 0.6 * siren_random_normal(3, 2 + f, (uint64_t)u) *
               siren_random_normal(3, 4 + f, (uint64_t)i);
    return fmin(5, fmax(1, sum));
}

static void add(struct made *to, int u, int i, double r)
{
    to->users[to->n] = u;
    to->items[to->n] = i;
    to->ratings[to->n++] = r;
}

/* User 0 and item 0 appear in no rating. */
static void make(void)
{
    train.n = valid.n = test.n = 0;
    for (int u = 1; u < USERS; u++)
        for (int i = 1; i < ITEMS; i++) {
            uint64_t at = (uint64_t)(u * ITEMS + i);
            double draw = siren_random_uniform(3, 8, at);
            double r = truth(u, i) + 0.2 * siren_random_normal(3, 9, at);
            if (draw < 0.4)
                add(&train, u, i, r);
            else if (draw < 0.5)
                add(&valid, u, i, r);
            else if (draw < 0.6)
                add(&test, u, i, r);
        }
}

static struct siren_table table(const struct made *m)
{
    return (struct siren_table){m->users, m->items, m->ratings, m->n, USERS, ITEMS};
}

static double rmse(const struct siren_mf *mf, const struct made *m)
{
    double sum = 0;
    for (size_t i = 0; i < m->n; i++)
        sum += pow(siren_mf_predict(mf, m->users[i], m->items[i]) - m->ratings[i], 2);
    return sqrt(sum / (double)m->n);
}

static void test_mf_finds_factors(void **state)
{
    make();
    struct siren_table a = table(&train), b = table(&valid);
    for (int method = 0; method < 2; method++) {
        struct siren_mf *biases, *factors;
        struct siren_mf_options o = {.method = (enum siren_mf_method)method, .epochs = 200};
        o.lambda = method == SIREN_MF_SGD ? 0.02 : 0.5;
        o.lambda_bias = o.lambda;
        o.lr = 0.02;
        assert_int_equal(siren_mf_fit(&biases, &stars, &a, &b, &o, NULL, NULL, &err), 0);
        o.rank = 2;
        assert_int_equal(siren_mf_fit(&factors, &stars, &a, &b, &o, NULL, NULL, &err), 0);
        assert_true(rmse(biases, &test) > 0.6);
        assert_true(rmse(factors, &test) < 0.33);
        near(factors->valid_rmse, rmse(factors, &valid), 1e-12);
        assert_true(siren_mf_epochs(factors) > 1);
        siren_mf_free(biases);
        siren_mf_free(factors);
    }
}

static void test_threads_change_no_bit(void **state)
{
    make();
    struct siren_table a = table(&train), b = table(&valid);
    for (int method = 0; method < 2; method++) {
        double first[USERS];
        for (int threads = 1; threads <= 3; threads++) {
            struct siren_pool *pool;
            struct siren_mf *mf;
            struct siren_mf_options o = {.method = (enum siren_mf_method)method, .rank = 5};
            o.epochs = 7, o.lambda = 1, o.lambda_bias = 1, o.lr = 0.01, o.seed = 4;
            assert_int_equal(siren_pool_create(&pool, threads, &err), 0);
            assert_int_equal(siren_mf_fit(&mf, &stars, &a, &b, &o, pool, NULL, &err), 0);
            double got[USERS];
            for (int u = 0; u < USERS; u++) got[u] = siren_mf_predict(mf, u, u % ITEMS);
            if (threads == 1) memcpy(first, got, sizeof got);
            assert_memory_equal(first, got, sizeof got);
            siren_mf_free(mf);
            siren_pool_free(pool);
        }
    }
}

static void test_strangers(void **state)
{
    make();
    struct siren_table a = table(&train);
    double mean = 0;
    for (size_t i = 0; i < a.n; i++) mean += a.ratings[i] / (double)a.n;
    for (int method = 0; method < 2; method++) {
        struct siren_mf *mf;
        struct siren_mf_options o = {.method = (enum siren_mf_method)method, .rank = 3};
        o.epochs = 5, o.lambda = 1, o.lambda_bias = 1, o.lr = 0.01;
        assert_int_equal(siren_mf_fit(&mf, &stars, &a, NULL, &o, NULL, NULL, &err), 0);
        near(siren_mf_predict(mf, 0, 0), mean, 1e-9);
        near(siren_mf_predict(mf, -1, 99999), mean, 1e-9);
        near(siren_mf_predict(mf, 0, 5), siren_mf_predict(mf, -1, 5), 0);
        assert_true(isnan(mf->valid_rmse));
        assert_int_equal(siren_mf_epochs(mf), 5);
        siren_mf_free(mf);
    }
}

/* The same ratings from 0 to 100 instead of from 1 to 5: the same predictions, so written. */
static void test_scales_change_nothing(void **state)
{
    static const struct siren_scale percent = {0, 100, 1};
    struct siren_table a, b;
    double first[USERS], chosen = 0;
    for (int method = 0; method < 2; method++)
        for (int wide = 0; wide < 2; wide++) {
            struct siren_mf *mf;
            make();
            for (size_t i = 0; i < train.n && wide; i++)
                train.ratings[i] = 25 * (train.ratings[i] - 1);
            for (size_t i = 0; i < valid.n && wide; i++)
                valid.ratings[i] = 25 * (valid.ratings[i] - 1);
            a = table(&train), b = table(&valid);
            assert_int_equal(siren_mf_select(&mf, wide ? &percent : &stars, &a, &b,
                                             (enum siren_mf_method)method, 1, NULL, NULL, &err),
                             0);
            for (int u = 1; u < USERS; u++) {
                double r = siren_mf_predict(mf, u, u % ITEMS);
                if (!wide) first[u] = r;
                near(wide ? 1 + r / 25 : r, first[u], 1e-9);
            }
            if (!wide) chosen = mf->valid_rmse;
            near(mf->valid_rmse, wide ? 25 * chosen : chosen, 1e-8);
            siren_mf_free(mf);
        }
}

static int stop(void *context, const char *what, uint64_t done, uint64_t total)
{
    return 1;
}

static void test_selection_and_errors(void **state)
{
    make();
    struct siren_table a = table(&train), b = table(&valid), none = {0};
    for (int method = 0; method < 2; method++) {
        struct siren_mf *mf;
        assert_int_equal(
            siren_mf_select(&mf, &stars, &a, &b, (enum siren_mf_method)method, 1, NULL, NULL, &err),
            0);
        assert_true(siren_mf_settings(mf)->rank > 0);
        assert_true(rmse(mf, &test) < 0.45);
        siren_mf_free(mf);
    }
    struct siren_mf *mf;
    struct siren_mf_options o = {.rank = 2, .lr = 0.01};
    struct siren_progress p = {stop, NULL};
    assert_int_equal(siren_mf_select(&mf, &stars, &a, &none, SIREN_MF_SGD, 1, NULL, NULL, &err),
                     SIREN_EINVAL);
    assert_int_equal(siren_mf_fit(&mf, &stars, &a, &b, &o, NULL, &p, &err), SIREN_ECANCEL);
    assert_null(mf);
    assert_int_equal(siren_mf_fit(&mf, &stars, &none, &b, &o, NULL, NULL, &err), SIREN_EINVAL);
    o.lr = 0;
    assert_int_equal(siren_mf_fit(&mf, &stars, &a, &b, &o, NULL, NULL, &err), SIREN_EINVAL);
    o.lr = 0.01, o.rank = -2;
    assert_int_equal(siren_mf_fit(&mf, &stars, &a, &b, &o, NULL, NULL, &err), SIREN_EINVAL);
    o.rank = 4, o.lr = 0.99;
    assert_int_equal(siren_mf_fit(&mf, &stars, &a, NULL, &o, NULL, NULL, &err), SIREN_ENUMERIC);
    assert_non_null(strstr(err.message, "diverged"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_means),
        cmocka_unit_test(test_mf_finds_factors),
        cmocka_unit_test(test_threads_change_no_bit),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_scales_change_nothing),
        cmocka_unit_test(test_selection_and_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
