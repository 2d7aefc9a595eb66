#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/process.h"
#include "store/store.h"

static const char *const statuses[] = {"running", "done", "failed", "stopped"};

const char *siren_run_status_name(int status)
{
    return status >= 0 && status < 4 ? statuses[status] : "?";
}

static int parse_status(const char *text)
{
    for (int i = 0; text && i < 4; i++)
        if (!strcmp(text, statuses[i])) return i;
    return SIREN_RUN_FAILED;
}

int siren_run_name_check(const char *name, struct siren_error *err)
{
    size_t n = strlen(name);
    if (n > SIREN_RUN_NAME)
        return siren_fail(err, SIREN_EINVAL, "a run's name: found %zu bytes, expected at most %d",
                          n, SIREN_RUN_NAME);
    return store_check_line("a run's name", name, err);
}

int siren_run_start(struct siren_workspace *ws, struct siren_run *run, struct siren_error *err)
{
    sqlite3_stmt *q;
    char process[PROCESS_NAME];
    int code = run->name ? siren_run_name_check(run->name, err) : SIREN_OK;
    if (code) return code;
    code = store_prepare(ws, &q,
                         "INSERT INTO runs(kind, name, status, started, command, settings,"
                         " model, seed, split, process)"
                         " VALUES (?, ?, 'running', ?, ?, ?, ?, ?, ?, ?)",
                         err);
    if (code) return code;
    run->started = store_now();
    run->finished = SIREN_NO_TIME;
    run->status = SIREN_RUN_RUNNING;
    store_bind_text(q, 1, run->kind);
    store_bind_text(q, 2, run->name);
    sqlite3_bind_int64(q, 3, run->started);
    store_bind_text(q, 4, run->command);
    store_bind_text(q, 5, run->settings ? run->settings : "{}");
    store_bind_text(q, 6, run->model);
    sqlite3_bind_int64(q, 7, (int64_t)run->seed);
    store_bind_text(q, 8, run->split);
    process_name(process);
    store_bind_text(q, 9, process);
    code = store_run(ws, q, "start a run", err);
    if (!code) run->id = sqlite3_last_insert_rowid(ws->db);
    sqlite3_finalize(q);
    return code;
}

static int no_run(struct siren_workspace *ws, int64_t id, struct siren_error *err)
{
    return siren_fail(err, SIREN_ENOTFOUND, "%s: no run %lld (`siren runs` lists them)", ws->path,
                      (long long)id);
}

int store_run_exists(struct siren_workspace *ws, int64_t id, struct siren_error *err)
{
    char sql[60];
    int64_t found;
    sqlite3_snprintf(sizeof sql, sql, "SELECT 1 FROM runs WHERE id = %lld", (long long)id);
    int code = store_integer(ws, sql, 0, &found, err);
    return code || found ? code : no_run(ws, id, err);
}

/* The process that a run was last said to be of; "": none, or there is no such run. */
static int process_of(struct siren_workspace *ws, int64_t id, char name[PROCESS_NAME],
                      struct siren_error *err)
{
    sqlite3_stmt *q;
    *name = 0;
    int code = store_prepare(ws, &q, "SELECT process FROM runs WHERE id = ?", err);
    if (code) return code;
    sqlite3_bind_int64(q, 1, id);
    code = store_step(ws, q, "read a run", err);
    const char *text = code == 1 ? (const char *)sqlite3_column_text(q, 0) : NULL;
    if (text) snprintf(name, PROCESS_NAME, "%s", text);
    sqlite3_finalize(q);
    return code < 0 ? code : SIREN_OK;
}

/* Of a run that goes on: ours, unless the one that it had still runs, which then has not let go. */
static int running_process(struct siren_workspace *ws, int64_t id, char name[PROCESS_NAME],
                           struct siren_error *err)
{
    int code = process_of(ws, id, name, err);
    if (!code && process_state(name) != PROCESS_RUNS) process_name(name);
    return code;
}

int siren_run_finish(struct siren_workspace *ws, int64_t id, int status, const char *metrics,
                     const char *message, struct siren_error *err)
{
    sqlite3_stmt *q;
    char process[PROCESS_NAME] = "";
    if (status < 0 || status > 3) return siren_fail(err, SIREN_EINVAL, "run status %d", status);
    int code = status == SIREN_RUN_RUNNING ? running_process(ws, id, process, err) : SIREN_OK;
    if (code) return code;
    code = store_prepare(ws, &q,
                         "UPDATE runs SET status = ?, finished = ?,"
                         " metrics = coalesce(?, metrics), message = ?, process = ?"
                         " WHERE id = ?",
                         err);
    if (code) return code;
    store_bind_text(q, 1, statuses[status]);
    if (status == SIREN_RUN_RUNNING)
        sqlite3_bind_null(q, 2);
    else
        sqlite3_bind_int64(q, 2, store_now());
    if (metrics) store_bind_text(q, 3, metrics);
    store_bind_text(q, 4, message);
    store_bind_text(q, 5, process);
    sqlite3_bind_int64(q, 6, id);
    code = store_run(ws, q, "finish a run", err);
    if (!code && sqlite3_changes(ws->db) == 0) code = no_run(ws, id, err);
    sqlite3_finalize(q);
    return code;
}

static int set_text(struct siren_workspace *ws, int64_t id, const char *sql, const char *text,
                    const char *what, struct siren_error *err)
{
    sqlite3_stmt *q;
    int code = store_prepare(ws, &q, sql, err);
    if (code) return code;
    store_bind_text(q, 1, text);
    sqlite3_bind_int64(q, 2, id);
    code = store_run(ws, q, what, err);
    if (!code && sqlite3_changes(ws->db) == 0) code = no_run(ws, id, err);
    sqlite3_finalize(q);
    return code;
}

int siren_run_rename(struct siren_workspace *ws, int64_t id, const char *name,
                     struct siren_error *err)
{
    int code = name ? siren_run_name_check(name, err) : SIREN_OK;
    return code ? code
                : set_text(ws, id, "UPDATE runs SET name = ? WHERE id = ?", name, "rename a run",
                           err);
}

int siren_run_set_metrics(struct siren_workspace *ws, int64_t id, const char *metrics,
                          struct siren_error *err)
{
    return set_text(ws, id, "UPDATE runs SET metrics = ? WHERE id = ?", metrics,
                    "store a run's metrics", err);
}

int siren_run_find_unfinished(struct siren_workspace *ws, const char *kind, const char *settings,
                              int64_t *id, struct siren_error *err)
{
    sqlite3_stmt *q;
    *id = 0;
    int code = store_prepare(ws, &q,
                             "SELECT max(id) FROM runs WHERE kind = ? AND settings = ?"
                             " AND status <> 'done'",
                             err);
    if (code) return code;
    store_bind_text(q, 1, kind);
    store_bind_text(q, 2, settings);
    code = store_step(ws, q, "read the runs", err);
    if (code == 1) *id = sqlite3_column_int64(q, 0); /* NULL reads as 0 */
    sqlite3_finalize(q);
    return code < 0 ? code : SIREN_OK;
}

/* ---- loading ---- */

#define RUN_COLUMNS                                                                                \
    "SELECT id, kind, name, status, started, finished, command, settings, model, seed, split,"     \
    " metrics, message, (SELECT count(*) FROM predictions WHERE run = runs.id), process FROM "     \
    "runs "

/* Of a run that says that it is running. */
static int ended_without_a_word(sqlite3_stmt *q)
{
    const char *process = (const char *)sqlite3_column_text(q, 14);
    return process && process_state(process) == PROCESS_ENDED;
}

/* The end that nobody could store. */
static const char killed[] = "its process ended without a word: killed, perhaps";

static int read_run(sqlite3_stmt *q, struct siren_run *run, struct siren_error *err)
{
    *run = (struct siren_run){
        .id = sqlite3_column_int64(q, 0),
        .kind = store_text(q, 1),
        .name = store_text(q, 2),
        .command = store_text(q, 6),
        .settings = store_text(q, 7),
        .model = store_text(q, 8),
        .split = store_text(q, 10),
        .metrics = store_text(q, 11),
        .message = store_text(q, 12),
        .seed = (uint64_t)sqlite3_column_int64(q, 9),
        .started = sqlite3_column_int64(q, 4),
        .finished = store_column_time(q, 5),
        .status = parse_status((const char *)sqlite3_column_text(q, 3)),
        .n_predictions = (size_t)sqlite3_column_int64(q, 13),
    };
    if (run->status == SIREN_RUN_RUNNING && ended_without_a_word(q)) {
        run->status = SIREN_RUN_STOPPED;
        free(run->message);
        run->message = alloc_string(killed, sizeof killed - 1);
    }
    if (run->kind && run->name && run->command && run->settings && run->model && run->split &&
        run->metrics && run->message)
        return SIREN_OK;
    siren_run_clear(run);
    return siren_fail_memory(err, "a run", 0);
}

int siren_run_load(struct siren_run *out, struct siren_workspace *ws, int64_t id,
                   struct siren_error *err)
{
    sqlite3_stmt *q;
    *out = (struct siren_run){0};
    int code = store_prepare(ws, &q, RUN_COLUMNS "WHERE id = ?", err);
    if (code) return code;
    sqlite3_bind_int64(q, 1, id);
    code = store_step(ws, q, "read a run", err);
    if (code == 1)
        code = read_run(q, out, err);
    else if (code == 0)
        code = no_run(ws, id, err);
    sqlite3_finalize(q);
    return code;
}

void siren_run_clear(struct siren_run *run)
{
    free(run->kind);
    free(run->name);
    free(run->command);
    free(run->settings);
    free(run->model);
    free(run->split);
    free(run->metrics);
    free(run->message);
    *run = (struct siren_run){0};
}

int siren_runs_load(struct siren_run **runs, size_t *n, struct siren_workspace *ws,
                    const char *kind, struct siren_error *err)
{
    sqlite3_stmt *q;
    size_t capacity = 0;
    *runs = NULL;
    *n = 0;
    int code = store_prepare(ws, &q, RUN_COLUMNS "WHERE ?1 IS NULL OR kind = ?1 ORDER BY id", err);
    if (code) return code;
    if (kind) store_bind_text(q, 1, kind);
    while ((code = store_step(ws, q, "read the runs", err)) == 1) {
        code = alloc_grow(runs, &capacity, *n + 1, sizeof **runs)
                   ? siren_fail_memory(err, "runs", *n * sizeof **runs)
                   : read_run(q, *runs + *n, err);
        if (code) break;
        ++*n;
    }
    sqlite3_finalize(q);
    if (code) {
        siren_runs_free(*runs, *n);
        *runs = NULL;
        *n = 0;
    }
    return code;
}

void siren_runs_free(struct siren_run *runs, size_t n)
{
    for (size_t i = 0; i < n; i++) siren_run_clear(runs + i);
    free(runs);
}

/* What another process works on is its own until it ends.  A run that is done has none. */
static int check_let_go(struct siren_workspace *ws, int64_t id, struct siren_error *err)
{
    char mine[PROCESS_NAME], process[PROCESS_NAME];
    int code = process_of(ws, id, process, err);
    process_name(mine);
    if (code || !strcmp(process, mine) || process_state(process) != PROCESS_RUNS) return code;
    return siren_fail(err, SIREN_EBUSY,
                      "%s: run %lld is not done: process %ld is at it; stop that first", ws->path,
                      (long long)id, process_number(process));
}

int siren_run_delete(struct siren_workspace *ws, int64_t id, struct siren_error *err)
{
    char sql[160];
    int code = siren_workspace_begin(ws, err);
    if (code) return code;
    sqlite3_snprintf(sizeof sql, sql,
                     "DELETE FROM predictions WHERE run = %lld; "
                     "DELETE FROM runs WHERE id = %lld",
                     (long long)id, (long long)id);
    code = check_let_go(ws, id, err);
    if (!code) code = store_exec(ws, sql, "delete a run", err);
    if (!code && sqlite3_changes(ws->db) == 0) code = no_run(ws, id, err);
    return siren_workspace_end(ws, code, err);
}
