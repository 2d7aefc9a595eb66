#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "siren/metrics.h"
#include "siren/random.h"
#include "store/store.h"
#include "workspace_fixture.h"

/* ---- the scale ---- */

static void test_scale(void **state)
{
    struct siren_scale stars = {1, 5, 1}, half = {0.5, 5, 0.5}, bad = {1, 5, 0.3}, none = {1, 5, 0};
    char text[32];
    assert_int_equal(siren_scale_labels(&stars), 5);
    assert_int_equal(siren_scale_labels(&half), 10);
    assert_int_equal(siren_scale_labels(&bad), 0);
    assert_int_equal(siren_scale_labels(&none), 0);
    assert_int_equal(siren_scale_label(&half, 3.5), 6);
    assert_int_equal(siren_scale_label(&stars, 3.4), 2);
    assert_int_equal(siren_scale_label(&stars, 0.5), -1);
    assert_int_equal(siren_scale_label(&stars, 5.5), -1);
    assert_int_equal(siren_scale_label(&stars, NAN), -1);
    assert_int_equal(siren_scale_exact_label(&half, 3.5), 6);
    assert_int_equal(siren_scale_exact_label(&half, 3.5 + 2e-6), -1);
    assert_int_equal(siren_scale_exact_label(&half, (double)4.5F + 5e-7), 8);
    assert_int_equal(siren_scale_exact_label(&stars, 3.4), -1);
    assert_int_equal(siren_scale_exact_label(&stars, 5.5), -1);
    assert_int_equal(siren_scale_exact_label(&stars, NAN), -1);
    static const struct siren_scale fine[] = {{90, 100, 0.1}, {0, 40, 0.4}, {0, 99.9, 0.1}};
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++)
        for (int k = 0; k < siren_scale_labels(&fine[i]); k++) {
            float rating = (float)siren_scale_value(&fine[i], k);
            assert_int_equal(siren_scale_exact_label(&fine[i], (double)rating), k);
        }
    static const struct siren_scale huge[] = {
        {1e8, 1e8 + 10, 1}, {16777216, 16777226, 1}, {1e9, 1e9 + 100, 1}};
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++)
        for (int k = -300; k < 300; k++) { /* never a label beyond the ends */
            int label = siren_scale_label(&huge[i], huge[i].min + k);
            assert_int_equal(label, k < 0 || k >= siren_scale_labels(&huge[i]) ? -1 : k);
        }
    siren_scale_text(&half, 6, text);
    assert_string_equal(text, "3.5");
    siren_scale_text(&stars, 4, text);
    assert_string_equal(text, "5");
    static const struct siren_scale thirds = {0, 1, 1.0 / 3}, million = {999998, 1000002, 1};
    siren_scale_text(&thirds, 1, text);
    assert_string_equal(text, "0.333333");
    siren_scale_text(&million, 1, text);
    assert_string_equal(text, "999999");
    siren_scale_text(&million, 3, text);
    assert_string_equal(text, "1000001");
    struct siren_scale parsed;
    ok(siren_scale_parse("0.5:5:0.5", &parsed, &err));
    assert_int_equal(siren_scale_labels(&parsed), 10);
    ok(siren_scale_parse("1:10", &parsed, &err));
    assert_int_equal(siren_scale_labels(&parsed), 10);
    const char *wrong[] = {"",    "1",    "5:1", "1:5:0",   "1:5:1:1",
                           "a:b", "1:5:", "1:1", "1:5:0.3", "nan:5"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        expect_error(siren_scale_parse(wrong[i], &parsed, &err), SIREN_EINVAL, "0.5:5:0.5");
    ok(siren_scale_parse("0:100", &parsed, &err));
    assert_int_equal(siren_scale_labels(&parsed), SIREN_MAX_LABELS);
    ok(siren_scale_parse("0:1:0.01", &parsed, &err));
    assert_int_equal(siren_scale_labels(&parsed), SIREN_MAX_LABELS);
    expect_error(siren_scale_parse("0:101", &parsed, &err), SIREN_EINVAL,
                 "scale 0:101:1: 102 labels, expected 2 to 101; a larger STEP makes fewer");
    assert_int_equal(siren_scale_labels(&parsed), 0);
    expect_error(siren_scale_parse("1:1e9", &parsed, &err), SIREN_EINVAL, "1000000000 labels");
    int label;
    ok(siren_label_parse("history", &label, &err));
    assert_int_equal(label, SIREN_LABEL_HISTORY);
    expect_error(siren_label_parse("tset", &label, &err), SIREN_EINVAL, "'tset'");
    assert_string_equal(siren_label_name(SIREN_LABEL_TEST), "test");
    assert_string_equal(siren_label_name(77), "?");
}

/* ---- splits ---- */

/* Users of 1, 2, 3 and 6 ratings, one a day; one rating of the last has no time. */
static struct siren_workspace *staircase(const char *name, struct siren_ratings *r)
{
    static const char csv[] =
        "user,item,rating,time\na,p,1,2020-01-01\nb,p,2,2020-01-02\nb,q,3,2020-01-03\n"
        "c,p,4,2020-01-04\nc,q,5,2020-01-05\nc,r,1,2020-01-06\n"
        "d,p,2,2020-01-07\nd,q,3,2020-01-08\nd,r,4,2020-01-09\nd,s,5,2020-01-10\n"
        "d,t,1,2020-01-11\nd,u,2,\n";
    struct siren_workspace *ws = import_text(name, csv, NULL, NULL);
    ok(siren_ratings_load(r, ws, &err));
    assert_int_equal(r->n, 12);
    return ws;
}

static void test_leave_last_out(void **state)
{
    struct siren_ratings r;
    struct siren_workspace *ws = staircase("last.siren", &r);
    memset(r.label, 0, r.n);
    siren_split_leave_last_out(&r);
    const uint8_t labels[] = {1, 1, 3, 1, 2, 3, 1, 1, 1, 1, 2, 3};
    assert_memory_equal(r.label, labels, sizeof labels);
    assert_true(r.time[6] == SIREN_NO_TIME); /* d's rating without a time comes first */
    siren_ratings_clear(&r);
    siren_workspace_close(ws);
}

static void test_time_split(void **state)
{
    struct siren_ratings r;
    struct siren_workspace *ws = staircase("time.siren", &r);
    int64_t train, valid;
    ok(siren_split_fractions(&r, 0.5, 0.25, &train, &valid, &err));
    ok(siren_split_time(&r, train, valid, &err));
    int count[5] = {0};
    for (size_t i = 0; i < r.n; i++) {
        count[r.label[i]]++;
        if (r.time[i] != SIREN_NO_TIME)
            assert_int_equal(r.label[i], r.time[i] < train ? 1 : r.time[i] < valid ? 2 : 3);
    }
    assert_int_equal(count[SIREN_LABEL_TRAIN], 6);
    assert_int_equal(count[SIREN_LABEL_VALID], 2);
    assert_int_equal(count[SIREN_LABEL_TEST], 3);
    assert_int_equal(count[SIREN_LABEL_HISTORY], 1);
    ok(siren_split_save(ws, &r, 0, "global-time", "{\"x\":1}", &err));
    expect_error(siren_split_time(&r, valid, train, &err), SIREN_EINVAL, "in order");
    expect_error(siren_split_fractions(&r, 0.9, 0.2, &train, &valid, &err), SIREN_EINVAL, "shares");
    struct siren_ratings again;
    int64_t n;
    ok(siren_ratings_load(&again, ws, &err));
    assert_memory_equal(again.label, r.label, r.n);
    ok(store_integer(
        ws,
        "SELECT count(*) FROM splits WHERE kind = 'labels' AND name = 'global-time' AND"
        " folds = 0 AND settings = '{\"x\":1}'",
        0, &n, &err));
    assert_int_equal(n, 1);
    ok(store_integer(ws, "SELECT count(*) FROM splits", 0, &n, &err));
    assert_int_equal(n, 1);
    for (size_t i = 0; i < r.n; i++) r.time[i] = SIREN_NO_TIME;
    expect_error(siren_split_fractions(&r, 0.8, 0.1, &train, &valid, &err), SIREN_EFORMAT,
                 "no rating has a time");
    siren_ratings_clear(&again);
    siren_ratings_clear(&r);
    siren_workspace_close(ws);
}

static void test_folds(void **state)
{
    struct siren_ratings r, again;
    struct siren_workspace *ws = staircase("folds.siren", &r);
    expect_error(siren_ratings_use_fold(&r, 0, 0, 1, &err), SIREN_EINVAL, "no folds");
    ok(siren_split_folds(&r, 5, 42, &err));
    int size[5] = {0};
    for (size_t i = 0; i < r.n; i++) size[r.fold[i]]++;
    for (int f = 0; f < 5; f++) assert_in_range(size[f], 2, 3);
    ok(siren_split_save(ws, &r, 1, "k-fold", "{}", &err));
    ok(siren_ratings_load(&again, ws, &err));
    assert_int_equal(again.n_folds, 5);
    assert_memory_equal(again.fold, r.fold, r.n);
    ok(siren_ratings_use_fold(&again, 2, 0, 1, &err));
    for (size_t i = 0; i < r.n; i++)
        assert_int_equal(again.label[i], r.fold[i] == 2 ? SIREN_LABEL_TEST : SIREN_LABEL_TRAIN);
    /* What is held out is in nobody's history. */
    size_t rows[12];
    for (size_t i = 0; i < r.n; i++) {
        size_t n = siren_history(&again, i, 0, rows);
        for (size_t k = 0; k < n; k++) assert_int_equal(again.label[rows[k]], SIREN_LABEL_TRAIN);
    }
    ok(siren_ratings_use_fold(&again, 2, 0.5, 1, &err));
    int valid = 0;
    for (size_t i = 0; i < r.n; i++) valid += again.label[i] == SIREN_LABEL_VALID;
    assert_in_range(valid, 1, 9);
    expect_error(siren_ratings_use_fold(&again, 5, 0, 1, &err), SIREN_EINVAL, "0 to 4");
    uint8_t *before = malloc(r.n);
    memcpy(before, r.label, r.n);
    ok(siren_ratings_use_fold(&r, 1, 0.5, 1, &err));
    ok(siren_ratings_use_fold(&r, 0, 0.5, 2, &err));
    assert_true(memcmp(before, r.label, r.n) != 0 && r.fold_seed == 2);
    ok(siren_ratings_use_fold(&r, -1, 0, 0, &err));
    assert_memory_equal(before, r.label, r.n);
    assert_int_equal(r.current_fold, -1);
    free(before);
    expect_error(siren_ratings_use_fold(&again, 0, 1.5, 1, &err), SIREN_EINVAL, "1.5");
    expect_error(siren_split_folds(&r, 1, 0, &err), SIREN_EINVAL, "2 to 254");
    expect_error(siren_split_folds(&r, 13, 0, &err), SIREN_EFORMAT, "of 12 ratings");
    siren_ratings_clear(&again);
    siren_ratings_clear(&r);
    siren_workspace_close(ws);
}

/* ---- point in time ---- */

static void test_history(void **state)
{
    struct siren_ratings r;
    struct siren_workspace *ws = staircase("history.siren", &r);
    size_t rows[12], test = 11, valid = 10;
    assert_int_equal(r.label[test], SIREN_LABEL_TEST);
    r.protocol = SIREN_PROTOCOL_FULL;
    assert_int_equal(siren_history(&r, test, 0, rows), 5);
    assert_int_equal(rows[0], 6);
    assert_int_equal(rows[4], 10);
    r.protocol = SIREN_PROTOCOL_PAPER;
    assert_int_equal(siren_history(&r, test, 0, rows), 4);
    assert_int_equal(rows[3], 9);
    assert_int_equal(siren_history(&r, valid, 0, NULL), 4);
    assert_int_equal(siren_history(&r, 0, 0, rows), 0);
    assert_int_equal(siren_history(&r, test, 1, rows), 4); /* the one that the protocol hides */
    assert_int_equal(rows[3], 9);
    assert_int_equal(siren_history(&r, test, 2, rows), 3);
    assert_int_equal(rows[2], 8);
    assert_int_equal(siren_history(&r, valid, 1, rows), 3);
    assert_int_equal(siren_history(&r, valid, 4, rows), 0);
    assert_int_equal(siren_history(&r, valid, SIZE_MAX, rows), 0);
    assert_int_equal(siren_history(&r, 0, 1, rows), 0);
    assert_int_equal(siren_history_now(&r, 3, 2, rows), 4);
    assert_int_equal(rows[3], 9);
    assert_int_equal(siren_history_now(&r, 3, 0, rows), 6);
    assert_int_equal(siren_history_now(&r, -1, 0, rows), 0);
    assert_int_equal(siren_history_now(&r, 4, 0, rows), 0);
    assert_true(siren_row_precedes(&r, 0, 3));
    assert_false(siren_row_precedes(&r, 3, 0));
    assert_false(siren_row_precedes(&r, 2, 3)); /* does not train */
    assert_false(siren_row_precedes(&r, 6, 3)); /* has no time */
    assert_false(siren_row_precedes(&r, 0, 6));
    siren_ratings_clear(&r);
    siren_workspace_close(ws);
}

/* What a target may know: its history and the rows of others before it, as (user, item, rating). */
struct known {
    int32_t user, item;
    float rating;
};

static size_t all_known(const struct siren_ratings *r, int user, int item, struct known *out)
{
    size_t target = siren_ratings_row(r, user, item), n = 0, rows[100];
    assert_true(target != SIZE_MAX);
    size_t n_history = siren_history(r, target, 0, rows);
    for (size_t i = 0; i < n_history; i++)
        out[n++] = (struct known){r->user[rows[i]], r->item[rows[i]], r->rating[rows[i]]};
    for (size_t i = 0; i < r->n; i++)
        if (siren_row_precedes(r, i, target))
            out[n++] = (struct known){r->user[i], r->item[i], r->rating[i]};
    return n;
}

/* Ratings planted later, of this user and of others, change nothing of what a target may know. */
static void test_planted_future(void **state)
{
    struct siren_ratings before, after;
    struct siren_workspace *ws = staircase("leak.siren", &before);
    int64_t later = 1600000000000; /* 2020-09-13 */
    for (int user = 0; user < 4; user++)
        for (int item = 0; item < 6; item++)
            if (siren_ratings_row(&before, user, item) == SIZE_MAX)
                ok(siren_rate(ws, user, item, 5, later + item, NULL, &err));
    /* And the held-out ratings take other values. */
    sql(ws, "UPDATE ratings SET rating = 6 - rating WHERE label = 3");
    ok(siren_ratings_load(&after, ws, &err));
    assert_int_equal(after.n, 24);
    for (size_t i = 0; i < before.n; i++) {
        struct known a[200], b[200];
        size_t n = all_known(&before, before.user[i], before.item[i], a);
        assert_int_equal(all_known(&after, before.user[i], before.item[i], b), n);
        assert_memory_equal(a, b, n * sizeof *a);
    }
    siren_ratings_clear(&after);
    siren_ratings_clear(&before);
    siren_workspace_close(ws);
}

static void test_halves(void **state)
{
    int n_b = 0;
    for (int u = 0; u < 10000; u++) {
        char external[16];
        snprintf(external, sizeof external, "%d", u);
        n_b += siren_user_half(external);
    }
    assert_in_range(n_b, 4800, 5200);
    /* Fixed for good: reports name the halves. XXH64 of "" is ef46db3751d8e999. */
    assert_int_equal(siren_user_half(""), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scale),      cmocka_unit_test(test_leave_last_out),
        cmocka_unit_test(test_time_split), cmocka_unit_test(test_folds),
        cmocka_unit_test(test_history),    cmocka_unit_test(test_planted_future),
        cmocka_unit_test(test_halves),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
