/* Labels of a scale, their distribution. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "siren/readout.h"

static struct siren_tokenizer *tokenizer;

static char *text_of(const struct siren_tokens *t)
{
    char *text;
    size_t length;
    assert_int_equal(siren_tokenizer_decode(tokenizer, t->ids, t->n_ids, 0, &text, &length, NULL),
                     0);
    return text;
}

static void assert_labels(const struct siren_scale *scale, const char *const *expected, int n)
{
    struct siren_readout r;
    struct siren_error err;
    if (siren_readout_create(&r, tokenizer, scale, &err)) fail_msg("%s", err.message);
    assert_int_equal(r.n, n);
    for (int k = 0; k < n; k++) {
        char *text = text_of(&r.tokens[k]);
        assert_string_equal(text, expected[k]);
        free(text);
    }
    siren_readout_clear(&r);
}

static void labels_are_told_apart(void **state)
{
    static const char *const stars[] = {"1", "2", "3", "4", "5"};
    static const char *const ten[] = {"1<", "2", "3", "4", "5", "6", "7", "8", "9", "10"};
    static const char *const half[] = {"0.5", "1<",  "1.5", "2<",  "2.5",
                                       "3<",  "3.5", "4<",  "4.5", "5"};
    assert_labels(&(struct siren_scale){1, 5, 1}, stars, 5);
    assert_labels(&(struct siren_scale){1, 10, 1}, ten, 10);
    assert_labels(&(struct siren_scale){0.5, 5, 0.5}, half, 10);
}

static void distributions_are_renormalised(void **state)
{
    struct siren_readout r;
    double p[5], logprobs[5] = {log(0.1), log(0.1), log(0.2), log(0.3), log(0.1)};
    assert_int_equal(siren_readout_create(&r, NULL, &(struct siren_scale){1, 5, 1}, NULL), 0);
    assert_true(fabs(siren_readout_distribution(&r, logprobs, p) - 0.2) < 1e-12);
    assert_true(fabs(p[3] - 0.375) < 1e-12);
    for (int k = 0; k < 5; k++) logprobs[k] -= 800; /* far below what exp() can hold */
    assert_true(siren_readout_distribution(&r, logprobs, p) == 1);
    assert_true(fabs(p[3] - 0.375) < 1e-9);
    for (int k = 0; k < 5; k++) logprobs[k] = -INFINITY;
    assert_true(siren_readout_distribution(&r, logprobs, p) == 1);
    assert_true(p[0] == 0.2);
    siren_readout_clear(&r);
}

static void scales_that_are_none_are_refused(void **state)
{
    static const struct siren_scale bad[] = {{1, 5, 0},    {1, 5, -1},  {5, 1, 1}, {1, 5, 3},
                                             {0, 1000, 1}, {NAN, 5, 1}, {1, 1, 1}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct siren_readout r;
        struct siren_error err;
        assert_int_equal(siren_readout_create(&r, tokenizer, &bad[i], &err), SIREN_EINVAL);
        assert_non_null(strstr(err.message, "scale"));
    }
}

static int setup(void **state)
{
    return siren_tokenizer_load(&tokenizer, "tests/fixtures/models/smol", NULL);
}

static int teardown(void **state)
{
    siren_tokenizer_free(tokenizer);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_are_told_apart),
        cmocka_unit_test(distributions_are_renormalised),
        cmocka_unit_test(scales_that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
