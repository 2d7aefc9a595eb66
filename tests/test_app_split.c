/* What "train:last3+valid:A" and the like say of the rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app/split.h"
#include "app_fixture.h"

/* One row a user, and none of the split behind it. */
static void the_last_row_of_each_user(void **state)
{
    struct siren_app app;
    struct siren_eval_options o = siren_eval_defaults();
    struct siren_target *all, *last;
    size_t n_all, n_last;
    MUST(siren_app_open(&app, fixture_workspace("last.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_READ, ERR));
    o.split = "train";
    MUST(siren_eval_targets(&app, &o, &all, &n_all, ERR));
    /* More than anybody has is all. */
    static const struct {
        const char *split;
        size_t rows;
    } cases[] = {
        {"train:last", 1}, {"train:last1", 1}, {"train:last3", 3}, {"train:last999999", 999999}};
    for (int c = 0; c < 4; c++) {
        size_t k = 0, left = 0;
        o.split = cases[c].split;
        MUST(siren_eval_targets(&app, &o, &last, &n_last, ERR));
        for (size_t i = 0; i < n_all; i++) {
            for (left = 1; i + left < n_all && all[i + left].user == all[i].user;) left++;
            if (left > cases[c].rows) continue;
            assert_true(k < n_last && last[k].user == all[i].user);
            assert_int_equal(last[k].item, all[i].item);
            assert_int_equal(last[k++].row, all[i].row);
        }
        assert_int_equal(k, n_last);
        free(last);
    }
    assert_int_equal(n_last, n_all);
    static const char *const wrong[] = {"train:last0",  "train:last-1",      "train:last3x",
                                        "train:lastly", "train:last9999999", "train:first"};
    for (int i = 0; i < 6; i++) {
        o.split = wrong[i];
        assert_int_equal(siren_eval_targets(&app, &o, &last, &n_last, ERR), SIREN_EINVAL);
        assert_non_null(strstr(ERR->message, wrong[i]));
    }
    free(all);
    siren_app_close(&app);
}

/* Every row is in one half, and all rows of a user are in the same. */
static void halves_part_a_split_by_user(void **state)
{
    static const char *const splits[] = {"train", "train:A", "train:B"};
    struct siren_app app;
    struct siren_eval_options o = siren_eval_defaults();
    struct siren_target *rows[3];
    size_t n[3];
    int half_of[N_USERS];
    MUST(siren_app_open(&app, fixture_workspace("halves.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_READ, ERR));
    for (int i = 0; i < 3; i++) {
        o.split = splits[i];
        MUST(siren_eval_targets(&app, &o, &rows[i], &n[i], ERR));
    }
    assert_int_equal(n[1] + n[2], n[0]);
    for (int u = 0; u < N_USERS; u++) half_of[u] = -1;
    for (int half = 0; half < 2; half++)
        for (size_t i = 0; i < n[1 + half]; i++) {
            int u = rows[1 + half][i].user;
            assert_true(half_of[u] == -1 || half_of[u] == half);
            half_of[u] = half;
            assert_int_equal(siren_user_half(app.users.external[u]), half);
        }
    for (int i = 0; i < 3; i++) free(rows[i]);
    static const char *const wrong[] = {"valid:", "valid:C",     "valid:AB",  "valid:a",
                                        ":A",     "elsewhere:A", "train:LAST"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        o.split = wrong[i];
        assert_int_equal(siren_eval_targets(&app, &o, &rows[0], &n[0], ERR), SIREN_EINVAL);
        assert_null(rows[0]);
    }
    siren_app_close(&app);
}

/* Rows in the order of the ratings, each of them once however many parts it is in. */
static void parts_are_joined(void **state)
{
    static const char *const splits[] = {"train:last2", "valid:A",
                                         "train:last+valid:A+train:last2"};
    struct siren_app app;
    struct siren_eval_options o = siren_eval_defaults();
    struct siren_target *rows[3];
    size_t n[3], both = 0;
    MUST(siren_app_open(&app, fixture_workspace("joined.siren", SIREN_PROTOCOL_FULL),
                        SIREN_WORKSPACE_READ, ERR));
    for (int i = 0; i < 3; i++) {
        o.split = splits[i];
        MUST(siren_eval_targets(&app, &o, &rows[i], &n[i], ERR));
    }
    assert_true(n[0] && n[1]);
    assert_int_equal(n[2], n[0] + n[1]);
    for (size_t i = 0, a = 0, b = 0; i < n[2]; i++) {
        assert_true(i == 0 || rows[2][i - 1].row < rows[2][i].row);
        if (a < n[0] && rows[0][a].row == rows[2][i].row)
            a++, both++;
        else if (b < n[1] && rows[1][b].row == rows[2][i].row)
            b++, both++;
    }
    assert_int_equal(both, n[2]);
    for (int i = 0; i < 3; i++) free(rows[i]);
    siren_app_close(&app);
}

static void wrong_texts_name_what_is_wrong(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "'' is no split"},
        {"+train", "'' is no split"},
        {"train+", "'' is no split"},
        {"train++valid", "'' is no split"},
        {"train+elsewhere", "'elsewhere' is no split"},
        {"train:last+valid:C", "train:last+valid:C"},
        {"train+train+train+train+train", "more than 4 parts"},
        {"train:last000001+train:last000001+train:last000001+train:last000001", "67 bytes"},
    };
    struct split split;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(split_parse(cases[i].text, &split, ERR), SIREN_EINVAL);
        assert_non_null(strstr(ERR->message, cases[i].says));
    }
}

/* What keeps test rows out of a training asks these. */
static void a_label_is_found_in_any_part(void **state)
{
    static const struct {
        const char *text;
        int has_test, is_valid;
    } cases[] = {
        {"train:last+test", 1, 0}, {"test:A", 1, 0},       {"train+valid:A", 0, 0},
        {"valid:A+train", 0, 0},   {"valid+test:A", 1, 0}, {"valid:A+valid:last", 0, 1},
        {"valid:last2", 0, 1},     {"history+none", 0, 0},
    };
    struct split split;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        MUST(split_parse(cases[i].text, &split, ERR));
        assert_int_equal(split_has(&split, SIREN_LABEL_TEST), cases[i].has_test);
        assert_int_equal(split_is(&split, SIREN_LABEL_VALID), cases[i].is_valid);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_row_of_each_user),
        cmocka_unit_test(halves_part_a_split_by_user),
        cmocka_unit_test(parts_are_joined),
        cmocka_unit_test(wrong_texts_name_what_is_wrong),
        cmocka_unit_test(a_label_is_found_in_any_part),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
