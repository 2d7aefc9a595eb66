/* siren train grpo from outside: every option reaches the algorithm, by the run's own settings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#include "run_program.h"
#include "tiny_setup.h"

static int grpo(const char *folder, const char *more)
{
    char arguments[2048];
    snprintf(arguments, sizeof arguments,
             "train grpo '%s' --model '%s' --chat-template '%s' --out '%s' --strategy recent "
             "--recent 2 --rows 4 --batch 2 --answers 2 --max-tokens 6 --max-steps 1 "
             "--eval-split none -q %s",
             siren_workspace_path(app.ws), tiny_model("tiny"), fixture_template(), folder, more);
    return run_program("", arguments, NULL);
}

/* What the settings say of the run begun with these options, as text; borrowed until the next. */
static const char *setting(const char *options, const char *group, const char *key)
{
    static char text[64];
    static int n;
    char name[32], path[300];
    snprintf(name, sizeof name, "run %d", n++);
    snprintf(path, sizeof path, "%s", scratch_path(name));
    if (grpo(path, options)) fail_msg("%s: %s", options, program_output);
    strcat(path, "/settings.json");
    json_t *settings = json_load_file(path, 0, NULL), *value = json_object_get(settings, "run");
    if (strcmp(group, "grpo")) value = settings;
    value = json_object_get(json_object_get(value, group), key);
    if (!value) fail_msg("%s has no %s.%s", path, group, key);
    if (json_is_string(value))
        snprintf(text, sizeof text, "%s", json_string_value(value));
    else if (json_is_boolean(value))
        snprintf(text, sizeof text, "%s", json_is_true(value) ? "yes" : "no");
    else
        snprintf(text, sizeof text, "%.9g", json_number_value(value));
    json_decref(settings);
    return text;
}

static void words_are_the_ones_meant(void **state)
{
    static const struct {
        const char *option, *key, *words[3], *named[3];
    } choices[] = {
        {"--advantage",
         "advantage",
         {"grpo", "dr-grpo", "leave-one-out"},
         {"grpo", "dr_grpo", "leave_one_out"}},
        {"--flat-groups", "flat_groups", {"keep", "skip", "resample"}, {NULL}},
        {"--kl-kind", "kl_kind", {"k1", "k2", "k3"}, {NULL}},
        {"--mean-over", "aggregation", {"token", "sequence", "constant"}, {NULL}},
        {"--reward", "reward", {"linear", "squared", "rps"}, {NULL}},
        {"--outside", "outside", {"clamp", "refuse"}, {NULL}},
    };
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++)
        for (int k = 0; k < 3 && choices[i].words[k]; k++) {
            char option[64];
            const char *expected = choices[i].named[k] ? choices[i].named[k] : choices[i].words[k];
            snprintf(option, sizeof option, "%s %s", choices[i].option, choices[i].words[k]);
            assert_string_equal(setting(option, "grpo", choices[i].key), expected);
        }
}

static void numbers_reach_the_algorithm(void **state)
{
    static const struct {
        const char *option, *key, *expected;
    } numbers[] = {
        {"--answers 3", "samples", "3"},
        {"--temperature 0.75", "temperature", "0.75"},
        {"--top-p 0.5", "top_p", "0.5"},
        {"--top-k 7", "top_k", "7"},
        {"--max-tokens 5", "max_tokens", "5"},
        {"--length-cost 0.25", "length_cost", "0.25"},
        {"--clip-low 0.125", "clip_low", "0.125"},
        {"--clip-high 0.25", "clip_high", "0.25"},
        {"--dual-clip 4", "dual_clip", "4"},
        {"--kl 0.5", "kl", "0.5"},
        {"--entropy 0.125", "entropy", "0.125"},
        {"--mask-truncated", "mask_truncated", "yes"},
        {"--eval-samples 2", "eval_samples", "2"},
        {"--max-tokens 5 --mean-over constant", "constant_length", "5"},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        assert_string_equal(setting(numbers[i].option, "grpo", numbers[i].key),
                            numbers[i].expected);
    assert_string_equal(setting("--updates 3", "training", "repeats"), "3");
}

static void what_cannot_be_is_refused(void **state)
{
    const char *folder = scratch_path("refused");
    assert_int_equal(grpo(folder, "--dropout 0.1"), 2);
    expect_output("--dropout 0.1: reinforcement goes without");
    assert_int_equal(grpo(folder, "--reward cubic"), 2);
    expect_output("expected one of linear|squared|rps");
    assert_int_equal(grpo(folder, "--clip-high 3"), 1);
    expect_output("dual clip");
}

static int setup(void **state)
{
    return find_program() || tiny_setup(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_the_ones_meant),
        cmocka_unit_test(numbers_reach_the_algorithm),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, tiny_teardown);
}
