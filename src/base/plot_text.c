/* Text and numbers of a chart. */
#include <math.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "base/plot_private.h"

/* The next character of *text, which moves on; 0 at its end.  What is no UTF-8, and what XML does
 * not allow, is U+FFFD. */
static utf8proc_int32_t next_character(const char **text)
{
    utf8proc_int32_t c;
    if (!**text) return 0;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)*text, -1, &c);
    *text += n > 0 ? n : 1;
    int allowed = n > 0 && (c >= 0x20 || c == '\t' || c == '\n') && c != 0xfffe && c != 0xffff;
    return !allowed ? 0xfffd : c < 0x20 ? ' ' : c;
}

static double character_width(utf8proc_int32_t c, int size)
{
    return utf8proc_charwidth(c) * size * (utf8proc_charwidth(c) > 1 ? 0.5 : 0.58);
}

double plot_text_width(const char *text, int size)
{
    double width = 0;
    utf8proc_int32_t c;
    while ((c = next_character(&text))) width += character_width(c, size);
    return width;
}

void plot_put_text(struct buf *b, const char *text, double room, int size)
{
    int cut = plot_text_width(text, size) > room;
    const char *p = text;
    utf8proc_int32_t c;
    if (cut) room -= size;
    while ((c = next_character(&p))) {
        utf8proc_uint8_t bytes[4];
        room -= character_width(c, size);
        if (cut && room < 0) break;
        if (c == '<' || c == '>' || c == '&' || c == '"')
            buf_printf(b, "&#%d;", (int)c);
        else
            buf_append(b, bytes, (size_t)utf8proc_encode_char(c, bytes));
    }
    if (!cut) return;
    buf_puts(b, "…");
}

void plot_put_label(struct buf *b, const char *text, double room, int size)
{
    if (plot_text_width(text, size) > room) {
        buf_puts(b, "<title>");
        plot_put_text(b, text, INFINITY, size);
        buf_puts(b, "</title>");
    }
    plot_put_text(b, text, room, size);
}

void plot_put_number(struct buf *b, double pixels)
{
    long long c = llround(pixels * 100), part = llabs(c) % 100;
    buf_printf(b, "%s%lld", c < 0 ? "-" : "", llabs(c) / 100);
    if (part) buf_printf(b, part % 10 ? ".%02lld" : ".%lld", part % 10 ? part : part / 10);
}

void plot_put_point(struct buf *b, double x, double y)
{
    plot_put_number(b, x);
    buf_putc(b, ',');
    plot_put_number(b, y);
}
