#include "siren/pool.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* About 20 µs of spinning before a worker sleeps: longer than the gap between
 * two GEMMs of a decode step, far shorter than anything a person notices.  On a
 * shared machine a spinning thread may hold back the one it waits for, so a
 * waiter yields after a while. */
enum { SPINS = 4000 };

struct worker {
    struct siren_pool *pool;
    int index;
    pthread_t thread;
};

struct siren_pool {
    int n_threads;
    siren_job *job;
    void *context;
    atomic_uint generation; /* bumped to start a job; workers wait on it */
    atomic_uint running;    /* workers that have not yet finished the job */
    atomic_int stop;
    atomic_uint barrier_generation;
    atomic_int barrier_arrived;
    atomic_int n_sleeping; /* threads in futex_wait: a wake is skipped when none */
    struct worker *workers;
};

static void futex_wait(atomic_uint *word, unsigned seen)
{
    syscall(SYS_futex, (void *)word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake_all(atomic_uint *word)
{
    syscall(SYS_futex, (void *)word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static inline void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* Wait until *word is no longer `seen`: spin, then sleep. */
static void wait_change(struct siren_pool *pool, atomic_uint *word, unsigned seen)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != seen) return;
        pause_cpu();
    }
    atomic_fetch_add(&pool->n_sleeping, 1);
    while (atomic_load(word) == seen) futex_wait(word, seen);
    atomic_fetch_sub(&pool->n_sleeping, 1);
}

static void wake(struct siren_pool *pool, atomic_uint *word)
{
    if (atomic_load(&pool->n_sleeping)) futex_wake_all(word);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct siren_pool *pool = w->pool;
    unsigned seen = 0;
    for (;;) {
        wait_change(pool, &pool->generation, seen);
        seen = atomic_load(&pool->generation);
        if (atomic_load(&pool->stop)) return NULL;
        pool->job(pool->context, w->index, pool->n_threads);
        if (atomic_fetch_sub(&pool->running, 1) == 1) wake(pool, &pool->running);
    }
}

static int processors(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        int n = CPU_COUNT(&set);
        if (n > 0) return n;
    }
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

int siren_pool_create(struct siren_pool **out, int n_threads, struct siren_error *err)
{
    *out = NULL;
    if (n_threads < 0 || n_threads > 256)
        return siren_fail(err, SIREN_EINVAL, "threads: %d given, expected 0 (all) to 256",
                          n_threads);
    if (n_threads == 0) n_threads = processors();
    if (n_threads > 256) n_threads = 256;
    struct siren_pool *pool = calloc(1, sizeof *pool);
    struct worker *workers = calloc((size_t)n_threads, sizeof *workers);
    if (!pool || !workers) {
        free(pool);
        free(workers);
        return siren_fail_memory(err, "thread pool", sizeof *pool);
    }
    pool->n_threads = 1;
    pool->workers = workers;
    for (int i = 1; i < n_threads; i++) {
        workers[i] = (struct worker){.pool = pool, .index = i};
        int rc = pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]);
        if (rc) {
            siren_pool_free(pool);
            return siren_fail(err, SIREN_ENOMEM, "cannot start thread %d of %d: %s", i + 1,
                              n_threads, strerror(rc));
        }
        pool->n_threads = i + 1;
    }
    *out = pool;
    return SIREN_OK;
}

void siren_pool_free(struct siren_pool *pool)
{
    if (!pool) return;
    atomic_store(&pool->stop, 1);
    atomic_fetch_add(&pool->generation, 1);
    futex_wake_all(&pool->generation);
    for (int i = 1; i < pool->n_threads; i++) pthread_join(pool->workers[i].thread, NULL);
    free(pool->workers);
    free(pool);
}

int siren_pool_threads(const struct siren_pool *pool)
{
    return pool->n_threads;
}

void siren_pool_run(struct siren_pool *pool, siren_job *job, void *context)
{
    if (pool->n_threads == 1) {
        job(context, 0, 1);
        return;
    }
    pool->job = job;
    pool->context = context;
    atomic_store(&pool->running, (unsigned)pool->n_threads - 1);
    atomic_fetch_add(&pool->generation, 1);
    wake(pool, &pool->generation);
    job(context, 0, pool->n_threads);
    for (unsigned left; (left = atomic_load(&pool->running)) != 0;)
        wait_change(pool, &pool->running, left);
}

void siren_pool_barrier(struct siren_pool *pool)
{
    if (pool->n_threads == 1) return;
    unsigned seen = atomic_load(&pool->barrier_generation);
    if (atomic_fetch_add(&pool->barrier_arrived, 1) == pool->n_threads - 1) {
        atomic_store(&pool->barrier_arrived, 0);
        atomic_fetch_add(&pool->barrier_generation, 1);
        wake(pool, &pool->barrier_generation);
    } else {
        wait_change(pool, &pool->barrier_generation, seen);
    }
}
