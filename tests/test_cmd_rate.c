/* `siren rate` from outside, as a script runs it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "run_program.h"
#include "workspace_fixture.h"

#define BERT "tests/fixtures/models/bert"

static struct siren_workspace *films(const char *name)
{
    return import_text(name, "user,item,rating,time\na,x,1,2000-01-01\na,y,5,2001-01-01\n", NULL,
                       NULL);
}

/* `siren rate WORKSPACE ARGUMENTS`; its exit code. */
static int rate(struct siren_workspace *ws, const char *arguments)
{
    char line[1000];
    snprintf(line, sizeof line, "rate %s %s", siren_workspace_path(ws), arguments);
    return run_program("", line, NULL);
}

static void test_new_item(void **state)
{
    struct siren_workspace *ws = films("item.siren");
    assert_int_equal(rate(ws, "-u a -i new -r 4"), 1);
    expect_output("a new item needs --title");
    assert_int_equal(rate(ws, "-u a -i new -r 4 --title '  '"), 1);
    expect_output("a new item needs --title");
    assert_int_equal(rate(ws, "-u b -i new -r 4 --title New --encoder " BERT), 0);
    expect_output("User b is new.");
    expect_output("Item new is new, and embedded.");
    assert_int_equal(number(ws, "SELECT item FROM embeddings"), 2);
    assert_null(strstr(program_output, "is known"));
    assert_int_equal(rate(ws, "-u b -i new -r 5 --title New --encoder none"), 0);
    expect_output("Corrected: user b, item new: 5 instead of 4.");
    expect_output("Item new is known: --title is not taken over.");
    assert_int_equal(rate(ws, "-u b -i new -r 5 --categories A --json"), 0);
    expect_output("Item new is known: --categories is not taken over.");
    siren_workspace_close(ws);
}

/* As the import reads them. */
static void test_categories_without_blanks(void **state)
{
    struct siren_workspace *ws = films("blanks.siren");
    assert_int_equal(rate(ws, "-u a -i new -r 4 --title New --categories ' A | B C | |'"), 0);
    assert_int_equal(number(ws, "SELECT count(*) FROM items WHERE categories = '[\"A\",\"B C\"]'"),
                     1);
    siren_workspace_close(ws);
}

/* Three films in two topics of BERT's. */
static struct siren_workspace *clustered(const char *name)
{
    struct siren_workspace *ws = import_text(
        name, "user,item,rating,time\na,x,1,2000-01-01\na,y,5,2001-01-01\na,z,3,2002-01-01\n", NULL,
        NULL);
    char line[600];
    snprintf(line, sizeof line, "embed %s --encoder " BERT, siren_workspace_path(ws));
    assert_int_equal(run_program("", line, NULL), 0);
    snprintf(line, sizeof line, "topics %s --k 2 --namer tfidf", siren_workspace_path(ws));
    assert_int_equal(run_program("", line, NULL), 0);
    return ws;
}

/* Soft sketches share a rating between two topics: both are named. */
static void test_soft_topics(void **state)
{
    struct siren_workspace *ws = clustered("soft.siren");
    char line[600];
    assert_int_equal(rate(ws, "-u a -i x -r 2"), 0);
    assert_null(strstr(program_output, "; and topic"));
    assert_int_equal(rate(ws, "-u a -i x -r 2 --json"), 0);
    assert_null(strstr(program_output, "second_topic"));
    snprintf(line, sizeof line, "topics %s --k 2 --namer tfidf --soft", siren_workspace_path(ws));
    assert_int_equal(run_program("", line, NULL), 0);
    long long first = number(ws, "SELECT topic FROM item_topics WHERE item = 0");
    assert_int_equal(rate(ws, "-u a -i x -r 4"), 0);
    snprintf(line, sizeof line, "Sketch updated: topic %lld, ", first);
    expect_output(line);
    snprintf(line, sizeof line, "; and topic %lld, ", 1 - first);
    expect_output(line);
    assert_int_equal(rate(ws, "-u a -i x -r 5 --json"), 0);
    snprintf(line, sizeof line, "\"topic\": %lld, \"second_topic\": %lld", first, 1 - first);
    expect_output(line);
    siren_workspace_close(ws);
}

/* An encoder is what it computes, wherever its folder lies. */
static void test_moved_encoder(void **state)
{
    struct siren_workspace *ws = clustered("moved.siren");
    char whole[PATH_MAX], link[256], line[600];
    strcpy(link, scratch_path("moved-bert"));
    assert_non_null(realpath(BERT, whole));
    assert_int_equal(symlink(whole, link), 0);
    snprintf(line, sizeof line, "-u a -i new -r 4 --title New --encoder %s", link);
    assert_int_equal(rate(ws, line), 0);
    expect_output("Item new is new, and embedded.");
    expect_output("Sketch updated: topic ");
    snprintf(line, sizeof line, "embed %s --encoder %s", siren_workspace_path(ws), link);
    assert_int_equal(run_program("", line, NULL), 0);
    expect_output("0 items embedded");
    assert_int_equal(number(ws, "SELECT count(*) FROM encoders"), 1);
    siren_workspace_close(ws);
}

/* Ratings that the stored sketches rest on. */
static long long in_sketches(struct siren_workspace *ws)
{
    return number(ws, "SELECT CAST(sum(weight) AS INTEGER) FROM sketches");
}

/* A new item without an encoder is in no topic and in no sketch, until somebody embeds it. */
static void test_item_without_topic(void **state)
{
    struct siren_workspace *ws = clustered("late.siren");
    char line[600];
    assert_int_equal(in_sketches(ws), 3);
    assert_int_equal(rate(ws, "-u a -i n1 -r 4 --title 'A new one'"), 0);
    expect_output("--encoder would embed it and find its topic");
    assert_int_equal(rate(ws, "-u a -i n2 -r 4 --title 'Another'"), 0);
    assert_int_equal(rate(ws, "-u b -i n2 -r 2"), 0);
    assert_int_equal(in_sketches(ws), 3);
    setenv("SIREN_ENCODER", "none", 1); /* meant for others: the rating does not need it */
    assert_int_equal(rate(ws, "-u a -i n1 -r 3"), 0);
    unsetenv("SIREN_ENCODER");
    assert_int_equal(rate(ws, "-u a -i n1 -r 5 --encoder " BERT), 0);
    expect_output("Item n1 had no topic, and has its nearest now.");
    expect_output("Sketch updated: topic ");
    assert_int_equal(in_sketches(ws), 4);
    assert_int_equal(rate(ws, "-u a -i n1 -r 4 --encoder none"), 0); /* is not opened any more */
    snprintf(line, sizeof line, "embed %s --encoder " BERT, siren_workspace_path(ws));
    assert_int_equal(run_program("", line, NULL), 0);
    expect_output("1 item embedded by bert#");
    expect_output("1 item that had no topic joined the nearest.");
    assert_int_equal(in_sketches(ws), 6);
    assert_int_equal(run_program("", line, NULL), 0);
    assert_null(strstr(program_output, "no topic"));
    siren_workspace_close(ws);
}

/* The encoder is loaded before the workspace is locked: while another writes, the lack of it is
 * known at once. */
static void test_no_lock_while_the_encoder_loads(void **state)
{
    struct siren_workspace *ws = films("lock.siren");
    ok(siren_workspace_begin(ws, &err));
    assert_int_equal(rate(ws, "-u a -i new -r 4 --title New --encoder none"), 1);
    expect_output("none");
    assert_null(strstr(program_output, "another process"));
    siren_workspace_rollback(ws);
    siren_workspace_close(ws);
}

/* `siren sketch`: how many ratings it rests on. */
static void expect_sketch(struct siren_workspace *ws, const char *arguments, int n)
{
    char line[1000], words[80];
    snprintf(line, sizeof line, "sketch %s --user a %s", siren_workspace_path(ws), arguments);
    assert_int_equal(run_program("", line, NULL), 0);
    snprintf(words, sizeof words, "User a, %d ratings", n);
    expect_output(words);
}

/* A rating that is given now is no part of the past, and counts in full where it decays. */
static void test_time(void **state)
{
    struct siren_workspace *ws = import_text(
        "time.siren", "user,item,rating,time\na,x,1,2000-01-01\na,y,1,\nb,z,3,\n", NULL, NULL);
    struct siren_topics t;
    ok(siren_topics_create(&t, 1, 1, 3, &err));
    for (int i = 0; i < 3; i++) t.topic[i] = 0;
    ok(siren_topics_save(ws, &t, &err));
    siren_topics_clear(&t);
    assert_int_equal(rate(ws, "-u a -i z -r 5"), 0);
    assert_true(number(ws, "SELECT time FROM ratings WHERE user = 0 AND item = 2") > 1700000000000);
    expect_sketch(ws, "", 3);
    expect_sketch(ws, "--at 2001-01-01", 2);
    expect_sketch(ws, "--decay", 3);
    expect_output("likes");
    assert_int_equal(rate(ws, "-u a -i x -r 2"), 0); /* corrections */
    assert_int_equal(rate(ws, "-u a -i y -r 2"), 0);
    assert_int_equal(number(ws, "SELECT time FROM ratings WHERE item = 0"), 946684800000);
    assert_int_equal(number(ws, "SELECT ifnull(time, 7) FROM ratings WHERE item = 1"), 7);
    siren_workspace_close(ws);
}

static int start(void **state)
{
    return find_program() || scratch_create(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_item),
        cmocka_unit_test(test_categories_without_blanks),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_soft_topics),
        cmocka_unit_test(test_moved_encoder),
        cmocka_unit_test(test_item_without_topic),
        cmocka_unit_test(test_no_lock_while_the_encoder_loads),
    };
    return cmocka_run_group_tests(tests, start, scratch_delete);
}
