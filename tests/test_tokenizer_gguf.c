/* Tokenizers in the metadata of GGUF files: small files made here, and what is refused. */
#include <math.h>

#include "gguf_items.h"
#include "text/tokenizer_private.h"

/* Of the first n of the tokens below. */
static void put_types(struct gguf_items *f, uint32_t item_type, size_t n)
{
    static const uint32_t types[] = {3, 1, 1, 1, 1, 1, 1, 4, 1};
    put_key(f, "tokenizer.ggml.token_type", GGUF_LIST);
    put_u32(&f->items, item_type);
    put_u64(&f->items, n);
    for (size_t i = 0; i < n; i++) put_u32(&f->items, types[i]);
}

static const char *const tokens[] = {"<s>",
                                     "a",
                                     "b",
                                     "\xC4\xA0",
                                     "\xC4\xA0"
                                     "a",
                                     "1",
                                     "11",
                                     "<t>",
                                     NULL};
static const char *const merges[] = {"\xC4\xA0 a", "1 1", NULL};

/* A whole tokenizer, but for what is NULL. */
static void put_tokenizer(struct gguf_items *f, const char *model, const char *pre,
                          const char *const *vocabulary, const char *const *ranks)
{
    *f = (struct gguf_items){0};
    if (model) put_text(f, "tokenizer.ggml.model", model);
    if (pre) put_text(f, "tokenizer.ggml.pre", pre);
    if (vocabulary) put_texts(f, "tokenizer.ggml.tokens", vocabulary);
    if (ranks) put_texts(f, "tokenizer.ggml.merges", ranks);
    size_t n = 0;
    while (vocabulary && vocabulary[n]) n++;
    put_types(f, GGUF_I32, n);
}

static void assert_ids(const struct siren_tokenizer *t, const char *text, unsigned flags,
                       const char *expected)
{
    int32_t *ids;
    size_t n;
    struct buf found = {0};
    assert_int_equal(siren_tokenizer_encode(t, text, strlen(text), flags, &ids, &n, NULL), 0);
    buf_puts(&found, "");
    for (size_t i = 0; i < n; i++) buf_printf(&found, "%s%d", i ? " " : "", (int)ids[i]);
    assert_string_equal(buf_text(&found), expected);
    buf_free(&found);
    free(ids);
}

static void families(void **state)
{
    static const struct {
        const char *pre, *expected;
    } cases[] = {{"gpt-2", "6 4 2 0 7"},
                 {"smollm", "5 5 4 2 0 7"},
                 {"qwen2", "5 5 4 2 0 7"},
                 {"llama-bpe", "6 4 2 0 7"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gguf_items f;
        struct siren_tokenizer *t;
        struct siren_error err = {0};
        put_tokenizer(&f, "gpt2", cases[i].pre, tokens, merges);
        if (gguf_items_load(&f, &t, &err)) fail_msg("%s: %s", cases[i].pre, err.message);
        assert_ids(t, "11 ab<s><t>", SIREN_ENCODE_ADD_SPECIAL, cases[i].expected);
        assert_true(siren_tokenizer_is_special(t, 0));
        assert_false(siren_tokenizer_is_special(t, 7));
        assert_string_equal(siren_tokenizer_kind(t), "byte-level BPE");
        assert_int_equal(t->bos, -1);
        siren_tokenizer_free(t);
    }
}

static void marks_at_the_ends(void **state)
{
    struct gguf_items f;
    struct siren_tokenizer *t;
    struct siren_error err = {0};
    put_tokenizer(&f, "gpt2", "llama-bpe", tokens, merges);
    put_number(&f, "tokenizer.ggml.bos_token_id", 0);
    put_number(&f, "tokenizer.ggml.eos_token_id", 7);
    assert_int_equal(gguf_items_load(&f, &t, &err), 0);
    assert_ids(t, "a", SIREN_ENCODE_ADD_SPECIAL, "0 1"); /* this family adds it by default */
    assert_ids(t, "a", SIREN_ENCODE_PLAIN, "1");
    assert_int_equal(siren_tokenizer_eos(t), 7);
    assert_false(siren_tokenizer_closes(t));
    siren_tokenizer_free(t);

    put_tokenizer(&f, "gpt2", "llama-bpe", tokens, merges);
    put_number(&f, "tokenizer.ggml.bos_token_id", 0);
    put_number(&f, "tokenizer.ggml.eos_token_id", 9); /* not there */
    put_flag(&f, "tokenizer.ggml.add_bos_token", 0);
    assert_int_equal(gguf_items_load(&f, &t, &err), 0);
    assert_ids(t, "a", SIREN_ENCODE_ADD_SPECIAL, "1");
    assert_int_equal(siren_tokenizer_eos(t), -1);
    siren_tokenizer_free(t);
}

static void refused(const char *model, const char *pre, const char *const *vocabulary,
                    const char *const *ranks, int expected, const char *named)
{
    struct gguf_items f;
    struct siren_tokenizer *t;
    struct siren_error err = {0};
    put_tokenizer(&f, model, pre, vocabulary, ranks);
    int code = gguf_items_load(&f, &t, &err);
    assert_null(t);
    assert_error(code, &err, expected, "m.gguf", named, NULL);
}

static void what_is_refused(void **state)
{
    static const char *const broken[] = {"a", "\xFF", NULL};
    static const char *const unknown[] = {"a x", NULL};
    static const char *const single[] = {"a", NULL};
    refused(NULL, "gpt-2", tokens, merges, SIREN_EFORMAT, "tokenizer.ggml.model");
    refused("rwkv", "default", tokens, merges, SIREN_EUNSUPPORTED, "\"rwkv\"");
    refused("llama", "default", tokens, merges, SIREN_EFORMAT, "tokenizer.ggml.scores");
    refused("gpt2", NULL, tokens, merges, SIREN_EUNSUPPORTED, "tokenizer.ggml.pre");
    refused("gpt2", "falcon", tokens, merges, SIREN_EUNSUPPORTED, "\"falcon\"");
    refused("gpt2", "gpt-2", NULL, merges, SIREN_EFORMAT, "tokenizer.ggml.tokens");
    refused("gpt2", "gpt-2", tokens, NULL, SIREN_EFORMAT, "tokenizer.ggml.merges");
    refused("gpt2", "gpt-2", broken, merges, SIREN_EFORMAT, "tokens[1]");
    refused("gpt2", "gpt-2", tokens, unknown, SIREN_EFORMAT, "merges[0]");
    refused("gpt2", "gpt-2", tokens, single, SIREN_EFORMAT, "merges[0]");
}

static void refused_kind(struct gguf_items *f, int expected, const char *named)
{
    struct siren_tokenizer *t;
    struct siren_error err = {0};
    int code = gguf_items_load(f, &t, &err);
    assert_null(t);
    assert_error(code, &err, expected, "m.gguf", named, NULL);
}

/* A model of n tokens with scores 0, -1, -2 … */
static void put_scored(struct gguf_items *f, const char *model, const char *const *texts, int n)
{
    *f = (struct gguf_items){0};
    put_text(f, "tokenizer.ggml.model", model);
    put_texts(f, "tokenizer.ggml.tokens", texts);
    put_key(f, "tokenizer.ggml.scores", GGUF_LIST);
    put_u32(&f->items, GGUF_F32);
    put_u64(&f->items, (uint64_t)n);
    for (int i = 0; i < n; i++) buf_append(&f->items, &(float){(float)-i}, sizeof(float));
}

static void put_untyped(struct gguf_items *f)
{
    *f = (struct gguf_items){0};
    put_text(f, "tokenizer.ggml.model", "gpt2");
    put_text(f, "tokenizer.ggml.pre", "gpt-2");
    put_texts(f, "tokenizer.ggml.tokens", tokens);
    put_texts(f, "tokenizer.ggml.merges", merges);
}

/* A list that may be left out is not left out by being wrong. */
static void optional_lists(void **state)
{
    struct gguf_items f;
    struct siren_tokenizer *t;
    put_untyped(&f);
    assert_int_equal(gguf_items_load(&f, &t, NULL), 0);
    assert_false(siren_tokenizer_is_special(t, 0));
    siren_tokenizer_free(t);
    put_untyped(&f);
    put_types(&f, GGUF_F32, 8);
    refused_kind(&f, SIREN_EFORMAT, "token_type: expected a list of integers");
    put_untyped(&f);
    put_number(&f, "tokenizer.ggml.token_type", 3);
    refused_kind(&f, SIREN_EFORMAT, "token_type: expected a list of integers");
    for (size_t n = 7; n <= 9; n += 2) {
        put_untyped(&f);
        put_types(&f, GGUF_I32, n);
        refused_kind(&f, SIREN_EFORMAT, "expected one for each of 8 tokens");
    }
    static const char *const models[] = {"t5", "llama"};
    static const char *const named[] = {"precompiled_charsmap: expected a list of bytes",
                                        "precompiled_charsmap is not supported"};
    for (int i = 0; i < 2; i++) {
        put_scored(&f, models[i], tokens, 8);
        put_text(&f, "tokenizer.ggml.precompiled_charsmap", "text");
        refused_kind(&f, i ? SIREN_EUNSUPPORTED : SIREN_EFORMAT, named[i]);
    }
}

static void wordpiece_and_unigram(void **state)
{
    static const char *const pieces[] = {"[UNK]",
                                         "[CLS]",
                                         "[SEP]",
                                         "\xE2\x96\x81"
                                         "Ab",
                                         "c",
                                         NULL};
    static const char *const controls[] = {"<unk>",
                                           "<s>",
                                           "</s>",
                                           "\xE2\x96\x81"
                                           "a",
                                           "b",
                                           NULL};
    static const float infinite[] = {0, 0, 0, INFINITY, 0};
    struct gguf_items f = {0};
    struct siren_tokenizer *t;
    struct siren_error err = {0};
    put_text(&f, "tokenizer.ggml.model", "bert");
    put_texts(&f, "tokenizer.ggml.tokens", pieces + 1);
    refused_kind(&f, SIREN_EFORMAT, "separator"); /* "[UNK]" is not there, nor an id for it */
    f = (struct gguf_items){0};
    put_text(&f, "tokenizer.ggml.model", "bert");
    put_texts(&f, "tokenizer.ggml.tokens", pieces);
    assert_int_equal(gguf_items_load(&f, &t, &err), 0); /* BERT's own names, no ids */
    assert_ids(t, "Abc ab", SIREN_ENCODE_ADD_SPECIAL, "1 3 4 0 2");
    siren_tokenizer_free(t);
    f = (struct gguf_items){0};
    put_text(&f, "tokenizer.ggml.model", "bert");
    put_texts(&f, "tokenizer.ggml.tokens", controls);
    put_key(&f, "tokenizer.ggml.token_type", GGUF_LIST);
    put_u32(&f.items, GGUF_I32);
    put_u64(&f.items, 5);
    for (int i = 0; i < 5; i++) put_u32(&f.items, i == 0 ? 2 : i < 3 ? 3 : 1);
    put_number(&f, "tokenizer.ggml.unknown_token_id", 0);
    put_number(&f, "tokenizer.ggml.cls_token_id", 1);
    put_number(&f, "tokenizer.ggml.seperator_token_id", 2);
    assert_int_equal(gguf_items_load(&f, &t, &err), 0); /* control tokens without brackets */
    assert_ids(t, "ab</s>", SIREN_ENCODE_ADD_SPECIAL, "1 3 4 2 2");
    assert_int_equal(siren_tokenizer_id(t, "<unk>"), 0);
    siren_tokenizer_free(t);
    f = (struct gguf_items){0};
    put_text(&f, "tokenizer.ggml.model", "bert");
    put_texts(&f, "tokenizer.ggml.tokens", pieces);
    put_number(&f, "tokenizer.ggml.unknown_token_id", 0);
    put_number(&f, "tokenizer.ggml.bos_token_id", 1); /* older converters' names */
    put_number(&f, "tokenizer.ggml.eos_token_id", 2);
    assert_int_equal(gguf_items_load(&f, &t, &err), 0);
    assert_ids(t, "Abc ab", SIREN_ENCODE_ADD_SPECIAL, "1 3 4 0 2"); /* a cased vocabulary */
    siren_tokenizer_free(t);
    f = (struct gguf_items){0};
    put_text(&f, "tokenizer.ggml.model", "t5");
    put_texts(&f, "tokenizer.ggml.tokens", pieces);
    refused_kind(&f, SIREN_EFORMAT, "tokenizer.ggml.scores");
    f = (struct gguf_items){0};
    put_text(&f, "tokenizer.ggml.model", "t5");
    put_texts(&f, "tokenizer.ggml.tokens", pieces);
    put_key(&f, "tokenizer.ggml.scores", GGUF_LIST);
    put_u32(&f.items, GGUF_F32);
    put_u64(&f.items, 5);
    buf_append(&f.items, infinite, sizeof infinite);
    refused_kind(&f, SIREN_EFORMAT, "scores[3]");
}

static void sentencepiece(void **state)
{
    static const char *const texts[] = {"<unk>", "\xE2\x96\x81", "a",   "b", "bc",
                                        "c",     "ab",           "abc", NULL};
    struct gguf_items f;
    struct siren_tokenizer *t;
    struct siren_error err = {0};
    put_scored(&f, "llama", texts, 8);
    assert_int_equal(gguf_items_load(&f, &t, &err), 0);
    assert_ids(t, "abc ab", SIREN_ENCODE_PLAIN, "1 7 1 6"); /* b c, then a bc */
    assert_ids(t, "ax", SIREN_ENCODE_ADD_SPECIAL, "1 2 0");
    siren_tokenizer_free(t);
    put_scored(&f, "llama", texts, 8);
    put_flag(&f, "tokenizer.ggml.add_space_prefix", 0);
    put_number(&f, "tokenizer.ggml.eos_token_id", 5);
    put_flag(&f, "tokenizer.ggml.add_eos_token", 1);
    assert_int_equal(gguf_items_load(&f, &t, &err), 0);
    assert_ids(t, "abc", SIREN_ENCODE_ADD_SPECIAL, "7 5");
    siren_tokenizer_free(t);
    put_scored(&f, "llama", texts, 8);
    put_flag(&f, "tokenizer.ggml.remove_extra_whitespaces", 1);
    refused_kind(&f, SIREN_EUNSUPPORTED, "remove_extra_whitespaces");
    put_scored(&f, "llama", texts, 8);
    put_key(&f, "tokenizer.ggml.precompiled_charsmap", GGUF_LIST);
    put_u32(&f.items, GGUF_U8);
    put_u64(&f.items, 1);
    buf_putc(&f.items, 0);
    refused_kind(&f, SIREN_EUNSUPPORTED, "precompiled_charsmap");
    char *huge = calloc(1, 2000);
    memset(huge, 'a', 1999);
    const char *const hostile[] = {"a", huge, NULL};
    put_scored(&f, "llama", hostile, 2);
    refused_kind(&f, SIREN_EFORMAT, "token 1 has 1999 bytes");
    free(huge);
}

/* The same ids from the tokenizer.json that an export has. */
static void exported(void **state)
{
    gguf_items_export = 1;
    families(state);
    marks_at_the_ends(state);
    sentencepiece(state);
    gguf_items_export = 0;
}

static void what_cannot_be_exported(void **state)
{
    static const char *const pieces[] = {"[UNK]", "[CLS]", "[SEP]", "a", NULL};
    struct gguf_items f = {0};
    gguf_items_export = 1;
    put_text(&f, "tokenizer.ggml.model", "bert");
    put_texts(&f, "tokenizer.ggml.tokens", pieces);
    refused_kind(&f, SIREN_EUNSUPPORTED, "\"bert\"");
    f = (struct gguf_items){0};
    put_text(&f, "tokenizer.ggml.model", "gpt2");
    put_text(&f, "tokenizer.ggml.pre", "gpt-2");
    put_texts(&f, "tokenizer.ggml.merges", (const char *const[]){NULL});
    put_key(&f, "tokenizer.ggml.tokens", GGUF_LIST);
    put_u32(&f.items, GGUF_TEXT);
    put_u64(&f.items, 1);
    put_u64(&f.items, 3);
    buf_append(&f.items, "a\0b", 3);
    refused_kind(&f, SIREN_EUNSUPPORTED, "token 0 holds a NUL");
    gguf_items_export = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families),
        cmocka_unit_test(marks_at_the_ends),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(optional_lists),
        cmocka_unit_test(wordpiece_and_unigram),
        cmocka_unit_test(sentencepiece),
        cmocka_unit_test(exported),
        cmocka_unit_test(what_cannot_be_exported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
