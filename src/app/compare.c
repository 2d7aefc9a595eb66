/* Two sides, or three, of one run or of several whose losses are averaged, on the rows that all of
 * them have. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/parts.h"
#include "app/prediction_columns.h"
#include "base/alloc.h"

enum { MAX_TESTS = 2 * (N_DECODERS + 1) + 2, MAX_SIDES = 3 };

/* The truth belongs to the key: where a rating was corrected between two runs, their errors are
 * about two things. */
struct pair {
    int32_t user, item;
    double truth;
    size_t at;
};

struct comparison {
    struct siren_app *app;
    struct siren_pool *pool;
    int n_sides;
    size_t n_runs, first[MAX_SIDES + 1]; /* side k has runs first[k] … first[k + 1] - 1 */
    int64_t *id;                         /* (n_runs) */
    struct prediction_columns *run;      /* (n_runs) */
    size_t **in, n;                      /* rows of the runs that belong together: (n_runs, n) */
    int32_t *user;
    double *loss[MAX_SIDES]; /* (n) of the test at hand */
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
    for (size_t k = 0; k < c->n_runs; k++) {
        missing |= !(pairs[k] = sorted_pairs(&c->run[k]));
        missing |= !(c->in[k] = alloc_array(n, sizeof *c->in[k]));
    }
    for (int side = 0; side < c->n_sides; side++)
        missing |= !(c->loss[side] = alloc_array(n, sizeof *c->loss[side]));
    return missing ? siren_fail_memory(err, "rows to compare", n * sizeof **pairs) : 0;
}

/* The row's places in all runs as row c->n, if all have it. */
static void join_row(struct comparison *c, struct pair *const *pairs, const struct pair *row)
{
    for (size_t k = 0; k < c->n_runs; k++) {
        int64_t at = find_pair(pairs[k], c->run[k].n, row);
        if (at < 0) return;
        c->in[k][c->n] = (size_t)at;
    }
    c->user[c->n++] = row->user;
}

static int join_pairs(struct comparison *c, struct siren_error *err)
{
    struct pair **pairs = alloc_zeroed(c->n_runs, sizeof *pairs);
    int rc = pairs ? allocate_pairs(c, pairs, err) : siren_fail_memory(err, "rows to compare", 0);
    for (size_t i = 0; i < c->run[0].n && !rc; i++) join_row(c, pairs, &pairs[0][i]);
    for (size_t k = 0; k < c->n_runs && pairs; k++) free(pairs[k]);
    free(pairs);
    if (rc) return rc;
    return c->n ? 0 : prediction_columns_no_row_in_common(c->app, c->id, c->n_runs, err);
}

/* One line of the table, from the losses that are filled in: a against b; or what the runs before,
 * teacher and student make. */
static int test(struct comparison *c, const char *loss, const char *decoder,
                enum siren_statistic statistic, struct siren_error *err)
{
    struct siren_share s = {0};
    json_t *t = json_object();
    int three = c->n_sides == 3;
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

/* The loss of a run on its row; `what` is what the test is about. */
typedef double loss_fn(const struct comparison *c, size_t run, size_t row, const void *what);

/* Each side's losses: the means over its runs. */
static void fill_losses(struct comparison *c, loss_fn *loss, const void *what)
{
    for (int side = 0; side < c->n_sides; side++)
        for (size_t i = 0; i < c->n; i++) {
            double sum = 0;
            for (size_t k = c->first[side]; k < c->first[side + 1]; k++)
                sum += loss(c, k, c->in[k][i], what);
            c->loss[side][i] = sum / (double)(c->first[side + 1] - c->first[side]);
        }
}

/* what: a run's ratings by its rows, run by run. */
static double absolute_error(const struct comparison *c, size_t run, size_t row, const void *what)
{
    double *const *ratings = what;
    return fabs(ratings[run][row] - c->run[run].truth[row]);
}

static double squared_error(const struct comparison *c, size_t run, size_t row, const void *what)
{
    double error = absolute_error(c, run, row, what);
    return error * error;
}

struct distribution_loss {
    double (*of)(const struct siren_scale *scale, const double *p, double truth);
};
static double distribution_loss(const struct comparison *c, size_t run, size_t row,
                                const void *what)
{
    const struct distribution_loss *loss = what;
    const struct siren_scale *scale = &c->app->meta.scale;
    size_t labels = (size_t)siren_scale_labels(scale);
    return loss->of(scale, c->run[run].distributions + row * labels, c->run[run].truth[row]);
}

/* The ratings that the runs came to, each by the run's rows; nothing where one has none. */
static int test_ratings(struct comparison *c, const char *name, double *const *ratings,
                        struct siren_error *err)
{
    for (size_t k = 0; k < c->n_runs; k++)
        if (!ratings[k]) return 0;
    fill_losses(c, absolute_error, ratings);
    int rc = test(c, "mae", name, SIREN_STAT_MEAN, err);
    if (rc) return rc;
    fill_losses(c, squared_error, ratings);
    return test(c, "rmse", name, SIREN_STAT_ROOT_MEAN, err);
}

static int test_distribution(struct comparison *c, const char *name, struct distribution_loss loss,
                             struct siren_error *err)
{
    fill_losses(c, distribution_loss, &loss);
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

static int compare_losses(struct comparison *c, double **ratings, struct siren_error *err)
{
    int rc = join_pairs(c, err), distributions = 1;
    for (int d = 0; d < N_DECODERS && !rc; d++) {
        for (size_t k = 0; k < c->n_runs; k++) ratings[k] = c->run[k].decoded[d];
        rc = test_ratings(c, siren_decoder_name((enum siren_decoder)d), ratings, err);
    }
    for (size_t k = 0; k < c->n_runs; k++) {
        ratings[k] = c->run[k].number;
        distributions &= c->run[k].distributions != NULL;
    }
    /* What the texts said, where all runs reasoned. */
    if (!rc) rc = test_ratings(c, "number", ratings, err);
    if (!rc && distributions) {
        rc = test_distribution(c, "log_loss", (struct distribution_loss){siren_log_loss}, err);
        if (!rc) rc = test_distribution(c, "rps", (struct distribution_loss){siren_rps}, err);
    }
    return rc ? rc : siren_holm(c->p, c->n_tests, c->p, err);
}

/* A side's runs and their rows: numbers, or lists of them where it has several. */
static void report_side(const struct comparison *c, int side, const char *name, json_t *out)
{
    char rows_name[16];
    size_t first = c->first[side], n = c->first[side + 1] - first;
    json_t *ids = json_array(), *rows = json_array();
    snprintf(rows_name, sizeof rows_name, "rows_%s", name);
    for (size_t k = first; k < first + n; k++) {
        json_array_append_new(ids, json_integer(c->id[k]));
        json_array_append_new(rows, json_integer((json_int_t)c->run[k].n));
    }
    json_object_set(out, name, n > 1 ? ids : json_array_get(ids, 0));
    json_object_set(out, rows_name, n > 1 ? rows : json_array_get(rows, 0));
    json_decref(ids);
    json_decref(rows);
}

static int report_comparison(struct comparison *c, const char *const *names, char **json,
                             struct siren_error *err)
{
    json_t *out = json_object(), *list = json_array(), *answers = json_array();
    for (int side = 0; side < c->n_sides; side++) report_side(c, side, names[side], out);
    json_object_set_new(out, "rows", json_integer((json_int_t)c->n));
    for (size_t i = 0; i < c->n_tests; i++) {
        json_object_set_new(c->tests[i], "p_holm", app_real(c->p[i]));
        json_array_append(list, c->tests[i]);
    }
    json_object_set_new(out, "tests", list);
    int two = c->n_sides == 2 && c->n_runs == 2;
    for (int d = 0; d < N_DECODERS && two; d++)
        if (c->run[0].decoded[d] && c->run[1].decoded[d])
            json_array_append_new(answers, moved(c, d));
    if (two) json_object_set(out, "answers", answers);
    json_decref(answers);
    return app_json_text(out, JSON_COMPACT, json, err);
}

/* The sides' runs one after the other; one that is there twice would weigh more than the others. */
static int list_runs(struct comparison *c, const struct siren_run_set *sides,
                     struct siren_error *err)
{
    for (int side = 0; side < c->n_sides; side++) {
        if (!sides[side].n) return siren_fail(err, SIREN_EINVAL, "a side without a run");
        c->first[side + 1] = c->first[side] + sides[side].n;
    }
    c->n_runs = c->first[c->n_sides];
    c->id = alloc_array(c->n_runs, sizeof *c->id);
    c->run = alloc_zeroed(c->n_runs, sizeof *c->run);
    c->in = alloc_zeroed(c->n_runs, sizeof *c->in);
    if (!c->id || !c->run || !c->in) return siren_fail_memory(err, "runs to compare", c->n_runs);
    for (int side = 0; side < c->n_sides; side++)
        for (size_t i = 0; i < sides[side].n; i++) {
            int64_t id = c->id[c->first[side] + i] = sides[side].ids[i];
            for (size_t j = 0; j < i; j++)
                if (sides[side].ids[j] == id)
                    return siren_fail(err, SIREN_EINVAL, "run %lld is named twice", (long long)id);
        }
    return 0;
}

static void clear_comparison(struct comparison *c)
{
    for (size_t i = 0; i < c->n_tests; i++) json_decref(c->tests[i]);
    for (size_t k = 0; k < c->n_runs && c->run; k++) prediction_columns_clear(&c->run[k]);
    for (size_t k = 0; k < c->n_runs && c->in; k++) free(c->in[k]);
    for (int side = 0; side < c->n_sides; side++) free(c->loss[side]);
    free(c->run);
    free(c->in);
    free(c->id);
    free(c->user);
}

static int compare_runs(struct siren_app *app, const struct siren_run_set *sides, int n_sides,
                        const char *const *names, struct siren_pool *pool, char **json,
                        struct siren_error *err)
{
    struct comparison c = {.app = app, .pool = pool, .n_sides = n_sides};
    double **ratings = NULL;
    *json = NULL;
    int rc = list_runs(&c, sides, err);
    for (size_t k = 0; k < c.n_runs && !rc; k++)
        rc = prediction_columns_load(&c.run[k], app, c.id[k], err);
    if (!rc && !(ratings = alloc_array(c.n_runs, sizeof *ratings)))
        rc = siren_fail_memory(err, "runs to compare", c.n_runs);
    if (!rc) rc = compare_losses(&c, ratings, err);
    if (!rc) rc = report_comparison(&c, names, json, err);
    free(ratings);
    clear_comparison(&c);
    return rc;
}

int siren_runs_compare(struct siren_app *app, const struct siren_run_set sides[2],
                       struct siren_pool *pool, char **json, struct siren_error *err)
{
    static const char *const names[] = {"a", "b"};
    return compare_runs(app, sides, 2, names, pool, json, err);
}

int siren_runs_gain(struct siren_app *app, const struct siren_run_set sides[3],
                    struct siren_pool *pool, char **json, struct siren_error *err)
{
    static const char *const names[] = {"before", "teacher", "student"};
    return compare_runs(app, sides, 3, names, pool, json, err);
}
