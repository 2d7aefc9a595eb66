/* Small model files made by hand, for tests of the parsers. */
#ifndef TESTS_MODEL_FILES_H
#define TESTS_MODEL_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "siren/error.h"

#define FIXTURES "tests/fixtures/models/"

static inline void put_u32(struct buf *b, uint32_t v)
{
    buf_append(b, &v, sizeof v);
}

static inline void put_u64(struct buf *b, uint64_t v)
{
    buf_append(b, &v, sizeof v);
}

static inline void put_string(struct buf *b, const char *text)
{
    put_u64(b, strlen(text));
    buf_puts(b, text);
}

/* A folder of its own for a test, removed by folder_remove. */
static inline void folder_make(char path[64])
{
    strcpy(path, "/tmp/siren-test-XXXXXX");
    assert_non_null(mkdtemp(path));
}

static inline void folder_remove(const char *path)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

static inline void file_write(char *path, size_t room, const char *folder, const char *name,
                              const void *data, size_t size)
{
    snprintf(path, room, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    fclose(f);
}

static inline void *file_load(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    void *data = malloc(*size + 1);
    assert_int_equal(fread(data, 1, *size, f), *size);
    fclose(f);
    return data;
}

/* A safetensors file: header (the JSON text) and n_data zero bytes after it. */
static inline void put_safetensors(struct buf *b, const char *header, size_t n_data)
{
    put_string(b, header);
    for (size_t i = 0; i < n_data; i++) buf_putc(b, 0);
}

/* The code is the expected one and every part of `parts` (up to NULL) is in the message. */
static inline void assert_error(int code, const struct siren_error *err, int expected, ...)
{
    if (code != expected) print_error("code %d: %s\n", code, err->message);
    assert_int_equal(code, expected);
    assert_int_equal(err->code, expected);
    va_list parts;
    va_start(parts, expected);
    for (const char *part; (part = va_arg(parts, const char *));) {
        if (!strstr(err->message, part)) print_error("\"%s\" is not in: %s\n", part, err->message);
        assert_non_null(strstr(err->message, part));
    }
    va_end(parts);
}

#endif
