#include "text/pretokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "text/normalizer.h"
#include "text/unicode.h"

void pretokenizer_free(struct pretokenizer *p)
{
    regex_free(p->regex);
    free(p->text);
}

void pretokenize_scratch_free(struct pretokenize_scratch *s)
{
    free(s->words);
    free(s->other);
    buf_free(&s->a);
    buf_free(&s->b);
    regex_scratch_free(&s->regex);
}

/* ---- cutting: matches and gaps of one word become words ---- */

struct cutter {
    struct pretokenize_scratch *s;
    const struct pretokenizer *step;
    struct word whole;    /* what is cut */
    size_t first_new;     /* index in s->other of its first piece */
    size_t n_other;       /* words in s->other */
    int previous_matched; /* the part before was a match */
    int failed;
};

static void put_word(struct cutter *c, size_t start, size_t end)
{
    struct pretokenize_scratch *s = c->s;
    if (alloc_grow(&s->other, &s->other_capacity, c->n_other + 1, sizeof *s->other)) {
        c->failed = 1;
        return;
    }
    s->other[c->n_other++] =
        (struct word){start, end - start, c->whole.first && start == c->whole.start};
}

/* One part, match or gap, in order; empty parts come, too (they set `previous_matched`).  Of
 * several matches in a row only the last one merges with what follows it. */
static void put_part(struct cutter *c, size_t start, size_t end, int matched)
{
    int joins = 0;
    if (c->step->invert) matched = !matched;
    switch (c->step->behavior) {
    case SPLIT_REMOVED:
        if (matched) return;
        break;
    case SPLIT_ISOLATED:
        break;
    case SPLIT_MERGED_WITH_PREVIOUS:
        joins = matched && !c->previous_matched;
        break;
    case SPLIT_MERGED_WITH_NEXT:
        joins = !matched && c->previous_matched;
        break;
    case SPLIT_CONTIGUOUS:
        joins = matched == c->previous_matched;
        break;
    }
    if (joins && c->n_other > c->first_new)
        c->s->other[c->n_other - 1].length += end - start;
    else
        put_word(c, start, end);
    c->previous_matched = matched;
}
static int cut_by_regex(struct cutter *c, struct siren_error *err)
{
    struct regex_scratch *r = &c->s->regex;
    const char *text = c->s->text + c->whole.start;
    size_t length = c->whole.length, done = 0, from = 0, start, end, base = c->whole.start;
    int code = regex_subject(r, text, length, err);
    if (code) return code;
    while (from <= length && (code = regex_next(c->step->regex, r, from, &start, &end, err)) == 1) {
        if (start > done) put_part(c, base + done, base + start, 0);
        put_part(c, base + start, base + end, 1);
        done = end;
        from = end > start ? end : end < length ? end + utf8_length(text[end]) : length + 1;
    }
    if (code < 0) return code;
    if (done < length) put_part(c, base + done, base + length, 0);
    return 0;
}

static void cut_by_string(struct cutter *c)
{
    const char *text = c->s->text, *hit;
    size_t at = c->whole.start, end = at + c->whole.length, n = c->step->n_text;
    while (n && (hit = memmem(text + at, end - at, c->step->text, n))) {
        size_t start = (size_t)(hit - text);
        if (start > at) put_part(c, at, start, 0);
        put_part(c, start, start + n, 1);
        at = start + n;
    }
    if (at < end) put_part(c, at, end, 0);
}

static void cut_by_class(struct cutter *c, int (*matches)(uint32_t))
{
    const char *text = c->s->text;
    size_t at = c->whole.start, end = at + c->whole.length, gap = at;
    while (at < end) {
        size_t start = at;
        if (!matches(utf8_next(text, &at))) continue;
        if (start > gap) put_part(c, gap, start, 0);
        put_part(c, start, at, 1);
        gap = at;
    }
    if (gap < end) put_part(c, gap, end, 0);
}

/* Runs of one class; white space vanishes. */
static void cut_words(struct cutter *c)
{
    const char *text = c->s->text;
    size_t at = c->whole.start, end = at + c->whole.length, start = at;
    int class = -1; /* of the run: 0 space, 1 word, 2 other */
    while (at < end) {
        size_t here = at;
        uint32_t character = utf8_next(text, &at);
        int now = unicode_is_word(character) ? 1 : unicode_is_space(character) ? 0 : 2;
        if (now == class) continue;
        if (class > 0) put_word(c, start, here);
        class = now;
        start = here;
    }
    if (class > 0) put_word(c, start, end);
}

static void drop_empty(struct cutter *c)
{
    size_t kept = c->first_new;
    for (size_t i = c->first_new; i < c->n_other; i++)
        if (c->s->other[i].length) c->s->other[kept++] = c->s->other[i];
    c->n_other = kept;
}

static int cut(const struct pretokenizer *step, struct pretokenize_scratch *s,
               struct siren_error *err)
{
    struct cutter c = {.s = s, .step = step};
    for (size_t i = 0; i < s->n_words; i++) {
        int code = 0;
        c.whole = s->words[i];
        c.first_new = c.n_other;
        c.previous_matched = 0;
        switch (step->kind) {
        case PRETOKENIZE_REGEX:
            code = cut_by_regex(&c, err);
            break;
        case PRETOKENIZE_SPACE:
            cut_by_class(&c, unicode_is_space);
            break;
        case PRETOKENIZE_PUNCTUATION:
            cut_by_class(&c, unicode_is_punctuation);
            break;
        case PRETOKENIZE_WORDS:
            cut_words(&c);
            break;
        case PRETOKENIZE_NUMERIC:
            cut_by_class(&c, unicode_is_numeric);
            break;
        default:
            cut_by_string(&c);
            break;
        }
        if (code) return code;
        if (c.failed) return siren_fail_memory(err, "splitting text", c.n_other);
        drop_empty(&c);
    }
    struct word *words = s->words;
    size_t capacity = s->word_capacity;
    s->words = s->other;
    s->word_capacity = s->other_capacity;
    s->n_words = c.n_other;
    s->other = words;
    s->other_capacity = capacity;
    return 0;
}

/* ---- rewriting: each word's text changes, the words stay ---- */

static void rewrite_word(const struct pretokenizer *step, struct buf *out, const char *text,
                         struct word w)
{
    const char *p = text + w.start;
    if (!w.length) return;
    switch (step->kind) {
    case PRETOKENIZE_BYTES:
        for (size_t i = 0; i < w.length; i++) {
            unsigned char byte = (unsigned char)p[i];
            if (byte > 32 && byte < 127)
                buf_putc(out, byte);
            else
                utf8_append(out, unicode_of_byte(byte));
        }
        break;
    case PRETOKENIZE_PREFIX:
        if (*p != ' ') buf_putc(out, ' ');
        buf_append(out, p, w.length);
        break;
    default: {
        int has = w.length >= step->n_text && !memcmp(p, step->text, step->n_text);
        int wanted = step->prepend == PREPEND_ALWAYS || (step->prepend == PREPEND_FIRST && w.first);
        if (wanted && !has && *p != ' ') buf_append(out, step->text, step->n_text);
        for (size_t i = 0; i < w.length; i++) {
            if (p[i] == ' ')
                buf_append(out, step->text, step->n_text);
            else
                buf_putc(out, p[i]);
        }
    }
    }
}

/* before: bytes of the text as it was given; as for normalizers, a hostile file must not multiply
 * it. */
static int rewrite(const struct pretokenizer *step, struct pretokenize_scratch *s, size_t before,
                   struct siren_error *err)
{
    struct buf *to = s->text == s->a.data ? &s->b : &s->a;
    buf_clear(to);
    for (size_t i = 0; i < s->n_words; i++) {
        size_t start = to->size;
        rewrite_word(step, to, s->text, s->words[i]);
        s->words[i].start = start;
        s->words[i].length = to->size - start;
    }
    if (buf_failed(to)) return siren_fail_memory(err, "splitting text", to->size);
    if (grows_too_much(before, to->size))
        return siren_fail(err, SIREN_EUNSUPPORTED,
                          "the tokenizer's pre-tokenizer makes %zu bytes of %zu", to->size, before);
    s->text = buf_text(to);
    return 0;
}

int pretokenize(const struct pretokenizer *steps, size_t n_steps, struct pretokenize_scratch *s,
                const char *text, size_t length, int first, struct siren_error *err)
{
    if (alloc_grow(&s->words, &s->word_capacity, 1, sizeof *s->words))
        return siren_fail_memory(err, "splitting text", length);
    s->text = text;
    s->words[0] = (struct word){0, length, first};
    s->n_words = length > 0;
    for (size_t i = 0; i < n_steps; i++) {
        int rewrites = steps[i].kind >= PRETOKENIZE_BYTES, code = 0;
        if (rewrites) code = rewrite(&steps[i], s, length, err);
        if (!code && (!rewrites || (steps[i].kind == PRETOKENIZE_METASPACE && steps[i].split)))
            code = cut(&steps[i], s, err);
        if (code) return code;
    }
    return 0;
}
