/* Where a text may be cut without changing its tokens: what is promised, and that it holds. */
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

#define BYTE_LEVEL                                                                                 \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,\"use_regex\":"     \
    "false}"
/* \u0120 is a space, \u010a a newline */
#define MODEL                                                                                      \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"\\u0120\":2,\"\\u010a\":3,\":\":4,"  \
    "\"\\u0120a\":5,\"\\u010a\\u010a\":6,\"\\u0120\\u010a\":7,\":\\u010a\":8,\"1\":9},"            \
    "\"merges\":[\"\\u0120 a\",\"\\u010a \\u010a\",\"\\u0120 \\u010a\",\": \\u010a\"]}"
#define QWEN                                                                                       \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "              \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define ADDED "\"added_tokens\":[{\"id\":10,\"content\":\"<s>\",\"special\":true}]"

static const char gpt2[] =
    "{" ADDED "," MODEL ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
    "{\"type\":\"Digits\",\"individual_digits\":true},{\"type\":\"ByteLevel\","
    "\"add_prefix_space\":false,\"use_regex\":true}]}}";
static const char qwen[] =
    "{" ADDED "," MODEL
    ",\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Sequence\","
    "\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" QWEN "\"},"
    "\"behavior\":\"Isolated\",\"invert\":false}," BYTE_LEVEL "]}}";

static struct siren_tokenizer *from_json(const char *json)
{
    struct siren_tokenizer *t;
    struct siren_error err = {0};
    if (tokenizer_from_json(&t, json, strlen(json), "test", &err)) fail_msg("%s", err.message);
    return t;
}

static int splits(const struct siren_tokenizer *t, const char *left, const char *right)
{
    return siren_tokenizer_splits_between(t, left, strlen(left), right, strlen(right));
}

static void promises(void **state)
{
    struct siren_tokenizer *t = from_json(qwen);
    assert_true(splits(t, "a:\n", "a"));
    assert_true(splits(t, "a \n", "a"));
    assert_true(splits(t, "\n\n", ":"));
    assert_true(splits(t, "a<s>", " a"));
    assert_true(splits(t, "", "a"));
    assert_true(splits(t, "a", ""));
    assert_false(splits(t, "a\n", "\n"));
    assert_false(splits(t, "a\n", " a"));
    assert_false(splits(t, "a\n", "\xC2\xA0"));
    assert_false(splits(t, "a: ", "a"));
    assert_false(splits(t, "a", "<s>")); /* true, but nobody promised it */
    assert_false(splits(t, "a\n", "\xC3"));
    assert_false(splits(t, "\xFF\n", "a"));
    siren_tokenizer_free(t);
}

static void gpt2_keeps_spaces_before_a_newline(void **state)
{
    struct siren_tokenizer *t = from_json(gpt2);
    assert_true(splits(t, "a\n", "a"));
    assert_true(splits(t, "1\n", "1"));
    assert_true(splits(t, "\n", "a"));
    assert_false(splits(t, "a \n", "a")); /* " \n" is one token at the end, two inside */
    assert_false(splits(t, "a\n\n", "a"));
    siren_tokenizer_free(t);
}

static void nothing_is_promised_elsewhere(void **state)
{
    struct siren_tokenizer *t = from_json("{" ADDED "," MODEL "}");
    assert_false(splits(t, "a\n", "a"));
    assert_false(splits(t, "<s>", "a"));
    siren_tokenizer_free(t);
}

static int32_t *encode(const struct siren_tokenizer *t, const char *text, size_t length, size_t *n)
{
    int32_t *ids;
    assert_int_equal(siren_tokenizer_encode(t, text, length, 0, &ids, n, NULL), 0);
    return ids;
}

/* Cut a text everywhere; the number of promises. */
static int check_cuts(const struct siren_tokenizer *t, const char *text)
{
    size_t length = strlen(text), n_whole;
    int32_t *whole = encode(t, text, length, &n_whole);
    int promised = 0;
    for (size_t at = 1; at < length; at++) {
        if (!siren_tokenizer_splits_between(t, text, at, text + at, length - at)) continue;
        size_t n_left, n_right;
        int32_t *left = encode(t, text, at, &n_left);
        int32_t *right = encode(t, text + at, length - at, &n_right);
        assert_int_equal(n_left + n_right, n_whole);
        assert_memory_equal(left, whole, n_left * sizeof *left);
        assert_memory_equal(right, whole + n_left, n_right * sizeof *right);
        free(left);
        free(right);
        promised++;
    }
    free(whole);
    return promised;
}

/* All texts of up to seven of these characters. */
static void all_short_texts(void **state)
{
    static const char *const parts[] = {"a", " ", "\n", ":", "1", "<s>"};
    const char *const tokenizers[] = {gpt2, qwen};
    for (int k = 0; k < 2; k++) {
        struct siren_tokenizer *t = from_json(tokenizers[k]);
        int promised = 0;
        for (int code = 0; code < 6 * 6 * 6 * 6 * 6; code++) {
            char text[32] = "";
            for (int i = 0, rest = code; i < 5; i++, rest /= 6) strcat(text, parts[rest % 6]);
            promised += check_cuts(t, text);
        }
        assert_true(promised > 4000);
        siren_tokenizer_free(t);
    }
}

static void real_prompts(void **state)
{
    const char *models = getenv("SIREN_MODELS"), *data = getenv("SIREN_DATA");
    static const char prompt[] =
        "<|im_start|>system\nYou are a recommender assistant.  \nReason in <think> "
        "</think>.<|im_end|>\n"
        "<|im_start|>user\nThe user likes (ratings \xE2\x89\xA5 4):\n- Caf\xC3\xA9s, Drama\n\n"
        "Tape,  1.88, 3.0\r\nA\xCC\x8A!\n1999\n\xE4\xB8\xAD\xE6\x96\x87\n "
        "\n(x)\n</think>\n<answer>";
    char path[2][4096];
    if (!models || !data) {
        print_message("skipped: SIREN_MODELS and SIREN_DATA are not both set\n");
        skip();
    }
    snprintf(path[0], sizeof path[0], "%s/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf",
             models);
    snprintf(path[1], sizeof path[1], "%s/qwen3-tokenizer", data);
    for (int k = 0; k < 2; k++) {
        struct siren_tokenizer *t;
        struct siren_error err = {0};
        if (siren_tokenizer_load(&t, path[k], &err)) fail_msg("%s", err.message);
        assert_true(check_cuts(t, prompt) >= 8);
        siren_tokenizer_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(promises),
        cmocka_unit_test(gpt2_keeps_spaces_before_a_newline),
        cmocka_unit_test(nothing_is_promised_elsewhere),
        cmocka_unit_test(all_short_texts),
        cmocka_unit_test(real_prompts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
