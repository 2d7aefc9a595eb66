/* Settings that are compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "train/settings.h"

static void a_model_is_its_hash(void **state)
{
    char text[200];
    json_t *mine = json_pack("{s:{s:s, s:s}}", "run", "model", "stage0#12ab", "split", "train");
    json_t *renamed =
        json_pack("{s:{s:s, s:s}}", "run", "model", "mine.gguf#12ab", "split", "train");
    json_t *other = json_pack("{s:{s:s, s:s}}", "run", "model", "stage0#12ac", "split", "valid");
    assert_false(settings_differ(mine, renamed, text, sizeof text));
    assert_true(settings_differ(mine, other, text, sizeof text));
    assert_string_equal(text, "the model (--model) is \"stage0#12ab\", it was \"stage0#12ac\"; "
                              "--split is \"train\", it was \"valid\"");
    json_decref(mine);
    json_decref(renamed);
    json_decref(other);
}

static void both_sides_are_named(void **state)
{
    char text[200];
    json_t *mine = json_pack("{s:i, s:{s:i}}", "only mine", 1, "both", "x", 2);
    json_t *theirs = json_pack("{s:{s:i, s:i}}", "both", "x", 2, "only theirs", 3);
    assert_true(settings_differ(mine, theirs, text, sizeof text));
    assert_string_equal(text,
                        "only mine is 1, it was missing; both.only theirs is missing, it was 3");
    assert_false(settings_differ(mine, mine, text, sizeof text));
    /* As much as fits. */
    assert_true(settings_differ(mine, theirs, text, 10));
    assert_string_equal(text, "only mine");
    json_decref(mine);
    json_decref(theirs);
}

/* What else differs goes with it. */
static void another_kind_alone_is_told(void **state)
{
    char text[200];
    json_t *mine = json_pack("{s:{s:s, s:i}}", "run", "kind", "sft", "x", 1);
    json_t *theirs = json_pack("{s:{s:s, s:i}, s:i}", "run", "kind", "grpo", "x", 2, "y", 3);
    assert_true(settings_differ(mine, theirs, text, sizeof text));
    assert_string_equal(text, "the kind of training is \"sft\", it was \"grpo\"");
    json_decref(mine);
    json_decref(theirs);
}

/* By the option that a person gave, once, and numbers as they were written. */
static void options_are_named(void **state)
{
    char text[400];
    json_t *mine = json_pack("{s:{s:i, s:i}, s:{s:f, s:f}}", "grpo", "max_tokens", 64,
                             "constant_length", 64, "training", "lr", 0.0004, "beta1", 0.8);
    json_t *theirs = json_pack("{s:{s:i, s:i}, s:{s:f, s:f}}", "grpo", "max_tokens", 160,
                               "constant_length", 160, "training", "lr", 0.001, "beta1", 0.9);
    json_t *all = json_pack("{s:O}", "run", mine), *other = json_pack("{s:O}", "run", theirs);
    assert_true(settings_differ(mine, theirs, text, sizeof text));
    assert_string_equal(text, "--max-tokens is 64, it was 160; --lr is 0.0004, it was 0.001; "
                              "training.beta1 is 0.8, it was 0.9");
    assert_true(settings_differ(all, other, text, sizeof text));
    assert_string_equal(text, "--max-tokens is 64, it was 160; --lr is 0.0004, it was 0.001; "
                              "run.training.beta1 is 0.8, it was 0.9");
    json_decref(mine);
    json_decref(theirs);
    json_decref(all);
    json_decref(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_is_its_hash),
        cmocka_unit_test(both_sides_are_named),
        cmocka_unit_test(another_kind_alone_is_told),
        cmocka_unit_test(options_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
