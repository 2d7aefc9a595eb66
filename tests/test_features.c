/* Features of a target, by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "near.h"
#include "siren/features.h"
#include "siren/workspace.h"

static const struct siren_scale stars = {1, 5, 1}, tenths = {1, 10, 0.1};

static void test_features(void **state)
{
    const double history[4] = {5, 5, 1, 4};
    struct siren_feature_source s = {.history = history, .n_history = 4};
    double f[200];
    int n = siren_features_count(&stars, SIREN_FEATURE_HISTOGRAM);
    assert_int_equal(n, 11);
    siren_features_fill(&stars, SIREN_FEATURE_HISTOGRAM, &s, f);
    near(f[4], 2.2 / 5, 1e-15); /* share of fives, with a fifth of a rating added to each */
    near(f[9], log(3), 1e-15);  /* two fives */
    near(f[10], log(5), 1e-15); /* four ratings */

    siren_features_fill(&stars, SIREN_FEATURE_RECENT, &s, f);
    near(f[0], (4 + 0.5 * 1 + 0.25 * 5 + 0.125 * 5) / 1.875, 1e-12);
    near(f[3 + 3], 1, 0); /* the last rating is a 4 */
    near(f[3 + 4], 0, 0);
    near(f[8 + 4], 0.64 + 0.512, 1e-12); /* fives, two and three back */

    unsigned all = 31;
    int total = siren_features_count(&stars, all);
    struct siren_feature_source none = {0};
    siren_features_fill(&stars, all, &none, f);
    for (int i = 0; i < total; i++) assert_true(isfinite(f[i]));
    const double logprobs[5] = {-1, -2, -INFINITY, -4, -5};
    s.logprobs = logprobs;
    siren_features_fill(&stars, SIREN_FEATURE_LOGITS, &s, f);
    double sum = 0;
    for (int i = 0; i < 5; i++) sum += exp(f[i]);
    near(sum, 1, 1e-8);
    near(f[0] - f[1], 1, 1e-12);
    assert_true(f[2] == -20);
    /* a scale of 91 labels is counted in 11 bins */
    assert_int_equal(siren_features_count(&tenths, SIREN_FEATURE_HISTOGRAM), 23);
    siren_features_fill(&tenths, SIREN_FEATURE_HISTOGRAM | SIREN_FEATURE_RECENT, &s, f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_features)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
