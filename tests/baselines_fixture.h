/* What tests of the table of baselines share.  Include after cmocka.h. */
#ifndef SIREN_TESTS_BASELINES_FIXTURE_H
#define SIREN_TESTS_BASELINES_FIXTURE_H

#include "scratch.h"
#include "siren/baseline_runs.h"

static struct siren_error err;
static struct siren_pool *pool;

static void check(int rc)
{
    if (rc) fail_msg("%s", err.message);
}

static inline const struct siren_baseline *row(const struct siren_baseline *rows, size_t n,
                                               const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(rows[i].name, name)) return &rows[i];
    fail_msg("there is no row \"%s\"", name);
    return NULL;
}

static inline int tear_down(void **state)
{
    siren_pool_free(pool);
    return scratch_delete(state);
}

#endif
