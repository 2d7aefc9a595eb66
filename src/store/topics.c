#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/alloc.h"
#include "store/store.h"

static const char *const sources[] = {"none", "llm", "tfidf", "hand"};

static int parse_source(const char *text)
{
    for (int i = 0; text && i < 4; i++)
        if (!strcmp(text, sources[i])) return i;
    return SIREN_NAME_NONE;
}

int siren_topics_create(struct siren_topics *out, int k, int d, int n, struct siren_error *err)
{
    *out = (struct siren_topics){.k = k, .d = d, .n = n};
    if (k < 1 || d < 1 || n < 0)
        return siren_fail(err, SIREN_EINVAL, "%d topics of %d dimensions over %d items", k, d, n);
    out->centre = alloc_zeroed((size_t)k, (size_t)d * sizeof *out->centre);
    out->name = alloc_zeroed((size_t)k, sizeof *out->name);
    out->name_source = alloc_zeroed((size_t)k, 1);
    out->topic = alloc_array((size_t)n, sizeof *out->topic);
    out->distance = alloc_zeroed((size_t)n, sizeof *out->distance);
    out->second = alloc_array((size_t)n, sizeof *out->second);
    out->second_distance = alloc_zeroed((size_t)n, sizeof *out->second_distance);
    if (!out->centre || !out->name || !out->name_source || !out->topic || !out->distance ||
        !out->second || !out->second_distance) {
        siren_topics_clear(out);
        return siren_fail_memory(err, "topics", 4ull * (unsigned)k * (unsigned)d);
    }
    for (int i = 0; i < n; i++) out->topic[i] = out->second[i] = -1;
    return SIREN_OK;
}

void siren_topics_clear(struct siren_topics *t)
{
    for (int i = 0; t->name && i < t->k; i++) free(t->name[i]);
    free(t->settings);
    free(t->centre);
    free(t->name);
    free(t->name_source);
    free(t->topic);
    free(t->distance);
    free(t->second);
    free(t->second_distance);
    *t = (struct siren_topics){0};
}

/* ---- loading ---- */

static int load_clustering(struct siren_topics *out, struct siren_workspace *ws,
                           struct siren_error *err)
{
    sqlite3_stmt *q;
    int64_t items = 0;
    int code = store_integer(ws, "SELECT max(id) + 1 FROM items", 0, &items, err);
    if (code) return code;
    code = store_prepare(ws, &q,
                         "SELECT encoder, topics, dimensions, spherical, inertia, settings"
                         " FROM clustering",
                         err);
    if (code) return code;
    code = store_step(ws, q, "read the topics", err);
    if (code == 0)
        code = siren_fail(err, SIREN_ENOTFOUND, "%s: no topics yet (`siren topics` makes them)",
                          ws->path);
    if (code == 1) {
        int64_t k = sqlite3_column_int64(q, 1), d = sqlite3_column_int64(q, 2);
        if (k > 1 << 20 || d > 1 << 20 || items > INT32_MAX)
            code = siren_fail(err, SIREN_EFORMAT, "%s: %lld topics of %lld dimensions", ws->path,
                              (long long)k, (long long)d);
        else
            code = siren_topics_create(out, (int)k, (int)d, (int)items, err);
    }
    if (!code) {
        const char *encoder = (const char *)sqlite3_column_text(q, 0);
        sqlite3_snprintf(sizeof out->encoder, out->encoder, "%s", encoder ? encoder : "");
        out->spherical = sqlite3_column_int(q, 3);
        out->inertia = sqlite3_column_double(q, 4);
        out->settings = store_text(q, 5);
        if (!out->settings) code = siren_fail_memory(err, "topics", 0);
    }
    sqlite3_finalize(q);
    return code;
}

static int load_centres(struct siren_topics *out, struct siren_workspace *ws,
                        struct siren_error *err)
{
    sqlite3_stmt *q;
    int seen = 0;
    size_t bytes = (size_t)out->d * sizeof *out->centre;
    int code =
        store_prepare(ws, &q, "SELECT id, name, name_source, centre FROM topics ORDER BY id", err);
    if (code) return code;
    while ((code = store_step(ws, q, "read the topics", err)) == 1) {
        const void *blob = sqlite3_column_blob(q, 3);
        if (seen >= out->k || sqlite3_column_int64(q, 0) != seen || !blob ||
            (size_t)sqlite3_column_bytes(q, 3) != bytes) {
            code = siren_fail(err, SIREN_EFORMAT,
                              "%s: topics.id %lld: expected %d of %d with a centre of %zu bytes",
                              ws->path, (long long)sqlite3_column_int64(q, 0), seen, out->k, bytes);
            break;
        }
        memcpy(out->centre + (size_t)seen * (size_t)out->d, blob, bytes);
        out->name_source[seen] = (uint8_t)parse_source((const char *)sqlite3_column_text(q, 2));
        if (sqlite3_column_type(q, 1) != SQLITE_NULL && !(out->name[seen] = store_text(q, 1))) {
            code = siren_fail_memory(err, "topics", 0);
            break;
        }
        seen++;
    }
    if (!code && seen != out->k)
        code = siren_fail(err, SIREN_EFORMAT, "%s: %d topics, expected %d", ws->path, seen, out->k);
    sqlite3_finalize(q);
    return code;
}

static int load_assignment(struct siren_topics *out, struct siren_workspace *ws,
                           struct siren_error *err)
{
    sqlite3_stmt *q;
    int code = store_prepare(
        ws, &q, "SELECT item, topic, distance, second, second_distance FROM item_topics", err);
    if (code) return code;
    while ((code = store_step(ws, q, "read the items' topics", err)) == 1) {
        int64_t item = sqlite3_column_int64(q, 0), topic = sqlite3_column_int64(q, 1);
        int has_second = sqlite3_column_type(q, 3) != SQLITE_NULL;
        int64_t second = has_second ? sqlite3_column_int64(q, 3) : -1;
        if (item < 0 || item >= out->n || topic < 0 || topic >= out->k || second < -1 ||
            second >= out->k) {
            code = siren_fail(err, SIREN_EFORMAT,
                              "%s: item_topics: item %lld, topic %lld of %d: out of range",
                              ws->path, (long long)item, (long long)topic, out->k);
            break;
        }
        out->topic[item] = (int32_t)topic;
        out->distance[item] = (float)sqlite3_column_double(q, 2);
        out->second[item] = (int32_t)second;
        out->second_distance[item] = (float)sqlite3_column_double(q, 4);
    }
    sqlite3_finalize(q);
    return code;
}

int siren_topics_load(struct siren_topics *out, struct siren_workspace *ws, struct siren_error *err)
{
    *out = (struct siren_topics){0};
    int code = siren_workspace_begin_read(ws, err);
    if (code) return code;
    code = load_clustering(out, ws, err);
    if (!code) code = load_centres(out, ws, err);
    if (!code) code = load_assignment(out, ws, err);
    code = siren_workspace_end(ws, code, err);
    if (code) siren_topics_clear(out);
    return code;
}

/* ---- has it changed? ---- */

/* All columns of all rows of a query. */
static int hash_rows(struct siren_workspace *ws, const char *sql, XXH3_state_t *state,
                     struct siren_error *err)
{
    sqlite3_stmt *q;
    int code = store_prepare(ws, &q, sql, err);
    if (code) return code;
    while ((code = store_step(ws, q, "read the topics", err)) == 1)
        for (int i = 0; i < sqlite3_column_count(q); i++) {
            const void *value = sqlite3_column_blob(q, i);
            int size = value ? sqlite3_column_bytes(q, i) : -1;
            XXH3_64bits_update(state, &size, sizeof size);
            if (value) XXH3_64bits_update(state, value, (size_t)size);
        }
    sqlite3_finalize(q);
    return code;
}

int siren_topics_stamp(struct siren_workspace *ws, uint64_t *stamp, struct siren_error *err)
{
    static const char *const queries[] = {"SELECT * FROM clustering",
                                          "SELECT * FROM topics ORDER BY id",
                                          "SELECT value FROM meta WHERE key = 'import_hash'"};
    XXH3_state_t *state = XXH3_createState();
    if (!state) return siren_fail_memory(err, "a hash", 0);
    XXH3_64bits_reset(state);
    int code = siren_workspace_begin_read(ws, err);
    if (!code) {
        for (int i = 0; i < 3 && !code; i++) code = hash_rows(ws, queries[i], state, err);
        code = siren_workspace_end(ws, code, err);
    }
    *stamp = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return code;
}

/* ---- saving ---- */

static int save_clustering(struct siren_workspace *ws, const struct siren_topics *t,
                           struct siren_error *err)
{
    sqlite3_stmt *q;
    int code = store_prepare(ws, &q, "INSERT INTO clustering VALUES (1, ?, ?, ?, ?, ?, ?)", err);
    if (code) return code;
    sqlite3_bind_text(q, 1, t->encoder, -1, SQLITE_STATIC);
    sqlite3_bind_int(q, 2, t->k);
    sqlite3_bind_int(q, 3, t->d);
    sqlite3_bind_int(q, 4, !!t->spherical);
    sqlite3_bind_double(q, 5, isfinite(t->inertia) ? t->inertia : 0);
    sqlite3_bind_text(q, 6, t->settings ? t->settings : "{}", -1, SQLITE_STATIC);
    code = store_run(ws, q, "write the topics", err);
    sqlite3_finalize(q);
    return code;
}

static int save_centres(struct siren_workspace *ws, const struct siren_topics *t,
                        struct siren_error *err)
{
    sqlite3_stmt *q;
    int code = store_prepare(
        ws, &q, "INSERT INTO topics(id, name, name_source, centre) VALUES (?, ?, ?, ?)", err);
    for (int i = 0; !code && i < t->k; i++) {
        int source = t->name[i] ? t->name_source[i] : SIREN_NAME_NONE;
        sqlite3_bind_int(q, 1, i);
        if (t->name[i])
            sqlite3_bind_text(q, 2, t->name[i], -1, SQLITE_STATIC);
        else
            sqlite3_bind_null(q, 2);
        sqlite3_bind_text(q, 3, sources[source & 3], -1, SQLITE_STATIC);
        sqlite3_bind_blob(q, 4, t->centre + (size_t)i * (size_t)t->d,
                          (int)((size_t)t->d * sizeof *t->centre), SQLITE_STATIC);
        code = store_run(ws, q, "write a topic", err);
    }
    sqlite3_finalize(q);
    return code;
}

static int save_one(struct siren_workspace *ws, sqlite3_stmt *q, int item, int topic,
                    float distance, int second, float second_distance, struct siren_error *err)
{
    sqlite3_bind_int(q, 1, item);
    sqlite3_bind_int(q, 2, topic);
    sqlite3_bind_double(q, 3, (double)distance);
    if (second >= 0) {
        sqlite3_bind_int(q, 4, second);
        sqlite3_bind_double(q, 5, (double)second_distance);
    } else {
        sqlite3_bind_null(q, 4);
        sqlite3_bind_null(q, 5);
    }
    return store_run(ws, q, "write an item's topic", err);
}

#define ASSIGN "INSERT OR REPLACE INTO item_topics VALUES (?, ?, ?, ?, ?)"

static int save_assignment(struct siren_workspace *ws, const struct siren_topics *t,
                           struct siren_error *err)
{
    sqlite3_stmt *q;
    int code = store_prepare(ws, &q, ASSIGN, err);
    for (int i = 0; !code && i < t->n; i++) {
        if (t->topic[i] < 0) continue;
        if (t->topic[i] >= t->k || t->second[i] >= t->k)
            code = siren_fail(err, SIREN_EINVAL, "item %d: topic %d of %d", i, t->topic[i], t->k);
        else
            code = save_one(ws, q, i, t->topic[i], t->distance[i], t->second[i],
                            t->second_distance[i], err);
    }
    sqlite3_finalize(q);
    return code;
}

int siren_topics_save(struct siren_workspace *ws, const struct siren_topics *t,
                      struct siren_error *err)
{
    int code = siren_workspace_begin(ws, err);
    if (code) return code;
    code = store_exec(ws,
                      "DELETE FROM sketches; DELETE FROM item_topics; DELETE FROM topics;"
                      "DELETE FROM clustering",
                      "replace the topics", err);
    if (!code) code = save_clustering(ws, t, err);
    if (!code) code = save_centres(ws, t, err);
    if (!code) code = save_assignment(ws, t, err);
    return siren_workspace_end(ws, code, err);
}

int store_item_topic(struct siren_workspace *ws, int item, int topic, float distance, int second,
                     float second_distance, struct siren_error *err)
{
    sqlite3_stmt *q;
    int code = store_prepare(ws, &q, ASSIGN, err);
    if (!code) code = save_one(ws, q, item, topic, distance, second, second_distance, err);
    sqlite3_finalize(q);
    return code;
}

static int name_taken(struct siren_workspace *ws, int topic, const char *name,
                      struct siren_error *err)
{
    sqlite3_stmt *q;
    int code = store_prepare(ws, &q, "SELECT id FROM topics WHERE name = ? AND id <> ?", err);
    if (code) return code;
    sqlite3_bind_text(q, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int(q, 2, topic);
    code = store_step(ws, q, "read the topics", err);
    if (code == 1)
        code = siren_fail(err, SIREN_EEXISTS, "%s: topic %d has the name '%.100s' already",
                          ws->path, sqlite3_column_int(q, 0), name);
    sqlite3_finalize(q);
    return code;
}

static int check_name(int topic, const char *name, struct siren_error *err)
{
    char what[40];
    if (!*name) return siren_fail(err, SIREN_EINVAL, "topic %d: an empty name", topic);
    snprintf(what, sizeof what, "the name of topic %d", topic);
    return store_check_line(what, name, err);
}

/* Without the spaces around it; NULL: no memory. */
static char *trimmed(const char *name)
{
    name += strspn(name, " \t");
    size_t n = strlen(name);
    while (n && (name[n - 1] == ' ' || name[n - 1] == '\t')) n--;
    return strndup(name, n);
}

static int give_name(struct siren_workspace *ws, int topic, const char *name,
                     enum siren_name_source source, struct siren_error *err)
{
    sqlite3_stmt *q = NULL;
    int code = siren_workspace_begin(ws, err);
    if (code) return code;
    code = name_taken(ws, topic, name, err);
    if (!code)
        code =
            store_prepare(ws, &q, "UPDATE topics SET name = ?, name_source = ? WHERE id = ?", err);
    if (!code) {
        sqlite3_bind_text(q, 1, name, -1, SQLITE_STATIC);
        sqlite3_bind_text(q, 2, sources[source & 3], -1, SQLITE_STATIC);
        sqlite3_bind_int(q, 3, topic);
        code = store_run(ws, q, "name a topic", err);
        if (!code && sqlite3_changes(ws->db) == 0)
            code = siren_fail(err, SIREN_ENOTFOUND, "%s: no topic %d", ws->path, topic);
    }
    sqlite3_finalize(q);
    return siren_workspace_end(ws, code, err);
}

int siren_topic_name(struct siren_workspace *ws, int topic, const char *name,
                     enum siren_name_source source, struct siren_error *err)
{
    char *clean = trimmed(name ? name : "");
    int code = clean ? check_name(topic, clean, err) : siren_fail_memory(err, "a topic's name", 0);
    if (!code) code = give_name(ws, topic, clean, source, err);
    free(clean);
    return code;
}
