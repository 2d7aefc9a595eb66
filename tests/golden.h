/* Golden files: a text compared byte for byte with tests/golden/NAME.  Run a test with
 * SIREN_UPDATE_GOLDEN=1 to write them anew, and read the difference before committing it. */
#ifndef SIREN_TESTS_GOLDEN_H
#define SIREN_TESTS_GOLDEN_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline void assert_golden(const char *name, const char *text)
{
    static char expected[1 << 16];
    char path[512];
    size_t n;
    FILE *f;
    snprintf(path, sizeof path, "tests/golden/%s", name);
    if (getenv("SIREN_UPDATE_GOLDEN")) {
        f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
        assert_int_equal(fclose(f), 0);
    }
    f = fopen(path, "rb");
    if (!f) fail_msg("%s: no such golden file", path);
    n = fread(expected, 1, sizeof expected - 1, f);
    fclose(f);
    expected[n] = '\0';
    assert_string_equal(text, expected);
}

#endif
