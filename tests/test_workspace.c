#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "workspace_fixture.h"

/* ---- opening ---- */

static void test_create_and_open(void **state)
{
    struct siren_workspace *ws = create_workspace("new.siren");
    assert_int_equal(number(ws, "PRAGMA application_id"), SIREN_APPLICATION_ID);
    assert_int_equal(number(ws, "PRAGMA user_version"), SIREN_SCHEMA_VERSION);
    assert_string_equal(siren_workspace_path(ws), scratch_path("new.siren"));
    struct siren_meta meta;
    ok(siren_meta_load(&meta, ws, &err));
    assert_int_equal(siren_scale_labels(&meta.scale), 5);
    siren_workspace_close(ws);
    assert_int_not_equal(access(scratch_path("new.siren-wal"), F_OK), 0);
    ok(siren_workspace_open(&ws, scratch_path("new.siren"), SIREN_WORKSPACE_READ, &err));
    expect_error(siren_workspace_begin(ws, &err), SIREN_EINVAL, "reading only");
    assert_true(siren_meta_set(ws, "app.x", "1", &err) < 0);
    siren_workspace_close(ws);
    siren_workspace_close(NULL);
}

static void expect_open(const char *path, enum siren_workspace_mode mode, int code,
                        const char *words)
{
    struct siren_workspace *ws;
    expect_error(siren_workspace_open(&ws, path, mode, &err), code, words);
    assert_null(ws);
    if (!strstr(err.message, path)) fail_msg("no path in: %s", err.message);
}

static void make_database(const char *path, const char *text)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void test_open_errors(void **state)
{
    expect_open(scratch_path("none"), SIREN_WORKSPACE_READ, SIREN_ENOTFOUND, "no such workspace");
    expect_open(scratch_path("none"), SIREN_WORKSPACE_WRITE, SIREN_ENOTFOUND, "siren import");
    expect_open(scratch_path("no/folder"), SIREN_WORKSPACE_CREATE, SIREN_EIO, "No such file");
    expect_open(scratch_folder, SIREN_WORKSPACE_READ, SIREN_EFORMAT, "not a file");
    scratch_write("empty", "", 0);
    expect_open(scratch_path("empty"), SIREN_WORKSPACE_READ, SIREN_EFORMAT, "empty");
    char text[5000];
    memset(text, 'x', sizeof text);
    scratch_write("text", text, sizeof text);
    expect_open(scratch_path("text"), SIREN_WORKSPACE_WRITE, SIREN_EFORMAT, "not an SQLite");
    expect_open(scratch_path("text"), SIREN_WORKSPACE_CREATE, SIREN_EFORMAT, "not an SQLite");
    make_database(scratch_path("foreign"), "CREATE TABLE t(x)");
    expect_open(scratch_path("foreign"), SIREN_WORKSPACE_CREATE, SIREN_EFORMAT, "another program");
    make_database(scratch_path("gpkg"), "PRAGMA application_id = 1196444487; CREATE TABLE t(x)");
    expect_open(scratch_path("gpkg"), SIREN_WORKSPACE_READ, SIREN_EFORMAT, "0x47504b47");
    make_database(scratch_path("newer"),
                  "PRAGMA application_id = 0x5349524e; PRAGMA user_version = 99;"
                  "CREATE TABLE t(x)");
    expect_open(scratch_path("newer"), SIREN_WORKSPACE_READ, SIREN_EUNSUPPORTED, "version 99");
    make_database(scratch_path("zero"), "PRAGMA application_id = 0x5349524e; CREATE TABLE t(x)");
    expect_open(scratch_path("zero"), SIREN_WORKSPACE_WRITE, SIREN_EFORMAT, "damaged");
}

/* A file with the right numbers and the wrong tables fails with words, not a crash. */
static void test_missing_tables(void **state)
{
    make_database(scratch_path("hollow"),
                  "PRAGMA application_id = 0x5349524e; PRAGMA user_version = 3; CREATE TABLE t(x)");
    struct siren_workspace *ws;
    struct siren_ratings ratings;
    struct siren_items items;
    ok(siren_workspace_open(&ws, scratch_path("hollow"), SIREN_WORKSPACE_READ, &err));
    expect_error(siren_ratings_load(&ratings, ws, &err), SIREN_EFORMAT, "no such table");
    expect_error(siren_items_load(&items, ws, &err), SIREN_EFORMAT, "no such table");
    siren_workspace_close(ws);
}

/* A file of version 1 is migrated by whoever opens it, a reader, too. */
static void test_migration(void **state)
{
    for (int mode = SIREN_WORKSPACE_READ; mode <= SIREN_WORKSPACE_WRITE; mode++) {
        const char *name = mode == SIREN_WORKSPACE_READ ? "read.siren" : "written.siren";
        struct siren_workspace *ws = create_workspace(name);
        sql(ws, "ALTER TABLE predictions DROP COLUMN reasoning;"
                "ALTER TABLE runs DROP COLUMN process; PRAGMA user_version = 1");
        siren_workspace_close(ws);
        ok(siren_workspace_open(&ws, scratch_path(name), (enum siren_workspace_mode)mode, &err));
        assert_int_equal(number(ws, "PRAGMA user_version"), SIREN_SCHEMA_VERSION);
        assert_int_equal(number(ws, "SELECT count(reasoning) FROM predictions"), 0);
        assert_int_equal(number(ws, "SELECT count(process) FROM runs"), 0);
        siren_workspace_close(ws);
    }
}

static void wait_byte(int fd)
{
    char byte;
    while (read(fd, &byte, 1) != 1) {
    }
}

static void say_byte(int fd)
{
    if (write(fd, "x", 1) != 1) _exit(9);
}

/* As another user, for root may write everything. */
static int as_nobody(void (*body)(void))
{
    pid_t child = fork();
    if (child == 0) {
        if (getuid() == 0 && seteuid(65534)) _exit(3);
        body();
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static char locked_path[300];

/* The body, as somebody who may only read the file at locked_path, ends with 0. */
static void without_permission(void (*body)(void))
{
    chmod(locked_path, 0444);
    chmod(scratch_folder, 0555);
    int status = as_nobody(body);
    chmod(scratch_folder, 0755);
    chmod(locked_path, 0644);
    assert_int_equal(status, 0);
}

static void read_but_not_write(void)
{
    struct siren_workspace *ws;
    struct siren_users users;
    if (siren_workspace_open(&ws, locked_path, SIREN_WORKSPACE_WRITE, &err) != SIREN_EIO) _exit(1);
    if (!strstr(err.message, "cannot be written")) _exit(2);
    if (siren_workspace_open(&ws, locked_path, SIREN_WORKSPACE_READ, &err)) _exit(4);
    if (siren_users_load(&users, ws, &err) || users.n != 1) _exit(5);
    siren_users_clear(&users);
    siren_workspace_close(ws);
}

static void test_read_only_file(void **state)
{
    int id;
    struct siren_workspace *ws = create_workspace("a%20?#b.siren");
    ok(siren_user_add(ws, "anna", &id, &err));
    siren_workspace_close(ws);
    strcpy(locked_path, scratch_path("a%20?#b.siren"));
    without_permission(read_but_not_write);
}

/* Names that SQLite has a meaning of its own for. */
static void test_names(void **state)
{
    static const char *const names[] = {"file:x.siren", ":memory:", "file::memory:?cache=shared"};
    int id, before = open(".", O_RDONLY | O_DIRECTORY);
    assert_int_equal(chdir(scratch_folder), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct siren_workspace *ws;
        ok(siren_workspace_open(&ws, names[i], SIREN_WORKSPACE_CREATE, &err));
        ok(siren_user_add(ws, "anna", &id, &err));
        siren_workspace_close(ws);
        assert_int_equal(access(names[i], R_OK), 0);
        strcpy(locked_path, names[i]);
        without_permission(read_but_not_write);
        snprintf(locked_path, sizeof locked_path, "/%s", scratch_path(names[i]));
        without_permission(read_but_not_write);
    }
    assert_int_equal(fchdir(before), 0);
    close(before);
}

static void neither_read_nor_migrated(void)
{
    struct siren_workspace *ws;
    int rc = siren_workspace_open(&ws, locked_path, SIREN_WORKSPACE_READ, &err);
    _exit(rc == SIREN_EUNSUPPORTED && strstr(err.message, "version 1, this SIREN reads") ? 0 : 1);
}

static void test_read_only_old_file(void **state)
{
    struct siren_workspace *ws = create_workspace("old and read-only.siren");
    sql(ws, "PRAGMA user_version = 1");
    siren_workspace_close(ws);
    strcpy(locked_path, scratch_path("old and read-only.siren"));
    without_permission(neither_read_nor_migrated);
}

/* Another process writes: busy, not old. */
static void test_busy_old_file(void **state)
{
    struct siren_workspace *ws = create_workspace("busy.siren"), *reader;
    sql(ws, "ALTER TABLE runs DROP COLUMN process; PRAGMA user_version = 2");
    ok(siren_workspace_begin(ws, &err));
    expect_error(
        siren_workspace_open(&reader, scratch_path("busy.siren"), SIREN_WORKSPACE_READ, &err),
        SIREN_EBUSY, "busy.siren");
    ok(siren_workspace_commit(ws, &err));
    ok(siren_workspace_open(&reader, scratch_path("busy.siren"), SIREN_WORKSPACE_READ, &err));
    siren_workspace_close(reader);
    siren_workspace_close(ws);
}

/* Pipes between a reader who may not write and the writer. */
static int to_reader[2], to_writer[2];

static void count_users(int expected)
{
    struct siren_workspace *ws;
    struct siren_users users;
    if (siren_workspace_open(&ws, locked_path, SIREN_WORKSPACE_READ, &err)) _exit(1);
    if (siren_users_load(&users, ws, &err)) _exit(2);
    siren_users_clear(&users);
    say_byte(to_writer[1]);
    wait_byte(to_reader[0]);
    int code = siren_users_load(&users, ws, &err), n = users.n;
    if (expected < 0 && (code != SIREN_EBUSY || !strstr(err.message, "has changed it"))) _exit(4);
    if (expected < 0 && siren_user_find(ws, "0", &n, &err) != SIREN_EBUSY) _exit(5);
    if (expected >= 0 && (code || n != expected)) _exit(6);
    siren_users_clear(&users);
    siren_workspace_close(ws);
}

static void count_changed(void)
{
    count_users(-1);
}

static void count_more(void)
{
    count_users(3001);
}

static void add_users(struct siren_workspace *ws, int from, int to)
{
    ok(siren_workspace_begin(ws, &err));
    for (int i = from; i < to; i++) {
        char name[12];
        int id;
        snprintf(name, sizeof name, "%d", i);
        ok(siren_user_add(ws, name, &id, &err));
    }
    ok(siren_workspace_commit(ws, &err));
}

static pid_t fork_reader(void (*body)(void))
{
    assert_int_equal(pipe(to_reader), 0);
    assert_int_equal(pipe(to_writer), 0);
    chmod(locked_path, 0444);
    chmod(scratch_folder, 0555);
    pid_t child = fork();
    if (child == 0) {
        int status = as_nobody(body);
        say_byte(to_writer[1]); /* it may have ended before its own */
        _exit(status);
    }
    wait_byte(to_writer[0]);
    chmod(scratch_folder, 0755);
    chmod(locked_path, 0644);
    return child;
}

static void expect_reader(pid_t child)
{
    int status;
    say_byte(to_reader[1]);
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Who may not write beside the file takes no part in SQLite's locks.  While no other process has
 * the file open it is read as it is, and a change is noticed. */
static void test_read_only_and_a_writer_comes(void **state)
{
    struct siren_workspace *ws = create_workspace("later.siren");
    add_users(ws, 0, 3000);
    siren_workspace_close(ws);
    strcpy(locked_path, scratch_path("later.siren"));
    pid_t child = fork_reader(count_changed);
    ok(siren_workspace_open(&ws, locked_path, SIREN_WORKSPACE_WRITE, &err));
    sql(ws, "UPDATE users SET external = external || '-' || id");
    siren_workspace_close(ws);
    expect_reader(child);
}

/* While one has it open, its log and its shared memory are used. */
static void test_read_only_beside_a_writer(void **state)
{
    struct siren_workspace *ws = create_workspace("beside.siren");
    add_users(ws, 0, 3000);
    sql(ws, "PRAGMA wal_checkpoint(TRUNCATE)");
    strcpy(locked_path, scratch_path("beside.siren"));
    pid_t child = fork_reader(count_more);
    add_users(ws, 3000, 3001);
    expect_reader(child);
    siren_workspace_close(ws);
}

/* ---- transactions ---- */

static void test_transactions(void **state)
{
    int id;
    struct siren_workspace *ws = create_workspace("transactions.siren");
    ok(siren_workspace_begin(ws, &err));
    ok(siren_user_add(ws, "outer", &id, &err));
    ok(siren_workspace_begin(ws, &err));
    ok(siren_user_add(ws, "inner", &id, &err));
    siren_workspace_rollback(ws);
    ok(siren_workspace_commit(ws, &err));
    assert_int_equal(number(ws, "SELECT count(*) FROM users"), 1);
    expect_error(siren_workspace_commit(ws, &err), SIREN_EINVAL, "without a transaction");
    siren_workspace_rollback(ws);
    expect_error(siren_user_add(ws, "outer", &id, &err), SIREN_EEXISTS, "there already");
    ok(siren_workspace_begin(ws, &err)); /* what an inner one lost is not what the outer one did */
    ok(siren_user_add(ws, "kept", &id, &err));
    ok(siren_workspace_begin(ws, &err));
    ok(siren_user_add(ws, "inner", &id, &err));
    assert_int_equal(siren_workspace_end(ws, SIREN_EBUSY, &err), SIREN_EBUSY);
    ok(siren_workspace_end(ws, 0, &err));
    assert_int_equal(number(ws, "SELECT count(*) FROM users"), 2);
    ok(siren_workspace_begin(ws, &err));
    ok(siren_user_add(ws, "lost", &id, &err));
    siren_workspace_close(ws); /* rolls back */
    ok(siren_workspace_open(&ws, scratch_path("transactions.siren"), SIREN_WORKSPACE_READ, &err));
    assert_int_equal(number(ws, "SELECT count(*) FROM users"), 2);
    siren_workspace_close(ws);
}

/* ---- several processes ---- */

/* Holds the write lock until it is told to go on, then commits. */
static pid_t fork_writer(const char *path, int tell[2], int told[2])
{
    assert_int_equal(pipe(tell), 0);
    assert_int_equal(pipe(told), 0);
    pid_t child = fork();
    if (child) return child;
    struct siren_workspace *ws;
    int id;
    if (siren_workspace_open(&ws, path, SIREN_WORKSPACE_WRITE, &err)) _exit(1);
    if (siren_workspace_begin(ws, &err) || siren_user_add(ws, "theirs", &id, &err)) _exit(2);
    say_byte(told[1]);
    wait_byte(tell[0]);
    if (siren_workspace_commit(ws, &err)) _exit(3);
    siren_workspace_close(ws);
    _exit(0);
}

static void test_busy_names_the_writer(void **state)
{
    int tell[2], told[2], status, id;
    char who[40];
    struct siren_workspace *ws = create_workspace("busy.siren");
    ok(siren_user_add(ws, "ours", &id, &err));
    pid_t child = fork_writer(siren_workspace_path(ws), tell, told);
    wait_byte(told[0]);
    siren_workspace_timeout(ws, 50);
    snprintf(who, sizeof who, "process %d", (int)child);
    expect_error(siren_workspace_begin(ws, &err), SIREN_EBUSY, who);
    expect_error(siren_user_add(ws, "more", &id, &err), SIREN_EBUSY, "waited 0.1 s");
    /* Readers go on, and see what was there. */
    struct siren_users users;
    ok(siren_users_load(&users, ws, &err));
    assert_int_equal(users.n, 1);
    siren_users_clear(&users);
    say_byte(tell[1]);
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    ok(siren_user_add(ws, "more", &id, &err));
    assert_int_equal(id, 2);
    siren_workspace_close(ws);
}

static void test_busy_in_this_process(void **state)
{
    struct siren_workspace *a = create_workspace("self.siren"), *b = create_workspace("self.siren");
    ok(siren_workspace_begin(a, &err));
    siren_workspace_timeout(b, 1);
    expect_error(siren_workspace_begin(b, &err), SIREN_EBUSY, "this process");
    siren_workspace_close(a);
    ok(siren_workspace_begin(b, &err));
    siren_workspace_close(b);
}

/* A read transaction is one consistent view while another handle writes. */
static void test_snapshot(void **state)
{
    int id;
    struct siren_workspace *writer = create_workspace("view.siren"), *reader;
    ok(siren_user_add(writer, "a", &id, &err));
    ok(siren_workspace_open(&reader, scratch_path("view.siren"), SIREN_WORKSPACE_READ, &err));
    ok(siren_workspace_begin_read(reader, &err));
    ok(siren_user_add(writer, "b", &id, &err));
    assert_int_equal(number(reader, "SELECT count(*) FROM users"), 1);
    ok(siren_workspace_commit(reader, &err));
    assert_int_equal(number(reader, "SELECT count(*) FROM users"), 2);
    siren_workspace_close(reader);
    siren_workspace_close(writer);
}

/* Two writers and two readers at once: nothing is lost, nobody fails. */
static void give_up(int status)
{
    fprintf(stderr, "%s\n", err.message);
    _exit(status);
}

static void work(const char *path, int number_of, int writes)
{
    struct siren_workspace *ws;
    if (siren_workspace_open(&ws, path, writes ? SIREN_WORKSPACE_CREATE : SIREN_WORKSPACE_READ,
                             &err))
        give_up(1);
    for (int i = 0; i < 40; i++) {
        char name[40];
        int id;
        struct siren_users users;
        snprintf(name, sizeof name, "%d-%d", number_of, i);
        if (writes && siren_user_add(ws, name, &id, &err)) give_up(2);
        if (!writes && siren_users_load(&users, ws, &err)) give_up(3);
        if (!writes) siren_users_clear(&users);
    }
    siren_workspace_close(ws);
    _exit(0);
}

static void test_many_processes(void **state)
{
    char path[300];
    strcpy(path, scratch_path("many.siren"));
    siren_workspace_close(create_workspace("many.siren"));
    pid_t children[4];
    for (int i = 0; i < 4; i++)
        if ((children[i] = fork()) == 0) work(path, i, i < 2);
    for (int i = 0; i < 4; i++) {
        int status;
        waitpid(children[i], &status, 0);
        assert_int_equal(status, 0);
    }
    struct siren_workspace *ws = create_workspace("many.siren");
    assert_int_equal(number(ws, "SELECT count(*) FROM users"), 80);
    assert_int_equal(number(ws, "SELECT max(id) FROM users"), 79);
    siren_workspace_close(ws);
}

static void test_created_at_once(void **state)
{
    char path[300];
    strcpy(path, scratch_path("race.siren"));
    pid_t children[4];
    for (int i = 0; i < 4; i++)
        if ((children[i] = fork()) == 0) work(path, i, 1);
    for (int i = 0; i < 4; i++) {
        int status;
        waitpid(children[i], &status, 0);
        assert_int_equal(status, 0);
    }
    struct siren_workspace *ws = create_workspace("race.siren");
    assert_int_equal(number(ws, "SELECT count(*) FROM users"), 160);
    siren_workspace_close(ws);
}

/* A killed writer leaves what was committed. */
static void test_killed_writer(void **state)
{
    int tell[2], told[2], status;
    siren_workspace_close(create_workspace("killed.siren"));
    pid_t child = fork_writer(scratch_path("killed.siren"), tell, told);
    wait_byte(told[0]);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    struct siren_workspace *ws = create_workspace("killed.siren");
    assert_int_equal(number(ws, "SELECT count(*) FROM users"), 0);
    siren_workspace_close(ws);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_and_open),
        cmocka_unit_test(test_open_errors),
        cmocka_unit_test(test_missing_tables),
        cmocka_unit_test(test_read_only_and_a_writer_comes),
        cmocka_unit_test(test_read_only_beside_a_writer),
        cmocka_unit_test(test_read_only_file),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_read_only_old_file),
        cmocka_unit_test(test_busy_old_file),
        cmocka_unit_test(test_transactions),
        cmocka_unit_test(test_busy_names_the_writer),
        cmocka_unit_test(test_busy_in_this_process),
        cmocka_unit_test(test_snapshot),
        cmocka_unit_test(test_many_processes),
        cmocka_unit_test(test_created_at_once),
        cmocka_unit_test(test_killed_writer),
        cmocka_unit_test(test_migration),
    };
    return cmocka_run_group_tests(tests, scratch_create, scratch_delete);
}
