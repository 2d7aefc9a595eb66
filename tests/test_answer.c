/* The parser of reasoned answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "siren/readout.h"

enum { F = SIREN_ANSWER_FORMAT, N = SIREN_ANSWER_NUMBER, C = SIREN_ANSWER_CLAMPED };

static const struct {
    const char *text;
    unsigned flags;
    double rating;
} cases[] = {
    {"<think>good</think>\n<answer>4</answer>", F | N, 4},
    {"\n<think>\n</think>\n<answer>3.5</answer>\n", F | N, 3.5},
    {"<think>a</think><answer> 4,5 stars</answer>", F | N, 4.5},
    {"<think>a</think><answer>4/5</answer>", F | N, 4},
    {"<think>a</think><answer>7</answer>", F | N | C, 5},
    {"<think>a</think><answer>-2</answer>", F | N | C, 1},
    {"<think>a</think><answer>.5</answer>", F | N | C, 1},
    {"<think>a</think><answer>good</answer>", F, 5},
    {"<think>a</think><answer></answer>", F, 5},
    {"<think>a</think><answer>4</answer> more", N, 4},
    {"<think>a</think><answer>4</answer><answer>2</answer>", N, 2},
    {"<answer>4</answer><think>a</think>", N, 4},
    {"<think><think>a</think><answer>4</answer>", N, 4},
    {"<think>4</think>", 0, 5},
    {"<answer>2", N, 2},
    {"I think 4 stars", 0, 5},
    {"", 0, 5},
    {"<answer>1e999999</answer>", N, 1},
    {"<answer>99999999999999999999999999999999999</answer>", N | C, 5},
};

static void answers_are_read(void **state)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double rating = -1;
        unsigned flags = siren_answer_parse(cases[i].text, 1, 5, 5, &rating);
        if (flags != cases[i].flags || rating != cases[i].rating)
            fail_msg("\"%s\": flags %u, rating %g", cases[i].text, flags, rating);
    }
}

static void the_fallback_is_the_callers(void **state)
{
    double rating;
    assert_int_equal(siren_answer_parse("none", 1, 10, 3.25, &rating), 0);
    assert_true(rating == 3.25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_read),
        cmocka_unit_test(the_fallback_is_the_callers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
