/* The folder of real models, for tests that need them.  Include after cmocka.h. */
#ifndef SIREN_TESTS_REAL_MODELS_H
#define SIREN_TESTS_REAL_MODELS_H

#include <stdlib.h>

/* Skips the test where it is not set. */
static inline const char *real_models(void)
{
    const char *folder = getenv("SIREN_MODELS");
    if (!folder || !*folder) {
        print_message("skipped: SIREN_MODELS is not set\n");
        skip();
    }
    return folder;
}

#endif
