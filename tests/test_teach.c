/* The teacher at work, on a tiny random model whose texts are the test's: what is stored is what
 * the model computes, however often it is stopped. */
/* check: portable */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "app/teach.h"
#include "killed.h"
#include "model/model.h"
#include "same_file.h"
#include "tiny_setup.h"
#include "train/teacher_file.h"

static const char *const texts[] = {
    "Good.\n</think>\n<answer>4</answer>", "So so.\n</think>\n<answer>3</answer> and more",
    "I do not know what to say", "Bad.\n</think>\n<answer>none</answer>"};

static struct teach_options options(void)
{
    struct teach_options o = {.rows = siren_eval_defaults(), .batch = 4};
    o.rows.split = "valid";
    o.rows.limit = 9;
    o.rows.predict.strategy.n_recent = 2;
    o.rows.predict.sampling.max_tokens = 60;
    return o;
}

static const char *path_of(const char *name)
{
    static char paths[4][300];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s", scratch_path(name));
    unlink(path);
    return path;
}

static void what_is_stored_is_what_the_model_knows(void **state)
{
    struct teach_options o = options();
    o.rows.predict.gap = 1;
    const char *path = path_of("states.bin");
    const struct siren_config *c = siren_model_config(lm.model);
    size_t n_states = (size_t)c->n_layers * (size_t)c->d_model;
    struct siren_readout readout;
    struct teach_report report;
    struct siren_teacher *t;
    int seen = 0;
    MUST(app_teach(&app, &lm, &o, path, &report, NULL, ERR));
    MUST(siren_teacher_open(&t, path, ERR));
    MUST(siren_readout_create(&readout, lm.tokenizer, &app.meta.scale, ERR));
    assert_int_equal(report.n, 9);
    for (size_t i = 0; i < report.n; i++) {
        const struct siren_teacher_row *row = siren_teacher_row(t, i);
        struct siren_target target = {.user = row->user, .item = row->item};
        struct siren_predict_options p = o.rows.predict;
        struct siren_prompt_ids prompt;
        struct siren_target_input in;
        float found[128], wanted[128];
        double scores[SIREN_MAX_LABELS];
        p.mode = SIREN_COT;
        for (size_t k = 0; k < app.ratings.n; k++)
            if (app.ratings.user[k] == row->user && app.ratings.item[k] == row->item)
                target.row = k;
        MUST(siren_target_input(&app, &target, &p, &in, ERR));
        MUST(siren_prompt_encode(&prompt, lm.tokenizer, lm.chat, &in.input, &p.strategy, SIREN_COT,
                                 0, ERR));
        int32_t *ids = calloc(prompt.n_ids + row->n_ids, sizeof *ids);
        memcpy(ids, prompt.ids, prompt.n_ids * sizeof *ids);
        MUST(teacher_ids(t, i, ids + prompt.n_ids, ERR));
        struct siren_states s = {{ids, prompt.n_ids + row->n_ids}, wanted};
        struct siren_score score = {.prompt = s.prompt,
                                    .continuations = readout.tokens,
                                    .n_continuations = (size_t)readout.n,
                                    .logprobs = scores};
        assert_true(n_states <= 128);
        siren_session_drop_cache(lm.session);
        MUST(siren_states_many(lm.session, &s, 1, NULL, ERR));
        MUST(siren_teacher_states(t, i, found, ERR));
        for (size_t k = 0; k < n_states; k++)
            assert_true(fabsf(found[k] - wanted[k]) <= 0x1p-8f * fabsf(wanted[k]));
        MUST(siren_score_many(lm.session, &score, 1, NULL, ERR));
        for (int k = 0; k < readout.n; k++) assert_true(row->scores[k] == (float)scores[k]);
        assert_true(row->rating == app.ratings.rating[target.row]);
        if (row->flags & SIREN_TEACHER_NUMBER)
            assert_true(row->number == 4 || row->number == 3);
        else
            assert_true(isnan(row->number));
        seen |= 1 << row->flags;
        free(ids);
        siren_prompt_ids_clear(&prompt);
        siren_target_input_clear(&in);
    }
    assert_true(seen & 1 << (SIREN_TEACHER_NUMBER | SIREN_TEACHER_FORMAT));
    assert_true(seen & 1); /* neither */
    assert_non_null(strstr(siren_teacher_json(t), "\"split\":\"valid\""));
    siren_readout_clear(&readout);
    siren_teacher_close(t);
}

/* States do not depend on what the cache holds, nor on what is asked beside. */
static void states_alone_and_beside_others(void **state)
{
    enum { N = 5, MOST = 40 };
    int32_t ids[N][MOST];
    struct siren_states all[N];
    float together[N][128], alone[128];
    size_t n = sizeof alone;
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < MOST; k++) /* pairs share their first half */
            ids[i][k] = (int32_t)siren_random_below(3, (uint64_t)(k < MOST / 2 ? i / 2 : i),
                                                    (uint64_t)k, 256);
        all[i] = (struct siren_states){{ids[i], (size_t)(MOST - i)}, together[i]};
    }
    memset(together, 0, sizeof together);
    MUST(siren_states_many(lm.session, all, N, NULL, ERR));
    for (int i = 0; i < N; i++) {
        struct siren_states one = all[i];
        struct siren_generation g = {.prompt = {ids[i], MOST / 2}, .keep = 1};
        struct siren_sampling s = {.top_p = 1, .max_tokens = 2};
        one.states = memset(alone, 0, sizeof alone);
        MUST(siren_generate_many(lm.session, &g, 1, &s, 1, NULL, ERR)); /* now half is kept */
        siren_generation_clear(&g);
        MUST(siren_states_many(lm.session, &one, 1, NULL, ERR));
        assert_memory_equal(alone, together[i], n);
    }
    all[2].prompt.n_ids = 0;
    assert_int_equal(siren_states_many(lm.session, all, N, NULL, ERR), SIREN_EINVAL);
}

static int stop_soon(void *context, const char *what, uint64_t done, uint64_t total)
{
    return done >= 4;
}

static void stopped_and_gone_on_with(void **state)
{
    struct siren_progress progress = {stop_soon, NULL};
    struct teach_options o = options();
    const char *whole = path_of("whole.bin"), *path = path_of("stopped.bin");
    struct teach_report report;
    MUST(app_teach(&app, &lm, &o, whole, &report, NULL, ERR));
    assert_int_equal(app_teach(&app, &lm, &o, path, &report, &progress, ERR), SIREN_ECANCEL);
    assert_int_equal(access(path, F_OK), -1);
    o.rows.seed = 7;
    assert_int_equal(app_teach(&app, &lm, &o, path, &report, NULL, ERR), SIREN_EEXISTS);
    o.rows.seed = 0;
    o.batch = 3; /* bits do not depend on it */
    MUST(app_teach(&app, &lm, &o, path, &report, NULL, ERR));
    assert_int_equal(report.n_before, 4);
    assert_int_equal(report.n, 9);
    same_file(whole, path);
    assert_int_equal(app_teach(&app, &lm, &o, path, &report, NULL, ERR), SIREN_EEXISTS);
}

/* In a process of its own: threads and the database do not survive a fork.  context: the compute
 * mode; NULL: $SIREN_COMPUTE or the default. */
static int run_killed(void *context, const char *folder)
{
    struct siren_lm_options with = tiny_options();
    static const struct siren_progress progress = {count_call, NULL};
    struct teach_options o = options();
    struct teach_report report;
    struct siren_pool *own_pool;
    struct siren_lm own;
    struct siren_app workspace;
    char path[400];
    snprintf(path, sizeof path, "%s/states.bin", folder);
    MUST(siren_pool_create(&own_pool, 1, ERR));
    if (context) with.compute = context;
    MUST(siren_lm_open(&own, tiny_model("tiny"), &with, own_pool, ERR));
    tiny_lm_say(&own, texts, sizeof texts / sizeof *texts);
    MUST(siren_app_open(&workspace, siren_workspace_path(app.ws), SIREN_WORKSPACE_WRITE, ERR));
    int rc = app_teach(&workspace, &own, &o, path, &report, &progress, ERR);
    /* It was killed when the file had its name already. */
    return rc == SIREN_EEXISTS && strstr(ERR->message, "states.bin is there already") ? 0 : rc;
}

static void killed_at_any_moment_it_goes_on_to_the_same_bytes(void **state)
{
    static const char *const files[] = {"states.bin", NULL};
    kill_and_resume_often(&(struct doomed){.run = run_killed, .name = "teach", .files = files}, 4);
    kill_and_resume_often(&(struct doomed){run_killed, "bf16", "teach bf16", files, NULL}, 1);
}

static void the_command_killed_goes_on_to_the_same_bytes(void **state)
{
    static const char *const files[] = {"states.bin", NULL};
    char command[2048];
    if (find_program()) skip();
    snprintf(command, sizeof command,
             "test -f \"$FOLDER/states.bin\" || exec \"$PROGRAM\" train teach '%s' -m '%s' "
             "--chat-template '%s' --strategy recent --out \"$FOLDER/states.bin\" -n 6 "
             "--max-tokens 8 -q",
             siren_workspace_path(app.ws), tiny_model("tiny"), fixture_template());
    kill_and_resume_often(&(struct doomed){run_command, command, "command", files, NULL}, 2);
}

/* The model's own texts are those that it finds most likely, however sampling is asked for. */
static void a_teacher_is_greedy(void **state)
{
    const struct siren_lm_calls *calls = lm.calls;
    struct teach_options o = options();
    const char *cold = path_of("cold.bin"), *hot = path_of("hot.bin");
    struct teach_report report;
    o.rows.limit = 3;
    o.rows.predict.sampling.max_tokens = 8;
    lm.calls = tiny_engine;
    MUST(app_teach(&app, &lm, &o, cold, &report, NULL, ERR));
    o.rows.predict.sampling.temperature = 1;
    MUST(app_teach(&app, &lm, &o, hot, &report, NULL, ERR));
    lm.calls = calls;
    same_file(cold, hot);
}

/* With a second "<answer>" the number is not that of the states: the row has none. */
static void two_answers(void **state)
{
    static const char *const said[] = {"Hm.\n</think>\n<answer>4 or rather <answer>2</answer>"};
    struct teach_options o = options();
    struct teach_report report;
    struct siren_teacher *t;
    const char *path = path_of("two.bin");
    o.rows.limit = 3;
    tiny_lm_say(&lm, said, 1);
    MUST(app_teach(&app, &lm, &o, path, &report, NULL, ERR));
    tiny_lm_say(&lm, texts, sizeof texts / sizeof *texts);
    MUST(siren_teacher_open(&t, path, ERR));
    assert_int_equal(report.n, 3);
    assert_int_equal(report.n_valid, 0);
    for (size_t i = 0; i < report.n; i++)
        assert_false(siren_teacher_row(t, i)->flags & SIREN_TEACHER_NUMBER);
    siren_teacher_close(t);
}

/* That a prompt leaves no room is found before the first row, and names its row. */
static void a_prompt_too_long(void **state)
{
    struct teach_options o = options();
    struct teach_report report;
    struct siren_config *c = (struct siren_config *)siren_model_config(lm.model);
    int positions = c->max_positions;
    c->max_positions = 60;
    const char *path = path_of("long");
    assert_int_equal(app_teach(&app, &lm, &o, path, &report, NULL, ERR), SIREN_EINVAL);
    c->max_positions = positions;
    assert_non_null(strstr(ERR->message, "user "));
    assert_non_null(strstr(ERR->message, "--prompt-limit"));
    assert_int_not_equal(access(path, F_OK), 0);
}

/* A model that computes no numbers: of which row, by the names that a person knows. */
static void numbers_that_are_none(void **state)
{
    struct teach_options o = options();
    struct teach_report report;
    float *norm = lm.model->final_norm, kept = *norm;
    *norm = NAN;
    int rc = app_teach(&app, &lm, &o, path_of("nan.bin"), &report, NULL, ERR);
    *norm = kept;
    assert_int_equal(rc, SIREN_ENUMERIC);
    assert_non_null(strstr(ERR->message, "user "));
    assert_non_null(strstr(ERR->message, " is nan"));
}

/* As a training makes the folders on the way to its own. */
static void folders_on_the_way_are_made(void **state)
{
    struct teach_options o = options();
    struct teach_report report;
    o.rows.limit = 1;
    MUST(app_teach(&app, &lm, &o, scratch_path("new/sub/states.bin"), &report, NULL, ERR));
    assert_int_equal(access(scratch_path("new/sub/states.bin"), R_OK), 0);
    assert_int_equal(
        app_teach(&app, &lm, &o, scratch_path("new/sub/states.bin/under.bin"), &report, NULL, ERR),
        SIREN_EIO);
    assert_non_null(strstr(must_error.message, "states.bin cannot be made: Not a directory"));
}

static void what_cannot_be_taught(void **state)
{
    struct teach_options o = options();
    struct teach_report report;
    struct siren_lm none;
    struct fake fake;
    fake_open(&none, &fake);
    assert_int_equal(app_teach(&app, &none, &o, path_of("a"), &report, NULL, ERR), SIREN_EINVAL);
    fake_close(&none);
    o.rows.predict.strategy.flags |= SIREN_WITH_PROFILE;
    assert_int_equal(app_teach(&app, &lm, &o, path_of("a"), &report, NULL, ERR), SIREN_EINVAL);
    o = options();
    o.rows.split = "nowhere";
    assert_int_not_equal(app_teach(&app, &lm, &o, path_of("a"), &report, NULL, ERR), 0);
}

static int setup(void **state)
{
    if (tiny_setup(state)) return -1;
    tiny_lm_say(&lm, texts, sizeof texts / sizeof *texts);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_stored_is_what_the_model_knows),
        cmocka_unit_test(states_alone_and_beside_others),
        cmocka_unit_test(stopped_and_gone_on_with),
        cmocka_unit_test(killed_at_any_moment_it_goes_on_to_the_same_bytes),
        cmocka_unit_test(the_command_killed_goes_on_to_the_same_bytes),
        cmocka_unit_test(a_teacher_is_greedy),
        cmocka_unit_test(two_answers),
        cmocka_unit_test(a_prompt_too_long),
        cmocka_unit_test(numbers_that_are_none),
        cmocka_unit_test(folders_on_the_way_are_made),
        cmocka_unit_test(what_cannot_be_taught),
    };
    return cmocka_run_group_tests(tests, setup, tiny_teardown);
}
