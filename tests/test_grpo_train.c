/* siren train grpo from end to end on a made-up workspace and a tiny decoder: what a run leaves,
 * the first ratio, resuming. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine_fixture.h"

#include "app/grpo.h"
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
                has_file(t.loop.folder, "policy.svg"));
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

static int stop_after_two(void *context, const char *what, uint64_t done, uint64_t total)
{
    return !strncmp(what, "rows", 4) && done >= 6;
}

static void same_adapter(const char *a, const char *b)
{
    char path[300], *x, *y;
    size_t n, m;
    snprintf(path, sizeof path, "%s/adapter/adapter_model.safetensors", a);
    MUST(siren_file_read(&x, &n, path, 1 << 24, ERR));
    snprintf(path, sizeof path, "%s/adapter/adapter_model.safetensors", b);
    MUST(siren_file_read(&y, &m, path, 1 << 24, ERR));
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
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

/* In a process of its own, with a checkpoint every two steps and watch at every line: its status.
 * It exits with 2 where the training ends well, with 7 where it ends with SIREN_EIO and this word
 * in the message. */
static int train_apart(struct training t, void (*watch)(void *, const json_t *), const char *word)
{
    int status;
    t.loop.checkpoint_every = 2;
    pid_t child = fork();
    if (!child) { /* threads and the database do not survive a fork: its own */
        struct grpo_options o = options();
        struct trainer_result r;
        struct siren_lm_options with = tiny_options();
        struct siren_lm own;
        struct siren_app workspace;
        if (siren_pool_create(&t.pool, 1, ERR) ||
            siren_lm_open(&own, tiny_model("tiny"), &with, t.pool, ERR) ||
            siren_app_open(&workspace, siren_workspace_path(app.ws), SIREN_WORKSPACE_WRITE, ERR))
            _exit(1);
        t.lm = &own;
        t.app = &workspace;
        t.loop.watch = watch;
        t.loop.watch_context = &t;
        int rc = grpo_train(&t, &o, &r, NULL, NULL, ERR);
        fprintf(stderr, "%s\n", rc ? must_error.message : "trained");
        _exit(!rc ? 2 : rc == SIREN_EIO && strstr(must_error.message, word) ? 7 : 3);
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
    assert_true(WIFSIGNALED(train_apart(part, die_in_step_3, "")));
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
    int status = train_apart(part, fill_disk_in_step_3, "checkpoint");
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    part.loop.checkpoint_every = 2;
    part.loop.resume = 1;
    MUST(grpo_train(&part, &o, &r, NULL, NULL, ERR));
    assert_true(r.resumed && r.steps == 4);
    same_adapter(whole.loop.folder, part.loop.folder);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_leaves_what_it_promises),
        cmocka_unit_test(later_updates_move_away),
        cmocka_unit_test(a_resumed_run_has_the_same_bits),
        cmocka_unit_test(a_killed_run_has_the_same_bits),
        cmocka_unit_test(a_full_disk_ends_it),
        cmocka_unit_test(the_start_is_the_reference),
        cmocka_unit_test(all_weights_are_the_policy),
        cmocka_unit_test(a_vanished_model_is_named),
        cmocka_unit_test(other_temperatures_begin_at_ratio_1_too),
    };
    return cmocka_run_group_tests(tests, tiny_setup, tiny_teardown);
}
