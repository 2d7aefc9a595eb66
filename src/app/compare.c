/* Two runs, or three, on the rows that all of them have. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/parts.h"
#include "app/prediction_columns.h"
#include "base/alloc.h"

enum { MAX_TESTS = 2 * (N_DECODERS + 1) + 2 };

/* The truth belongs to the key: where a rating was corrected between two runs, their errors are
 * about two things. */
struct pair {
    int32_t user, item;
    double truth;
    size_t at;
};

enum { MAX_RUNS = 3 };

struct comparison {
    struct siren_app *app;
    struct siren_pool *pool;
    int n_runs;
    int64_t id[MAX_RUNS];
    struct prediction_columns run[MAX_RUNS];
    size_t *in[MAX_RUNS], n; /* rows of the runs that belong together */
    int32_t *user;
    double *loss[MAX_RUNS]; /* (n) of the test at hand */
    json_t *tests[MAX_TESTS];
    double p[MAX_TESTS];
    size_t n_tests;
};

static int by_key(const void *x, const void *y)
{
    const struct pair *a = x, *b = y;
    if (a->user != b->user) return a->user < b->user ? -1 : 1;
    if (a->item != b->item) return a->item < b->item ? -1 : 1;
    return (a->truth > b->truth) - (a->truth < b->truth);
}

static struct pair *sorted_pairs(const struct prediction_columns *c)
{
    struct pair *pairs = alloc_array(c->n + 1, sizeof *pairs);
    for (size_t i = 0; pairs && i < c->n; i++)
        pairs[i] = (struct pair){c->user[i], c->item[i], c->truth[i], i};
    if (pairs) qsort(pairs, c->n, sizeof *pairs, by_key);
    return pairs;
}

/* The place of the row in sorted pairs, or -1. */
static int64_t find_pair(const struct pair *pairs, size_t n, const struct pair *row)
{
    const struct pair *found = bsearch(row, pairs, n, sizeof *pairs, by_key);
    return found ? (int64_t)found->at : -1;
}

static int allocate_pairs(struct comparison *c, struct pair **pairs, struct siren_error *err)
{
    size_t n = c->run[0].n;
    int missing = !(c->user = alloc_array(n, sizeof *c->user));
    for (int k = 0; k < c->n_runs; k++) {
        missing |= !(pairs[k] = sorted_pairs(&c->run[k]));
        missing |= !(c->in[k] = alloc_array(n, sizeof *c->in[k]));
        missing |= !(c->loss[k] = alloc_array(n, sizeof *c->loss[k]));
    }
    return missing ? siren_fail_memory(err, "rows to compare", n * sizeof **pairs) : 0;
}

static int join_pairs(struct comparison *c, struct siren_error *err)
{
    struct pair *pairs[MAX_RUNS] = {0};
    int rc = allocate_pairs(c, pairs, err);
    for (size_t i = 0; i < c->run[0].n && !rc; i++) {
        int64_t at[MAX_RUNS], all = 1;
        for (int k = 0; k < c->n_runs; k++) {
            at[k] = find_pair(pairs[k], c->run[k].n, &pairs[0][i]);
            all &= at[k] >= 0;
        }
        if (!all) continue;
        for (int k = 0; k < c->n_runs; k++) c->in[k][c->n] = (size_t)at[k];
        c->user[c->n++] = pairs[0][i].user;
    }
    for (int k = 0; k < c->n_runs; k++) free(pairs[k]);
    if (rc) return rc;
    return c->n ? 0 : prediction_columns_no_row_in_common(c->app, c->id, (size_t)c->n_runs, err);
}

/* One line of the table, from the losses that are filled in: a against b; or what the runs before,
 * teacher and student make. */
static int test(struct comparison *c, const char *loss, const char *decoder,
                enum siren_statistic statistic, struct siren_error *err)
{
    struct siren_share s = {0};
    json_t *t = json_object();
    int three = c->n_runs == 3;
    int rc = three ? siren_bootstrap_share(&s, c->loss[0], c->loss[1], c->loss[2], c->user, c->n,
                                           statistic, NULL, c->pool, err)
                   : siren_bootstrap(&s.gain, c->loss[0], c->loss[1], c->user, c->n, statistic,
                                     NULL, c->pool, err);
    json_object_set_new(t, "loss", json_string(loss));
    json_object_set_new(t, "decoder", decoder ? json_string(decoder) : json_null());
    json_object_set_new(t, three ? "teacher" : "a", app_real(s.gain.a));
    json_object_set_new(t, three ? "before" : "b", app_real(s.gain.b));
    json_object_set_new(t, three ? "gain" : "difference", app_real(s.gain.difference));
    json_object_set_new(t, three ? "gain_low" : "low", app_real(s.gain.low));
    json_object_set_new(t, three ? "gain_high" : "high", app_real(s.gain.high));
    json_object_set_new(t, "p", app_real(s.gain.p));
    if (three) {
        int gains = s.gain.high < 0; /* of what a teacher loses there is no share to have */
        json_object_set_new(t, "student", app_real(s.student));
        json_object_set_new(t, "share", app_real(gains ? s.share : NAN));
        json_object_set_new(t, "share_low", app_real(gains ? s.low : NAN));
        json_object_set_new(t, "share_high", app_real(gains ? s.high : NAN));
    }
    c->p[c->n_tests] = s.gain.p;
    c->tests[c->n_tests++] = t;
    return rc;
}

/* The ratings that the runs came to, each by the run's rows; nothing where one has none. */
static int test_ratings(struct comparison *c, const char *name, double *const *ratings,
                        struct siren_error *err)
{
    int rc;
    for (int k = 0; k < c->n_runs; k++)
        if (!ratings[k]) return 0;
    for (int k = 0; k < c->n_runs; k++)
        for (size_t i = 0; i < c->n; i++)
            c->loss[k][i] = fabs(ratings[k][c->in[k][i]] - c->run[k].truth[c->in[k][i]]);
    rc = test(c, "mae", name, SIREN_STAT_MEAN, err);
    for (int k = 0; k < c->n_runs; k++)
        for (size_t i = 0; i < c->n; i++) c->loss[k][i] *= c->loss[k][i];
    return rc ? rc : test(c, "rmse", name, SIREN_STAT_ROOT_MEAN, err);
}

static int test_distribution(struct comparison *c, const char *name,
                             double (*loss)(const struct siren_scale *, const double *, double),
                             struct siren_error *err)
{
    const struct siren_scale *scale = &c->app->meta.scale;
    size_t labels = (size_t)siren_scale_labels(scale);
    for (int k = 0; k < c->n_runs; k++)
        for (size_t i = 0; i < c->n; i++) {
            size_t at = c->in[k][i];
            c->loss[k][i] = loss(scale, c->run[k].distributions + at * labels, c->run[k].truth[at]);
        }
    return test(c, name, NULL, SIREN_STAT_MEAN, err);
}

/* How far the two runs' answers are apart, whatever the truth. */
static json_t *moved(const struct comparison *c, int d)
{
    const double *a = c->run[0].decoded[d], *b = c->run[1].decoded[d];
    double sum = 0;
    size_t other = 0;
    for (size_t i = 0; i < c->n; i++) {
        double apart = fabs(a[c->in[0][i]] - b[c->in[1][i]]);
        sum += apart;
        other += apart > 1e-9;
    }
    return json_pack("{s:s, s:f, s:f}", "decoder", siren_decoder_name((enum siren_decoder)d),
                     "changed", (double)other / (double)c->n, "distance", sum / (double)c->n);
}

static int compare_losses(struct comparison *c, struct siren_error *err)
{
    double *ratings[MAX_RUNS];
    int rc = join_pairs(c, err), distributions = 1;
    for (int d = 0; d < N_DECODERS && !rc; d++) {
        for (int k = 0; k < c->n_runs; k++) ratings[k] = c->run[k].decoded[d];
        rc = test_ratings(c, siren_decoder_name((enum siren_decoder)d), ratings, err);
    }
    for (int k = 0; k < c->n_runs; k++) {
        ratings[k] = c->run[k].number;
        distributions &= c->run[k].distributions != NULL;
    }
    /* What the texts said, where all runs reasoned. */
    if (!rc) rc = test_ratings(c, "number", ratings, err);
    if (!rc && distributions) {
        rc = test_distribution(c, "log_loss", siren_log_loss, err);
        if (!rc) rc = test_distribution(c, "rps", siren_rps, err);
    }
    return rc ? rc : siren_holm(c->p, c->n_tests, c->p, err);
}

static int report_comparison(struct comparison *c, const char *const *names, char **json,
                             struct siren_error *err)
{
    char rows[16];
    json_t *out = json_object(), *list = json_array(), *answers = json_array();
    for (int k = 0; k < c->n_runs; k++) {
        json_object_set_new(out, names[k], json_integer(c->id[k]));
        snprintf(rows, sizeof rows, "rows_%s", names[k]);
        json_object_set_new(out, rows, json_integer((json_int_t)c->run[k].n));
    }
    json_object_set_new(out, "rows", json_integer((json_int_t)c->n));
    for (size_t i = 0; i < c->n_tests; i++) {
        json_object_set_new(c->tests[i], "p_holm", app_real(c->p[i]));
        json_array_append(list, c->tests[i]);
    }
    json_object_set_new(out, "tests", list);
    for (int d = 0; d < N_DECODERS && c->n_runs == 2; d++)
        if (c->run[0].decoded[d] && c->run[1].decoded[d])
            json_array_append_new(answers, moved(c, d));
    if (c->n_runs == 2) json_object_set(out, "answers", answers);
    json_decref(answers);
    return app_json_text(out, JSON_COMPACT, json, err);
}

static int compare_runs(struct comparison *c, const char *const *names, char **json,
                        struct siren_error *err)
{
    int rc = 0;
    *json = NULL;
    for (int k = 0; k < c->n_runs && !rc; k++)
        rc = prediction_columns_load(&c->run[k], c->app, c->id[k], err);
    if (!rc) rc = compare_losses(c, err);
    if (!rc) rc = report_comparison(c, names, json, err);
    for (size_t i = 0; i < c->n_tests; i++) json_decref(c->tests[i]);
    for (int k = 0; k < c->n_runs; k++) {
        prediction_columns_clear(&c->run[k]);
        free(c->in[k]);
        free(c->loss[k]);
    }
    free(c->user);
    return rc;
}

int siren_runs_compare(struct siren_app *app, int64_t a, int64_t b, struct siren_pool *pool,
                       char **json, struct siren_error *err)
{
    static const char *const names[] = {"a", "b"};
    struct comparison c = {.app = app, .pool = pool, .n_runs = 2, .id = {a, b}};
    return compare_runs(&c, names, json, err);
}

int siren_runs_gain(struct siren_app *app, int64_t before, int64_t teacher, int64_t student,
                    struct siren_pool *pool, char **json, struct siren_error *err)
{
    static const char *const names[] = {"before", "teacher", "student"};
    struct comparison c = {.app = app, .pool = pool, .n_runs = 3, .id = {before, teacher, student}};
    return compare_runs(&c, names, json, err);
}
