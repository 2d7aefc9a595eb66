/* What tests of commands share: the program run as a script runs it. */
#ifndef SIREN_TESTS_COMMAND_CASE_H
#define SIREN_TESTS_COMMAND_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#include "app_fixture.h"
#include "run_program.h"

/* Standard output of `siren ARGUMENTS`; *status its exit code. */
static inline char *output(const char *arguments, int *status)
{
    *status = run_program("", arguments, scratch_path("stderr"));
    return program_output;
}

static inline json_t *json_of(const char *arguments)
{
    int status;
    char *text = output(arguments, &status);
    json_t *value = json_loads(text, 0, NULL);
    if (status || !value) fail_msg("siren %s: %d, %s", arguments, status, text);
    return value;
}

static inline void fails(const char *arguments, int code, const char *says)
{
    int status;
    size_t size;
    char *text;
    output(arguments, &status);
    assert_int_equal(siren_file_read(&text, &size, scratch_path("stderr"), 1 << 16, NULL), 0);
    if (status != code || !strstr(text, says))
        fail_msg("siren %s: %d, %s", arguments, status, text);
    free(text);
}

/* The text of the object ends like this. */
static inline void has_text(const json_t *value, const char *key, const char *ending)
{
    const char *text = json_string_value(json_object_get(value, key));
    size_t n = text ? strlen(text) : 0, m = strlen(ending);
    if (n < m || strcmp(text + n - m, ending)) fail_msg("%s in %s", key, program_output);
}

static inline int command_setup(void **state)
{
    return scratch_create(state) || find_program();
}

#endif
