/* What tests of imports share: options, sources in the scratch folder, what was read of them. */
#ifndef SIREN_TESTS_IMPORT_CASE_H
#define SIREN_TESTS_IMPORT_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "siren/import.h"
#include "workspace_fixture.h"

static struct siren_import_options options;
static struct siren_import_report report;

static inline int setup(void **state)
{
    siren_import_defaults(&options);
    options.k_core = 0;
    return 0;
}

static inline void put(const char *name, const char *text)
{
    char path[300], *slash;
    snprintf(path, sizeof path, "%s/%s", scratch_folder, name);
    for (slash = path + strlen(scratch_folder) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(path, 0755);
        *slash = '/';
    }
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static inline void expect_text(struct siren_workspace *ws, const char *query, const char *wanted)
{
    sqlite3_stmt *q;
    assert_int_equal(sqlite3_prepare_v2(siren_workspace_db(ws), query, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    assert_string_equal((const char *)sqlite3_column_text(q, 0), wanted);
    sqlite3_finalize(q);
}

/* All ratings as "user item rating time sequence;…" by external ids. */
#define ALL                                                                                        \
    "SELECT group_concat(u || ' ' || i || ' ' || r || ' ' || coalesce(t, '-') || ' ' || s, ';')"   \
    " FROM (SELECT u.external u, i.external i, rating r, time t, sequence s FROM ratings"          \
    " JOIN users u ON u.id = user JOIN items i ON i.id = item ORDER BY user, sequence)"

/* A CSV of 200,000 rows, malloced. */
static inline char *many_ratings(void)
{
    struct buf b = {0};
    buf_puts(&b, "user,item,rating\n");
    for (int i = 0; i < 200000; i++)
        buf_printf(&b, "u%d,i%d,%d\n", i / 50, i % 50 + i / 5000, i % 5 + 1);
    return buf_take(&b);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

/* A fresh workspace for a source in the scratch folder, whose path is told. */
static inline struct siren_workspace *new_workspace_for(const char *name, char path[300])
{
    strcpy(path, scratch_path(name));
    unlink(scratch_path("w.siren"));
    return create_workspace("w.siren");
}

/* A fresh workspace with what is at the path. */
static inline struct siren_workspace *import_path(const char *name)
{
    char path[300];
    struct siren_workspace *ws = new_workspace_for(name, path);
    ok(siren_import(ws, path, &options, &report, NULL, &err));
    return ws;
}

static inline void import_fails(const char *name, int code, const char *words)
{
    char path[300];
    struct siren_workspace *ws = new_workspace_for(name, path);
    expect_error(siren_import(ws, path, &options, &report, NULL, &err), code, words);
    assert_int_equal(number(ws, "SELECT count(*) FROM ratings"), 0);
    assert_int_equal(number(ws, "SELECT count(*) FROM items"), 0);
    siren_workspace_close(ws);
}

static inline void text_fails(const char *csv, const char *words)
{
    put("bad.csv", csv);
    import_fails("bad.csv", SIREN_EFORMAT, words);
}

#endif
