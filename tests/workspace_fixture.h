/* A small workspace for tests: users u0…, items i0…, made in the scratch folder. */
#ifndef SIREN_TESTS_WORKSPACE_FIXTURE_H
#define SIREN_TESTS_WORKSPACE_FIXTURE_H

#include <sqlite3.h>

#include "scratch.h"
#include "siren/import.h"

static struct siren_error err;

#define ok(call)                                                                                   \
    do {                                                                                           \
        err.message[0] = 0;                                                                        \
        if (call) fail_msg("%s: %s", #call, err.message);                                          \
    } while (0)
#define expect_error(call, wanted, words)                                                          \
    do {                                                                                           \
        assert_int_equal(call, wanted);                                                            \
        assert_int_equal(err.code, wanted);                                                        \
        if (!strstr(err.message, words)) fail_msg("'%s' not in: %s", words, err.message);          \
    } while (0)

static inline struct siren_workspace *create_workspace(const char *name)
{
    struct siren_workspace *ws;
    ok(siren_workspace_open(&ws, scratch_path(name), SIREN_WORKSPACE_CREATE, &err));
    return ws;
}

/* As another program may, which does not look at foreign keys. */
static inline void sql(struct siren_workspace *ws, const char *text)
{
    char *message = NULL;
    sqlite3 *db = siren_workspace_db(ws);
    sqlite3_exec(db, "PRAGMA foreign_keys = 0", NULL, NULL, NULL);
    if (sqlite3_exec(db, text, NULL, NULL, &message)) fail_msg("%s: %s", text, message);
    sqlite3_exec(db, "PRAGMA foreign_keys = 1", NULL, NULL, NULL);
}

static inline long long number(struct siren_workspace *ws, const char *query)
{
    sqlite3_stmt *q;
    assert_int_equal(sqlite3_prepare_v2(siren_workspace_db(ws), query, -1, &q, NULL), SQLITE_OK);
    long long value = sqlite3_step(q) == SQLITE_ROW ? sqlite3_column_int64(q, 0) : -1;
    sqlite3_finalize(q);
    return value;
}

/* CSV text imported without a k-core; options may be NULL. */
static inline struct siren_workspace *import_text(const char *name, const char *csv,
                                                  struct siren_import_options *options,
                                                  struct siren_import_report *report)
{
    struct siren_import_options defaults;
    char source[300];
    siren_import_defaults(&defaults);
    defaults.k_core = 0;
    struct siren_workspace *ws = create_workspace(name);
    snprintf(source, sizeof source, "%s.csv", scratch_path(name));
    FILE *f = fopen(source, "wb");
    assert_non_null(f);
    fputs(csv, f);
    fclose(f);
    ok(siren_import(ws, source, options ? options : &defaults, report, NULL, &err));
    return ws;
}

#endif
