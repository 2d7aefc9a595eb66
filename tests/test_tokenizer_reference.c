/* The tokenizers against Hugging Face's: every string of the fixture that
 * tests/reference/tokenizer.py writes, through the real tokenizers (where SIREN_DATA and
 * SIREN_MODELS are set) and through tiny ones of every kind.
 *
 * A mismatch names the tokenizer and the string; `tokenizer.py --show NAME NUMBER` prints what the
 * reference makes of it. */
#include <jansson.h>

#include "gguf_items.h"
#include "real_models.h"
#include "siren/file.h"
#include "text/tokenizer_private.h"

#define FIXTURE "tests/fixtures/text/tokenizers.json.gz"
#define MOST_SHOWN 5

static json_t *fixture;

static int load_fixture(void **state)
{
    struct siren_error err = {0};
    json_error_t where;
    char *text;
    size_t size;
    if (siren_file_read(&text, &size, FIXTURE, (size_t)64 << 20, &err)) {
        print_error("%s\n", err.message);
        return -1;
    }
    fixture = json_loadb(text, size, 0, &where);
    free(text);
    return fixture ? 0 : -1;
}

static int free_fixture(void **state)
{
    json_decref(fixture);
    return 0;
}

static uint64_t fnv(uint64_t h, const void *data, size_t size)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < size; i++) h = (h ^ p[i]) * 0x100000001B3u;
    return h;
}

#define FNV_START 0xCBF29CE484222325u

static uint32_t fold(uint64_t h)
{
    return (uint32_t)(h ^ h >> 32);
}

static int hex_digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static void read_hex(struct buf *out, const char *hex)
{
    buf_clear(out);
    for (; *hex; hex += 2) buf_putc(out, hex_digit(hex[0]) << 4 | hex_digit(hex[1]));
}

static struct buf read_base64(const char *base64)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct buf bytes = {0};
    uint32_t bits = 0;
    int n_bits = 0;
    for (; *base64 && *base64 != '='; base64++) {
        bits = bits << 6 | (uint32_t)(strchr(digits, *base64) - digits);
        n_bits += 6;
        if (n_bits < 8) continue;
        n_bits -= 8;
        buf_putc(&bytes, (int)(bits >> n_bits & 0xFF));
    }
    return bytes;
}

/* 32-bit numbers, little-endian, in base64. */
static uint32_t *read_hashes(const char *base64, size_t *n)
{
    struct buf bytes = read_base64(base64);
    *n = bytes.size / 4;
    return (uint32_t *)buf_take(&bytes);
}

static uint64_t hash_ids(uint64_t h, const struct siren_tokenizer *t, const struct buf *s,
                         unsigned flags, int32_t **ids, size_t *n)
{
    struct siren_error err = {0};
    int32_t end = -1;
    if (siren_tokenizer_encode(t, buf_text(s), s->size, flags, ids, n, &err))
        fail_msg("%s", err.message);
    return fnv(fnv(h, *ids, *n * sizeof **ids), &end, sizeof end);
}

static uint64_t hash_text(uint64_t h, const struct siren_tokenizer *t, const int32_t *ids, size_t n,
                          int skip_special)
{
    struct siren_error err = {0};
    char *text;
    size_t length;
    if (siren_tokenizer_decode(t, ids, n, skip_special, &text, &length, &err))
        fail_msg("%s", err.message);
    h = fnv(h, text, length);
    free(text);
    return h;
}

/* 1 if the string becomes what it should. */
static int check_string(const struct siren_tokenizer *t, const struct buf *s,
                        const uint32_t expected[2])
{
    int32_t *plain, *special, *untrusted;
    size_t n_plain, n_special, n_untrusted;
    uint64_t h = hash_ids(FNV_START, t, s, SIREN_ENCODE_PLAIN, &plain, &n_plain);
    h = hash_ids(h, t, s, SIREN_ENCODE_ADD_SPECIAL, &special, &n_special);
    h = hash_ids(h, t, s, SIREN_ENCODE_NO_SPECIAL, &untrusted, &n_untrusted);
    uint64_t text = hash_text(FNV_START, t, special, n_special, 0);
    text = hash_text(fnv(text, "\xFF", 1), t, special, n_special, 1);
    int same_ids = fold(h) == expected[0], same_text = fold(text) == expected[1];
    if (!same_ids) {
        print_error("  ids:");
        for (size_t i = 0; i < n_special; i++) print_error(" %d", (int)special[i]);
        print_error("\n");
    }
    if (!same_text) print_error("  the decoded text differs\n");
    free(plain);
    free(special);
    free(untrusted);
    return same_ids && same_text;
}

static void check_strings(const struct siren_tokenizer *t, const json_t *entry)
{
    const char *name = json_string_value(json_object_get(entry, "name"));
    const json_t *strings = json_object_get(fixture, "strings");
    size_t first = (size_t)json_integer_value(json_object_get(entry, "first"));
    size_t step = (size_t)json_integer_value(json_object_get(entry, "step")), n_hashes, wrong = 0;
    uint32_t *hashes = read_hashes(json_string_value(json_object_get(entry, "hashes")), &n_hashes);
    struct buf s = {0};
    assert_int_equal(n_hashes, 2 * ((json_array_size(strings) - first + step - 1) / step));
    for (size_t i = first, k = 0; i < json_array_size(strings); i += step, k++) {
        const char *hex = json_string_value(json_array_get(strings, i));
        read_hex(&s, hex);
        if (check_string(t, &s, hashes + 2 * k)) continue;
        if (wrong++ < MOST_SHOWN) print_error("%s: string %zu (%s) differs\n", name, i, hex);
    }
    buf_free(&s);
    free(hashes);
    if (wrong) fail_msg("%s: %zu strings differ", name, wrong);
}

static void check_pieces(const struct siren_tokenizer *t, const json_t *entry)
{
    const char *text = json_string_value(json_object_get(entry, "pieces"));
    size_t n;
    uint32_t *hashes = read_hashes(text, &n);
    int32_t size = siren_tokenizer_size(t);
    assert_int_equal(n, (size + 999) / 1000);
    for (size_t k = 0; k < n; k++) {
        uint64_t h = FNV_START;
        for (int32_t id = (int32_t)k * 1000; id < size && id < (int32_t)(k + 1) * 1000; id++) {
            size_t length;
            const char *piece = siren_tokenizer_piece(t, id, &length);
            h = fnv(fnv(h, piece, length), "\xFF", 1);
        }
        if (fold(h) != hashes[k]) fail_msg("the pieces of ids %zu000 … differ", k);
    }
    assert_null(siren_tokenizer_piece(t, size, NULL));
    assert_null(siren_tokenizer_piece(t, -1, NULL));
    free(hashes);
}

static const json_t *find_entry(const char *name)
{
    size_t i;
    const json_t *entry;
    json_array_foreach(json_object_get(fixture, "tokenizers"), i, entry)
    {
        if (!strcmp(json_string_value(json_object_get(entry, "name")), name)) return entry;
    }
    fail_msg("the fixture has no tokenizer %s", name);
    return NULL;
}

static void check_real(const char *name)
{
    const json_t *entry = find_entry(name);
    const char *variable = json_string_value(json_object_get(entry, "variable"));
    const char *folder = getenv(variable);
    struct siren_tokenizer *t;
    struct siren_error err = {0};
    char path[4096];
    if (!folder) {
        print_message("skipped: %s is not set\n", variable);
        skip();
    }
    snprintf(path, sizeof path, "%s/%s", folder, json_string_value(json_object_get(entry, "path")));
    if (siren_tokenizer_load(&t, path, &err)) fail_msg("%s", err.message);
    check_strings(t, entry);
    check_pieces(t, entry);
    siren_tokenizer_free(t);
}

static void smollm2(void **state)
{
    check_real("smollm2");
}

static void qwen3(void **state)
{
    check_real("qwen3");
}

static void minilm(void **state)
{
    check_real("minilm");
}

static void check_tiny(const json_t *entry)
{
    json_t *json = json_object_get(entry, "json");
    if (!json_object_get(json, "model"))
        json_object_set(json, "model", json_object_get(fixture, "part_model"));
    char *text = json_dumps(json, JSON_COMPACT);
    struct siren_tokenizer *t;
    struct siren_error err = {0};
    assert_non_null(text);
    if (tokenizer_from_json(&t, text, strlen(text),
                            json_string_value(json_object_get(entry, "name")), &err))
        fail_msg("%s", err.message);
    check_strings(t, entry);
    siren_tokenizer_free(t);
    free(text);
}

/* ---- the same tokenizers out of GGUF files, written as llama.cpp's converter does ---- */

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, UNUSED = 5, BYTE = 6 };

static void put_list(struct gguf_items *f, const char *key, uint32_t type, size_t n)
{
    put_key(f, key, GGUF_LIST);
    put_u32(&f->items, type);
    put_u64(&f->items, n);
}

/* Token texts and scores by id, from either kind of vocabulary and the added tokens. */
struct table {
    const char *text[40000];
    float score[40000];
    uint32_t type[40000];
    size_t n;
};

static void table_set(struct table *t, size_t id, const char *text, double score, uint32_t type)
{
    assert_true(id < sizeof t->text / sizeof *t->text);
    if (id >= t->n) t->n = id + 1;
    t->text[id] = text;
    t->score[id] = (float)score;
    t->type[id] = type;
}

static struct table *read_table(const json_t *json)
{
    struct table *t = calloc(1, sizeof *t);
    json_t *vocab = json_object_get(json_object_get(json, "model"), "vocab"), *item;
    const char *text;
    size_t i;
    json_object_foreach(vocab, text, item)
        table_set(t, (size_t)json_integer_value(item), text, 0, NORMAL);
    json_array_foreach(vocab, i, item)
        table_set(t, i, json_string_value(json_array_get(item, 0)),
                  json_number_value(json_array_get(item, 1)), NORMAL);
    json_array_foreach(json_object_get(json, "added_tokens"), i, item)
    {
        size_t id = (size_t)json_integer_value(json_object_get(item, "id"));
        /* one that only the added tokens have must not be found inside words */
        double score = id < t->n && t->text[id] ? (double)t->score[id] : -1e6;
        table_set(t, id, json_string_value(json_object_get(item, "content")), score,
                  json_is_true(json_object_get(item, "special")) ? CONTROL : 4);
    }
    return t;
}

static void put_wordpiece_text(struct buf *b, const char *text)
{
    size_t n = strlen(text);
    if (text[0] == '[' && text[n - 1] == ']') {
        put_string(b, text);
    } else if (!strncmp(text, "##", 2)) {
        put_string(b, text + 2);
    } else {
        put_u64(b, n + 3);
        buf_puts(b, "\xE2\x96\x81");
        buf_puts(b, text);
    }
}

static void put_table(struct gguf_items *f, const struct table *t, int wordpiece)
{
    put_list(f, "tokenizer.ggml.tokens", GGUF_TEXT, t->n);
    for (size_t i = 0; i < t->n; i++)
        wordpiece ? put_wordpiece_text(&f->items, t->text[i]) : put_string(&f->items, t->text[i]);
    put_list(f, "tokenizer.ggml.scores", GGUF_F32, t->n);
    buf_append(&f->items, t->score, t->n * sizeof *t->score);
    put_list(f, "tokenizer.ggml.token_type", GGUF_I32, t->n);
    buf_append(&f->items, t->type, t->n * sizeof *t->type);
}

static void put_id(struct gguf_items *f, const struct table *t, const char *key, const char *text)
{
    for (uint32_t i = 0; i < t->n; i++)
        if (!strcmp(t->text[i], text)) {
            put_number(f, key, i);
            return;
        }
    fail_msg("there is no token %s", text);
}

static struct siren_tokenizer *through_gguf(struct gguf_items *f)
{
    struct siren_tokenizer *t;
    struct siren_error err = {0};
    if (gguf_items_load(f, &t, &err)) fail_msg("%s", err.message);
    return t;
}

static void minilm_from_gguf(void **state)
{
    const json_t *entry = find_entry("minilm");
    const char *folder = real_models();
    char path[4096];
    struct gguf_items f = {0};
    json_error_t where;
    snprintf(path, sizeof path, "%s/all-minilm-l6-v2/tokenizer.json", folder);
    json_t *json = json_load_file(path, 0, &where);
    assert_non_null(json);
    struct table *table = read_table(json);
    put_text(&f, "tokenizer.ggml.model", "bert");
    put_text(&f, "tokenizer.ggml.pre", "jina-v2-en"); /* means nothing to WordPiece */
    put_table(&f, table, 1);
    put_id(&f, table, "tokenizer.ggml.unknown_token_id", "[UNK]");
    put_id(&f, table, "tokenizer.ggml.seperator_token_id", "[SEP]");
    put_id(&f, table, "tokenizer.ggml.cls_token_id", "[CLS]");
    put_id(&f, table, "tokenizer.ggml.mask_token_id", "[MASK]");
    struct siren_tokenizer *t = through_gguf(&f);
    check_strings(t, entry);
    check_pieces(t, entry);
    assert_string_equal(siren_tokenizer_kind(t), "WordPiece");
    siren_tokenizer_free(t);
    free(table);
    json_decref(json);
}

/* From tokenizer.json the converter takes another setting for "remove_extra_whitespaces"; from
 * SentencePiece's file it fills up the vocabulary, and says nothing of <s> and </s>. */
static void check_xlmr(int as_encoder)
{
    const json_t *entry = find_entry("xlmr"), *json = json_object_get(entry, "json");
    const json_t *normalizers = json_object_get(json_object_get(json, "normalizer"), "normalizers");
    struct buf map = read_base64(
        json_string_value(json_object_get(json_array_get(normalizers, 0), "precompiled_charsmap")));
    struct table *table = read_table(json);
    struct gguf_items f = {0};
    table->type[3] = UNKNOWN;
    if (as_encoder) {
        put_text(&f, "general.architecture", "bert");
        table_set(table, table->n, "[PAD1]", -10000, UNUSED);
        table_set(table, table->n, "th", -10000, UNUSED);
    }
    put_text(&f, "tokenizer.ggml.model", "t5");
    put_text(&f, "tokenizer.ggml.pre", "default");
    put_table(&f, table, 0);
    put_list(&f, "tokenizer.ggml.precompiled_charsmap", GGUF_U8, map.size);
    buf_append(&f.items, map.data, map.size);
    put_flag(&f, "tokenizer.ggml.add_space_prefix", 1);
    put_flag(&f, "tokenizer.ggml.remove_extra_whitespaces", !as_encoder);
    put_id(&f, table, "tokenizer.ggml.bos_token_id", "<s>");
    put_id(&f, table, "tokenizer.ggml.eos_token_id", "</s>");
    put_id(&f, table, "tokenizer.ggml.unknown_token_id", "<unk>");
    put_id(&f, table, "tokenizer.ggml.mask_token_id", "<mask>");
    if (!as_encoder) {
        put_flag(&f, "tokenizer.ggml.add_bos_token", 1);
        put_flag(&f, "tokenizer.ggml.add_eos_token", 1);
    }
    struct siren_tokenizer *t = through_gguf(&f);
    check_strings(t, entry);
    assert_true(siren_tokenizer_is_special(t, 3));
    siren_tokenizer_free(t);
    buf_free(&map);
    free(table);
}

static void xlmr_from_gguf(void **state)
{
    check_xlmr(0);
}

static void xlmr_encoder_from_gguf(void **state)
{
    check_xlmr(1);
}

/* Its scores are all that the file has of merges. */
static void sentencepiece_bpe(void **state)
{
    json_error_t where;
    json_t *entry = json_load_file("tests/fixtures/text/sentencepiece_bpe.json", 0, &where), *item;
    struct table *table = calloc(1, sizeof *table);
    struct gguf_items f = {0};
    size_t i;
    assert_non_null(entry);
    assert_non_null(table);
    json_array_foreach(json_object_get(entry, "texts"), i, item)
    {
        const json_t *score = json_array_get(json_object_get(entry, "scores"), i);
        const json_t *type = json_array_get(json_object_get(entry, "types"), i);
        table_set(table, i, json_string_value(item), json_number_value(score),
                  (uint32_t)json_integer_value(type));
    }
    put_text(&f, "tokenizer.ggml.model", "llama");
    put_text(&f, "tokenizer.ggml.pre", "default");
    put_table(&f, table, 0);
    put_id(&f, table, "tokenizer.ggml.unknown_token_id", "<unk>");
    put_id(&f, table, "tokenizer.ggml.bos_token_id", "<s>");
    put_id(&f, table, "tokenizer.ggml.eos_token_id", "</s>");
    struct siren_tokenizer *t = through_gguf(&f);
    check_strings(t, entry);
    assert_string_equal(siren_tokenizer_kind(t), "BPE");
    size_t length;
    assert_memory_equal(siren_tokenizer_piece(t, siren_tokenizer_id(t, "<0x0A>"), &length), "\n",
                        1);
    assert_int_equal(length, 1);
    siren_tokenizer_free(t);
    free(table);
    json_decref(entry);
}

/* And tokenizer.json, written from them, has the same ids. */
static void sentencepiece_bpe_exported(void **state)
{
    gguf_items_export = 1;
    sentencepiece_bpe(state);
    gguf_items_export = 0;
}

static void smollm2_exported(void **state)
{
    const json_t *entry = find_entry("smollm2");
    const char *folder = real_models();
    struct siren_tokenizer *t;
    struct siren_error err = {0};
    char path[4096], out[64];
    snprintf(path, sizeof path, "%s/%s", folder, json_string_value(json_object_get(entry, "path")));
    folder_make(out);
    if (gguf_items_load_export(&t, out, path, &err)) fail_msg("%s", err.message);
    check_strings(t, entry);
    check_pieces(t, entry);
    siren_tokenizer_free(t);
    folder_remove(out);
}

static void tiny_ones(void **state)
{
    size_t i, n = 0;
    const json_t *entry;
    json_array_foreach(json_object_get(fixture, "tokenizers"), i, entry)
    {
        if (!json_object_get(entry, "json")) continue;
        check_tiny(entry);
        n++;
    }
    assert_true(n > 50);
}

static void enough_strings(void **state)
{
    assert_true(json_array_size(json_object_get(fixture, "strings")) >= 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(enough_strings),
        cmocka_unit_test(tiny_ones),
        cmocka_unit_test(smollm2),
        cmocka_unit_test(qwen3),
        cmocka_unit_test(minilm),
        cmocka_unit_test(minilm_from_gguf),
        cmocka_unit_test(xlmr_from_gguf),
        cmocka_unit_test(xlmr_encoder_from_gguf),
        cmocka_unit_test(sentencepiece_bpe),
        cmocka_unit_test(sentencepiece_bpe_exported),
        cmocka_unit_test(smollm2_exported),
    };
    return cmocka_run_group_tests(tests, load_fixture, free_fixture);
}
