#include <math.h>
#include <stdio.h>
#include <string.h>

#include <utf8proc.h>

#include "base/buf.h"
#include "siren/prompt.h"

static int is_line_breaking(utf8proc_int32_t c)
{
    return c < 0x20 || c == 0x7f || (c >= 0x80 && c < 0xa0) || c == 0x2028 || c == 0x2029;
}

/* Every control token of the supported families opens with '<' and one of these. */
static int opens_token(utf8proc_int32_t c)
{
    return c == '|' || c == '/' || c == '!' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           c >= 0x80;
}

static void append_character(struct buf *b, utf8proc_int32_t c)
{
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t n = utf8proc_encode_char(c, bytes);
    if (b->size && b->data[b->size - 1] == '<' && opens_token(c)) buf_putc(b, ' ');
    buf_append(b, bytes, n > 0 ? (size_t)n : 0);
}

char *siren_prompt_clean(const char *text, size_t max_characters)
{
    struct buf b = {0};
    const char *p = text ? text : "", *end = p + strlen(p);
    size_t n = 0;
    int space = 0;
    buf_puts(&b, "");
    while (p < end) {
        utf8proc_int32_t c;
        utf8proc_ssize_t step =
            utf8proc_iterate((const utf8proc_uint8_t *)p, (utf8proc_ssize_t)(end - p), &c);
        if (step <= 0) c = 0xfffd, step = 1;
        p += step;
        if (c == ' ' || is_line_breaking(c)) {
            space = b.size > 0;
            continue;
        }
        if (max_characters && n + (size_t)space >= max_characters) {
            append_character(&b, 0x2026); /* … */
            break;
        }
        if (space) buf_putc(&b, ' ');
        n += 1 + (size_t)space;
        space = 0;
        append_character(&b, c);
    }
    return buf_take(&b);
}

void siren_rating_text(double rating, char text[24])
{
    /* six digits are what a float is sure of; from a million on they would be an exponent's */
    snprintf(text, 24, fabs(rating) < 999999.5 ? "%.6g" : "%.10g", rating == 0 ? 0.0 : rating);
}
