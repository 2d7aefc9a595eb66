/* siren import, from outside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "run_program.h"
#include "scratch.h"

#define CSV "user,item,rating,time\na,x,3,1000000000\na,y,4,1100000000\nb,x,5,1200000000\n"

/* siren import w.siren r.csv OPTIONS, into a new workspace */
static int import(const char *options)
{
    char arguments[1000];
    unlink(scratch_path("w.siren"));
    snprintf(arguments, sizeof arguments, "import %s %s --k-core 0 %s", scratch_path("w.siren"),
             scratch_path("r.csv"), options);
    int status = run_program("", arguments, NULL);
    assert_int_equal(access(scratch_path("w.siren"), F_OK), status ? -1 : 0);
    return status;
}

static void expect_usage(const char *options, const char *words)
{
    assert_int_equal(import(options), 2);
    expect_output(words);
}

static void bad_values_are_usage_errors(void **state)
{
    assert_int_equal(import("--split time --train-until 2002-01-01,2005-01-01 --scale 1:5:1"), 0);
    expect_usage("--scale x", "scale 'x': expected LOWEST:HIGHEST");
    expect_usage("--scale 1:500", "500 labels, expected 2 to 101");
    expect_usage("--split time --train-until x", "--train-until: time 'x': expected YYYY-MM-DD");
    expect_usage("--split time --train-until 2002-01-01,", "--train-until: time ''");
    expect_usage("--split time --train-until 2005-01-01,2002-01-01",
                 "--train-until 2005-01-01,2002");
    expect_usage("--split time --train-until 1970-01-01", "behind 1970-01-01");
    expect_usage("--split time --shares 1", "--shares '1'");
    expect_usage("--split time --shares 0.8,", "--shares '0.8,'");
    expect_usage("--user-column 2 --time-column 2", "--user-column and --time-column are both '2'");
    expect_usage("--split time --shares .5 --train-until 2005-01-01", "not both");
    expect_usage("--train-until 2005-01-01", "--train-until: it needs --split time");
    expect_usage("--split none --shares 0.8", "--shares: it needs --split time");
    expect_usage("--separator 123456789", "separator '123456789'");
    expect_usage("--separator ''", "separator ''");
    expect_usage("--format excel", "--format");
    expect_usage("--title-column name", "--title-column changes nothing: format csv has no items");
}

/* Both files' lines are counted: both are named. */
static void items_are_named_beside_the_ratings(void **state)
{
    static const char items[] = "item,title\nx,A\ny,B\n";
    char arguments[600];
    scratch_write("things.csv", items, strlen(items));
    snprintf(arguments, sizeof arguments, "--items %s", scratch_path("things.csv"));
    assert_int_equal(import(arguments), 0);
    expect_output("csv format in r.csv, items in things.csv; user: ");
}

/* The unit is judged by the times' size: the report says how. */
static void the_unit_of_the_times_is_named(void **state)
{
    assert_int_equal(import(""), 0);
    expect_output("; times in s; ");
    assert_int_equal(import("--time-unit us"), 0);
    expect_output("; times in us; ");
    expect_usage("--time-unit h", "--time-unit");
}

/* Options that fit other data than these are no mistake of the command line. */
static void what_the_data_lack_is_no_usage_error(void **state)
{
    static const char timeless[] = "user,item,rating\na,x,1\na,y,2\nb,x,3\n";
    char arguments[800];
    snprintf(arguments, sizeof arguments, "import %s %s --k-core 0 --split time",
             scratch_path("none.siren"), scratch_write("timeless.csv", timeless, strlen(timeless)));
    assert_int_equal(run_program("", arguments, NULL), 1);
    expect_output("time split: no rating has a time");
    snprintf(arguments, sizeof arguments, "import %s %s --k-core 0 --folds 4",
             scratch_path("none.siren"), scratch_path("timeless.csv"));
    assert_int_equal(run_program("", arguments, NULL), 1);
    expect_output("4 folds of 3 ratings: expected as many or fewer");
}

/* What other commands read in the same way. */
static void times_of_other_commands(void **state)
{
    char arguments[400];
    assert_int_equal(import(""), 0);
    snprintf(arguments, sizeof arguments, "rate %s --user a --item x --rating 3 --time noon",
             scratch_path("w.siren"));
    assert_int_equal(run_program("", arguments, NULL), 2);
    expect_output("--time: time 'noon'");
    snprintf(arguments, sizeof arguments, "sketch %s --user a --at noon", scratch_path("w.siren"));
    assert_int_equal(run_program("", arguments, NULL), 2);
    expect_output("--at: time 'noon'");
}

/* What rate adds is UTF-8, as what import reads. */
static void new_users_and_items_are_text(void **state)
{
    static const char *const cases[] = {
        "--user $(printf '\\377') --item x --json", "--user a --item $(printf '\\377') --title T",
        "--user a --item y2 --title $(printf '\\377')", "--user '' --item x"};
    char arguments[400];
    assert_int_equal(import(""), 0);
    for (int i = 0; i < 4; i++) {
        snprintf(arguments, sizeof arguments, "rate %s --rating 3 %s", scratch_path("w.siren"),
                 cases[i]);
        assert_int_equal(run_program("", arguments, NULL), 2);
        expect_output(i < 3 ? "which is no UTF-8 from byte 0 on"
                            : "the id of a new user: is empty");
    }
    snprintf(arguments, sizeof arguments, "import %s %s --k-core 0", scratch_path("w.siren"),
             scratch_path("r.csv"));
    assert_int_equal(run_program("", arguments, NULL), 0);
    expect_output("nothing was changed");
}

static int setup(void **state)
{
    if (scratch_create(state)) return -1;
    return scratch_write("r.csv", CSV, strlen(CSV)) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_values_are_usage_errors),
        cmocka_unit_test(items_are_named_beside_the_ratings),
        cmocka_unit_test(the_unit_of_the_times_is_named),
        cmocka_unit_test(what_the_data_lack_is_no_usage_error),
        cmocka_unit_test(times_of_other_commands),
        cmocka_unit_test(new_users_and_items_are_text),
    };
    if (find_program()) return 1;
    return cmocka_run_group_tests(tests, setup, scratch_delete);
}
