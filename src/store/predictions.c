#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "siren/metrics.h"
#include "store/store.h"

static void bind_floats(sqlite3_stmt *q, int index, const float *values, int n)
{
    if (values && n > 0)
        sqlite3_bind_blob(q, index, values, (int)((size_t)n * sizeof *values), SQLITE_STATIC);
    else
        sqlite3_bind_null(q, index);
}

static void bind_prediction(sqlite3_stmt *q, int64_t run, const struct siren_prediction *p)
{
    sqlite3_bind_int64(q, 1, run);
    sqlite3_bind_int64(q, 2, p->row);
    sqlite3_bind_int(q, 3, p->user);
    sqlite3_bind_int(q, 4, p->item);
    store_bind_number(q, 5, p->truth);
    store_bind_number(q, 6, p->argmax);
    store_bind_number(q, 7, p->mean);
    store_bind_number(q, 8, p->median);
    store_bind_number(q, 9, p->outside);
    bind_floats(q, 10, p->probabilities, p->n_labels);
    bind_floats(q, 11, p->logprobs, p->n_labels);
    sqlite3_bind_int(q, 12, p->tokens_in);
    sqlite3_bind_int(q, 13, p->tokens_out);
    sqlite3_bind_int(q, 14, p->tokens_cached);
    sqlite3_bind_double(q, 15, isnan(p->latency_ms) ? 0 : p->latency_ms);
    sqlite3_bind_int(q, 16, !!p->invalid);
    store_bind_text_or_null(q, 17, p->text);
    store_bind_text_or_null(q, 18, p->reasoning);
}

/* Who was there when a run began may be forgotten by now: *there is 0. */
static int find_user(struct siren_workspace *ws, sqlite3_stmt *q, const struct siren_prediction *p,
                     int64_t next, int *there, struct siren_error *err)
{
    sqlite3_bind_int(q, 1, p->user);
    int code = store_step(ws, q, "look up a user", err);
    sqlite3_reset(q);
    *there = code == 1;
    if (code == 0 && (p->user < 0 || p->user >= next))
        code = siren_fail(err, SIREN_EINVAL, "%s: prediction %lld is of user %d, whom it never had",
                          ws->path, (long long)p->row, p->user);
    return code < 0 ? code : SIREN_OK;
}

static int save_prediction(struct siren_workspace *ws, sqlite3_stmt *put, sqlite3_stmt *find,
                           int64_t run, const struct siren_prediction *p, int64_t next_user,
                           struct siren_error *err)
{
    int there;
    if (p->n_labels < 0 || p->n_labels > SIREN_MAX_LABELS)
        return siren_fail(err, SIREN_EINVAL, "prediction %lld: %d labels", (long long)p->row,
                          p->n_labels);
    int code = find_user(ws, find, p, next_user, &there, err);
    if (code || !there) return code;
    bind_prediction(put, run, p);
    return store_run(ws, put, "write a prediction", err);
}

int siren_predictions_save(struct siren_workspace *ws, int64_t run,
                           const struct siren_prediction *predictions, size_t n,
                           struct siren_error *err)
{
    sqlite3_stmt *q = NULL, *find = NULL;
    int64_t next_user = 0;
    int code = siren_workspace_begin(ws, err);
    if (code) return code;
    code = store_run_exists(ws, run, err);
    if (!code) code = store_next_user(ws, &next_user, err);
    if (!code) code = store_prepare(ws, &find, "SELECT 1 FROM users WHERE id = ?", err);
    if (!code)
        code =
            store_prepare(ws, &q,
                          "INSERT OR REPLACE INTO predictions(run, row, user, item, truth, argmax,"
                          " mean, median, outside, probabilities, logprobs, tokens_in, tokens_out,"
                          " tokens_cached, latency_ms, invalid, text, reasoning)"
                          " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                          err);
    for (size_t i = 0; !code && i < n; i++)
        code = save_prediction(ws, q, find, run, predictions + i, next_user, err);
    sqlite3_finalize(find);
    sqlite3_finalize(q);
    return siren_workspace_end(ws, code, err);
}

/* ---- loading ---- */

/* A copy of a BLOB of floats; *n is its length, or must agree if set already. */
static int read_floats(struct siren_workspace *ws, sqlite3_stmt *q, int column,
                       struct strings *owner, const float **values, int *n, struct siren_error *err)
{
    const void *blob = sqlite3_column_blob(q, column);
    int bytes = sqlite3_column_bytes(q, column), count = bytes / (int)sizeof(float);
    if (!blob) return SIREN_OK;
    if (bytes % (int)sizeof(float) || count > SIREN_MAX_LABELS || (*n && *n != count))
        return siren_fail(err, SIREN_EFORMAT, "%s: prediction row %lld: %d bytes for the labels",
                          ws->path, (long long)sqlite3_column_int64(q, 0), bytes);
    float *copy = strings_room(owner, (size_t)bytes);
    if (!copy) return siren_fail_memory(err, "predictions", (unsigned long long)bytes);
    memcpy(copy, blob, (size_t)bytes);
    *values = copy;
    *n = count;
    return SIREN_OK;
}

static int read_text(sqlite3_stmt *q, int column, struct strings *owner, const char **out,
                     struct siren_error *err)
{
    const char *text = (const char *)sqlite3_column_text(q, column);
    if (text && !(*out = strings_add(owner, text, strlen(text))))
        return siren_fail_memory(err, "predictions", 0);
    return SIREN_OK;
}

static int read_prediction(struct siren_workspace *ws, sqlite3_stmt *q, struct strings *owner,
                           struct siren_prediction *p, struct siren_error *err)
{
    *p = (struct siren_prediction){
        .row = sqlite3_column_int64(q, 0),
        .user = sqlite3_column_int(q, 1),
        .item = sqlite3_column_int(q, 2),
        .truth = store_column_number(q, 3),
        .argmax = store_column_number(q, 4),
        .mean = store_column_number(q, 5),
        .median = store_column_number(q, 6),
        .outside = store_column_number(q, 7),
        .tokens_in = sqlite3_column_int(q, 10),
        .tokens_out = sqlite3_column_int(q, 11),
        .tokens_cached = sqlite3_column_int(q, 12),
        .latency_ms = sqlite3_column_double(q, 13),
        .invalid = sqlite3_column_int(q, 14),
    };
    int code = read_floats(ws, q, 8, owner, &p->probabilities, &p->n_labels, err);
    if (!code) code = read_floats(ws, q, 9, owner, &p->logprobs, &p->n_labels, err);
    if (!code) code = read_text(q, 15, owner, &p->text, err);
    return code ? code : read_text(q, 16, owner, &p->reasoning, err);
}

int siren_predictions_load(struct siren_predictions *out, struct siren_workspace *ws, int64_t run,
                           struct siren_error *err)
{
    *out = (struct siren_predictions){0};
    sqlite3_stmt *q;
    size_t capacity = 0;
    struct strings *owner = calloc(1, sizeof *owner);
    if (!owner) return siren_fail_memory(err, "predictions", sizeof *owner);
    out->owner = owner;
    int code = store_prepare(ws, &q,
                             "SELECT row, user, item, truth, argmax, mean, median, outside,"
                             " probabilities, logprobs, tokens_in, tokens_out, tokens_cached,"
                             " latency_ms, invalid, text, reasoning FROM predictions WHERE run = ?"
                             " ORDER BY row",
                             err);
    if (!code) sqlite3_bind_int64(q, 1, run);
    while (!code && (code = store_step(ws, q, "read the predictions", err)) == 1) {
        if (alloc_grow(&out->prediction, &capacity, out->n + 1, sizeof *out->prediction))
            code = siren_fail_memory(err, "predictions", out->n * sizeof *out->prediction);
        else
            code = read_prediction(ws, q, owner, out->prediction + out->n, err);
        if (!code) out->n++;
    }
    sqlite3_finalize(q);
    if (code) siren_predictions_clear(out);
    return code;
}

void siren_predictions_clear(struct siren_predictions *p)
{
    strings_free(p->owner);
    free(p->owner);
    free(p->prediction);
    *p = (struct siren_predictions){0};
}

int siren_predictions_done(struct siren_workspace *ws, int64_t run, uint8_t *done, size_t n,
                           struct siren_error *err)
{
    sqlite3_stmt *q;
    memset(done, 0, n);
    int code = store_prepare(ws, &q, "SELECT row FROM predictions WHERE run = ?", err);
    if (code) return code;
    sqlite3_bind_int64(q, 1, run);
    while ((code = store_step(ws, q, "read the predictions", err)) == 1) {
        int64_t row = sqlite3_column_int64(q, 0);
        if (row >= 0 && (uint64_t)row < n) done[row] = 1;
    }
    sqlite3_finalize(q);
    return code;
}
