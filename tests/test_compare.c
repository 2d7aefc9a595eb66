/* Runs compared on the rows that they have in common. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#include "app/parts.h"
#include "fake_setup.h"
#include "siren/baseline_runs.h"

#include "runs_fixture.h" /* after fake_setup.h */

static int compare_two(struct siren_app *app, int64_t a, int64_t b, char **json)
{
    const struct siren_run_set sides[] = {{&a, 1}, {&b, 1}};
    return siren_runs_compare(app, sides, pool, json, ERR);
}

static int gain_of(struct siren_app *app, int64_t before, int64_t teacher, int64_t student,
                   char **json)
{
    const struct siren_run_set sides[] = {{&before, 1}, {&teacher, 1}, {&student, 1}};
    return siren_runs_gain(app, sides, pool, json, ERR);
}

static size_t rows_in_common(struct siren_app *app, int64_t a, int64_t b, int table)
{
    char *json;
    if (table)
        MUST(siren_runs_table(app, (const int64_t[]){a, b}, 2, &json, ERR));
    else
        MUST(compare_two(app, a, b, &json));
    json_t *report = json_loads(json, 0, NULL);
    size_t n = (size_t)json_integer_value(json_object_get(report, "rows"));
    json_decref(report);
    free(json);
    return n;
}

/* The errors of two runs would be about two things, and one system seem better than itself. */
static void a_corrected_rating_is_not_in_common(struct siren_app *app, const struct siren_target *t)
{
    struct siren_baseline_options b = {.fold = -1, .save = 1, .only = "highest"};
    struct siren_baseline *rows;
    struct siren_rate_result result;
    int64_t run[2];
    size_t n;
    for (int i = 0; i < 2; i++) {
        MUST(siren_baselines(app, &b, pool, &rows, &n, NULL, ERR));
        run[i] = rows[0].run;
        free(rows);
        double rating = app->ratings.rating[t->row] == 5 ? 4 : 5;
        if (i) break;
        MUST(siren_rate(app->ws, t->user, t->item, rating, SIREN_NOW, &result, ERR));
        app->ratings.rating[t->row] = (float)rating;
    }
    assert_int_equal(rows_in_common(app, run[0], run[1], 0), N_USERS - 1);
    assert_int_equal(rows_in_common(app, run[0], run[1], 1), N_USERS - 1);
}

static void runs_are_compared_on_their_common_rows(void **state)
{
    struct siren_app app;
    struct siren_eval_options o = siren_eval_defaults();
    int64_t a, b, other;
    char *json, best[8192] = "";
    size_t used = 0, n;
    struct siren_target *targets;
    json_t *report, *first;
    int rc;
    MUST(siren_app_open(&app, fixture_workspace("compare.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_WRITE, ERR));
    MUST(siren_evaluate(&app, &lm, &o, pool, &a, NULL, ERR));
    MUST(siren_eval_targets(&app, &o, &targets, &n, ERR));
    for (size_t i = 0; i + 2 < n; i++)
        used += (size_t)snprintf(
            best + used, sizeof best - used, "{\"row\":[\"%s\",\"%s\"],\"rating\":%g}\n",
            app.users.external[targets[i].user], app.items.item[targets[i].item].external,
            (double)app.ratings.rating[targets[i].row]);
    b = judged(&app, best, &rc);
    assert_int_equal(rc, 0);
    MUST(compare_two(&app, a, b, &json));
    report = json_loads(json, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(report, "rows")), N_USERS - 2);
    assert_int_equal(json_array_size(json_object_get(report, "tests")), 6);
    first = json_array_get(json_object_get(report, "tests"), 0);
    assert_true(json_number_value(json_object_get(first, "difference")) > 0);
    assert_true(json_number_value(json_object_get(first, "b")) == 0);
    json_decref(report);
    free(json);
    MUST(siren_runs_table(&app, (const int64_t[]){a, b}, 2, &json, ERR));
    report = json_loads(json, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(report, "rows")), N_USERS - 2);
    first = json_array_get(json_object_get(report, "runs"), 1);
    assert_true(number(first, "median", "mae") == 0);
    assert_true(json_is_null(json_object_get(first, "log_loss")));
    json_decref(report);
    free(json);
    /* Of what b gains over a: b itself all, a itself nothing. */
    for (int own = 0; own < 2; own++) {
        MUST(gain_of(&app, a, b, own ? b : a, &json));
        report = json_loads(json, 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(report, "rows")), N_USERS - 2);
        assert_int_equal(json_integer_value(json_object_get(report, "student")), own ? b : a);
        assert_int_equal(json_array_size(json_object_get(report, "tests")), 6);
        first = json_array_get(json_object_get(report, "tests"), 0);
        assert_true(json_number_value(json_object_get(first, "gain")) < 0);
        assert_true(json_number_value(json_object_get(first, "teacher")) == 0);
        assert_true(json_number_value(json_object_get(first, "share")) == own);
        json_decref(report);
        free(json);
    }
    /* The other way round there is nothing to have a share of. */
    MUST(gain_of(&app, b, a, a, &json));
    report = json_loads(json, 0, NULL);
    json_t *lost = json_array_get(json_object_get(report, "tests"), 0);
    assert_true(json_number_value(json_object_get(lost, "gain_low")) > 0);
    assert_true(json_is_null(json_object_get(lost, "share")));
    json_decref(report);
    free(json);
    assert_int_equal(gain_of(&app, a, b, 999, &json), SIREN_ENOTFOUND);
    a_corrected_rating_is_not_in_common(&app, &targets[0]);
    o = train_options();
    MUST(siren_evaluate(&app, &lm, &o, pool, &other, NULL, ERR));
    assert_int_equal(siren_runs_table(&app, (const int64_t[]){a, b, other}, 3, &json, ERR),
                     SIREN_ENOTFOUND);
    assert_non_null(strstr(ERR->message, "of \"train\"; name those of one split"));
    assert_int_equal(siren_runs_table(&app, (const int64_t[]){a, 999}, 2, &json, ERR),
                     SIREN_ENOTFOUND);
    assert_int_equal(compare_two(&app, a, 999, &json), SIREN_ENOTFOUND);
    free(targets);
    siren_app_close(&app);
}

/* One side of the first two tests, "mae" and "rmse" of a decoder, as JSON has it. */
static void two_losses(struct siren_app *app, const struct siren_run_set *sides, const char *side,
                       double *mae, double *rmse)
{
    char *json;
    MUST(siren_runs_compare(app, sides, pool, &json, ERR));
    json_t *report = json_loads(json, 0, NULL), *tests = json_object_get(report, "tests");
    *mae = json_number_value(json_object_get(json_array_get(tests, 0), side));
    *rmse = json_number_value(json_object_get(json_array_get(tests, 1), side));
    assert_int_equal(json_array_size(json_object_get(report, side)), sides[side[0] - 'a'].n);
    assert_null(json_object_get(report, "answers"));
    json_decref(report);
    free(json);
}

/* Absolute errors of several runs are averaged, and squared ones before their root is taken. */
static void several_runs_are_one_side(void **state)
{
    struct siren_app app;
    struct siren_baseline_options b = {.fold = -1, .save = 1};
    struct siren_baseline *rows;
    double alone[3][2], got[2];
    int64_t id[3];
    size_t n;
    char *json;
    MUST(siren_app_open(&app, fixture_workspace("sides.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_WRITE, ERR));
    for (int k = 0; k < 3; k++) {
        static const char *const names[] = {"highest", "global mean", "user's mean"};
        b.only = names[k];
        MUST(siren_baselines(&app, &b, pool, &rows, &n, NULL, ERR));
        id[k] = rows[0].run;
        free(rows);
    }
    for (int k = 0; k < 3; k++) {
        MUST(compare_two(&app, id[k], id[0], &json));
        json_t *report = json_loads(json, 0, NULL), *tests = json_object_get(report, "tests");
        for (int i = 0; i < 2; i++)
            alone[k][i] = json_number_value(json_object_get(json_array_get(tests, (size_t)i), "a"));
        json_decref(report);
        free(json);
    }
    const struct siren_run_set sides[] = {{id, 3}, {id + 1, 2}};
    two_losses(&app, sides, "a", &got[0], &got[1]);
    double mae = (alone[0][0] + alone[1][0] + alone[2][0]) / 3, squares = 0;
    for (int k = 0; k < 3; k++) squares += alone[k][1] * alone[k][1] / 3;
    assert_true(fabs(got[0] - mae) < 1e-12);
    assert_true(fabs(got[1] - sqrt(squares)) < 1e-12);
    two_losses(&app, sides, "b", &got[0], &got[1]);
    assert_true(fabs(got[0] - (alone[1][0] + alone[2][0]) / 2) < 1e-12);
    const struct siren_run_set twice[] = {{(int64_t[]){id[0], id[1], id[0]}, 3}, {id, 1}};
    assert_int_equal(siren_runs_compare(&app, twice, pool, &json, ERR), SIREN_EINVAL);
    assert_non_null(strstr(ERR->message, "is named twice"));
    const struct siren_run_set none[] = {{id, 0}, {id, 1}};
    assert_int_equal(siren_runs_compare(&app, none, pool, &json, ERR), SIREN_EINVAL);
    siren_app_close(&app);
}

/* What the texts said, and what stood behind them. */
static void reasoned_runs_are_compared_by_their_numbers(void **state)
{
    struct siren_app app;
    struct siren_eval_options o = siren_eval_defaults();
    int64_t run[2];
    char *json;
    size_t i, numbers = 0;
    json_t *report, *test;
    o.predict.mode = SIREN_COT;
    o.predict.samples = 1;
    o.anew = 1;
    MUST(siren_app_open(&app, fixture_workspace("numbers.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_WRITE, ERR));
    for (int k = 0; k < 2; k++) MUST(siren_evaluate(&app, &lm, &o, pool, &run[k], NULL, ERR));
    MUST(compare_two(&app, run[0], run[1], &json));
    report = json_loads(json, 0, NULL);
    json_array_foreach(json_object_get(report, "tests"), i, test)
    {
        const char *decoder = json_string_value(json_object_get(test, "decoder"));
        if (!decoder || strcmp(decoder, "number") != 0) continue;
        assert_true(json_number_value(json_object_get(test, "a")) > 0);
        assert_true(json_number_value(json_object_get(test, "difference")) == 0);
        numbers++;
    }
    assert_int_equal(numbers, 2);
    assert_int_equal(i, 10);
    json_decref(report);
    free(json);
    siren_app_close(&app);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_are_compared_on_their_common_rows),
        cmocka_unit_test(several_runs_are_one_side),
        cmocka_unit_test(reasoned_runs_are_compared_by_their_numbers),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
