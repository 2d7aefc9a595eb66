#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "near.h"
#include "recs_fixture.h"
#include "siren/grpo.h"
#include "siren/random.h"
#include "siren/readout.h"

static struct siren_error err;
enum { SEQUENCES = 6, TOKENS = 32 }; /* of tests/fixtures/train/grpo.json */

/* ---- Rewards ---- */

static void test_rewards_by_hand(void **state)
{
    struct siren_reward r = {SIREN_REWARD_LINEAR, 1, 5, 0, 0, 0};
    struct siren_reading fives = siren_answer_read("<think></think><answer>555</answer>", 1, 5, 0);
    struct siren_reading four = siren_answer_read("<think></think><answer>4</answer>", 1, 5, 0);
    struct siren_reading bare = siren_answer_read("<answer>2</answer>", 1, 5, 0);
    struct siren_reading none = siren_answer_read("four", 1, 5, 0);
    near(siren_reward(&r, &four, 4, -1, 50), 3, 0);
    near(siren_reward(&r, &four, 1, -1, 50), 1 + 2 - 3, 1e-15);
    near(siren_reward(&r, &bare, 5, -1, 50), -1 + 2 - 3, 1e-15);
    near(siren_reward(&r, &none, 4, -1, 50), -3, 0);
    near(siren_reward(&r, &fives, 5, -1, 50), 3, 0); /* the end that is nearer … */
    r.refuse_outside = 1;                            /* … or none */
    near(siren_reward(&r, &fives, 5, -1, 50), -1, 0);
    near(siren_reward(&r, &four, 4, -1, 50), 3, 0);
    r.kind = SIREN_REWARD_RPS;
    near(siren_reward(&r, &fives, 5, 0, 50), -1, 0);
    near(siren_reward(&r, &four, 1, 0.25, 50), 2, 1e-15);
    r.refuse_outside = 0;
    near(siren_reward(&r, &fives, 5, 0, 50), 3, 0);
    r.kind = SIREN_REWARD_SQUARED;
    near(siren_reward(&r, &four, 1, -1, 50), 1 + 2 - 4 * 9.0 / 16, 1e-15);
    r.kind = SIREN_REWARD_RPS;
    near(siren_reward(&r, &four, 1, 0.25, 50), 2, 1e-15);
    near(siren_reward(&r, &four, 1, -1, 50), -1, 0);
    near(siren_reward(&r, &none, 1, 0.25, 50), 0, 1e-15); /* a distribution without a number */
    r = (struct siren_reward){SIREN_REWARD_LINEAR, 0.5, 5, 0.4, 200, 0}; /* half stars, length */
    near(siren_reward(&r, &four, 3.5, -1, 50), 3 - 4 * 0.5 / 4.5 - 0.1, 1e-15);
    r = (struct siren_reward){SIREN_REWARD_LINEAR, 1, 10, 0, 0, 0};
    near(siren_reward(&r, &four, 10, -1, 50), 3 - 4 * 6.0 / 9, 1e-15);
}

/* ---- Advantages ---- */

static void test_advantages(void **state)
{
    const double rewards[4] = {3, 1, -1, 1}, equal[3] = {0.1, 0.1, 0.1};
    double a[4] = {9, 9, 9, 9};
    assert_int_equal(siren_advantages(SIREN_ADVANTAGE_GRPO, 4, rewards, 1e-4, a), 1);
    near(a[0], 2 / (sqrt(8.0 / 3) + 1e-4), 1e-15);
    near(a[1], 0, 1e-15);
    assert_int_equal(siren_advantages(SIREN_ADVANTAGE_DR_GRPO, 4, rewards, 1e-4, a), 1);
    assert_true(a[0] == 2 && a[2] == -2);
    assert_int_equal(siren_advantages(SIREN_ADVANTAGE_LEAVE_ONE_OUT, 4, rewards, 0, a), 1);
    near(a[0], 3 - 1.0 / 3, 1e-15);
    near(a[2], -1 - 5.0 / 3, 1e-15);
    for (int kind = 0; kind < 3; kind++) {
        assert_int_equal(siren_advantages(kind, 3, equal, 0, a), 0);
        assert_true(a[0] == 0 && a[1] == 0 && a[2] == 0);
        assert_int_equal(siren_advantages(kind, 1, rewards, 0, a), 0);
        assert_true(a[0] == 0);
    }
}

/* GRPOTrainer's with scale_rewards "group" and "none", RLOOTrainer's leave-one-out; groups of six
 * and of three texts, a flat one among them. */
static void test_advantages_equal_trl(void **state)
{
    static const struct {
        const char *name;
        enum siren_advantage_kind kind;
        double tolerance;
    } kinds[] = {{"grpo", SIREN_ADVANTAGE_GRPO, 1e-7}, /* TRL's n / (n − 1) is a float */
                 {"dr_grpo", SIREN_ADVANTAGE_DR_GRPO, 1e-14},
                 {"leave_one_out", SIREN_ADVANTAGE_LEAVE_ONE_OUT, 1e-14}};
    json_t *root = fixture_load("tests/fixtures/train/grpo.json"), *c;
    size_t i;
    assert_int_equal(json_array_size(json_object_get(root, "kinds")), 3);
    json_array_foreach(json_object_get(root, "kinds"), i, c)
    {
        int n = (int)fixture_number(c, "group");
        double *r = fixture_doubles(c, "rewards"), a[SEQUENCES];
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            double *want = fixture_doubles(c, kinds[k].name);
            for (int from = 0; from < SEQUENCES; from += n) {
                int signal = siren_advantages(kinds[k].kind, n, r + from, 1e-4, a + from);
                assert_int_equal(signal, i != 1 || from != 0);
            }
            for (int t = 0; t < SEQUENCES; t++) near(a[t], want[t], kinds[k].tolerance);
            free(want);
        }
        free(r);
    }
    json_decref(root);
}

/* ---- The policy's loss ---- */

static size_t first[SEQUENCES + 1];
static float logprob[TOKENS], old[TOKENS], reference[TOKENS], entropies[TOKENS];
static double advantages[SEQUENCES];
static const struct siren_policy_batch batch = {SEQUENCES, first,     advantages, logprob, old,
                                                reference, entropies, NULL,       0,       0};

static void take(const json_t *root, const char *key, float *out)
{
    float *x = fixture_floats(root, key);
    memcpy(out, x, TOKENS * sizeof *x);
    free(x);
}

static json_t *load_batch(void)
{
    json_t *root = fixture_load("tests/fixtures/train/grpo.json");
    int32_t *lengths = fixture_ints(root, "lengths");
    double *a = fixture_doubles(root, "advantages");
    for (int s = 0; s < SEQUENCES; s++) first[s + 1] = first[s] + (size_t)lengths[s];
    assert_int_equal(first[SEQUENCES], TOKENS);
    memcpy(advantages, a, sizeof advantages);
    take(root, "logprob", logprob);
    take(root, "old", old);
    take(root, "reference", reference);
    take(root, "entropies", entropies);
    free(lengths), free(a);
    return root;
}

/* The options of a case of grpo_trl.py. */
static struct siren_policy_options options_of(const json_t *root, const json_t *c)
{
    const char *type = json_string_value(json_object_get(c, "loss_type"));
    return (struct siren_policy_options){
        .clip_low = fixture_number(c, "low"),
        .clip_high = fixture_number(c, "high"),
        .dual_clip = fixture_number(c, "delta"),
        .kl_kind = SIREN_KL_K3,
        .kl = fixture_number(c, "beta"),
        .entropy = fixture_number(c, "entropy_coef"),
        .aggregation = strcmp(type, "bnpo") == 0   ? SIREN_TOKEN_MEAN
                       : strcmp(type, "grpo") == 0 ? SIREN_SEQUENCE_MEAN
                                                   : SIREN_CONSTANT_LENGTH,
        .constant_length = (int)fixture_number(root, "max_length")};
}

/* What a token of sequence s weighs here, and what it weighs in the mean over all tokens, which TRL
 * takes of the entropies whatever the loss type. */
static double share(const struct siren_policy_options *o, int s)
{
    const double lengths[] = {TOKENS / (double)SEQUENCES, (double)(first[s + 1] - first[s]),
                              o->constant_length};
    return TOKENS / (SEQUENCES * lengths[o->aggregation]);
}

static void test_loss_equals_trl(void **state)
{
    json_t *root = load_batch(), *c;
    size_t i;
    json_array_foreach(json_object_get(root, "cases"), i, c)
    {
        struct siren_policy_options o = options_of(root, c);
        double *want = fixture_doubles(c, "gradient"), loss = fixture_number(c, "loss");
        double *by_entropy = fixture_doubles(c, "by_entropy");
        struct siren_policy_result r;
        float g[TOKENS], d_entropy[TOKENS];
        assert_int_equal(siren_policy_loss(&o, &batch, g, d_entropy, &r, &err), 0);
        for (int s = 0; s < SEQUENCES; s++)
            for (size_t t = first[s]; t < first[s + 1]; t++) {
                near(d_entropy[t], share(&o, s) * by_entropy[t], 1e-7);
                loss += (share(&o, s) - 1) * by_entropy[t] * (double)entropies[t];
            }
        near(r.loss, loss, 1e-14);
        for (int t = 0; t < TOKENS; t++) near(g[t], want[t], 1e-7);
        /* TRL's figures are f32. */
        near(r.clipped_low, fixture_number(c, "clipped_low"), 1e-6);
        near(r.clipped_high, fixture_number(c, "clipped_high"), 1e-6);
        near(r.entropy, fixture_number(c, "entropy"), 1e-6);
        if (o.kl != 0) near(r.kl, fixture_number(c, "kl"), 1e-6);
        free(want), free(by_entropy);
    }
    json_decref(root);
}

/* TRL has k3 in GRPO's loss (above), and k1 as what RLOO takes off rewards, so no gradient of it;
 * k2 it has not: that is done by hand below, as are the gradients of both. */
static void test_k1_equals_trl(void **state)
{
    json_t *root = load_batch();
    const struct siren_policy_options o = {.kl_kind = SIREN_KL_K1, .kl = 1};
    struct siren_policy_result r;
    float g[TOKENS];
    assert_int_equal(siren_policy_loss(&o, &batch, g, NULL, &r, &err), 0);
    near(r.kl, fixture_number(root, "k1"), 1e-7); /* TRL sums in f32 */
    json_decref(root);
}

/* One token, A = ±1, no KL: the loss and its slope. */
static double one(double a, double ratio, double *slope, struct siren_policy_result *r)
{
    const size_t range[2] = {0, 1};
    const float now = (float)log(ratio), then = 0;
    struct siren_policy_options o = siren_policy_defaults();
    struct siren_policy_batch b = {
        .n_sequences = 1, .first = range, .advantages = &a, .logprob = &now, .old = &then};
    float g;
    o.kl = 0;
    assert_int_equal(siren_policy_loss(&o, &b, &g, NULL, r, &err), 0);
    *slope = g;
    return r->loss;
}

static void test_clipping_by_hand(void **state)
{
    struct siren_policy_result r;
    double g;
    assert_true(one(1, 1, &g, &r) == -1 && g == -1 && r.ratio == 1 && r.old_kl == 0);
    near(one(1, 1.1, &g, &r), -1.1, 1e-6), near(g, -1.1, 1e-6);
    near(one(1, 1.5, &g, &r), -1.2, 1e-6), near(g, 0, 0), near(r.clipped_high, 1, 0);
    near(one(1, 0.5, &g, &r), -0.5, 1e-6), near(g, -0.5, 1e-6), near(r.clipped_low, 0, 0);
    near(one(-1, 0.5, &g, &r), 0.8, 1e-6), near(g, 0, 0), near(r.clipped_low, 1, 0);
    near(one(-1, 2, &g, &r), 2, 1e-6), near(g, 2, 1e-6), near(r.clipped_dual, 0, 0);
    near(one(-1, 5, &g, &r), 3, 1e-6), near(g, 0, 0), near(r.clipped_dual, 1, 0);
    near(r.old_kl, 4 - log(5), 1e-6);
}

static void test_kl_estimators_by_finite_differences(void **state)
{
    json_t *root = load_batch();
    for (int kind = SIREN_KL_K1; kind <= SIREN_KL_K3; kind++) {
        struct siren_policy_options o = {.clip_low = 0.2,
                                         .clip_high = 0.2,
                                         .kl_kind = kind,
                                         .kl = 0.5,
                                         .entropy = 0.1,
                                         .aggregation = SIREN_SEQUENCE_MEAN};
        struct siren_policy_result r, up, down;
        float g[TOKENS], h[TOKENS], unused[TOKENS];
        assert_int_equal(siren_policy_loss(&o, &batch, g, h, &r, &err), 0);
        for (int t = 0; t < TOKENS; t += 3) {
            float at = logprob[t], above = at + 0x1p-9f, below = at - 0x1p-9f;
            logprob[t] = above, siren_policy_loss(&o, &batch, unused, NULL, &up, &err);
            logprob[t] = below, siren_policy_loss(&o, &batch, unused, NULL, &down, &err);
            logprob[t] = at;
            near(g[t], (up.loss - down.loss) / ((double)above - below), 1e-4);
            float e = entropies[t];
            entropies[t] = e + 1, siren_policy_loss(&o, &batch, unused, NULL, &up, &err);
            entropies[t] = e;
            near(h[t], up.loss - r.loss, 1e-6);
        }
    }
    json_decref(root);
}

static void test_kl_estimators_by_hand(void **state)
{
    const size_t range[2] = {0, 1};
    const float now = -1, ref = -1.5f;
    const double zero = 0, want[3] = {0.5, 0.125, 0}, slope[3] = {1, 0.5, 0};
    struct siren_policy_batch b = {.n_sequences = 1,
                                   .first = range,
                                   .advantages = &zero,
                                   .logprob = &now,
                                   .old = &now,
                                   .reference = &ref};
    for (int kind = 0; kind < 3; kind++) {
        struct siren_policy_options o = {.kl_kind = kind, .kl = 2};
        struct siren_policy_result r;
        float g;
        assert_int_equal(siren_policy_loss(&o, &b, &g, NULL, &r, &err), 0);
        near(r.kl, kind == SIREN_KL_K3 ? exp(-0.5) - 0.5 : want[kind], 1e-15);
        near(r.loss, 2 * r.kl, 1e-15);
        near(g, 2 * (kind == SIREN_KL_K3 ? 1 - exp(-0.5) : slope[kind]), 1e-7);
    }
}

/* Texts of one token and of three, A = 2 and −1, ratio 1, entropies 1 … 4 at 0.5: the tokens'
 * losses are −2 − 0.5 and 1 − 1, 1 − 1.5, 1 − 2. */
static void test_means_and_entropy_by_hand(void **state)
{
    static const size_t ranges[] = {0, 1, 4};
    static const double a[] = {2, -1}, losses[] = {-4 / 4.0, (-2.5 - 1.5 / 3) / 2, -4 / (2 * 8.0)},
                        weights[][2] = {
                            {1 / 4.0, 1 / 4.0}, {1 / 2.0, 1 / 6.0}, {1 / 16.0, 1 / 16.0}};
    static const float now[4] = {-1, -2, -3, -4}, h[4] = {1, 2, 3, 4};
    const struct siren_policy_batch b = {.n_sequences = 2,
                                         .first = ranges,
                                         .advantages = a,
                                         .logprob = now,
                                         .old = now,
                                         .entropies = h};
    for (int kind = SIREN_TOKEN_MEAN; kind <= SIREN_CONSTANT_LENGTH; kind++) {
        struct siren_policy_options o = siren_policy_defaults();
        struct siren_policy_result r;
        float g[4], d[4];
        o.kl = 0, o.entropy = 0.5, o.constant_length = 8;
        o.aggregation = (enum siren_aggregation)kind;
        assert_int_equal(siren_policy_loss(&o, &b, g, d, &r, &err), 0);
        near(r.loss, losses[kind], 1e-14), near(r.entropy, 2.5, 1e-14);
        for (int t = 0; t < 4; t++) {
            double w = weights[kind][t > 0];
            near(g[t], -a[t > 0] * w, 1e-7), near(d[t], -0.5 * w, 1e-7);
        }
    }
}

/* Micro-batches that know the whole's counts add up to it; masked sequences are as if absent. */
static void test_parts_add_up(void **state)
{
    json_t *root = load_batch();
    const unsigned char masked[SEQUENCES] = {0, 0, 1, 0, 0, 1};
    for (int aggregation = 0; aggregation < 3; aggregation++) {
        struct siren_policy_options o = siren_policy_defaults();
        struct siren_policy_batch part = batch;
        struct siren_policy_result whole, r;
        float g[TOKENS], h[TOKENS];
        double sum = 0;
        o.aggregation = aggregation;
        o.constant_length = 20;
        part.masked = masked;
        assert_int_equal(siren_policy_loss(&o, &part, g, NULL, &whole, &err), 0);
        assert_int_equal(whole.n_tokens, 25);
        for (size_t t = first[2]; t < first[3]; t++) assert_true(g[t] == 0);
        part.n_sequences = 1;
        part.all_sequences = 4;
        part.all_tokens = 25;
        for (int s = 0; s < SEQUENCES; s++) {
            const size_t range[2] = {0, first[s + 1] - first[s]};
            if (masked[s]) continue;
            part.masked = NULL;
            part.first = range;
            part.advantages = &advantages[s];
            part.logprob = logprob + first[s];
            part.old = old + first[s];
            part.reference = reference + first[s];
            part.entropies = entropies + first[s];
            assert_int_equal(siren_policy_loss(&o, &part, h, NULL, &r, &err), 0);
            assert_memory_equal(h, g + first[s], range[1] * sizeof *h);
            sum += r.loss;
        }
        near(sum, whole.loss, 1e-14);
    }
    json_decref(root);
}

static void test_what_is_refused(void **state)
{
    json_t *root = load_batch();
    struct siren_policy_options o = siren_policy_defaults();
    struct siren_policy_batch b = batch;
    struct siren_policy_result r;
    float g[TOKENS];
    o.dual_clip = 1.1;
    assert_int_equal(siren_policy_loss(&o, &b, g, NULL, &r, &err), SIREN_EINVAL);
    o = siren_policy_defaults(), o.clip_low = 1.5;
    assert_int_equal(siren_policy_loss(&o, &b, g, NULL, &r, &err), SIREN_EINVAL);
    o = siren_policy_defaults(), o.aggregation = SIREN_CONSTANT_LENGTH;
    assert_int_equal(siren_policy_loss(&o, &b, g, NULL, &r, &err), SIREN_EINVAL);
    o = siren_policy_defaults(), b.reference = NULL;
    assert_int_equal(siren_policy_loss(&o, &b, g, NULL, &r, &err), SIREN_EINVAL);
    b = batch, b.entropies = NULL, o.entropy = 0.01;
    assert_int_equal(siren_policy_loss(&o, &b, g, NULL, &r, &err), SIREN_EINVAL);
    o = siren_policy_defaults(), logprob[first[3] + 2] = NAN;
    assert_int_equal(siren_policy_loss(&o, &batch, g, NULL, &r, &err), SIREN_ENUMERIC);
    assert_non_null(strstr(err.message, "token 2 of sequence 3"));
    logprob[first[3] + 2] = 1000; /* the ratio overflows */
    assert_int_equal(siren_policy_loss(&o, &batch, g, NULL, &r, &err), SIREN_ENUMERIC);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rewards_by_hand),
        cmocka_unit_test(test_advantages),
        cmocka_unit_test(test_advantages_equal_trl),
        cmocka_unit_test(test_loss_equals_trl),
        cmocka_unit_test(test_k1_equals_trl),
        cmocka_unit_test(test_clipping_by_hand),
        cmocka_unit_test(test_kl_estimators_by_finite_differences),
        cmocka_unit_test(test_kl_estimators_by_hand),
        cmocka_unit_test(test_means_and_entropy_by_hand),
        cmocka_unit_test(test_parts_add_up),
        cmocka_unit_test(test_what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
