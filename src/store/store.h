/* What the files of src/store share: statements with errors as data. */
#ifndef SIREN_STORE_STORE_H
#define SIREN_STORE_STORE_H

#include <sqlite3.h>
#include <sys/stat.h>

#include "siren/workspace.h"

extern const char *const schema_steps[SIREN_SCHEMA_VERSION];

struct siren_workspace {
    sqlite3 *db;
    char *path;
    enum siren_workspace_mode mode;
    int timeout_ms;
    int depth; /* of open transactions */
    /* SQLite takes no lock on the file: it must be in this state after each read. */
    int immutable;
    struct stat state;
};

/* SIREN_EBUSY if an immutable workspace has changed. */
int store_check_unchanged(struct siren_workspace *ws, struct siren_error *err);

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

/* Who writes to the workspace now, in words. */
void store_lock_holder(const char *path, char *text, size_t size);

/* The text is the caller's until the statement has run. */
void store_bind_text(sqlite3_stmt *statement, int index, const char *text);         /* NULL: "" */
void store_bind_text_or_null(sqlite3_stmt *statement, int index, const char *text); /* NULL: NULL */
void store_bind_time(sqlite3_stmt *statement, int index, int64_t time);
int64_t store_column_time(sqlite3_stmt *statement, int column);
void store_bind_number(sqlite3_stmt *statement, int index, double value); /* NAN: NULL */
double store_column_number(sqlite3_stmt *statement, int column);
/* What is stored is put in prompts and printed as JSON: SIREN_EINVAL if it is not UTF-8. */
int store_check_text(const char *what, const char *text, struct siren_error *err);
/* A name that is shown on a line: SIREN_EINVAL if there is a control character in it, too. */
int store_check_line(const char *what, const char *text, struct siren_error *err);
int64_t store_now(void); /* ms since 1970 */

/* SIREN_ENOTFOUND if there is no such run. */
int store_run_exists(struct siren_workspace *ws, int64_t id, struct siren_error *err);
/* The id that the next new user gets: behind all that were ever given. */
int store_next_user(struct siren_workspace *ws, int64_t *next, struct siren_error *err);
/* In meta from the first user that was forgotten on: what the greatest id in the table no longer
 * says. */
#define STORE_NEXT_USER "next_user"

#define STORE_RATINGS_INDEX "CREATE INDEX ratings_item ON ratings(item)"
#define STORE_ITEM_INSERT "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
#define STORE_USER_INSERT "INSERT INTO users VALUES (?, ?)"
int store_item_hash(const struct siren_item *item, uint64_t *hash, struct siren_error *err);
/* Run a prepared STORE_ITEM_INSERT. */
int store_item_insert(struct siren_workspace *ws, sqlite3_stmt *insert, int64_t id,
                      const struct siren_item *item, struct siren_error *err);

/* The row of splits alone.  kind: "labels" (n_folds 0) or "folds"; settings: JSON, how it was made,
 * NULL: {}. */
int store_split(struct siren_workspace *ws, const char *kind, const char *name, int n_folds,
                const char *settings, struct siren_error *err);
/* The row of item_topics alone. */
int store_item_topic(struct siren_workspace *ws, int item, int topic, float distance, int second,
                     float second_distance, struct siren_error *err);

/* The text without a user's external id, malloc'ed (NULL: no memory); *changed counts the places.
 * An id that is a number is taken out only where the text says that it is a user's. */
char *redact_text(const char *text, const char *external, int *changed);
/* Of a command line: the value of --user, and the id in that of --name. */
char *redact_command(const char *text, const char *external, int *changed);
/* Of settings or metrics: under keys that begin with "user".  What is no JSON is free text. */
char *redact_json(const char *text, const char *external, int *changed);
/* Of the import's report: in its messages. */
char *redact_report(const char *text, const char *external, int *changed);

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
