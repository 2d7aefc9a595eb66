/* Erasing a person: rows, mentions in the runs and the import's report, and bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "store/store.h"

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

/* The columns of a run that may name a person. */
static const struct {
    const char *column;
    char *(*redact)(const char *text, const char *external, int *changed);
} mentions[] = {{"name", redact_text},
                {"command", redact_command},
                {"message", redact_text},
                {"settings", redact_json},
                {"metrics", redact_json}};
enum { N_MENTIONS = sizeof mentions / sizeof *mentions };

static int redact_run(struct siren_workspace *ws, sqlite3_stmt *read, sqlite3_stmt *write,
                      const char *external, struct siren_error *err)
{
    char *text[N_MENTIONS] = {0};
    int changed = 0, code = SIREN_OK;
    for (int i = 0; i < N_MENTIONS; i++) {
        const char *old = (const char *)sqlite3_column_text(read, i + 1);
        text[i] = mentions[i].redact(old ? old : "", external, &changed);
        if (!text[i]) code = siren_fail_memory(err, "a run", 0);
    }
    if (!code && changed) {
        for (int i = 0; i < N_MENTIONS; i++)
            sqlite3_bind_text(write, i + 1, text[i], -1, SQLITE_STATIC);
        sqlite3_bind_int64(write, N_MENTIONS + 1, sqlite3_column_int64(read, 0));
        code = store_run(ws, write, "erase a user", err);
    }
    for (int i = 0; i < N_MENTIONS; i++) free(text[i]);
    return code;
}

static int redact_runs(struct siren_workspace *ws, const char *external, struct siren_error *err)
{
    sqlite3_stmt *read = NULL, *write = NULL;
    struct buf select = {0}, update = {0};
    buf_puts(&select, "SELECT id");
    buf_puts(&update, "UPDATE runs SET ");
    for (int i = 0; i < N_MENTIONS; i++) {
        buf_printf(&select, ", %s", mentions[i].column);
        buf_printf(&update, "%s%s = ?", i ? ", " : "", mentions[i].column);
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

/* The report of the import keeps messages of the lines that it left out. */
static int redact_import(struct siren_workspace *ws, const char *external, struct siren_error *err)
{
    char *report, *clean = NULL;
    int changed = 0;
    int code = siren_meta_get(ws, "import", &report, err);
    if (!code && report) {
        clean = redact_report(report, external, &changed);
        if (!clean) code = siren_fail_memory(err, "the import's report", strlen(report));
    }
    if (!code && changed) code = siren_meta_set(ws, "import", clean, err);
    free(report);
    free(clean);
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
    return siren_fail(err, SIREN_EBUSY, "%s: another process reads it and holds its old pages",
                      ws->path);
}

/* A process that works for long may still write of the user: the id is nobody else's. */
static int retire_id(struct siren_workspace *ws, struct siren_error *err)
{
    char text[24];
    int64_t next;
    int code = store_next_user(ws, &next, err);
    sqlite3_snprintf(sizeof text, text, "%lld", (long long)next);
    return code ? code : siren_meta_set(ws, STORE_NEXT_USER, text, err);
}

/* Metrics tell of the rows that they were computed from, of a single row even its rating. */
static int clear_metrics(struct siren_workspace *ws, int user, struct siren_error *err)
{
    char sql[160];
    sqlite3_snprintf(sizeof sql, sql,
                     "UPDATE runs SET metrics = '' WHERE id IN"
                     " (SELECT run FROM predictions WHERE user = %d)",
                     user);
    return store_exec(ws, sql, "erase a user", err);
}

static int delete_user(struct siren_workspace *ws, const char *external, size_t *rows,
                       struct siren_error *err)
{
    int user;
    char sql[60];
    int code = siren_user_find(ws, external, &user, err);
    if (!code) code = retire_id(ws, err);
    /* other programs' tables may refer to each other: their order does not matter */
    if (!code) code = store_exec(ws, "PRAGMA defer_foreign_keys = 1", "erase a user", err);
    if (!code) code = clear_metrics(ws, user, err);
    if (!code) code = delete_everywhere(ws, user, rows, err);
    sqlite3_snprintf(sizeof sql, sql, "DELETE FROM users WHERE id = %d", code ? -1 : user);
    if (!code) code = store_exec(ws, sql, "erase a user", err);
    if (!code) ++*rows;
    if (!code) code = redact_runs(ws, external, err);
    if (!code) code = redact_import(ws, external, err);
    return code;
}

/* Kept in meta from the deletion until the bytes are gone, so that a later call ends what a
 * reader or a crash put off. */
#define PENDING "erase_pending"

/* *was: there was something to end. */
static int finish_pending(struct siren_workspace *ws, int *was, struct siren_error *err)
{
    char *pending;
    int code = siren_meta_get(ws, PENDING, &pending, err);
    *was = pending != NULL;
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
    code = siren_workspace_end(ws, code, err);
    if (code && code != SIREN_ENOTFOUND) return code;
    struct siren_error late = {0};
    int was, left = finish_pending(ws, &was, &late);
    if (left) {
        if (err) *err = late;
        return siren_fail_prefix(err, left,
                                 "the user's rows are erased, but not yet the bytes in the file, "
                                 "for which it must run again");
    }
    if (code && was)
        siren_fail_prefix(err, code, "what was erased before is gone from the file's bytes now");
    return code;
}
