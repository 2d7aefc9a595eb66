/* A clock that only goes forward, for what something took: no time of day. */
#ifndef SIREN_BASE_CLOCK_H
#define SIREN_BASE_CLOCK_H

#include <time.h>

static inline double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
