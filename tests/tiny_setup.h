/* What tests of the tiny model over a workspace begin and end with.  Include after cmocka.h. */
#ifndef SIREN_TESTS_TINY_SETUP_H
#define SIREN_TESTS_TINY_SETUP_H

#include "app_fixture.h"
#include "tiny_lm.h"

static struct siren_pool *pool;
static struct siren_app app;
static struct siren_lm lm;

static inline int tiny_setup(void **state)
{
    if (scratch_create(state) || siren_pool_create(&pool, 2, ERR)) return -1;
    tiny_lm_open(&lm, pool);
    MUST(siren_app_open(&app, fixture_workspace("tiny.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_WRITE, ERR));
    return 0;
}

static inline int tiny_teardown(void **state)
{
    siren_app_close(&app);
    siren_lm_close(&lm);
    siren_pool_free(pool);
    return scratch_delete(state);
}

#endif
