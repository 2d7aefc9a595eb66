/* What tests of the model that is none begin and end with.  Include after cmocka.h. */
#ifndef SIREN_TESTS_FAKE_SETUP_H
#define SIREN_TESTS_FAKE_SETUP_H

#include "app_fixture.h"

static struct fake fake;
static struct siren_lm lm;

static inline int fake_setup(void **state)
{
    if (scratch_create(state)) return -1;
    fake_open(&lm, &fake);
    return 0;
}

static inline int fake_teardown(void **state)
{
    fake_close(&lm);
    return scratch_delete(state);
}

#endif
