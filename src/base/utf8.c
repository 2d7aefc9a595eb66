#include "base/utf8.h"

#include <string.h>

/* Bytes of the well-formed character at p (0: none); *bad receives the length of the
 * maximal ill-formed part otherwise (Unicode 15, table 3-7). */
static size_t character_size(const unsigned char *p, size_t left, size_t *bad)
{
    unsigned char c = p[0];
    unsigned char low = 0x80, high = 0xBF; /* of the second byte */
    size_t need;
    if (c < 0x80) return 1;
    *bad = 1;
    if (c >= 0xC2 && c <= 0xDF)
        need = 2;
    else if (c >= 0xE0 && c <= 0xEF)
        need = 3;
    else if (c >= 0xF0 && c <= 0xF4)
        need = 4;
    else
        return 0;
    if (c == 0xE0) low = 0xA0;
    if (c == 0xED) high = 0x9F;
    if (c == 0xF0) low = 0x90;
    if (c == 0xF4) high = 0x8F;
    for (size_t i = 1; i < need; i++) {
        if (i >= left || p[i] < low || p[i] > high) return 0;
        low = 0x80;
        high = 0xBF;
        *bad = i + 1;
    }
    return need;
}

size_t utf8_valid_prefix(const char *text, size_t length)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t i = 0, bad;
    while (i < length) {
        uint64_t word;
        while (length - i >= 8) {
            memcpy(&word, p + i, 8);
            if (word & 0x8080808080808080u) break;
            i += 8;
        }
        if (i == length) break;
        size_t n = character_size(p + i, length - i, &bad);
        if (!n) return i;
        i += n;
    }
    return i;
}

void utf8_repair(struct buf *out, const char *text, size_t length)
{
    while (length) {
        size_t good = utf8_valid_prefix(text, length);
        buf_append(out, text, good);
        if (good == length) return;
        size_t bad = 1;
        character_size((const unsigned char *)text + good, length - good, &bad);
        buf_append(out, "\xEF\xBF\xBD", 3);
        text += good + bad;
        length -= good + bad;
    }
}

int utf8_encode(char out[4], uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

void utf8_append(struct buf *out, uint32_t c)
{
    char bytes[4];
    buf_append(out, bytes, (size_t)utf8_encode(bytes, c));
}
