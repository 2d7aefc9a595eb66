#include "siren/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "text/tokenizer_private.h"

/* What one call of encode needs; a tokenizer itself is never written to. */
struct encoder {
    const struct siren_tokenizer *t;
    int skip_special;
    struct normalize_scratch normalize;
    struct pretokenize_scratch words;
    struct bpe_scratch bpe;
    struct unigram_scratch unigram;
    struct ids out;
};

static void encoder_free(struct encoder *e)
{
    normalize_scratch_free(&e->normalize);
    pretokenize_scratch_free(&e->words);
    bpe_scratch_free(&e->bpe);
    free(e->unigram.nodes);
    free(e->out.items);
}

static int encode_word(struct encoder *e, const char *word, size_t length, struct siren_error *err)
{
    const struct siren_tokenizer *t = e->t;
    switch (t->model) {
    case TOKENIZER_BPE:
        return bpe_encode(&t->bpe, &e->bpe, word, length, &e->out, err);
    case TOKENIZER_WORDPIECE:
        return wordpiece_encode(&t->wordpiece, word, length, &e->out, err);
    default:
        return unigram_encode(&t->unigram, &e->unigram, word, length, &e->out, err);
    }
}

/* Normalised text without added tokens. */
static int encode_plain(struct encoder *e, const char *text, size_t length, int first,
                        struct siren_error *err)
{
    const struct siren_tokenizer *t = e->t;
    struct pretokenize_scratch *w = &e->words;
    int code = pretokenize(t->pretokenizers, t->n_pretokenizers, w, text, length, first, err);
    for (size_t i = 0; !code && i < w->n_words; i++)
        code = encode_word(e, w->text + w->words[i].start, w->words[i].length, err);
    return code;
}

/* Text between the added tokens that are not normalised. */
static int encode_section(struct encoder *e, const char *text, size_t length, int first,
                          struct siren_error *err)
{
    const struct siren_tokenizer *t = e->t;
    int code = normalize(t->normalizers, t->n_normalizers, &e->normalize, text, length, &text,
                         &length, &first, err);
    size_t at = 0, done = 0, start, end;
    int32_t found;
    while (!code &&
           (found = added_next(&t->added, &t->added.normal, t->added.normal_first, e->skip_special,
                               text, length, done, &at, &start, &end)) >= 0) {
        if (done < start) code = encode_plain(e, text + done, start - done, first && !done, err);
        ids_add(&e->out, t->added.items[found].id);
        done = end;
    }
    if (!code && done < length)
        code = encode_plain(e, text + done, length - done, first && !done, err);
    return code;
}

static int encode_text(struct encoder *e, const char *text, size_t length, struct siren_error *err)
{
    const struct siren_tokenizer *t = e->t;
    size_t at = 0, done = 0, start, end;
    int32_t found;
    int code = 0;
    while (!code &&
           (found = added_next(&t->added, &t->added.raw, t->added.raw_first, e->skip_special, text,
                               length, done, &at, &start, &end)) >= 0) {
        if (done < start) code = encode_section(e, text + done, start - done, !done, err);
        ids_add(&e->out, t->added.items[found].id);
        done = end;
    }
    if (!code && done < length) code = encode_section(e, text + done, length - done, !done, err);
    return code;
}

static void add_all(struct ids *out, const struct ids *ids)
{
    for (size_t i = 0; i < ids->n; i++) ids_add(out, ids->items[i]);
}

int siren_tokenizer_encode(const struct siren_tokenizer *t, const char *text, size_t length,
                           unsigned flags, int32_t **ids, size_t *n_ids, struct siren_error *err)
{
    struct encoder e = {.t = t, .skip_special = !!(flags & SIREN_ENCODE_NO_SPECIAL)};
    struct buf repaired = {0};
    int code = 0;
    *ids = NULL;
    *n_ids = 0;
    if (utf8_valid_prefix(text, length) < length) {
        utf8_repair(&repaired, text, length);
        if (buf_failed(&repaired)) code = siren_fail_memory(err, "repairing text", length);
        text = buf_text(&repaired);
        length = repaired.size;
    }
    if (flags & SIREN_ENCODE_ADD_SPECIAL) add_all(&e.out, &t->before);
    if (!code) code = encode_text(&e, text, length, err);
    if (flags & SIREN_ENCODE_ADD_SPECIAL) add_all(&e.out, &t->after);
    if (!code && !e.out.items) e.out.items = alloc_array(1, sizeof *e.out.items);
    if (!code && (e.out.failed || !e.out.items))
        code = siren_fail_memory(err, "token ids", e.out.n);
    if (!code) {
        *ids = e.out.items;
        *n_ids = e.out.n;
        e.out.items = NULL;
    }
    encoder_free(&e);
    buf_free(&repaired);
    return code;
}

/* The text of an id as the vocabulary has it; NULL: none. */
static const char *token_text(const struct siren_tokenizer *t, int32_t id, size_t *length)
{
    const struct added_token *added = added_find(&t->added, id);
    if (!added) return vocab_text(t->vocab, id, length);
    *length = added->normal ? added->n_normal : added->length;
    return added->normal ? added->normal : added->text;
}

static void join_texts(const struct siren_tokenizer *t, const struct texts *texts, struct buf *out)
{
    size_t start = 0;
    for (size_t i = 0; i < texts->n; i++) {
        if (i && !t->has_decoder) buf_putc(out, ' ');
        buf_append(out, buf_text(&texts->bytes) + start, texts->ends[i] - start);
        start = texts->ends[i];
    }
}

int siren_tokenizer_decode(const struct siren_tokenizer *t, const int32_t *ids, size_t n_ids,
                           int skip_special, char **text, size_t *length, struct siren_error *err)
{
    struct texts a = {0}, b = {0};
    struct buf out = {0};
    int code = 0;
    *text = NULL;
    if (length) *length = 0;
    for (size_t i = 0; i < n_ids; i++) {
        size_t n;
        const char *token = token_text(t, ids[i], &n);
        if (!token && ids[i] >= 0 && ids[i] < t->size) continue; /* a hole: no text */
        if (!token) {
            code =
                siren_fail(err, SIREN_EINVAL, "token %zu: id %d is not in the vocabulary (0 … %d)",
                           i, (int)ids[i], (int)t->size - 1);
            break;
        }
        if (skip_special && siren_tokenizer_is_special(t, ids[i])) continue;
        buf_append(&a.bytes, token, n);
        texts_end(&a);
    }
    if (!code && (a.failed || buf_failed(&a.bytes)))
        code = siren_fail_memory(err, "decoded text", n_ids);
    if (!code) code = decode_texts(t->decoders, t->n_decoders, &a, &b, err);
    if (!code) {
        join_texts(t, &a, &out);
        buf_append(&out, "", 0); /* never NULL */
        size_t size = out.size;
        *text = buf_take(&out);
        if (!*text)
            code = siren_fail_memory(err, "decoded text", n_ids);
        else if (length)
            *length = size;
    }
    texts_free(&a);
    texts_free(&b);
    buf_free(&out);
    return code;
}

const char *siren_tokenizer_piece(const struct siren_tokenizer *t, int32_t id, size_t *length)
{
    if (id < 0 || id >= t->size) return NULL;
    size_t start = id ? t->piece_ends[id - 1] : 0;
    if (length) *length = t->piece_ends[id] - start;
    return buf_text(&t->piece_bytes) + start;
}

int32_t siren_tokenizer_size(const struct siren_tokenizer *t)
{
    return t->size;
}

int32_t siren_tokenizer_id(const struct siren_tokenizer *t, const char *piece)
{
    size_t length = strlen(piece);
    for (size_t i = 0; i < t->added.n; i++)
        if (t->added.items[i].length == length && !memcmp(t->added.items[i].text, piece, length))
            return t->added.items[i].id;
    return vocab_find(t->vocab, piece, length);
}

int siren_tokenizer_is_special(const struct siren_tokenizer *t, int32_t id)
{
    const struct added_token *added = added_find(&t->added, id);
    return added && added->special;
}

int32_t siren_tokenizer_eos(const struct siren_tokenizer *t)
{
    return t->eos;
}

int siren_tokenizer_closes(const struct siren_tokenizer *t)
{
    return t->after.n > 0;
}

const char *siren_tokenizer_kind(const struct siren_tokenizer *t)
{
    if (t->model == TOKENIZER_WORDPIECE) return "WordPiece";
    if (t->model == TOKENIZER_UNIGRAM) return "Unigram";
    return t->byte_level ? "byte-level BPE" : "BPE";
}
