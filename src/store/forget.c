/* Erasing a person: rows, mentions in the runs' settings, and bytes. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/buf.h"
#include "store/store.h"

#define REDACTED "(forgotten)"

static int delete_from(struct siren_workspace *ws, const char *table, int user, size_t *rows,
                       struct siren_error *err)
{
    sqlite3_stmt *q = NULL;
    char *sql = sqlite3_mprintf("DELETE FROM \"%w\" WHERE user = %d", table, user);
    int code = sql ? store_prepare(ws, &q, sql, err) : siren_fail_memory(err, "a query", 0);
    if (!code) code = store_run(ws, q, "erase a user", err);
    if (!code) *rows += (size_t)sqlite3_changes(ws->db);
    sqlite3_finalize(q);
    sqlite3_free(sql);
    return code;
}

static int delete_everywhere(struct siren_workspace *ws, int user, size_t *rows,
                             struct siren_error *err)
{
    sqlite3_stmt *q;
    int code = store_prepare(ws, &q,
                             "SELECT s.name FROM sqlite_schema s, pragma_table_info(s.name) c"
                             " WHERE s.type = 'table' AND c.name = 'user'",
                             err);
    if (code) return code;
    while ((code = store_step(ws, q, "list the tables", err)) == 1) {
        code = delete_from(ws, (const char *)sqlite3_column_text(q, 0), user, rows, err);
        if (code) break;
    }
    sqlite3_finalize(q);
    return code;
}

/* ---- mentions ---- */

/* `text` with each word that is the external id replaced; words end at white space, quotes, = and
 * commas.  *changed counts. */
static char *redact_words(const char *text, const char *external, int *changed)
{
    struct buf b = {0};
    size_t length = strlen(external);
    int at_start = 1;
    while (*text) {
        int ends = 0;
        if (at_start && !strncmp(text, external, length))
            ends = !text[length] || strchr(" \t\n'\"=,", text[length]);
        if (ends) {
            buf_puts(&b, REDACTED);
            text += length;
            ++*changed;
            at_start = 0;
            continue;
        }
        at_start = strchr(" \t\n'\"=,", *text) != NULL;
        buf_putc(&b, *text++);
    }
    return buf_take(&b);
}

static json_t *redact_json(json_t *value, const char *external, int *changed)
{
    const char *key;
    size_t index;
    json_t *entry;
    if (json_is_string(value) && !strcmp(json_string_value(value), external)) {
        ++*changed;
        return json_string(REDACTED);
    }
    if (json_is_object(value)) {
        json_t *copy = json_object();
        json_object_foreach(value, key, entry)
        {
            int is_user = !strcmp(key, external);
            *changed += is_user;
            json_object_set_new(copy, is_user ? REDACTED : key,
                                redact_json(entry, external, changed));
        }
        return copy;
    }
    if (json_is_array(value)) {
        json_t *copy = json_array();
        json_array_foreach(value, index, entry)
        {
            json_array_append_new(copy, redact_json(entry, external, changed));
        }
        return copy;
    }
    return json_incref(value);
}

/* What is no JSON is treated as words. */
static char *redact_settings(const char *text, const char *external, int *changed)
{
    json_t *value = json_loads(text, 0, NULL);
    if (!value) return redact_words(text, external, changed);
    int found = 0;
    json_t *clean = redact_json(value, external, &found);
    char *out = found ? json_dumps(clean, JSON_COMPACT) : strdup(text);
    *changed += found;
    json_decref(value);
    json_decref(clean);
    return out;
}

static const char *const run_columns[] = {"name", "command", "message", "settings", "metrics"};
enum { N_WORDS = 3, N_COLUMNS = 5 };

static int redact_run(struct siren_workspace *ws, sqlite3_stmt *read, sqlite3_stmt *write,
                      const char *external, struct siren_error *err)
{
    char *text[N_COLUMNS] = {0};
    int changed = 0, code = SIREN_OK;
    for (int i = 0; i < N_COLUMNS; i++) {
        const char *old = (const char *)sqlite3_column_text(read, i + 1);
        text[i] = i < N_WORDS ? redact_words(old ? old : "", external, &changed)
                              : redact_settings(old ? old : "", external, &changed);
        if (!text[i]) code = siren_fail_memory(err, "a run", 0);
    }
    if (!code && changed) {
        for (int i = 0; i < N_COLUMNS; i++)
            sqlite3_bind_text(write, i + 1, text[i], -1, SQLITE_STATIC);
        sqlite3_bind_int64(write, N_COLUMNS + 1, sqlite3_column_int64(read, 0));
        code = store_run(ws, write, "erase a user", err);
    }
    for (int i = 0; i < N_COLUMNS; i++) free(text[i]);
    return code;
}

static int redact_runs(struct siren_workspace *ws, const char *external, struct siren_error *err)
{
    sqlite3_stmt *read = NULL, *write = NULL;
    struct buf select = {0}, update = {0};
    buf_puts(&select, "SELECT id");
    buf_puts(&update, "UPDATE runs SET ");
    for (int i = 0; i < N_COLUMNS; i++) {
        buf_printf(&select, ", %s", run_columns[i]);
        buf_printf(&update, "%s%s = ?", i ? ", " : "", run_columns[i]);
    }
    buf_puts(&select, " FROM runs");
    buf_puts(&update, " WHERE id = ?");
    int code = store_prepare(ws, &read, buf_text(&select), err);
    if (!code) code = store_prepare(ws, &write, buf_text(&update), err);
    while (!code && (code = store_step(ws, read, "read the runs", err)) == 1)
        code = redact_run(ws, read, write, external, err);
    sqlite3_finalize(read);
    sqlite3_finalize(write);
    buf_free(&select);
    buf_free(&update);
    return code;
}

/* ---- bytes ---- */

/* Deleted rows survive in free pages and in the log until the file is rewritten and the log
 * emptied; a reader may still need the old pages. */
static int erase_bytes(struct siren_workspace *ws, struct siren_error *err)
{
    int code = store_exec(ws, "VACUUM", "rewrite the file", err);
    if (code) return code;
    int left = 0;
    if (sqlite3_wal_checkpoint_v2(ws->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, &left, NULL) ==
        SQLITE_OK)
        return SIREN_OK;
    if (sqlite3_errcode(ws->db) != SQLITE_BUSY)
        return siren_workspace_fail(ws, "empty the log", err);
    return siren_fail(
        err, SIREN_EBUSY,
        "%s: the user is erased, but a reader still holds the old pages; run it again "
        "when no other process has the workspace open",
        ws->path);
}

static int delete_user(struct siren_workspace *ws, const char *external, size_t *rows,
                       struct siren_error *err)
{
    int user;
    char sql[60];
    int code = siren_user_find(ws, external, &user, err);
    if (!code) code = delete_everywhere(ws, user, rows, err);
    sqlite3_snprintf(sizeof sql, sql, "DELETE FROM users WHERE id = %d", code ? -1 : user);
    if (!code) code = store_exec(ws, sql, "erase a user", err);
    if (!code) ++*rows;
    if (!code) code = redact_runs(ws, external, err);
    return code;
}

/* Kept in meta from the deletion until the bytes are gone, so that a later call ends what a
 * reader or a crash put off. */
#define PENDING "erase_pending"

static int finish_pending(struct siren_workspace *ws, struct siren_error *err)
{
    char *pending;
    int code = siren_meta_get(ws, PENDING, &pending, err);
    if (!code && pending) code = erase_bytes(ws, err);
    if (!code && pending)
        code = store_exec(ws, "DELETE FROM meta WHERE key = '" PENDING "'", "erase a user", err);
    free(pending);
    return code;
}

int siren_forget(struct siren_workspace *ws, const char *external, size_t *rows,
                 struct siren_error *err)
{
    size_t ignored;
    if (!rows) rows = &ignored;
    *rows = 0;
    if (ws->depth)
        return siren_fail(err, SIREN_EINVAL, "%s: forget inside a transaction", ws->path);
    int code = siren_workspace_begin(ws, err);
    if (code) return code;
    code = delete_user(ws, external, rows, err);
    if (!code) code = siren_meta_set(ws, PENDING, "1", err);
    code = store_end(ws, code, err);
    struct siren_error pending = {0};
    int left = code && code != SIREN_ENOTFOUND ? SIREN_OK : finish_pending(ws, &pending);
    if (left) return siren_fail(err, left, "%s", pending.message);
    return code;
}
