/* Foreign text for people. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <string.h>

#include "base/visible.h"

static void is_seen(const char *text, size_t length, unsigned flags, const char *as)
{
    struct buf b = {0};
    assert_int_equal(visible_append(&b, text, length, flags), length);
    assert_string_equal(buf_text(&b), as);
    buf_free(&b);
}

static void texts_stay(void **state)
{
    static const char *const texts[] = {"",
                                        "Amélie",
                                        "七人の侍",
                                        "e\xcc\x81",
                                        "👨\xe2\x80\x8d👩",
                                        "שלום\xe2\x80\x8f",
                                        "~ \xc2\xa0 ~"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        is_seen(texts[i], strlen(texts[i]), 0, texts[i]);
}

static void what_steers_is_a_mark(void **state)
{
    static const struct {
        const char *text, *as;
    } cases[] = {{"a\x1b[31mb", "a␛[31mb"},
                 {"\a\b\r\x7f", "␇␈␍␡"},
                 {"\xc2\x9b"
                  "31m",
                  "�31m"},
                 {"a\xe2\x80\xae-b", "a�-b"},
                 {"\xe2\x81\xa6x\xe2\x81\xa9", "�x�"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        is_seen(cases[i].text, strlen(cases[i].text), VISIBLE_LINES, cases[i].as);
    is_seen("a\nb\tc\0d", 7, 0, "a␊b␉c␀d");
    is_seen("a\nb\tc\0d", 7, VISIBLE_LINES, "a\nb\tc␀d");
}

static void bytes_that_are_no_text_are_marks(void **state)
{
    is_seen("\xff", 1, 0, "�");
    is_seen("a\x9b"
            "b",
            3, 0, "a�b");                      /* C1 as a byte */
    is_seen("\xc3", 1, 0, "�");                /* cut */
    is_seen("\xe2\x82 x", 4, 0, "�� x");       /* cut within */
    is_seen("\xc0\x9b", 2, 0, "��");           /* an escape, overlong */
    is_seen("\xed\xa0\x80", 3, 0, "���");      /* half of a pair */
    is_seen("\xf4\x90\x80\x80", 4, 0, "����"); /* beyond Unicode */
}

/* A token at a time: what is not whole waits. */
static void an_unfinished_character_waits(void **state)
{
    static const char text[] = "é€😀\x1b\xe2\x82!";
    const unsigned flags = VISIBLE_LINES | VISIBLE_UNFINISHED;
    struct buf out = {0}, waits = {0};
    for (size_t i = 0; i < sizeof text - 1; i++) {
        buf_append(&waits, text + i, 1);
        size_t n = visible_append(&out, buf_text(&waits), waits.size, flags);
        assert_true(n == 0 || n == waits.size);
        if (n) buf_clear(&waits);
    }
    assert_int_equal(waits.size, 0);
    assert_string_equal(buf_text(&out), "é€😀␛��!");
    buf_clear(&out);
    assert_int_equal(visible_append(&out, "a\xf0\x9f", 3, flags), 1);
    assert_int_equal(visible_append(&out, "\xf0\x9f", 2, 0), 2); /* there is no more */
    assert_string_equal(buf_text(&out), "a��");
    buf_free(&out);
    buf_free(&waits);
}

static void json_keeps_its_values(void **state)
{
    static const char title[] = "\x1b[31m \xc2\x9b \x7f \xe2\x80\xae \\ \" é 七";
    json_t *value = json_pack("{s:[s]}", "\xe2\x81\xa6 title", title);
    char *text = json_dumps(value, 0);
    struct buf b = {0};
    visible_append_json(&b, text);
    assert_non_null(strstr(buf_text(&b), "\\u2066 title"));
    assert_non_null(strstr(buf_text(&b), "\\u001B[31m \\u009b \\u007f \\u202e"));
    assert_non_null(strstr(buf_text(&b), "é 七"));
    json_t *again = json_loads(buf_text(&b), 0, NULL);
    assert_true(json_equal(again, value));
    json_decref(value);
    json_decref(again);
    free(text);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_stay),
        cmocka_unit_test(what_steers_is_a_mark),
        cmocka_unit_test(bytes_that_are_no_text_are_marks),
        cmocka_unit_test(an_unfinished_character_waits),
        cmocka_unit_test(json_keeps_its_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
