#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "store/store.h"

static int read_row(struct siren_workspace *ws, sqlite3_stmt *q, struct siren_sketch_row *row,
                    struct siren_error *err)
{
    int64_t user = sqlite3_column_int64(q, 0), topic = sqlite3_column_int64(q, 1);
    if (user < 0 || user > INT32_MAX || topic < 0 || topic > INT32_MAX)
        return siren_fail(err, SIREN_EFORMAT, "%s: sketches: user %lld, topic %lld: out of range",
                          ws->path, (long long)user, (long long)topic);
    *row = (struct siren_sketch_row){
        .user = (int32_t)user,
        .topic = (int32_t)topic,
        .state = {.weight = sqlite3_column_double(q, 2),
                  .sum = sqlite3_column_double(q, 3),
                  .liked = sqlite3_column_int64(q, 4),
                  .disliked = sqlite3_column_int64(q, 5),
                  .decayed_weight = sqlite3_column_double(q, 6),
                  .decayed_sum = sqlite3_column_double(q, 7),
                  .time = store_column_time(q, 8)},
    };
    return SIREN_OK;
}

int siren_sketch_rows_load(struct siren_workspace *ws, int user, struct siren_sketch_row **rows,
                           size_t *n, struct siren_error *err)
{
    sqlite3_stmt *q;
    size_t capacity = 0;
    *rows = NULL;
    *n = 0;
    int code = store_prepare(ws, &q,
                             user < 0 ? "SELECT * FROM sketches ORDER BY user, topic"
                                      : "SELECT * FROM sketches WHERE user = ? ORDER BY topic",
                             err);
    if (code) return code;
    if (user >= 0) sqlite3_bind_int(q, 1, user);
    while ((code = store_step(ws, q, "read the sketches", err)) == 1) {
        if (alloc_grow(rows, &capacity, *n + 1, sizeof **rows)) {
            code = siren_fail_memory(err, "sketches", *n * sizeof **rows);
            break;
        }
        code = read_row(ws, q, *rows + *n, err);
        if (code) break;
        ++*n;
    }
    sqlite3_finalize(q);
    if (code) {
        free(*rows);
        *rows = NULL;
        *n = 0;
    }
    return code;
}

static void bind_row(sqlite3_stmt *q, const struct siren_sketch_row *row)
{
    sqlite3_bind_int(q, 1, row->user);
    sqlite3_bind_int(q, 2, row->topic);
    sqlite3_bind_double(q, 3, row->state.weight);
    sqlite3_bind_double(q, 4, row->state.sum);
    sqlite3_bind_int64(q, 5, row->state.liked);
    sqlite3_bind_int64(q, 6, row->state.disliked);
    sqlite3_bind_double(q, 7, row->state.decayed_weight);
    sqlite3_bind_double(q, 8, row->state.decayed_sum);
    store_bind_time(q, 9, row->state.time);
}

/* INSERT OR REPLACE would be shorter; but it may change several rows, for which SQLite keeps a
 * journal of every single statement: twice the time for the sketches of all users. */
#define PUT                                                                                        \
    "INSERT INTO sketches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(user, topic) DO UPDATE"   \
    " SET weight = excluded.weight, sum = excluded.sum, liked = excluded.liked,"                   \
    " disliked = excluded.disliked, decayed_weight = excluded.decayed_weight,"                     \
    " decayed_sum = excluded.decayed_sum, time = excluded.time"

int siren_sketch_rows_save(struct siren_workspace *ws, const struct siren_sketch_row *rows,
                           size_t n, struct siren_error *err)
{
    sqlite3_stmt *put = NULL, *drop = NULL;
    int code = siren_workspace_begin(ws, err);
    if (code) return code;
    code = store_prepare(ws, &put, PUT, err);
    if (!code)
        code = store_prepare(ws, &drop, "DELETE FROM sketches WHERE user = ? AND topic = ?", err);
    for (size_t i = 0; !code && i < n; i++) {
        sqlite3_stmt *q = rows[i].state.weight == 0 ? drop : put;
        if (q == put) {
            bind_row(q, rows + i);
        } else {
            sqlite3_bind_int(q, 1, rows[i].user);
            sqlite3_bind_int(q, 2, rows[i].topic);
        }
        code = store_run(ws, q, "write a sketch", err);
    }
    sqlite3_finalize(put);
    sqlite3_finalize(drop);
    return siren_workspace_end(ws, code, err);
}

int siren_sketch_rows_delete(struct siren_workspace *ws, int user, struct siren_error *err)
{
    sqlite3_stmt *q;
    int code = store_prepare(ws, &q, "DELETE FROM sketches WHERE ?1 < 0 OR user = ?1", err);
    if (code) return code;
    sqlite3_bind_int(q, 1, user);
    code = store_run(ws, q, "delete sketches", err);
    sqlite3_finalize(q);
    return code;
}

int siren_sketch_soft_load(struct siren_workspace *ws, int *soft, struct siren_error *err)
{
    char *text;
    int code = siren_meta_get(ws, "sketch_soft", &text, err);
    *soft = text && !strcmp(text, "1");
    free(text);
    return code;
}

int siren_sketch_soft_save(struct siren_workspace *ws, int soft, struct siren_error *err)
{
    return siren_meta_set(ws, "sketch_soft", soft ? "1" : "0", err);
}
