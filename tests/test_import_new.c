/* A workspace that is not there yet: it takes its name when it is complete. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "import_case.h"

static int scratch_entries(const char *begin)
{
    struct dirent **list;
    int n = scandir(scratch_folder, &list, NULL, alphasort), found = 0;
    assert_true(n >= 0);
    for (int i = 0; i < n; i++) {
        found += !strncmp(list[i]->d_name, begin, strlen(begin));
        free(list[i]);
    }
    free(list);
    return found;
}

static int import_into(const char *name, const char *source, const struct siren_progress *progress)
{
    char path[300];
    strcpy(path, scratch_path(source));
    return siren_import_into(scratch_path(name), path, &options, &report, progress, &err);
}

static void expect_ratings(const char *name, const char *wanted)
{
    struct siren_workspace *ws;
    ok(siren_workspace_open(&ws, scratch_path(name), SIREN_WORKSPACE_READ, &err));
    expect_text(ws, ALL, wanted);
    expect_text(ws, "SELECT count(*) FROM pragma_foreign_key_check", "0");
    siren_workspace_close(ws);
}

static void test_new_workspace(void **state)
{
    put("n.csv", "user,item,rating\na,b,3\n");
    put("no.csv", "user,item,rating\na,b,three\n");
    expect_error(import_into("new.siren", "no.csv", NULL), SIREN_EFORMAT, "no.csv:2");
    assert_int_equal(scratch_entries("new.siren"), 0);
    expect_error(import_into("nowhere/new.siren", "n.csv", NULL), SIREN_ENOTFOUND,
                 "nowhere/new.siren: cannot create");
    ok(import_into("new.siren", "n.csv", NULL));
    assert_int_equal(scratch_entries("new.siren"), 1);
    expect_ratings("new.siren", "a b 3.0 - 0");
    expect_error(import_into("new.siren", "no.csv", NULL), SIREN_EFORMAT, "no.csv:2");
    ok(import_into("new.siren", "n.csv", NULL));
    assert_int_equal(report.unchanged, 1);
    expect_ratings("new.siren", "a b 3.0 - 0");
    /* The log of a file that is gone is none of the new one's. */
    put("log.siren-wal", "of another");
    ok(import_into("log.siren", "n.csv", NULL));
    expect_ratings("log.siren", "a b 3.0 - 0");
    expect_error(siren_import_into("", scratch_path("n.csv"), &options, NULL, NULL, &err),
                 SIREN_EINVAL, "an empty path");
}

/* What a killed import leaves goes with the next one; what another one fills, or a file that only
 * looks alike, stays. */
static void test_leftovers(void **state)
{
    put("n.csv", "user,item,rating\na,b,3\n");
    static const char *const gone[] = {"left.siren.tmp-1-0", "left.siren.tmp-1-0-journal"};
    static const char *const kept[] = {"left.siren.tmp-1-1", "left.siren.tmp-1-x",
                                       "left.siren.tmp-1-2.csv", "left.siren.tmp",
                                       "left.sirens.tmp-1-3"};
    for (int i = 0; i < 2; i++) put(gone[i], "half");
    for (int i = 0; i < 5; i++) put(kept[i], "half");
    assert_int_equal(mkdir(scratch_path("left.siren.tmp-1-4"), 0700), 0);
    int busy = open(scratch_path(kept[0]), O_RDONLY);
    assert_true(busy >= 0 && !flock(busy, LOCK_EX));
    ok(import_into("left.siren", "n.csv", NULL));
    for (int i = 0; i < 2; i++) assert_int_not_equal(access(scratch_path(gone[i]), F_OK), 0);
    for (int i = 0; i < 5; i++) assert_int_equal(access(scratch_path(kept[i]), F_OK), 0);
    assert_int_equal(access(scratch_path("left.siren.tmp-1-4"), F_OK), 0);
    close(busy);
    expect_ratings("left.siren", "a b 3.0 - 0");
}

static int stop_at_end(void *context, const char *what, uint64_t done, uint64_t total)
{
    return !strcmp(what, "ratings written") && done == total;
}

/* Also behind the last row, where the index and the split are still to be written. */
static void test_stopped_late(void **state)
{
    struct siren_progress progress = {stop_at_end, NULL};
    put("n.csv", "user,item,rating\na,b,3\n");
    expect_error(import_into("late.siren", "n.csv", &progress), SIREN_ECANCEL,
                 "nothing was changed");
    assert_int_equal(scratch_entries("late.siren"), 0);
}

/* A new file has no log, which would hold all rows once more, until it is complete. */
static int look_beside(void *context, const char *what, uint64_t done, uint64_t total)
{
    if (strcmp(what, "ratings written") || done < total / 2) return 0;
    assert_int_equal(scratch_entries("large.siren"), 1);
    ++*(int *)context;
    return 0;
}

static void test_new_workspace_without_log(void **state)
{
    int looked = 0;
    struct siren_workspace *ws;
    struct siren_progress progress = {look_beside, &looked};
    char *text = many_ratings();
    put("large.csv", text);
    free(text);
    ok(import_into("large.siren", "large.csv", &progress));
    assert_true(looked > 0);
    assert_int_equal(scratch_entries("large.siren"), 1);
    ok(siren_workspace_open(&ws, scratch_path("large.siren"), SIREN_WORKSPACE_READ, &err));
    expect_text(ws, "PRAGMA journal_mode", "wal");
    expect_text(ws, "PRAGMA integrity_check", "ok");
    expect_text(ws, "SELECT count(*) FROM pragma_foreign_key_check", "0");
    assert_int_equal(number(ws, "SELECT count(*) FROM ratings"), 200000);
    siren_workspace_close(ws);
}

/* While an import writes, another process makes the same workspace; then the first one goes on, or
 * is stopped (context). */
static int other_import(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct siren_error error;
    char path[300];
    if (strcmp(what, "ratings written")) return 0;
    strcpy(path, scratch_path("other.csv"));
    assert_int_equal(
        siren_import_into(scratch_path("race.siren"), path, &options, NULL, NULL, &error), 0);
    return context != NULL;
}

static void test_made_meanwhile(void **state)
{
    struct siren_progress stopped = {other_import, &stopped}, ends = {other_import, NULL};
    put("other.csv", "user,item,rating\na,b,3\n");
    put("mine.csv", "user,item,rating\na,b,4\n");
    expect_error(import_into("race.siren", "mine.csv", &stopped), SIREN_ECANCEL, "stopped");
    expect_ratings("race.siren", "a b 3.0 - 0");
    unlink(scratch_path("race.siren"));
    expect_error(import_into("race.siren", "mine.csv", &ends), SIREN_EEXISTS, "holds other data");
    expect_ratings("race.siren", "a b 3.0 - 0");
    unlink(scratch_path("race.siren"));
    ok(import_into("race.siren", "other.csv", &ends));
    assert_int_equal(report.unchanged, 1);
    assert_int_equal(scratch_entries("race.siren"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_new_workspace),  TEST(test_leftovers),
        TEST(test_stopped_late),   TEST(test_new_workspace_without_log),
        TEST(test_made_meanwhile),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
