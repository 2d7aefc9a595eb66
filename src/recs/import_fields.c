#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "recs/import.h"

void fields_free(struct fields *f)
{
    free(f->at);
    free(f->length);
    *f = (struct fields){0};
}

static int add_field(struct fields *f, char *at, size_t length, struct siren_error *err)
{
    if (alloc_grow(&f->at, &f->at_capacity, f->n + 1, sizeof *f->at) ||
        alloc_grow(&f->length, &f->length_capacity, f->n + 1, sizeof *f->length))
        return siren_fail_memory(err, "columns", f->n);
    f->at[f->n] = at;
    f->length[f->n++] = length;
    return SIREN_OK;
}

/* The quote that closes the field which p is within; NULL: it goes on behind the end. */
static char *closing_quote(const char *p, const char *end)
{
    while ((p = memchr(p, '"', (size_t)(end - p))) && p + 1 < end && p[1] == '"') p += 2;
    return (char *)p;
}

/* A quoted field from its first quote: unquoted in place; *next is behind the closing quote. */
static int unquote(char *p, char *end, char **next, size_t *length, struct siren_error *err)
{
    char *out = p, *stop = closing_quote(p + 1, end);
    if (!stop) return siren_fail(err, SIREN_EFORMAT, "expected a closing '\"'");
    for (char *in = p + 1; in < stop; in++) {
        *out++ = *in;
        if (*in == '"') in++; /* the second of two */
    }
    *length = (size_t)(out - p);
    *next = stop + 1;
    return SIREN_OK;
}

int fields_split(struct fields *f, char *line, size_t length, const char *separator, int quotes,
                 struct siren_error *err)
{
    char *p = line, *end = line + length;
    size_t width = strlen(separator);
    f->n = 0;
    for (;;) {
        char *stop = end;
        size_t size = 0;
        int code = SIREN_OK;
        if (quotes && p < end && *p == '"') {
            code = unquote(p, end, &stop, &size, err);
            if (!code && stop < end && strncmp(stop, separator, width))
                code = siren_fail(err, SIREN_EFORMAT,
                                  "column %zu: '%c' after the closing quote, expected '%s'",
                                  f->n + 1, *stop, separator);
        } else {
            stop = p < end ? memmem(p, (size_t)(end - p), separator, width) : NULL;
            if (!stop) stop = end;
            size = (size_t)(stop - p);
        }
        if (!code) code = add_field(f, p, size, err);
        if (code) return code;
        int last = stop >= end;
        p[size] = 0; /* on the separator, a quote or the line's end */
        if (last) return SIREN_OK;
        p = stop + width;
    }
}

int fields_check(const struct fields *f, size_t header, struct siren_error *err)
{
    for (size_t i = header; header && i < f->n; i++)
        if (f->length[i])
            return siren_fail(err, SIREN_EFORMAT, "%zu columns, but the header has %zu", f->n,
                              header);
    return SIREN_OK;
}

int fields_open_quote(const char *line, size_t length, const char *separator, int open)
{
    const char *p = line, *end = line + length;
    size_t width = strlen(separator);
    if (!memchr(line, '"', length)) return open;
    while (p < end) {
        if (open || *p == '"') {
            p = closing_quote(open ? p : p + 1, end);
            if (!p) return 1;
            p++;
            if (strncmp(p, separator, width)) return 0; /* the end, or what the splitter refuses */
        } else if (!(p = memmem(p, (size_t)(end - p), separator, width))) {
            return 0;
        }
        open = 0;
        p += width;
    }
    return open;
}

/* ---- records of several lines ---- */

enum { JOINED_MOST = 16 << 20 };

void joined_begin(struct joined_record *r)
{
    buf_clear(&r->lines);
    r->open = 0;
}

int joined_add(struct joined_record *r, const char *line, size_t length, const char *separator)
{
    int within = r->open;
    r->open = fields_open_quote(line, length, separator, within);
    if (!within && !r->open) return 0; /* it stays where it is */
    if (within) buf_putc(&r->lines, '\n');
    buf_append(&r->lines, line, length);
    return r->open && !buf_failed(&r->lines) && r->lines.size < JOINED_MOST;
}

int joined_end(struct joined_record *r, const char *path, uint64_t first, int at_end, char **line,
               size_t *length, struct siren_error *err)
{
    if (buf_failed(&r->lines)) return siren_fail_memory(err, "a line", r->lines.size);
    if (r->open)
        return siren_fail(err, SIREN_EFORMAT,
                          "%s:%llu: a quote opens a field here, expected a closing '\"' %s", path,
                          (unsigned long long)first,
                          at_end ? "before the end of the file" : "within 16 MiB");
    if (!r->lines.size) return SIREN_OK;
    *line = r->lines.data;
    *length = r->lines.size;
    return SIREN_OK;
}

/* ---- numbers and times ---- */

int parse_number(const char *text, size_t length, double *number)
{
    char copy[64], *end;
    while (length && (*text == ' ' || *text == '\t')) text++, length--;
    while (length && (text[length - 1] == ' ' || text[length - 1] == '\t')) length--;
    if (length == 1 && *text >= '0' && *text <= '9') {
        *number = *text - '0';
        return 0;
    }
    if (!length || length >= sizeof copy || !strchr("+-.0123456789", *text)) return -1;
    memcpy(copy, text, length);
    copy[length] = 0;
    if (strpbrk(copy, "xXpP")) return -1;
    *number = strtod(copy, &end);
    return *end || !isfinite(*number) ? -1 : 0;
}

static int digits(const char *p, int n, int *value)
{
    *value = 0;
    for (int i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9') return -1;
        *value = *value * 10 + p[i] - '0';
    }
    return 0;
}

static int days_of(int year, int month)
{
    static const char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap);
}

/* YYYY-MM-DD, then nothing or [ T]HH:MM[:SS[.fraction]][Z], UTC. */
static int parse_date(const char *text, size_t length, double *time)
{
    char p[32] = {0};
    struct tm tm = {0};
    int year, month, seconds = 0;
    double milliseconds = 0;
    if (length < 10 || length >= sizeof p) return -1;
    memcpy(p, text, length);
    if (digits(p, 4, &year) || p[4] != '-' || digits(p + 5, 2, &month) || p[7] != '-' ||
        digits(p + 8, 2, &tm.tm_mday) || month < 1 || month > 12 || tm.tm_mday < 1 ||
        tm.tm_mday > days_of(year, month))
        return -1;
    const char *rest = p + 10;
    if (*rest) {
        if ((*rest != ' ' && *rest != 'T') || digits(rest + 1, 2, &tm.tm_hour) || rest[3] != ':' ||
            digits(rest + 4, 2, &tm.tm_min) || tm.tm_hour > 23 || tm.tm_min > 59)
            return -1;
        rest += 6;
        if (*rest == ':') {
            if (digits(rest + 1, 2, &seconds) || seconds > 60) return -1;
            rest += 3;
            if (*rest == '.')
                for (double unit = 100; *++rest >= '0' && *rest <= '9'; unit /= 10)
                    milliseconds += unit * (*rest - '0');
        }
        if (*rest == 'Z') rest++;
        if (*rest) return -1;
    }
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    tm.tm_sec = seconds;
    *time = (double)timegm(&tm) * 1000 + milliseconds;
    return 0;
}

int parse_time(const char *text, size_t length, double *time, int *is_date)
{
    *is_date = 0;
    *time = NAN;
    if (!length) return 0;
    if (!parse_number(text, length, time)) return fabs(*time) < 9e18 ? 0 : -1;
    *is_date = 1;
    return parse_date(text, length, time);
}

int siren_time_parse(const char *text, int64_t *time, struct siren_error *err)
{
    double value;
    int is_date;
    if (parse_time(text, strlen(text), &value, &is_date) || isnan(value) || fabs(value) > 9e15)
        return siren_fail(err, SIREN_EINVAL,
                          "time '%.40s': expected YYYY-MM-DD, YYYY-MM-DDTHH:MM:SS, or seconds or "
                          "milliseconds since 1970",
                          text);
    *time = llround(!is_date && fabs(value) < 1e11 ? value * 1000 : value);
    return SIREN_OK;
}
