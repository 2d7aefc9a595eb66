#include "text/charsmap.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/alloc.h"
#include "base/utf8.h"

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int charsmap_decode(struct charsmap *map, const char *base64, size_t length,
                    struct siren_error *err)
{
    *map = (struct charsmap){0};
    unsigned char *bytes = alloc_array(length / 4 + 1, 3);
    size_t n = 0;
    uint32_t bits = 0;
    int n_bits = 0;
    if (!bytes) return siren_fail_memory(err, "precompiled_charsmap", length);
    while (length && base64[length - 1] == '=') length--;
    for (size_t i = 0; i < length; i++) {
        int digit = base64_digit(base64[i]);
        if (digit < 0) {
            free(bytes);
            return siren_fail(err, SIREN_EFORMAT,
                              "precompiled_charsmap: character %zu is not base64", i);
        }
        bits = bits << 6 | (uint32_t)digit;
        n_bits += 6;
        if (n_bits < 8) continue;
        n_bits -= 8;
        bytes[n++] = (unsigned char)(bits >> n_bits);
    }
    int code = charsmap_read(map, bytes, n, err);
    free(bytes);
    return code;
}

#define LONGEST_REPLACEMENT 1000 /* a hostile map must not multiply a text's size */

static int too_long(const char *texts, size_t n)
{
    for (size_t i = 0, start = 0; i < n; i++) {
        if (i - start > LONGEST_REPLACEMENT) return 1;
        if (!texts[i]) start = i + 1;
    }
    return 0;
}

int charsmap_read(struct charsmap *map, const unsigned char *bytes, size_t size,
                  struct siren_error *err)
{
    *map = (struct charsmap){0};
    if (!size) return 0;
    size_t n_trie = size < 4 ? 0
                             : (size_t)bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 |
                                   (size_t)bytes[3] << 24;
    if (size < 4 || n_trie % 4 || n_trie > size - 4)
        return siren_fail(err, SIREN_EFORMAT,
                          "precompiled_charsmap: a trie of %zu bytes in a map of %zu", n_trie,
                          size);
    map->n_units = n_trie / 4;
    map->n_texts = size - 4 - n_trie;
    map->units = alloc_array(map->n_units, 4);
    map->texts = alloc_string((const char *)bytes + 4 + n_trie, map->n_texts);
    if (!map->units || !map->texts) {
        charsmap_free(map);
        return siren_fail_memory(err, "precompiled_charsmap", size);
    }
    for (size_t i = 0; i < map->n_units; i++) {
        const unsigned char *p = bytes + 4 + 4 * i;
        map->units[i] =
            (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    }
    if (utf8_valid_prefix(map->texts, map->n_texts) == map->n_texts &&
        !too_long(map->texts, map->n_texts))
        return 0;
    charsmap_free(map);
    return siren_fail(err, SIREN_EFORMAT,
                      "precompiled_charsmap: expected replacements in UTF-8 of at most %d bytes",
                      LONGEST_REPLACEMENT);
}

void charsmap_free(struct charsmap *map)
{
    free(map->units);
    free(map->texts);
    *map = (struct charsmap){0};
}

static size_t unit_offset(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* The replacement for the shortest prefix of the text that has one. */
static const char *find(const struct charsmap *map, const char *text, size_t length)
{
    if (!map->n_units) return NULL;
    size_t at = unit_offset(map->units[0]);
    for (size_t i = 0; i < length && text[i]; i++) {
        unsigned char byte = (unsigned char)text[i];
        at ^= byte;
        if (at >= map->n_units) return NULL;
        uint32_t unit = map->units[at];
        if ((unit & (1u << 31 | 0xFF)) != byte) return NULL;
        at ^= unit_offset(unit);
        if (!(unit >> 8 & 1)) continue;
        if (at >= map->n_units) return NULL;
        size_t value = map->units[at] & 0x7FFFFFFF;
        /* a border inside a character would make the text invalid */
        if (value > map->n_texts || ((unsigned char)map->texts[value] & 0xC0) == 0x80) return NULL;
        return map->texts + value;
    }
    return NULL;
}

static size_t grapheme_end(const char *text, size_t length, size_t at)
{
    utf8proc_int32_t state = 0, previous = (utf8proc_int32_t)utf8_next(text, &at);
    while (at < length) {
        size_t behind = at;
        utf8proc_int32_t c = (utf8proc_int32_t)utf8_next(text, &behind);
        if (utf8proc_grapheme_break_stateful(previous, c, &state)) return at;
        previous = c;
        at = behind;
    }
    return at;
}

/* A short grapheme with a replaced prefix is replaced as a whole, rest and all: that is what the
 * format's own reader does. */
void charsmap_apply(const struct charsmap *map, struct buf *out, const char *text, size_t length)
{
    for (size_t at = 0; at < length;) {
        size_t end = grapheme_end(text, length, at);
        const char *found = end - at < 6 ? find(map, text + at, end - at) : NULL;
        if (found) {
            buf_puts(out, found);
            at = end;
            continue;
        }
        while (at < end) {
            size_t n = utf8_length(text[at]);
            found = find(map, text + at, n);
            if (found)
                buf_puts(out, found);
            else
                buf_append(out, text + at, n);
            at += n;
        }
    }
}
