#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "text/unicode_tables.h"

static int in_ranges(const struct unicode_range *ranges, int count, uint32_t c)
{
    int low = 0, high = count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (ranges[middle].last < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && ranges[low].first <= c;
}

static const struct unicode_map_range *find_mapped(const struct unicode_map_range *ranges,
                                                   int count, uint32_t c)
{
    int low = 0, high = count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (ranges[middle].last < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && ranges[low].first <= c ? &ranges[low] : NULL;
}

int unicode_is_space(uint32_t c)
{
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

int unicode_is_punctuation(uint32_t c)
{
    if (c < 0x80)
        return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
               (c >= 123 && c <= 126);
    return in_ranges(unicode_punctuation_ranges, unicode_punctuation_count, c);
}

int unicode_is_numeric(uint32_t c)
{
    if (c < 0x80) return c >= '0' && c <= '9';
    return in_ranges(unicode_numeric_ranges, unicode_numeric_count, c);
}

int unicode_is_word(uint32_t c)
{
    if (c < 0x80) return c == '_' || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
    return in_ranges(unicode_word_ranges, unicode_word_count, c);
}

int unicode_is_control(uint32_t c)
{
    if (c < 0x80) return (c < 32 || c == 127) && c != '\t' && c != '\n' && c != '\r';
    return in_ranges(unicode_control_ranges, unicode_control_count, c);
}

int unicode_is_nonspacing(uint32_t c)
{
    return c >= 0x300 && in_ranges(unicode_nonspacing_ranges, unicode_nonspacing_count, c);
}

int unicode_is_mark(uint32_t c)
{
    return c >= 0x300 && in_ranges(unicode_mark_ranges, unicode_mark_count, c);
}

int unicode_is_cjk(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B81F) ||
           (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
           (c >= 0x2F800 && c <= 0x2FA1F);
}

void unicode_lower(struct buf *out, uint32_t c)
{
    if (c < 0x80) {
        buf_putc(out, c >= 'A' && c <= 'Z' ? (int)c + 32 : (int)c);
        return;
    }
    if (c == 0x130) { /* the only one that becomes two: i and a dot above */
        buf_append(out, "i\xCC\x87", 3);
        return;
    }
    const struct unicode_map_range *r = find_mapped(unicode_lower_ranges, unicode_lower_count, c);
    utf8_append(out, r ? r->to + (c - r->first) : (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
}

/* ---- normal forms ---- */

/* A piece of text between two borders over which nothing composes or is reordered. */
struct chars {
    utf8proc_int32_t *items;
    size_t n, capacity;
};

static int combining_class(utf8proc_int32_t c)
{
    if (c < 0x300 || !unicode_is_mark((uint32_t)c)) return 0;
    return utf8proc_get_property(c)->combining_class;
}

static int decompose(struct chars *to, uint32_t c, int compat)
{
    if (alloc_grow(&to->items, &to->capacity, to->n + 24, sizeof *to->items)) return 0;
    if (in_ranges(unicode_frozen_ranges, unicode_frozen_count, c)) {
        to->items[to->n++] = (utf8proc_int32_t)c;
        return 1;
    }
    int boundary = 0; /* no character decomposes into more than 18 */
    utf8proc_ssize_t n = utf8proc_decompose_char(
        (utf8proc_int32_t)c, to->items + to->n, (utf8proc_ssize_t)(to->capacity - to->n),
        (utf8proc_option_t)(UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0)), &boundary);
    if (n < 0 || (size_t)n > to->capacity - to->n) return 0;
    to->n += (size_t)n;
    return 1;
}

/* Stable sort of a run of marks by combining class: by counting where it is long, so that a
 * megabyte of marks is no quadratic affair. */
static int sort_marks(utf8proc_int32_t *run, size_t n)
{
    if (n <= 32) {
        for (size_t i = 1; i < n; i++) {
            utf8proc_int32_t c = run[i];
            int class = combining_class(c);
            size_t k = i;
            for (; k > 0 && combining_class(run[k - 1]) > class; k--) run[k] = run[k - 1];
            run[k] = c;
        }
        return 1;
    }
    size_t at[257] = {0};
    utf8proc_int32_t *copy = alloc_array(n, sizeof *copy);
    if (!copy) return 0;
    memcpy(copy, run, n * sizeof *copy);
    for (size_t i = 0; i < n; i++) at[(combining_class(run[i]) & 255) + 1]++;
    for (int k = 0; k < 256; k++) at[k + 1] += at[k];
    for (size_t i = 0; i < n; i++) run[at[combining_class(copy[i]) & 255]++] = copy[i];
    free(copy);
    return 1;
}

static int reorder(struct chars *text)
{
    size_t i = 0;
    while (i < text->n) {
        size_t start = i;
        while (i < text->n && combining_class(text->items[i])) i++;
        if (i - start > 1 && !sort_marks(text->items + start, i - start)) return 0;
        if (i == start) i++;
    }
    return 1;
}

/* Characters that are younger than the reference's Unicode: it neither reorders nor composes them,
 * and nothing composes over them. */
static int is_barrier(utf8proc_int32_t c)
{
    if (c < 0x300) return 0;
    return c == 0x11930 ||
           (!unicode_is_mark((uint32_t)c) && utf8proc_get_property(c)->combining_class);
}

static int compose(struct chars *text)
{
    size_t n = 0, start = 0;
    while (start < text->n) {
        size_t end = start + 1;
        while (end < text->n && !is_barrier(text->items[end])) end++;
        utf8proc_ssize_t composed =
            utf8proc_normalize_utf32(text->items + start, (utf8proc_ssize_t)(end - start),
                                     (utf8proc_option_t)(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
        if (composed < 0) return 0;
        memmove(text->items + n, text->items + start, (size_t)composed * sizeof *text->items);
        n += (size_t)composed;
        start = end;
    }
    text->n = n;
    return 1;
}

static void normalize_part(struct buf *out, struct chars *scratch, const char *text, size_t length,
                           enum unicode_form form)
{
    int compat = form == UNICODE_NFKC || form == UNICODE_NFKD;
    int ok = 1;
    scratch->n = 0;
    for (size_t at = 0; ok && at < length;) ok = decompose(scratch, utf8_next(text, &at), compat);
    ok = ok && reorder(scratch);
    if (ok && (form == UNICODE_NFC || form == UNICODE_NFKC)) ok = compose(scratch);
    if (!ok) {
        out->failed = 1;
        return;
    }
    for (size_t i = 0; i < scratch->n; i++) utf8_append(out, (uint32_t)scratch->items[i]);
}

/* Below this a character is its own normal form and composes with nothing before it. */
static uint32_t first_unstable(enum unicode_form form)
{
    return form == UNICODE_NFC ? 0x300 : form == UNICODE_NFD ? 0xC0 : 0xA0;
}

void unicode_normalize(struct buf *out, const char *text, size_t length, enum unicode_form form)
{
    struct chars scratch = {0};
    uint32_t unstable = first_unstable(form);
    size_t done = 0, at = 0, last_stable = 0;
    while (at < length && !out->failed) {
        size_t start = at;
        if (utf8_next(text, &at) < unstable) {
            last_stable = start;
            continue;
        }
        /* from the stable character before (a mark may join it) to the next stable one */
        buf_append(out, text + done, last_stable - done);
        while (at < length) {
            size_t here = at;
            if (utf8_next(text, &at) < unstable) {
                at = here;
                break;
            }
        }
        normalize_part(out, &scratch, text + last_stable, at - last_stable, form);
        done = last_stable = at;
    }
    buf_append(out, text + done, length - done);
    free(scratch.items);
}

/* ---- the byte alphabet ---- */

static int prints(unsigned c)
{
    return (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255);
}

uint32_t unicode_of_byte(unsigned char byte)
{
    if (prints(byte)) return byte;
    if (byte <= 32) return 256u + byte;
    if (byte <= 160) return 256u + 33 + (byte - 127u);
    return 256u + 67; /* the soft hyphen, 173 */
}

int unicode_to_byte(uint32_t c)
{
    if (c < 256) return prints(c) ? (int)c : -1;
    if (c <= 256 + 32) return (int)c - 256;
    if (c <= 256 + 66) return (int)c - 256 - 33 + 127;
    return c == 256 + 67 ? 173 : -1;
}

const char *unicode_for_regex(struct buf *scratch, const char *text, size_t length)
{
    int copied = 0;
    for (size_t at = 0; at < length;) {
        if ((unsigned char)text[at] < 0xE0) { /* nothing shorter than three bytes is affected */
            at++;
            continue;
        }
        size_t start = at;
        uint32_t c = utf8_next(text, &at);
        const struct unicode_map_range *r =
            find_mapped(unicode_stand_in_ranges, unicode_stand_in_count, c);
        if (!r) continue;
        if (!copied) {
            buf_clear(scratch);
            buf_append(scratch, text, length);
            if (buf_failed(scratch)) return NULL;
            copied = 1;
        }
        utf8_encode(scratch->data + start, r->to);
    }
    return copied ? scratch->data : NULL;
}
