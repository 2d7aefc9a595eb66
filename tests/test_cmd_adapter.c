/* --adapter on the commands that ask a language model, from outside: on a tiny model. */
/* check: portable */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <sys/stat.h>

#include "app_fixture.h"
#include "run_program.h"
#include "tiny_lm.h"

#define LLAMA "tests/fixtures/models/llama"

static char model[256]; /* smol, with room for a prompt */
static char chat[256];  /* a template */

/* ---- files ---- */

struct base {
    struct siren_pool *pool;
    struct siren_model *model;
};

static struct base base_open(const char *path)
{
    struct base b;
    MUST(siren_pool_create(&b.pool, 1, ERR));
    MUST(siren_model_load(&b.model, path, NULL, b.pool, ERR));
    return b;
}

static void base_close(struct base *b)
{
    siren_model_free(b->model);
    siren_pool_free(b->pool);
}

/* An adapter of the model at `path` that changes its answers, in scratch/NAME. */
static void make_adapter(const char *path, const char *name, uint64_t seed)
{
    const struct siren_adapter_config config = {.targets = 1 << SIREN_LORA_Q | 1 << SIREN_LORA_V |
                                                           1 << SIREN_LORA_DOWN,
                                                .last_layer = 1,
                                                .r = 2,
                                                .alpha = 4,
                                                .seed = seed};
    struct base base = base_open(path);
    struct siren_adapter *a;
    char identity[256];
    MUST(siren_adapter_create(&a, base.model, &config, ERR));
    struct siren_params p = siren_adapter_params(a);
    for (size_t i = 1; i < p.n; i += 2)
        for (int j = 0; j < p.list[i].rows * p.list[i].columns; j++)
            p.list[i].value[j] = (float)siren_random_normal(seed, i, (uint64_t)j);
    siren_adapter_changed(a);
    MUST(siren_model_identity(path, identity, ERR));
    MUST(siren_adapter_save(a, scratch_path(name), identity, ERR));
    siren_adapter_free(a);
    base_close(&base);
}

static int setup(void **state)
{
    if (scratch_create(state) || find_program()) return -1;
    strcpy(model, tiny_model("model"));
    strcpy(chat, fixture_template());
    make_adapter(model, "first", 1);
    make_adapter(model, "second", 2);
    make_adapter(LLAMA, "other", 1);
    return 0;
}

/* ---- running ---- */

/* `siren FORMAT…` must succeed and print JSON. */
static json_t *json_of(const char *format, ...) __attribute__((format(printf, 1, 2)));
static json_t *json_of(const char *format, ...)
{
    char arguments[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(arguments, sizeof arguments, format, args);
    va_end(args);
    int status = run_program("", arguments, scratch_path("stderr"));
    json_t *value = json_loads(program_output, 0, NULL);
    if (status || !value) fail_msg("siren %s: %d, %s", arguments, status, program_output);
    return value;
}

static int run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int run(const char *format, ...)
{
    char arguments[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(arguments, sizeof arguments, format, args);
    va_end(args);
    return run_program("", arguments, NULL);
}

/* The command's answers without, with one and with another adapter are three; again is the same. */
static void expect_three_answers(const char *command)
{
    json_t *all[4];
    const char *const adapters[4] = {NULL, "first", "second", "first"};
    for (int i = 0; i < 4; i++)
        all[i] = json_of("%s -m %s %s%s --json", command, model, adapters[i] ? "--adapter " : "",
                         adapters[i] ? scratch_path(adapters[i]) : "");
    assert_false(json_equal(all[0], all[1]));
    assert_false(json_equal(all[0], all[2]));
    assert_false(json_equal(all[1], all[2]));
    assert_true(json_equal(all[1], all[3]));
    for (int i = 0; i < 4; i++) json_decref(all[i]);
}

/* ---- tests ---- */

static void texts_and_their_probabilities(void **state)
{
    expect_three_answers("logprobs -p 'ab 12' --continuations 1,2,3");
    expect_three_answers("generate --raw -p 'ab 12' --max-tokens 24");
    expect_three_answers("generate --raw -p 'ab 12' -n 2 --temperature 1 --max-tokens 4");
}

static void logprobs_are_those_of_the_library(void **state)
{
    struct siren_pool *pool;
    struct siren_lm lm;
    struct siren_lm_options options = {.raw = 1};
    char path[256], name[SIREN_LM_NAME];
    int32_t *prompt, *one;
    size_t n, n_one;
    double expected;
    strcpy(path, scratch_path("first"));
    options.adapter = path;
    MUST(siren_pool_create(&pool, 1, ERR));
    MUST(siren_lm_open(&lm, model, &options, pool, ERR));
    MUST(siren_tokenizer_encode(lm.tokenizer, "ab 12", 5, 0, &prompt, &n, ERR));
    MUST(siren_tokenizer_encode(lm.tokenizer, "3", 1, 0, &one, &n_one, ERR));
    struct siren_tokens continuation = {one, n_one};
    struct siren_score s = {.prompt = {prompt, n},
                            .continuations = &continuation,
                            .n_continuations = 1,
                            .logprobs = &expected};
    MUST(lm.calls->score(&lm, &s, 1, NULL, ERR));
    siren_lm_name(&lm, name);
    assert_memory_equal(name, "model#", 6);
    assert_non_null(strstr(name, " + first#"));
    json_t *out = json_of("logprobs -m %s -a %s -p 'ab 12' --continuations 3 --json", model, path);
    assert_true(fabs(json_number_value(json_array_get(json_object_get(out, "logprobs"), 0)) -
                     expected) < 1e-12);
    json_decref(out);
    free(prompt);
    free(one);
    siren_lm_close(&lm);
    siren_pool_free(pool);
}

static void an_identity_is_that_of_the_factors(void **state)
{
    struct siren_pool *pool;
    struct siren_model *m;
    struct siren_adapter *a, *b;
    char first[256], again[256], file[300], other[256];
    MUST(siren_pool_create(&pool, 1, ERR));
    MUST(siren_model_load(&m, model, NULL, pool, ERR));
    MUST(siren_adapter_load(&a, scratch_path("first"), m, ERR));
    MUST(siren_adapter_load(&b, scratch_path("second"), m, ERR));
    siren_adapter_identity(a, scratch_path("first"), first);
    for (int i = 0; i < 2; i++) {
        snprintf(file, sizeof file, "%s/adapter_%s", scratch_path("first"),
                 i ? "config.json" : "model.safetensors");
        siren_adapter_identity(a, file, again);
        assert_string_equal(first, again);
    }
    siren_adapter_identity(a, "elsewhere/", again);
    assert_memory_equal(again, "elsewhere#", 10);
    assert_string_equal(strchr(again, '#'), strchr(first, '#'));
    siren_adapter_identity(b, scratch_path("second"), other);
    assert_string_not_equal(strchr(other, '#'), strchr(first, '#'));
    siren_adapter_free(a);
    siren_adapter_free(b);
    siren_model_free(m);
    siren_pool_free(pool);
}

static json_t *probabilities(const json_t *answers)
{
    return json_object_get(json_array_get(answers, 0), "probabilities");
}

static void ratings(void **state)
{
    char path[256], command[1024];
    strcpy(path, fixture_workspace("ratings.siren", SIREN_PROTOCOL_FULL));
    json_t *all[2];
    for (int i = 0; i < 2; i++) {
        all[i] = json_of("predict %s --user u1 --item i20 --chat-template %s -m %s %s%s --json",
                         path, chat, model, i ? "--adapter " : "", i ? scratch_path("first") : "");
        assert_true(json_is_object(probabilities(all[i])));
    }
    assert_false(json_equal(probabilities(all[0]), probabilities(all[1])));
    for (int i = 0; i < 2; i++) json_decref(all[i]);
    snprintf(command, sizeof command, "rank %s --user u3 --candidates 5 --chat-template %s", path,
             chat);
    for (int i = 0; i < 2; i++)
        all[i] = json_of("%s -m %s %s%s --json", command, model, i ? "--adapter " : "",
                         i ? scratch_path("first") : "");
    assert_false(json_equal(json_object_get(all[0], "ranked"), json_object_get(all[1], "ranked")));
    for (int i = 0; i < 2; i++) json_decref(all[i]);
}

/* Half stars and tens: ten labels, some of them of several tokens; an adapter moves them, and a
 * calibration of its run is one of its answers only. */
static void other_scales(void **state)
{
    for (int ten = 0; ten < 2; ten++) {
        char csv[8192] = "user,item,rating,timestamp\n", path[128], file[128], calibration[128],
             adapter[128];
        size_t used = strlen(csv);
        for (int u = 0; u < 12; u++)
            for (int i = 0; i < 10; i++)
                used += (size_t)snprintf(
                    csv + used, sizeof csv - used, "u%d,i%d,%g,%d\n", u, (u + i) % 15,
                    (double)(1 + siren_random_below(9, (uint64_t)u, (uint64_t)i, 10)) /
                        (ten ? 1 : 2),
                    1000 + 50 * u + i);
        snprintf(path, sizeof path, "%s", scratch_path(ten ? "ten.siren" : "half.siren"));
        snprintf(file, sizeof file, "%s", scratch_write("ratings.csv", csv, used));
        snprintf(calibration, sizeof calibration, "%s", scratch_path("scale.calibration"));
        assert_int_equal(
            run("import %s %s --k-core 0 --scale %s", path, file, ten ? "1:10:1" : "0.5:5:0.5"), 0);
        snprintf(adapter, sizeof adapter, "%s", scratch_path("first"));
        json_decref(json_of("eval %s --split valid --chat-template %s -m %s -a %s --json", path,
                            chat, model, adapter));
        json_decref(json_of("calibrate %s --run 1 --l2 0.01 --out %s --json", path, calibration));
        const char *const with[3] = {"", "-a ", "-a "};
        json_t *all[3];
        for (int k = 0; k < 3; k++) {
            all[k] = json_of("predict %s --user u1 --item i14 --chat-template %s -m %s %s%s %s%s "
                             "--json",
                             path, chat, model, with[k], k ? adapter : "",
                             k == 2 ? "--calibration " : "", k == 2 ? calibration : "");
            assert_int_equal(json_object_size(probabilities(all[k])), 10);
            assert_non_null(json_object_get(probabilities(all[k]), ten ? "10" : "0.5"));
        }
        assert_false(json_equal(probabilities(all[0]), probabilities(all[1])));
        assert_false(json_equal(probabilities(all[1]), probabilities(all[2])));
        for (int k = 0; k < 3; k++) json_decref(all[k]);
        assert_int_equal(run("predict %s --user u1 --item i14 --chat-template %s -m %s "
                             "--calibration %s",
                             path, chat, model, calibration),
                         1);
        expect_output("another adapter: \"first#");
    }
}

static void runs_name_their_adapter(void **state)
{
    char path[256];
    struct siren_workspace *ws;
    struct siren_run runs[2];
    strcpy(path, fixture_workspace("runs.siren", SIREN_PROTOCOL_FULL));
    for (int i = 0; i < 2; i++)
        json_decref(json_of("eval %s --split test --chat-template %s -m %s %s%s --json", path, chat,
                            model, i ? "--adapter " : "", i ? scratch_path("first") : ""));
    MUST(siren_workspace_open(&ws, path, SIREN_WORKSPACE_READ, ERR));
    for (int i = 0; i < 2; i++) MUST(siren_run_load(&runs[i], ws, i + 1, ERR));
    assert_null(strstr(runs[0].settings, "adapter"));
    assert_non_null(strstr(runs[1].settings, "\"adapter\":\"first#"));
    assert_null(strstr(runs[0].model, "first"));
    assert_non_null(strstr(runs[1].model, " + first#"));
    assert_string_not_equal(runs[0].metrics, runs[1].metrics);
    for (int i = 0; i < 2; i++) siren_run_clear(&runs[i]);
    siren_workspace_close(ws);
    assert_int_equal(run("runs %s", path), 0);
    expect_output("first#");
}

/* The identity that its runs have: of the adapter as it is loaded. */
static void expect_identity(const json_t *described, const char *path)
{
    struct base base = base_open(model);
    struct siren_adapter *adapter;
    char identity[256];
    MUST(siren_adapter_load(&adapter, path, base.model, ERR));
    siren_adapter_identity(adapter, path, identity);
    assert_string_equal(json_string_value(json_object_get(described, "identity")), identity);
    siren_adapter_free(adapter);
    base_close(&base);
}

static void adapters_are_described(void **state)
{
    char adapter[256];
    strcpy(adapter, scratch_path("first"));
    assert_int_equal(run("model info %s", adapter), 0);
    expect_output("Made for        model#");
    expect_output("q_proj, v_proj, down_proj of layers 0 to 1");
    expect_output("Rank            2, alpha 4\n");
    assert_int_equal(run("model info %s/adapter_config.json", adapter), 0);
    expect_output("Identity        first#");
    json_t *alone = json_of("model info %s --json", adapter),
           *both = json_of("model info %s -a %s --json", model, adapter),
           *described = json_object_get(both, "adapter");
    assert_string_equal(json_string_value(json_object_get(both, "architecture")), "llama");
    assert_memory_equal(json_string_value(json_object_get(described, "identity")), "first#", 6);
    expect_identity(alone, adapter);
    assert_true(json_integer_value(json_object_get(described, "parameters")) > 0);
    assert_true(json_equal(alone, described));
    json_decref(alone);
    json_decref(both);
    strcpy(adapter, scratch_path("other"));
    assert_int_equal(run("model info %s -a %s", model, adapter), 1);
    expect_output("made for the base llama#");
}

static void models_are_exported(void **state)
{
    char adapter[256], folder[256], command[1500];
    json_t *out, *merged, *apart;
    strcpy(adapter, scratch_path("first"));
    strcpy(folder, scratch_path("merged"));
    out = json_of("model export %s -a %s --out %s --json", model, adapter, folder);
    assert_memory_equal(json_string_value(json_object_get(out, "source")), "model#", 6);
    assert_memory_equal(json_string_value(json_object_get(out, "adapter")), "first#", 6);
    assert_true(json_is_false(json_object_get(out, "exact")));
    json_decref(out);
    apart = json_of("logprobs -m %s -a %s -p 'ab 12' --continuations 3 --json", model, adapter);
    merged = json_of("logprobs -m %s -p 'ab 12' --continuations 3 --json", folder);
    double a = json_number_value(json_array_get(json_object_get(apart, "logprobs"), 0)),
           b = json_number_value(json_array_get(json_object_get(merged, "logprobs"), 0));
    assert_true(fabs(a - b) < 1e-3);
    json_decref(apart);
    json_decref(merged);
    assert_int_equal(run("model export %s --out %s", model, folder), 1);
    expect_output("is there already");
    assert_int_equal(run("model export %s --dtype q8_0", model), 2);
    /* the default name, in the current folder */
    snprintf(command, sizeof command, "cd %s &&", scratch_folder);
    assert_int_equal(run_program(command, "model export model --adapter first --dtype bf16", NULL),
                     0);
    expect_output("model-first-bf16: ");
    expect_output("is merged into the weights");
    assert_int_equal(run("model info %s/model-first-bf16", scratch_folder), 0);
}

static void what_does_not_fit_is_refused(void **state)
{
    char adapter[256];
    strcpy(adapter, scratch_path("other"));
    assert_int_equal(run("logprobs -m %s -a %s -p ab --continuations 1", model, adapter), 1);
    expect_output("made for the base llama#");
    expect_output("but the model is model#");
    assert_int_equal(run("logprobs -m %s -a /nonexistent -p ab --continuations 1", model), 1);
    expect_output("/nonexistent");
    assert_int_equal(run("logprobs -m %s -a %s -p ab --continuations 1", model, model), 1);
    expect_output("adapter_config.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_and_their_probabilities),
        cmocka_unit_test(logprobs_are_those_of_the_library),
        cmocka_unit_test(an_identity_is_that_of_the_factors),
        cmocka_unit_test(ratings),
        cmocka_unit_test(other_scales),
        cmocka_unit_test(runs_name_their_adapter),
        cmocka_unit_test(adapters_are_described),
        cmocka_unit_test(models_are_exported),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, scratch_delete);
}
