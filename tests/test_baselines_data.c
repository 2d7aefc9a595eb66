/* The baselines on real ratings: $SIREN_DATA/movies (protocol paper), and with SIREN_SLOW set
 * $SIREN_ML100K. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "baselines_fixture.h"
#include "siren/baselines.h"
#include "siren/import.h"

/* Imports into a workspace of the scratch folder and opens it. */
static void open_imported(struct siren_app *app, const char *name, const char *source, int folds)
{
    struct siren_workspace *ws;
    struct siren_import_options o;
    char path[256];
    snprintf(path, sizeof path, "%s", scratch_path(name));
    siren_import_defaults(&o);
    o.folds = folds;
    o.seed = 1;
    if (folds) o.k_core = 0;
    check(siren_workspace_open(&ws, path, SIREN_WORKSPACE_CREATE, &err));
    check(siren_import(ws, source, &o, NULL, NULL, &err));
    siren_workspace_close(ws);
    check(siren_app_open(app, path, SIREN_WORKSPACE_WRITE, &err));
}

static void within(double value, double want)
{
    if (!(fabs(value - want) < 0.00005)) fail_msg("%.5f: expected %.4f", value, want);
}

static void at_most(const struct siren_baseline *b, double mae, double rmse)
{
    print_message("  %-30s MAE %.4f RMSE %.4f (%s; %s)\n", b->name, b->mae, b->rmse, b->fitted_on,
                  b->settings);
    if (!(b->mae <= mae) || !(b->rmse <= rmse))
        fail_msg("%s: MAE %.4f, RMSE %.4f: expected at most %.4f, %.4f", b->name, b->mae, b->rmse,
                 mae, rmse);
}

static void test_movies(void **state)
{
    const char *data = getenv("SIREN_DATA");
    char source[512];
    struct siren_app app;
    struct siren_baseline *rows;
    size_t n;
    if (!data) skip();
    snprintf(source, sizeof source, "%s/movies", data);
    open_imported(&app, "movies.siren", source, 0);
    struct siren_baseline_options o = {.split = "test", .fold = -1, .seed = 1, .save = 1};
    check(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err));
    assert_int_equal(rows[0].n, 2629);
    within(row(rows, n, "always the highest")->mae, 0.7995);
    within(row(rows, n, "always the highest")->rmse, 1.4797);
    within(row(rows, n, "user's mean")->mae, 0.9975);
    within(row(rows, n, "user's mean")->rmse, 1.3419);
    at_most(row(rows, n, "matrix factorisation, SGD"), INFINITY, 1.306);
    at_most(row(rows, n, "matrix factorisation, ALS"), INFINITY, 1.306);
    at_most(row(rows, n, "rating habit (train)"), 0.768, 1.179);
    at_most(row(rows, n, "rating habit (valid)"), 0.725, 1.13);
    at_most(row(rows, n, "rating habit and item (train)"), INFINITY, INFINITY);
    at_most(row(rows, n, "rating habit and item (valid)"), INFINITY, INFINITY);

    struct siren_run *runs;
    size_t n_runs;
    check(siren_runs_load(&runs, &n_runs, app.ws, "baseline", &err));
    assert_int_equal(n_runs, n);
    for (size_t i = 0; i < n_runs; i++) {
        assert_int_equal(runs[i].status, SIREN_RUN_DONE);
        assert_int_equal(runs[i].n_predictions, 2629);
    }
    siren_runs_free(runs, n_runs);
    free(rows);
    siren_app_close(&app);
}

/* ---- ML-100K, five folds ---- */

struct columns {
    int32_t *users, *items;
    double *ratings;
};

static struct siren_table take(struct columns *c, const struct siren_ratings *r, int label)
{
    struct siren_table t = {.n_users = r->n_users, .n_items = r->n_items};
    c->users = malloc(r->n * sizeof *c->users);
    c->items = malloc(r->n * sizeof *c->items);
    c->ratings = malloc(r->n * sizeof *c->ratings);
    for (size_t i = 0; i < r->n; i++) {
        if (r->label[i] != label) continue;
        c->users[t.n] = r->user[i];
        c->items[t.n] = r->item[i];
        c->ratings[t.n++] = (double)r->rating[i];
    }
    t.users = c->users, t.items = c->items, t.ratings = c->ratings;
    return t;
}

static void drop(struct columns *c)
{
    free(c->users);
    free(c->items);
    free(c->ratings);
}

/* Sum of squared errors on a fold; the settings are chosen on the first fold's valid part. */
static double fold_error(struct siren_ratings *r, int fold, enum siren_mf_method method,
                         struct siren_mf_options *chosen)
{
    struct columns c[3];
    struct siren_mf *mf;
    check(siren_ratings_use_fold(r, fold, 0.1, 1, &err));
    struct siren_table train = take(&c[0], r, SIREN_LABEL_TRAIN);
    struct siren_table valid = take(&c[1], r, SIREN_LABEL_VALID);
    struct siren_table test = take(&c[2], r, SIREN_LABEL_TEST);
    assert_true(train.n > 0 && valid.n > 0 && test.n > 0);
    if (fold == 0)
        check(siren_mf_select(&mf, &r->scale, &train, &valid, method, 1, pool, NULL, &err));
    else
        check(siren_mf_fit(&mf, &r->scale, &train, &valid, chosen, pool, NULL, &err));
    *chosen = *siren_mf_settings(mf);
    double sum = 0;
    for (size_t i = 0; i < test.n; i++)
        sum += pow(siren_mf_predict(mf, test.users[i], test.items[i]) - test.ratings[i], 2);
    siren_mf_free(mf);
    for (int i = 0; i < 3; i++) drop(&c[i]);
    return sum;
}

static void test_ml_100k(void **state)
{
    const char *source = getenv("SIREN_ML100K");
    struct siren_app app;
    char path[512];
    if (!source || !getenv("SIREN_SLOW")) skip();
    snprintf(path, sizeof path, "%s/ml-100k.inter", source);
    open_imported(&app, "ml.siren", path, 5);
    for (int method = 0; method < 2; method++) {
        struct siren_mf_options chosen;
        double sum = 0;
        for (int fold = 0; fold < 5; fold++)
            sum += fold_error(&app.ratings, fold, (enum siren_mf_method)method, &chosen);
        double rmse = sqrt(sum / (double)app.ratings.n);
        print_message("  ML-100K, five folds, %s: RMSE %.4f (rank %d, lambda %g)\n",
                      method == SIREN_MF_SGD ? "SGD" : "ALS", rmse, chosen.rank, chosen.lambda);
        assert_true(rmse <= 0.94);
    }
    siren_app_close(&app);
}

static int set_up(void **state)
{
    return siren_pool_create(&pool, 0, &err) || scratch_create(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_movies),
        cmocka_unit_test(test_ml_100k),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
