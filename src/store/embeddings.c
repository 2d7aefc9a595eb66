#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "store/store.h"

/* An identity is "NAME#HASH" (and the compute mode): where the encoder lies does not matter, and a
 * row under the very name comes before one under another. */
#define WITH_IDENTITY "(identity = ?1 OR (?2 <> '' AND substr(identity, -length(?2)) = ?2))"

static void bind_identity(sqlite3_stmt *q, const char *identity)
{
    const char *hash = identity ? strrchr(identity, '#') : NULL;
    sqlite3_bind_text(q, 1, identity, -1, SQLITE_STATIC);
    store_bind_text(q, 2, hash);
}

int siren_encoder_add(struct siren_workspace *ws, const char *identity, int d, int unit,
                      int *encoder, struct siren_error *err)
{
    sqlite3_stmt *find = NULL, *add = NULL;
    if (d < 1) return siren_fail(err, SIREN_EINVAL, "encoder '%.60s': %d dimensions", identity, d);
    int code = siren_workspace_begin(ws, err);
    if (code) return code;
    code = store_prepare(ws, &find,
                         "SELECT id, dimensions, unit FROM encoders WHERE " WITH_IDENTITY
                         " ORDER BY identity = ?1 DESC, used DESC, id DESC LIMIT 1",
                         err);
    if (!code) {
        bind_identity(find, identity);
        code = store_step(ws, find, "read the encoders", err);
    }
    if (code == 1) {
        *encoder = sqlite3_column_int(find, 0);
        int old_d = sqlite3_column_int(find, 1), old_unit = sqlite3_column_int(find, 2);
        code = SIREN_OK;
        if (old_d != d || old_unit != !!unit)
            code = siren_fail(err, SIREN_EEXISTS,
                              "%s: encoder '%.60s' is there with %d dimensions, unit %d (now: %d, "
                              "%d)",
                              ws->path, identity, old_d, old_unit, d, !!unit);
    } else if (code == 0) {
        code = store_prepare(ws, &add,
                             "INSERT INTO encoders(identity, dimensions, unit, used)"
                             " VALUES (?, ?, ?, 0)",
                             err);
        if (!code) {
            sqlite3_bind_text(add, 1, identity, -1, SQLITE_STATIC);
            sqlite3_bind_int(add, 2, d);
            sqlite3_bind_int(add, 3, !!unit);
            code = store_run(ws, add, "add an encoder", err);
        }
        if (!code) *encoder = (int)sqlite3_last_insert_rowid(ws->db);
    }
    sqlite3_finalize(find);
    sqlite3_finalize(add);
    return siren_workspace_end(ws, code, err);
}

static int encoder_dimensions(struct siren_workspace *ws, int encoder, int *d,
                              struct siren_error *err)
{
    char sql[100];
    int64_t value;
    sqlite3_snprintf(sizeof sql, sql, "SELECT dimensions FROM encoders WHERE id = %d", encoder);
    int code = store_integer(ws, sql, 0, &value, err);
    if (!code && (value < 1 || value > 1 << 20))
        code = siren_fail(err, SIREN_ENOTFOUND, "%s: no encoder %d", ws->path, encoder);
    *d = (int)value;
    return code;
}

int siren_embeddings_save(struct siren_workspace *ws, int encoder, const int32_t *items, size_t n,
                          const float *vectors, const uint64_t *hashes, struct siren_error *err)
{
    sqlite3_stmt *q = NULL;
    int d = 0;
    int code = siren_workspace_begin(ws, err);
    if (code) return code;
    code = encoder_dimensions(ws, encoder, &d, err);
    if (!code)
        code = store_prepare(ws, &q,
                             "INSERT OR REPLACE INTO embeddings(encoder, item, hash, vector)"
                             " SELECT ?1, ?2, ?3, ?4 WHERE ?2 IN (SELECT id FROM items)",
                             err);
    for (size_t i = 0; !code && i < n; i++) {
        sqlite3_bind_int(q, 1, encoder);
        sqlite3_bind_int(q, 2, items[i]);
        sqlite3_bind_int64(q, 3, (int64_t)hashes[i]);
        sqlite3_bind_blob(q, 4, vectors + i * (size_t)d, (int)((size_t)d * sizeof *vectors),
                          SQLITE_STATIC);
        code = store_run(ws, q, "write an embedding", err);
    }
    sqlite3_finalize(q);
    return siren_workspace_end(ws, code, err);
}

static int count_missing(struct siren_workspace *ws, int encoder, int64_t *missing,
                         struct siren_error *err)
{
    char sql[200];
    sqlite3_snprintf(sizeof sql, sql,
                     "SELECT count(*) FROM items i WHERE NOT EXISTS (SELECT 1 FROM embeddings e"
                     " WHERE e.encoder = %d AND e.item = i.id AND e.hash = i.hash)",
                     encoder);
    return store_integer(ws, sql, 0, missing, err);
}

/* Later than all others, whatever the clock says. */
static int use_encoder(struct siren_workspace *ws, int encoder, struct siren_error *err)
{
    sqlite3_stmt *q;
    int code = store_prepare(ws, &q,
                             "UPDATE encoders SET used = max(?1, 1 + (SELECT max(used) FROM"
                             " encoders)) WHERE id = ?2",
                             err);
    if (code) return code;
    sqlite3_bind_int64(q, 1, store_now());
    sqlite3_bind_int(q, 2, encoder);
    code = store_run(ws, q, "write an encoder", err);
    sqlite3_finalize(q);
    return code;
}

int siren_encoder_finish(struct siren_workspace *ws, int encoder, int64_t *missing,
                         struct siren_error *err)
{
    int d;
    *missing = 0;
    int code = siren_workspace_begin(ws, err);
    if (code) return code;
    code = encoder_dimensions(ws, encoder, &d, err);
    if (!code) code = count_missing(ws, encoder, missing, err);
    if (!code && !*missing) code = use_encoder(ws, encoder, err);
    return siren_workspace_end(ws, code, err);
}

/* ---- loading ---- */

static int no_encoder(struct siren_workspace *ws, const char *identity, struct siren_error *err)
{
    int64_t unfinished;
    int code = store_integer(ws, "SELECT count(*) FROM encoders", 0, &unfinished, err);
    if (code) return code;
    if (identity)
        return siren_fail(err, SIREN_ENOTFOUND,
                          "%s: no embeddings of encoder %.100s (`siren embed` makes them)",
                          ws->path, identity);
    return siren_fail(err, SIREN_ENOTFOUND, "%s: no embeddings%s (`siren embed` makes them)",
                      ws->path, unfinished ? " of all items yet" : "");
}

static int load_encoder(struct siren_embeddings *out, struct siren_workspace *ws,
                        const char *identity, struct siren_error *err)
{
    sqlite3_stmt *q;
    int code = store_prepare(ws, &q,
                             "SELECT id, identity, dimensions, unit FROM encoders"
                             " WHERE iif(?1 IS NULL, used > 0 AND id IN (SELECT encoder FROM"
                             " embeddings), " WITH_IDENTITY ")"
                             " ORDER BY identity = ?1 DESC, used DESC, id DESC LIMIT 1",
                             err);
    if (code) return code;
    bind_identity(q, identity);
    code = store_step(ws, q, "read the encoders", err);
    if (code == 1) {
        const char *name = (const char *)sqlite3_column_text(q, 1);
        out->encoder = sqlite3_column_int(q, 0);
        sqlite3_snprintf(sizeof out->identity, out->identity, "%s", name ? name : "");
        out->d = sqlite3_column_int(q, 2);
        out->unit = sqlite3_column_int(q, 3);
        code = SIREN_OK;
        if (out->d < 1 || out->d > 1 << 20)
            code =
                siren_fail(err, SIREN_EFORMAT, "%s: encoder with %d dimensions", ws->path, out->d);
    } else if (code == 0) {
        code = no_encoder(ws, identity, err);
    }
    sqlite3_finalize(q);
    return code;
}

static int load_vectors(struct siren_embeddings *out, struct siren_workspace *ws,
                        struct siren_error *err)
{
    sqlite3_stmt *q;
    size_t bytes = (size_t)out->d * sizeof *out->vector;
    int code = store_prepare(ws, &q,
                             "SELECT e.item, e.vector, e.hash = i.hash FROM embeddings e"
                             " JOIN items i ON i.id = e.item WHERE e.encoder = ?",
                             err);
    if (code) return code;
    sqlite3_bind_int(q, 1, out->encoder);
    while ((code = store_step(ws, q, "read the embeddings", err)) == 1) {
        int64_t item = sqlite3_column_int64(q, 0);
        const void *blob = sqlite3_column_blob(q, 1);
        int size = sqlite3_column_bytes(q, 1);
        if (item < 0 || item >= out->n || !blob || (size_t)size != bytes) {
            code =
                siren_fail(err, SIREN_EFORMAT, "%s: embedding of item %lld: %d bytes, expected %zu",
                           ws->path, (long long)item, size, bytes);
            break;
        }
        if (!sqlite3_column_int(q, 2)) continue;
        memcpy(out->vector + (size_t)item * (size_t)out->d, blob, bytes);
        out->has[item] = 1;
    }
    sqlite3_finalize(q);
    return code;
}

int siren_embeddings_load(struct siren_embeddings *out, struct siren_workspace *ws,
                          const char *identity, struct siren_error *err)
{
    *out = (struct siren_embeddings){0};
    int64_t items = 0;
    int code = siren_workspace_begin_read(ws, err);
    if (code) return code;
    code = load_encoder(out, ws, identity, err);
    if (!code) code = store_integer(ws, "SELECT max(id) + 1 FROM items", 0, &items, err);
    if (!code && (items < 0 || items > INT32_MAX))
        code =
            siren_fail(err, SIREN_EFORMAT, "%s: items.id up to %lld", ws->path, (long long)items);
    if (!code) {
        out->n = (int)items;
        out->vector = alloc_zeroed((size_t)items, (size_t)out->d * sizeof *out->vector);
        out->has = alloc_zeroed((size_t)items, 1);
        if (!out->vector || !out->has)
            code = siren_fail_memory(err, "embeddings", 4ull * (unsigned)out->n * (unsigned)out->d);
    }
    if (!code) code = load_vectors(out, ws, err);
    code = siren_workspace_end(ws, code, err);
    if (code) siren_embeddings_clear(out);
    return code;
}

void siren_embeddings_clear(struct siren_embeddings *e)
{
    free(e->vector);
    free(e->has);
    *e = (struct siren_embeddings){0};
}
