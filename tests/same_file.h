/* Files of the same bytes.  Include after cmocka.h. */
#ifndef SIREN_TESTS_SAME_FILE_H
#define SIREN_TESTS_SAME_FILE_H

#include <stdio.h>
#include <stdlib.h>

#include "siren/file.h"

static inline void same_file(const char *a, const char *b)
{
    char *x, *y;
    size_t n, m;
    assert_int_equal(siren_file_read(&x, &n, a, 1 << 24, NULL), 0);
    assert_int_equal(siren_file_read(&y, &m, b, 1 << 24, NULL), 0);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

/* … of the same name in two folders. */
static inline void same_file_in(const char *folder_a, const char *folder_b, const char *name)
{
    char a[512], b[512];
    snprintf(a, sizeof a, "%s/%s", folder_a, name);
    snprintf(b, sizeof b, "%s/%s", folder_b, name);
    same_file(a, b);
}

#endif
