/* Several runs side by side, on the rows that all of them have. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "app/prediction_columns.h"
#include "base/alloc.h"

struct key {
    int32_t user, item;
    double truth; /* a rating corrected between two runs is not the same row */
    size_t at, run;
};

struct table {
    struct siren_app *app;
    const int64_t *runs;
    size_t n_runs, n;                   /* n: common rows */
    struct prediction_columns *columns; /* (n_runs) */
    struct key *keys;                   /* of all rows of all runs, sorted */
    size_t n_keys;
    size_t most;  /* rows of the shortest run: no more are common */
    size_t *rows; /* (n_runs, most): the common rows' places in each run */
};

static int by_key(const void *x, const void *y)
{
    const struct key *a = x, *b = y;
    if (a->user != b->user) return a->user < b->user ? -1 : 1;
    if (a->item != b->item) return a->item < b->item ? -1 : 1;
    if (a->truth != b->truth) return a->truth < b->truth ? -1 : 1;
    return (a->run > b->run) - (a->run < b->run);
}

static int collect_keys(struct table *t, struct siren_error *err)
{
    size_t all = 0;
    t->most = SIZE_MAX;
    for (size_t r = 0; r < t->n_runs; r++) {
        int rc = prediction_columns_load(&t->columns[r], t->app, t->runs[r], err);
        if (rc) return rc;
        all += t->columns[r].n;
        if (t->columns[r].n < t->most) t->most = t->columns[r].n;
    }
    t->keys = alloc_array(all, sizeof *t->keys);
    t->rows = alloc_array(t->most, t->n_runs * sizeof *t->rows);
    if (!t->keys || !t->rows) return siren_fail_memory(err, "rows", all * sizeof *t->keys);
    for (size_t r = 0; r < t->n_runs; r++)
        for (size_t i = 0; i < t->columns[r].n; i++)
            t->keys[t->n_keys++] = (struct key){t->columns[r].user[i], t->columns[r].item[i],
                                                t->columns[r].truth[i], i, r};
    qsort(t->keys, t->n_keys, sizeof *t->keys, by_key);
    return 0;
}

/* A run has a (user, item) once: n_runs equal keys in a row are one of each. */
static int join_rows(struct table *t, struct siren_error *err)
{
    for (size_t i = 0; i + t->n_runs <= t->n_keys;) {
        size_t same = 1;
        while (i + same < t->n_keys && t->keys[i + same].user == t->keys[i].user &&
               t->keys[i + same].item == t->keys[i].item &&
               t->keys[i + same].truth == t->keys[i].truth)
            same++;
        if (same == t->n_runs) {
            for (size_t r = 0; r < t->n_runs; r++) t->rows[r * t->most + t->n] = t->keys[i + r].at;
            t->n++;
        }
        i += same;
    }
    return t->n ? 0 : prediction_columns_no_row_in_common(t->app, t->runs, t->n_runs, err);
}

static double mean_loss(const struct table *t, size_t run, int decoder, int squared)
{
    const struct prediction_columns *c = &t->columns[run];
    double sum = 0;
    if (!c->decoded[decoder]) return NAN;
    for (size_t i = 0; i < t->n; i++) {
        size_t at = t->rows[run * t->most + i];
        double e = fabs(c->decoded[decoder][at] - c->truth[at]);
        sum += squared ? e * e : e;
    }
    return sum / (double)t->n;
}

static double mean_of(const struct table *t, size_t run,
                      double (*loss)(const struct siren_scale *, const double *, double))
{
    const struct prediction_columns *c = &t->columns[run];
    const struct siren_scale *scale = &t->app->meta.scale;
    double sum = 0;
    if (!c->distributions) return NAN;
    for (size_t i = 0; i < t->n; i++) {
        size_t at = t->rows[run * t->most + i];
        sum += loss(scale, c->distributions + at * (size_t)siren_scale_labels(scale), c->truth[at]);
    }
    return sum / (double)t->n;
}

static int describe_run(const struct table *t, size_t r, json_t *out, struct siren_error *err)
{
    struct siren_run run;
    json_t *decoders = json_object();
    int rc = siren_run_load(&run, t->app->ws, t->runs[r], err);
    if (rc) {
        json_decref(decoders);
        return rc;
    }
    json_object_set_new(out, "id", json_integer(run.id));
    json_object_set_new(out, "kind", json_string(run.kind));
    json_object_set_new(out, "name", json_string(run.name));
    json_object_set_new(out, "model", json_string(run.model));
    siren_run_clear(&run);
    for (int d = 0; d < N_DECODERS; d++) {
        json_t *decoder = json_object();
        json_object_set_new(decoder, "mae", app_real(mean_loss(t, r, d, 0)));
        json_object_set_new(decoder, "rmse", app_real(sqrt(mean_loss(t, r, d, 1))));
        json_object_set_new(decoders, siren_decoder_name((enum siren_decoder)d), decoder);
    }
    json_object_set_new(out, "decoders", decoders);
    json_object_set_new(out, "log_loss", app_real(mean_of(t, r, siren_log_loss)));
    json_object_set_new(out, "rps", app_real(mean_of(t, r, siren_rps)));
    return 0;
}

static int report_table(const struct table *t, char **json, struct siren_error *err)
{
    json_t *out = json_object(), *list = json_array();
    int rc = 0;
    for (size_t r = 0; r < t->n_runs && !rc; r++) {
        json_t *run = json_object();
        rc = describe_run(t, r, run, err);
        json_array_append_new(list, run);
    }
    json_object_set_new(out, "rows", json_integer((json_int_t)t->n));
    json_object_set_new(out, "runs", list);
    if (!rc) return app_json_text(out, JSON_COMPACT, json, err);
    json_decref(out);
    return rc;
}

int siren_runs_table(struct siren_app *app, const int64_t *runs, size_t n, char **json,
                     struct siren_error *err)
{
    struct table t = {.app = app, .runs = runs, .n_runs = n};
    int rc;
    *json = NULL;
    t.columns = alloc_zeroed(n + 1, sizeof *t.columns);
    rc = t.columns ? collect_keys(&t, err) : siren_fail_memory(err, "runs", n * sizeof *t.columns);
    if (!rc) rc = join_rows(&t, err);
    if (!rc) rc = report_table(&t, json, err);
    for (size_t r = 0; t.columns && r < n; r++) prediction_columns_clear(&t.columns[r]);
    free(t.columns);
    free(t.keys);
    free(t.rows);
    return rc;
}
