/* The tokenizer in a GGUF file's metadata.
 *
 * GGUF names the pre-tokenizer ("tokenizer.ggml.pre") and leaves out the rest;
 * what the families' own tokenizer.json files say is written down here. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/tensors.h"
#include "text/tokenizer_private.h"
#include "text/utf8.h"

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };

static int is_text(const struct gguf_value *v, const char *text)
{
    return v && v->kind == GGUF_STRING && v->length == strlen(text) &&
           !memcmp(v->text, text, v->length);
}

static const struct gguf_value *find_array(const struct tensors *ts, const char *key,
                                           enum gguf_kind kind)
{
    const struct gguf_value *v = gguf_find(ts, key);
    if (!v || v->kind != GGUF_ARRAY || v->n_items > VOCAB_MAX_ID) return NULL;
    int numbers = kind != GGUF_STRING && (v->item_kind == GGUF_INT || v->item_kind == GGUF_UINT);
    return v->item_kind == kind || numbers ? v : NULL;
}

static int64_t integer(const struct gguf_value *v, int64_t otherwise)
{
    if (!v) return otherwise;
    if (v->kind == GGUF_INT) return v->i;
    if (v->kind == GGUF_UINT) return v->u > INT64_MAX ? INT64_MAX : (int64_t)v->u;
    return otherwise;
}

static int boolean(const struct tensors *ts, const char *key, int otherwise)
{
    const struct gguf_value *v = gguf_find(ts, key);
    return v && v->kind == GGUF_BOOL ? v->u != 0 : otherwise;
}

static int read_tokens(struct siren_tokenizer *t, const struct tensors *ts, struct siren_error *err)
{
    const struct gguf_value *tokens = find_array(ts, "tokenizer.ggml.tokens", GGUF_STRING);
    if (!tokens || !tokens->n_items)
        return siren_fail(err, SIREN_EFORMAT, "tokenizer.ggml.tokens: expected a list of strings");
    for (uint64_t i = 0; i < tokens->n_items; i++) {
        struct gguf_value item;
        if (gguf_item(tokens, i, &item) || utf8_valid_prefix(item.text, item.length) < item.length)
            return siren_fail(err, SIREN_EFORMAT, "tokenizer.ggml.tokens[%llu]: expected UTF-8",
                              (unsigned long long)i);
        if (vocab_add(&t->bpe.vocab, item.text, item.length, (int32_t)i))
            return siren_fail_memory(err, "the vocabulary", tokens->n_items);
    }
    return 0;
}

static int read_merges(struct siren_tokenizer *t, const struct tensors *ts, struct siren_error *err)
{
    const struct gguf_value *merges = find_array(ts, "tokenizer.ggml.merges", GGUF_STRING);
    if (!merges)
        return siren_fail(err, SIREN_EFORMAT, "tokenizer.ggml.merges: expected a list of strings");
    if (bpe_reserve(&t->bpe, merges->n_items))
        return siren_fail_memory(err, "merges", merges->n_items);
    for (uint64_t i = 0; i < merges->n_items; i++) {
        struct gguf_value item;
        const char *space = NULL;
        /* the first character may itself be a space's stand-in, never a space */
        if (!gguf_item(merges, i, &item) && item.length > 1)
            space = memchr(item.text + 1, ' ', item.length - 1);
        size_t left = space ? (size_t)(space - item.text) : 0;
        int code = space
                       ? bpe_add_merge(&t->bpe, item.text, left, space + 1, item.length - left - 1)
                       : SIREN_ENOTFOUND;
        if (code == SIREN_ENOMEM) return siren_fail_memory(err, "merges", merges->n_items);
        if (code)
            return siren_fail(err, SIREN_EFORMAT,
                              "tokenizer.ggml.merges[%llu]: expected two tokens of the vocabulary "
                              "whose whole is one, too",
                              (unsigned long long)i);
    }
    return 0;
}

/* Control tokens are special; user-defined ones are added without being special. */
static int read_types(struct siren_tokenizer *t, const struct tensors *ts, struct siren_error *err)
{
    const struct gguf_value *types = find_array(ts, "tokenizer.ggml.token_type", GGUF_INT);
    for (uint64_t i = 0; types && i < types->n_items; i++) {
        struct gguf_value item;
        struct added_token token = {.id = (int32_t)i};
        int64_t type = gguf_item(types, i, &item) ? 0 : integer(&item, 0);
        if (type != TYPE_CONTROL && type != TYPE_USER) continue;
        token.text = (char *)vocab_text(&t->bpe.vocab, token.id, &token.length);
        token.special = type == TYPE_CONTROL;
        if (token.text && token.length && added_add(&t->added, &token))
            return siren_fail_memory(err, "added tokens", types->n_items);
    }
    return 0;
}

static int add_nfc(struct siren_tokenizer *t, struct siren_error *err)
{
    struct normalizer *n = tokenizer_add_normalizer(t);
    if (!n) return siren_fail_memory(err, "a normalizer", sizeof *n);
    n->kind = NORMALIZE_FORM;
    n->form = UNICODE_NFC;
    return 0;
}

/* One expression, then the byte alphabet. */
static int add_expression(struct siren_tokenizer *t, const char *pattern, struct siren_error *err)
{
    int code = tokenizer_add_split(t, pattern, strlen(pattern), SPLIT_ISOLATED, 0, err);
    return code ? code : tokenizer_add_byte_level(t, 0, 0, err);
}

static int read_pre(struct siren_tokenizer *t, const struct tensors *ts, int *add_bos,
                    struct siren_error *err)
{
    const struct gguf_value *pre = gguf_find(ts, "tokenizer.ggml.pre");
    int code;
    *add_bos = 0;
    if (is_text(pre, "gpt-2")) return tokenizer_add_byte_level(t, 0, 1, err);
    if (is_text(pre, "smollm")) {
        code = tokenizer_add_digits(t, 1, err);
        return code ? code : tokenizer_add_byte_level(t, 0, 1, err);
    }
    if (is_text(pre, "qwen2")) {
        code = add_nfc(t, err);
        return code ? code : add_expression(t, REGEX_QWEN2, err);
    }
    if (is_text(pre, "llama-bpe") || is_text(pre, "llama3")) {
        t->bpe.ignore_merges = 1;
        *add_bos = 1;
        return add_expression(t, REGEX_LLAMA3, err);
    }
    if (!pre || pre->kind != GGUF_STRING)
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "tokenizer.ggml.pre is missing: how to split text is unknown");
    return siren_fail(err, SIREN_EUNSUPPORTED,
                      "tokenizer.ggml.pre \"%.*s\" is not supported (gpt-2, smollm, qwen2, "
                      "llama-bpe are)",
                      (int)(pre->length < 100 ? pre->length : 100), pre->text);
}

static int32_t token_of(const struct siren_tokenizer *t, const struct tensors *ts, const char *key)
{
    int64_t id = integer(gguf_find(ts, key), -1);
    return id >= 0 && id < (int64_t)t->bpe.vocab.n_ids ? (int32_t)id : -1;
}

static int read_all(struct siren_tokenizer *t, const struct tensors *ts, struct siren_error *err)
{
    const struct gguf_value *model = gguf_find(ts, "tokenizer.ggml.model");
    int add_bos = 0;
    if (!model || model->kind != GGUF_STRING)
        return siren_fail(err, SIREN_EFORMAT, "no tokenizer.ggml.model: the file has no tokenizer");
    if (!is_text(model, "gpt2"))
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "tokenizer.ggml.model \"%.*s\" is not supported (gpt2, byte-level BPE, "
                          "is); use the model's folder with tokenizer.json",
                          (int)(model->length < 100 ? model->length : 100), model->text);
    int code = read_tokens(t, ts, err);
    if (!code) code = read_merges(t, ts, err);
    if (!code) code = read_types(t, ts, err);
    if (!code) code = read_pre(t, ts, &add_bos, err);
    if (code) return code;
    t->bos = token_of(t, ts, "tokenizer.ggml.bos_token_id");
    t->eos = token_of(t, ts, "tokenizer.ggml.eos_token_id");
    if (boolean(ts, "tokenizer.ggml.add_bos_token", add_bos) && t->bos >= 0)
        ids_add(&t->before, t->bos);
    if (boolean(ts, "tokenizer.ggml.add_eos_token", 0) && t->eos >= 0) ids_add(&t->after, t->eos);
    struct decoder *d = tokenizer_add_decoder(t);
    if (!d || t->before.failed || t->after.failed)
        return siren_fail_memory(err, "a decoder", sizeof *d);
    d->kind = DECODE_BYTES;
    return tokenizer_finish(t, err);
}

int tokenizer_from_gguf(struct siren_tokenizer **out, const char *path, struct siren_error *err)
{
    struct tensors *ts;
    *out = NULL;
    int code = tensors_open(&ts, path, err);
    if (code) return code;
    struct siren_tokenizer *t = tokenizer_new();
    code = t ? read_all(t, ts, err) : siren_fail_memory(err, "a tokenizer", sizeof *t);
    tensors_close(ts);
    if (code) {
        siren_tokenizer_free(t);
        return siren_fail_prefix(err, code, "%s", path);
    }
    *out = t;
    return 0;
}
