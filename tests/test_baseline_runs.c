/* The table of baselines over a small made-up workspace. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "baselines_fixture.h"
#include "siren/import.h"
#include "siren/random.h"

enum { USERS = 40, ITEMS = 30 };

/* Two train ratings of every item by people who gave no others: with fewer than three ratings
 * nobody has a valid or a test rating. */
static char *plant(char *at, long long time)
{
    for (int i = 0; i < ITEMS; i++)
        for (int k = 0; k < 2; k++)
            at += sprintf(at, "planted%d,i%d,%d,%lld\n", 2 * i + k, i, i % 2 ? 5 : 1, time + k);
    return at;
}

static void open_csv(struct siren_app *app, const char *name, const char *text, int folds)
{
    char path[256];
    struct siren_workspace *ws;
    struct siren_import_options o;
    snprintf(path, sizeof path, "%s", scratch_path(name));
    siren_import_defaults(&o);
    o.k_core = 0;
    o.folds = folds;
    check(siren_workspace_open(&ws, path, SIREN_WORKSPACE_CREATE, &err));
    check(siren_import(ws, scratch_write("made-up.csv", text, strlen(text)), &o, NULL, NULL, &err));
    siren_workspace_close(ws);
    check(siren_app_open(app, path, SIREN_WORKSPACE_WRITE, &err));
}

/* Users have habits: user u mostly gives 1 + u % 5, or a star less.  planted: the time of
 * ratings planted behind them in the file, 0: none. */
static void open_planted(struct siren_app *app, const char *name, int folds, long long planted)
{
    char *text = malloc(100000), *at = text;
    at += sprintf(at, "user,item,rating,time\n");
    for (uint64_t u = 0; u < USERS; u++)
        for (uint64_t i = 0; i < ITEMS; i++) {
            uint64_t c = u * ITEMS + i;
            if (siren_random_uniform(1, 0, c) > 0.5) continue;
            int rating = 1 + (int)(u % 5) - (siren_random_uniform(1, 1, c) < 0.3 && u % 5 > 0);
            long long time = 1500000000 + (long long)siren_random_below(1, 2, c, 100000);
            at += sprintf(at, "u%d,i%d,%d,%lld\n", (int)u, (int)i, rating, time);
        }
    if (planted) at = plant(at, planted);
    open_csv(app, name, text, folds);
    free(text);
}

static void open_made_up(struct siren_app *app, const char *name, int folds)
{
    open_planted(app, name, folds, 0);
}

static void test_table(void **state)
{
    struct siren_app app;
    struct siren_baseline *rows;
    size_t n, n_runs;
    open_made_up(&app, "table.siren", 0);
    struct siren_baseline_options o = {.fold = -1, .seed = 1, .save = 1};
    check(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err));
    assert_int_equal(n, 11);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(rows[i].n, USERS);
        assert_true(isfinite(rows[i].mae) && isfinite(rows[i].rmse) && rows[i].run > 0);
        assert_int_equal(isfinite(rows[i].log_loss) != 0, strstr(rows[i].name, "habit") != NULL);
    }
    assert_true(row(rows, n, "rating habit (valid)")->mae < 0.6);
    assert_true(row(rows, n, "user's mean")->mae < row(rows, n, "global mean")->mae);

    struct siren_run *runs;
    struct siren_predictions p;
    check(siren_runs_load(&runs, &n_runs, app.ws, "baseline", &err));
    assert_int_equal(n_runs, n);
    for (size_t i = 0; i < n_runs; i++) {
        assert_int_equal(runs[i].status, SIREN_RUN_DONE);
        assert_non_null(strstr(runs[i].metrics, "mae"));
    }
    siren_runs_free(runs, n_runs);
    /* the stored predictions give the table's number */
    const struct siren_baseline *habit = row(rows, n, "rating habit (valid)");
    check(siren_predictions_load(&p, app.ws, habit->run, &err));
    double sum = 0;
    for (size_t i = 0; i < p.n; i++) sum += fabs(p.prediction[i].median - p.prediction[i].truth);
    assert_true(fabs(sum / (double)p.n - habit->mae) < 1e-9);
    siren_predictions_clear(&p);
    free(rows);
    /* What cannot be fitted on is told before anything is stored. */
    o.fit_split = "test:A";
    assert_int_equal(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err), SIREN_EINVAL);
    check(siren_runs_load(&runs, &n, app.ws, "baseline", &err));
    assert_int_equal(n, n_runs);
    siren_runs_free(runs, n);
    siren_app_close(&app);
}

/* The habit model on all of train by name is the one that is there; on others it is its own. */
static void test_chosen_rows(void **state)
{
    struct siren_app app;
    struct siren_baseline *rows;
    size_t n;
    open_made_up(&app, "chosen.siren", 0);
    struct siren_baseline_options o = {.fold = -1, .seed = 1, .fit_split = "train"};
    check(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err));
    assert_int_equal(n, 14);
    const struct siren_baseline *all = row(rows, n, "rating habit (train)"),
                                *chosen = row(rows, n, "rating habit (chosen rows)");
    assert_true(all->log_loss == chosen->log_loss && all->mae == chosen->mae);
    free(rows);
    o.fit_split = "train:last";
    o.fit_rows = 30;
    o.only = "nobody's";
    assert_int_equal(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "\"rating habit (chosen rows)\""));
    o.only = "chosen";
    check(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err));
    assert_int_equal(n, 3);
    assert_string_equal(rows[0].name, "rating histogram (chosen rows)");
    assert_non_null(strstr(rows[0].settings, "11 features")); /* shares, counts, their number */
    for (size_t i = 0; i < n; i++) assert_string_equal(rows[i].fitted_on, "train:last, 30 rows");
    free(rows);
    o.fit_split = "test:A";
    assert_int_equal(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "test:A"));
    /* What comes after valid is not known to it, and it is not fitted on itself. */
    o.split = "valid";
    assert_int_equal(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "to be reported on only"));
    o.fit_split = "train:last+valid:A";
    assert_int_equal(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "is what is judged"));
    o.split = "test";
    o.fit_rows = 0;
    check(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err));
    assert_int_equal(n, 3);
    assert_non_null(strstr(rows[0].fitted_on, "train:last+valid:A, "));
    assert_non_null(strstr(rows[0].fitted_on, " rows"));
    free(rows);
    siren_app_close(&app);
}

/* Same seed, other threads: the same table. */
/* Nothing is known of a user whose every rating is left out. */
static void test_gap(void **state)
{
    struct siren_app app;
    struct siren_baseline *rows;
    size_t n;
    open_made_up(&app, "gap.siren", 0);
    struct siren_baseline_options o = {.fold = -1, .seed = 1, .fit_split = "train:last"};
    check(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err));
    double mean = row(rows, n, "user's mean")->mae;
    double habit = row(rows, n, "rating habit (chosen rows)")->log_loss;
    free(rows);
    o.gap = 1;
    check(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err));
    assert_true(row(rows, n, "user's mean")->mae != mean);
    assert_true(row(rows, n, "rating habit (chosen rows)")->log_loss != habit);
    free(rows);
    o.gap = SIZE_MAX;
    check(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err));
    assert_true(row(rows, n, "user's mean")->mae == row(rows, n, "global mean")->mae);
    free(rows);
    siren_app_close(&app);
}

static void test_threads_change_nothing(void **state)
{
    struct siren_app app;
    struct siren_baseline *rows, *again;
    size_t n, n_again;
    struct siren_pool *three;
    open_made_up(&app, "threads.siren", 0);
    check(siren_pool_create(&three, 3, &err));
    struct siren_baseline_options o = {.split = "valid", .fold = -1, .seed = 2};
    check(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err));
    check(siren_baselines(&app, &o, three, &again, &n_again, NULL, &err));
    assert_int_equal(n, n_again);
    for (size_t i = 0; i < n; i++) {
        assert_true(rows[i].mae == again[i].mae && rows[i].rmse == again[i].rmse);
        assert_int_equal(rows[i].run, 0);
    }
    assert_non_null(strstr(row(rows, n, "rating habit (valid)")->fitted_on, "cross-fitted"));
    free(rows);
    free(again);
    siren_pool_free(three);
    siren_app_close(&app);
}

/* What comes after the judged ratings, here each user's last one, moves no statistic, no fit and
 * no prediction. */
static void test_the_future_changes_nothing(void **state)
{
    struct siren_app app;
    struct siren_baseline *rows, *again;
    size_t n, n_again, changed = 0;
    open_made_up(&app, "future.siren", 0);
    struct siren_baseline_options o = {.split = "valid", .fold = -1, .seed = 2};
    check(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err));
    for (size_t i = 0; i < app.ratings.n; i++)
        if (app.ratings.label[i] == SIREN_LABEL_TEST) {
            app.ratings.rating[i] = 6 - app.ratings.rating[i];
            changed++;
        }
    assert_int_equal(changed, USERS);
    check(siren_baselines(&app, &o, pool, &again, &n_again, NULL, &err));
    assert_int_equal(n, n_again);
    for (size_t i = 0; i < n; i++) {
        assert_true(rows[i].mae == again[i].mae && rows[i].rmse == again[i].rmse);
        if (isfinite(rows[i].log_loss)) assert_true(rows[i].log_loss == again[i].log_loss);
    }
    free(rows);
    free(again);
    siren_app_close(&app);
}

/* Runs the habit models on valid; the stored predictions of the one with item statistics. */
static void predict_planted(const char *name, long long planted, struct siren_predictions *out)
{
    struct siren_app app;
    struct siren_baseline *rows;
    size_t n;
    open_planted(&app, name, 0, planted);
    for (size_t i = 0; i < app.ratings.n && planted; i++) /* all that was planted is train */
        if (app.ratings.user[i] >= USERS) assert_int_equal(app.ratings.label[i], SIREN_LABEL_TRAIN);
    assert_int_equal(app.ratings.n_users, planted ? USERS + 2 * ITEMS : USERS);
    struct siren_baseline_options o = {
        .split = "valid", .fold = -1, .only = "habit", .seed = 2, .save = 1};
    check(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err));
    check(siren_predictions_load(out, app.ws, row(rows, n, "rating habit and item (valid)")->run,
                                 &err));
    assert_int_equal(out->n, USERS);
    free(rows);
    siren_app_close(&app);
}

/* The stored predictions of matrix factorisation on valid, SGD's, then ALS's. */
static void predict_factors(struct siren_app *app, struct siren_predictions out[2])
{
    struct siren_baseline *rows;
    size_t n;
    struct siren_baseline_options o = {
        .split = "valid", .fold = -1, .only = "factorisation", .seed = 2, .save = 1};
    check(siren_baselines(app, &o, pool, &rows, &n, NULL, &err));
    assert_int_equal(n, 2);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(rows[i].fitted_on, "all of train, settings on the other half of valid");
        assert_non_null(strstr(rows[i].settings, " epochs; "));
        check(siren_predictions_load(&out[i], app->ws, rows[i].run, &err));
    }
    free(rows);
}

/* Where valid is judged, a row's own rating does not choose the settings that predict it: those of
 * half A are unmoved by half A's ratings, and half B's are chosen anew. */
static void test_judged_rows_choose_no_settings(void **state)
{
    struct siren_app app;
    struct siren_predictions before[2], after[2];
    size_t n_same = 0, n_moved = 0;
    open_made_up(&app, "crossed.siren", 0);
    predict_factors(&app, before);
    for (size_t i = 0; i < app.ratings.n; i++)
        if (app.ratings.label[i] == SIREN_LABEL_VALID &&
            siren_user_half(app.users.external[app.ratings.user[i]]) == 0)
            app.ratings.rating[i] = 6 - app.ratings.rating[i];
    predict_factors(&app, after);
    for (int method = 0; method < 2; method++) {
        for (size_t i = 0; i < before[method].n; i++) {
            const struct siren_prediction *a = &before[method].prediction[i],
                                          *b = &after[method].prediction[i];
            if (siren_user_half(app.users.external[a->user]) == 0)
                assert_true(++n_same && a->mean == b->mean);
            else
                n_moved += a->mean != b->mean;
        }
        siren_predictions_clear(&before[method]);
        siren_predictions_clear(&after[method]);
    }
    assert_true(n_same > 0 && n_moved > 0);
    siren_app_close(&app);
}

static int same_predictions(const struct siren_predictions *a, const struct siren_predictions *b)
{
    for (size_t i = 0; i < a->n; i++)
        if (a->prediction[i].mean != b->prediction[i].mean ||
            a->prediction[i].median != b->prediction[i].median)
            return 0;
    return 1;
}

/* Train ratings of other people move item statistics, and through them the calibrator and its
 * predictions, from their own time on and not before. */
static void test_later_train_ratings_change_nothing(void **state)
{
    struct siren_predictions without, later, earlier;
    predict_planted("none.siren", 0, &without);
    predict_planted("later.siren", 1600000000, &later);
    predict_planted("earlier.siren", 1400000000, &earlier);
    assert_true(same_predictions(&without, &later));
    assert_false(same_predictions(&without, &earlier));
    siren_predictions_clear(&without);
    siren_predictions_clear(&later);
    siren_predictions_clear(&earlier);
}

static void test_folds_and_choice(void **state)
{
    struct siren_app app;
    struct siren_baseline *rows;
    size_t n;
    open_made_up(&app, "folds.siren", 4);
    struct siren_baseline_options o = {.fold = 2, .only = "mean", .seed = 1};
    check(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err));
    assert_int_equal(n, 3);
    assert_true(rows[0].n > USERS);
    free(rows);
    siren_app_close(&app);
}

/* What is fitted on valid has no other user to be fitted on. */
static void test_one_user(void **state)
{
    struct siren_app app;
    struct siren_baseline *rows;
    size_t n;
    open_csv(&app, "one.siren", "user,item,rating,time\nu,a,1,1\nu,b,2,2\nu,c,3,3\nu,d,4,4\n", 0);
    struct siren_baseline_options o = {.split = "valid", .fold = -1, .seed = 1};
    check(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err));
    row(rows, n, "user's mean");
    row(rows, n, "rating habit (train)");
    for (size_t i = 0; i < n; i++) assert_null(strstr(rows[i].name, "(valid)"));
    free(rows);
    siren_app_close(&app);
}

static int stop(void *context, const char *what, uint64_t done, uint64_t total)
{
    return done >= 500;
}

static void test_errors(void **state)
{
    struct siren_app app;
    struct siren_baseline *rows;
    size_t n;
    struct siren_progress progress = {stop, NULL};
    open_made_up(&app, "errors.siren", 0);
    struct siren_baseline_options o = {.split = "train", .fold = -1};
    assert_int_equal(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err), SIREN_EINVAL);
    assert_non_null(strstr(err.message, "train"));
    o.split = "test";
    assert_int_equal(siren_baselines(&app, &o, pool, &rows, &n, &progress, &err), SIREN_ECANCEL);
    assert_null(rows);
    o.fold = 3;
    assert_int_not_equal(siren_baselines(&app, &o, pool, &rows, &n, NULL, &err), 0);
    siren_app_close(&app);
}

static int set_up(void **state)
{
    return siren_pool_create(&pool, 1, &err) || scratch_create(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_chosen_rows),
        cmocka_unit_test(test_gap),
        cmocka_unit_test(test_threads_change_nothing),
        cmocka_unit_test(test_the_future_changes_nothing),
        cmocka_unit_test(test_judged_rows_choose_no_settings),
        cmocka_unit_test(test_later_train_ratings_change_nothing),
        cmocka_unit_test(test_folds_and_choice),
        cmocka_unit_test(test_one_user),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
