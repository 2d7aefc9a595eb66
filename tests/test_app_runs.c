/* Evaluation that can be stopped, judgement, export, batch jobs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <sqlite3.h>

#include "app/parts.h"
#include "fake_setup.h"
#include "siren/baseline_runs.h"
#include "siren/import.h"

#include "runs_fixture.h" /* after fake_setup.h */

static json_t *metrics_of(struct siren_app *app, int64_t id)
{
    struct siren_run run;
    json_t *metrics;
    MUST(siren_run_load(&run, app->ws, id, ERR));
    assert_int_equal(run.status, SIREN_RUN_DONE);
    metrics = json_loads(run.metrics, 0, NULL);
    assert_non_null(metrics);
    siren_run_clear(&run);
    return metrics;
}

/* The metrics on the scale 1 … 5, from what is stored of the rows. */
static void expect_by_hand(const json_t *metrics, const struct siren_predictions *p)
{
    static const char *const decoders[] = {"argmax", "mean", "median"};
    static const char *const others[] = {"log_loss", "rps", "outside"};
    double absolute[3] = {0}, squared[3] = {0}, other[3] = {0}, n = (double)p->n;
    for (size_t i = 0; i < p->n; i++) {
        const struct siren_prediction *row = &p->prediction[i];
        const double decoded[] = {row->argmax, row->mean, row->median};
        double below = 0;
        for (int d = 0; d < 3; d++) {
            absolute[d] += fabs(decoded[d] - row->truth) / n;
            squared[d] += pow(decoded[d] - row->truth, 2) / n;
        }
        for (int k = 1; k <= 5; k++) {
            double share = (double)row->probabilities[k - 1];
            below += share;
            if (row->truth == k) other[0] -= log(share) / n;
            if (k < 5) other[1] += pow(below - (row->truth <= k), 2) / (4 * n);
        }
        other[2] += row->outside / n;
    }
    for (int d = 0; d < 3; d++) {
        assert_float_equal(number(metrics, decoders[d], "mae"), absolute[d], 1e-6);
        assert_float_equal(number(metrics, decoders[d], "rmse"), sqrt(squared[d]), 1e-6);
        assert_true(other[d] > 0);
        assert_float_equal(json_number_value(json_object_get(metrics, others[d])), other[d], 1e-6);
    }
}

static void an_evaluation_is_stored_as_a_run(void **state)
{
    struct siren_app app;
    struct siren_eval_options o = siren_eval_defaults();
    struct siren_predictions p;
    int64_t run;
    json_t *metrics;
    o.name = "first";
    MUST(siren_app_open(&app, fixture_workspace("eval.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_WRITE, ERR));
    MUST(siren_evaluate(&app, &lm, &o, pool, &run, NULL, ERR));
    MUST(siren_predictions_load(&p, app.ws, run, ERR));
    assert_int_equal(p.n, N_USERS);
    metrics = metrics_of(&app, run);
    expect_by_hand(metrics, &p);
    assert_true(number(metrics, "mean", "rmse_low") <= number(metrics, "mean", "rmse"));
    assert_true(number(metrics, "mean", "rmse_high") >= number(metrics, "mean", "rmse"));
    assert_int_equal(json_integer_value(json_object_get(metrics, "n")), N_USERS);
    json_decref(metrics);
    siren_predictions_clear(&p);
    siren_app_close(&app);
}

static void a_stopped_evaluation_goes_on(void **state)
{
    struct siren_app app;
    struct siren_eval_options o = train_options();
    struct siren_predictions whole, resumed;
    struct siren_run stored;
    size_t n_scored;
    int64_t run, again, complete;
    MUST(siren_app_open(&app, fixture_workspace("stop.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_WRITE, ERR));
    fake.n_calls = 0;
    fake.cancel_after = 2;
    assert_int_equal(siren_evaluate(&app, &lm, &o, pool, &run, NULL, ERR), SIREN_ECANCEL);
    assert_true(run > 0);
    assert_non_null(strstr(ERR->message, "stopped after 16 of"));
    fake.cancel_after = 0;
    n_scored = fake.n_scored;
    o.name = "gone on with";
    MUST(siren_evaluate(&app, &lm, &o, pool, &again, NULL, ERR));
    assert_int_equal(again, run);
    MUST(siren_run_load(&stored, app.ws, run, ERR));
    assert_string_equal(stored.name, "gone on with");
    siren_run_clear(&stored);
    assert_int_equal(fake.n_scored - n_scored, N_USERS * (N_EACH - 2) - 16);
    o.anew = 1;
    MUST(siren_evaluate(&app, &lm, &o, pool, &complete, NULL, ERR));
    assert_true(complete != run);
    MUST(siren_predictions_load(&resumed, app.ws, run, ERR));
    MUST(siren_predictions_load(&whole, app.ws, complete, ERR));
    assert_int_equal(whole.n, resumed.n);
    for (size_t i = 0; i < whole.n; i++) {
        assert_memory_equal(whole.prediction[i].probabilities, resumed.prediction[i].probabilities,
                            5 * sizeof(float));
        assert_int_equal(whole.prediction[i].user, resumed.prediction[i].user);
    }
    siren_predictions_clear(&whole);
    siren_predictions_clear(&resumed);
    siren_app_close(&app);
}

static int fails_to_score(struct siren_lm *model, struct siren_score *scores, size_t n,
                          const struct siren_progress *progress, struct siren_error *err)
{
    return siren_fail(err, SIREN_ENUMERIC, "not a number");
}

/* A run that was refused never began; one that fails later keeps what it has, and says why. */
static void what_is_refused_is_no_run(void **state)
{
    struct siren_app app;
    struct siren_eval_options o = train_options();
    struct siren_run stored;
    int64_t run;
    MUST(siren_app_open(&app, fixture_workspace("refused.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_WRITE, ERR));
    o.predict.prompt_limit = 3;
    assert_int_equal(siren_evaluate(&app, &lm, &o, pool, &run, NULL, ERR), SIREN_EINVAL);
    assert_non_null(strstr(ERR->message, "and 3 are allowed"));
    assert_int_equal(run, 0);
    assert_int_equal(fixture_runs(app.ws), 0);
    o.predict.prompt_limit = 0;
    fake.n_calls = 0;
    fake.cancel_after = 2;
    assert_int_equal(siren_evaluate(&app, &lm, &o, pool, &run, NULL, ERR), SIREN_ECANCEL);
    fake.cancel_after = 0;
    const struct siren_lm_calls *calls = lm.calls;
    const struct siren_lm_calls broken = {fails_to_score, lm.calls->generate};
    lm.calls = &broken;
    assert_int_equal(siren_evaluate(&app, &lm, &o, pool, &run, NULL, ERR), SIREN_ENUMERIC);
    lm.calls = calls;
    assert_int_equal(fixture_runs(app.ws), 1);
    MUST(siren_run_load(&stored, app.ws, run, ERR));
    assert_int_equal(stored.status, SIREN_RUN_FAILED);
    assert_int_equal(stored.n_predictions, 16);
    assert_string_equal(stored.message, "not a number");
    siren_run_clear(&stored);
    siren_app_close(&app);
}

/* Another import of the workspace, between the loading of an app and what it stores. */
static void import_again(const char *path)
{
    struct siren_import_options o;
    struct siren_workspace *ws;
    const char *csv = "user,item,rating,time\nx,y,1,1\nx,z,2,2\nx,w,3,3\n";
    siren_import_defaults(&o);
    o.k_core = 0;
    o.replace = 1;
    MUST(siren_workspace_open(&ws, path, SIREN_WORKSPACE_WRITE, ERR));
    MUST(siren_import(ws, scratch_write("again.csv", csv, strlen(csv)), &o, NULL, NULL, ERR));
    siren_workspace_close(ws);
}

static void rows_of_another_import_are_not_stored(void **state)
{
    struct siren_app app;
    struct siren_eval_options o = siren_eval_defaults();
    struct siren_baseline_options b = {.fold = -1, .save = 1};
    struct siren_baseline *rows;
    struct siren_ranking ranking;
    struct siren_run *runs;
    int64_t run;
    size_t n;
    MUST(siren_app_open(&app, fixture_workspace("again.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_WRITE, ERR));
    import_again(siren_workspace_path(app.ws));
    assert_int_equal(siren_evaluate(&app, &lm, &o, pool, &run, NULL, ERR), SIREN_EBUSY);
    assert_non_null(strstr(ERR->message, "another import has replaced"));
    assert_int_equal(siren_baselines(&app, &b, pool, &rows, &n, NULL, ERR), SIREN_EBUSY);
    assert_int_equal(siren_retrieve(&app, 1, 5, &ranking, ERR), SIREN_EBUSY); /* ids of others */
    MUST(siren_runs_load(&runs, &n, app.ws, NULL, ERR));
    assert_int_equal(n, 0);
    siren_runs_free(runs, n);
    siren_app_close(&app);
}

/* Another writer, who begins with the first batch and goes on through two attempts to store it. */
struct writer {
    struct siren_workspace *theirs;
    int calls, calls_until_commit, stop_at;
};

static int hold_the_lock(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct writer *w = context;
    if (!w->calls++) MUST(siren_workspace_begin(w->theirs, ERR));
    if (w->calls == w->calls_until_commit) MUST(siren_workspace_commit(w->theirs, ERR));
    return w->calls == w->stop_at;
}

static void an_evaluation_waits_for_a_writer(void **state)
{
    struct siren_app app;
    struct siren_eval_options o = siren_eval_defaults();
    struct writer w = {.calls_until_commit = 1000, .stop_at = 6};
    struct siren_progress progress = {hold_the_lock, &w};
    struct siren_run stored;
    int64_t run, again;
    MUST(siren_app_open(&app, fixture_workspace("wait.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_WRITE, ERR));
    MUST(siren_workspace_open(&w.theirs, siren_workspace_path(app.ws), SIREN_WORKSPACE_WRITE, ERR));
    siren_workspace_timeout(app.ws, 10);
    assert_int_equal(siren_evaluate(&app, &lm, &o, pool, &run, &progress, ERR), SIREN_ECANCEL);
    assert_non_null(strstr(ERR->message, "stopped after 0 of"));
    siren_workspace_rollback(w.theirs);
    w = (struct writer){.theirs = w.theirs, .calls_until_commit = 6};
    MUST(siren_evaluate(&app, &lm, &o, pool, &again, &progress, ERR));
    assert_int_equal(again, run);
    assert_true(w.calls > w.calls_until_commit);
    MUST(siren_run_load(&stored, app.ws, run, ERR));
    assert_int_equal(stored.n_predictions, N_USERS);
    assert_int_equal(stored.status, SIREN_RUN_DONE);
    siren_run_clear(&stored);
    siren_workspace_close(w.theirs);
    siren_app_close(&app);
}

struct second {
    struct siren_app *app;
    const struct siren_eval_options *options;
    unsigned tried;
};

/* The same evaluation from another process, which has a workspace of its own open. */
static int try_a_second(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct second *s = context;
    struct siren_app other;
    struct siren_run *runs;
    int64_t run;
    size_t n;
    if (s->tried++) return 0;
    MUST(siren_app_open(&other, siren_workspace_path(s->app->ws), SIREN_WORKSPACE_WRITE, ERR));
    assert_int_equal(siren_evaluate(&other, &lm, s->options, pool, &run, NULL, ERR), SIREN_EBUSY);
    assert_non_null(strstr(ERR->message, "another process is at this very evaluation"));
    assert_int_equal(run, 0);
    MUST(siren_runs_load(&runs, &n, other.ws, NULL, ERR));
    assert_int_equal(n, 1);
    assert_int_equal(runs[0].status, SIREN_RUN_RUNNING);
    siren_runs_free(runs, n);
    siren_app_close(&other);
    return 0;
}

/* New and resumed: the first one goes on, and its run is shown as running. */
static void two_do_not_write_one_run(void **state)
{
    struct siren_app app;
    struct siren_eval_options o = train_options();
    struct second s = {&app, &o, 0};
    struct siren_progress progress = {try_a_second, &s};
    int64_t run, again;
    MUST(siren_app_open(&app, fixture_workspace("two.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_WRITE, ERR));
    fake.n_calls = 0;
    fake.cancel_after = 1;
    assert_int_equal(siren_evaluate(&app, &lm, &o, pool, &run, &progress, ERR), SIREN_ECANCEL);
    assert_true(s.tried > 0);
    fake.cancel_after = 0;
    s.tried = 0;
    MUST(siren_evaluate(&app, &lm, &o, pool, &again, &progress, ERR));
    assert_int_equal(again, run);
    assert_true(s.tried > 0);
    json_decref(metrics_of(&app, run));
    siren_app_close(&app);
}

static void other_settings_are_another_run(void **state)
{
    struct siren_app app;
    struct siren_eval_options o = train_options();
    int64_t run, other;
    MUST(siren_app_open(&app, fixture_workspace("other.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_WRITE, ERR));
    fake.n_calls = 0;
    fake.cancel_after = 1;
    assert_int_equal(siren_evaluate(&app, &lm, &o, pool, &run, NULL, ERR), SIREN_ECANCEL);
    fake.cancel_after = 0;
    MUST(siren_strategy_parse(&o.predict.strategy, "recent", ERR));
    MUST(siren_evaluate(&app, &lm, &o, pool, &other, NULL, ERR));
    assert_true(other != run);
    siren_app_close(&app);
}

/* The model's identity does not cover the file that names its end of text.  Runs that were begun
 * before it was a setting go on: it is none where the template ends turns with the same. */
static void another_end_of_text_is_another_run(void **state)
{
    struct siren_app app;
    struct siren_eval_options o = train_options();
    struct siren_tokenizer *usual = lm.tokenizer;
    struct siren_run stored[2];
    int64_t run[2];
    MUST(siren_app_open(&app, fixture_workspace("end.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_WRITE, ERR));
    fake.cancel_after = 1;
    for (int i = 0; i < 2; i++) {
        lm.tokenizer = fake_tokenizer_that_ends(i ? "<|endoftext|>" : "<|im_end|>");
        fake.n_calls = 0;
        assert_int_equal(siren_evaluate(&app, &lm, &o, pool, &run[i], NULL, ERR), SIREN_ECANCEL);
        MUST(siren_run_load(&stored[i], app.ws, run[i], ERR));
        siren_tokenizer_free(lm.tokenizer);
    }
    fake.cancel_after = 0;
    lm.tokenizer = usual;
    assert_true(run[0] != run[1]);
    assert_null(strstr(stored[0].settings, "end_of_text"));
    assert_non_null(strstr(stored[1].settings, "\"end_of_text\":0"));
    for (int i = 0; i < 2; i++) siren_run_clear(&stored[i]);
    siren_app_close(&app);
}

static void store_settings(struct siren_app *app, int64_t run, const char *settings)
{
    sqlite3_stmt *q;
    assert_int_equal(sqlite3_prepare_v2(siren_workspace_db(app->ws),
                                        "UPDATE runs SET settings = ? WHERE id = ?", -1, &q, NULL),
                     SQLITE_OK);
    sqlite3_bind_text(q, 1, settings, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 2, run);
    assert_int_equal(sqlite3_step(q), SQLITE_DONE);
    sqlite3_finalize(q);
}

/* An evaluation in the mode that stops; its run. */
static int64_t stopped_in(struct siren_app *app, const char *compute, char **settings)
{
    struct siren_eval_options o = train_options();
    struct siren_engine_options engine = {.compute = compute};
    struct siren_model *model;
    struct siren_run stored;
    int64_t run;
    MUST(siren_model_load(&model, "tests/fixtures/models/smol", NULL, pool, ERR));
    MUST(siren_engine_create(&lm.engine, model, pool, &engine, ERR));
    fake.n_calls = 0;
    fake.cancel_after = 1;
    assert_int_equal(siren_evaluate(app, &lm, &o, pool, &run, NULL, ERR), SIREN_ECANCEL);
    fake.cancel_after = 0;
    siren_engine_free(lm.engine);
    siren_model_free(model);
    lm.engine = NULL;
    MUST(siren_run_load(&stored, app->ws, run, ERR));
    *settings = strdup(stored.settings);
    siren_run_clear(&stored);
    return run;
}

/* In mode bf16 a run does not go on with the numbers of another contract.  One in f32 names none,
 * so that those of earlier builds go on. */
static void other_numerics_are_another_run(void **state)
{
    struct siren_app app;
    char *settings[3], number[32];
    int64_t run, other;
    MUST(siren_app_open(&app, fixture_workspace("numerics.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_WRITE, ERR));
    run = stopped_in(&app, "bf16", &settings[0]);
    snprintf(number, sizeof number, "\"numerics\":%d", SIREN_NUMERICS);
    char *at = strstr(settings[0], number);
    assert_non_null(at);
    assert_non_null(strstr(settings[0], "\"compute\":\"bf16\""));
    at[strlen(number) - 1] = (char)('0' + (SIREN_NUMERICS + 1) % 10);
    store_settings(&app, run, settings[0]); /* as if another build had begun it */
    other = stopped_in(&app, "bf16", &settings[1]);
    assert_true(other != run);
    store_settings(&app, run, settings[1]);
    store_settings(&app, other, settings[0]);
    free(settings[1]);
    assert_int_equal(stopped_in(&app, "bf16", &settings[1]), run);
    stopped_in(&app, "f32", &settings[2]);
    assert_null(strstr(settings[2], "numerics"));
    assert_null(strstr(settings[2], "compute"));
    for (int i = 0; i < 3; i++) free(settings[i]);
    siren_app_close(&app);
}

/* Whatever enters a prompt is in the hash by which runs, states and checkpoints know their data. */
static void the_data_are_all_that_prompts_say(void **state)
{
    struct siren_app app;
    char before[17], after[17];
    MUST(siren_app_open(&app, fixture_workspace("hash.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_READ, ERR));
    app_data_hash(&app, before);
    strcpy(app.meta.noun, "book");
    app_data_hash(&app, after);
    assert_string_not_equal(after, before);
    strcpy(before, after);
    app.soft = 1;
    app_data_hash(&app, after);
    assert_string_not_equal(after, before);
    strcpy(before, after);
    app.topics.second[3] = 1;
    app_data_hash(&app, after);
    assert_string_not_equal(after, before);
    strcpy(before, after);
    app.topics.second_distance[3] += 1;
    app_data_hash(&app, after);
    assert_string_not_equal(after, before);
    siren_app_close(&app);
}

static void a_limit_draws_rows_with_the_seed(void **state)
{
    struct siren_app app;
    struct siren_eval_options o = train_options();
    struct siren_target *a, *b;
    size_t n_a, n_b, same = 0;
    MUST(siren_app_open(&app, fixture_workspace("draw.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_READ, ERR));
    o.limit = 40;
    MUST(siren_eval_targets(&app, &o, &a, &n_a, ERR));
    MUST(siren_eval_targets(&app, &o, &b, &n_b, ERR));
    assert_int_equal(n_a, 40);
    for (size_t i = 0; i < 40; i++) assert_int_equal(a[i].row, b[i].row);
    for (size_t i = 1; i < 40; i++) assert_true(a[i - 1].row < a[i].row);
    free(b);
    o.seed = 2;
    MUST(siren_eval_targets(&app, &o, &b, &n_b, ERR));
    for (size_t i = 0; i < 40; i++) same += a[i].row == b[i].row;
    assert_true(same < 40);
    free(a);
    free(b);
    o.split = "elsewhere";
    assert_true(siren_eval_targets(&app, &o, &a, &n_a, ERR) < 0);
    siren_app_close(&app);
}

static void a_fold_is_the_test_set(void **state)
{
    static char path[256];
    struct siren_app app;
    struct siren_eval_options o = siren_eval_defaults();
    struct siren_target *targets;
    struct siren_target_input in;
    size_t n, all = 0;
    strcpy(path, fixture_workspace("folds.siren", SIREN_PROTOCOL_FULL));
    MUST(siren_app_open(&app, path, SIREN_WORKSPACE_WRITE, ERR));
    o.fold = 0;
    assert_true(siren_eval_targets(&app, &o, &targets, &n, ERR) < 0); /* no folds yet */
    MUST(siren_split_folds(&app.ratings, 5, 1, ERR));
    MUST(siren_split_save(app.ws, &app.ratings, 1, "k-fold", "{}", ERR));
    siren_app_close(&app);
    MUST(siren_app_open(&app, path, SIREN_WORKSPACE_READ, ERR));
    for (o.fold = 0; o.fold < 5; o.fold++) {
        MUST(siren_eval_targets(&app, &o, &targets, &n, ERR));
        all += n;
        MUST(siren_target_input(&app, &targets[n - 1], &o.predict, &in, ERR));
        assert_true(in.n_history < N_EACH - 1); /* without what else is in the fold */
        siren_target_input_clear(&in);
        free(targets);
    }
    assert_int_equal(all, N_USERS * N_EACH);
    siren_app_close(&app);
}

/* ---- export and judge ---- */

static const char *exported(struct siren_app *app, const char *name, size_t *n)
{
    struct siren_eval_options o = siren_eval_defaults();
    static char path[256];
    strcpy(path, scratch_path(name));
    MUST(siren_export_prompts(app, lm.chat, lm.tokenizer, &o, path, n, NULL, ERR));
    return path;
}

static void what_is_exported_is_what_is_asked(void **state)
{
    struct siren_app app;
    size_t n, size, rows = 0;
    char *text, *line, *rest;
    MUST(siren_app_open(&app, fixture_workspace("export.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_READ, ERR));
    MUST(siren_file_read(&text, &size, exported(&app, "prompts.jsonl", &n), 1 << 24, ERR));
    assert_int_equal(n, N_USERS);
    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), rows++) {
        json_t *row = json_loads(line, 0, NULL), *user;
        const char *whole = json_string_value(json_object_get(row, "prompt"));
        assert_non_null(whole);
        user = json_array_get(json_object_get(row, "messages"), 1);
        assert_non_null(strstr(whole, json_string_value(json_object_get(user, "content"))));
        assert_string_equal(whole + strlen(whole) - 8, "<answer>");
        assert_true(json_is_number(json_object_get(row, "truth")));
        assert_int_equal(json_array_size(json_object_get(row, "row")), 2);
        json_decref(row);
    }
    assert_int_equal(rows, N_USERS);
    free(text);
    siren_app_close(&app);
}

/* A prompt is no answer: lines that nobody has answered are refused. */
static void what_is_exported_is_no_answer(void **state)
{
    struct siren_judge_options o = {.split = "test", .fold = -1, .fallback = NAN};
    struct siren_app app;
    size_t n;
    int64_t run;
    MUST(siren_app_open(&app, fixture_workspace("unanswered.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_WRITE, ERR));
    int rc = siren_judge(&app, exported(&app, "unanswered.jsonl", &n), &o, pool, &run, ERR);
    assert_int_equal(rc, SIREN_EFORMAT);
    assert_non_null(strstr(must_error.message, "unanswered.jsonl:1: expected \"rating\""));
    siren_app_close(&app);
}

static void answers_from_elsewhere_are_judged(void **state)
{
    struct siren_app app;
    struct siren_target *targets;
    struct siren_eval_options o = siren_eval_defaults();
    char text[8192] = "";
    size_t n, used = 0;
    int rc;
    int64_t run;
    json_t *metrics;
    MUST(siren_app_open(&app, fixture_workspace("judge.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_WRITE, ERR));
    MUST(siren_eval_targets(&app, &o, &targets, &n, ERR));
    for (size_t i = 0; i < n; i++) /* every third is a text, one of them without a number */
        used += (size_t)snprintf(
            text + used, sizeof text - used, "{\"row\":[\"%s\",\"%s\"],%s%s}\n",
            app.users.external[targets[i].user], app.items.item[targets[i].item].external,
            i == 0       ? "\"probabilities\":null,\"rating\":3,\"text\":null"
            : i == 1     ? "\"probabilities\":[0.1,0.1,0.2,0.3,0.2],\"rating\":null"
            : i % 3 == 0 ? "\"rating\":3"
            : i % 3 == 1 ? "\"probabilities\":[0.1,0.1,0.2,0.3,0.2]"
                         : "\"probabilities\":null,\"text\":\"<think>x</think><answer>",
            i % 3 != 2 ? ""
            : i == 2   ? "none</answer>\""
                       : "2</answer>\"");
    run = judged(&app, text, &rc);
    if (rc) fail_msg("%s", must_error.message);
    metrics = metrics_of(&app, run);
    assert_int_equal(json_integer_value(json_object_get(metrics, "n")), N_USERS);
    assert_true(fabs(json_number_value(json_object_get(metrics, "invalid")) - 1.0 / N_USERS) <
                1e-9);
    json_decref(metrics);
    /* Costs are counts and times. */
    static const char *const costs[] = {"\"tokens_in\":9223372036854775807", "\"tokens_out\":-1",
                                        "\"latency_ms\":-5", "\"latency_ms\":1e300",
                                        "\"tokens_in\":\"3\""};
    for (size_t i = 0; i < sizeof costs / sizeof *costs; i++) {
        snprintf(text, sizeof text, "{\"row\":[\"%s\",\"%s\"],\"rating\":3,%s}\n",
                 app.users.external[targets[0].user], app.items.item[targets[0].item].external,
                 costs[i]);
        judged(&app, text, &rc);
        assert_int_equal(rc, SIREN_EFORMAT);
        assert_non_null(strstr(must_error.message, "answers.jsonl:1"));
        assert_non_null(strstr(must_error.message, "expected a number of 0 to"));
    }
    /* A mean that was summed as float. */
    snprintf(text, sizeof text, "{\"row\":[\"%s\",\"%s\"],\"rating\":5.0000002384}\n",
             app.users.external[targets[0].user], app.items.item[targets[0].item].external);
    judged(&app, text, &rc);
    assert_int_equal(rc, 0);
    free(targets);
    siren_app_close(&app);
}

/* A fold's valid rows are drawn with the seed: the export's is the judge's. */
static void rows_of_a_fold_are_judged_by_their_seed(void **state)
{
    static char path[256];
    struct siren_app app;
    struct siren_eval_options o = siren_eval_defaults();
    char text[8192] = "";
    strcpy(path, fixture_workspace("foldjudge.siren", SIREN_PROTOCOL_FULL));
    MUST(siren_app_open(&app, path, SIREN_WORKSPACE_WRITE, ERR));
    MUST(siren_split_folds(&app.ratings, 5, 1, ERR));
    MUST(siren_split_save(app.ws, &app.ratings, 1, "k-fold", "{}", ERR));
    siren_app_close(&app);
    o.split = "valid";
    o.fold = 0;
    for (o.seed = 1; o.seed < 3; o.seed++) {
        struct siren_target *targets;
        size_t n, used = 0;
        MUST(siren_app_open(&app, path, SIREN_WORKSPACE_READ, ERR));
        MUST(siren_eval_targets(&app, &o, &targets, &n, ERR));
        for (size_t i = 0; i < n; i++)
            used += (size_t)snprintf(
                text + used, sizeof text - used, "{\"row\":[\"%s\",\"%s\"],\"rating\":3}\n",
                app.users.external[targets[i].user], app.items.item[targets[i].item].external);
        free(targets);
        siren_app_close(&app);
        const char *file = scratch_write("answers.jsonl", text, strlen(text));
        for (uint64_t seed = 1; seed < 3; seed++) {
            struct siren_judge_options j = {
                .split = "valid", .fold = 0, .seed = seed, .fallback = NAN};
            int64_t run;
            MUST(siren_app_open(&app, path, SIREN_WORKSPACE_WRITE, ERR));
            int rc = siren_judge(&app, file, &j, pool, &run, ERR);
            assert_int_equal(rc, seed == o.seed ? 0 : SIREN_EFORMAT);
            siren_app_close(&app);
        }
    }
}

static void bad_answers_are_refused_with_their_line(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "no answers"},
        {"{\"row\":[\"u0\",\"i13\"],\"rating\":3}\nnot json\n", ":2: "},
        {"[1]\n", "JSON object"},
        {"{\"rating\":3}\n", "\"row\""},
        {"{\"row\":[\"u0\"],\"rating\":3}\n", "\"row\""},
        {"{\"row\":[\"u0\",\"zz\"],\"rating\":3}\n", ":1: "},
        {"{\"row\":[\"u0\",\"i20\"],\"rating\":3}\n", "no rating by user 'u0' of item 'i20'"},
        {"{\"row\":[\"u0\",\"i1\"],\"rating\":3}\n", "not in the split \"test\", which"},
        {"{\"row\":[\"u0\",\"i13\"]}\n", "expected"},
        {"{\"row\":[\"u0\",\"i13\"],\"rating\":100}\n",
         ":1: \"rating\": found 100, expected a number from 1 to 5"},
        {"{\"row\":[\"u0\",\"i13\"],\"rating\":\"4\"}\n", "found no number, expected"},
        {"{\"row\":[\"u0\",\"i13\"],\"rating\":\"4\",\"text\":\"5\"}\n",
         ":1: both \"rating\" and \"text\", expected one answer"},
        {"{\"row\":[\"u0\",\"i13\"],\"rating\":3,\"text\":\"<answer>3</answer>\"}\n",
         ":1: both \"rating\" and \"text\", expected one answer"},
        {"{\"row\":[\"u0\",\"i13\"],\"rating\":3,\"probabilities\":[0,0,1,0,0]}\n",
         ":1: both \"rating\" and \"probabilities\", expected one answer"},
        {"{\"row\":[\"u0\",\"i13\"],\"text\":\"3\",\"probabilities\":[0,0,1,0,0]}\n",
         ":1: both \"probabilities\" and \"text\", expected one answer"},
        {"{\"row\":[\"u0\",\"i13\"],\"rating\":null,\"text\":null,\"probabilities\":null}\n",
         ":1: expected \"rating\", \"probabilities\" or \"text\""},
        {"{\"row\":[\"u0\",\"i13\"],\"text\":3}\n", ":1: \"text\": expected a string"},
        {"{\"row\":[\"u0\",\"i13\"],\"probabilities\":[1]}\n", "labels"},
        {"{\"row\":[\"u0\",\"i13\"],\"probabilities\":[1,1,0,0,0]}\n", "sum"},
        {"{\"row\":[\"u0\",\"i13\"],\"probabilities\":[1,-1,0,0,0]}\n", "negative"},
        {"{\"row\":[\"u0\",\"i13\"],\"rating\":3}\n{\"row\":[\"u0\",\"i13\"],\"rating\":3}\n",
         "before"},
    };
    struct siren_app app;
    struct siren_run *runs;
    size_t n;
    int rc;
    MUST(siren_app_open(&app, fixture_workspace("bad.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_WRITE, ERR));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        judged(&app, cases[i].text, &rc);
        if (!rc || !strstr(must_error.message, cases[i].says))
            fail_msg("%s: %d %s", cases[i].text, rc, must_error.message);
    }
    MUST(siren_runs_load(&runs, &n, app.ws, NULL, ERR));
    assert_int_equal(n, 0);
    siren_runs_free(runs, n);
    siren_app_close(&app);
}

/* ---- pairs ---- */

static void pairs_become_a_file_of_answers(void **state)
{
    static const char pairs[] = "note,item,user\n"
                                "\"a, \"\"b\"\"\",i20,u1\n"
                                "x,i21,\"no, body\"\n"
                                "\"two\n\"\"lines\"\"\n\",i22,\"new\nuser\"\n";
    struct siren_app app;
    struct siren_predict_options o = siren_predict_defaults();
    struct siren_pairs_report report;
    char in[256], out[256], *text;
    size_t size;
    strcpy(in, scratch_write("pairs.csv", pairs, strlen(pairs)));
    strcpy(out, scratch_path("out.csv"));
    MUST(siren_app_open(&app, fixture_workspace("pairs.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_READ, ERR));
    MUST(siren_predict_pairs(&app, &lm, in, out, SIREN_CSV, &o, &report, NULL, ERR));
    assert_int_equal(report.n, 3);
    assert_int_equal(report.n_new_users, 2);
    MUST(siren_file_read(&text, &size, out, 1 << 20, ERR));
    assert_int_equal(strncmp(text, "user,item,argmax,mean,median,outside,invalid,p1,p2", 50), 0);
    assert_non_null(strstr(text, "\nu1,i20,"));
    assert_non_null(strstr(text, "\n\"no, body\",i21,"));
    assert_non_null(strstr(text, "\n\"new\nuser\",i22,"));
    free(text);
    MUST(siren_predict_pairs(&app, &lm, in, out, SIREN_JSONL, &o, &report, NULL, ERR));
    MUST(siren_file_read(&text, &size, out, 1 << 20, ERR));
    assert_non_null(strstr(text, "\"user\":\"no, body\""));
    assert_non_null(strstr(text, "\"unknown user\""));
    free(text);
    siren_app_close(&app);
}

/* As many columns in each row as in the header, whatever gave the answers. */
static void pairs_have_the_columns_of_their_header(void **state)
{
    static const char pairs[] = "user,item\nu1,i20\nu2,i21\n";
    struct siren_app app;
    struct siren_pairs_report report;
    MUST(siren_app_open(&app, fixture_workspace("columns.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_READ, ERR));
    for (int samples = -1; samples < 3; samples++) { /* -1: answer only */
        struct siren_predict_options o = siren_predict_defaults();
        char in[256], out[256], *text;
        size_t size, commas[4] = {0}, line = 0;
        strcpy(in, scratch_write("pairs.csv", pairs, strlen(pairs)));
        strcpy(out, scratch_path("columns.csv"));
        o.mode = samples < 0 ? SIREN_AO : SIREN_COT;
        o.samples = samples < 0 ? 0 : samples;
        o.sampling.temperature = samples > 1;
        MUST(siren_predict_pairs(&app, &lm, in, out, SIREN_CSV, &o, &report, NULL, ERR));
        MUST(siren_file_read(&text, &size, out, 1 << 20, ERR));
        for (size_t i = 0; i < size; i++) {
            commas[line] += text[i] == ',';
            line += text[i] == '\n';
        }
        assert_int_equal(line, 3);
        assert_int_equal(commas[0], samples ? 14 : 9);
        assert_int_equal(commas[1], commas[0]);
        assert_int_equal(commas[2], commas[0]);
        free(text);
    }
    siren_app_close(&app);
}

static void bad_pairs_leave_no_file(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "header"},
        {"a,b\n", "header"},
        {"user,item\nu1\n", ":2: fewer"},
        {"user,item\nu1\n", ":2: fewer fields than the header has: found 1, expected 2"},
        {"user,item\nu1,\"i2\n",
         ":2: a quote opens a field here, expected a closing '\"' before the end of the file"},
        {"user,item\nu1,\"i2\"x\n", ":2: column 2: 'x' after the closing quote, expected ','"},
        {"user,item\nu1,i20,a\n", ":2: 3 columns, but the header has 2"},
        {"user,item\n\"u\n1\",i20,a\n", ":2-3: 3 columns, but the header has 2"},
        {"user,item\nu1,zz\n", ":2: "},
    };
    struct siren_app app;
    struct siren_predict_options o = siren_predict_defaults();
    char in[256], out[256];
    strcpy(out, scratch_path("never.csv"));
    MUST(siren_app_open(&app, fixture_workspace("badpairs.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_READ, ERR));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        strcpy(in, scratch_write("bad.csv", cases[i].text, strlen(cases[i].text)));
        if (!siren_predict_pairs(&app, &lm, in, out, SIREN_CSV, &o, NULL, NULL, ERR) ||
            !strstr(must_error.message, cases[i].says))
            fail_msg("%s: %s", cases[i].text, must_error.message);
        assert_null(fopen(out, "rb"));
    }
    siren_app_close(&app);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_evaluation_is_stored_as_a_run),
        cmocka_unit_test(a_stopped_evaluation_goes_on),
        cmocka_unit_test(what_is_refused_is_no_run),
        cmocka_unit_test(rows_of_another_import_are_not_stored),
        cmocka_unit_test(an_evaluation_waits_for_a_writer),
        cmocka_unit_test(two_do_not_write_one_run),
        cmocka_unit_test(other_settings_are_another_run),
        cmocka_unit_test(another_end_of_text_is_another_run),
        cmocka_unit_test(other_numerics_are_another_run),
        cmocka_unit_test(the_data_are_all_that_prompts_say),
        cmocka_unit_test(a_limit_draws_rows_with_the_seed),
        cmocka_unit_test(a_fold_is_the_test_set),
        cmocka_unit_test(what_is_exported_is_what_is_asked),
        cmocka_unit_test(what_is_exported_is_no_answer),
        cmocka_unit_test(answers_from_elsewhere_are_judged),
        cmocka_unit_test(rows_of_a_fold_are_judged_by_their_seed),
        cmocka_unit_test(bad_answers_are_refused_with_their_line),
        cmocka_unit_test(pairs_become_a_file_of_answers),
        cmocka_unit_test(pairs_have_the_columns_of_their_header),
        cmocka_unit_test(bad_pairs_leave_no_file),
    };
    return cmocka_run_group_tests(tests, runs_setup, runs_teardown);
}
