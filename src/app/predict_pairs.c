/* Batch jobs: a file of pairs in, a file of answers out. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "recs/import.h"
#include "siren/file.h"

enum { BATCH = 64 };

struct batch_job {
    struct siren_app *app;
    struct siren_lm *lm;
    const struct siren_predict_options *options;
    const char *path;
    struct siren_lines *lines;
    struct siren_writer *writer;
    enum siren_output format;
    struct joined_record joined; /* the record at hand */
    struct fields fields;
    uint64_t first; /* its first line */
    size_t header;  /* columns */
    int user_column, item_column;
    struct siren_target *targets;
    char **users; /* as written in the file: an unknown user has no other name */
    size_t n, capacity, user_capacity;
    struct siren_pairs_report *report;
};

/* Where the record at hand stands: "FILE:LINE", or "FILE:FIRST-LAST". */
static int fail_here(const struct batch_job *j, int code, struct siren_error *err)
{
    char to[30] = "";
    unsigned long long first = j->first, last = siren_lines_number(j->lines);
    if (last > first) snprintf(to, sizeof to, "-%llu", last);
    return siren_fail_prefix(err, code, "%s:%llu%s", j->path, first, to);
}

/* A line that is not empty, or all lines of a record with quotes that hold some, as the import
 * reads them: 1, 0 at the file's end, or an error. */
static int read_record(struct batch_job *j, char **line, size_t *length, struct siren_error *err)
{
    int code, more;
    joined_begin(&j->joined);
    do {
        code = siren_lines_next(j->lines, line, length, err);
        if (code < 1) break;
        more = !j->joined.open && !*length; /* empty, and between records */
        if (more) continue;
        if (!j->joined.open) j->first = siren_lines_number(j->lines);
        more = joined_add(&j->joined, *line, *length, ",");
    } while (more);
    if (code < 0 || (code == 0 && !j->joined.open)) return code;
    code = joined_end(&j->joined, j->path, j->first, code == 0, line, length, err);
    return code ? code : 1;
}

static int read_header(struct batch_job *j, struct siren_error *err)
{
    char *line;
    size_t length;
    j->first = 1; /* of an empty file */
    int more = read_record(j, &line, &length, err);
    if (more < 0) return more;
    int rc = more ? fields_split(&j->fields, line, length, ",", 1, err) : 0;
    if (rc) return fail_here(j, rc, err);
    j->header = j->fields.n;
    j->user_column = j->item_column = -1;
    for (size_t i = 0; i < j->header; i++) {
        const char *name = j->fields.at[i];
        if (!strcmp(name, "user") || !strcmp(name, "user_id")) j->user_column = (int)i;
        if (!strcmp(name, "item") || !strcmp(name, "item_id")) j->item_column = (int)i;
    }
    if (j->user_column >= 0 && j->item_column >= 0) return 0;
    rc = siren_fail(err, SIREN_EFORMAT,
                    "expected a header line with the columns user and item, e.g. \"user,item\"");
    return fail_here(j, rc, err);
}

static int read_fields(struct batch_job *j, char *line, size_t length, struct siren_error *err)
{
    int rc = fields_split(&j->fields, line, length, ",", 1, err);
    if (!rc) rc = fields_check(&j->fields, j->header, err);
    if (!rc && j->fields.n < j->header)
        rc = siren_fail(err, SIREN_EFORMAT,
                        "fewer fields than the header has: found %zu, expected %zu", j->fields.n,
                        j->header);
    return rc;
}

static int read_pair(struct batch_job *j, char *line, size_t length, struct siren_error *err)
{
    int rc = read_fields(j, line, length, err);
    if (rc) return fail_here(j, rc, err);
    if (alloc_grow(&j->targets, &j->capacity, j->n + 1, sizeof *j->targets) ||
        alloc_grow(&j->users, &j->user_capacity, j->n + 1, sizeof *j->users))
        return siren_fail_memory(err, "pairs", j->n * sizeof *j->targets);
    const char *user = j->fields.at[j->user_column], *item = j->fields.at[j->item_column];
    rc = siren_app_target(j->app, user, item, &j->targets[j->n], err);
    if (rc) return fail_here(j, rc, err);
    j->users[j->n] = strdup(user);
    if (!j->users[j->n]) return siren_fail_memory(err, "pairs", 0);
    j->report->n_new_users += j->targets[j->n].user < 0;
    j->n++;
    return 0;
}

static int read_pairs(struct batch_job *j, struct siren_error *err)
{
    char *line;
    size_t length;
    int rc = siren_lines_open(&j->lines, j->path, SIREN_UTF8, err), more = 0;
    if (!rc) rc = read_header(j, err);
    while (!rc && (more = read_record(j, &line, &length, err)) > 0)
        rc = read_pair(j, line, length, err);
    if (more < 0) rc = more;
    siren_lines_close(j->lines);
    fields_free(&j->fields);
    buf_free(&j->joined.lines);
    return rc;
}

/* ---- output ---- */

static void put_field(struct buf *b, const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        buf_puts(b, text);
        return;
    }
    buf_putc(b, '"');
    for (; *text; text++) {
        if (*text == '"') buf_putc(b, '"');
        buf_putc(b, *text);
    }
    buf_putc(b, '"');
}

static void put_number(struct buf *b, double value)
{
    buf_putc(b, ',');
    if (isfinite(value)) buf_printf(b, "%.6g", value);
}

/* A text's number alone has no distribution. */
static int distributions(const struct batch_job *j)
{
    return j->options->mode == SIREN_AO || j->options->samples > 0;
}

static int write_header(struct batch_job *j, struct siren_error *err)
{
    const struct siren_scale *scale = &j->app->meta.scale;
    struct buf b = {0};
    int rc;
    if (j->format == SIREN_JSONL) return 0;
    buf_puts(&b, "user,item,argmax,mean,median,outside,invalid");
    for (int k = 0; k < siren_scale_labels(scale) && distributions(j); k++) {
        char label[24];
        siren_scale_text(scale, k, label);
        buf_printf(&b, ",p%s", label);
    }
    buf_puts(&b, ",tokens_in,tokens_cached,latency_ms\n");
    rc = buf_failed(&b) ? siren_fail_memory(err, "a line", b.size)
                        : siren_writer_write(j->writer, buf_text(&b), b.size, err);
    buf_free(&b);
    return rc;
}

static int write_csv(struct batch_job *j, size_t i, const struct siren_answer *a,
                     struct siren_error *err)
{
    struct buf b = {0};
    int rc;
    put_field(&b, j->users[i]);
    buf_putc(&b, ',');
    put_field(&b, j->app->items.item[j->targets[i].item].external);
    put_number(&b, a->argmax);
    put_number(&b, a->mean);
    put_number(&b, a->median);
    put_number(&b, a->outside);
    buf_printf(&b, ",%d", a->invalid);
    for (int k = 0; k < a->n_labels; k++) put_number(&b, a->probabilities[k]);
    buf_printf(&b, ",%d,%d,%.3f\n", a->tokens_in, a->tokens_cached, a->latency_ms);
    rc = buf_failed(&b) ? siren_fail_memory(err, "a line", b.size)
                        : siren_writer_write(j->writer, buf_text(&b), b.size, err);
    buf_free(&b);
    return rc;
}

static int write_jsonl(struct batch_job *j, size_t i, const struct siren_answer *a,
                       struct siren_error *err)
{
    char *text = NULL, *line = NULL;
    json_t *object;
    int rc = siren_answer_json(j->app, &j->targets[i], a, &text, err);
    if (rc) return rc;
    object = json_loads(text, 0, NULL);
    json_object_set_new(object, "user", json_string(j->users[i]));
    rc = app_json_text(object, JSON_COMPACT, &line, err);
    if (!rc) rc = siren_writer_printf(j->writer, err, "%s\n", line);
    free(text);
    free(line);
    return rc;
}

static int predict_batch(struct batch_job *j, size_t from, size_t n,
                         const struct siren_progress *progress, struct siren_error *err)
{
    struct siren_answer answers[BATCH] = {0};
    struct app_part part = {progress, "predictions", from, n, j->n};
    struct siren_progress inner = app_part_progress(&part);
    int rc = siren_predict(j->app, j->lm, j->targets + from, n, j->options, answers, &inner, err);
    for (size_t i = 0; i < n && !rc; i++) {
        rc = j->format == SIREN_CSV ? write_csv(j, from + i, &answers[i], err)
                                    : write_jsonl(j, from + i, &answers[i], err);
        j->report->n_invalid += (size_t)answers[i].invalid;
        j->report->n_tokens += (size_t)answers[i].tokens_in;
        j->report->n_tokens_cached += (size_t)answers[i].tokens_cached;
    }
    for (size_t i = 0; i < n; i++) siren_answer_clear(&answers[i]);
    return rc;
}

static int write_all(struct batch_job *j, const char *output, const struct siren_progress *progress,
                     struct siren_error *err)
{
    int rc = siren_writer_open(&j->writer, output, err);
    if (rc) return rc;
    rc = write_header(j, err);
    for (size_t from = 0; from < j->n && !rc; from += BATCH) {
        size_t n = j->n - from < BATCH ? j->n - from : BATCH;
        if (siren_progress_update(progress, "predictions", from, j->n))
            rc = siren_fail(err, SIREN_ECANCEL, "stopped; %s was not written", output);
        else
            rc = predict_batch(j, from, n, progress, err);
    }
    if (!rc) return siren_writer_commit(j->writer, err);
    siren_writer_abort(j->writer);
    return rc;
}

int siren_predict_pairs(struct siren_app *app, struct siren_lm *lm, const char *pairs,
                        const char *output, enum siren_output format,
                        const struct siren_predict_options *options,
                        struct siren_pairs_report *report, const struct siren_progress *progress,
                        struct siren_error *err)
{
    struct siren_pairs_report none;
    struct batch_job j = {.app = app,
                          .lm = lm,
                          .options = options,
                          .path = pairs,
                          .format = format,
                          .report = report ? report : &none};
    double start = clock_seconds();
    int rc;
    *j.report = (struct siren_pairs_report){0};
    rc = read_pairs(&j, err);
    if (!rc) rc = write_all(&j, output, progress, err);
    j.report->n = j.n;
    j.report->seconds = clock_seconds() - start;
    for (size_t i = 0; i < j.n; i++) free(j.users[i]);
    free(j.users);
    free(j.targets);
    return rc;
}
