/* Rows that a model was trained on are found by the workspace's runs, and told of. */
/* check: portable */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "app/align.h"
#include "app/lineage.h"
#include "app/sft.h"
#include "app/teach.h"
#include "siren/calibration.h"
#include "siren/export.h"
#include "tiny_setup.h"

/* Called with each line of the log of a training, which then saves after every step. */
static void (*while_training)(void *context, const json_t *line);

static int train_evaluated; /* 1: before the first step, too */

/* A training on the split, of the model from an adapter or a new one; its adapter's folder. */
static const char *train_of(const char *model, const char *name, const char *split,
                            const char *start)
{
    static char adapter[3][300];
    static int next;
    char folder[256], *out = adapter[next++ % 3];
    struct siren_lm own;
    struct siren_lm_options with = tiny_options();
    struct training t = training_defaults();
    struct sft_options options = {.loss = {.ce = 1}};
    struct trainer_result result;
    with.adapter = start;
    MUST(siren_lm_open(&own, model, &with, pool, ERR));
    snprintf(folder, sizeof folder, "%s", scratch_path(name));
    t.app = &app;
    t.lm = &own;
    t.pool = pool;
    t.start = start;
    t.split = split;
    t.eval_split = train_evaluated ? "valid:B" : NULL;
    t.loop.eval_first = train_evaluated;
    t.loop.folder = folder;
    t.loop.batch = 4;
    t.loop.max_steps = 2;
    t.loop.watch = while_training;
    t.loop.checkpoint_every = while_training != NULL;
    t.predict.mode = SIREN_AO;
    MUST(siren_strategy_parse(&t.predict.strategy, "recent", ERR));
    t.predict.strategy.n_recent = 2;
    MUST(sft_train(&t, &options, &result, NULL, NULL, ERR));
    siren_lm_close(&own);
    snprintf(out, sizeof *adapter, "%s/adapter", folder);
    return out;
}

static const char *train(const char *name, const char *split, const char *start)
{
    return train_of(siren_model_path(lm.model), name, split, start);
}

/* The model evaluated with the adapter: how many rows its training had; the run in *run. */
static long long n_chosen_on; /* by which its best was chosen */
static long long judged_of(const char *model, const char *adapter, const char *split, int64_t *run)
{
    struct siren_lm own;
    struct siren_lm_options with = tiny_options();
    struct siren_eval_options o = siren_eval_defaults();
    struct siren_run stored;
    with.adapter = adapter;
    o.split = split;
    MUST(siren_strategy_parse(&o.predict.strategy, "recent", ERR));
    o.predict.strategy.n_recent = 2;
    MUST(siren_lm_open(&own, model, &with, pool, ERR));
    MUST(siren_evaluate(&app, &own, &o, pool, run, NULL, ERR));
    siren_lm_close(&own);
    MUST(siren_run_load(&stored, app.ws, *run, ERR));
    json_t *metrics = json_loads(stored.metrics, 0, NULL),
           *found = json_object_get(metrics, "trained_on");
    long long rows = json_integer_value(json_object_get(found, "rows"));
    n_chosen_on =
        json_integer_value(json_object_get(json_object_get(metrics, "chosen_on"), "rows"));
    assert_true(!found == !rows);
    json_decref(metrics);
    siren_run_clear(&stored);
    return rows;
}

static long long judged(const char *adapter, const char *split, int64_t *run)
{
    return judged_of(siren_model_path(lm.model), adapter, split, run);
}

static long long rows_of(const char *split)
{
    struct siren_eval_options o = siren_eval_defaults();
    struct siren_target *targets;
    size_t n;
    o.split = split;
    MUST(siren_eval_targets(&app, &o, &targets, &n, ERR));
    free(targets);
    return (long long)n;
}

static void rows_are_found(void **state)
{
    const char *of_train = train("train", "train", NULL);
    const char *of_a = train("a", "valid:A", of_train);
    const char *later = train("later", "train:last", of_a);
    int64_t run;
    assert_int_equal(judged(NULL, "valid", &run), 0);
    assert_int_equal(judged(of_train, "valid", &run), 0);
    assert_int_equal(judged(of_a, "valid:B", &run), 0);
    assert_int_equal(judged(of_a, "valid", &run), rows_of("valid:A"));
    assert_int_equal(judged(later, "valid", &run), rows_of("valid:A")); /* through its start */
    assert_int_equal(judged(of_a, "train", &run), rows_of("train"));
}

static char running_adapter[300], early_adapter[300];
static long long found_while_running;

static void look_in(void *context, const json_t *line)
{
    char command[700];
    int64_t run;
    if (json_integer_value(json_object_get(line, "step")) != 2) return;
    found_while_running = judged(running_adapter, "train", &run);
    snprintf(command, sizeof command, "cp -r '%s' '%s'", running_adapter, early_adapter);
    assert_int_equal(system(command), 0);
}

/* A training that has not come to its end, or never will, has told of what it saved; and so it has
 * of an adapter that another has replaced since. */
static void rows_are_found_before_the_end(void **state)
{
    int64_t run;
    snprintf(running_adapter, sizeof running_adapter, "%s", scratch_path("running/adapter"));
    snprintf(early_adapter, sizeof early_adapter, "%s", scratch_path("early"));
    while_training = look_in;
    const char *late = train("running", "train", NULL);
    while_training = NULL;
    assert_int_equal(found_while_running, rows_of("train"));
    assert_int_equal(judged(early_adapter, "train", &run), rows_of("train"));
    assert_int_equal(judged(late, "train", &run), rows_of("train"));
}

/* What a training begins with is not its work, though it lies in its folder first. */
static void rows_are_not_those_of_a_later_training(void **state)
{
    int64_t run;
    const char *first = train("first", "valid:A", NULL);
    train_evaluated = 1;
    train("second", "train:last", first);
    const char *chosen = train("chosen", "train", NULL);
    train_evaluated = 0;
    assert_int_equal(judged(chosen, "valid", &run), 0);
    assert_int_equal(n_chosen_on, rows_of("valid:B"));
    assert_int_equal(judged(first, "train:last", &run), 0);
    assert_int_equal(judged(first, "valid", &run), rows_of("valid:A"));
    assert_int_equal(n_chosen_on, 0);
}

/* What a teacher was trained on, its student knows. */
static void rows_are_found_through_a_teacher(void **state)
{
    struct teach_options taught = {.rows = siren_eval_defaults()};
    struct siren_lm_options with = tiny_options();
    struct siren_lm own;
    struct teach_report report;
    int64_t run;
    char states[256], folder[256], adapter[300];
    snprintf(states, sizeof states, "%s", scratch_path("states.bin"));
    snprintf(folder, sizeof folder, "%s", scratch_path("student"));
    snprintf(adapter, sizeof adapter, "%s/adapter", folder);
    with.adapter = train("teacher", "valid:B", NULL);
    taught.rows.split = "train:last";
    MUST(siren_strategy_parse(&taught.rows.predict.strategy, "recent", ERR));
    taught.rows.predict.strategy.n_recent = 2;
    taught.rows.predict.sampling.max_tokens = 8;
    MUST(siren_lm_open(&own, siren_model_path(lm.model), &with, pool, ERR));
    MUST(app_teach(&app, &own, &taught, states, &report, NULL, ERR));
    siren_lm_close(&own);
    with.adapter = NULL;
    MUST(siren_lm_open(&own, siren_model_path(lm.model), &with, pool, ERR));
    struct training t = training_defaults();
    struct align_options options = {
        .teacher = states, .filter = {.any = 1, .share = 1}, .rating = {.ce = 1, .temperature = 1}};
    struct trainer_result result;
    t.app = &app;
    t.lm = &own;
    t.pool = pool;
    t.kind = "align";
    t.eval_split = NULL;
    t.loop.folder = folder;
    t.loop.max_steps = 2;
    MUST(align_train(&t, &options, &result, NULL, NULL, ERR));
    siren_lm_close(&own);
    assert_int_equal(judged(adapter, "valid", &run), rows_of("valid:B"));
    assert_int_equal(judged(adapter, "train:last", &run), rows_of("train:last"));
}

/* The adapter's factors are in an exported model, and what is trained on that goes on from them. */
static void rows_are_found_through_an_export(void **state)
{
    struct siren_export_report report;
    char merged[256];
    int64_t run;
    const char *of_a = train("before-export", "valid:A", NULL);
    snprintf(merged, sizeof merged, "%s", scratch_path("merged"));
    MUST(siren_model_export(siren_model_path(lm.model), merged,
                            &(struct siren_export_options){.adapter = of_a}, &report, NULL, ERR));
    assert_int_equal(judged_of(merged, NULL, "valid", &run), rows_of("valid:A"));
    const char *later = train_of(merged, "behind-export", "train:last", NULL);
    assert_int_equal(judged_of(merged, later, "valid", &run), rows_of("valid:A"));
    assert_int_equal(judged_of(merged, later, "train:last", &run), rows_of("train:last"));
    snprintf(merged, sizeof merged, "%s", scratch_path("plain"));
    MUST(siren_model_export(siren_model_path(lm.model), merged,
                            &(struct siren_export_options){.dtype = "f16"}, &report, NULL, ERR));
    assert_int_equal(judged_of(merged, NULL, "valid", &run), 0);
}

/* A calibration is fitted on answers for rows that the model has not seen. */
static void no_calibration_on_them(void **state)
{
    const struct siren_calibrate_options o = {.run = 0, .l2 = 0.01};
    struct siren_calibrate_options on = o;
    struct siren_calibration *c;
    char *text;
    judged(train("b", "valid:B", NULL), "valid", &on.run);
    assert_int_equal(siren_calibrate(&c, &app, &on, pool, &text, ERR), SIREN_EINVAL);
    assert_non_null(strstr(ERR->message, "of its rows were trained on (run "));
    judged(train("c", "train", NULL), "valid", &on.run);
    MUST(siren_calibrate(&c, &app, &on, pool, &text, ERR));
    siren_calibration_free(c);
    free(text);
}

/* What runs say is data: of other programs, too. */
static void strange_runs_are_passed_over(void **state)
{
    static const char *const metrics[] = {
        "[]", "{\"training\":3}", "{\"training\":{\"made\":\"x#1\"}}",
        "{\"training\":{\"made\":[1,null,\"tiny#0000000000000001\"]}}", "no json"};
    static const char *const settings[] = {"{}", "{\"run\":[]}", "{\"run\":{\"split\":7}}",
                                           "{\"run\":{\"split\":\"train\",\"rows\":\"x\"}}"};
    for (size_t i = 0; i < 5 * 4; i++) {
        struct siren_run run = {.kind = "sft", .settings = (char *)settings[i % 4]};
        MUST(siren_run_start(app.ws, &run, ERR));
        MUST(siren_run_finish(app.ws, run.id, SIREN_RUN_DONE, metrics[i / 4], NULL, ERR));
    }
    struct trained_rows t;
    MUST(lineage_trained_rows(&t, &app, "{\"model\":\"tiny#0000000000000001\"}", ERR));
    assert_non_null(t.row); /* the last of the settings */
    trained_rows_clear(&t);
    MUST(lineage_trained_rows(&t, &app, "{\"model\":\"tiny#0000000000000002\"}", ERR));
    assert_null(t.row);
    assert_false(trained_rows_marks(&t, &app, 0, 0));
    MUST(lineage_trained_rows(&t, &app, "no json", ERR));
    assert_null(t.row);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_found),
        cmocka_unit_test(rows_are_found_before_the_end),
        cmocka_unit_test(rows_are_not_those_of_a_later_training),
        cmocka_unit_test(rows_are_found_through_an_export),
        cmocka_unit_test(rows_are_found_through_a_teacher),
        cmocka_unit_test(no_calibration_on_them),
        cmocka_unit_test(strange_runs_are_passed_over),
    };
    return cmocka_run_group_tests(tests, tiny_setup, tiny_teardown);
}
