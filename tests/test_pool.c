#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "base/claim.h"
#include "siren/pool.h"

enum { MOST = 16 };

struct work {
    atomic_long cursor;
    atomic_int done[1000];
    int ran[MOST], n_threads;
    long sums[MOST];
    long shared;
    struct siren_pool *pool;
};

static struct siren_pool *create(int n)
{
    struct siren_pool *pool;
    struct siren_error err;
    assert_int_equal(siren_pool_create(&pool, n, &err), 0);
    return pool;
}

static void count(void *context, int thread, int n_threads)
{
    struct work *w = context;
    w->ran[thread]++;
    if (thread == 0) w->n_threads = n_threads;
}

static void test_every_thread_runs_once(void **state)
{
    for (int n = 1; n <= MOST; n++) {
        struct siren_pool *pool = create(n);
        static struct work w;
        memset(&w, 0, sizeof w);
        assert_int_equal(siren_pool_threads(pool), n);
        for (int i = 0; i < 100; i++) siren_pool_run(pool, count, &w);
        for (int t = 0; t < MOST; t++) assert_int_equal(w.ran[t], t < n ? 100 : 0);
        assert_int_equal(w.n_threads, n);
        siren_pool_free(pool);
    }
    siren_pool_free(NULL);
}

static void claim_all(void *context, int thread, int n_threads)
{
    struct work *w = context;
    for (long i; (i = claim_next(&w->cursor, 1000)) >= 0;) atomic_fetch_add(&w->done[i], 1);
}

static void test_claim(void **state)
{
    struct siren_pool *pool = create(4);
    static struct work w;
    for (int round = 1; round <= 50; round++) {
        atomic_store(&w.cursor, 0);
        siren_pool_run(pool, claim_all, &w);
        for (int i = 0; i < 1000; i++) assert_int_equal(atomic_load(&w.done[i]), round);
    }
    siren_pool_free(pool);
}

/* What a thread wrote before a barrier is seen by all behind it, round after
 * round: each adds the others' values, thread 0 folds them. */
static void step(void *context, int thread, int n_threads)
{
    struct work *w = context;
    for (int round = 0; round < 200; round++) {
        w->sums[thread] = round * n_threads + thread;
        siren_pool_barrier(w->pool);
        if (thread == round % n_threads)
            for (int t = 0; t < n_threads; t++) w->shared += w->sums[t];
        siren_pool_barrier(w->pool);
    }
}

static void test_barrier(void **state)
{
    for (int n = 1; n <= 4; n++) {
        static struct work w;
        memset(&w, 0, sizeof w);
        w.pool = create(n);
        siren_pool_run(w.pool, step, &w);
        long all = 200L * n;
        assert_int_equal(w.shared, all * (all - 1) / 2);
        siren_pool_free(w.pool);
    }
}

/* Workers that went to sleep wake up for the next job. */
static void test_sleep(void **state)
{
    struct siren_pool *pool = create(3);
    static struct work w;
    for (int i = 0; i < 5; i++) {
        usleep(20000);
        siren_pool_run(pool, count, &w);
    }
    for (int t = 0; t < 3; t++) assert_int_equal(w.ran[t], 5);
    usleep(20000);
    siren_pool_free(pool);
}

static void test_arguments(void **state)
{
    struct siren_pool *pool;
    struct siren_error err;
    assert_int_equal(siren_pool_create(&pool, -1, &err), SIREN_EINVAL);
    assert_null(pool);
    assert_int_equal(siren_pool_create(&pool, 257, &err), SIREN_EINVAL);
    assert_string_equal(err.message, "threads: 257 given, expected 0 (all) to 256");
    pool = create(0);
    assert_true(siren_pool_threads(pool) >= 1);
    siren_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_thread_runs_once),
        cmocka_unit_test(test_claim),
        cmocka_unit_test(test_barrier),
        cmocka_unit_test(test_sleep),
        cmocka_unit_test(test_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
