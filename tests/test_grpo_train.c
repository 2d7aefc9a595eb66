/* siren train grpo from end to end on a made-up workspace and a tiny decoder: what a run leaves,
 * the first ratio, resuming. */
/* check: portable bf16 */
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine_fixture.h"

#include "app/grpo.h"
#include "killed.h"
#include "run_program.h"
#include "same_file.h"
#include "tiny_setup.h"

static struct training training_in(const char *name)
{
    static char folders[8][256];
    static int next;
    struct training t = training_defaults();
    char *folder = folders[next++ % 8];
    strcpy(folder, scratch_path(name));
    t.kind = "grpo";
    t.app = &app;
    t.lm = &lm;
    t.pool = pool;
    t.loop.folder = folder;
    t.loop.seed = 3;
    t.loop.batch = 3;
    t.loop.max_steps = 4;
    t.loop.lr = 1e-3;
    t.loop.eval_every = 2;
    t.loop.pass_tokens = 4096;
    t.lora.targets = (1 << SIREN_LORA_TARGETS) - 1;
    t.lora.last_layer = 1;
    t.n_rows = 20;
    t.eval_split = "valid";
    t.n_eval_rows = 4;
    return t;
}

static struct grpo_options options(void)
{
    struct grpo_options o = grpo_defaults();
    o.policy.samples = 4;
    o.sampling.max_tokens = 20;
    o.texts_every = 2;
    /* A random model finds no format, so all rewards are equal: the entropy gives it a gradient. */
    o.policy.loss.entropy = 0.1;
    return o;
}

static json_t *log_of(const char *folder)
{
    char path[300], *text, *line, *rest;
    json_t *lines = json_array();
    size_t size;
    snprintf(path, sizeof path, "%s/log.jsonl", folder);
    MUST(siren_file_read(&text, &size, path, 1 << 24, ERR));
    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        json_array_append_new(lines, json_loads(line, 0, NULL));
    free(text);
    return lines;
}

static double field(const json_t *line, const char *name)
{
    const json_t *value = json_object_get(line, name);
    if (!json_is_number(value)) fail_msg("no %s in %s", name, json_dumps(line, 0));
    return json_number_value(value);
}

static int has_file(const char *folder, const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static void a_run_leaves_what_it_promises(void **state)
{
    struct training t = training_in("whole");
    struct grpo_options o = options();
    struct trainer_result r;
    json_t *lines;
    size_t i, steps = 0, evaluations = 0;
    json_t *line;
    MUST(grpo_train(&t, &o, &r, NULL, NULL, ERR));
    assert_int_equal(r.steps, 4);
    assert_true(isfinite(r.best));
    assert_true(has_file(t.loop.folder, "adapter/adapter_model.safetensors"));
    assert_true(has_file(t.loop.folder, "texts/step-000002.txt"));
    assert_true(has_file(t.loop.folder, "settings.json"));
    assert_true(has_file(t.loop.folder, "curve.svg") && has_file(t.loop.folder, "length.svg") &&
                has_file(t.loop.folder, "policy.svg") && has_file(t.loop.folder, "ratings.svg"));
    lines = log_of(t.loop.folder);
    json_array_foreach(lines, i, line)
    {
        json_t *valid = json_object_get(line, "valid");
        if (valid) {
            evaluations++;
            assert_true(field(valid, "mae") >= 0);
            assert_true(field(valid, "invalid") >= 0);
            assert_true(field(json_object_get(valid, "answer_only"), "mae") >= 0);
            continue;
        }
        assert_true(field(line, "ratio") == 1 && field(line, "old_kl") == 0);
        if (!steps++) assert_true(field(line, "kl") == 0); /* B is 0: the policy is its start */
        assert_true(field(line, "length") > 0 && field(line, "entropy") > 0);
        assert_int_equal((int)field(line, "texts"), 12);
        assert_true(field(line, "norm") > 0);
        assert_true(field(line, "rollout_seconds") > 0 && field(line, "update_seconds") > 0);
    }
    assert_int_equal(steps, 4);
    assert_true(evaluations >= 2);
    json_decref(lines);
}

/* What the texts of the last call were drawn with. */
static struct siren_sampling drawn_with;

static int note_and_generate(struct siren_lm *l, struct siren_generation *all, size_t n,
                             const struct siren_sampling *sampling, int batch,
                             const struct siren_progress *progress, struct siren_error *err)
{
    drawn_with = *sampling;
    return tiny_generate(l, all, n, sampling, batch, progress, err);
}

/* The figures of a row's single greedy text, and of three drawn ones: the MAE of medians, the RMSE
 * of means, tokens a text. */
static void an_evaluation_by_hand(void **state)
{
    static const char *const texts[] = {"A.\n</think>\n<answer>2</answer>",
                                        "B.\n</think>\n<answer>5</answer>", "C.</think>"};
    static const struct siren_lm_calls noted = {tiny_score, note_and_generate};
    const struct siren_lm_calls *calls = lm.calls;
    struct training t = training_in("judged");
    struct grpo_options o = options();
    struct training_rows rows;
    o.sampling.max_tokens = 60;
    MUST(training_rows(&t, &rows, ERR));
    for (int samples = 0; samples <= 3; samples += 3) {
        struct siren_predict_options p = t.predict;
        struct siren_answer answers[4];
        double mae, absolute = 0, square = 0, tokens = 0;
        json_t *fields = json_object();
        o.eval_samples = samples;
        tiny_lm_say(&lm, texts, 3);
        lm.calls = &noted;
        MUST(grpo_evaluate(&t, &o, NULL, &rows, &mae, fields, NULL, ERR));
        p.mode = SIREN_COT;
        p.samples = samples;
        p.sampling = drawn_with;
        MUST(siren_predict(&app, &lm, rows.valid, 4, &p, answers, NULL, ERR));
        lm.calls = calls;
        assert_true(drawn_with.temperature == (samples ? 1 : 0) && drawn_with.seed == 3);
        for (int i = 0; i < 4; i++) {
            double truth = app.ratings.rating[rows.valid[i].row];
            assert_true(!samples || answers[i].mean != answers[i].median);
            absolute += fabs(answers[i].median - truth) / 4;
            square += pow(answers[i].mean - truth, 2) / 4;
            tokens += answers[i].tokens_out / (samples ? 12.0 : 4.0);
            siren_answer_clear(&answers[i]);
        }
        assert_float_equal(mae, absolute, 1e-9);
        assert_float_equal(field(fields, "rmse"), sqrt(square), 1e-9);
        assert_float_equal(field(fields, "tokens_a_text"), tokens, 1e-9);
        json_decref(fields);
    }
    training_rows_clear(&rows);
}

/* Several updates for a batch: the first ratio is 1, the second is not. */
static void later_updates_move_away(void **state)
{
    struct training t = training_in("updates");
    struct grpo_options o = options();
    struct trainer_result r;
    t.loop.repeats = 2;
    t.eval_split = NULL;
    MUST(grpo_train(&t, &o, &r, NULL, NULL, ERR));
    json_t *lines = log_of(t.loop.folder);
    for (size_t i = 0; i < 4; i++) {
        const json_t *line = json_array_get(lines, i);
        if (i % 2 == 0)
            assert_true(field(line, "ratio") == 1 && field(line, "old_kl") == 0);
        else
            assert_true(field(line, "ratio") != 1 && field(line, "rollout_seconds") == 0);
    }
    json_decref(lines);
}

/* The last news of each step that is behind; all news are of rows, so that one clock runs through,
 * from which the program says how long it takes yet (tests/test_cli_frame.c has the whole line). */
static int hear(void *context, const char *what, uint64_t done, uint64_t total)
{
    char(*heard)[200] = context;
    assert_true(!strncmp(what, "rows", 4) && (!what[4] || what[4] == ':'));
    assert_int_equal(total, 12);
    if (done && done < total) snprintf(heard[done / 3], sizeof heard[0], "%s", what);
    return 0;
}

/* What is told while a step is made are the figures of the one before, as the log has them. */
static void the_live_line_has_the_figures_of_the_last_step(void **state)
{
    static const char *const texts[] = {"A.\n</think>\n<answer>2</answer>",
                                        "B.\n</think>\n<answer>5</answer>", "C.</think>",
                                        "D and so on"};
    const struct siren_lm_calls *calls = lm.calls;
    char heard[4][200] = {""}, expected[200];
    const struct siren_progress progress = {hear, heard};
    struct training t = training_in("live");
    struct grpo_options o = options();
    struct trainer_result r;
    o.sampling.max_tokens = 60;
    t.eval_split = NULL;
    tiny_lm_say(&lm, texts, 4);
    MUST(grpo_train(&t, &o, &r, &progress, NULL, ERR));
    lm.calls = calls;
    json_t *lines = log_of(t.loop.folder);
    for (size_t step = 1; step < 4; step++) {
        const json_t *l = json_array_get(lines, step - 1);
        double seconds =
            field(l, "rollout_seconds") + field(l, "scoring_seconds") + field(l, "update_seconds");
        snprintf(expected, sizeof expected,
                 "rows: reward %.2f, %.0f %% ok, MAE %.2f, %.0f tok, KL %.3f, %.0f tok/s",
                 field(l, "reward"), 100 * field(l, "in_format"), field(l, "mae"),
                 field(l, "length"), field(l, "kl"),
                 field(l, "length") * field(l, "texts") / seconds);
        assert_string_equal(heard[step], expected);
    }
    json_decref(lines);
}

static int stop_after_two(void *context, const char *what, uint64_t done, uint64_t total)
{
    return !strncmp(what, "rows", 4) && done >= 6;
}

static void same_adapter(const char *a, const char *b)
{
    same_file_in(a, b, "adapter/adapter_model.safetensors");
}

/* Stopped and resumed, with other threads, the adapter has the bits of a run that never stopped. */
static void a_resumed_run_has_the_same_bits(void **state)
{
    struct training whole = training_in("never"), part = training_in("stopped");
    struct grpo_options o = options();
    struct trainer_result r;
    struct siren_progress progress = {stop_after_two, NULL};
    whole.eval_split = part.eval_split = NULL;
    MUST(grpo_train(&whole, &o, &r, NULL, NULL, ERR));
    assert_int_equal(grpo_train(&part, &o, &r, &progress, NULL, ERR), SIREN_ECANCEL);
    assert_int_equal(r.steps, 2);
    part.loop.resume = 1;
    MUST(grpo_train(&part, &o, &r, NULL, NULL, ERR));
    assert_int_equal(r.steps, 4);
    same_adapter(whole.loop.folder, part.loop.folder);
    o.policy.loss.entropy = 0.2;
    part.loop.max_steps = 5;
    assert_int_equal(grpo_train(&part, &o, &r, NULL, NULL, ERR), SIREN_EINVAL);
    assert_non_null(strstr(must_error.message, "entropy"));
}

/* What befalls a training in a process of its own. */
struct fate {
    void (*watch)(void *, const json_t *); /* of every line, with the training; NULL */
    const struct siren_progress *progress;
    const char *word; /* of the message of a SIREN_EIO that is to come; NULL */
};

/* Inside of that process, with a checkpoint every two steps.  Threads and the database do not
 * survive a fork: it has its own. */
static int train_own(struct training t, const struct grpo_options *o, struct fate fate)
{
    struct trainer_result r;
    struct siren_lm_options with = tiny_options();
    struct siren_lm own;
    struct siren_app workspace;
    t.loop.checkpoint_every = 2;
    with.trainable = t.full ? &SIREN_TRAIN_ALL : NULL;
    if (siren_pool_create(&t.pool, 1, ERR) ||
        siren_lm_open(&own, tiny_model("tiny"), &with, t.pool, ERR) ||
        siren_app_open(&workspace, siren_workspace_path(app.ws), SIREN_WORKSPACE_WRITE, ERR))
        _exit(1);
    t.lm = &own;
    t.app = &workspace;
    t.loop.watch = fate.watch;
    t.loop.watch_context = &t;
    int rc = grpo_train(&t, o, &r, fate.progress, NULL, ERR);
    if (rc) fprintf(stderr, "%s\n", must_error.message);
    return rc;
}

/* Its status.  It exits with 2 where the training ends well, with 7 where it ends with SIREN_EIO
 * and the word in the message. */
static int train_apart(struct training t, const struct grpo_options *o, struct fate fate)
{
    int status;
    pid_t child = fork();
    if (!child) {
        int rc = train_own(t, o, fate);
        int told = rc == SIREN_EIO && fate.word && strstr(must_error.message, fate.word);
        _exit(!rc ? 2 : told ? 7 : 3);
    }
    waitpid(child, &status, 0);
    return status;
}

static void die_in_step_3(void *context, const json_t *line)
{
    if (json_integer_value(json_object_get(line, "step")) == 3) raise(SIGKILL);
}

/* The same after kill -9 within a step, behind the last checkpoint. */
static void a_killed_run_has_the_same_bits(void **state)
{
    struct training whole = training_in("alive"), part = training_in("killed");
    struct grpo_options o = options();
    struct trainer_result r;
    whole.eval_split = part.eval_split = NULL;
    MUST(grpo_train(&whole, &o, &r, NULL, NULL, ERR));
    assert_true(WIFSIGNALED(train_apart(part, &o, (struct fate){.watch = die_in_step_3})));
    part.loop.checkpoint_every = 2;
    part.loop.resume = 1;
    MUST(grpo_train(&part, &o, &r, NULL, NULL, ERR));
    assert_int_equal(r.steps, 4);
    same_adapter(whole.loop.folder, part.loop.folder);
}

/* From step 3 on, no file gets half as long as the checkpoint that is there. */
static void fill_disk_in_step_3(void *context, const json_t *line)
{
    const struct training *t = context;
    struct stat st;
    char path[320];
    if (json_integer_value(json_object_get(line, "step")) != 3) return;
    snprintf(path, sizeof path, "%s/checkpoint", t->loop.folder);
    if (stat(path, &st)) _exit(4);
    struct rlimit limit = {(rlim_t)st.st_size / 2, (rlim_t)st.st_size / 2};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
}

/* The checkpoint before it stays good, and the run goes on once there is room. */
static void a_full_disk_ends_it(void **state)
{
    struct training whole = training_in("roomy"), part = training_in("full-disk");
    struct grpo_options o = options();
    struct trainer_result r;
    whole.eval_split = part.eval_split = NULL;
    MUST(grpo_train(&whole, &o, &r, NULL, NULL, ERR));
    int status =
        train_apart(part, &o, (struct fate){.watch = fill_disk_in_step_3, .word = "checkpoint"});
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    part.loop.checkpoint_every = 2;
    part.loop.resume = 1;
    MUST(grpo_train(&part, &o, &r, NULL, NULL, ERR));
    assert_true(r.resumed && r.steps == 4);
    same_adapter(whole.loop.folder, part.loop.folder);
}

/* ---- killed anywhere ---- */

struct run {
    struct training training;
    struct grpo_options options;
};

static int run_killed(void *context, const char *folder)
{
    static const struct siren_progress progress = {count_call, NULL};
    struct run *r = context;
    r->training.loop.folder = folder;
    r->training.loop.resume = 1;
    return train_own(r->training, &r->options,
                     (struct fate){.watch = count_line, .progress = &progress});
}

/* All but times, and the most memory that a process had. */
static void same_log(const char *a, const char *b)
{
    static const char *const own[] = {"seconds",         "tokens_per_second", "rollout_seconds",
                                      "scoring_seconds", "update_seconds",    "memory"};
    json_t *logs[2] = {log_of(a), log_of(b)};
    for (size_t i = 0; i < json_array_size(logs[0]) + json_array_size(logs[1]); i++)
        for (size_t k = 0; k < sizeof own / sizeof *own; k++)
            json_object_del(json_array_get(logs[i % 2], i / 2), own[k]);
    assert_true(json_array_size(logs[0]) > 0 && json_equal(logs[0], logs[1]));
    json_decref(logs[0]);
    json_decref(logs[1]);
}

/* With evaluation, some of it between the two updates of a batch. */
static void killed_at_any_moment_it_resumes_to_the_same_bits(void **state)
{
    static const char *const files[] = {"adapter/adapter_model.safetensors",
                                        "last/adapter_model.safetensors", NULL};
    struct run run = {training_in("unused"), options()};
    const struct doomed lora = {run_killed, &run, "lora", files, same_log};
    run.training.loop.max_steps = 6;
    run.training.loop.repeats = 2;
    run.training.loop.eval_every = 3;
    kill_and_resume_often(&lora, 4);
}

static void so_it_does_where_all_weights_are_trained(void **state)
{
    static const char *const files[] = {"model/model.safetensors", NULL};
    struct run run = {training_in("unused"), options()};
    const struct doomed all = {run_killed, &run, "all", files, same_log};
    run.training.full = 1;
    run.training.loop.repeats = 2;
    run.training.eval_split = NULL;
    kill_and_resume_often(&all, 3);
}

/* Going on from an adapter, which is the reference, too. */
static void the_start_is_the_reference(void **state)
{
    struct training first = training_in("first"), second = training_in("second");
    struct grpo_options o = options();
    struct trainer_result r;
    char start[300];
    first.eval_split = second.eval_split = NULL;
    MUST(grpo_train(&first, &o, &r, NULL, NULL, ERR));
    snprintf(start, sizeof start, "%s/adapter", first.loop.folder);
    second.start = start;
    second.loop.max_steps = 2;
    MUST(grpo_train(&second, &o, &r, NULL, NULL, ERR));
    json_t *lines = log_of(second.loop.folder);
    assert_true(field(json_array_get(lines, 0), "kl") == 0);
    assert_true(field(json_array_get(lines, 1), "kl") > 0);
    json_decref(lines);
}

/* All weights, the model loaded a second time as the start. */
static void all_weights_are_the_policy(void **state)
{
    struct training t = training_in("full");
    struct grpo_options o = options();
    struct trainer_result r;
    struct siren_lm whole;
    struct siren_lm_options with = tiny_options();
    with.trainable = &SIREN_TRAIN_ALL;
    MUST(siren_lm_open(&whole, tiny_model("tiny"), &with, pool, ERR));
    t.lm = &whole;
    t.full = 1;
    t.eval_split = NULL;
    t.loop.max_steps = 2;
    MUST(grpo_train(&t, &o, &r, NULL, NULL, ERR));
    assert_true(has_file(t.loop.folder, "model/model.safetensors"));
    json_t *lines = log_of(t.loop.folder);
    for (size_t i = 0; i < 2; i++) assert_true(field(json_array_get(lines, i), "ratio") == 1);
    assert_true(field(json_array_get(lines, 0), "kl") == 0);
    assert_true(field(json_array_get(lines, 1), "kl") > 0);
    json_decref(lines);
    siren_lm_close(&whole);
}

/* The start of the KL is read anew from the model's files. */
static void a_vanished_model_is_named(void **state)
{
    struct training t = training_in("vanished");
    struct grpo_options o = options();
    struct trainer_result r;
    struct siren_lm own;
    struct siren_lm_options with = tiny_options();
    char folder[256], file[300];
    with.trainable = &SIREN_TRAIN_ALL;
    strcpy(folder, tiny_model("vanishing"));
    snprintf(file, sizeof file, "%s/model.safetensors", folder);
    MUST(siren_lm_open(&own, folder, &with, pool, ERR));
    assert_int_equal(unlink(file), 0);
    t.lm = &own;
    t.full = 1;
    t.eval_split = NULL;
    assert_true(grpo_train(&t, &o, &r, NULL, NULL, ERR) < 0);
    assert_non_null(strstr(must_error.message, folder));
    siren_lm_close(&own);
}

/* `siren train grpo … MORE` of eight steps that learn, in scratch/NAME. */
static const char *long_run(char *arguments, size_t size, const char *model, const char *name,
                            const char *more)
{
    snprintf(arguments, size,
             "train grpo '%s' --model '%s' --chat-template '%s' --out '%s' --strategy recent "
             "--recent 3 --rows 4 --batch 2 --epochs 4 --eval-split none --max-tokens 3 "
             "--answers 2 --entropy 0.1 --lr 1e-3 --checkpoint-every 1 %s",
             siren_workspace_path(app.ws), model, fixture_template(), scratch_path(name), more);
    return arguments;
}

/* A run that was killed behind a checkpoint, whose model is gone when it is to go on: it is named,
 * nothing is lost, and with the model the run goes on to the bits of one that never stopped. */
static void check_vanished(const char *weights, const char *result)
{
    char whole[24], part[24], model[256], arguments[2048], more[64], file[300], away[300],
        said[300], checkpoint[300], folders[2][256];
    char *before, *after;
    size_t n, m;
    snprintf(whole, sizeof whole, "%s there", weights);
    snprintf(part, sizeof part, "%s gone", weights);
    strcpy(folders[0], scratch_path(whole));
    strcpy(folders[1], scratch_path(part));
    strcpy(model, tiny_model("going"));
    snprintf(file, sizeof file, "%s/model.safetensors", model);
    snprintf(away, sizeof away, "%s/away", model);
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint", folders[1]);
    snprintf(more, sizeof more, "--weights %s", weights);
    if (run_program("", long_run(arguments, sizeof arguments, model, whole, more), NULL))
        fail_msg("siren %s: %s", arguments, program_output);
    kill_program_at(long_run(arguments, sizeof arguments, model, part, more), checkpoint);
    MUST(siren_file_read(&before, &n, checkpoint, 1 << 24, ERR));
    assert_int_equal(rename(file, away), 0);
    strcat(more, " --resume");
    long_run(arguments, sizeof arguments, model, part, more);
    assert_int_equal(run_program("", arguments, NULL), 1);
    snprintf(said, sizeof said, "%s: holds neither model.safetensors", model);
    expect_output(said);
    MUST(siren_file_read(&after, &m, checkpoint, 1 << 24, ERR));
    assert_int_equal(n, m);
    assert_memory_equal(before, after, n);
    assert_int_equal(rename(away, file), 0);
    assert_int_equal(run_program("", arguments, NULL), 0);
    same_file_in(folders[0], folders[1], result);
    free(before);
    free(after);
}

static void a_model_that_vanishes_between_is_named(void **state)
{
    if (getenv("SIREN_ISA")) skip(); /* it is about files */
    check_vanished("lora", "adapter/adapter_model.safetensors");
    check_vanished("all", "model/model.safetensors");
}

static void other_temperatures_begin_at_ratio_1_too(void **state)
{
    struct training t = training_in("hot");
    struct grpo_options o = options();
    struct trainer_result r;
    o.sampling.temperature = 1.3f;
    t.loop.max_steps = 2;
    t.eval_split = NULL;
    MUST(grpo_train(&t, &o, &r, NULL, NULL, ERR));
    json_t *lines = log_of(t.loop.folder);
    for (size_t i = 0; i < 2; i++)
        assert_true(field(json_array_get(lines, i), "ratio") == 1 &&
                    field(json_array_get(lines, i), "old_kl") == 0);
    json_decref(lines);
}

/* ---- the command ---- */

/* ---- the loss on answers ---- */

static double first_and_last(const char *folder, const char *name, double *last)
{
    json_t *lines = log_of(folder);
    double first = field(json_array_get(lines, 0), name);
    *last = field(json_array_get(lines, json_array_size(lines) - 1), name);
    json_decref(lines);
    return first;
}

/* Two texts in four have a number.  The rating behind their reasoning is learnt, on labels of one
 * token and of several; before the first step the training pass's score of it is the one that the
 * reward of these texts was made of. */
static void ratings_are_learnt_behind_the_reasoning(void **state)
{
    static const char *const texts[] = {"A.\n</think>\n<answer>2</answer>",
                                        "B.\n</think>\n<answer>5</answer>", "C.</think>",
                                        "D and so on"};
    const struct siren_scale scale = app.meta.scale;
    const struct siren_lm_calls *calls = lm.calls;
    tiny_lm_say(&lm, texts, 4);
    for (int halves = 0; halves < 2; halves++) {
        struct training t = training_in(halves ? "answers in halves" : "answers");
        struct grpo_options o = options();
        struct trainer_result r;
        double last, first, format, reward, none;
        if (halves) app.meta.scale.step = 0.5;
        o.sampling.max_tokens = 60;
        o.reward = SIREN_REWARD_RPS;
        o.answer.rps = 1;
        o.policy.source_weight = 100;
        t.n_rows = 3; /* the same in each step */
        t.loop.max_steps = 12;
        t.loop.epochs = 12;
        t.loop.lr = 5e-3;
        t.eval_split = NULL;
        MUST(grpo_train(&t, &o, &r, NULL, NULL, ERR));
        first = first_and_last(t.loop.folder, "answer_loss", &last);
        format = first_and_last(t.loop.folder, "in_format", &none);
        reward = first_and_last(t.loop.folder, "reward", &none);
        assert_true(format > 0 && format < 1);
        assert_float_equal(reward, format * (1 + 2 - 4 * first) - 3 * (1 - format), 1e-4);
        if (!(last < 0.8 * first)) fail_msg("%g after 12 steps, %g before", last, first);
        app.meta.scale = scale;
    }
    lm.calls = calls;
}

/* settings.json of `siren train grpo … OPTIONS`, one step of a few tokens, in scratch/NAME. */
static json_t *settings_of(const char *name, const char *more)
{
    char arguments[2048], path[320];
    snprintf(arguments, sizeof arguments,
             "train grpo '%s' --model '%s' --chat-template '%s' --out '%s' --strategy recent "
             "--recent 3 --rows 4 --batch 2 --max-steps 1 --eval-split none --max-tokens 3 %s",
             siren_workspace_path(app.ws), tiny_model("tiny"), fixture_template(),
             scratch_path(name), more);
    if (run_program("", arguments, NULL)) fail_msg("siren %s: %s", arguments, program_output);
    snprintf(path, sizeof path, "%s/settings.json", scratch_path(name));
    json_t *settings = json_load_file(path, 0, NULL);
    assert_non_null(settings);
    return settings;
}

/* A choice of the command, and what settings.json calls it. */
static const struct {
    const char *option, *field;
    struct {
        const char *word, *setting;
    } values[3];
} choices[] = {
    {"--advantage",
     "advantage",
     {{"grpo", "grpo"}, {"dr-grpo", "dr_grpo"}, {"leave-one-out", "leave_one_out"}}},
    {"--flat-groups",
     "flat_groups",
     {{"keep", "keep"}, {"skip", "skip"}, {"resample", "resample"}}},
    {"--kl-kind", "kl_kind", {{"k1", "k1"}, {"k2", "k2"}, {"k3", "k3"}}},
    {"--mean-over",
     "aggregation",
     {{"token", "token"}, {"sequence", "sequence"}, {"constant", "constant"}}},
    {"--reward", "reward", {{"linear", "linear"}, {"squared", "squared"}, {"rps", "rps"}}},
    {"--outside", "outside", {{"clamp", "clamp"}, {"refuse", "refuse"}, {"clamp", "clamp"}}},
};
enum { N_CHOICES = sizeof choices / sizeof *choices };

/* Words become enums by their place in a list: each word is run once, and found again. */
static void each_choice_reaches_the_run(void **state)
{
    for (int k = 0; k < 3; k++) {
        char more[512] = "--answers 2", name[16];
        for (size_t i = 0; i < N_CHOICES; i++) {
            size_t used = strlen(more);
            snprintf(more + used, sizeof more - used, " %s %s", choices[i].option,
                     choices[i].values[k].word);
        }
        snprintf(name, sizeof name, "choice %d", k);
        json_t *settings = settings_of(name, more);
        const json_t *grpo = json_object_get(json_object_get(settings, "run"), "grpo");
        for (size_t i = 0; i < N_CHOICES; i++)
            assert_string_equal(json_string_value(json_object_get(grpo, choices[i].field)),
                                choices[i].values[k].setting);
        json_decref(settings);
    }
}

/* And the names in settings.json are those of the enums that the algorithm reads. */
static void settings_name_what_the_enums_mean(void **state)
{
    static const enum siren_advantage_kind advantages[] = {
        SIREN_ADVANTAGE_GRPO, SIREN_ADVANTAGE_DR_GRPO, SIREN_ADVANTAGE_LEAVE_ONE_OUT};
    static const enum policy_flat flat[] = {POLICY_KEEP_FLAT, POLICY_SKIP_FLAT,
                                            POLICY_RESAMPLE_FLAT};
    static const enum siren_kl_kind kinds[] = {SIREN_KL_K1, SIREN_KL_K2, SIREN_KL_K3};
    static const enum siren_aggregation means[] = {SIREN_TOKEN_MEAN, SIREN_SEQUENCE_MEAN,
                                                   SIREN_CONSTANT_LENGTH};
    static const enum siren_reward_kind rewards[] = {SIREN_REWARD_LINEAR, SIREN_REWARD_SQUARED,
                                                     SIREN_REWARD_RPS};
    for (int k = 0; k < 3; k++) {
        struct grpo_options o = grpo_defaults();
        o.policy.advantage = advantages[k];
        o.policy.flat = flat[k];
        o.policy.loss.kl_kind = kinds[k];
        o.policy.loss.aggregation = means[k];
        o.reward = rewards[k];
        o.refuse_outside = k == 1;
        json_t *settings = grpo_settings(&o);
        for (size_t i = 0; i < N_CHOICES; i++)
            assert_string_equal(json_string_value(json_object_get(settings, choices[i].field)),
                                choices[i].values[k].setting);
        json_decref(settings);
    }
}

/* Help names the defaults once more: they are the library's. */
static void without_options_it_is_the_library(void **state)
{
    struct grpo_options o = grpo_defaults();
    o.sampling.max_tokens = o.policy.loss.constant_length = 3;
    json_t *settings = settings_of("defaults", ""), *defaults = grpo_settings(&o);
    assert_true(json_equal(json_object_get(json_object_get(settings, "run"), "grpo"), defaults));
    json_decref(defaults);
    json_decref(settings);
}

/* An option that training has and reinforcement has not. */
static void dropout_is_refused(void **state)
{
    assert_int_equal(run_program("", "train grpo x.siren -m x -o y --dropout 0.1", NULL), 2);
    expect_output("--dropout 0.1: reinforcement goes without");
    assert_int_equal(run_program("", "train grpo x.siren -m x -o y --top-p 0", NULL), 2);
    expect_output("--top-p: found \"0\", expected a number above 0");
    assert_int_equal(run_program("", "train grpo x.siren -m x -o y --dual-clip 0.5", NULL), 2);
    expect_output("dual clip at 0.5, expected more than");
    assert_int_equal(run_program("", "train grpo x.siren -m x -o y --kl 0 --kl-kind k1", NULL), 2);
    expect_output("--kl-kind: --kl is 0");
}

static void the_answers_loss_reaches_the_run(void **state)
{
    static const char *const none[] = {"answer_weight", "answer_ce", "answer_rps"};
    json_t *ce = settings_of("answer ce", "--answer-loss ce"),
           *rps = settings_of("answer rps", "--answer-loss rps --answer-weight 0.25"),
           *usual = settings_of("answer none", "");
    const json_t *a = json_object_get(json_object_get(ce, "run"), "grpo"),
                 *b = json_object_get(json_object_get(rps, "run"), "grpo"),
                 *c = json_object_get(json_object_get(usual, "run"), "grpo");
    assert_true(field(a, "answer_weight") == 1 && field(a, "answer_ce") == 1);
    assert_true(field(a, "answer_rps") == 0);
    assert_true(field(b, "answer_weight") == 0.25 && field(b, "answer_ce") == 0);
    assert_true(field(b, "answer_rps") == 1);
    for (int i = 0; i < 3; i++) assert_null(json_object_get(c, none[i]));
    json_decref(ce);
    json_decref(rps);
    json_decref(usual);
    assert_int_equal(
        run_program("", "train grpo x.siren --model m --out o --answer-weight 2", NULL), 2);
    expect_output("--answer-weight: --answer-loss is none");
}

static void each_number_reaches_the_run(void **state)
{
    static const struct {
        const char *field;
        double value, usual;
    } numbers[] = {{"samples", 3, 8},       {"length_cost", 0.75, 0}, {"clip_low", 0.125, 0.2},
                   {"clip_high", 0.5, 0.2}, {"dual_clip", 4, 3},      {"kl", 0.25, 0.001},
                   {"entropy", -0.5, 0},    {"temperature", 1.5, 1},  {"top_p", 0.875, 1},
                   {"top_k", 7, 0},         {"max_tokens", 5, 3},     {"constant_length", 5, 3}};
    json_t *given = settings_of(
        "numbers", "--answers 3 --length-cost 0.75 --clip-low 0.125 --clip-high 0.5 --dual-clip 4 "
                   "--kl 0.25 --entropy=-0.5 --temperature 1.5 --top-p 0.875 --top-k 7 "
                   "--max-tokens 5 --mask-truncated --updates 4 --texts-every 0");
    json_t *usual = settings_of("usual", "");
    const json_t *a = json_object_get(json_object_get(given, "run"), "grpo"),
                 *b = json_object_get(json_object_get(usual, "run"), "grpo");
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        double x = field(a, numbers[i].field), y = field(b, numbers[i].field);
        if (x != numbers[i].value || y != numbers[i].usual)
            fail_msg("%s is %g, and %g where nothing is said", numbers[i].field, x, y);
    }
    assert_true(json_is_true(json_object_get(a, "mask_truncated")));
    assert_true(json_is_false(json_object_get(b, "mask_truncated")));
    for (size_t i = 0; i < N_CHOICES; i++) /* without a word: the paper's, and TRL's */
        assert_string_equal(json_string_value(json_object_get(b, choices[i].field)),
                            choices[i].values[i == 2 ? 2 : 0].setting);
    json_t *judged = settings_of("judged", "--eval-split valid --eval-rows 1 --eval-samples 2");
    assert_true(field(json_object_get(json_object_get(judged, "run"), "grpo"), "eval_samples") ==
                2);
    assert_true(field(b, "eval_samples") == 0);
    json_decref(judged);
    assert_true(field(json_object_get(given, "training"), "repeats") == 4);
    assert_true(field(json_object_get(usual, "training"), "repeats") == 1);
    assert_false(has_file(scratch_path("numbers"), "texts/step-000001.txt"));
    assert_true(has_file(scratch_path("usual"), "texts/step-000001.txt"));
    json_decref(given);
    json_decref(usual);
}

/* Rows that are refused before there is a source of texts. */
static void wrong_rows_are_told(void **state)
{
    static const struct {
        const char *options, *words;
        int code;
    } wrong[] = {
        {"--split test", "--split: rows of \"test\"", 2},
        {"--eval-split test", "--eval-split: rows of \"test\"", 2},
        {"--split valid --eval-split valid", "share rows", 2},
        {"--split train:last3+valid --eval-split valid", "share rows", 2},
        {"--fold 0", "fold", 1},
    };
    char arguments[2048];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(arguments, sizeof arguments,
                 "train grpo '%s' --model '%s' --chat-template '%s' --out '%s' --strategy recent "
                 "--rows 4 --batch 2 --max-steps 1 --max-tokens 3 %s",
                 siren_workspace_path(app.ws), tiny_model("tiny"), fixture_template(),
                 scratch_path("refused"), wrong[i].options);
        assert_int_equal(run_program("", arguments, NULL), wrong[i].code);
        expect_output(wrong[i].words);
    }
}

static int setup(void **state)
{
    return find_program() || tiny_setup(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_leaves_what_it_promises),
        cmocka_unit_test(an_evaluation_by_hand),
        cmocka_unit_test(the_live_line_has_the_figures_of_the_last_step),
        cmocka_unit_test(later_updates_move_away),
        cmocka_unit_test(a_resumed_run_has_the_same_bits),
        cmocka_unit_test(a_killed_run_has_the_same_bits),
        cmocka_unit_test(killed_at_any_moment_it_resumes_to_the_same_bits),
        cmocka_unit_test(so_it_does_where_all_weights_are_trained),
        cmocka_unit_test(a_full_disk_ends_it),
        cmocka_unit_test(the_start_is_the_reference),
        cmocka_unit_test(all_weights_are_the_policy),
        cmocka_unit_test(a_vanished_model_is_named),
        cmocka_unit_test(a_model_that_vanishes_between_is_named),
        cmocka_unit_test(other_temperatures_begin_at_ratio_1_too),
        cmocka_unit_test(ratings_are_learnt_behind_the_reasoning),
        cmocka_unit_test(each_choice_reaches_the_run),
        cmocka_unit_test(settings_name_what_the_enums_mean),
        cmocka_unit_test(each_number_reaches_the_run),
        cmocka_unit_test(the_answers_loss_reaches_the_run),
        cmocka_unit_test(without_options_it_is_the_library),
        cmocka_unit_test(dropout_is_refused),
        cmocka_unit_test(wrong_rows_are_told),
    };
    return cmocka_run_group_tests(tests, setup, tiny_teardown);
}
