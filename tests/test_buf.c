#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "siren/error.h"

static void test_append(void **state)
{
    struct buf b = {0};
    assert_string_equal(buf_text(&b), "");
    buf_puts(&b, "one");
    buf_putc(&b, ' ');
    buf_printf(&b, "%d %s", 2, "three");
    buf_append(&b, "\0x", 2);
    assert_int_equal(b.size, 13);
    assert_memory_equal(b.data, "one 2 three\0x", 14);
    buf_clear(&b);
    assert_string_equal(buf_text(&b), "");
    for (int i = 0; i < 10000; i++) buf_printf(&b, "%04d", i);
    assert_int_equal(b.size, 40000);
    assert_memory_equal(b.data + 4 * 1234, "1234", 4);
    char *text = buf_take(&b);
    assert_int_equal(strlen(text), 40000);
    assert_null(b.data);
    free(text);
    text = buf_take(&b);
    assert_string_equal(text, "");
    free(text);
    buf_append(&b, "", 0);
    buf_free(&b);
    assert_null(b.data);
}

/* A size that cannot be had makes the buffer fail once and for all. */
static void test_failure(void **state)
{
    struct buf b = {0};
    buf_puts(&b, "kept");
    buf_append(&b, "x", SIZE_MAX - 2);
    assert_true(buf_failed(&b));
    buf_puts(&b, "ignored");
    assert_string_equal(b.data, "kept");
    assert_null(buf_take(&b));
    assert_false(buf_failed(&b));
}

static void test_alloc(void **state)
{
    volatile size_t huge = SIZE_MAX / 2;
    assert_null(alloc_array(huge, 3));
    assert_null(alloc_zeroed(huge, 3));
    assert_null(alloc_resize(NULL, huge, 3));
    assert_null(alloc_aligned(huge, 3));
    assert_null(alloc_aligned(SIZE_MAX - 3, 1));
    void *p = alloc_aligned(3, 5);
    assert_int_equal((uintptr_t)p % 64, 0);
    free(p);
    p = alloc_array(0, 8); /* a valid pointer, not NULL */
    assert_non_null(p);
    free(p);
    int *array = NULL;
    size_t capacity = 0;
    assert_int_equal(alloc_grow(&array, &capacity, 5, sizeof *array), 0);
    assert_true(capacity >= 5);
    array[4] = 7;
    int *before = array;
    size_t old = capacity;
    assert_int_equal(alloc_grow(&array, &capacity, SIZE_MAX / 3, sizeof *array), SIREN_ENOMEM);
    assert_ptr_equal(array, before);
    assert_int_equal(capacity, old);
    assert_int_equal(alloc_grow(&array, &capacity, 1000, sizeof *array), 0);
    assert_int_equal(array[4], 7);
    free(array);
    char *text = alloc_string("abcdef", 3);
    assert_string_equal(text, "abc");
    free(text);
}

static void test_error(void **state)
{
    struct siren_error err;
    char longer[3000];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = 0;
    assert_int_equal(siren_fail(&err, SIREN_EIO, "%s: %d", "file", 3), SIREN_EIO);
    assert_string_equal(err.message, "file: 3");
    assert_int_equal(siren_fail_prefix(&err, SIREN_EFORMAT, "outer %d", 1), SIREN_EFORMAT);
    assert_string_equal(err.message, "outer 1: file: 3");
    assert_int_equal(err.code, SIREN_EFORMAT);
    siren_fail(&err, SIREN_EIO, "%s", longer);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    siren_fail_prefix(&err, SIREN_EIO, "%s", longer);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    assert_int_equal(siren_fail(NULL, SIREN_EBUSY, "nobody listens"), SIREN_EBUSY);
    assert_int_equal(siren_fail_prefix(NULL, SIREN_EBUSY, "nobody listens"), SIREN_EBUSY);
    assert_int_equal(siren_fail_memory(&err, "things", 12), SIREN_ENOMEM);
    assert_string_equal(err.message, "out of memory for things (12 bytes)");
    for (int code = SIREN_ENETWORK; code <= SIREN_OK; code++)
        assert_string_not_equal(siren_code_name(code), "unknown error");
    assert_string_equal(siren_code_name(-99), "unknown error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_alloc),
        cmocka_unit_test(test_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
