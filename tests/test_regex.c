/* Oniguruma's expressions run by PCRE2: what is translated, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "text/regex.h"

/* All matches of a pattern, each in <>. */
static void assert_matches(const char *pattern, const char *text, const char *expected)
{
    struct regex *re;
    struct regex_scratch s = {0};
    struct siren_error err = {0};
    struct buf found = {0};
    size_t length = strlen(text), from = 0, start, end;
    if (regex_compile(&re, pattern, strlen(pattern), &err)) fail_msg("%s", err.message);
    assert_int_equal(regex_subject(&s, text, length, &err), 0);
    buf_puts(&found, "");
    while (from <= length && regex_next(re, &s, from, &start, &end, &err) == 1) {
        buf_putc(&found, '<');
        buf_append(&found, text + start, end - start);
        buf_putc(&found, '>');
        from = end > start ? end : end + 1;
    }
    assert_string_equal(buf_text(&found), expected);
    buf_free(&found);
    regex_scratch_free(&s);
    regex_free(re);
}

static void classes(void **state)
{
    assert_matches("\\s+",
                   "a \xE2\x80\x89\xC2\x85"
                   "b",
                   "< \xE2\x80\x89\xC2\x85>");
    assert_matches("\\s", "\xE1\xA0\x8E", ""); /* U+180E is none, though PCRE2's \s has it */
    assert_matches("[^\\s\\d]+", "ab1 c", "<ab><c>");
    assert_matches("\\w+", "a\xC2\xB2-\xC3\xA9_1", "<a\xC2\xB2><\xC3\xA9_1>");
    assert_matches("[\\w-]+", "a-b c", "<a-b><c>");
    assert_matches("[\\w]|-", "a\xC2\xB2\xC2\xBD-", "<a><->"); /* not those of \w by itself */
    assert_matches("[^\\w]", "a\xC2\xB2", "<\xC2\xB2>");
    assert_matches("\\W", "a b", "< >");
    assert_matches("\\d+", "1\xD9\xA1", "<1\xD9\xA1>");
    assert_matches("\\S\\D", "ab1", "<ab>");
    assert_matches("\\v|\\f|\\t", "\x0B\n\f\t", "<\x0B><\f><\t>");
    assert_matches("\\u0041|\\x42|\\.", "AB.C", "<A><B><.>");
}

static void anchors_are_those_of_lines(void **state)
{
    assert_matches("^a|b$", "a\nab\nb", "<a><a><b><b>");
    assert_matches(".+", "a\rb\nc", "<a\rb><c>");
}

static void options(void **state)
{
    assert_matches("(?i:'s|'t)x?", "'S'sX'Tx", "<'S><'s><'Tx>");
    assert_matches("a(?=b)|c(?!d)|(?<=e)f", "abcdcefgf", "<a><c><f>");
}

/* U+31350 came with Unicode 15, U+10D4A with 16; PCRE2 10.42 knows 14. */
static void young_characters(void **state)
{
    assert_matches("\\p{L}+", "a\xF0\xB1\x8D\x90\xF0\x90\xB5\x8A-",
                   "<a\xF0\xB1\x8D\x90\xF0\x90\xB5\x8A>");
    assert_matches("\\p{Han}", "\xF0\xB1\x8D\x90", "<\xF0\xB1\x8D\x90>");
    assert_matches("[^\\p{L}]", "\xF0\xB1\x8D\x90", "");
}

/* \p{Han} is what the script has, not what it is written with: U+3002, U+300C, U+3003 are common.
 */
static void scripts(void **state)
{
    static const char text[] = "\xE4\xB8\xAD\xE3\x80\x82\xE3\x80\x8C\xE3\x80\x83"
                               "\xE3\x82\xA2\xE3\x83\xBC";
    assert_matches("\\p{Han}", text, "<\xE4\xB8\xAD>");
    assert_matches("\\p{^Han}+", text,
                   "<\xE3\x80\x82\xE3\x80\x8C\xE3\x80\x83\xE3\x82\xA2\xE3\x83\xBC>");
    assert_matches("[^\\P{Katakana}]+", text, "<\xE3\x82\xA2>");
    assert_matches("\\p{Common}+", text, "<\xE3\x80\x82\xE3\x80\x8C\xE3\x80\x83><\xE3\x83\xBC>");
    assert_matches("\\p{Cyrillic}", "\xE1\xB2\x89", "<\xE1\xB2\x89>"); /* of Unicode 16 */
    assert_matches("\\p{Latin}", "\xE1\xB2\x89", "");
    assert_matches("\\p{Hiragana}", "\xF0\x9B\x84\xB2", "<\xF0\x9B\x84\xB2>"); /* of 15 */
}

static void refused(const char *pattern, int expected, const char *named)
{
    struct regex *re;
    struct siren_error err = {0};
    int code = regex_compile(&re, pattern, strlen(pattern), &err);
    if (code != expected) fail_msg("%s: code %d: %s", pattern, code, err.message);
    assert_null(re);
    if (!strstr(err.message, named)) fail_msg("\"%s\" does not name \"%s\"", err.message, named);
}

static void what_is_refused(void **state)
{
    static const char *const escapes[] = {"\\h", "\\R", "\\X", "\\K", "\\G",
                                          "\\A", "\\z", "\\b", "\\1"};
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++)
        refused(escapes[i], SIREN_EUNSUPPORTED, escapes[i]);
    refused("a\\", SIREN_EUNSUPPORTED, "byte 1");
    refused("[\\W]", SIREN_EUNSUPPORTED, "\\W");
    refused("[a[b]]", SIREN_EUNSUPPORTED, "classes inside classes");
    refused("[a&&b]", SIREN_EUNSUPPORTED, "intersections");
    refused("[a", SIREN_EUNSUPPORTED, "without its end");
    refused("[]", SIREN_EUNSUPPORTED, "class");
    refused("a{1,2}+", SIREN_EUNSUPPORTED, "possessive");
    refused("(?m:a)", SIREN_EUNSUPPORTED, "group");
    refused("(?<x>a)", SIREN_EUNSUPPORTED, "group");
    refused("(*FAIL)", SIREN_EUNSUPPORTED, "(*");
    refused("\\p", SIREN_EUNSUPPORTED, "{name}");
    refused("\\u00", SIREN_EUNSUPPORTED, "four digits");
    refused("(a", SIREN_EFORMAT, "(a");
    refused("\\p{Nothing}", SIREN_EFORMAT, "Nothing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes), cmocka_unit_test(anchors_are_those_of_lines),
        cmocka_unit_test(options), cmocka_unit_test(young_characters),
        cmocka_unit_test(scripts), cmocka_unit_test(what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
