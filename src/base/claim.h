/* Dynamic work sharing between the threads of a pool (siren/pool.h). */
#ifndef SIREN_BASE_CLAIM_H
#define SIREN_BASE_CLAIM_H

#include <stdatomic.h>

/* Inside a job: claim the next index below `limit`, or -1 when none is left.  `cursor` is a
 * caller's variable, zeroed before the job. */
static inline long claim_next(atomic_long *cursor, long limit)
{
    long i = atomic_fetch_add_explicit(cursor, 1, memory_order_relaxed);
    return i < limit ? i : -1;
}

#endif
