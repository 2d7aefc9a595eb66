#include "recs/ratings.h"
#include "store/store.h"

static int load_sizes(struct siren_ratings *r, struct siren_workspace *ws, struct siren_error *err)
{
    struct siren_meta meta;
    int64_t users = 0, items = 0, n = 0, folds = 0;
    int code = siren_meta_load(&meta, ws, err);
    if (!code) code = store_integer(ws, "SELECT max(id) + 1 FROM users", 0, &users, err);
    if (!code) code = store_integer(ws, "SELECT max(id) + 1 FROM items", 0, &items, err);
    if (!code) code = store_integer(ws, "SELECT count(*) FROM ratings", 0, &n, err);
    if (!code)
        code = store_integer(ws, "SELECT folds FROM splits WHERE kind = 'folds'", 0, &folds, err);
    if (code) return code;
    if (users < 0 || users > INT32_MAX || items < 0 || items > INT32_MAX || folds < 0 ||
        folds > 254)
        return siren_fail(err, SIREN_EFORMAT, "%s: ids up to %lld (users), %lld (items)", ws->path,
                          (long long)users, (long long)items);
    r->n_users = (int)users;
    r->n_items = (int)items;
    r->n = (size_t)n;
    r->n_folds = (int)folds;
    r->current_fold = -1;
    r->scale = meta.scale;
    r->protocol = meta.protocol;
    return ratings_allocate(r, err);
}

static int bad_row(struct siren_workspace *ws, int64_t user, int64_t item, const char *what,
                   struct siren_error *err)
{
    return siren_fail(err, SIREN_EFORMAT, "%s: ratings of user %lld, item %lld: %s", ws->path,
                      (long long)user, (long long)item, what);
}

/* Rows come by user; within a user each goes where its sequence says. */
static int load_rows(struct siren_ratings *r, struct siren_workspace *ws, sqlite3_stmt *q,
                     struct siren_error *err)
{
    size_t read = 0, start = 0;
    int64_t current = -1;
    int code;
    while ((code = store_step(ws, q, "read the ratings", err)) == 1) {
        int64_t user = sqlite3_column_int64(q, 0), item = sqlite3_column_int64(q, 1);
        int64_t sequence = sqlite3_column_int64(q, 4);
        if (user < 0 || user >= r->n_users || item < 0 || item >= r->n_items)
            return bad_row(ws, user, item, "no such user or item", err);
        if (user != current) start = read;
        current = user;
        if (sequence < 0 || (uint64_t)sequence >= r->n - start)
            return bad_row(ws, user, item, "sequence out of order", err);
        size_t at = start + (size_t)sequence;
        if (r->sequence[at] >= 0) return bad_row(ws, user, item, "sequence given twice", err);
        r->user[at] = (int32_t)user;
        r->item[at] = (int32_t)item;
        r->rating[at] = (float)sqlite3_column_double(q, 2);
        r->time[at] = store_column_time(q, 3);
        r->sequence[at] = (int32_t)sequence;
        r->label[at] = (uint8_t)sqlite3_column_int(q, 5);
        if (sqlite3_column_type(q, 6) != SQLITE_NULL)
            r->fold[at] = (uint8_t)sqlite3_column_int(q, 6);
        r->user_start[user + 1]++;
        read++;
    }
    return code;
}

static int check_rows(struct siren_ratings *r, struct siren_workspace *ws, struct siren_error *err)
{
    for (int u = 0; u < r->n_users; u++) r->user_start[u + 1] += r->user_start[u];
    for (size_t i = 0; i < r->n; i++)
        if (r->sequence[i] < 0 || i - r->user_start[r->user[i]] != (size_t)r->sequence[i])
            return siren_fail(err, SIREN_EFORMAT,
                              "%s: ratings: a user's sequence is not 0, 1, 2, …", ws->path);
    return SIREN_OK;
}

int siren_ratings_load(struct siren_ratings *out, struct siren_workspace *ws,
                       struct siren_error *err)
{
    *out = (struct siren_ratings){0};
    sqlite3_stmt *q = NULL;
    int code = siren_workspace_begin_read(ws, err);
    if (code) return code;
    code = load_sizes(out, ws, err);
    if (!code)
        code = store_prepare(ws, &q,
                             "SELECT user, item, rating, time, sequence, label, fold FROM ratings"
                             " ORDER BY user, item",
                             err);
    if (!code) code = load_rows(out, ws, q, err);
    if (!code) code = check_rows(out, ws, err);
    sqlite3_finalize(q);
    code = siren_workspace_end(ws, code, err);
    if (code) siren_ratings_clear(out);
    return code;
}

/* ---- splits ---- */

int store_split(struct siren_workspace *ws, const char *kind, const char *name, int n_folds,
                const char *settings, struct siren_error *err)
{
    sqlite3_stmt *q;
    int code = store_prepare(ws, &q, "INSERT OR REPLACE INTO splits VALUES (?, ?, ?, ?)", err);
    if (code) return code;
    sqlite3_bind_text(q, 1, kind, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 2, name, -1, SQLITE_STATIC);
    sqlite3_bind_int(q, 3, n_folds);
    sqlite3_bind_text(q, 4, settings ? settings : "{}", -1, SQLITE_STATIC);
    code = store_run(ws, q, "write a split", err);
    sqlite3_finalize(q);
    return code;
}

int siren_split_save(struct siren_workspace *ws, const struct siren_ratings *r, int folds,
                     const char *name, const char *settings, struct siren_error *err)
{
    sqlite3_stmt *q = NULL;
    int code = siren_workspace_begin(ws, err);
    if (code) return code;
    code = store_split(ws, folds ? "folds" : "labels", name, folds ? r->n_folds : 0, settings, err);
    if (!code)
        code = store_prepare(ws, &q,
                             folds ? "UPDATE ratings SET fold = ? WHERE user = ? AND item = ?"
                                   : "UPDATE ratings SET label = ? WHERE user = ? AND item = ?",
                             err);
    for (size_t i = 0; !code && i < r->n; i++) {
        int value = folds ? r->fold[i] : r->label[i];
        if (folds && value == 255)
            sqlite3_bind_null(q, 1);
        else
            sqlite3_bind_int(q, 1, value);
        sqlite3_bind_int(q, 2, r->user[i]);
        sqlite3_bind_int(q, 3, r->item[i]);
        code = store_run(ws, q, "write a split", err);
    }
    sqlite3_finalize(q);
    return siren_workspace_end(ws, code, err);
}
