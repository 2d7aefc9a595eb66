/* UTF-8.  What reads characters trusts the text to be valid: utf8_valid_prefix() or utf8_repair()
 * stand at the door. */
#ifndef SIREN_BASE_UTF8_H
#define SIREN_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"

/* Length of the longest valid prefix (surrogates and overlong forms are invalid). */
size_t utf8_valid_prefix(const char *text, size_t length);
/* Append the text with each maximal ill-formed part replaced by U+FFFD, as Python's
 * bytes.decode("utf-8", "replace") and Rust's from_utf8_lossy do. */
void utf8_repair(struct buf *out, const char *text, size_t length);
void utf8_append(struct buf *out, uint32_t code_point);
int utf8_encode(char out[4], uint32_t code_point); /* bytes written */

/* Bytes of the byte order mark that the text begins with; 0: with none. */
static inline size_t utf8_mark(const char *text, size_t length)
{
    return length >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3) ? 3 : 0;
}

/* Bytes of the character that starts with this byte (of valid text). */
static inline size_t utf8_length(char first)
{
    unsigned char c = (unsigned char)first;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

/* The character at *at (of valid text, before its end); *at moves behind it. */
static inline uint32_t utf8_next(const char *text, size_t *at)
{
    const unsigned char *p = (const unsigned char *)text + *at;
    if (p[0] < 0x80) {
        *at += 1;
        return p[0];
    }
    if (p[0] < 0xE0) {
        *at += 2;
        return (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3F);
    }
    if (p[0] < 0xF0) {
        *at += 3;
        return (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3F);
    }
    *at += 4;
    return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3F) << 12 |
           (uint32_t)(p[2] & 0x3F) << 6 | (p[3] & 0x3F);
}

/* Start of the character that ends at `end` (> 0, on a border). */
static inline size_t utf8_previous(const char *text, size_t end)
{
    end--;
    while (end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80) end--;
    return end;
}

#endif
