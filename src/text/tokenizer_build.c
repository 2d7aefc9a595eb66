/* Building a tokenizer: what its loaders share. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "text/tokenizer_private.h"
#include "text/unicode.h"

struct siren_tokenizer *tokenizer_new(void)
{
    struct siren_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->vocab = &t->bpe.vocab;
    t->bos = t->eos = -1;
    t->bpe.unk = t->wordpiece.unk = t->unigram.unk = -1;
    return t;
}

void siren_tokenizer_free(struct siren_tokenizer *t)
{
    if (!t) return;
    for (size_t i = 0; i < t->n_normalizers; i++) normalizer_free(&t->normalizers[i]);
    for (size_t i = 0; i < t->n_pretokenizers; i++) pretokenizer_free(&t->pretokenizers[i]);
    for (size_t i = 0; i < t->n_decoders; i++) decoder_free(&t->decoders[i]);
    free(t->normalizers);
    free(t->pretokenizers);
    free(t->decoders);
    bpe_free(&t->bpe);
    wordpiece_free(&t->wordpiece);
    unigram_free(&t->unigram);
    added_free(&t->added);
    free(t->before.items);
    free(t->after.items);
    buf_free(&t->piece_bytes);
    free(t->piece_ends);
    free(t);
}

struct normalizer *tokenizer_add_normalizer(struct siren_tokenizer *t)
{
    if (alloc_grow(&t->normalizers, &t->normalizer_capacity, t->n_normalizers + 1,
                   sizeof *t->normalizers))
        return NULL;
    struct normalizer *n = &t->normalizers[t->n_normalizers++];
    memset(n, 0, sizeof *n);
    return n;
}

struct pretokenizer *tokenizer_add_pretokenizer(struct siren_tokenizer *t)
{
    if (alloc_grow(&t->pretokenizers, &t->pretokenizer_capacity, t->n_pretokenizers + 1,
                   sizeof *t->pretokenizers))
        return NULL;
    struct pretokenizer *p = &t->pretokenizers[t->n_pretokenizers++];
    memset(p, 0, sizeof *p);
    return p;
}

struct decoder *tokenizer_add_decoder(struct siren_tokenizer *t)
{
    if (alloc_grow(&t->decoders, &t->decoder_capacity, t->n_decoders + 1, sizeof *t->decoders))
        return NULL;
    struct decoder *d = &t->decoders[t->n_decoders++];
    t->has_decoder = 1;
    memset(d, 0, sizeof *d);
    return d;
}

int tokenizer_add_split(struct siren_tokenizer *t, const char *pattern, size_t length,
                        enum split_behavior behavior, int invert, struct siren_error *err)
{
    struct pretokenizer *p = tokenizer_add_pretokenizer(t);
    if (!p) return siren_fail_memory(err, "a pre-tokenizer", length);
    p->kind = PRETOKENIZE_REGEX;
    p->behavior = behavior;
    p->invert = invert;
    return regex_compile(&p->regex, pattern, length, err);
}

int tokenizer_add_digits(struct siren_tokenizer *t, int individual, struct siren_error *err)
{
    struct pretokenizer *p = tokenizer_add_pretokenizer(t);
    if (!p) return siren_fail_memory(err, "a pre-tokenizer", sizeof *p);
    p->kind = PRETOKENIZE_NUMERIC;
    p->behavior = individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
    return 0;
}

int tokenizer_add_class(struct siren_tokenizer *t, enum pretokenizer_kind kind,
                        enum split_behavior behavior, struct siren_error *err)
{
    struct pretokenizer *p = tokenizer_add_pretokenizer(t);
    if (!p) return siren_fail_memory(err, "a pre-tokenizer", sizeof *p);
    p->kind = kind;
    p->behavior = behavior;
    return 0;
}

int tokenizer_add_byte_level(struct siren_tokenizer *t, int add_prefix_space, int use_regex,
                             struct siren_error *err)
{
    if (add_prefix_space) {
        struct pretokenizer *p = tokenizer_add_pretokenizer(t);
        if (!p) return siren_fail_memory(err, "a pre-tokenizer", sizeof *p);
        p->kind = PRETOKENIZE_PREFIX;
    }
    if (use_regex) {
        int code = tokenizer_add_split(t, REGEX_BYTE_LEVEL, strlen(REGEX_BYTE_LEVEL),
                                       SPLIT_ISOLATED, 0, err);
        if (code) return code;
    }
    struct pretokenizer *p = tokenizer_add_pretokenizer(t);
    if (!p) return siren_fail_memory(err, "a pre-tokenizer", sizeof *p);
    p->kind = PRETOKENIZE_BYTES;
    t->byte_level = 1;
    return 0;
}

/* ---- pieces: what each token looks like inside a text ---- */

/* The text that stands for a space, or NULL. */
static const char *space_mark(const struct siren_tokenizer *t)
{
    for (size_t i = 0; i < t->n_decoders; i++) {
        const struct decoder *d = &t->decoders[i];
        if (d->kind == DECODE_METASPACE) return d->text;
        if (d->kind == DECODE_REPLACE && d->replace.pattern && d->replace.n_content == 1 &&
            *d->replace.content == ' ')
            return d->replace.pattern;
    }
    for (size_t i = 0; i < t->n_pretokenizers; i++)
        if (t->pretokenizers[i].kind == PRETOKENIZE_METASPACE) return t->pretokenizers[i].text;
    return NULL;
}

static void append_replaced(struct buf *out, const char *text, size_t length, const char *what)
{
    const char *hit;
    size_t n = what ? strlen(what) : 0;
    while (n && (hit = memmem(text, length, what, n))) {
        buf_append(out, text, (size_t)(hit - text));
        buf_putc(out, ' ');
        length -= (size_t)(hit - text) + n;
        text = hit + n;
    }
    buf_append(out, text, length);
}

static void append_byte_piece(struct buf *out, const char *text, size_t length)
{
    size_t before = out->size;
    for (size_t at = 0; at < length;) {
        int byte = unicode_to_byte(utf8_next(text, &at));
        if (byte < 0) {
            out->size = before;
            buf_append(out, text, length);
            return;
        }
        buf_putc(out, byte);
    }
}

static int32_t byte_token(const struct siren_tokenizer *t, int32_t id)
{
    const int32_t *bytes = t->model == TOKENIZER_BPE ? t->bpe.bytes : t->unigram.bytes;
    int fallback = t->model == TOKENIZER_BPE       ? t->bpe.byte_fallback
                   : t->model == TOKENIZER_UNIGRAM ? t->unigram.byte_fallback
                                                   : 0;
    size_t length;
    const char *text = vocab_text(t->vocab, id, &length);
    if (!fallback || length != 6 || memcmp(text, "<0x", 3)) return -1;
    for (int c = 0; c < 256; c++)
        if (bytes[c] == id) return c;
    return -1;
}

static void append_piece(struct siren_tokenizer *t, int32_t id, const char *mark)
{
    struct buf *out = &t->piece_bytes;
    size_t length;
    const struct added_token *added = added_find(&t->added, id);
    const char *text = vocab_text(t->vocab, id, &length);
    if (added) {
        buf_append(out, added->text, added->length);
        return;
    }
    if (!text) return;
    int32_t byte = byte_token(t, id);
    const char *prefix = t->model == TOKENIZER_WORDPIECE ? t->wordpiece.prefix
                         : t->model == TOKENIZER_BPE     ? t->bpe.prefix
                                                         : NULL;
    size_t n_prefix = prefix ? strlen(prefix) : 0;
    if (byte >= 0)
        buf_putc(out, byte);
    else if (t->byte_level)
        append_byte_piece(out, text, length);
    else if (n_prefix && length > n_prefix && !memcmp(text, prefix, n_prefix))
        buf_append(out, text + n_prefix, length - n_prefix);
    else
        append_replaced(out, text, length,
                        t->model == TOKENIZER_BPE && t->bpe.suffix ? t->bpe.suffix : mark);
}

static int finish_pieces(struct siren_tokenizer *t, struct siren_error *err)
{
    const char *mark = space_mark(t);
    t->piece_ends = alloc_array((size_t)t->size, sizeof *t->piece_ends);
    if (!t->piece_ends) return siren_fail_memory(err, "token texts", (size_t)t->size);
    for (int32_t id = 0; id < t->size; id++) {
        append_piece(t, id, mark);
        t->piece_ends[id] = t->piece_bytes.size;
    }
    buf_putc(&t->piece_bytes, 0);
    if (buf_failed(&t->piece_bytes)) return siren_fail_memory(err, "token texts", (size_t)t->size);
    return 0;
}

static int finish_model(struct siren_tokenizer *t)
{
    switch (t->model) {
    case TOKENIZER_BPE:
        bpe_finish(&t->bpe);
        return 0;
    case TOKENIZER_WORDPIECE:
        return wordpiece_finish(&t->wordpiece);
    default:
        return unigram_finish(&t->unigram);
    }
}

int tokenizer_finish(struct siren_tokenizer *t, struct siren_error *err)
{
    t->vocab = t->model == TOKENIZER_BPE         ? &t->bpe.vocab
               : t->model == TOKENIZER_WORDPIECE ? &t->wordpiece.vocab
                                                 : &t->unigram.vocab;
    if (finish_model(t)) return siren_fail_memory(err, "the vocabulary", t->vocab->n_ids);
    int code = added_finish(&t->added, t->normalizers, t->n_normalizers, err);
    if (code) return code;
    t->size = (int32_t)t->vocab->n_ids;
    for (size_t i = 0; i < t->added.n; i++)
        if (t->added.items[i].id >= t->size) t->size = t->added.items[i].id + 1;
    return finish_pieces(t, err);
}
