#include "text/normalizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

void normalizer_free(struct normalizer *n)
{
    regex_free(n->regex);
    free(n->pattern);
    free(n->content);
    charsmap_free(&n->charsmap);
}

void normalize_scratch_free(struct normalize_scratch *s)
{
    buf_free(&s->a);
    buf_free(&s->b);
    regex_scratch_free(&s->regex);
}

static void keep_if(struct buf *out, const char *text, size_t length, int (*drop)(uint32_t))
{
    for (size_t at = 0; at < length;) {
        size_t start = at;
        if (!drop(utf8_next(text, &at))) buf_append(out, text + start, at - start);
    }
}

static void lower(struct buf *out, const char *text, size_t length)
{
    for (size_t at = 0; at < length;) unicode_lower(out, utf8_next(text, &at));
}

static void bert_clean(struct buf *out, const char *text, size_t length)
{
    for (size_t at = 0; at < length;) {
        size_t start = at;
        uint32_t c = utf8_next(text, &at);
        if (!c || c == 0xFFFD || unicode_is_control(c)) continue;
        if (unicode_is_space(c))
            buf_putc(out, ' ');
        else
            buf_append(out, text + start, at - start);
    }
}

static void bert_cjk(struct buf *out, const char *text, size_t length)
{
    for (size_t at = 0; at < length;) {
        size_t start = at;
        int cjk = unicode_is_cjk(utf8_next(text, &at));
        if (cjk) buf_putc(out, ' ');
        buf_append(out, text + start, at - start);
        if (cjk) buf_putc(out, ' ');
    }
}

/* BERT's four steps; each reads one buffer and writes the other. */
static void bert(const struct normalizer *n, struct buf *out, const char *text, size_t length)
{
    struct buf other = {0};
    struct buf *to = out, *spare = &other;
    const char *from = text;
    size_t n_from = length;
    for (int step = 0; step < 5; step++) {
        const int wanted[5] = {n->clean, n->cjk, n->strip_accents, n->strip_accents, n->lower};
        if (!wanted[step]) continue;
        buf_clear(to);
        if (step == 0) bert_clean(to, from, n_from);
        if (step == 1) bert_cjk(to, from, n_from);
        if (step == 2) unicode_normalize(to, from, n_from, UNICODE_NFD);
        if (step == 3) keep_if(to, from, n_from, unicode_is_nonspacing);
        if (step == 4) lower(to, from, n_from);
        from = buf_text(to);
        n_from = to->size;
        struct buf *swap = to;
        to = spare;
        spare = swap;
    }
    if (from == text) {
        buf_append(out, text, length);
    } else if (spare == &other) { /* the last result */
        buf_clear(out);
        buf_append(out, from, n_from);
    }
    if (other.failed) out->failed = 1;
    buf_free(&other);
}

/* Stops where the text has grown too much; normalize() refuses it. */
static int replace_all(const struct normalizer *n, struct normalize_scratch *s, struct buf *out,
                       const char *text, size_t length, size_t before, struct siren_error *err)
{
    size_t done = 0;
    if (!n->regex) {
        const char *hit;
        while (n->n_pattern && !grows_too_much(before, out->size) &&
               (hit = memmem(text + done, length - done, n->pattern, n->n_pattern))) {
            buf_append(out, text + done, (size_t)(hit - text) - done);
            buf_append(out, n->content, n->n_content);
            done = (size_t)(hit - text) + n->n_pattern;
        }
        buf_append(out, text + done, length - done);
        return 0;
    }
    int code = regex_subject(&s->regex, text, length, err);
    if (code) return code;
    size_t from = 0, start, end;
    while (from <= length && !grows_too_much(before, out->size) &&
           (code = regex_next(n->regex, &s->regex, from, &start, &end, err)) == 1) {
        buf_append(out, text + done, start - done);
        buf_append(out, n->content, n->n_content);
        done = end;
        from = end > start ? end : end < length ? end + utf8_length(text[end]) : length + 1;
    }
    if (code < 0) return code;
    buf_append(out, text + done, length - done);
    return 0;
}

static int is_nmt_dropped(uint32_t c)
{
    return (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F ||
           c == 0x9F;
}

static int is_nmt_space(uint32_t c)
{
    return c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
           (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
           c == 0xFEFF || c == 0xFFFD;
}

static void nmt(struct buf *out, const char *text, size_t length)
{
    for (size_t at = 0; at < length;) {
        size_t start = at;
        uint32_t c = utf8_next(text, &at);
        if (is_nmt_dropped(c)) continue;
        if (is_nmt_space(c))
            buf_putc(out, ' ');
        else
            buf_append(out, text + start, at - start);
    }
}

static void strip(const struct normalizer *n, struct buf *out, const char *text, size_t length)
{
    size_t start = 0;
    while (n->left && start < length) {
        size_t at = start;
        if (!unicode_is_space(utf8_next(text, &at))) break;
        start = at;
    }
    while (n->right && length > start) {
        size_t last = utf8_previous(text, length), at = last;
        if (!unicode_is_space(utf8_next(text, &at))) break;
        length = last;
    }
    buf_append(out, text + start, length - start);
}

static int is_dropped_by_bert(uint32_t c)
{
    return !c || c == 0xFFFD || unicode_is_control(c);
}

/* Does this step take away the text's first character? */
static int drops_front(const struct normalizer *n, const char *text, size_t length)
{
    size_t at = 0;
    if (!length) return 0;
    uint32_t c = utf8_next(text, &at);
    switch (n->kind) {
    case NORMALIZE_STRIP:
        return n->left && unicode_is_space(c);
    case NORMALIZE_NMT:
        return is_nmt_dropped(c);
    case NORMALIZE_STRIP_ACCENTS:
        return unicode_is_mark(c);
    case NORMALIZE_BERT:
        return (n->clean && is_dropped_by_bert(c)) ||
               (n->strip_accents && unicode_is_nonspacing(c));
    default:
        return 0;
    }
}

static int apply_step(const struct normalizer *n, struct normalize_scratch *s, struct buf *out,
                      const char *text, size_t length, size_t before, struct siren_error *err)
{
    switch (n->kind) {
    case NORMALIZE_FORM:
        unicode_normalize(out, text, length, n->form);
        break;
    case NORMALIZE_LOWER:
        lower(out, text, length);
        break;
    case NORMALIZE_STRIP_ACCENTS:
        keep_if(out, text, length, unicode_is_mark);
        break;
    case NORMALIZE_BERT:
        bert(n, out, text, length);
        break;
    case NORMALIZE_REPLACE:
        return replace_all(n, s, out, text, length, before, err);
    case NORMALIZE_PREPEND:
        if (length) buf_append(out, n->content, n->n_content);
        buf_append(out, text, length);
        break;
    case NORMALIZE_STRIP:
        strip(n, out, text, length);
        break;
    case NORMALIZE_CHARSMAP:
        charsmap_apply(&n->charsmap, out, text, length);
        break;
    case NORMALIZE_NMT:
        nmt(out, text, length);
        break;
    case NORMALIZE_BYTES:
        for (size_t i = 0; i < length; i++)
            utf8_append(out, unicode_of_byte((unsigned char)text[i]));
        break;
    }
    return 0;
}

int grows_too_much(size_t before, size_t now)
{
    return now > (size_t)1 << 20 && now / 64 > before;
}

int normalize(const struct normalizer *steps, size_t n_steps, struct normalize_scratch *s,
              const char *text, size_t length, const char **out, size_t *n_out, int *front_kept,
              struct siren_error *err)
{
    size_t before = length;
    for (size_t i = 0; i < n_steps; i++) {
        struct buf *to = text == s->a.data ? &s->b : &s->a;
        if (drops_front(&steps[i], text, length)) *front_kept = 0;
        buf_clear(to);
        int code = apply_step(&steps[i], s, to, text, length, before, err);
        if (code) return code;
        if (buf_failed(to)) return siren_fail_memory(err, "normalising text", length);
        text = buf_text(to);
        length = to->size;
        if (grows_too_much(before, length))
            return siren_fail(err, SIREN_EUNSUPPORTED,
                              "the tokenizer's normalizer makes %zu bytes of %zu", length, before);
    }
    *out = text;
    *n_out = length;
    return 0;
}
