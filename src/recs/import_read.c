/* Lines to records. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "recs/import.h"

/* ---- lines ---- */

int import_lines(struct siren_lines **out, const char *path, enum siren_encoding encoding,
                 struct siren_error *err)
{
    int code = siren_lines_open(out, path, encoding, err);
    if (!code) siren_lines_hint(*out, "--encoding latin-1 is for a file in Latin-1");
    return code;
}

int reader_open(struct reader *r, struct source *s, const char *path, enum siren_encoding encoding,
                const char *what, struct siren_error *err)
{
    *r = (struct reader){.source = s, .path = path, .what = what};
    return import_lines(&r->lines, path, encoding, err);
}

void reader_close(struct reader *r)
{
    siren_lines_close(r->lines);
    buf_free(&r->joined.lines);
    *r = (struct reader){0};
}

/* A record was bad (*err says where and why): counted and skipped, or the error stays. */
static int skip_record(struct reader *r, struct siren_error *err)
{
    struct siren_import_report *report = r->source->report;
    if (!r->source->options->skip_bad) return SIREN_EFORMAT;
    if (report->n_bad < SIREN_IMPORT_MESSAGES)
        snprintf(report->bad[report->n_bad++], sizeof report->bad[0], "%.199s", err->message);
    report->bad_lines += siren_lines_number(r->lines) - r->first + 1;
    return SIREN_OK;
}

int reader_bad(struct reader *r, int code, struct siren_error *err)
{
    char to[30] = "";
    unsigned long long first = r->first, last = siren_lines_number(r->lines);
    if (code != SIREN_EFORMAT) return code;
    if (last > first) snprintf(to, sizeof to, "-%llu", last);
    siren_fail_prefix(err, code, "%s:%llu%s", r->path, first, to);
    return skip_record(r, err);
}

static int tell_progress(struct reader *r, struct siren_error *err)
{
    uint64_t done, total;
    siren_lines_position(r->lines, &done, &total);
    if (siren_progress_update(r->source->progress, r->what, done, total))
        return siren_fail(err, SIREN_ECANCEL, "import stopped; nothing was changed");
    return SIREN_OK;
}

/* 1: a line, 0: the file's end, 2: a line that is no text (*err says where), or an error. */
static int read_line(struct reader *r, char **line, size_t *length, struct siren_error *err)
{
    uint64_t before = siren_lines_number(r->lines);
    int code = siren_lines_next(r->lines, line, length, err);
    if (code == SIREN_EFORMAT && siren_lines_number(r->lines) > before) return 2;
    if (code != 1) return code;
    if (memchr(*line, 0, *length)) {
        siren_fail(err, SIREN_EFORMAT, "%s:%llu: a NUL byte, expected text", r->path,
                   (unsigned long long)before + 1);
        return 2;
    }
    if ((before & 0x3fff) == 0 && tell_progress(r, err)) return SIREN_ECANCEL;
    r->source->report->lines++;
    XXH3_64bits_update(r->source->hash, *line, *length + 1); /* with its NUL, as a border */
    return 1;
}

/* A line, or all lines of a record with quotes that hold some; codes as of read_line().  A quote
 * that stays open is an error, also where bad lines are skipped: nobody knows which these are. */
static int read_record(struct reader *r, char **line, size_t *length, struct siren_error *err)
{
    struct siren_error bad;
    int code, more, n_bad = 0;
    joined_begin(&r->joined);
    do {
        code = read_line(r, line, length, err);
        if (code < 1) break;
        if (code == 2 && !r->source->options->skip_bad) return code;
        if (code == 2 && !n_bad++) bad = *err;
        more = r->quotes && joined_add(&r->joined, *line, *length, r->separator);
    } while (more);
    if (code < 0 || (code == 0 && !r->joined.open)) return code;
    code = joined_end(&r->joined, r->path, r->first, code == 0, line, length, err);
    if (code || !n_bad) return code ? code : 1;
    *err = bad;
    return 2;
}

int reader_next(struct reader *r, char **line, size_t *length, struct siren_error *err)
{
    for (;;) {
        r->first = siren_lines_number(r->lines) + 1;
        int code = read_record(r, line, length, err);
        if (code == 2) {
            code = skip_record(r, err);
            if (code) return code;
        } else if (code == 1 && (!*length || r->skip_header)) {
            if (*length) r->skip_header = 0;
        } else {
            return code;
        }
    }
}

/* ---- the scale ---- */

int siren_scale_parse(const char *text, struct siren_scale *scale, struct siren_error *err)
{
    double v[3] = {0, 0, 1};
    const char *p = text;
    int n = 0;
    while (n < 3) {
        size_t length = strcspn(p, ":");
        if (parse_number(p, length, v + n++)) n = 4; /* not a scale */
        if (n > 3) break;
        p += length;
        if (!*p) break;
        p++;
    }
    *scale = (struct siren_scale){v[0], v[1], v[2]};
    if (n < 2 || n > 3 || *p)
        return siren_fail(err, SIREN_EINVAL,
                          "scale '%.40s': expected LOWEST:HIGHEST or LOWEST:HIGHEST:STEP, such as "
                          "0.5:5:0.5",
                          text);
    return siren_scale_check(scale, err);
}

int scale_check(const struct siren_scale *scale, struct scale_watch *w, double rating,
                uint64_t line, struct siren_error *err)
{
    if (scale->step > 0) {
        if (siren_scale_exact_label(scale, rating) >= 0) return SIREN_OK;
        return siren_fail(err, SIREN_EFORMAT, "rating %g: expected %g to %g in steps of %g", rating,
                          scale->min, scale->max, scale->step);
    }
    for (int i = 0; i < w->n; i++)
        if (w->value[i] == rating) return SIREN_OK;
    if (w->n == 64) {
        w->overflow = 1;
        return SIREN_OK;
    }
    w->value[w->n] = rating;
    w->line[w->n++] = line;
    return SIREN_OK;
}

/* Usual scales, the narrowest first. */
static const struct siren_scale usual_scales[] = {
    {1, 5, 1}, {0, 5, 1}, {0.5, 5, 0.5}, {0, 5, 0.5}, {1, 10, 1}, {0, 10, 1}, {0.5, 10, 0.5},
};

int scale_detect(struct source *s, const struct scale_watch *w, struct siren_error *err)
{
    if (s->scale.step > 0 || w->n == 0) return SIREN_OK;
    size_t n_scales = sizeof usual_scales / sizeof *usual_scales;
    int culprit = 0;
    for (size_t k = 0; k < n_scales; k++) {
        int i = 0;
        while (i < w->n && siren_scale_exact_label(usual_scales + k, w->value[i]) >= 0) i++;
        if (i == w->n && !w->overflow) {
            s->scale = usual_scales[k];
            return SIREN_OK;
        }
        if (i < w->n && i > culprit) culprit = i;
    }
    return siren_fail(err, SIREN_EFORMAT,
                      "%s:%llu: rating %g is on none of the usual scales (1 to 5, half stars, 0 to "
                      "10): give the scale with --scale LOWEST:HIGHEST:STEP",
                      s->path, (unsigned long long)w->line[culprit], w->value[culprit]);
}

/* ---- records ---- */

void raw_free(struct raw_table *t)
{
    free(t->user);
    free(t->item);
    free(t->rating);
    free(t->time);
    free(t->label);
    idmap_free(&t->users);
    idmap_free(&t->items);
    *t = (struct raw_table){0};
}

int raw_add(struct raw_table *t, const struct record *record, int label, struct siren_error *err)
{
    size_t need = t->n + 1;
    int64_t user = idmap_add(&t->users, record->user, record->user_length);
    int64_t item = idmap_add(&t->items, record->item, record->item_length);
    if (user < 0 || item < 0 || need >= UINT32_MAX ||
        alloc_grow(&t->user, t->capacity, need, sizeof *t->user) ||
        alloc_grow(&t->item, t->capacity + 1, need, sizeof *t->item) ||
        alloc_grow(&t->rating, t->capacity + 2, need, sizeof *t->rating) ||
        alloc_grow(&t->time, t->capacity + 3, need, sizeof *t->time) ||
        (t->own_labels && alloc_grow(&t->label, t->capacity + 4, need, 1)))
        return siren_fail_memory(err, "ratings", need * 20);
    t->user[t->n] = (uint32_t)user;
    t->item[t->n] = (uint32_t)item;
    t->rating[t->n] = (float)record->rating;
    t->time[t->n] = record->time;
    if (t->own_labels) t->label[t->n] = (uint8_t)label;
    t->n++;
    return SIREN_OK;
}

static int bad_value(const char *what, const char *text, size_t length, const char *expected,
                     struct siren_error *err)
{
    return siren_fail(err, SIREN_EFORMAT, "%s '%.*s': expected %s", what,
                      (int)(length < 40 ? length : 40), text, expected);
}

static int set_rating(struct record *r, const char *text, size_t length, struct siren_error *err)
{
    if (parse_number(text, length, &r->rating))
        return bad_value("rating", text, length, "a number", err);
    return SIREN_OK;
}

static int set_time(struct record *r, const char *text, size_t length, struct siren_error *err)
{
    if (parse_time(text, length, &r->time, &r->is_date))
        return bad_value("time", text, length, "a number or a date YYYY-MM-DD", err);
    return SIREN_OK;
}

static int check_ids(const struct record *r, struct siren_error *err)
{
    if (!r->user_length) return siren_fail(err, SIREN_EFORMAT, "no user");
    if (!r->item_length) return siren_fail(err, SIREN_EFORMAT, "no item");
    if (r->user_length > SIREN_ID_BYTES || r->item_length > SIREN_ID_BYTES)
        return siren_fail(err, SIREN_EFORMAT, "an id of %zu bytes (at most %d)",
                          r->user_length > SIREN_ID_BYTES ? r->user_length : r->item_length,
                          SIREN_ID_BYTES);
    return SIREN_OK;
}

static int parse_columns(const struct layout *l, struct fields *f, char *line, size_t length,
                         struct record *r, struct siren_error *err)
{
    int code = fields_split(f, line, length, l->separator, l->quotes, err);
    if (!code) code = fields_check(f, l->header, err);
    if (code) return code;
    if (f->n < l->n_columns)
        return siren_fail(err, SIREN_EFORMAT, "%zu columns, expected at least %zu", f->n,
                          l->n_columns);
    if (f->n < l->header) /* an unknown time is an empty field: this is where a copy broke off */
        return siren_fail(err, SIREN_EFORMAT, "%zu columns, but the header has %zu", f->n,
                          l->header);
    *r = (struct record){.user = f->at[l->user_at],
                         .user_length = f->length[l->user_at],
                         .item = f->at[l->item_at],
                         .item_length = f->length[l->item_at],
                         .time = NAN};
    code = set_rating(r, f->at[l->rating_at], f->length[l->rating_at], err);
    r->timed = l->time_at >= 0 && (size_t)l->time_at < f->n;
    if (!code && r->timed) code = set_time(r, f->at[l->time_at], f->length[l->time_at], err);
    return code ? code : check_ids(r, err);
}

static int bad_json(const struct json_cursor *c, const char *line, struct siren_error *err)
{
    return siren_fail(err, SIREN_EFORMAT, "byte %zu: bad JSON: expected %s",
                      (size_t)(c->at - line) + 1, c->expected ? c->expected : "something else");
}

/* A string's or number's text; 0 for another kind. */
static int scalar(struct json_span *v)
{
    if (v->kind == JSON_NUMBER_) return 1;
    return v->kind == JSON_STRING_ && !json_decode(v);
}

static int parse_json(const struct layout *l, char *line, size_t length, struct record *r,
                      struct siren_error *err)
{
    struct json_cursor c;
    struct json_span key, value;
    int more, rated = 0, code = SIREN_OK;
    *r = (struct record){.time = NAN};
    more = json_open(&c, line, length, '{') ? -1 : 1;
    while (!code && more == 1 && (more = json_next(&c, &key, &value)) == 1) {
        const char *what = json_is(&key, l->user)     ? "user"
                           : json_is(&key, l->item)   ? "item"
                           : json_is(&key, l->rating) ? "rating"
                           : json_is(&key, l->time)   ? "time"
                                                      : NULL;
        if (!what) continue;
        r->timed |= *what == 't';
        if (*what == 't' && value.kind == JSON_LITERAL_) continue; /* null: unknown */
        if (!scalar(&value)) {
            code = bad_value(what, value.text, value.length, "a string or a number", err);
        } else if (*what == 'u') {
            r->user = value.text;
            r->user_length = value.length;
        } else if (*what == 'i') {
            r->item = value.text;
            r->item_length = value.length;
        } else if (*what == 'r') {
            rated = 1;
            code = set_rating(r, value.text, value.length, err);
        } else {
            code = set_time(r, value.text, value.length, err);
        }
    }
    if (more < 0) return bad_json(&c, line, err);
    if (code) return code;
    const char *missing = !r->user ? l->user : !r->item ? l->item : !rated ? l->rating : NULL;
    if (missing) return siren_fail(err, SIREN_EFORMAT, "no field '%s'", missing);
    return check_ids(r, err);
}

/* Dates and numbers do not mix: there would be no telling the unit. */
static int check_time_kind(const struct raw_table *t, const struct record *r,
                           struct siren_error *err)
{
    if (isnan(r->time) || !t->time_kind || t->time_kind == (r->is_date ? 2 : 1)) return SIREN_OK;
    return siren_fail(err, SIREN_EFORMAT, "time: a %s after %s", r->is_date ? "date" : "number",
                      r->is_date ? "numbers" : "dates");
}

/* What a row that is taken says of all: of the scale and of the times.  One that is refused says
 * nothing. */
static int check_with_others(struct source *s, struct raw_table *t, struct scale_watch *watch,
                             const struct record *r, uint64_t line, struct siren_error *err)
{
    int code = check_time_kind(t, r, err);
    if (!code) code = scale_check(&s->scale, watch, r->rating, line, err);
    if (!code && !isnan(r->time)) t->time_kind = r->is_date ? 2 : 1;
    return code;
}

int read_ratings(struct source *s, struct raw_table *t, struct siren_error *err)
{
    struct reader r;
    struct fields f = {0};
    struct scale_watch *watch = calloc(1, sizeof *watch);
    if (!watch) return siren_fail_memory(err, "a scale", sizeof *watch);
    const char *time = s->options->columns.time;
    char *line;
    size_t length;
    int timed = 0, code = reader_open(&r, s, s->path, s->encoding, "bytes of ratings", err);
    r.skip_header = s->layout.header > 0;
    r.quotes = s->layout.quotes;
    r.separator = s->layout.separator;
    while (!code && (code = reader_next(&r, &line, &length, err)) == 1) {
        struct record record;
        code = s->layout.json ? parse_json(&s->layout, line, length, &record, err)
                              : parse_columns(&s->layout, &f, line, length, &record, err);
        if (!code) code = check_with_others(s, t, watch, &record, r.first, err);
        if (!code) {
            code = raw_add(t, &record, 0, err);
            timed |= record.timed;
            s->report->ratings_read += !code;
        } else {
            code = reader_bad(&r, code, err);
        }
    }
    if (!code && t->n && time && !timed) code = never_seen(s->path, time, "time", err);
    if (!code) code = scale_detect(s, watch, err);
    fields_free(&f);
    reader_close(&r);
    free(watch);
    return code;
}
