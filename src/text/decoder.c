#include "text/decoder.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"

void decoder_free(struct decoder *d)
{
    free(d->text);
    normalizer_free(&d->replace);
}

void texts_clear(struct texts *t)
{
    buf_clear(&t->bytes);
    t->n = 0;
}

void texts_end(struct texts *t)
{
    if (alloc_grow(&t->ends, &t->capacity, t->n + 1, sizeof *t->ends))
        t->failed = 1;
    else
        t->ends[t->n++] = t->bytes.size;
}

void texts_free(struct texts *t)
{
    buf_free(&t->bytes);
    free(t->ends);
}

static const char *text_at(const struct texts *t, size_t i, size_t *length)
{
    size_t start = i ? t->ends[i - 1] : 0;
    *length = t->ends[i] - start;
    return buf_text(&t->bytes) + start;
}

/* The bytes that a text of byte characters stands for; 0 if it has another character. */
static int append_bytes(struct buf *out, const char *text, size_t length)
{
    size_t before = out->size;
    for (size_t at = 0; at < length;) {
        int byte = unicode_to_byte(utf8_next(text, &at));
        if (byte < 0) {
            out->size = before;
            return 0;
        }
        buf_putc(out, byte);
    }
    return 1;
}

static void decode_bytes(const struct texts *from, struct texts *to)
{
    struct buf bytes = {0};
    for (size_t i = 0; i < from->n; i++) {
        size_t length;
        const char *text = text_at(from, i, &length);
        if (!append_bytes(&bytes, text, length)) buf_append(&bytes, text, length);
    }
    utf8_repair(&to->bytes, buf_text(&bytes), bytes.size);
    if (buf_failed(&bytes)) to->failed = 1;
    texts_end(to);
    buf_free(&bytes);
}

static void replace_all(struct buf *b, const char *what, const char *with)
{
    size_t n_what = strlen(what), n_with = strlen(with), done = 0; /* n_with <= n_what */
    if (buf_failed(b) || !b->size) return;
    char *to = b->data;
    const char *hit;
    while ((hit = memmem(b->data + done, b->size - done, what, n_what))) {
        size_t keep = (size_t)(hit - b->data) - done;
        memmove(to, b->data + done, keep);
        memcpy(to + keep, with, n_with);
        to += keep + n_with;
        done += keep + n_what;
    }
    memmove(to, b->data + done, b->size - done);
    b->size = (size_t)(to - b->data) + b->size - done;
    b->data[b->size] = 0;
}

static void clean_up(struct buf *b)
{
    static const char *const pairs[][2] = {{" .", "."},     {" ?", "?"},           {" !", "!"},
                                           {" ,", ","},     {" ' ", "'"},          {" n't", "n't"},
                                           {" 'm", "'m"},   {" do not", " don't"}, {" 's", "'s"},
                                           {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        replace_all(b, pairs[i][0], pairs[i][1]);
}

static void decode_wordpiece(const struct decoder *d, const struct texts *from, struct texts *to)
{
    struct buf one = {0};
    for (size_t i = 0; i < from->n; i++) {
        size_t length;
        const char *text = text_at(from, i, &length);
        buf_clear(&one);
        if (i && length >= d->n_text && !memcmp(text, d->text, d->n_text)) {
            text += d->n_text;
            length -= d->n_text;
        } else if (i) {
            buf_putc(&one, ' ');
        }
        buf_append(&one, text, length);
        if (d->flag) clean_up(&one);
        buf_append(&to->bytes, buf_text(&one), one.size);
        texts_end(to);
    }
    if (buf_failed(&one)) to->failed = 1;
    buf_free(&one);
}

static void decode_metaspace(const struct decoder *d, const struct texts *from, struct texts *to)
{
    for (size_t i = 0; i < from->n; i++) {
        size_t length;
        const char *text = text_at(from, i, &length), *hit;
        while (d->n_text && (hit = memmem(text, length, d->text, d->n_text))) {
            buf_append(&to->bytes, text, (size_t)(hit - text));
            if (i || !d->flag) buf_putc(&to->bytes, ' ');
            length -= (size_t)(hit - text) + d->n_text;
            text = hit + d->n_text;
        }
        buf_append(&to->bytes, text, length);
        texts_end(to);
    }
}

static void decode_bpe(const struct decoder *d, const struct texts *from, struct texts *to)
{
    for (size_t i = 0; i < from->n; i++) {
        size_t length;
        const char *text = text_at(from, i, &length), *hit;
        while (d->n_text && (hit = memmem(text, length, d->text, d->n_text))) {
            buf_append(&to->bytes, text, (size_t)(hit - text));
            if (i + 1 < from->n) buf_putc(&to->bytes, ' ');
            length -= (size_t)(hit - text) + d->n_text;
            text = hit + d->n_text;
        }
        buf_append(&to->bytes, text, length);
        texts_end(to);
    }
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if ((c | 32) >= 'a' && (c | 32) <= 'f') return (c | 32) - 'a' + 10;
    return -1;
}

/* The byte of "<0x0A>", or -1. */
static int byte_of(const char *text, size_t length)
{
    if (length != 6 || memcmp(text, "<0x", 3) || text[5] != '>') return -1;
    /* Rust's parser takes a sign, too */
    if (text[3] == '+') return hex_digit(text[4]);
    int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* A run of byte tokens is one text if it is valid UTF-8, else a U+FFFD for each. */
static void flush_bytes(struct buf *run, struct texts *to)
{
    if (!run->size) return;
    if (utf8_valid_prefix(run->data, run->size) == run->size) {
        buf_append(&to->bytes, run->data, run->size);
        texts_end(to);
    } else {
        for (size_t i = 0; i < run->size; i++) {
            buf_append(&to->bytes, "\xEF\xBF\xBD", 3);
            texts_end(to);
        }
    }
    buf_clear(run);
}

static void decode_byte_fallback(const struct texts *from, struct texts *to)
{
    struct buf run = {0};
    for (size_t i = 0; i < from->n; i++) {
        size_t length;
        const char *text = text_at(from, i, &length);
        int byte = byte_of(text, length);
        if (byte >= 0) {
            buf_putc(&run, byte);
            continue;
        }
        flush_bytes(&run, to);
        buf_append(&to->bytes, text, length);
        texts_end(to);
    }
    flush_bytes(&run, to);
    if (buf_failed(&run)) to->failed = 1;
    buf_free(&run);
}

static void decode_strip(const struct decoder *d, const struct texts *from, struct texts *to)
{
    size_t n = d->n_text;
    for (size_t i = 0; i < from->n; i++) {
        size_t length;
        const char *text = text_at(from, i, &length);
        for (size_t k = 0; n && k < d->start && length >= n && !memcmp(text, d->text, n); k++) {
            text += n;
            length -= n;
        }
        for (size_t k = 0;
             n && k < d->stop && length >= n && !memcmp(text + length - n, d->text, n); k++)
            length -= n;
        buf_append(&to->bytes, text, length);
        texts_end(to);
    }
}

static int decode_replace(const struct decoder *d, const struct texts *from, struct texts *to,
                          struct siren_error *err)
{
    struct normalize_scratch scratch = {0};
    int code = 0;
    for (size_t i = 0; !code && i < from->n; i++) {
        size_t length;
        const char *text = text_at(from, i, &length);
        int kept = 1;
        code = normalize(&d->replace, 1, &scratch, text, length, &text, &length, &kept, err);
        if (code) break;
        buf_append(&to->bytes, text, length);
        texts_end(to);
    }
    normalize_scratch_free(&scratch);
    return code;
}

int decode_texts(const struct decoder *steps, size_t n_steps, struct texts *a, struct texts *b,
                 struct siren_error *err)
{
    int code = 0;
    for (size_t i = 0; !code && i < n_steps; i++) {
        const struct decoder *d = &steps[i];
        texts_clear(b);
        switch (d->kind) {
        case DECODE_BYTES:
            decode_bytes(a, b);
            break;
        case DECODE_WORDPIECE:
            decode_wordpiece(d, a, b);
            break;
        case DECODE_METASPACE:
            decode_metaspace(d, a, b);
            break;
        case DECODE_BPE:
            decode_bpe(d, a, b);
            break;
        case DECODE_BYTE_FALLBACK:
            decode_byte_fallback(a, b);
            break;
        case DECODE_FUSE:
            buf_append(&b->bytes, buf_text(&a->bytes), a->bytes.size);
            texts_end(b);
            break;
        case DECODE_STRIP:
            decode_strip(d, a, b);
            break;
        case DECODE_REPLACE:
            code = decode_replace(d, a, b, err);
            break;
        }
        if (!code && (b->failed || buf_failed(&b->bytes)))
            code = siren_fail_memory(err, "decoding tokens", a->bytes.size);
        struct texts swap = *a;
        *a = *b;
        *b = swap;
    }
    return code;
}
