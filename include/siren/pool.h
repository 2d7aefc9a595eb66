/* An explicit pool of threads.
 *
 * The pool is handed to whatever wants to run in parallel; nothing else in the
 * library starts a thread.  One caller at a time: a pool belongs to the thread
 * that runs jobs on it.  Workers spin for a moment after a job, then sleep on a
 * futex, so that jobs of a few microseconds follow each other cheaply and an
 * idle pool costs nothing. */
#ifndef SIREN_POOL_H
#define SIREN_POOL_H

#include "siren/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct siren_pool;

/* A job: called once on each of the pool's threads, thread 0 being the caller. */
typedef void siren_job(void *context, int thread, int n_threads);

/* n_threads counts the caller; 0 means one for each processor that this process
 * may use; at most 256.  The pool is owned by the caller. */
int siren_pool_create(struct siren_pool **out, int n_threads, struct siren_error *err);
void siren_pool_free(struct siren_pool *pool); /* NULL is allowed */

int siren_pool_threads(const struct siren_pool *pool);

/* Run `job` on all threads and return when every one has returned. */
void siren_pool_run(struct siren_pool *pool, siren_job *job, void *context);

/* Inside a job only: wait until all threads of the pool have arrived. */
void siren_pool_barrier(struct siren_pool *pool);

#ifdef __cplusplus
}
#endif
#endif
