#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/utf8.h"
#include "base/visible.h"
#include "store/store.h"

int store_prepare(struct siren_workspace *ws, sqlite3_stmt **out, const char *sql,
                  struct siren_error *err)
{
    *out = NULL;
    if (sqlite3_prepare_v2(ws->db, sql, -1, out, NULL) == SQLITE_OK) return SIREN_OK;
    return siren_workspace_fail(ws, "prepare a query", err);
}

int store_step(struct siren_workspace *ws, sqlite3_stmt *statement, const char *what,
               struct siren_error *err)
{
    int first = !sqlite3_stmt_busy(statement), code = sqlite3_step(statement);
    int is_end = first || code != SQLITE_ROW; /* of what one question to the file is about */
    if (ws->immutable && is_end && store_check_unchanged(ws, err)) return SIREN_EBUSY;
    if (code == SQLITE_ROW) return 1;
    if (code == SQLITE_DONE) return 0;
    return siren_workspace_fail(ws, what, err);
}

int store_run(struct siren_workspace *ws, sqlite3_stmt *statement, const char *what,
              struct siren_error *err)
{
    int code;
    do code = store_step(ws, statement, what, err);
    while (code == 1);
    sqlite3_reset(statement);
    return code;
}

int store_exec(struct siren_workspace *ws, const char *sql, const char *what,
               struct siren_error *err)
{
    if (sqlite3_exec(ws->db, sql, NULL, NULL, NULL) == SQLITE_OK) return SIREN_OK;
    return siren_workspace_fail(ws, what, err);
}

int store_integer(struct siren_workspace *ws, const char *sql, int64_t missing, int64_t *value,
                  struct siren_error *err)
{
    sqlite3_stmt *statement;
    *value = missing;
    int code = store_prepare(ws, &statement, sql, err);
    if (code) return code;
    code = store_step(ws, statement, "read", err);
    if (code == 1 && sqlite3_column_type(statement, 0) != SQLITE_NULL)
        *value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return code < 0 ? code : SIREN_OK;
}

char *store_text(sqlite3_stmt *statement, int column)
{
    const unsigned char *text = sqlite3_column_text(statement, column);
    int bytes = sqlite3_column_bytes(statement, column);
    return alloc_string(text ? (const char *)text : "", text ? (size_t)bytes : 0);
}

void store_bind_text(sqlite3_stmt *statement, int index, const char *text)
{
    sqlite3_bind_text(statement, index, text ? text : "", -1, SQLITE_STATIC);
}

void store_bind_text_or_null(sqlite3_stmt *statement, int index, const char *text)
{
    sqlite3_bind_text(statement, index, text, -1, SQLITE_STATIC); /* NULL binds NULL */
}

void store_bind_time(sqlite3_stmt *statement, int index, int64_t time)
{
    if (time == SIREN_NO_TIME)
        sqlite3_bind_null(statement, index);
    else
        sqlite3_bind_int64(statement, index, time);
}

int64_t store_column_time(sqlite3_stmt *statement, int column)
{
    if (sqlite3_column_type(statement, column) == SQLITE_NULL) return SIREN_NO_TIME;
    return sqlite3_column_int64(statement, column);
}

void store_bind_number(sqlite3_stmt *statement, int index, double value)
{
    if (isnan(value))
        sqlite3_bind_null(statement, index);
    else
        sqlite3_bind_double(statement, index, value);
}

double store_column_number(sqlite3_stmt *statement, int column)
{
    if (sqlite3_column_type(statement, column) == SQLITE_NULL) return NAN;
    return sqlite3_column_double(statement, column);
}

int store_check_text(const char *what, const char *text, struct siren_error *err)
{
    size_t length = text ? strlen(text) : 0, good = utf8_valid_prefix(text, length);
    if (good == length) return SIREN_OK;
    return siren_fail(err, SIREN_EINVAL, "%s: byte %zu is 0x%02x, expected UTF-8", what, good + 1,
                      (unsigned char)text[good]);
}

int store_check_line(const char *what, const char *text, struct siren_error *err)
{
    struct buf seen = {0};
    size_t n = strlen(text), at = 0;
    visible_append(&seen, text, n, 0);
    int failed = buf_failed(&seen);
    while (!failed && text[at] && text[at] == seen.data[at]) at++;
    buf_free(&seen);
    if (failed) return siren_fail_memory(err, what, n);
    if (at == n) return SIREN_OK;
    return siren_fail(err, SIREN_EINVAL,
                      "%s: found a newline, another control character or no UTF-8 at byte %zu, "
                      "expected a text of one line",
                      what, at);
}

int64_t store_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void *strings_room(struct strings *s, size_t bytes)
{
    if (bytes > SIZE_MAX / 2) return NULL;
    bytes = (bytes + sizeof(void *) - 1) / sizeof(void *) * sizeof(void *);
    if (!s->n_blocks || bytes > s->size - s->used) {
        size_t size = bytes > 1 << 16 ? bytes : 1 << 16;
        if (alloc_grow(&s->block, &s->capacity, s->n_blocks + 1, sizeof *s->block)) return NULL;
        char *block = malloc(size);
        if (!block) return NULL;
        s->block[s->n_blocks++] = block;
        s->used = 0;
        s->size = size;
    }
    void *room = s->block[s->n_blocks - 1] + s->used;
    s->used += bytes;
    return room;
}

char *strings_add(struct strings *s, const char *text, size_t length)
{
    char *copy = length < SIZE_MAX ? strings_room(s, length + 1) : NULL;
    if (!copy) return NULL;
    if (length) memcpy(copy, text, length);
    copy[length] = 0;
    return copy;
}

void strings_free(struct strings *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n_blocks; i++) free(s->block[i]);
    free(s->block);
    *s = (struct strings){0};
}
