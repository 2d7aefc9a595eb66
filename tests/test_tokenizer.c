/* The tokenizers: errors, small cases by hand; the comparison with Hugging Face is in
 * test_tokenizer_reference.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "siren/tokenizer.h"
#include "text/tokenizer_private.h"

static struct siren_tokenizer *from_json(const char *json)
{
    struct siren_tokenizer *t;
    struct siren_error err = {0};
    int code = tokenizer_from_json(&t, json, strlen(json), "test", &err);
    if (code) print_error("%s\n", err.message);
    assert_int_equal(code, 0);
    return t;
}

static void assert_ids(const struct siren_tokenizer *t, const char *text, unsigned flags, int n,
                       const int32_t *expected)
{
    int32_t *ids;
    size_t n_ids;
    struct siren_error err = {0};
    assert_int_equal(siren_tokenizer_encode(t, text, strlen(text), flags, &ids, &n_ids, &err), 0);
    assert_int_equal(n_ids, n);
    for (int i = 0; i < n; i++) assert_int_equal(ids[i], expected[i]);
    free(ids);
}
#define ASSERT_IDS(t, text, flags, ...)                                                            \
    assert_ids(t, text, flags, (int)(sizeof((int32_t[]){__VA_ARGS__}) / 4),                        \
               (int32_t[]){__VA_ARGS__})

static void assert_refused(const char *json, int expected, const char *named)
{
    struct siren_tokenizer *t;
    struct siren_error err = {0};
    assert_int_equal(tokenizer_from_json(&t, json, strlen(json), "test", &err), expected);
    assert_null(t);
    assert_int_equal(err.code, expected);
    if (!strstr(err.message, named)) fail_msg("\"%s\" does not name \"%s\"", err.message, named);
}

#define SMALL_BPE                                                                                  \
    "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"abc\":4,\"\\u0120\":5},"      \
    "\"merges\":[\"a b\",[\"ab\",\"c\"]]}"

static void merges_in_both_forms(void **state)
{
    struct siren_tokenizer *t = from_json("{\"model\":" SMALL_BPE "}");
    ASSERT_IDS(t, "abcab", 0, 4, 3);
    ASSERT_IDS(t, "cabx", 0, 2, 3); /* no unknown token: dropped, as the original does */
    assert_int_equal(siren_tokenizer_size(t), 6);
    assert_int_equal(siren_tokenizer_id(t, "abc"), 4);
    assert_int_equal(siren_tokenizer_id(t, "abcd"), -1);
    assert_string_equal(siren_tokenizer_kind(t), "BPE");
    siren_tokenizer_free(t);
}

static void long_words_are_quick(void **state)
{
    struct siren_tokenizer *t = from_json("{\"model\":" SMALL_BPE "}");
    size_t n = 3 << 20;
    char *text = malloc(n);
    int32_t *ids;
    size_t n_ids;
    assert_non_null(text);
    for (size_t i = 0; i < n; i++) text[i] = "abc"[i % 3];
    assert_int_equal(siren_tokenizer_encode(t, text, n, 0, &ids, &n_ids, NULL), 0);
    assert_int_equal(n_ids, n / 3);
    for (size_t i = 0; i < n_ids; i++) assert_int_equal(ids[i], 4);
    free(ids);
    free(text);
    siren_tokenizer_free(t);
}

static void added_tokens(void **state)
{
    struct siren_tokenizer *t = from_json(
        "{\"added_tokens\":[{\"id\":6,\"content\":\"<s>\",\"special\":true},"
        "{\"id\":7,\"content\":\"<s>b\",\"special\":false,\"normalized\":false},"
        "{\"id\":8,\"content\":\"B\",\"special\":false,\"normalized\":true,\"single_word\":true},"
        "{\"id\":9,\"content\":\"<m>\",\"special\":true,\"lstrip\":true,\"rstrip\":true}],"
        "\"normalizer\":{\"type\":\"Lowercase\"},\"model\":" SMALL_BPE "}");
    ASSERT_IDS(t, "a<s>c", 0, 0, 6, 2);
    ASSERT_IDS(t, "a<s>bc", 0, 0, 7, 2); /* the longest that begins there */
    ASSERT_IDS(t, "<s><s>", 0, 6, 6);
    ASSERT_IDS(t, "a<s>", SIREN_ENCODE_NO_SPECIAL, 0); /* < s > are unknown */
    ASSERT_IDS(t, "ab B", 0, 3, 8);                    /* looked for after lower-casing */
    ASSERT_IDS(t, "ab.b.ab", 0, 3, 8, 3);
    ASSERT_IDS(t, "a \n <m>  b", 0, 0, 9, 8);
    assert_true(siren_tokenizer_is_special(t, 6));
    assert_false(siren_tokenizer_is_special(t, 7));
    assert_false(siren_tokenizer_is_special(t, 0));
    siren_tokenizer_free(t);
}

/* A token of white space that the one before has swallowed is none; without lstrip the reference
 * finds it again. */
static void swallowed_tokens(void **state)
{
    static const char format[] =
        "{\"added_tokens\":[{\"id\":6,\"content\":\"  \",\"lstrip\":%s,\"rstrip\":true},"
        "{\"id\":7,\"content\":\"<m>\",\"rstrip\":true}],\"model\":" SMALL_BPE "}";
    char json[600];
    snprintf(json, sizeof json, format, "true");
    struct siren_tokenizer *t = from_json(json);
    ASSERT_IDS(t, "a      b", 0, 0, 6, 1);
    ASSERT_IDS(t, "a  b    c", 0, 0, 6, 1, 6, 2);
    ASSERT_IDS(t, "    ", 0, 6);
    ASSERT_IDS(t, "<m>    b  c", 0, 7, 1, 6, 2);
    siren_tokenizer_free(t);
    snprintf(json, sizeof json, format, "false");
    t = from_json(json);
    ASSERT_IDS(t, "a    b", 0, 0, 6, 6, 1);
    siren_tokenizer_free(t);
}

/* Else 40 kB of tokenizer.json make a search quadratic; a normaliser may make it long, too. */
static void long_added_tokens(void **state)
{
    char json[2000], name[1026];
    static const char format[] =
        "{\"added_tokens\":[{\"id\":6,\"content\":\"%s\"}],%s\"model\":" SMALL_BPE "}";
    memset(name, 'a', 1024);
    name[1024] = 0;
    snprintf(json, sizeof json, format, name, "");
    struct siren_tokenizer *t = from_json(json);
    ASSERT_IDS(t, name, 0, 6);
    siren_tokenizer_free(t);
    snprintf(json, sizeof json, format, name,
             "\"normalizer\":{\"type\":\"Prepend\",\"prepend\":\"b\"},");
    assert_refused(json, SIREN_EUNSUPPORTED, "has 1025 bytes, expected at most 1024");
    strcpy(name + 1024, "b");
    snprintf(json, sizeof json, format, name, "");
    assert_refused(json, SIREN_EUNSUPPORTED, "added token 6 (\"aaaaaaaaaaaaaaaaaaaa…\") has 1025");
}

#define ADDED(id, text) "{\"id\":" #id ",\"content\":\"" text "\"}"

/* Ids that the reference would give anew. */
static void numbers_of_added_tokens(void **state)
{
    static const char *const refused[][2] = {
        {ADDED(6, "<x>") "," ADDED(8, "<y>"), "[1]: \"<y>\" has id 8, expected 7"},
        {ADDED(7, "<y>") "," ADDED(6, "<x>"), "[0]: \"<y>\" has id 7, expected 6"},
        {ADDED(6, "<x>") "," ADDED(6, "<y>"), "[1]: \"<y>\" has id 6, expected 7"},
        {ADDED(6, "<x>") "," ADDED(7, "<x>"), "[1]: \"<x>\" is added_tokens[0], too"},
        {ADDED(0, "a") "," ADDED(0, "a"), "[1]: \"a\" is added_tokens[0], too"},
        {ADDED(6, "") "," ADDED(7, "<y>"), "[1]: \"<y>\" has id 7, expected 6"}};
    char json[600];
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        snprintf(json, sizeof json, "{\"added_tokens\":[%s],\"model\":" SMALL_BPE "}",
                 refused[i][0]);
        assert_refused(json, SIREN_EUNSUPPORTED, refused[i][1]);
    }
    /* in the vocabulary, an empty one, and the first that is free */
    struct siren_tokenizer *t = from_json("{\"added_tokens\":[" ADDED(4, "abc") "," ADDED(
        6, "") "," ADDED(6, "<x>") "],\"model\":" SMALL_BPE "}");
    ASSERT_IDS(t, "aabc<x>", 0, 0, 4, 6);
    siren_tokenizer_free(t);
    /* holes do not count */
    t = from_json("{\"added_tokens\":[" ADDED(9, "b") "," ADDED(
        2, "<x>") "],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":9},\"merges\":[]}}");
    ASSERT_IDS(t, "ab<x>", 0, 0, 9, 2);
    siren_tokenizer_free(t);
    /* or, as versions of the reference before 0.23 went on, behind the highest (Phi-4-mini) */
    t = from_json("{\"added_tokens\":[" ADDED(9, "b") "," ADDED(10, "<x>") "," ADDED(
        11, "<y>") "],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":9},\"merges\":[]}}");
    ASSERT_IDS(t, "ab<y><x>", 0, 0, 9, 11, 10);
    siren_tokenizer_free(t);
}

#define TEMPLATE(single)                                                                           \
    "{\"type\":\"TemplateProcessing\",\"single\":[" single                                         \
    "],\"special_tokens\":{\"c\":{\"ids\":[2]}}}"
#define TEMPLATE_TEXT "{\"Sequence\":{}}"
#define TEMPLATE_TOKEN "{\"SpecialToken\":{\"id\":\"c\"}}"
#define PROCESSORS(list)                                                                           \
    "{\"post_processor\":{\"type\":\"Sequence\",\"processors\":[" list "]},\"model\":" SMALL_BPE "}"

/* The order of two processors' tokens is not that of their nesting. */
static void one_processor_adds_tokens(void **state)
{
    struct siren_tokenizer *t = from_json(PROCESSORS(
        TEMPLATE(TEMPLATE_TEXT) "," TEMPLATE(TEMPLATE_TOKEN "," TEMPLATE_TEXT "," TEMPLATE_TOKEN)));
    ASSERT_IDS(t, "a", SIREN_ENCODE_ADD_SPECIAL, 2, 0, 2);
    siren_tokenizer_free(t);
    assert_refused(PROCESSORS(TEMPLATE(TEMPLATE_TOKEN "," TEMPLATE_TEXT) "," TEMPLATE(
                       TEMPLATE_TEXT "," TEMPLATE_TOKEN)),
                   SIREN_EUNSUPPORTED, "processors[1]: a second processor adds tokens");
    assert_refused(PROCESSORS(TEMPLATE(TEMPLATE_TEXT
                                       "," TEMPLATE_TOKEN) ","
                                                           "{\"type\":\"BertProcessing\",\"cls\":["
                                                           "\"c\",2],\"sep\":[\"c\",2]}"),
                   SIREN_EUNSUPPORTED, "processors[1]: a second processor adds tokens");
}

static void what_is_unknown_is_named(void **state)
{
    assert_refused("{\"model\":", SIREN_EFORMAT, "line 1");
    assert_refused("[]", SIREN_EFORMAT, "model");
    assert_refused("{\"model\":{\"type\":\"WordLevel\"}}", SIREN_EUNSUPPORTED, "WordLevel");
    assert_refused("{\"normalizer\":{\"type\":\"Odd\"},\"model\":" SMALL_BPE "}",
                   SIREN_EUNSUPPORTED, "Odd");
    assert_refused("{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},"
                   "{\"type\":\"Odd\"}]},\"model\":" SMALL_BPE "}",
                   SIREN_EUNSUPPORTED, "normalizers[1]");
    assert_refused("{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"},\"model\":" SMALL_BPE "}",
                   SIREN_EUNSUPPORTED, "UnicodeScripts");
    assert_refused("{\"decoder\":{\"type\":\"CTC\"},\"model\":" SMALL_BPE "}", SIREN_EUNSUPPORTED,
                   "CTC");
    assert_refused("{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\\\\Rb\"},"
                   "\"behavior\":\"Isolated\"},\"model\":" SMALL_BPE "}",
                   SIREN_EUNSUPPORTED, "\\R");
    assert_refused("{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},"
                   "\"behavior\":\"Isolated\"},\"model\":" SMALL_BPE "}",
                   SIREN_EFORMAT, "(");
    assert_refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}",
                   SIREN_EFORMAT, "\"b\"");
    assert_refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}",
                   SIREN_EFORMAT, "\"a\"");
    assert_refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":268435455},\"merges\":[]}}",
                   SIREN_EFORMAT, "expected an id from 0 to about the size");
    assert_refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}",
                   SIREN_EFORMAT, "merges[0]");
    assert_refused("{\"model\":{\"type\":\"BPE\",\"vocab\":[\"a\",\"b\"],\"merges\":[]}}",
                   SIREN_EFORMAT, "vocab: expected an object");
    assert_refused("{\"model\":{\"type\":\"BPE\",\"merges\":[]}}", SIREN_EFORMAT,
                   "vocab: expected an object");
    assert_refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":{}}}", SIREN_EFORMAT,
                   "merges: expected a list");
    assert_refused("{\"model\":{\"type\":\"WordPiece\",\"vocab\":3}}", SIREN_EFORMAT,
                   "vocab: expected an object");
    assert_refused("{\"model\":{\"type\":\"Unigram\",\"vocab\":{}}}", SIREN_EFORMAT,
                   "vocab: expected a list");
    assert_refused("{\"version\":\"9.9\",\"model\":" SMALL_BPE "}", SIREN_EUNSUPPORTED,
                   "version \"9.9\": expected \"1.0\"");
    assert_refused("{\"version\":1.0,\"model\":" SMALL_BPE "}", SIREN_EUNSUPPORTED,
                   "version \"(not a text)\": expected \"1.0\"");
    assert_refused("{\"added_tokens\":{},\"model\":" SMALL_BPE "}", SIREN_EFORMAT,
                   "added_tokens: expected a list");
    assert_refused("{\"added_tokens\":[{\"id\":0,\"content\":\"b\"}],\"model\":" SMALL_BPE "}",
                   SIREN_EFORMAT, "added_tokens[0]");
}

/* A decoder that looks for nothing finds it nowhere, and steps that double a text come to an end.
 */
static void hostile_steps_end(void **state)
{
    static const char *const decoders[] = {
        "{\"type\":\"Metaspace\",\"replacement\":\"\",\"prepend_scheme\":\"never\"}",
        "{\"type\":\"Strip\",\"content\":\"\",\"start\":9000000000000000000,\"stop\":0}"};
    for (int i = 0; i < 2; i++) {
        char json[400], *text;
        size_t length;
        struct siren_error err;
        snprintf(json, sizeof json, "{\"decoder\":%s,\"model\":" SMALL_BPE "}", decoders[i]);
        struct siren_tokenizer *t = from_json(json);
        static const int32_t ids[] = {0, 1, 0};
        assert_int_equal(siren_tokenizer_decode(t, ids, 3, 0, &text, &length, &err), 0);
        free(text);
        siren_tokenizer_free(t);
    }
    char many[4096] = "{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[", *at;
    at = many + strlen(many);
    for (int i = 0; i < 40; i++)
        at +=
            sprintf(at, "%s{\"type\":\"ByteLevel\",\"use_regex\":false,\"add_prefix_space\":false}",
                    i ? "," : "");
    sprintf(at, "]},\"model\":" SMALL_BPE "}");
    struct siren_tokenizer *t = from_json(many);
    struct siren_error err;
    int32_t *ids;
    size_t n;
    assert_int_equal(siren_tokenizer_encode(t, "é", 2, 0, &ids, &n, &err), SIREN_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "pre-tokenizer makes"));
    siren_tokenizer_free(t);
}

/* Without a decoder spaces part the tokens; a Sequence of none is a decoder. */
static void empty_decoders(void **state)
{
    static const char *const decoders[] = {
        "null", "{\"type\":\"Sequence\",\"decoders\":[]}",
        "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Sequence\",\"decoders\":[]}]}"};
    for (int i = 0; i < 3; i++) {
        char json[300], *text;
        snprintf(json, sizeof json, "{\"decoder\":%s,\"model\":" SMALL_BPE "}", decoders[i]);
        struct siren_tokenizer *t = from_json(json);
        assert_int_equal(
            siren_tokenizer_decode(t, (const int32_t[]){0, 1}, 2, 0, &text, NULL, NULL), 0);
        assert_string_equal(text, i ? "ab" : "a b");
        free(text);
        siren_tokenizer_free(t);
    }
}

/* A text is refused when it has grown too much, not 4096 times as long. */
static void replacements_stop(void **state)
{
    enum { N = 1 << 16 };
    char *text = malloc(N);
    struct normalizer steps[2] = {{.kind = NORMALIZE_REPLACE}, {.kind = NORMALIZE_REPLACE}};
    struct normalize_scratch scratch = {0};
    struct siren_error err;
    const char *out;
    size_t n;
    int kept = 1;
    assert_non_null(text);
    memset(text, 'a', N);
    for (int i = 0; i < 2; i++) {
        steps[i].content = calloc(4096, 1);
        memset(steps[i].content, 'b', steps[i].n_content = 4096);
    }
    steps[0].pattern = strdup("a");
    steps[0].n_pattern = 1;
    assert_int_equal(regex_compile(&steps[1].regex, "[ab]", 4, &err), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(normalize(&steps[i], 1, &scratch, text, N, &out, &n, &kept, &err),
                         SIREN_EUNSUPPORTED);
        assert_non_null(strstr(err.message, "normalizer makes 4262911 bytes of 65536"));
        assert_in_range(scratch.a.capacity + scratch.b.capacity, 0, 16 << 20);
        normalizer_free(&steps[i]);
    }
    normalize_scratch_free(&scratch);
    free(text);
}

static void paths_that_do_not_serve(void **state)
{
    struct siren_tokenizer *t;
    struct siren_error err = {0};
    assert_int_equal(siren_tokenizer_load(&t, "/nonexistent", &err), SIREN_ENOTFOUND);
    assert_int_equal(siren_tokenizer_load(&t, "/", &err), SIREN_ENOTFOUND);
    assert_non_null(strstr(err.message, "tokenizer.json"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_in_both_forms),
        cmocka_unit_test(long_words_are_quick),
        cmocka_unit_test(added_tokens),
        cmocka_unit_test(swallowed_tokens),
        cmocka_unit_test(long_added_tokens),
        cmocka_unit_test(numbers_of_added_tokens),
        cmocka_unit_test(one_processor_adds_tokens),
        cmocka_unit_test(what_is_unknown_is_named),
        cmocka_unit_test(hostile_steps_end),
        cmocka_unit_test(empty_decoders),
        cmocka_unit_test(replacements_stop),
        cmocka_unit_test(paths_that_do_not_serve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
