/* Text on a terminal: widths and wrapping. */
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <utf8proc.h>

#include "cli/frame.h"

int cli_terminal_width(int fd)
{
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    return 80;
}

static size_t fit_line(const char *text, size_t length, size_t columns, size_t *taken)
{
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)text, *end = p + length;
    utf8proc_int32_t c, before = 0;
    *taken = 0;
    for (utf8proc_ssize_t n; p < end; p += n) {
        n = utf8proc_iterate(p, end - p, &c);
        if (n <= 0) {
            n = 1;
            c = 0xfffd;
        }
        /* What a zero-width joiner attaches shares the cell of what is before it. */
        size_t width = before == 0x200d ? 0 : (size_t)utf8proc_charwidth(c);
        if (width > columns - *taken) break;
        *taken += width;
        before = c;
    }
    return (size_t)((const char *)p - text);
}

size_t cli_text_fit(const char *text, size_t columns, size_t *taken)
{
    return fit_line(text, strlen(text), columns, taken);
}

static size_t width_of(const char *text, size_t length)
{
    size_t width;
    fit_line(text, length, SIZE_MAX, &width);
    return width;
}

size_t cli_text_width(const char *text)
{
    return width_of(text, strlen(text));
}

struct wrapper {
    FILE *out;
    int at, indent, width;
};

static void break_line(struct wrapper *w)
{
    fputc('\n', w->out);
    w->at = 0;
}

static void put_text(struct wrapper *w, const char *text, size_t length)
{
    if (w->at < w->indent) w->at += fprintf(w->out, "%*s", w->indent - w->at, "");
    fwrite(text, 1, length, w->out);
    w->at += (int)width_of(text, length);
}

static void put_words(struct wrapper *w, const char *text, size_t length)
{
    for (const char *end = text + length; text < end;) {
        size_t n = 0;
        while (text + n < end && text[n] != ' ') n++;
        if (n && w->at > w->indent) {
            if (w->at + 1 + (int)width_of(text, n) > w->width)
                break_line(w);
            else
                put_text(w, " ", 1);
        }
        if (n) put_text(w, text, n);
        text += n;
        while (text < end && *text == ' ') text++;
    }
}

void cli_wrap(FILE *out, const char *text, int at, int indent, int width)
{
    struct wrapper w = {out, at, indent, width};
    int literal = 0;
    while (*text) {
        size_t n = strcspn(text, "\n");
        int was_literal = literal;
        literal = *text == ' ';
        if ((literal || was_literal) && w.at > indent) break_line(&w);
        if (n == 0) { /* an empty line between paragraphs */
            if (w.at > 0) break_line(&w);
            break_line(&w);
        } else if (literal) {
            put_text(&w, text, n);
        } else {
            put_words(&w, text, n);
        }
        text += n + (text[n] == '\n');
    }
    if (w.at > 0) break_line(&w);
}
