/* Both stages in one go, with a tiny random model: what is made and measured; stopped in every
 * stage and resumed, the last adapter has the bits of a call that never stopped. */
/* check: portable */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "app/stages.h"
#include "app_fixture.h"
#include "killed.h"
#include "run_program.h"
#include "same_file.h"
#include "siren/teacher.h"
#include "tiny_lm.h"

static struct siren_app app;
static struct siren_pool *pools[2];
static char workspace[256], model[300], chat[300];

/* The warm start learns so much that the teacher's texts have ratings to read. */
static struct stages_options options_in(const char *folder, int threads)
{
    static char folders[8][300];
    static unsigned next;
    struct stages_options o = stages_defaults();
    char *path = folders[next++ % 8];
    snprintf(path, sizeof folders[0], "%s", scratch_path(folder));
    o.app = &app;
    o.pool = pools[threads - 1];
    o.model = model;
    o.lm.chat_template = chat;
    o.folder = path;
    o.resume = 1;
    o.eval_split = "valid";
    o.n_eval_rows = 3;
    MUST(siren_strategy_parse(&o.predict.strategy, "recent", ERR));
    o.predict.strategy.n_recent = 2;
    o.warm.n_rows = o.reason.n_rows = o.answer.n_rows = 4;
    o.warm.loop.batch = 4;
    o.warm.loop.epochs = 150;
    o.warm.loop.schedule = SIREN_SCHEDULE_LINEAR;
    o.warm.loop.lr = 0.02;
    o.warm.loop.warmup = 2;
    o.warm.loop.eval_every = 1000; /* the last adapter, not the best on valid */
    o.warm.lora.dropout = 0;
    o.reason.loop.batch = 2;
    o.reason.loop.epochs = 1;
    o.reason.loop.lr = 1e-4;
    o.answer.loop.batch = 2;
    o.answer.loop.lr = 0.01;
    o.grpo.policy.samples = 2;
    o.grpo.sampling.max_tokens = 200;
    return o;
}

/* ---- the whole ---- */

static const char *const made[STAGES] = {
    "1-warm/adapter/adapter_model.safetensors", "2-reason/adapter/adapter_model.safetensors",
    "3-model/model.safetensors", "4-states.bin", "5-answer/adapter/adapter_model.safetensors"};
static unsigned counts[STAGES + 1]; /* news of progress in each stage of the whole call */

static int stage_in(const char *what)
{
    const char *at = strstr(what, ", stage ");
    assert_non_null(at);
    return atoi(at + strlen(", stage "));
}

static int count(void *context, const char *what, uint64_t done, uint64_t total)
{
    int stage = stage_in(what);
    assert_in_range(stage, 1, STAGES);
    counts[stage]++;
    return 0;
}

static double number(const json_t *line, const char *how, const char *what)
{
    const json_t *value = json_object_get(json_object_get(line, how), what);
    if (!json_is_number(value)) fail_msg("no %s.%s", how, what);
    return json_number_value(value);
}

static void check_report(const json_t *report)
{
    static const char *const after[] = {"nothing", "warm start", "reasoning", "alignment"};
    const json_t *valid = json_object_get(report, "valid");
    int most = (int)(app.meta.scale.max - app.meta.scale.min);
    assert_int_equal(json_array_size(valid), 4);
    for (size_t i = 0; i < 4; i++) {
        const json_t *line = json_array_get(valid, i);
        assert_string_equal(json_string_value(json_object_get(line, "after")), after[i]);
        assert_in_range((int)number(line, "answer_only", "mae"), 0, most);
        assert_true(number(line, "answer_only", "rmse") >= 0);
        if (i < 3) assert_true(number(line, "reasoned", "mae") >= 0);
    }
}

static void check_runs(const char *kind, size_t expected)
{
    struct siren_run *runs;
    size_t n;
    MUST(siren_runs_load(&runs, &n, app.ws, kind, ERR));
    assert_int_equal(n, expected);
    for (size_t i = 0; i < n; i++) assert_int_equal(runs[i].status, SIREN_RUN_DONE);
    siren_runs_free(runs, n);
}

static void check_all_runs(size_t n)
{
    static const char *const kinds[] = {"all", "sft", "grpo", "align"};
    for (int i = 0; i < 4; i++) check_runs(kinds[i], n);
}

/* The teacher's texts are as long as those that reasoning was learnt with. */
static void check_length(const char *folder)
{
    struct siren_teacher *t;
    char path[400];
    snprintf(path, sizeof path, "%s/4-states.bin", folder);
    MUST(siren_teacher_open(&t, path, ERR));
    assert_non_null(strstr(siren_teacher_json(t), "\"max_tokens\":200,"));
    siren_teacher_close(t);
}

static void the_whole(void **state)
{
    struct stages_options o = options_in("whole", 2);
    struct siren_progress progress = {count, NULL};
    struct siren_run run;
    json_t *report;
    char path[400];
    MUST(stages_run(&o, &report, &progress, NULL, ERR));
    for (int i = 0; i < STAGES; i++) {
        snprintf(path, sizeof path, "%s/%s", o.folder, made[i]);
        assert_int_equal(access(path, F_OK), 0);
        assert_true(counts[i + 1] > 0);
    }
    check_report(report);
    check_length(o.folder);
    MUST(siren_run_load(&run, app.ws, json_integer_value(json_object_get(report, "run")), ERR));
    assert_string_equal(run.kind, "all");
    assert_non_null(strstr(run.metrics, "\"median\""));
    siren_run_clear(&run);
    json_decref(report);
    check_all_runs(1);
}

/* ---- stopped ---- */

struct stop {
    int stage;
    unsigned left;
};

static int stop_there(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct stop *s = context;
    int stage = stage_in(what);
    assert_true(stage <= s->stage);
    if (stage == s->stage && s->left) s->left--;
    return stage == s->stage && !s->left;
}

static void stop_in(const struct stages_options *o, int stage, unsigned after)
{
    struct stop stop = {stage, after ? after : 1};
    struct siren_progress progress = {stop_there, &stop};
    char words[32];
    json_t *report;
    int rc = stages_run(o, &report, &progress, NULL, ERR);
    if (rc != SIREN_ECANCEL) fail_msg("stage %d: %d, %s", stage, rc, rc ? ERR->message : "done");
    assert_null(report);
    snprintf(words, sizeof words, "stage %d of 5", stage);
    assert_non_null(strstr(ERR->message, words));
}

static void same_files(const char *a, const char *b)
{
    for (int i = 0; i < STAGES; i++) same_file_in(a, b, made[i]);
}

/* In each stage, at its beginning and in its middle, with other threads.  Where there is no
 * evaluation the last adapters are kept, so that every step of every stage is in the bytes. */
static void stop_everywhere(const struct stages_options *whole, struct stages_options *parts)
{
    json_t *report;
    for (int stage = 1; stage <= STAGES; stage++) {
        parts->pool = pools[stage % 2];
        stop_in(parts, stage, 1);
        stop_in(parts, stage, counts[stage] / 2);
    }
    MUST(stages_run(parts, &report, NULL, NULL, ERR));
    for (size_t i = 0; i < STAGES; i++) {
        const json_t *line = json_array_get(json_object_get(report, "stages"), i);
        assert_int_equal(json_is_true(json_object_get(line, "skipped")), i < STAGES - 1);
    }
    same_files(whole->folder, parts->folder);
    json_decref(report);
}

static void stopped_in_every_stage(void **state)
{
    struct stages_options whole = options_in("whole", 1), parts = options_in("parts", 1);
    stop_everywhere(&whole, &parts);
    check_all_runs(2);
}

static void stopped_without_evaluation(void **state)
{
    struct stages_options whole = options_in("whole last", 2), parts = options_in("parts last", 1);
    struct siren_progress progress = {count, NULL};
    json_t *report;
    whole.eval_split = parts.eval_split = NULL;
    memset(counts, 0, sizeof counts);
    MUST(stages_run(&whole, &report, &progress, NULL, ERR));
    assert_int_equal(json_array_size(json_object_get(report, "valid")), 0);
    json_decref(report);
    stop_everywhere(&whole, &parts);
}

/* In a process of its own: threads and the database do not survive a fork. */
static int run_killed(void *context, const char *folder)
{
    static const struct siren_progress progress = {count_call, NULL};
    struct stages_options o = options_in("unused", 1);
    struct siren_app own;
    char from[300];
    json_t *report;
    snprintf(from, sizeof from, "%s/3-model", scratch_path("whole"));
    o.model = from; /* which can reason already: the warm start is short, as the other stages are */
    o.warm.loop.epochs = 4;
    o.warm.loop.lr = 1e-4;
    MUST(siren_pool_create(&o.pool, 1, ERR));
    MUST(siren_app_open(&own, workspace, SIREN_WORKSPACE_WRITE, ERR));
    o.app = &own;
    o.folder = folder;
    return stages_run(&o, &report, &progress, NULL, ERR);
}

/* By count it is killed within a step or an evaluation, by the clock while a stage hands over to
 * the next one, too. */
static void killed_at_any_moment(void **state)
{
    const char *files[STAGES + 1] = {NULL};
    memcpy(files, made, sizeof made);
    kill_and_resume_often(&(struct doomed){.run = run_killed, .name = "stages", .files = files}, 3);
}

static int never(void *context, const char *what, uint64_t done, uint64_t total)
{
    fail_msg("%s: nothing is left to be done", what);
    return 1;
}

/* Nothing is computed, nothing is recorded, and the report is the same. */
static void all_is_done(void **state)
{
    struct stages_options o = options_in("parts", 1);
    struct siren_progress progress = {never, NULL};
    size_t before, after;
    struct siren_run *runs;
    json_t *report;
    MUST(siren_runs_load(&runs, &before, app.ws, NULL, ERR));
    siren_runs_free(runs, before);
    MUST(stages_run(&o, &report, &progress, NULL, ERR));
    check_report(report);
    json_decref(report);
    MUST(siren_runs_load(&runs, &after, app.ws, NULL, ERR));
    siren_runs_free(runs, after);
    assert_int_equal(before, after);
}

/* ---- two at once ---- */

struct second {
    struct stages_options options;
    int stage; /* in which it was tried last */
};

static int try_a_second(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct second *s = context;
    int stage = stage_in(what);
    struct siren_run *runs;
    json_t *report;
    size_t n;
    if (stage == s->stage) return 0;
    s->stage = stage;
    assert_int_equal(stages_run(&s->options, &report, NULL, NULL, ERR), SIREN_EBUSY);
    assert_non_null(strstr(ERR->message, "another process trains in this folder"));
    MUST(siren_runs_load(&runs, &n, app.ws, "all", ERR));
    assert_int_equal(runs[n - 1].status, SIREN_RUN_RUNNING);
    siren_runs_free(runs, n);
    return 0;
}

/* In every stage, also in those that lock nothing of their own. */
static void a_second_one_leaves_the_first_alone(void **state)
{
    struct second s = {.options = options_in("busy", 1)};
    struct siren_progress progress = {try_a_second, &s};
    struct siren_run run;
    json_t *report;
    s.options.warm.loop.eval_every = 0;
    s.options.eval_split = NULL;
    MUST(stages_run(&s.options, &report, &progress, NULL, ERR));
    assert_int_equal(s.stage, STAGES);
    MUST(siren_run_load(&run, app.ws, json_integer_value(json_object_get(report, "run")), ERR));
    assert_int_equal(run.status, SIREN_RUN_DONE);
    siren_run_clear(&run);
    json_decref(report);
}

/* ---- refused ---- */

static void refused(const struct stages_options *o, int code, const char *words)
{
    json_t *report;
    ERR->message[0] = '\0';
    assert_int_equal(stages_run(o, &report, NULL, NULL, ERR), code);
    assert_null(report);
    if (!strstr(ERR->message, words)) fail_msg("\"%s\" is not in: %s", words, ERR->message);
}

static void what_is_refused(void **state)
{
    struct stages_options o = options_in("whole", 1), other = options_in("other", 1);
    char from[400], to[400];
    o.resume = 0;
    refused(&o, SIREN_EEXISTS, "holds a training already");
    o.resume = 1;
    o.answer.loop.lr = 0.5;
    refused(&o, SIREN_EINVAL, "answer.lr is 0.5, it was 0.01");
    o.answer.loop.lr = 0.01;
    o.grpo.sampling.max_tokens = 100;
    refused(&o, SIREN_EINVAL, "--max-tokens is 100, it was 200");
    /* A result whose predecessor is gone. */
    o.grpo.sampling.max_tokens = 200;
    snprintf(from, sizeof from, "%s/2-reason", o.folder);
    snprintf(to, sizeof to, "%s/away", o.folder);
    assert_int_equal(rename(from, to), 0);
    refused(&o, SIREN_EEXISTS, "3-model is there, although stage 2 (reasoning) is not done");
    assert_int_equal(rename(to, from), 0);
    other.model = "nowhere";
    refused(&other, SIREN_ENOTFOUND, "nowhere");
    other.model = "tests/fixtures/models/bert";
    refused(&other, SIREN_EINVAL, "is a sentence encoder (bert)");
    other = options_in("other", 1);
    other.split = "test";
    refused(&other, SIREN_EINVAL, "to be reported on only");
    other.split = "train";
    other.eval_split = "foo";
    refused(&other, SIREN_EINVAL, "foo");
    other.split = "valid"; /* of the rows that are drawn, only the last stage's are judged, too */
    other.eval_split = "valid:A";
    other.n_eval_rows = other.warm.n_rows = other.reason.n_rows = 1;
    other.answer.n_rows = 0;
    refused(&other, SIREN_EINVAL, "share rows");
    assert_int_not_equal(access(other.folder, F_OK), 0); /* so it can be begun with the right one */
    other = options_in("late", 1);
    other.answer.loop.epochs = 0;
    refused(&other, SIREN_EINVAL, "0 epochs");
    other = options_in("late", 1);
    other.predict.strategy.flags |= SIREN_WITH_PROFILE;
    refused(&other, SIREN_EINVAL, "cannot hold profiles");
    assert_int_not_equal(access(other.folder, F_OK), 0);
}

/* ---- from outside ---- */

static int train(const char *from, const char *folder, const char *more)
{
    char arguments[2048];
    snprintf(arguments, sizeof arguments,
             "train all '%s' --model '%s' --chat-template '%s' --out \"%s\" --strategy recent "
             "--recent 2 --rows 4 --batch 4 --warm-rows 4 --answers 2 --eval-split valid "
             "--eval-rows 2 %s",
             workspace, from, chat, scratch_path(folder), more);
    return run_program("", arguments, NULL);
}

/* A model that learnt nothing rates nothing: the last stage would have nothing to learn from, and
 * the one before says so, at once and resumed; all that was made is kept. */
static void the_command_without_a_teacher(void **state)
{
    static const char *const more = "--warm-epochs 1 --max-tokens 8";
    assert_int_equal(train(model, "outside", "--warm-epochs 1 --max-tokens 8 --resume"), 1);
    expect_output("there is no training to go on from: the training begins anew"); /* mistyped? */
    expect_output("stage 2 of 5: reasoning");
    expect_output("stage 4 of 5 (what it knows)");
    expect_output("none of its 4 rows with a rating");
    expect_output("--max-tokens");
    assert_null(strstr(program_output, "stage 5 of 5"));
    assert_int_equal(train(model, "outside", more), 1);
    expect_output("holds a training already");
    assert_int_equal(train(model, "outside", "--warm-epochs 1 --max-tokens 8 --resume"), 1);
    expect_output("stage 4 of 5: what it knows (done before)");
    expect_output("stage 4 of 5 (what it knows)");
    expect_output("none of its 4 rows with a rating");
    assert_null(strstr(program_output, "stage 5 of 5"));
    assert_int_equal(train(model, "outside", "--warm-epochs 1 --max-tokens 8 --resume --rank 4"),
                     1);
    expect_output("--rank is 4, it was 8");
}

/* What the command says of the last line that begins with these words, run as it is printed. */
static void run_what_is_printed(const char *words)
{
    char command[2048], *from, *end;
    expect_output(words);
    from = strstr(program_output, words) + strlen(words);
    from = strstr(from, "siren ") + strlen("siren ");
    end = strchr(from, '\n');
    snprintf(command, sizeof command, "%.*s", (int)(end - from), from);
    memcpy(strstr(command, "--user ID") + 7, "u1", 2);
    memcpy(strstr(command, "--item ID") + 7, "i2", 2);
    assert_int_equal(run_program("", command, NULL), 0);
}

/* From a model that can reason about these rows, to the commands that use what was made; its name
 * is one that a shell would take apart. */
static void the_command(void **state)
{
    static const char *const more = "--warm-epochs 1 --max-tokens 200 --compute f32 --name both";
    char from[300];
    snprintf(from, sizeof from, "%s/3-model", scratch_path("whole"));
    assert_int_equal(train(from, "it's good", more), 0);
    expect_output("MAE at once");
    expect_output("warm start");
    expect_output("stored as run");
    long run = strtol(strstr(program_output, "stored as run") + 14, NULL, 10);
    expect_output("--compute f32 --recent 2 --user ID");
    expect_output("--compute f32 --recent 2 --max-tokens 200 --user ID");
    run_what_is_printed("at once:");
    assert_int_equal(train(from, "it's good", "--warm-epochs 1 --max-tokens 200 --resume"), 0);
    run_what_is_printed("with reasons:");
    assert_int_equal(
        train(from, "it's good", "--warm-epochs 1 --max-tokens 200 --resume --json -q"), 0);
    json_t *report = json_loads(program_output, 0, NULL);
    check_report(report);
    assert_int_equal(json_integer_value(json_object_get(report, "run")), run);
    json_decref(report);
    snprintf(from, sizeof from, "runs '%s'", workspace);
    assert_int_equal(run_program("", from, NULL), 0);
    expect_output("all");
    expect_output("both");
    /* Of the run what was measured after each stage, and nothing of rows that it has not. */
    snprintf(from, sizeof from, "runs '%s' show %ld", workspace, run);
    assert_int_equal(run_program("", from, NULL), 0);
    expect_output("In the format");
    expect_output("warm start");
    assert_null(strstr(program_output, "readable rating"));
}

static void the_command_stopped(void **state)
{
    char arguments[2048];
    snprintf(arguments, sizeof arguments,
             "train all '%s' --model '%s' --chat-template '%s' --out '%s' --strategy recent "
             "--recent 2 --rows 4 --warm-rows 4 --warm-epochs 100000 --eval-split none",
             workspace, model, chat, scratch_path("interrupted"));
    /* --foreground: once, to the program; else to its group, too, and a second Ctrl-C kills. */
    assert_int_equal(
        run_program("timeout --foreground --preserve-status -s INT 1", arguments, NULL), 130);
    expect_output("stage 1 of 5: warm start");
    expect_output("the same command with --resume goes on");
}

static void the_command_killed(void **state)
{
    const char *files[STAGES + 1] = {NULL};
    char command[2048];
    if (getenv("SIREN_ISA")) skip(); /* the portable kernels are slow, and it is not about them */
    memcpy(files, made, sizeof made);
    snprintf(command, sizeof command,
             "exec \"$PROGRAM\" train all '%s' --model '%s/3-model' --chat-template '%s' "
             "--out \"$FOLDER\" --strategy recent --recent 2 --rows 4 --batch 4 --warm-rows 4 "
             "--answers 2 --eval-split valid --eval-rows 2 --warm-epochs 1 --max-tokens 200 "
             "--resume -q",
             workspace, scratch_path("whole"), chat);
    kill_and_resume_often(&(struct doomed){run_command, command, "command", files, NULL}, 2);
}

/* A split that is misspelt, or a prompt without room, does not use the folder up, nor does it leave
 * a run behind. */
static void a_mistake_can_be_corrected(void **state)
{
    static const struct {
        const char *options, *words;
        int status;
    } mistakes[] = {{"--split foo", "--split: 'foo' is no split", 2},
                    {"--split test", "--split: rows of \"test\" are to be reported on only", 2},
                    {"--eval-split test", "--eval-split: rows of \"test\" are to be reported", 2},
                    {"--eval-split train", "--eval-split: rows to choose by are those of valid", 2},
                    {"--split valid --eval-split valid:A",
                     "--eval-split: \"valid:A\" and \"valid\" of --split share rows", 2},
                    {"--prompt-limit 64", "and 64 are allowed", 1}};
    size_t before = fixture_runs(app.ws);
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        assert_int_equal(train(model, "corrected", mistakes[i].options), mistakes[i].status);
        expect_output(mistakes[i].words);
        assert_int_not_equal(access(scratch_path("corrected"), F_OK), 0);
        assert_int_equal(fixture_runs(app.ws), before);
    }
    assert_int_equal(train(model, "corrected", "--warm-epochs 1 --max-tokens 8"), 1);
    expect_output("none of its 4 rows with a rating");
}

static void mistakes_of_the_command(void **state)
{
    assert_int_equal(run_program("", "train all x.siren --model x", NULL), 2);
    expect_output("--out DIR is needed");
    assert_int_equal(run_program("", "train all x.siren --out x", NULL), 2);
    expect_output("--model");
    assert_int_equal(train(model, "outside", "--lora-targets x"), 2);
    assert_int_equal(train(model, "outside", "--answers 1"), 2);
}

static int setup(void **state)
{
    if (find_program() || scratch_create(state)) return -1;
    for (int i = 0; i < 2; i++) MUST(siren_pool_create(&pools[i], i + 1, ERR));
    strcpy(model, tiny_model("tiny"));
    strcpy(chat, fixture_template());
    snprintf(workspace, sizeof workspace, "%s",
             fixture_workspace("stages.siren", SIREN_PROTOCOL_FULL));
    MUST(siren_app_open(&app, workspace, SIREN_WORKSPACE_WRITE, ERR));
    return 0;
}

static int teardown(void **state)
{
    siren_app_close(&app);
    for (int i = 0; i < 2; i++) siren_pool_free(pools[i]);
    return scratch_delete(state);
}

/* Labels of several tokens all the way: rationales, rewards by distribution, states, alignment. */
static void half_stars(void **state)
{
    const struct siren_scale usual = app.meta.scale;
    struct stages_options o = options_in("half stars", 2);
    json_t *report;
    app.meta.scale = (struct siren_scale){0.5, 5, 0.5};
    o.grpo.reward = SIREN_REWARD_RPS;
    MUST(stages_run(&o, &report, NULL, NULL, ERR));
    check_report(report);
    json_decref(report);
    app.meta.scale = usual;
}

/* Ratings of 1 and 10 only: those that one label, a prefix of the other, could be taken for. */
static float *rate_one_or_ten(void)
{
    size_t bytes = app.ratings.n * sizeof *app.ratings.rating;
    float *before = malloc(bytes);
    memcpy(before, app.ratings.rating, bytes);
    for (size_t i = 0; i < app.ratings.n; i++)
        app.ratings.rating[i] = app.ratings.rating[i] < 3 ? 1 : 10;
    return before;
}

/* How often the texts of a step are right about this rating, which earns the most. */
static int right_texts(const char *folder, int step, int rating)
{
    char path[400], rated[40], answer[40], *text;
    size_t size;
    int n = 0;
    snprintf(path, sizeof path, "%s/2-reason/texts/step-%06d.txt", folder, step);
    snprintf(rated, sizeof rated, ": rated %d, reward 3.000, ", rating);
    snprintf(answer, sizeof answer, "<answer>%d</answer>\n", rating);
    MUST(siren_file_read(&text, &size, path, 1 << 20, ERR));
    for (char *p = text, *end; (p = strstr(p, rated)); p = end) {
        end = strstr(p, "\n----\n");
        assert_non_null(end);
        *end++ = '\0';
        assert_non_null(strstr(p, answer));
        n++;
    }
    free(text);
    return n;
}

static void check_states_of_one_and_ten(const char *folder)
{
    struct siren_teacher *t;
    char path[400];
    int ones = 0, tens = 0;
    snprintf(path, sizeof path, "%s/4-states.bin", folder);
    MUST(siren_teacher_open(&t, path, ERR));
    for (size_t i = 0; i < siren_teacher_rows(t); i++) {
        const struct siren_teacher_row *row = siren_teacher_row(t, i);
        ones += row->number == 1;
        tens += row->number == 10;
    }
    assert_true(ones > 0 && tens > 0);
    siren_teacher_close(t);
}

/* "1" is a prefix of "10": the label is scored, rewarded, stored and learnt as what it is. */
static void one_to_ten(void **state)
{
    const struct siren_scale usual = app.meta.scale;
    struct stages_options o = options_in("one to ten", 2);
    float *ratings = rate_one_or_ten();
    json_t *report;
    o.grpo.texts_every = 1;
    app.meta.scale = (struct siren_scale){1, 10, 1};
    MUST(stages_run(&o, &report, NULL, NULL, ERR));
    check_states_of_one_and_ten(o.folder);
    for (int rating = 1; rating <= 10; rating += 9)
        assert_true(right_texts(o.folder, 1, rating) + right_texts(o.folder, 2, rating) > 0);
    check_report(report);
    json_decref(report);
    memcpy(app.ratings.rating, ratings, app.ratings.n * sizeof *ratings);
    free(ratings);
    app.meta.scale = usual;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_whole),
        cmocka_unit_test(stopped_in_every_stage),
        cmocka_unit_test(stopped_without_evaluation),
        cmocka_unit_test(all_is_done),
        cmocka_unit_test(a_second_one_leaves_the_first_alone),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(the_command_without_a_teacher),
        cmocka_unit_test(the_command),
        cmocka_unit_test(the_command_stopped),
        cmocka_unit_test(the_command_killed),
        cmocka_unit_test(a_mistake_can_be_corrected),
        cmocka_unit_test(mistakes_of_the_command),
        cmocka_unit_test(half_stars),
        cmocka_unit_test(one_to_ten),
        cmocka_unit_test(killed_at_any_moment),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
