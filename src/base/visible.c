#include "base/visible.h"

#include <string.h>
#include <utf8proc.h>

/* Beyond the controls of ASCII: DEL and C1, embeddings, overrides and isolates. */
static int steers(utf8proc_int32_t c)
{
    return (c >= 0x7f && c <= 0x9f) || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

static utf8proc_int32_t seen(utf8proc_int32_t c, unsigned flags)
{
    if (flags & VISIBLE_LINES && (c == '\n' || c == '\t')) return c;
    if (c >= 0 && c < 0x20) return 0x2400 + c;
    if (c == 0x7f) return 0x2421;
    return c < 0 || steers(c) ? 0xfffd : c;
}

static void append_character(struct buf *out, utf8proc_int32_t c)
{
    utf8proc_uint8_t bytes[4];
    buf_append(out, bytes, (size_t)utf8proc_encode_char(c, bytes));
}

/* The text may be the beginning of a longer character. */
static int is_unfinished(const unsigned char *p, size_t left)
{
    size_t need = *p >= 0xf0 && *p <= 0xf4   ? 4
                  : *p >= 0xe0 && *p <= 0xef ? 3
                  : *p >= 0xc2 && *p <= 0xdf ? 2
                                             : 0;
    for (size_t i = 1; i < left; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return left < need;
}

/* Bytes at p that are seen as they are. */
static size_t plain(const unsigned char *p, size_t left)
{
    size_t n = 0;
    while (n < left && p[n] >= 0x20 && p[n] < 0x7f) n++;
    return n;
}

size_t visible_append(struct buf *out, const char *text, size_t length, unsigned flags)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t at = 0;
    buf_append(out, "", 0);
    while (at < length) {
        size_t n = plain(p + at, length - at);
        utf8proc_int32_t c;
        buf_append(out, p + at, n);
        at += n;
        if (at == length) break;
        utf8proc_ssize_t size = utf8proc_iterate(p + at, (utf8proc_ssize_t)(length - at), &c);
        if (size <= 0 && flags & VISIBLE_UNFINISHED && is_unfinished(p + at, length - at)) break;
        append_character(out, seen(size > 0 ? c : -1, flags));
        at += size > 0 ? (size_t)size : 1;
    }
    return at;
}

void visible_append_json(struct buf *out, const char *json)
{
    const unsigned char *p = (const unsigned char *)json, *end = p + strlen(json);
    for (size_t n; p < end; p += n) {
        utf8proc_int32_t c = 0;
        n = plain(p, (size_t)(end - p));
        if (!n) {
            utf8proc_ssize_t size = utf8proc_iterate(p, end - p, &c);
            n = size > 0 ? (size_t)size : 1;
        }
        if (steers(c))
            buf_printf(out, "\\u%04x", (unsigned)c);
        else
            buf_append(out, p, n);
    }
}
