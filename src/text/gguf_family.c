#include "text/gguf_family.h"

#include <string.h>

#include "text/tokenizer_private.h"

/* What stands for a space in SentencePiece's tokens. */
#define WORD_MARK "\xE2\x96\x81"

int gguf_is_text(const struct gguf_value *v, const char *text)
{
    return v && v->kind == GGUF_STRING && v->length == strlen(text) &&
           !memcmp(v->text, text, v->length);
}

/* ---- byte-level BPE ---- */

static json_t *byte_level(int use_regex)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", 1, "use_regex", use_regex);
}

/* `first`, then the bytes. */
static json_t *after(json_t *first, int use_regex)
{
    return json_pack("{s:s, s:[o, o]}", "type", "Sequence", "pretokenizers", first,
                     byte_level(use_regex));
}

static json_t *split(const char *expression)
{
    return json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", expression,
                     "behavior", "Isolated", "invert", 0);
}

static json_t *byte_level_steps(json_t *normalizer, json_t *pre)
{
    return json_pack("{s:o?, s:o, s:o}", "normalizer", normalizer, "pre_tokenizer", pre, "decoder",
                     byte_level(1));
}

static int named_family(struct gguf_family *f, const struct gguf_value *pre,
                        struct siren_error *err)
{
    if (gguf_is_text(pre, "gpt-2")) {
        f->steps = byte_level_steps(NULL, byte_level(1));
    } else if (gguf_is_text(pre, "smollm")) {
        json_t *digits = json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1);
        f->steps = byte_level_steps(NULL, after(digits, 1));
    } else if (gguf_is_text(pre, "qwen2")) {
        f->steps =
            byte_level_steps(json_pack("{s:s}", "type", "NFC"), after(split(REGEX_QWEN2), 0));
    } else if (gguf_is_text(pre, "llama-bpe") || gguf_is_text(pre, "llama3")) {
        f->steps = byte_level_steps(NULL, after(split(REGEX_LLAMA3), 0));
        f->ignore_merges = f->add_bos = 1;
    } else if (!pre || pre->kind != GGUF_STRING) {
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "tokenizer.ggml.pre is missing: how to split text is unknown");
    } else {
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "tokenizer.ggml.pre \"%.*s\" is not supported (gpt-2, smollm, qwen2, "
                          "llama-bpe are)",
                          (int)(pre->length < 100 ? pre->length : 100), pre->text);
    }
    return f->steps ? 0 : siren_fail_memory(err, "a tokenizer's steps", 0);
}

/* ---- SentencePiece's BPE ---- */

static json_t *replace_step(const char *what, const char *by)
{
    return json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", what, "content",
                     by);
}

/* A text's spaces become marks, and one stands before it (and behind each special token). */
static json_t *marks(int prepend)
{
    json_t *spaces = replace_step(" ", WORD_MARK);
    if (!prepend) return spaces;
    return json_pack("{s:s, s:[{s:s, s:s}, o]}", "type", "Sequence", "normalizers", "type",
                     "Prepend", "prepend", WORD_MARK, spaces);
}

static json_t *mark_decoder(int prepended)
{
    json_t *all = json_pack("[o, {s:s}, {s:s}]", replace_step(WORD_MARK, " "), "type",
                            "ByteFallback", "type", "Fuse");
    if (prepended)
        json_array_append_new(all, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content",
                                             " ", "start", 1, "stop", 0));
    return json_pack("{s:s, s:o}", "type", "Sequence", "decoders", all);
}

static int sentencepiece_family(struct gguf_family *f, const struct tensors *ts,
                                struct siren_error *err)
{
    const struct gguf_value *v = gguf_find(ts, "tokenizer.ggml.add_space_prefix");
    int prepend = !v || v->kind != GGUF_BOOL || v->u;
    f->add_bos = 1;
    f->steps = json_pack("{s:o, s:n, s:o}", "normalizer", marks(prepend), "pre_tokenizer",
                         "decoder", mark_decoder(prepend));
    return f->steps ? 0 : siren_fail_memory(err, "a tokenizer's steps", 0);
}

int gguf_family(struct gguf_family *out, const struct tensors *ts, struct siren_error *err)
{
    const struct gguf_value *model = gguf_find(ts, "tokenizer.ggml.model");
    *out = (struct gguf_family){0};
    if (gguf_is_text(model, "gpt2"))
        return named_family(out, gguf_find(ts, "tokenizer.ggml.pre"), err);
    if (gguf_is_text(model, "llama")) return sentencepiece_family(out, ts, err);
    return siren_fail(err, SIREN_EUNSUPPORTED,
                      "tokenizer.ggml.model \"%.*s\": its steps are not known to tokenizer.json "
                      "(those of gpt2 and llama are)",
                      (int)(model && model->length < 100 ? model->length : 0),
                      model && model->kind == GGUF_STRING ? model->text : "");
}
