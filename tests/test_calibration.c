/* The calibrated read-out: fitted on a run on valid, reported, kept in a file, used by predictions,
 * and refused where it does not belong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <sqlite3.h>

#include "app/calibration.h"
#include "app/target_features.h"
#include "fake_setup.h"
#include "run_program.h"
#include "siren/calibration.h"
#include "siren/file.h"

static struct siren_pool *pool;

static int64_t evaluate(struct siren_app *app, const char *split,
                        struct siren_calibration *calibration)
{
    struct siren_eval_options o = siren_eval_defaults();
    int64_t run;
    o.split = split;
    o.predict.calibration = calibration;
    MUST(siren_evaluate(app, &lm, &o, pool, &run, NULL, ERR));
    return run;
}

static void open_app(struct siren_app *app, const char *name)
{
    MUST(siren_app_open(app, fixture_workspace(name, SIREN_PROTOCOL_FULL), SIREN_WORKSPACE_WRITE,
                        ERR));
}

static struct siren_calibration *fit(struct siren_app *app, int64_t run, char **json)
{
    const struct siren_calibrate_options o = {.run = run, .l2 = 0.01};
    struct siren_calibration *c;
    char *text;
    MUST(siren_calibrate(&c, app, &o, pool, &text, ERR));
    if (json)
        *json = text;
    else
        free(text);
    return c;
}

/* ---- fitting ---- */

static void three_rows_are_reported(void **state)
{
    struct siren_app app;
    char *text;
    json_t *report, *rows, *row;
    size_t i, n[3], n_fitted;
    static const char *const names[] = {"as the model answered", "calibrated", "without the model"};
    open_app(&app, "report.siren");
    int64_t run = evaluate(&app, "valid", NULL);
    struct siren_calibration *c = fit(&app, run, &text);
    report = json_loads(text, 0, NULL);
    rows = json_object_get(report, "rows");
    assert_int_equal(json_array_size(rows), 3);
    json_array_foreach(rows, i, row)
    {
        struct siren_run stored;
        struct siren_predictions p;
        int64_t id = json_integer_value(json_object_get(row, "run"));
        assert_string_equal(json_string_value(json_object_get(row, "name")), names[i]);
        n[i] = (size_t)json_integer_value(json_object_get(row, "n"));
        assert_true(json_real_value(json_object_get(row, "log_loss")) > 0);
        MUST(siren_run_load(&stored, app.ws, id, ERR));
        MUST(siren_predictions_load(&p, app.ws, id, ERR));
        assert_string_equal(stored.kind, i ? "calibration" : "eval");
        if (i) assert_string_equal(stored.split, "valid:B");
        for (size_t k = 0; i && k < p.n; k++)
            assert_int_equal(siren_user_half(app.users.external[p.prediction[k].user]), 1);
        if (i) assert_int_equal(p.n, n[i]);
        assert_string_equal(stored.model, i == 2 ? "" : lm.identity);
        if (i == 1) assert_non_null(strstr(stored.settings, "\"logistic\":{"));
        siren_predictions_clear(&p);
        siren_run_clear(&stored);
    }
    n_fitted =
        (size_t)json_integer_value(json_object_get(json_object_get(report, "fitted"), "rows"));
    assert_true(n[0] == n[1] && n[1] == n[2] && n[0] + n_fitted == N_USERS && n_fitted > 0);
    json_decref(report);
    free(text);
    siren_calibration_free(c);
    siren_app_close(&app);
}

/* The rows of a run in one half of the users. */
struct rows {
    size_t n;
    int32_t label[N_USERS], user[N_USERS];
    double x[N_USERS * 64];
};

static void rows_of_half(struct rows *rows, const struct siren_app *app,
                         const struct siren_predictions *p, const struct target_features *f,
                         int half)
{
    rows->n = 0;
    assert_true(f->d <= 64 && p->n <= N_USERS);
    for (size_t i = 0; i < p->n; i++) {
        const struct siren_prediction *of = &p->prediction[i];
        struct siren_target t = {.user = of->user,
                                 .item = of->item,
                                 .row = siren_ratings_row(&app->ratings, of->user, of->item)};
        double logprobs[5];
        if (siren_user_half(app->users.external[of->user]) != half) continue;
        for (int k = 0; k < 5; k++) logprobs[k] = (double)of->logprobs[k];
        calibration_features(f, &t, logprobs, 5, rows->x + rows->n * (size_t)f->d);
        rows->label[rows->n] = (int32_t)of->truth - 1;
        rows->user[rows->n++] = of->user;
    }
}

/* Half B's distributions are those of a model of half A's rows, fitted here. */
static void one_half_is_fitted_and_the_other_reported(void **state)
{
    static struct rows a, b;
    const struct siren_logistic_options options = {.l2 = 0.01};
    struct siren_app app;
    struct siren_predictions run, calibrated;
    struct siren_logistic *model;
    struct target_features f;
    double p[N_USERS * 5];
    open_app(&app, "halves.siren");
    int64_t id = evaluate(&app, "valid", NULL);
    struct siren_calibration *c = fit(&app, id, NULL);
    MUST(siren_predictions_load(&run, app.ws, id, ERR));
    MUST(siren_predictions_load(&calibrated, app.ws, id + 1, ERR));
    MUST(target_features_open(&f, &app, c->groups, 0, ERR));
    rows_of_half(&a, &app, &run, &f, 0);
    rows_of_half(&b, &app, &run, &f, 1);
    MUST(siren_logistic_fit(&model, a.x, a.label, a.user, a.n, f.d, 5, &options, ERR));
    MUST(siren_logistic_predict(model, b.x, b.n, p, ERR));
    assert_int_equal(calibrated.n, b.n);
    for (size_t i = 0; i < b.n; i++) {
        assert_int_equal(calibrated.prediction[i].user, b.user[i]);
        assert_true(calibrated.prediction[i].truth == b.label[i] + 1);
        for (int k = 0; k < 5; k++)
            assert_true(calibrated.prediction[i].probabilities[k] == (float)p[i * 5 + (size_t)k]);
    }
    siren_logistic_free(model);
    target_features_close(&f);
    siren_predictions_clear(&run);
    siren_predictions_clear(&calibrated);
    siren_calibration_free(c);
    siren_app_close(&app);
}

/* What `predict --calibration` says of a row of half B is what was reported of it. */
static void answers_are_those_that_were_reported(void **state)
{
    struct siren_app app;
    struct siren_predictions stored;
    struct siren_predict_options o = siren_predict_defaults();
    open_app(&app, "apply.siren");
    int64_t run = evaluate(&app, "valid", NULL);
    struct siren_calibration *c = fit(&app, run, NULL);
    MUST(siren_predictions_load(&stored, app.ws, run + 1, ERR));
    for (size_t i = 0; i < stored.n; i++) {
        const struct siren_prediction *p = &stored.prediction[i];
        struct siren_target t = {.user = p->user,
                                 .item = p->item,
                                 .row = siren_ratings_row(&app.ratings, p->user, p->item)};
        struct siren_answer plain, calibrated;
        o.calibration = NULL;
        MUST(siren_predict(&app, &lm, &t, 1, &o, &plain, NULL, ERR));
        o.calibration = c;
        MUST(siren_predict(&app, &lm, &t, 1, &o, &calibrated, NULL, ERR));
        double sum = 0;
        for (int k = 0; k < 5; k++) {
            assert_true((float)calibrated.probabilities[k] == p->probabilities[k]);
            assert_true(calibrated.logprobs[k] == plain.logprobs[k]);
            sum += calibrated.probabilities[k];
        }
        assert_true(fabs(sum - 1) < 1e-12);
        assert_true(calibrated.mean == p->mean && calibrated.mean != plain.mean);
        assert_true(calibrated.median == p->median && calibrated.argmax == p->argmax);
        siren_answer_clear(&plain);
        siren_answer_clear(&calibrated);
    }
    siren_predictions_clear(&stored);
    siren_calibration_free(c);
    siren_app_close(&app);
}

/* For now, for a new user, for a new item: no row of the ratings. */
static void targets_of_now(void **state)
{
    struct siren_app app;
    struct siren_predict_options o = siren_predict_defaults();
    struct siren_target targets[3] = {{.user = 3, .item = 29, .row = SIREN_NO_ROW},
                                      {.user = -1, .item = 2, .row = SIREN_NO_ROW},
                                      {.user = 2, .item = -1, .row = SIREN_NO_ROW, .title = "New"}};
    struct siren_answer answers[3];
    open_app(&app, "now.siren");
    o.calibration = fit(&app, evaluate(&app, "valid", NULL), NULL);
    MUST(siren_predict(&app, &lm, targets, 3, &o, answers, NULL, ERR));
    for (int i = 0; i < 3; i++) {
        assert_true(answers[i].mean >= 1 && answers[i].mean <= 5);
        siren_answer_clear(&answers[i]);
    }
    siren_calibration_free(o.calibration);
    siren_app_close(&app);
}

static void runs_name_their_calibration(void **state)
{
    struct siren_app app;
    struct siren_run plain, calibrated;
    char hash[17];
    open_app(&app, "named.siren");
    struct siren_calibration *c = fit(&app, evaluate(&app, "valid", NULL), NULL);
    int64_t a = evaluate(&app, "test", NULL), b = evaluate(&app, "test", c);
    assert_true(a != b);
    MUST(siren_run_load(&plain, app.ws, a, ERR));
    MUST(siren_run_load(&calibrated, app.ws, b, ERR));
    siren_calibration_hash(c, hash);
    assert_null(strstr(plain.settings, "calibration"));
    assert_non_null(strstr(calibrated.settings, hash));
    assert_string_not_equal(plain.metrics, calibrated.metrics);
    siren_run_clear(&plain);
    siren_run_clear(&calibrated);
    siren_calibration_free(c);
    siren_app_close(&app);
}

/* A rating counts in the candidate's topic by its item's share in it: by hand, of a user's ratings
 * of items 3 to 16. */
static void ratings_count_by_their_share_in_the_topic(void **state)
{
    static const double shares[N_TOPICS] = {0, 0.25, 0.75}; /* in topic 2 */
    struct siren_target t = {.user = 3, .item = 29, .row = SIREN_NO_ROW};
    struct siren_app app;
    struct target_features f;
    double x[3], weight = 0, sum = 0, theta;
    open_app(&app, "soft.siren");
    theta = siren_scale_theta(&app.meta.scale);
    app.soft = 1;
    for (int i = 0; i < N_ITEMS; i++) {
        app.topics.second[i] = (app.topics.topic[i] + 1) % N_TOPICS;
        app.topics.distance[i] = 1;
        app.topics.second_distance[i] = 3;
    }
    for (int k = 0; k < N_EACH; k++) {
        weight += shares[(3 + k) % N_TOPICS];
        sum += shares[(3 + k) % N_TOPICS] * fixture_rating(3, k);
    }
    MUST(target_features_open(&f, &app, SIREN_FEATURE_TOPIC, 0, ERR));
    assert_int_equal(f.d, 3);
    target_features_fill(&f, &t, NULL, x);
    assert_float_equal(x[0], log1p(weight), 1e-12);
    assert_float_equal(x[1], (sum - theta * weight) / (weight + 1), 1e-12);
    assert_float_equal(x[2], (sum - theta * weight) / (weight + 5), 1e-12);
    target_features_close(&f);
    siren_app_close(&app);
}

/* ---- the file ---- */

static void a_file_gives_it_back(void **state)
{
    struct siren_app app;
    struct siren_calibration *c, *again;
    char a[17], b[17], path[256];
    open_app(&app, "file.siren");
    c = fit(&app, evaluate(&app, "valid", NULL), NULL);
    strcpy(path, scratch_path("c.calibration"));
    MUST(siren_calibration_save(c, path, ERR));
    MUST(siren_calibration_load(&again, path, ERR));
    siren_calibration_hash(c, a);
    siren_calibration_hash(again, b);
    assert_string_equal(a, b);
    struct siren_predict_options o = siren_predict_defaults();
    MUST(siren_calibration_check(again, &app, &lm, &o, ERR));
    assert_int_equal(siren_calibration_save(c, scratch_path("no/such/folder"), ERR),
                     SIREN_ENOTFOUND);
    siren_calibration_free(again);
    /* Any digit counts. */
    char *text, *digit;
    size_t size;
    MUST(siren_file_read(&text, &size, path, 1 << 24, ERR));
    digit = strpbrk(strstr(text, "\"weights\""), "0123456789");
    *digit = *digit == '7' ? '8' : '7';
    scratch_write("c.calibration", text, size);
    free(text);
    assert_int_equal(siren_calibration_load(&again, path, ERR), SIREN_EFORMAT);
    assert_non_null(strstr(ERR->message, "it was damaged, or changed"));
    siren_calibration_free(again);
    siren_calibration_free(c);
    siren_app_close(&app);
}

static void damaged_files(void **state)
{
    static const char *const texts[] = {
        "",
        "user,item",
        "[]",
        "{}",
        "{\"siren_calibration\": 1, \"features\": 16, \"belongs_to\": {}}",
        "{\"siren_calibration\": 1, \"features\": 8, \"belongs_to\": {}, \"logistic\": {}}",
        "{\"siren_calibration\": 1, \"features\": 16, \"belongs_to\": [], \"logistic\": {}}",
        "{\"siren_calibration\": 1, \"features\": 16, \"belongs_to\": {}, \"logistic\": {}}",
    };
    struct siren_calibration *c;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *path = scratch_write("bad.calibration", texts[i], strlen(texts[i]));
        int rc = siren_calibration_load(&c, path, ERR);
        const char *says = i < 4 ? "bad.calibration: no calibration as" : "bad.calibration";
        if (rc != SIREN_EFORMAT || !strstr(ERR->message, says))
            fail_msg("%s: %d, %s", texts[i], rc, ERR->message);
        assert_null(c);
    }
    static const char later[] = "{\"siren_calibration\": 2, \"features\": 16, \"belongs_to\": {}}";
    assert_int_equal(
        siren_calibration_load(&c, scratch_write("later", later, sizeof later - 1), ERR),
        SIREN_EUNSUPPORTED);
    assert_int_equal(siren_calibration_load(&c, "/nonexistent", ERR), SIREN_ENOTFOUND);
}

/* ---- refused ---- */

static void no_fit(struct siren_app *app, int64_t run, int code, const char *words)
{
    const struct siren_calibrate_options o = {.run = run};
    struct siren_calibration *c;
    char *json;
    int rc = siren_calibrate(&c, app, &o, pool, &json, ERR);
    if (rc != code || !strstr(ERR->message, words)) fail_msg("%d: %s", rc, ERR->message);
    assert_null(c);
    assert_null(json);
}

static void what_is_not_valid_is_not_read(void **state)
{
    struct siren_app app;
    struct siren_run *runs;
    size_t before, after;
    open_app(&app, "refused.siren");
    int64_t test = evaluate(&app, "test", NULL), half = evaluate(&app, "valid:A", NULL),
            valid = evaluate(&app, "valid", NULL);
    MUST(siren_runs_load(&runs, &before, app.ws, NULL, ERR));
    siren_runs_free(runs, before);
    no_fit(&app, test, SIREN_EINVAL, "split \"test\"");
    no_fit(&app, half, SIREN_ENOTFOUND, "0 of half B");
    no_fit(&app, 99, SIREN_ENOTFOUND, "99");
    MUST(siren_runs_load(&runs, &after, app.ws, NULL, ERR));
    siren_runs_free(runs, after);
    assert_int_equal(before, after);
    struct siren_calibration *c = fit(&app, valid, NULL);
    no_fit(&app, valid + 1, SIREN_EINVAL, "kind \"calibration\"");
    no_fit(&app, evaluate(&app, "valid", c), SIREN_EINVAL, "calibrated already");
    siren_calibration_free(c);
    siren_app_close(&app);
}

/* A penalty that is given needs no users to be chosen by. */
static void too_little_is_not_fitted(void **state)
{
    struct siren_app app;
    struct siren_eval_options few = siren_eval_defaults();
    int64_t run;
    open_app(&app, "little.siren");
    few.split = "valid";
    few.limit = 9;
    MUST(siren_evaluate(&app, &lm, &few, pool, &run, NULL, ERR));
    no_fit(&app, run, SIREN_ENOTFOUND, "users of half A; expected 5 or more");
    siren_calibration_free(fit(&app, run, NULL));
    for (size_t i = 0; i < app.ratings.n; i++) app.ratings.rating[i] = 4;
    run = evaluate(&app, "valid", NULL);
    no_fit(&app, run, SIREN_ENOTFOUND, "are all 4; expected two different ones");
    siren_app_close(&app);
}

/* A stopped one has the rows of the users that came first. */
static void an_unfinished_run_is_not_read(void **state)
{
    struct siren_app app;
    open_app(&app, "unfinished.siren");
    int64_t run = evaluate(&app, "valid", NULL);
    MUST(siren_run_finish(app.ws, run, SIREN_RUN_STOPPED, NULL, NULL, ERR));
    no_fit(&app, run, SIREN_EINVAL, "is stopped, with 12 of its rows; expected one that is done");
    MUST(siren_run_finish(app.ws, run, SIREN_RUN_DONE, NULL, NULL, ERR));
    siren_calibration_free(fit(&app, run, NULL));
    siren_app_close(&app);
}

/* `siren calibrate` with a file that cannot be written leaves no runs; with one that can, two. */
static void runs_and_file_or_none(void **state)
{
    char path[256], arguments[700];
    struct siren_app app;
    struct siren_run *runs;
    size_t n;
    strcpy(path, fixture_workspace("both.siren", SIREN_PROTOCOL_FULL));
    MUST(siren_app_open(&app, path, SIREN_WORKSPACE_WRITE, ERR));
    long long run = (long long)evaluate(&app, "valid", NULL);
    for (int k = 0; k < 2; k++) {
        snprintf(arguments, sizeof arguments, "calibrate %s --run %lld --l2 0.01 --out '%s'", path,
                 run, scratch_path(k ? "both.calibration" : "nowhere/both.calibration"));
        assert_int_equal(run_program("", arguments, NULL), !k);
        expect_output(k ? "for --calibration of predict" : "nowhere");
        MUST(siren_runs_load(&runs, &n, app.ws, NULL, ERR));
        siren_runs_free(runs, n);
        assert_int_equal(n, k ? 3 : 1);
    }
    siren_app_close(&app);
}

static int spoil(unsigned event, void *context, void *statement, void *text)
{
    struct siren_app *app = context;
    if (!strcmp(text, "BEGIN IMMEDIATE"))
        for (size_t i = 0; i < app->ratings.n; i++) app->ratings.rating[i] = 5;
    return 0;
}

/* The fits take long: others may write meanwhile.  What is read behind the lock is in no model. */
static void it_is_fitted_before_the_lock(void **state)
{
    struct siren_app app;
    char hash[2][17];
    open_app(&app, "lock.siren");
    int64_t run = evaluate(&app, "valid", NULL);
    for (int k = 0; k < 2; k++) {
        if (k) sqlite3_trace_v2(siren_workspace_db(app.ws), SQLITE_TRACE_STMT, spoil, &app);
        struct siren_calibration *c = fit(&app, run, NULL);
        siren_calibration_hash(c, hash[k]);
        siren_calibration_free(c);
    }
    assert_true(app.ratings.rating[0] == 5 && app.ratings.rating[1] == 5);
    assert_string_equal(hash[0], hash[1]);
    siren_app_close(&app);
}

static void another(struct siren_calibration *c, const struct siren_app *app,
                    const struct siren_lm *model, const struct siren_predict_options *o,
                    const char *part)
{
    int rc = siren_calibration_check(c, app, model, o, ERR);
    if (rc != SIREN_EINVAL || !strstr(ERR->message, part)) fail_msg("%d: %s", rc, ERR->message);
}

static void it_belongs_to_its_model_and_prompts(void **state)
{
    struct siren_app app;
    struct siren_predict_options o = siren_predict_defaults();
    open_app(&app, "belongs.siren");
    struct siren_calibration *c = fit(&app, evaluate(&app, "valid", NULL), NULL);
    struct siren_lm other = lm;
    strcpy(other.identity, "elsewhere#0"); /* the same weights under another name */
    MUST(siren_calibration_check(c, &app, &other, &o, ERR));
    strcpy(other.identity, "fake#1");
    another(c, &app, &other, &o, "another model: \"fake#0\", and this is \"fake#1\"");
    other = lm;
    strcpy(other.adapter_identity, "films#7");
    another(c, &app, &other, &o, "another adapter: none, and this is \"films#7\"");
    other = lm;
    other.tokenizer = fake_tokenizer_that_ends("<|endoftext|>");
    another(c, &app, &other, &o, "another end_of_text: none, and this is 0");
    siren_tokenizer_free(other.tokenizer);
    MUST(siren_strategy_parse(&o.strategy, "recent", ERR));
    another(c, &app, &lm, &o, "another strategy: \"recent+sketch\", and this is \"recent\"");
    struct siren_target t = {.user = 1, .item = 2, .row = SIREN_NO_ROW};
    struct siren_answer answer;
    o.calibration = c;
    assert_int_equal(siren_predict(&app, &lm, &t, 1, &o, &answer, NULL, ERR), SIREN_EINVAL);
    o = siren_predict_defaults();
    app.meta.scale.max = 7;
    another(c, &app, &lm, &o, "another scale");
    siren_calibration_free(c);
    siren_app_close(&app);
}

/* A build whose bits are others answers the same but for rounding. */
static void it_belongs_to_every_contract(void **state)
{
    struct siren_app app;
    open_app(&app, "contract.siren");
    json_t *run = json_pack("{s:s, s:s}", "model", "fake#0", "compute", "bf16");
    json_t *before = calibration_belongs(&app, run);
    json_object_set_new(run, "numerics", json_integer(4));
    json_object_set_new(run, "sums", json_string("AMX"));
    json_t *after = calibration_belongs(&app, run);
    assert_true(json_equal(before, after));
    json_decref(run);
    json_decref(before);
    json_decref(after);
    siren_app_close(&app);
}

static int setup(void **state)
{
    return find_program() || fake_setup(state) || siren_pool_create(&pool, 1, ERR);
}

static int teardown(void **state)
{
    siren_pool_free(pool);
    return fake_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_rows_are_reported),
        cmocka_unit_test(one_half_is_fitted_and_the_other_reported),
        cmocka_unit_test(answers_are_those_that_were_reported),
        cmocka_unit_test(targets_of_now),
        cmocka_unit_test(runs_name_their_calibration),
        cmocka_unit_test(ratings_count_by_their_share_in_the_topic),
        cmocka_unit_test(a_file_gives_it_back),
        cmocka_unit_test(damaged_files),
        cmocka_unit_test(what_is_not_valid_is_not_read),
        cmocka_unit_test(too_little_is_not_fitted),
        cmocka_unit_test(an_unfinished_run_is_not_read),
        cmocka_unit_test(runs_and_file_or_none),
        cmocka_unit_test(it_is_fitted_before_the_lock),
        cmocka_unit_test(it_belongs_to_its_model_and_prompts),
        cmocka_unit_test(it_belongs_to_every_contract),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
