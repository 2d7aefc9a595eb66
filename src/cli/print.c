/* Notes, JSON, numbers with units, words of commands. */
#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/visible.h"
#include "cli/frame.h"

void cli_vput(FILE *to, const char *format, va_list args)
{
    struct buf text = {0}, seen = {0};
    buf_vprintf(&text, format, args);
    visible_append(&seen, buf_text(&text), text.size, VISIBLE_LINES);
    if (buf_failed(&text) || buf_failed(&seen))
        fputs("out of memory for a text\n", stderr);
    else
        fwrite(buf_text(&seen), 1, seen.size, to);
    buf_free(&text);
    buf_free(&seen);
}

void cli_put(FILE *to, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    cli_vput(to, format, args);
    va_end(args);
}

void cli_note(struct cli *cli, const char *format, ...)
{
    if (cli->quiet) return;
    cli_progress_end(cli);
    fflush(stdout); /* in order where both go to one file */
    va_list args;
    va_start(args, format);
    cli_vput(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

void cli_print(struct cli *cli, const char *format, ...)
{
    cli_progress_end(cli);
    va_list args;
    va_start(args, format);
    cli_vput(stdout, format, args);
    va_end(args);
}

size_t cli_print_text(struct cli *cli, const char *text, size_t length, int unfinished)
{
    struct buf seen = {0};
    cli_progress_end(cli);
    if (!isatty(STDOUT_FILENO)) {
        fwrite(text, 1, length, stdout);
        return length;
    }
    length =
        visible_append(&seen, text, length, VISIBLE_LINES | (unfinished ? VISIBLE_UNFINISHED : 0));
    if (buf_failed(&seen))
        fputs("out of memory for a text\n", stderr);
    else
        fwrite(buf_text(&seen), 1, seen.size, stdout);
    buf_free(&seen);
    return length;
}

int cli_print_json(struct cli *cli, json_t *value)
{
    cli_progress_end(cli);
    /* 15 digits tell all floats apart and print 0.1 as 0.1. */
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15)) : NULL;
    struct buf seen = {0};
    json_decref(value);
    if (text) visible_append_json(&seen, text);
    free(text);
    int rc = text && !buf_failed(&seen) ? SIREN_OK : siren_fail_memory(&cli->err, "JSON output", 0);
    if (!rc) puts(buf_text(&seen));
    buf_free(&seen);
    return rc;
}

enum { NUMBER_SIZE = 40, ROTATING = 16 };

static char *rotating(void)
{
    static char buffers[ROTATING][NUMBER_SIZE];
    static unsigned next;
    return buffers[next++ % ROTATING];
}

const char *cli_number(uint64_t n)
{
    char digits[24], *out = rotating();
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n), k = 0;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) out[k++] = ',';
        out[k++] = digits[i];
    }
    out[k] = 0;
    return out;
}

const char *cli_counted(uint64_t n, const char *one)
{
    const char *number = cli_number(n);
    char *out = rotating();
    snprintf(out, NUMBER_SIZE, "%s %s%s", number, one, n == 1 ? "" : "s");
    return out;
}

const char *cli_bytes(uint64_t n)
{
    static const char *units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
    char *out = rotating();
    double value = (double)n;
    int unit = -1;
    while (value >= 1000 && unit < 5) {
        value /= 1000;
        unit++;
    }
    if (unit < 0)
        snprintf(out, NUMBER_SIZE, "%d bytes", (int)n);
    else
        snprintf(out, NUMBER_SIZE, value >= 100 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return out;
}

const char *cli_seconds(double seconds)
{
    char *out = rotating();
    unsigned long long whole = seconds < 1e15 ? (unsigned long long)(seconds + 0.5) : 0;
    if (seconds < 0.001)
        snprintf(out, NUMBER_SIZE, "%.0f µs", seconds * 1e6);
    else if (seconds < 1)
        snprintf(out, NUMBER_SIZE, "%.*f ms", seconds < 0.1 ? 1 : 0, seconds * 1e3);
    else if (seconds < 10)
        snprintf(out, NUMBER_SIZE, "%.1f s", seconds);
    else if (whole < 60)
        snprintf(out, NUMBER_SIZE, "%llu s", whole);
    else if (whole < 3600)
        snprintf(out, NUMBER_SIZE, "%llu min %llu s", whole / 60, whole % 60);
    else
        snprintf(out, NUMBER_SIZE, "%llu h %llu min", whole / 3600, whole / 60 % 60);
    return out;
}

/* No shell gives these characters, or letters beyond ASCII, a meaning of their own. */
static int is_plain(const char *text)
{
    const char *p = text;
    while (*p && (!isascii(*p) || isalnum((unsigned char)*p) || strchr("%+,-./:=@_", *p))) p++;
    return p > text && !*p;
}

const char *cli_word(const char *text)
{
    static struct buf words[8];
    static unsigned next;
    if (is_plain(text)) return text;
    struct buf *b = &words[next++ % 8];
    buf_clear(b);
    buf_putc(b, '\'');
    for (const char *p = text; *p; p++) buf_printf(b, *p == '\'' ? "'\\''" : "%c", *p);
    buf_putc(b, '\'');
    return buf_failed(b) ? text : buf_text(b);
}
