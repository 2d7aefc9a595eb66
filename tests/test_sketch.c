#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "siren/random.h"
#include "siren/sketch.h"
#include "siren/workspace.h"

#define DAY 86400000LL
#define YEAR (365.25 * 86400000.0)

static struct siren_error err;
static const char *const names[] = {"war", "comedy", "animals", "space"};

static struct siren_sketch_event event(double rating, int topic, int64_t time)
{
    return (struct siren_sketch_event){rating, time, {topic, -1}, {1, 0}};
}

static void same_exact_part(const struct siren_topic_state *a, const struct siren_topic_state *b)
{
    assert_memory_equal(&a->weight, &b->weight, sizeof a->weight);
    assert_memory_equal(&a->sum, &b->sum, sizeof a->sum);
    assert_int_equal(a->liked, b->liked);
    assert_int_equal(a->disliked, b->disliked);
    assert_true(fabs(a->decayed_weight - b->decayed_weight) <= 1e-12);
    assert_true(fabs(a->decayed_sum - b->decayed_sum) <= 1e-11);
}

/* Adding, correcting and taking away in any order equals recomputation: the undecayed sums to
 * the bit, on every scale, soft or not. */
static void test_updates_equal_recomputation(void **state)
{
    enum { N = 300, K = 4 };
    struct siren_sketch_event events[N];
    for (int step = 0; step < 3; step++) {
        struct siren_topic_state moved[K], fresh[K];
        memset(moved, 0, sizeof moved);
        for (int i = 0; i < N; i++) {
            uint64_t c = (uint64_t)i;
            double distances[2] = {siren_random_uniform(1, 0, c),
                                   1 + siren_random_uniform(1, 1, c)};
            int topic = (int)siren_random_below(1, 2, c, K);
            double rating = step == 0   ? 1 + (double)siren_random_below(1, 3, c, 5)
                            : step == 1 ? 0.5 + 0.5 * (double)siren_random_below(1, 3, c, 10)
                                        : 1 + 0.1 * (double)siren_random_below(1, 3, c, 91);
            events[i] = event(rating, topic, 1500000000000LL + (int64_t)(c * 977 % 1000) * DAY);
            if (i % 10 == 3) events[i].time = SIREN_NO_TIME;
            events[i].topics[1] = (topic + 1) % K;
            siren_sketch_soft(distances, events[i].weights);
        }
        /* all in one order, then the middle third taken away and put back corrected, late */
        for (int i = N - 1; i >= 0; i--) siren_sketch_add(moved, K, &events[i], 4);
        for (int i = 100; i < 200; i++) siren_sketch_remove(moved, K, &events[i], 4);
        for (int i = 100; i < 200; i++) events[i].rating = 5 - events[i].rating / 2;
        for (int i = 199; i >= 100; i--) siren_sketch_add(moved, K, &events[i], 4);
        siren_sketch_compute(fresh, K, events, N, 4);
        for (int c = 0; c < K; c++) same_exact_part(&moved[c], &fresh[c]);
    }
}

static void test_empty_again(void **state)
{
    struct siren_topic_state s;
    siren_topic_state_clear(&s);
    siren_topic_state_add(&s, 4.1, 1, 5 * DAY, 4);
    siren_topic_state_add(&s, 3.3, 1, 900 * DAY, 4);
    siren_topic_state_remove(&s, 4.1, 1, 5 * DAY, 4);
    siren_topic_state_remove(&s, 3.3, 1, 900 * DAY, 4);
    assert_true(s.weight == 0 && s.sum == 0 && s.decayed_weight == 0 && s.decayed_sum == 0);
    assert_int_equal(s.liked + s.disliked, 0);
    assert_true(s.time == SIREN_NO_TIME);
}

static void test_decay_halves_in_a_year(void **state)
{
    struct siren_topic_state s;
    siren_topic_state_clear(&s);
    int64_t t = 1000 * DAY, year = (int64_t)YEAR;
    siren_topic_state_add(&s, 1, 1, t, 4);
    siren_topic_state_add(&s, 5, 1, t + year, 4);
    assert_true(fabs(s.decayed_weight - 1.5) < 1e-12);
    assert_true(fabs(s.decayed_sum - 5.5) < 1e-12);
    siren_topic_state_add(&s, 3, 1, t - year, 4); /* late */
    assert_true(fabs(s.decayed_weight - 1.75) < 1e-12);
    assert_true(s.time == t + year);
    siren_topic_state_add(&s, 3, 1, SIREN_NO_TIME, 4); /* of unknown age */
    assert_true(fabs(s.decayed_weight - 1.75) < 1e-12);
    assert_true(s.weight == 4);
}

static void read_it(struct siren_sketch *out, const struct siren_sketch_event *events, size_t n,
                    struct siren_sketch_options o)
{
    struct siren_topic_state states[4];
    siren_sketch_compute(states, 4, events, n, 4);
    assert_int_equal(siren_sketch_read(out, states, 4, names, &o, &err), 0);
}

static void test_mean_rule_and_order(void **state)
{
    struct siren_sketch_event e[] = {
        event(5, 0, 1), event(3, 0, 2), /* war: mean 4, liked */
        event(5, 2, 3), event(4, 2, 4), /* animals: as much support; by name before war */
        event(3, 1, 5), event(5, 1, 6), event(3, 1, 7), /* comedy: 3.67, disliked */
    };
    struct siren_sketch s;
    read_it(&s, e, 7, (struct siren_sketch_options){.theta = 4});
    assert_int_equal(s.n_liked, 2);
    assert_string_equal(s.liked[0].name, "animals");
    assert_string_equal(s.liked[1].name, "war");
    assert_int_equal(s.liked[1].liked, 1);
    assert_int_equal(s.liked[1].count, 2);
    assert_int_equal(s.n_disliked, 1);
    assert_int_equal(s.disliked[0].topic, 1);
    assert_int_equal(s.disliked[0].count, 3);
    siren_sketch_clear(&s);
}

static void test_majority_rule(void **state)
{
    struct siren_sketch_event e[] = {
        event(5, 0, 1), event(1, 0, 2),                 /* a tie is dropped */
        event(4, 1, 3), event(4, 1, 4), event(1, 1, 5), /* 2 of 3: liked, though the mean is 3 */
        event(2, 3, 6),
    };
    struct siren_sketch s;
    read_it(&s, e, 6, (struct siren_sketch_options){.rule = SIREN_RULE_MAJORITY, .theta = 4});
    assert_int_equal(s.n_liked, 1);
    assert_int_equal(s.liked[0].topic, 1);
    assert_int_equal(s.n_disliked, 1);
    assert_int_equal(s.disliked[0].topic, 3);
    assert_int_equal(s.n_tied, 1);
    siren_sketch_clear(&s);
    read_it(&s, e, 6, (struct siren_sketch_options){.theta = 4, .min_support = 2});
    assert_int_equal(s.n_liked + s.n_disliked, 2);
    assert_int_equal(s.n_slight, 1);
    assert_int_equal(s.n_tied, 0);
    siren_sketch_clear(&s);
}

static void test_decay_option(void **state)
{
    int64_t t = 20000 * DAY;
    struct siren_sketch_event e[] = {
        event(5, 0, t - 3000 * DAY),
        event(5, 0, t - 2900 * DAY),
        event(1, 0, t),
        event(4, 1, t),
    };
    struct siren_sketch s;
    read_it(&s, e, 4, (struct siren_sketch_options){.theta = 3.5});
    assert_int_equal(s.n_liked, 2); /* war: 11/3 */
    siren_sketch_clear(&s);
    struct siren_sketch_options o = {.theta = 3.5, .decay = 1, .now = t + (int64_t)YEAR};
    read_it(&s, e, 4, o);
    assert_int_equal(s.n_liked, 1);
    assert_int_equal(s.disliked[0].topic, 0);
    assert_true(fabs(s.liked[0].support - 0.5) < 1e-12);
    siren_sketch_clear(&s);
}

/* Three that are four years old are less than one of today, also without a moment to read at. */
static void test_decay_is_read_at_one_moment(void **state)
{
    int64_t t = 20000 * DAY, old = t - 4 * (int64_t)YEAR;
    struct siren_sketch_event e[] = {event(5, 0, old), event(5, 0, old), event(5, 0, old),
                                     event(5, 2, t), event(5, 3, SIREN_NO_TIME)};
    struct siren_sketch s;
    for (int i = 0; i < 2; i++) {
        struct siren_sketch_options o = {
            .theta = 4, .decay = 1, .now = i ? SIREN_NO_TIME : t, .min_support = 0.5};
        read_it(&s, e, 5, o);
        assert_int_equal(s.n_liked, 2);
        assert_int_equal(s.liked[0].topic, 2);
        assert_true(s.liked[0].support == 1);
        siren_sketch_clear(&s);
        o.min_support = 0;
        read_it(&s, e, 5, o);
        assert_int_equal(s.n_liked, 3);
        assert_int_equal(s.liked[2].topic, 0);
        assert_true(fabs(s.liked[2].support - 3. / 16) < 1e-12);
        siren_sketch_clear(&s);
    }
}

/* Ratings come from floats, theta is a double. */
static void test_liked(void **state)
{
    assert_true(siren_is_liked(4, 4) && siren_is_liked(3.8f, 3.8) && siren_is_liked(0.7f, 0.7));
    assert_false(siren_is_liked(3.6f, 3.8) || siren_is_liked(3.5, 4));
}

/* Thirds of a tenth: a mean that is theta on paper counts as liked. */
static void test_theta_is_reached(void **state)
{
    struct siren_sketch_event e[] = {event(3.9, 0, 1), event(3.9, 0, 2), event(4.2, 0, 3)};
    struct siren_sketch s;
    read_it(&s, e, 3, (struct siren_sketch_options){.theta = 4});
    assert_int_equal(s.n_liked, 1);
    siren_sketch_clear(&s);
    struct siren_sketch_event low[] = {event((double)4.1f, 0, 1), event(3.8, 0, 2)};
    read_it(&s, low, 2, (struct siren_sketch_options){.theta = 4});
    assert_int_equal(s.n_liked, 0);
    siren_sketch_clear(&s);
}

static void test_soft_weights(void **state)
{
    double w[2];
    siren_sketch_soft((double[]){1, 3}, w);
    assert_true(w[0] == 0.75 && w[1] == 0.25);
    siren_sketch_soft((double[]){0, 0}, w);
    assert_true(w[0] == 0.5 && w[1] == 0.5);
    siren_sketch_soft((double[]){0, 2}, w);
    assert_true(w[0] == 1 && w[1] == 0);
    siren_sketch_soft((double[]){1, INFINITY}, w); /* there is only one topic */
    assert_true(w[0] == 1 && w[1] == 0);
}

static void test_theta_of_scales(void **state)
{
    assert_true(siren_scale_theta(&(struct siren_scale){1, 5, 1}) == 4);
    assert_true(siren_scale_theta(&(struct siren_scale){0.5, 5, 0.5}) == 3.875);
}

static void test_nothing(void **state)
{
    struct siren_sketch s;
    read_it(&s, NULL, 0, (struct siren_sketch_options){.theta = 4});
    assert_int_equal(s.n_liked + s.n_disliked, 0);
    siren_sketch_clear(&s);
    struct siren_sketch_event outside = event(5, 9, 1), none = event(5, -1, 1);
    struct siren_topic_state states[4];
    memset(states, 0, sizeof states);
    siren_sketch_add(states, 4, &outside, 4);
    siren_sketch_add(states, 4, &none, 4);
    for (int c = 0; c < 4; c++) assert_true(states[c].weight == 0);
    assert_int_equal(
        siren_sketch_read(&s, states, -1, names, &(struct siren_sketch_options){.theta = 4}, &err),
        SIREN_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_updates_equal_recomputation),
        cmocka_unit_test(test_empty_again),
        cmocka_unit_test(test_decay_halves_in_a_year),
        cmocka_unit_test(test_mean_rule_and_order),
        cmocka_unit_test(test_majority_rule),
        cmocka_unit_test(test_decay_option),
        cmocka_unit_test(test_decay_is_read_at_one_moment),
        cmocka_unit_test(test_liked),
        cmocka_unit_test(test_theta_is_reached),
        cmocka_unit_test(test_soft_weights),
        cmocka_unit_test(test_theta_of_scales),
        cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
