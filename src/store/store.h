/* What the files of src/store share: statements with errors as data. */
#ifndef SIREN_STORE_STORE_H
#define SIREN_STORE_STORE_H

#include <sqlite3.h>

#include "siren/workspace.h"

extern const char *const schema_steps[SIREN_SCHEMA_VERSION];

struct siren_workspace {
    sqlite3 *db;
    char *path;
    enum siren_workspace_mode mode;
    int timeout_ms;
    int depth; /* of open transactions */
};

/* Compile a statement; NULL in *out on failure. */
int store_prepare(struct siren_workspace *ws, sqlite3_stmt **out, const char *sql,
                  struct siren_error *err);
/* 1: a row, 0: done, negative: error (what: for the message). */
int store_step(struct siren_workspace *ws, sqlite3_stmt *statement, const char *what,
               struct siren_error *err);
/* Step to the end and reset; 0 or error. */
int store_run(struct siren_workspace *ws, sqlite3_stmt *statement, const char *what,
              struct siren_error *err);
/* One or more statements without results. */
int store_exec(struct siren_workspace *ws, const char *sql, const char *what,
               struct siren_error *err);
/* The first column of the only row of a query; `missing` if there is no row or it is NULL. */
int store_integer(struct siren_workspace *ws, const char *sql, int64_t missing, int64_t *value,
                  struct siren_error *err);
/* A copy of a text column ("" for NULL); NULL when out of memory. */
char *store_text(sqlite3_stmt *statement, int column);
/* commit when code is 0, else roll back; returns the first failure. */
int store_end(struct siren_workspace *ws, int code, struct siren_error *err);

/* Who writes to the workspace now, in words. */
void store_lock_holder(const char *path, char *text, size_t size);

void store_bind_time(sqlite3_stmt *statement, int index, int64_t time);
int64_t store_column_time(sqlite3_stmt *statement, int column);
void store_bind_number(sqlite3_stmt *statement, int index, double value); /* NAN: NULL */
double store_column_number(sqlite3_stmt *statement, int column);
/* Bytes of a text before the first that is not UTF-8. */
size_t store_utf8(const char *text, size_t length);
void store_clean(char *text); /* '?' for each that is none */
int64_t store_now(void);      /* ms since 1970 */

#define STORE_RATINGS_INDEX "CREATE INDEX ratings_item ON ratings(item)"
#define STORE_ITEM_INSERT "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
#define STORE_USER_INSERT "INSERT INTO users VALUES (?, ?)"
int store_item_hash(const struct siren_item *item, uint64_t *hash, struct siren_error *err);
/* Run a prepared STORE_ITEM_INSERT. */
int store_item_insert(struct siren_workspace *ws, sqlite3_stmt *insert, int64_t id,
                      const struct siren_item *item, struct siren_error *err);

/* Strings with one owner: freed together. */
struct strings {
    char **block;
    size_t n_blocks, capacity;
    size_t used, size; /* of the last block */
};
char *strings_add(struct strings *s, const char *text, size_t length); /* NULL: no memory */
void *strings_room(struct strings *s, size_t bytes);                   /* aligned for pointers */
void strings_free(struct strings *s);

#endif
