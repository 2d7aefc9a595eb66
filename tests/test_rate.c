#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "siren/random.h"
#include "workspace_fixture.h"

enum { N_ITEMS = 12, K = 3 };
#define DAY 86400000LL

/* Users a and b, N_ITEMS items in K topics, item 11 in none. */
static struct siren_workspace *start(const char *name, int soft)
{
    struct siren_workspace *ws = import_text(
        name, "user,item,rating,time\na,i0,3,2010-01-05\na,i1,4,\nb,i0,1,2010-01-01\n", NULL, NULL);
    struct siren_topics t;
    for (int i = 2; i < N_ITEMS; i++) {
        char external[8];
        int id;
        snprintf(external, sizeof external, "i%d", i);
        ok(siren_item_add(ws, &(struct siren_item){.external = external}, &id, &err));
    }
    ok(siren_topics_create(&t, K, 1, N_ITEMS, &err));
    for (int i = 0; i < N_ITEMS - 1; i++) {
        t.topic[i] = i % K;
        t.distance[i] = 0.1f * (float)(i + 1);
        t.second[i] = (i + 1) % K;
        t.second_distance[i] = 2;
    }
    ok(siren_topics_save(ws, &t, &err));
    ok(siren_sketch_soft_save(ws, soft, &err));
    siren_topics_clear(&t);
    return ws;
}

/* As they are read at one later time. */
static void expect_decayed(const struct siren_topic_state *a, const struct siren_topic_state *b,
                           double theta)
{
    static const char *const names[K] = {"a", "b", "c"};
    struct siren_sketch_options at_once = {
        .theta = theta, .decay = 1, .now = 1400000000000, .min_support = 1e-6};
    struct siren_sketch x, y;
    ok(siren_sketch_read(&x, a, K, names, &at_once, &err));
    ok(siren_sketch_read(&y, b, K, names, &at_once, &err));
    assert_int_equal(x.n_liked, y.n_liked);
    assert_int_equal(x.n_disliked, y.n_disliked);
    for (size_t i = 0; i < x.n_liked; i++) {
        assert_int_equal(x.liked[i].topic, y.liked[i].topic);
        assert_true(fabs(x.liked[i].mean - y.liked[i].mean) < 1e-9);
        assert_true(fabs(x.liked[i].support - y.liked[i].support) < 1e-9);
    }
    siren_sketch_clear(&x);
    siren_sketch_clear(&y);
}

static void expect_sketch(struct siren_workspace *ws, int user, int soft)
{
    struct siren_ratings r;
    struct siren_topics t;
    struct siren_topic_state states[K], stored[K];
    struct siren_sketch_row *rows;
    size_t n_rows;
    ok(siren_ratings_load(&r, ws, &err)); /* also checks that the sequence is 0, 1, 2, … */
    ok(siren_topics_load(&t, ws, &err));
    for (int k = 0; k < K; k++) {
        siren_topic_state_clear(states + k);
        siren_topic_state_clear(stored + k);
    }
    double theta = siren_scale_theta(&r.scale);
    for (size_t i = r.user_start[user]; i < r.user_start[user + 1]; i++) {
        int item = r.item[i];
        struct siren_sketch_event event = {.rating = (double)r.rating[i],
                                           .time = r.time[i],
                                           .topics = {t.topic[item], -1},
                                           .weights = {1, 0}};
        double distances[2] = {(double)t.distance[item], (double)t.second_distance[item]};
        if (soft && t.topic[item] >= 0) {
            event.topics[1] = t.second[item];
            siren_sketch_soft(distances, event.weights);
        }
        siren_sketch_add(states, K, &event, theta);
    }
    ok(siren_sketch_rows_load(ws, user, &rows, &n_rows, &err));
    for (size_t i = 0; i < n_rows; i++) stored[rows[i].topic] = rows[i].state;
    for (int k = 0; k < K; k++) {
        assert_true(states[k].weight == stored[k].weight && states[k].sum == stored[k].sum);
        assert_int_equal(states[k].liked, stored[k].liked);
        assert_int_equal(states[k].disliked, stored[k].disliked);
    }
    expect_decayed(states, stored, theta);
    free(rows);
    siren_topics_clear(&t);
    siren_ratings_clear(&r);
}

/* Known times ascend within a user. */
static void expect_order(struct siren_workspace *ws)
{
    struct siren_ratings r;
    ok(siren_ratings_load(&r, ws, &err));
    for (int u = 0; u < r.n_users; u++) {
        int64_t last = SIREN_NO_TIME;
        for (size_t i = r.user_start[u]; i < r.user_start[u + 1]; i++) {
            if (r.time[i] == SIREN_NO_TIME) continue;
            assert_true(r.time[i] >= last);
            last = r.time[i];
        }
    }
    siren_ratings_clear(&r);
}

static void random_ratings(const char *name, int soft)
{
    struct siren_workspace *ws = start(name, soft);
    int last_topic = -1; /* of the last item */
    for (uint64_t i = 0; i < 120; i++) {
        if (i % 40 == 39) { /* who rated it has it in his sketch now, or elsewhere */
            last_topic = (int)(i / 40 + 1) % K;
            ok(siren_topic_assign(ws, N_ITEMS - 1, last_topic, 0.5f, (last_topic + 1) % K, 2,
                                  &err));
            for (int u = 0; u < 2; u++) expect_sketch(ws, u, soft);
        }
        int user = (int)siren_random_below(5, 1, i, 2);
        int item = (int)siren_random_below(5, 2, i, N_ITEMS);
        double rating = 1 + (double)siren_random_below(5, 3, i, 5);
        int64_t time = siren_random_below(5, 4, i, 4)
                           ? 1262304000000 + (int64_t)siren_random_below(5, 5, i, 1000) * DAY
                           : SIREN_NO_TIME;
        struct siren_rate_result result;
        ok(siren_rate(ws, user, item, rating, time, &result, &err));
        assert_int_equal(result.topic, item == N_ITEMS - 1 ? last_topic : item % K);
        if (item != N_ITEMS - 1 || last_topic >= 0) expect_sketch(ws, user, soft);
        expect_order(ws);
    }
    siren_workspace_close(ws);
}

static void test_sketch_equals_recomputation(void **state)
{
    random_ratings("hard.siren", 0);
    random_ratings("soft.siren", 1);
}

static void test_results(void **state)
{
    struct siren_workspace *ws = start("results.siren", 0);
    struct siren_rate_result r;
    struct siren_ratings ratings;
    int64_t day6 = 1262736000000; /* 2010-01-06 */
    ok(siren_rate(ws, 0, 2, 5, day6, &r, &err));
    assert_int_equal(r.corrected, 0);
    assert_int_equal(r.sequence, 2);
    assert_int_equal(r.late, 0);
    ok(siren_rate(ws, 0, 3, 2, day6 - 3 * DAY, &r, &err)); /* before i0's */
    assert_int_equal(r.sequence, 1);
    assert_int_equal(r.late, 1);
    assert_int_equal(r.order_changed, 1);
    ok(siren_rate(ws, 0, 2, 1, SIREN_NO_TIME, &r, &err)); /* corrected, time kept */
    assert_int_equal(r.corrected, 1);
    assert_true(r.previous == 5 && r.time == day6);
    assert_int_equal(r.order_changed, 0);
    ok(siren_rate(ws, 0, 2, 1, day6 - 4 * DAY, &r, &err)); /* corrected to an earlier day */
    assert_int_equal(r.sequence, 1);
    assert_int_equal(r.order_changed, 1);
    ok(siren_rate(ws, 0, 4, 3, SIREN_NO_TIME, &r, &err));
    assert_int_equal(r.sequence, 4);
    ok(siren_ratings_load(&ratings, ws, &err));
    const int32_t order[] = {1, 2, 3, 0, 4}; /* i1 has no time: first by the import */
    assert_memory_equal(ratings.item, order, sizeof order);
    assert_int_equal(ratings.label[1], SIREN_LABEL_NONE);
    assert_int_equal(ratings.label[0], SIREN_LABEL_TRAIN);
    assert_int_equal(ratings.label[3], SIREN_LABEL_TEST);
    siren_ratings_clear(&ratings);
    siren_workspace_close(ws);
}

static void test_errors(void **state)
{
    struct siren_workspace *ws = start("errors.siren", 0);
    expect_error(siren_rate(ws, 0, 0, 5.5, 0, NULL, &err), SIREN_EINVAL, "5.5: expected 1 to 5");
    expect_error(siren_rate(ws, 0, 0, 3.5, 0, NULL, &err), SIREN_EINVAL, "steps of 1");
    expect_error(siren_rate(ws, 0, 0, NAN, 0, NULL, &err), SIREN_EINVAL, "nan");
    expect_error(siren_rate(ws, 7, 0, 5, 0, NULL, &err), SIREN_ENOTFOUND, "user of id 7");
    expect_error(siren_rate(ws, 0, 77, 5, 0, NULL, &err), SIREN_ENOTFOUND, "item of id 77");
    sql(ws, "UPDATE item_topics SET topic = 9 WHERE item = 1");
    expect_error(siren_rate(ws, 0, 1, 5, 0, NULL, &err), SIREN_EFORMAT, "topic 9 of 3");
    assert_int_equal(number(ws, "SELECT count(*) FROM ratings"), 3);
    siren_workspace_close(ws);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sketch_equals_recomputation),
        cmocka_unit_test(test_results),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
