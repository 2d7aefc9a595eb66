/* `siren train sft` as a command: what it prints and records, stops, resumes and refuses; the runs
 * that `siren runs trainings` lists. */
/* check: portable */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "app/sft.h"
#include "app_fixture.h"
#include "run_program.h"
#include "same_file.h"
#include "tiny_lm.h"

#include "sft_fixture.h" /* after those */

static int siren(const char *format, const char *more)
{
    char arguments[2048];
    snprintf(arguments, sizeof arguments, format, the_workspace(), tiny_model("model"),
             the_template(), scratch_path("outside"), more);
    return run_program("", arguments, NULL);
}

#define TRAIN                                                                                      \
    "train sft '%s' --model '%s' --chat-template '%s' --out '%s' --strategy recent "               \
    "--recent 3 --rows 12 --batch 6 --epochs 2 --eval-split valid --eval-rows 4 %s"

/* One that was done is not recorded a second time, and what was measured stays. */
static void the_only_training(int64_t id)
{
    struct siren_workspace *ws;
    struct siren_run *runs;
    size_t n, here = 0;
    MUST(siren_workspace_open(&ws, the_workspace(), SIREN_WORKSPACE_READ, ERR));
    MUST(siren_runs_load(&runs, &n, ws, "sft", ERR));
    for (size_t i = 0; i < n; i++) {
        if (!strstr(runs[i].settings, "/outside\"")) continue;
        here++;
        assert_int_equal(runs[i].id, id);
        assert_int_equal(runs[i].status, SIREN_RUN_DONE);
        assert_null(strstr(runs[i].metrics, "\"loss\":null"));
    }
    assert_int_equal(here, 1);
    siren_runs_free(runs, n);
    siren_workspace_close(ws);
}

/* "step 2 on valid:A: rmse 1.4094, …, mae 1.3333 (the best so far)", of each evaluation in the log:
 * what is chosen by stands beside the verdict. */
static void test_command_says_how_it_is_judged(void **state)
{
    char arguments[2048], folder[256], said[500];
    json_t *log, *line, *number;
    const char *name;
    size_t i, n_best = 0, n_all = 0;
    snprintf(folder, sizeof folder, "%s", scratch_path("judged"));
    snprintf(arguments, sizeof arguments,
             "train sft '%s' --model '%s' --chat-template '%s' --out '%s' --strategy recent "
             "--recent 3 --rows 12 --batch 6 --epochs 2 --eval-split valid:A --eval-rows 4 "
             "--eval-every 1 --lr 0.05",
             the_workspace(), tiny_model("model"), the_template(), folder);
    assert_int_equal(run_program("", arguments, NULL), 0);
    log = trainer_read_log(folder, ERR);
    json_array_foreach(log, i, line)
    {
        json_t *valid = json_object_get(line, "valid");
        int best = json_is_true(json_object_get(line, "best"));
        size_t used = (size_t)snprintf(said, sizeof said, "\nstep %lld on valid:A: ",
                                       json_integer_value(json_object_get(line, "step")));
        if (!valid) continue;
        json_object_foreach(valid, name, number)
        {
            if (!json_is_real(number)) continue; /* counts are not told */
            used += (size_t)snprintf(said + used, sizeof said - used, "%s %.4f%s", name,
                                     json_real_value(number), strcmp(name, "mae") ? ", " : "");
        }
        snprintf(said + used, sizeof said - used, "%s\n", best ? " (the best so far)" : "");
        expect_output(said);
        n_best += (size_t)best, n_all++;
    }
    assert_true(n_all == 4 && n_best > 0 && n_best < 4);
    json_decref(log);
}

static void test_command(void **state)
{
    struct stat st;
    char path[300];
    assert_int_equal(siren(TRAIN, "--lora-targets q,ffn"), 0);
    expect_output("4 steps in");
    expect_output(" rows, ");
    expect_output("best on valid");
    expect_output(": mae ");
    expect_output("use it with --adapter");
    static const char *const files[] = {"adapter/adapter_config.json", "checkpoint", "log.jsonl",
                                        "settings.json", "curve.svg"};
    for (size_t i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "%s/%s", scratch_path("outside"), files[i]);
        assert_int_equal(stat(path, &st), 0);
    }
    snprintf(path, sizeof path, "%s/settings.json", scratch_path("outside"));
    json_t *settings = json_load_file(path, 0, NULL);
    json_t *run = json_object_get(settings, "run");
    assert_int_equal(json_integer_value(json_object_get(run, "numerics")), SIREN_NUMERICS);
    assert_string_equal(json_string_value(json_object_get(run, "compute")), "f32");
    json_decref(settings);
    assert_int_equal(siren(TRAIN, ""), 1);
    expect_output("holds a training run already");
    assert_int_equal(siren(TRAIN, "--resume --lora-targets q,ffn --lr 1"), 1);
    expect_output("--lr is 1.0, it was 0.0001");
    assert_int_equal(siren(TRAIN, "--resume --lora-targets q,ffn --json --name again"), 0);
    expect_output("\"resumed\": true");
    json_t *result = json_loads(strchr(program_output, '{'), JSON_DISABLE_EOF_CHECK, NULL);
    the_only_training(json_integer_value(json_object_get(result, "run")));
    snprintf(path, sizeof path, "%s/adapter", scratch_path("outside"));
    assert_string_equal(json_string_value(json_object_get(result, "adapter")), path);
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(result, "last_step"), "step")), 4);
    assert_true(json_number_value(json_object_get(json_object_get(result, "valid"), "mae")) ==
                json_number_value(json_object_get(result, "best")));
    json_decref(result);
    assert_int_equal(siren("eval '%s' --model '%s' --chat-template '%s' --adapter '%s/adapter'"
                           " --strategy recent --recent 3 --split valid --limit 4 %s",
                           "--name trained"),
                     0);
    expect_output("stored as run");
    char arguments[400];
    snprintf(arguments, sizeof arguments, "runs '%s'", the_workspace());
    assert_int_equal(run_program("", arguments, NULL), 0);
    expect_output("train, judged on valid");
    expect_output("sft");
    expect_output("trained");
    expect_output("again");
}

static void options_that_would_do_nothing(void **state)
{
    static const struct {
        const char *more, *says;
    } cases[] = {{"--response cot --ce 0", "--ce: it is about ratings without rationales"},
                 {"--response cot --rps 5", "--rps: it is about ratings without rationales"},
                 {"--response cot --smoothing 0.5", "--smoothing: it is about ratings without"},
                 {"--answer-weight 1", "--answer-weight: it is about rationales: give --response"},
                 {"--ce 0 --rps 1 --smoothing 0.1", "--smoothing: it is about the cross-entropy"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(siren(TRAIN, cases[i].more), 2);
        expect_output(cases[i].says);
    }
}

/* Stopped by Ctrl-C once the log has grown; two trainings side by side. */
static int interrupted(const char *more)
{
    char arguments[4096], log[300];
    snprintf(log, sizeof log, "%s/log.jsonl", scratch_path("stopped"));
    snprintf(
        arguments, sizeof arguments,
        "train sft '%s' --model '%s' --chat-template '%s' --out '%s' --strategy recent "
        "--recent 3 --rows 12 --batch 6 --epochs 2000 --eval-split none --lr 0 --name long %s"
        "& pid=$!; until [ \"$(wc -c <'%s')\" -gt \"$n\" ] || ! kill -0 $pid; do sleep 0.05; done; "
        "kill -INT $pid; wait $pid",
        the_workspace(), tiny_model("model"), the_template(), scratch_path("stopped"), more, log);
    char before[700];
    snprintf(before, sizeof before, "mkdir -p '%s'; touch '%s'; n=$(wc -c <'%s');",
             scratch_path("stopped"), log, log);
    return run_program(before, arguments, NULL);
}

static void test_command_stopped(void **state)
{
    char arguments[2048];
    struct stat st;
    char curves[300];
    snprintf(curves, sizeof curves, "%s", scratch_path("curves.svg"));
    assert_int_equal(interrupted("--resume"), 130); /* mistyped, say */
    expect_output("there is no checkpoint to go on from: the training begins anew");
    expect_output("the same command with --resume goes on");
    assert_int_equal(interrupted("--resume --json --name longer"), 130);
    expect_output("of 4,000 steps done and kept");
    snprintf(arguments, sizeof arguments, "runs '%s' trainings --json", the_workspace());
    assert_int_equal(run_program("", arguments, NULL), 0);
    expect_output("\"status\": \"stopped\"");
    expect_output("\"name\": \"longer\"");
    json_t *report = json_loads(program_output, 0, NULL), *runs = json_object_get(report, "runs");
    size_t n = json_array_size(runs);
    int last = (int)json_integer_value(json_object_get(json_array_get(runs, n - 1), "id"));
    int other = (int)json_integer_value(json_object_get(json_array_get(runs, n - 2), "id"));
    json_decref(report);
    snprintf(arguments, sizeof arguments, "runs '%s' trainings %d %d --curves '%s'",
             the_workspace(), other, last, curves);
    if (run_program("", arguments, NULL)) fail_msg("%s", program_output);
    expect_output("training.epochs");
    expect_output("2000.0");
    assert_int_equal(stat(curves, &st), 0);
    snprintf(arguments, sizeof arguments, "runs '%s' show %d", the_workspace(), last);
    assert_int_equal(run_program("", arguments, NULL), 0);
    expect_output("of 4,000 steps in");
}

/* An adapter that is gone on with has its own dropout, unless another is asked for. */
static void test_dropout_of_a_given_adapter(void **state)
{
    static const char *const asked[] = {"--dropout 0.25", "", "--dropout 0", "--dropout 0.5"};
    static const double expected[] = {0.25, 0.25, 0, 0.5};
    char given[200], arguments[4096], path[400];
    snprintf(given, sizeof given, "%s", scratch_path("given"));
    for (int i = 0; i < 4; i++) {
        char out[220], more[500];
        snprintf(out, sizeof out, "%s-%d", given, i);
        snprintf(more, sizeof more, "--max-steps 1 %s%s%s %s", i ? "--adapter '" : "",
                 i ? given : "", i ? "-0/adapter'" : "", asked[i]);
        snprintf(arguments, sizeof arguments, TRAIN, the_workspace(), tiny_model("model"),
                 the_template(), out, more);
        if (run_program("", arguments, NULL)) fail_msg("%s", program_output);
        snprintf(path, sizeof path, "%s/adapter/adapter_config.json", out);
        json_t *config = json_load_file(path, 0, NULL);
        assert_true(json_number_value(json_object_get(config, "lora_dropout")) == expected[i]);
        json_decref(config);
    }
}

static int siren_to(const char *out, const char *more)
{
    char arguments[2048];
    snprintf(arguments, sizeof arguments, TRAIN, the_workspace(), tiny_model("model"),
             the_template(), out, more);
    return run_program("", arguments, NULL);
}

/* Of two layers one is trained: by an adapter, and with its weights themselves. */
static void test_chosen_layers(void **state)
{
    const struct siren_model_options all = {.trainable = &SIREN_TRAIN_ALL};
    struct siren_model *before, *after;
    struct siren_pool *pool;
    char out[200], path[300];
    snprintf(out, sizeof out, "%s", scratch_path("layers adapter"));
    if (siren_to(out, "--train-layers 1- --max-steps 2")) fail_msg("%s", program_output);
    snprintf(path, sizeof path, "%s/adapter/adapter_config.json", out);
    json_t *config = json_load_file(path, 0, NULL);
    json_t *layers = json_object_get(config, "layers_to_transform");
    assert_int_equal(json_array_size(layers), 1);
    assert_int_equal(json_integer_value(json_array_get(layers, 0)), 1);
    json_decref(config);
    snprintf(out, sizeof out, "%s", scratch_path("layers weights"));
    if (siren_to(out, "--weights all --train-layers 0 --max-steps 2"))
        fail_msg("%s", program_output);
    snprintf(path, sizeof path, "%s/model", out);
    MUST(siren_pool_create(&pool, 1, ERR));
    MUST(siren_model_load(&before, tiny_model("model"), &all, pool, ERR));
    MUST(siren_model_load(&after, path, &all, pool, ERR));
    struct siren_params x = siren_model_params(before), y = siren_model_params(after);
    assert_int_equal(x.n, y.n);
    for (size_t i = 0; i < x.n; i++) {
        size_t bytes = (size_t)x.list[i].rows * (size_t)x.list[i].columns * sizeof(float);
        int same = !memcmp(x.list[i].value, y.list[i].value, bytes);
        assert_string_equal(x.list[i].name, y.list[i].name);
        assert_int_equal(same, !strstr(x.list[i].name, "layers.0."));
    }
    siren_model_free(before);
    siren_model_free(after);
    siren_pool_free(pool);
}

/* All layers are not all weights, and what was begun with one does not go on with the other. */
static void test_all_layers(void **state)
{
    static const char *const some[] = {"--weights all --train-layers 0-", "--weights all"};
    for (int begun = 0; begun < 2; begun++) {
        char out[200], more[200];
        snprintf(out, sizeof out, "%s", scratch_path(begun ? "begun all" : "begun layers"));
        snprintf(more, sizeof more, "%s --max-steps 1", some[begun]);
        if (siren_to(out, more)) fail_msg("%s", program_output);
        snprintf(more, sizeof more, "%s --max-steps 2 --resume", some[!begun]);
        assert_int_equal(siren_to(out, more), 1);
        expect_output("layers");
    }
}

/* Begun anew, it would write over what a run that is done has made. */
static void a_lost_checkpoint_is_told(void **state)
{
    char out[200], checkpoint[256], log[256];
    struct stat before, after;
    snprintf(out, sizeof out, "%s", scratch_path("lost checkpoint"));
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint", out);
    snprintf(log, sizeof log, "%s/log.jsonl", out);
    if (siren_to(out, "--max-steps 2")) fail_msg("%s", program_output);
    assert_int_equal(stat(log, &before), 0);
    assert_int_equal(remove(checkpoint), 0);
    for (int more = 2; more < 4; more++) { /* the same settings, and others */
        char options[64];
        snprintf(options, sizeof options, "--max-steps %d --resume", more);
        assert_int_equal(siren_to(out, options), 1);
        expect_output("came to its end here and its checkpoint is gone");
        assert_int_equal(stat(log, &after), 0);
        assert_int_equal(before.st_size, after.st_size);
    }
    /* Nor is it written over where nothing tells any more whose it is. */
    assert_int_equal(remove(log), 0);
    assert_int_equal(siren_to(out, "--max-steps 2 --resume"), 1);
    expect_output("lost checkpoint/adapter is there already");
    assert_int_equal(stat(log, &after), -1);
    /* An empty folder of that name is as good as another. */
    assert_int_equal(nftw(out, scratch_remove, 8, FTW_DEPTH | FTW_PHYS), 0);
    assert_int_equal(siren_to(out, "--max-steps 2 --resume"), 0);
    expect_output("the training begins anew");
}

/* What another has made is no place for a training, be it the very adapter to go on from. */
static void a_folder_of_others_is_left_alone(void **state)
{
    char out[200], adapter[256], options[400];
    snprintf(out, sizeof out, "%s", scratch_path("theirs"));
    snprintf(adapter, sizeof adapter, "%s/adapter", out);
    if (siren_to(out, "--max-steps 2")) fail_msg("%s", program_output);
    for (const char *const *name = (const char *const[]){"checkpoint", "log.jsonl", NULL}; *name;
         name++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", out, *name);
        assert_int_equal(remove(path), 0);
    }
    snprintf(options, sizeof options, "--max-steps 1 --adapter '%s'", adapter);
    assert_int_equal(siren_to(out, options), 1);
    expect_output("theirs/adapter is there already, and not of a training in this folder");
}

/* A resumed run whose best adapter is gone does not tell where it is. */
static void a_lost_adapter_is_told(void **state)
{
    char out[200], adapter[256];
    snprintf(out, sizeof out, "%s", scratch_path("lost adapter"));
    snprintf(adapter, sizeof adapter, "%s/adapter", out);
    if (siren_to(out, "--max-steps 2")) fail_msg("%s", program_output);
    assert_int_equal(nftw(adapter, scratch_remove, 8, FTW_DEPTH | FTW_PHYS), 0);
    assert_int_equal(siren_to(out, "--max-steps 2 --resume"), 1);
    expect_output("lost adapter/adapter is gone, the best adapter so far, that of step");
}

/* Full fine-tuning has a rate of its own, unless one is given. */
static void test_rate_of_all_weights(void **state)
{
    static const struct {
        const char *options;
        double lr;
    } cases[] = {{"", 1e-4}, {"--weights all", 1e-5}, {"--weights all --lr 3e-4", 3e-4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[200], path[256], more[100], name[16];
        snprintf(name, sizeof name, "rate %zu", i);
        snprintf(out, sizeof out, "%s", scratch_path(name));
        snprintf(more, sizeof more, "%s --max-steps 1 --warmup 0", cases[i].options);
        if (siren_to(out, more)) fail_msg("%s", program_output);
        snprintf(path, sizeof path, "%s/log.jsonl", out);
        json_t *line = json_load_file(path, JSON_DISABLE_EOF_CHECK, NULL);
        assert_true(json_number_value(json_object_get(line, "lr")) == cases[i].lr);
        json_decref(line);
    }
}

static int trainings(const char *more)
{
    char arguments[1024];
    snprintf(arguments, sizeof arguments, "runs '%s' %s", the_workspace(), more);
    return run_program("", arguments, NULL);
}

/* Which runs stand side by side is what was asked for, or an error. */
static void test_trainings_that_are_not_there(void **state)
{
    struct siren_workspace *ws;
    struct siren_run *runs;
    char more[400], from[300], to[300], svg[300];
    long long eval = 0, gone = 0;
    size_t n;
    MUST(siren_workspace_open(&ws, the_workspace(), SIREN_WORKSPACE_READ, ERR));
    MUST(siren_runs_load(&runs, &n, ws, NULL, ERR));
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(runs[i].kind, "eval")) eval = runs[i].id;
        if (strstr(runs[i].settings, "/outside\"")) gone = runs[i].id;
    }
    siren_runs_free(runs, n);
    siren_workspace_close(ws);
    assert_true(eval && gone);
    snprintf(more, sizeof more, "trainings %lld 999", gone);
    assert_int_equal(trainings(more), 1);
    expect_output("no run 999");
    snprintf(more, sizeof more, "trainings %lld %lld", gone, eval);
    assert_int_equal(trainings(more), 1);
    snprintf(more, sizeof more, "run %lld (eval) is no training", eval);
    expect_output(more);
    /* A folder that is gone: of all, the others are drawn; of those named, it is missed. */
    snprintf(from, sizeof from, "%s", scratch_path("outside"));
    snprintf(to, sizeof to, "%s", scratch_path("outside moved"));
    snprintf(svg, sizeof svg, "%s", scratch_path("left.svg"));
    assert_int_equal(rename(from, to), 0);
    snprintf(more, sizeof more, "trainings --curves '%s'", svg);
    assert_int_equal(trainings(more), 0);
    snprintf(more, sizeof more, "run %lld has no curve: ", gone);
    expect_output(more);
    assert_int_equal(access(svg, F_OK), 0);
    snprintf(more, sizeof more, "trainings %lld --curves '%s'", gone, svg);
    assert_int_equal(trainings(more), 1);
    expect_output("outside/log.jsonl");
    assert_int_equal(rename(to, from), 0);
    /* Without evaluation the curve is that of the loss; its folder is made with those above. */
    char arguments[2048];
    snprintf(arguments, sizeof arguments,
             "train sft '%s' --model '%s' --chat-template '%s' --out '%s' --strategy recent "
             "--recent 3 --rows 12 --batch 6 --max-steps 3 --eval-split none",
             the_workspace(), tiny_model("model"), the_template(), scratch_path("new/deeper/run"));
    assert_int_equal(run_program("", arguments, NULL), 0);
    MUST(siren_workspace_open(&ws, the_workspace(), SIREN_WORKSPACE_READ, ERR));
    MUST(siren_runs_load(&runs, &n, ws, NULL, ERR));
    for (size_t i = 0; i < n; i++)
        if (strstr(runs[i].settings, "/new/deeper/run\"")) gone = runs[i].id;
    siren_runs_free(runs, n);
    siren_workspace_close(ws);
    snprintf(more, sizeof more, "trainings %lld --curves '%s'", gone, svg);
    assert_int_equal(trainings(more), 0);
    char *drawn;
    MUST(siren_file_read(&drawn, &n, svg, 1 << 20, ERR));
    assert_non_null(strstr(drawn, "loss"));
    assert_non_null(strstr(drawn, "<circle"));
    free(drawn);
    snprintf(more, sizeof more, "--curves '%s'", svg);
    assert_int_equal(trainings(more), 2);
    expect_output("--curves: only trainings have them");
    assert_int_equal(trainings("show 1 --curves x"), 2);
}

static void test_command_mistakes(void **state)
{
    assert_int_equal(siren(TRAIN, "--lora-targets q,x"), 2);
    expect_output("--lora-targets: found \"x\", expected q, k, v");
    assert_int_equal(siren(TRAIN, "--lora-targets ''"), 2);
    assert_int_equal(siren(TRAIN, "--response essay"), 2);
    assert_int_equal(siren(TRAIN, "--weights all --adapter here"), 2);
    expect_output("merge the adapter first");
    assert_int_equal(siren(TRAIN, "--weights all --lora-plus 4"), 2);
    expect_output("--lora-plus is of a LoRA adapter");
    assert_int_equal(siren(TRAIN, "--adapter here --rank 32"), 2);
    expect_output("--rank is of a new adapter");
    static const char *const ranges[] = {"x", "1-x", "2-1", "-1", "1-2-3", "''"};
    for (size_t i = 0; i < 6; i++) {
        char more[64];
        snprintf(more, sizeof more, "--train-layers=%s", ranges[i]);
        assert_int_equal(siren(TRAIN, more), 2);
        expect_output("as in 12-29, 12- or 12");
    }
    static const char *const beyond[] = {"7-9", "0-2", "2", "2-"};
    for (size_t i = 0; i < 8; i++) {
        char more[64];
        snprintf(more, sizeof more, "%s --train-layers %s", i % 2 ? "--weights all" : "",
                 beyond[i / 2]);
        int at_all = i % 2 && i != 3; /* the model cannot even be opened so */
        assert_int_equal(siren(TRAIN, more), at_all ? 1 : 2);
        expect_output(at_all ? "layer" : "expected layers from 0 to 1: the model has 2");
    }
    assert_int_equal(siren(TRAIN, "--batch 0"), 2);
    assert_int_equal(siren(TRAIN, "--dropout 1"), 2);
    static const struct {
        const char *more, *says;
    } useless[] = {
        {"--eval-split none", "--eval-rows: nothing is judged with --eval-split none"},
        {"--more 20", "--more: the strategy does not show `more` ratings"},
        {"--strategy more", "--recent: the strategy shows no `recent` ratings"},
        {"--decay", "--decay: the strategy shows no sketch"},
        {"--epochs 0", "--epochs: found \"0\""},
        {"--response ao --ce 0", "--ce and --rps are both 0"},
        {"--split trian", "--split: 'trian' is no split"},
        {"--eval-split valid:C", "--eval-split: split \"valid:C\": behind ':' stands the half"},
    };
    for (size_t i = 0; i < sizeof useless / sizeof *useless; i++) {
        assert_int_equal(siren(TRAIN, useless[i].more), 2);
        expect_output(useless[i].says);
    }
    assert_int_equal(siren(TRAIN, "--lr=-1"), 2);
    expect_output("--lr: found \"-1\", expected a number from 0 to 1000");
    assert_int_equal(run_program("", "train sft x.siren --model x", NULL), 2);
    expect_output("--out DIR is needed");
    assert_int_equal(run_program("", "train --help", NULL), 0);
    expect_output("train sft");
}

static int set_up(void **state)
{
    return find_program() || scratch_create(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_command_says_how_it_is_judged),
        cmocka_unit_test(test_command),
        cmocka_unit_test(options_that_would_do_nothing),
        cmocka_unit_test(test_command_stopped),
        cmocka_unit_test(test_dropout_of_a_given_adapter),
        cmocka_unit_test(test_chosen_layers),
        cmocka_unit_test(test_all_layers),
        cmocka_unit_test(test_rate_of_all_weights),
        cmocka_unit_test(a_lost_checkpoint_is_told),
        cmocka_unit_test(a_folder_of_others_is_left_alone),
        cmocka_unit_test(a_lost_adapter_is_told),
        cmocka_unit_test(test_trainings_that_are_not_there),
        cmocka_unit_test(test_command_mistakes),
    };
    return cmocka_run_group_tests(tests, set_up, scratch_delete);
}
