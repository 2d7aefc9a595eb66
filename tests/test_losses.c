#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "near.h"
#include "recs_fixture.h"
#include "siren/losses.h"
#include "siren/metrics.h"
#include "siren/workspace.h"

static void check_term(const json_t *c, const struct siren_rating_loss *w, const char *name)
{
    int n = (int)fixture_number(c, "n");
    char key[8];
    double *s = fixture_doubles(c, "scores"), *t = fixture_doubles(c, "teacher"), *want, got[16];
    snprintf(key, sizeof key, "d_%s", name);
    want = fixture_doubles(c, key);
    near(siren_rating_loss(w, n, s, (int)fixture_number(c, "label"), t, got),
         fixture_number(c, name), 1e-12);
    for (int i = 0; i < n; i++) near(got[i], want[i], 1e-12);
    free(s), free(t), free(want);
}

static void test_rating_losses_equal_pytorch(void **state)
{
    json_t *root = fixture_load("tests/fixtures/train/losses.json"), *c;
    size_t i;
    json_array_foreach(json_object_get(root, "cases"), i, c)
    {
        double temperature = fixture_number(c, "temperature");
        check_term(c, &(struct siren_rating_loss){1, fixture_number(c, "smoothing"), 0, 0, 0},
                   "ce");
        check_term(c, &(struct siren_rating_loss){0, 0, 1, temperature, 0}, "kd");
        check_term(c, &(struct siren_rating_loss){0, 0, 0, 0, 1}, "rps");
    }
    json_decref(root);
}

static void test_rating_losses_by_hand(void **state)
{
    const double even[5] = {0.3, 0.3, 0.3, 0.3, 0.3}, half[2] = {0, 0}, sure[2] = {log(3), 0};
    double g[5];
    struct siren_rating_loss ce = {.ce = 1}, kd = {.kd = 1, .temperature = 1}, rps = {.rps = 1};
    near(siren_rating_loss(&ce, 5, even, 3, NULL, g), log(5), 1e-15);
    near(g[3], -0.8, 1e-15);
    near(g[0], 0.2, 1e-15);
    /* cumulated 0.2 0.4 0.6 0.8 against 0 0 0 1 */
    near(siren_rating_loss(&rps, 5, even, 3, NULL, NULL), (.04 + .16 + .36 + .04) / 4, 1e-15);
    /* teacher (3/4, 1/4), student (1/2, 1/2) */
    near(siren_rating_loss(&kd, 2, half, 0, sure, g), .75 * log(1.5) + .25 * log(.5), 1e-15);
    near(g[0], -0.25, 1e-15);
    near(siren_rating_loss(&kd, 2, sure, 0, sure, g), 0, 1e-15);
    near(g[0], 0, 1e-15);
}

static void test_rps_is_the_metric(void **state)
{
    const struct siren_scale scale = {1, 5, 1};
    const double s[5] = {-1, 2, 0.5, 1.5, -3};
    struct siren_rating_loss rps = {.rps = 1};
    double p[5], sum = 0;
    for (int i = 0; i < 5; i++) sum += p[i] = exp(s[i]);
    for (int i = 0; i < 5; i++) p[i] /= sum;
    for (int label = 0; label < 5; label++)
        near(siren_rating_loss(&rps, 5, s, label, NULL, NULL), siren_rps(&scale, p, label + 1),
             1e-14);
}

static void test_combination_by_finite_differences(void **state)
{
    const struct siren_rating_loss w = {0.7, 0.15, 1.3, 2.5, 4};
    const double t[5] = {0, 1, -1, 2, 0.5};
    double s[5] = {1, -2, 0.25, 3, 0}, g[5], sum = 0;
    siren_rating_loss(&w, 5, s, 1, t, g);
    for (int i = 0; i < 5; i++) {
        double at = s[i], h = 1e-5, up, down;
        s[i] = at + h, up = siren_rating_loss(&w, 5, s, 1, t, NULL);
        s[i] = at - h, down = siren_rating_loss(&w, 5, s, 1, t, NULL);
        s[i] = at;
        near(g[i], (up - down) / (2 * h), 1e-8);
        sum += g[i];
    }
    near(sum, 0, 1e-14);
}

static void test_extreme_scores_stay_finite(void **state)
{
    const struct siren_rating_loss w = {1, 0.1, 1, 1, 1};
    const double s[3] = {-900, 0, 900}, t[3] = {900, -900, 0};
    double g[3], loss = siren_rating_loss(&w, 3, s, 0, t, g);
    assert_true(isfinite(loss) && loss > 1000);
    for (int i = 0; i < 3; i++) assert_true(isfinite(g[i]));
    const double impossible[3] = {-INFINITY, 0, 0}; /* a teacher that rules a label out */
    const struct siren_rating_loss kd = {.kd = 1, .temperature = 2};
    assert_true(isfinite(siren_rating_loss(&kd, 3, s, 0, impossible, g)));
    const double nan_scores[3] = {NAN, 0, 0};
    assert_true(isnan(siren_rating_loss(&w, 3, nan_scores, 0, t, g)));
    assert_true(isnan(siren_rating_loss(&kd, 3, s, 0, nan_scores, g)));
    assert_true(isnan(siren_rating_loss(&kd, 3, s, 0, nan_scores, NULL)));
}

static void test_alignment_equals_pytorch(void **state)
{
    enum { L = 3, D = 16 };
    json_t *root = fixture_load("tests/fixtures/train/losses.json");
    float *s = fixture_floats(root, "student"), *t = fixture_floats(root, "teacher"), g[L * D];
    double *w = fixture_doubles(root, "weights"), *mean = fixture_doubles(root, "d_mean");
    double *weighted = fixture_doubles(root, "d_weighted"), cosines[L];
    near(siren_alignment_loss(L, D, s, t, NULL, g, cosines), fixture_number(root, "mean"), 1e-12);
    for (int i = 0; i < L * D; i++) near(g[i], mean[i], 1e-8);
    near(1 - (cosines[0] + cosines[1] + cosines[2]) / 3, fixture_number(root, "mean"), 1e-12);
    near(siren_alignment_loss(L, D, s, t, w, g, NULL), fixture_number(root, "weighted"), 1e-12);
    for (int i = 0; i < L * D; i++) near(g[i], weighted[i], 1e-8);
    free(s), free(t), free(w), free(mean), free(weighted);
    json_decref(root);
}

static void test_alignment_of_zero_and_equal_states(void **state)
{
    const float s[6] = {0, 0, 3, 4, 1, 0}, t[6] = {1, 2, 6, 8, 0, 0};
    float g[6] = {9, 9, 9, 9, 9, 9};
    double cosines[3];
    near(siren_alignment_loss(3, 2, s, t, NULL, g, cosines), 2.0 / 3, 1e-15);
    assert_true(cosines[0] == 0 && cosines[2] == 0);
    near(cosines[1], 1, 1e-15);
    for (int i = 0; i < 6; i++) near(g[i], 0, 1e-8);
    const float huge[2] = {3e38f, 3e38f}, tiny[2] = {1e-44f, 0};
    near(siren_alignment_loss(1, 2, huge, tiny, NULL, g, cosines), 1 - sqrt(0.5), 1e-7);
    assert_true(isfinite(g[0]) && isfinite(g[1]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rating_losses_equal_pytorch),
        cmocka_unit_test(test_rating_losses_by_hand),
        cmocka_unit_test(test_rps_is_the_metric),
        cmocka_unit_test(test_combination_by_finite_differences),
        cmocka_unit_test(test_extreme_scores_stay_finite),
        cmocka_unit_test(test_alignment_equals_pytorch),
        cmocka_unit_test(test_alignment_of_zero_and_equal_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
