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
    assert_string_equal(text, "run.model is \"stage0#12ab\", it was \"stage0#12ac\"; "
                              "run.split is \"train\", it was \"valid\"");
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
    assert_string_equal(text, "run.kind is \"sft\", it was \"grpo\"");
    json_decref(mine);
    json_decref(theirs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_is_its_hash),
        cmocka_unit_test(both_sides_are_named),
        cmocka_unit_test(another_kind_alone_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
