/* The parser of reasoned answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "siren/readout.h"

enum { F = 1, N = 2, C = 4 }; /* format, number, clamped */

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
        struct siren_reading a = siren_answer_read(cases[i].text, 1, 5, 0);
        unsigned flags = a.format ? F : 0;
        if (a.has_number) flags |= N;
        if (a.faults & 1u << SIREN_FAULT_CLAMPED) flags |= C;
        if (flags != cases[i].flags || a.rating != cases[i].rating)
            fail_msg("\"%s\": flags %u, rating %g", cases[i].text, flags, a.rating);
    }
}

#define BIT(f) (1u << SIREN_FAULT_##f)

static void faults_by_kind(void **state)
{
    static const struct {
        const char *text;
        unsigned faults;
        double rating;
    } texts[] = {
        {"<think>a</think> <answer>4</answer>\n", 0, 4},
        {"I would say 4", BIT(NO_TAGS) | BIT(NO_NUMBER), 0},
        {"<answer>4</answer>", BIT(MISSING), 4},
        {"a</think><answer>4</answer>", BIT(MISSING), 4},
        {"<think>a and so on", BIT(UNCLOSED) | BIT(NO_NUMBER), 0},
        {"<think>a</think><answer>3", BIT(UNCLOSED), 3},
        {"<think>a</think><think>b</think><answer>3</answer>", BIT(REPEATED), 3},
        {"<answer>3</answer><think>a</think>", BIT(ORDER) | BIT(AFTER), 3},
        {"<think>a</think><answer>3</answer> because", BIT(AFTER), 3},
        {"<think>a</think><answer>three</answer>", BIT(NO_NUMBER), 0},
        {"<think>a</think><answer>9</answer>", BIT(CLAMPED), 5},
        {"", BIT(NO_TAGS) | BIT(NO_NUMBER), 0},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct siren_reading a = siren_answer_read(texts[i].text, 1, 5, 0);
        if (a.faults != texts[i].faults)
            fail_msg("'%s': faults %#x, expected %#x", texts[i].text, a.faults, texts[i].faults);
        assert_int_equal(a.has_number, texts[i].rating != 0);
        if (a.has_number) assert_true(a.rating == texts[i].rating);
    }
    assert_int_equal(siren_answer_read("<think>", 1, 5, 1).faults,
                     BIT(UNCLOSED) | BIT(NO_NUMBER) | BIT(TRUNCATED));
    for (int f = 0; f < SIREN_FAULTS; f++) assert_true(strlen(siren_fault_name(f)) > 3);
}

/* Said in another way: the four tags exactly once each, in order, nothing behind. */
static int has_format(const char *text)
{
    static const char *const tags[] = {"<think>", "</think>", "<answer>", "</answer>"};
    const char *at = text;
    for (int i = 0; i < 4; i++) {
        const char *tag = strstr(text, tags[i]);
        if (!tag || tag < at || strstr(tag + 1, tags[i])) return 0;
        at = tag + strlen(tags[i]);
    }
    return at[strspn(at, " \t\n\v\f\r")] == '\0';
}

/* Whatever the text: format holds exactly where no fault of form was found. */
static void faults_explain_the_format(void **state)
{
    static const char *const parts[] = {"<think>", "</think>", "<answer>", "</answer>", " ", "4"};
    const unsigned form =
        BIT(NO_TAGS) | BIT(MISSING) | BIT(UNCLOSED) | BIT(REPEATED) | BIT(ORDER) | BIT(AFTER);
    int good = 0;
    for (uint64_t i = 0; i < 6 * 6 * 6 * 6 * 6 * 6; i++) {
        char text[64] = "";
        uint64_t rest = i;
        for (int k = 0; k < 6; k++, rest /= 6) strcat(text, parts[rest % 6]);
        struct siren_reading a = siren_answer_read(text, 1, 5, 0);
        if (a.format != !(a.faults & form)) fail_msg("'%s': faults %#x", text, a.faults);
        assert_int_equal(a.format, has_format(text));
        good += a.format;
    }
    assert_true(good > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_read),
        cmocka_unit_test(faults_by_kind),
        cmocka_unit_test(faults_explain_the_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
