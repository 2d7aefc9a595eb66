#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/stream.h"
#include "base/utf8.h"
#include "siren/file.h"

#define MAX_LINE ((size_t)16 << 20)

struct siren_lines {
    struct stream *stream;
    char *path;
    enum siren_encoding encoding;
    const char *hint; /* NULL: none */
    uint64_t number;
    int eof;
    char *data; /* data[start..end) is not yet given out; always room for a NUL behind it */
    size_t start, end, capacity;
    char *converted; /* a Latin-1 line in UTF-8 */
    size_t converted_capacity;
};

int siren_lines_open(struct siren_lines **out, const char *path, enum siren_encoding encoding,
                     struct siren_error *err)
{
    *out = NULL;
    struct siren_lines *l = calloc(1, sizeof *l);
    if (!l) return siren_fail_memory(err, "line reader", sizeof *l);
    l->encoding = encoding;
    l->path = alloc_string(path, strlen(path));
    if (!l->path) {
        siren_lines_close(l);
        return siren_fail_memory(err, "line reader", strlen(path));
    }
    int rc = stream_open(&l->stream, path, err);
    if (rc) {
        siren_lines_close(l);
        return siren_fail_prefix(err, rc, "%s", path);
    }
    *out = l;
    return SIREN_OK;
}

void siren_lines_close(struct siren_lines *l)
{
    if (!l) return;
    stream_close(l->stream);
    free(l->path);
    free(l->data);
    free(l->converted);
    free(l);
}

/* An error of the line that is being read: number + 1. */
static int fail_line(struct siren_lines *l, int code, struct siren_error *err)
{
    return siren_fail_prefix(err, code, "%s:%llu", l->path, (unsigned long long)l->number + 1);
}

/* Make room behind the unread bytes and read into it. */
static int refill(struct siren_lines *l, struct siren_error *err)
{
    if (l->start > 0) {
        memmove(l->data, l->data + l->start, l->end - l->start);
        l->end -= l->start;
        l->start = 0;
    }
    if (alloc_grow(&l->data, &l->capacity, l->end + (1 << 16), 1))
        return siren_fail_memory(err, "line", l->end);
    size_t got;
    int rc = stream_read(l->stream, l->data + l->end, l->capacity - l->end - 1, &got, err);
    if (rc) return rc;
    l->eof = got == 0;
    l->end += got;
    return SIREN_OK;
}

/* Find the end of the next line, reading as needed: *length bytes from start,
 * *skip with its LF.  Returns 1, 0 at the end of the file, or a negative code. */
static int find_line(struct siren_lines *l, size_t *length, size_t *skip, struct siren_error *err)
{
    size_t scanned = 0;
    for (;;) {
        char *from = l->data ? l->data + l->start : NULL;
        size_t have = l->end - l->start;
        char *newline = have > scanned ? memchr(from + scanned, '\n', have - scanned) : NULL;
        *length = newline ? (size_t)(newline - from) : have;
        *skip = *length + (newline != NULL);
        if (*length > MAX_LINE)
            return siren_fail(err, SIREN_EFORMAT, "this line is longer than %zu MiB",
                              MAX_LINE >> 20);
        if (newline || (l->eof && have > 0)) return 1;
        if (l->eof) return 0;
        scanned = have;
        int rc = refill(l, err);
        if (rc) return rc;
    }
}

/* Length of the prefix that is ASCII, eight bytes at a time. */
static size_t ascii_prefix(const char *text, size_t length)
{
    size_t i = 0;
    for (uint64_t word; i + 8 <= length; i += 8) {
        memcpy(&word, text + i, 8);
        if (word & 0x8080808080808080u) break;
    }
    while (i < length && (signed char)text[i] >= 0) i++;
    return i;
}

void siren_lines_hint(struct siren_lines *l, const char *hint)
{
    l->hint = hint;
}

static int check_utf8(const struct siren_lines *l, const char *text, size_t length,
                      struct siren_error *err)
{
    size_t good = utf8_valid_prefix(text, length);
    if (good == length) return SIREN_OK;
    return siren_fail(err, SIREN_EFORMAT, "column %zu: byte 0x%02x is not valid UTF-8%s%s%s",
                      good + 1, (unsigned char)text[good], l->hint ? " (" : "",
                      l->hint ? l->hint : "", l->hint ? ")" : "");
}

static int convert_latin1(struct siren_lines *l, char **text, size_t *length,
                          struct siren_error *err)
{
    size_t ascii = ascii_prefix(*text, *length);
    if (ascii == *length) return SIREN_OK;
    if (alloc_grow(&l->converted, &l->converted_capacity, 2 * *length + 1, 1))
        return siren_fail_memory(err, "line", 2 * *length);
    memcpy(l->converted, *text, ascii);
    size_t n = ascii;
    for (size_t i = ascii; i < *length; i++) {
        unsigned char c = (unsigned char)(*text)[i];
        if (c >= 0x80) {
            l->converted[n++] = (char)(0xc0 | c >> 6);
            c = 0x80 | (c & 0x3f);
        }
        l->converted[n++] = (char)c;
    }
    l->converted[n] = 0;
    *text = l->converted;
    *length = n;
    return SIREN_OK;
}

int siren_lines_next(struct siren_lines *l, char **text, size_t *length, struct siren_error *err)
{
    size_t n, skip;
    int found = find_line(l, &n, &skip, err);
    if (found < 0) return fail_line(l, found, err);
    if (found == 0) return 0;
    char *line = l->data + l->start;
    l->start += skip;
    if (n > 0 && line[n - 1] == '\r') n--;
    line[n] = 0;
    if (l->number == 0 && l->encoding == SIREN_UTF8) {
        size_t mark = utf8_mark(line, n);
        line += mark, n -= mark;
    }
    *text = line;
    *length = n;
    int rc = l->encoding == SIREN_LATIN1 ? convert_latin1(l, text, length, err)
                                         : check_utf8(l, line, n, err);
    if (rc == SIREN_EFORMAT) fail_line(l, rc, err);
    l->number++;
    return rc ? rc : 1;
}

uint64_t siren_lines_number(const struct siren_lines *l)
{
    return l->number;
}

int siren_lines_fail(const struct siren_lines *l, int code, struct siren_error *err)
{
    return siren_fail_prefix(err, code, "%s:%llu", l->path, (unsigned long long)l->number);
}

void siren_lines_position(const struct siren_lines *l, uint64_t *done, uint64_t *total)
{
    stream_position(l->stream, done, total);
}
