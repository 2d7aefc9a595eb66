/* The workspace: one SQLite file that holds a recommender's whole state.
 *
 * Items, users, ratings, splits, embeddings, topics, sketches, runs with their
 * settings, predictions.  docs/workspace.md documents the tables, so that a
 * person can query the file with `sqlite3` and another program can read it.
 *
 *     struct siren_workspace *ws;
 *     if (siren_workspace_open(&ws, "films.siren", SIREN_WORKSPACE_READ, &err)) …
 *     struct siren_ratings ratings;
 *     if (siren_ratings_load(&ratings, ws, &err)) …       // flat arrays: compute on these
 *     …
 *     siren_ratings_clear(&ratings);
 *     siren_workspace_close(ws);
 *
 * Several processes may read while one writes (SQLite's WAL).  A handle is used
 * by one thread at a time; threads that want their own open their own.  A writer
 * that finds another one waits for the timeout, then fails with SIREN_EBUSY and
 * names the process that holds the file.
 *
 * Functions that write run inside the caller's transaction if one is open, else
 * in one of their own: each either completes or leaves everything as it was.
 *
 * Conventions: ids are dense 0-based ints (items exactly; users with holes where a
 * person was forgotten, whose id is given to nobody else).  Times are milliseconds since 1970,
 * SIREN_NO_TIME where unknown.  Strings are UTF-8.  Whatever a function hands out is freed by the
 * _clear() beside it; _clear() of a zeroed struct does nothing. */
#ifndef SIREN_WORKSPACE_H
#define SIREN_WORKSPACE_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"
#include "siren/progress.h"
#include "siren/sketch.h"

#ifdef __cplusplus
extern "C" {
#endif

struct sqlite3;

/* ---- the file ---- */

struct siren_workspace;

enum siren_workspace_mode {
    SIREN_WORKSPACE_READ,   /* must exist; only an older schema is migrated, nothing else written */
    SIREN_WORKSPACE_WRITE,  /* must exist */
    SIREN_WORKSPACE_CREATE, /* as WRITE; made if there is none */
};

/* The schema this library writes; kept in PRAGMA user_version.  Older files are
 * migrated when they are opened, in whatever mode; newer ones are refused. */
#define SIREN_SCHEMA_VERSION 3
#define SIREN_APPLICATION_ID 0x5349524e /* "SIRN", PRAGMA application_id */

/* SIREN_ENOTFOUND: no file.  SIREN_EFORMAT: not an SQLite database, damaged, or the
 * database of another program.  SIREN_EUNSUPPORTED: made by a newer SIREN, or older and
 * not to be written.  SIREN_EIO: no permission, a read-only file opened for
 * writing.  SIREN_EBUSY: locked for longer than the timeout. */
int siren_workspace_open(struct siren_workspace **out, const char *path,
                         enum siren_workspace_mode mode, struct siren_error *err);
void siren_workspace_close(struct siren_workspace *ws); /* NULL is allowed; rolls back */
const char *siren_workspace_path(const struct siren_workspace *ws);
/* How long to wait for another process (default 5,000 ms). */
void siren_workspace_timeout(struct siren_workspace *ws, int timeout_ms);

/* The connection, for queries of one's own.  After an SQLite error call
 * siren_workspace_fail() to get a SIREN_E… code with place and cause. */
struct sqlite3 *siren_workspace_db(struct siren_workspace *ws);
int siren_workspace_fail(struct siren_workspace *ws, const char *what, struct siren_error *err);

/* Transactions; begin may be nested (an inner one is a savepoint).  begin takes the write
 * lock at once, so that SIREN_EBUSY comes here and not half way. */
int siren_workspace_begin(struct siren_workspace *ws, struct siren_error *err);
int siren_workspace_commit(struct siren_workspace *ws, struct siren_error *err);
void siren_workspace_rollback(struct siren_workspace *ws);
/* The one or the other: commits where rc is 0, else rolls back and returns rc. */
int siren_workspace_end(struct siren_workspace *ws, int rc, struct siren_error *err);
/* A consistent view for several reads in a row (a writer may go on meanwhile); ended by commit. */
int siren_workspace_begin_read(struct siren_workspace *ws, struct siren_error *err);

/* ---- meta: what the whole workspace is about ---- */

/* A rating scale: a, a + step, …, b. */
struct siren_scale {
    double min, max, step;
};
/* Labels of a scale: 1..5 step 1 has 5, 0.5..5 step 0.5 has 10; 0: they are more than
 * SIREN_MAX_LABELS, or the steps do not lead from one end to the other. */
int siren_scale_labels(const struct siren_scale *scale);
/* SIREN_EINVAL, and why, unless there are 2 labels or more. */
int siren_scale_check(const struct siren_scale *scale, struct siren_error *err);
/* The label's number (0-based) that a rating is nearest to; -1: outside the scale or NaN. */
int siren_scale_label(const struct siren_scale *scale, double rating);
/* The same where the rating is that label (within 1e-6, or as near as a float is); else -1. */
int siren_scale_exact_label(const struct siren_scale *scale, double rating);
double siren_scale_value(const struct siren_scale *scale, int label);
/* "1", "3.5": how the label is written in prompts and tables, as siren_rating_text() does. */
void siren_scale_text(const struct siren_scale *scale, int label, char text[24]);

enum siren_protocol {
    SIREN_PROTOCOL_FULL,  /* a history holds all that precedes the target */
    SIREN_PROTOCOL_PAPER, /* a test target's history ends before the valid interaction */
};
const char *siren_protocol_name(enum siren_protocol protocol); /* "full", "paper" */

struct siren_meta {
    struct siren_scale scale;
    enum siren_protocol protocol;
    char noun[64];    /* what an item is called in prompts: "movie", "book", "item" */
    char source[256]; /* where the ratings came from: format and file name */
};
int siren_meta_load(struct siren_meta *out, struct siren_workspace *ws, struct siren_error *err);
int siren_meta_save(struct siren_workspace *ws, const struct siren_meta *meta,
                    struct siren_error *err);
/* Single keys, for settings of an application's own ("app.…").  get: *value malloc'ed, NULL if
 * there is no such key. */
int siren_meta_get(struct siren_workspace *ws, const char *key, char **value,
                   struct siren_error *err);
int siren_meta_set(struct siren_workspace *ws, const char *key, const char *value,
                   struct siren_error *err);

/* ---- items ---- */

struct siren_item {
    const char *external;          /* id in the source */
    const char *title;             /* never NULL; the external id where the source has none */
    const char *const *categories; /* NULL-terminated, broadest first */
    const char *const *features;   /* NULL-terminated */
    const char *description;       /* "" if none */
    int n_categories, n_features;
    int year;      /* of release; 0: unknown */
    uint64_t hash; /* of siren_item_text(…, 1): an embedding made from another text is stale */
};
struct siren_items {
    int n; /* ids 0..n-1 */
    struct siren_item *item;
    void *owner; /* the strings */
};
int siren_items_load(struct siren_items *out, struct siren_workspace *ws, struct siren_error *err);
void siren_items_clear(struct siren_items *items);
/* *id of an external id; SIREN_ENOTFOUND says which was asked and how many there are, or which item
 * has it as its title. */
int siren_item_find(struct siren_workspace *ws, const char *external, int *id,
                    struct siren_error *err);
/* Add an item (external must be new); fields other than external may be NULL/0.  SIREN_EINVAL: a
 * text is not UTF-8, or the id is empty; so for users. */
int siren_item_add(struct siren_workspace *ws, const struct siren_item *item, int *id,
                   struct siren_error *err);
/* "Title: …\nCategory: a|b\nFeature: x###y." with the lines that the item has;
 * with_description adds "\nDescription: …".  malloc'ed. */
int siren_item_text(const struct siren_item *item, int with_description, char **text,
                    struct siren_error *err);

/* ---- users ---- */

struct siren_users {
    int n;                 /* ids 0..n-1, with holes */
    const char **external; /* NULL: forgotten */
    void *owner;
};
int siren_users_load(struct siren_users *out, struct siren_workspace *ws, struct siren_error *err);
void siren_users_clear(struct siren_users *users);
enum { SIREN_ID_BYTES = 1000 }; /* an id, of a user or an item, has at most so many */
int siren_user_find(struct siren_workspace *ws, const char *external, int *id,
                    struct siren_error *err);
int siren_user_add(struct siren_workspace *ws, const char *external, int *id,
                   struct siren_error *err);

/* ---- ratings ---- */

/* What a rating is for.  "Train" in the sense of means, matrix factorisation and
 * counts is TRAIN and HISTORY together: siren_label_trains(). */
enum siren_label {
    SIREN_LABEL_NONE,    /* came later (`siren rate`), in no split */
    SIREN_LABEL_TRAIN,   /* a training target */
    SIREN_LABEL_VALID,   /* a validation target */
    SIREN_LABEL_TEST,    /* a test target */
    SIREN_LABEL_HISTORY, /* precedes targets, is none itself */
};
const char *siren_label_name(int label); /* "none", "train", … */
int siren_label_parse(const char *name, int *label, struct siren_error *err);
static inline int siren_label_trains(int label)
{
    return label == SIREN_LABEL_TRAIN || label == SIREN_LABEL_HISTORY;
}

/* All ratings, ordered by user, then by the user's order: rating number k of user u is
 * row user_start[u] + k, and its sequence is k. */
struct siren_ratings {
    int n_users, n_items; /* ids are below these */
    size_t n;
    int32_t *user, *item;
    float *rating;
    int64_t *time; /* ms; SIREN_NO_TIME */
    int32_t *sequence;
    uint8_t *label;     /* enum siren_label */
    uint8_t *fold;      /* of k-fold; 255: none */
    size_t *user_start; /* (n_users + 1) */
    int n_folds;        /* 0: the workspace has no folds */
    int current_fold;   /* -1, or the fold that siren_ratings_use_fold() made the test set */
    uint64_t fold_seed; /* … and the seed that its valid rows were drawn with */
    uint8_t *own_label; /* (n) the labels of the split while a fold is in use; else NULL */
    struct siren_scale scale;
    enum siren_protocol protocol;
};
int siren_ratings_load(struct siren_ratings *out, struct siren_workspace *ws,
                       struct siren_error *err);
void siren_ratings_clear(struct siren_ratings *ratings);
/* Relabel in memory: fold f is test, the others train; of these a share `valid` (0..1), drawn
 * with `seed`, is valid.  f below 0: the labels are those of the split again. */
int siren_ratings_use_fold(struct siren_ratings *ratings, int fold, double valid, uint64_t seed,
                           struct siren_error *err);

/* What may be known of row `target`'s user before it: calls for the point-in-time history.
 * Rows are in the user's order, strictly before the target.  Left out are
 *   - under protocol paper, the valid interaction before a test target;
 *   - when a fold is in use, rows that are valid or test themselves;
 *   - the `gap` rows just before the target, whatever their label.  A test target under protocol
 *     paper is predicted with one rating between it and its history: gap 1 says the same of targets
 *     of train and valid, and of those of test nothing new.
 * rows (may be NULL: count only) has space for the target's sequence number of rows, which is the
 * most there can be.  Returns how many. */
size_t siren_history(const struct siren_ratings *ratings, size_t target, size_t gap, size_t *rows);
/* The same for a prediction that is made now, after all of the user's ratings. */
size_t siren_history_now(const struct siren_ratings *ratings, int user, size_t gap, size_t *rows);
/* As-of order between rows of different users: may the aggregates of a target use this row?
 * It must train, have a time, and that time must be before the target's. */
int siren_row_precedes(const struct siren_ratings *ratings, size_t row, size_t target);
/* Row of (user, item), or SIZE_MAX. */
size_t siren_ratings_row(const struct siren_ratings *ratings, int user, int item);

/* For siren_rate(): a new rating is of now, a corrected one keeps its time. */
#define SIREN_NOW (INT64_MIN + 1)
/* Add a rating, or correct the one that is there (its time too, if given): the user's order is
 * kept (by time; with SIREN_NO_TIME after all others).  Its label is NONE if it is new.  The user's
 * stored sketch follows in O(1) if the item has a topic.  SIREN_EINVAL if it is off the scale. */
struct siren_rate_result {
    int corrected;     /* 1: there was one: previous */
    double previous;   /* rating that it replaces */
    int64_t time;      /* that is stored now */
    int sequence;      /* that it has now */
    int late;          /* 1: others of this user follow it */
    int order_changed; /* 1: an existing rating moved */
    int topic;         /* whose sketch state was updated; -1: none */
    int second_topic;  /* soft sketches: that shares the rating; -1: none */
};
int siren_rate(struct siren_workspace *ws, int user, int item, double rating, int64_t time,
               struct siren_rate_result *result, struct siren_error *err);

/* Erase a person: every row of every table with a column `user`, what runs and the import's report
 * say of them (docs/workspace.md), and their bytes (the file is rewritten).  Not inside a
 * transaction.  *rows (may be NULL): how many rows went.  SIREN_EBUSY after the erasure if a reader
 * still holds pages of the old file: run it again then. */
int siren_forget(struct siren_workspace *ws, const char *external, size_t *rows,
                 struct siren_error *err);

/* ---- splits ---- */

/* A workspace has at most one split of labels ("leave-last-out", "global-time", "paper", …) and one
 * of folds.  These make them on arrays (label[], fold[] only). */
void siren_split_leave_last_out(struct siren_ratings *ratings);
int siren_split_folds(struct siren_ratings *ratings, int n_folds, uint64_t seed,
                      struct siren_error *err);
/* Before train_until: train; before valid_until: valid; then test.  Ratings without a time are
 * HISTORY. */
int siren_split_time(struct siren_ratings *ratings, int64_t train_until, int64_t valid_until,
                     struct siren_error *err);
/* The times that cut the ratings at these shares (0.8, 0.1: 80 % train, 10 % valid, 10 % test). */
int siren_split_fractions(const struct siren_ratings *ratings, double train, double valid,
                          int64_t *train_until, int64_t *valid_until, struct siren_error *err);
/* The half that a user's rows belong to when a split is halved by user: 0 is A, 1 is B.
 * A function of the external id alone, so it outlives imports and does not depend on a seed. */
int siren_user_half(const char *external);
/* Store the labels (folds = 0) or the folds (folds = 1) of the arrays under a name. */
int siren_split_save(struct siren_workspace *ws, const struct siren_ratings *ratings, int folds,
                     const char *name, const char *settings, struct siren_error *err);

/* ---- embeddings ---- */

/* One encoder's vectors for the items; identity is the model's name with a hash of its files, so
 * that vectors of different encoders never mix.  Where a hash is, it alone is compared: the name is
 * where the encoder lay. */
struct siren_embeddings {
    int encoder; /* id of the encoder in the workspace */
    char identity[256];
    int n, d;      /* items, dimensions */
    int unit;      /* 1: vectors have length 1 */
    float *vector; /* (n, d), items' order; a missing one is all zeros */
    uint8_t *has;  /* (n) 0: missing or made from another text than the item has now */
};
/* *id of the encoder, made if need be; SIREN_EEXISTS if it is there with another d or unit. */
int siren_encoder_add(struct siren_workspace *ws, const char *identity, int d, int unit,
                      int *encoder, struct siren_error *err);
/* Vectors (n, d) of items[0..n) made from texts with these hashes; replaces.  Items that are not
 * there any more are left out. */
int siren_embeddings_save(struct siren_workspace *ws, int encoder, const int32_t *items, size_t n,
                          const float *vectors, const uint64_t *hashes, struct siren_error *err);
/* Make this encoder the default.  All items must have an up-to-date vector; otherwise nothing
 * changes and *missing is how many do not. */
int siren_encoder_finish(struct siren_workspace *ws, int encoder, int64_t *missing,
                         struct siren_error *err);
/* identity NULL: the encoder that was finished last.  SIREN_ENOTFOUND if there is none. */
int siren_embeddings_load(struct siren_embeddings *out, struct siren_workspace *ws,
                          const char *identity, struct siren_error *err);
void siren_embeddings_clear(struct siren_embeddings *embeddings);

/* ---- topics ---- */

/* A clustering: K centres, names, and each item's topic.  The workspace keeps one current
 * clustering; saving another replaces it together with the sketches that were built on it. */
enum siren_name_source { SIREN_NAME_NONE, SIREN_NAME_LLM, SIREN_NAME_TFIDF, SIREN_NAME_HAND };
struct siren_topics {
    int k, d, n; /* topics, dimensions, items */
    char encoder[256];
    int spherical;
    double inertia;
    char *settings;         /* JSON: seed, restarts, iterations … */
    float *centre;          /* (k, d) */
    char **name;            /* (k); NULL while unnamed */
    uint8_t *name_source;   /* (k) enum siren_name_source */
    int32_t *topic;         /* (n) nearest centre; -1: the item has none */
    float *distance;        /* (n) squared distance to it */
    int32_t *second;        /* (n) next nearest, for soft assignment; -1 */
    float *second_distance; /* (n) */
};
/* Zeroed arrays of these sizes (topic and second -1), to be filled and saved. */
int siren_topics_create(struct siren_topics *out, int k, int d, int n, struct siren_error *err);
int siren_topics_load(struct siren_topics *out, struct siren_workspace *ws,
                      struct siren_error *err); /* SIREN_ENOTFOUND: `siren topics` comes first */
int siren_topics_save(struct siren_workspace *ws, const struct siren_topics *topics,
                      struct siren_error *err);
void siren_topics_clear(struct siren_topics *topics);
/* A number that changes with the clustering, a name, and the import.  For what takes long: stamped
 * together with what is read, and again in the transaction that stores what came of it. */
int siren_topics_stamp(struct siren_workspace *ws, uint64_t *stamp, struct siren_error *err);
/* One name, e.g. edited by hand. SIREN_EEXISTS if another topic has it, SIREN_EINVAL if it is
 * blank, not UTF-8 or of several lines.  Spaces around it are left out. */
int siren_topic_name(struct siren_workspace *ws, int topic, const char *name,
                     enum siren_name_source source, struct siren_error *err);
/* One item's topic (a new item goes to its nearest); the sketches of those who rated it follow. */
int siren_topic_assign(struct siren_workspace *ws, int item, int topic, float distance, int second,
                       float second_distance, struct siren_error *err);

/* ---- sketches: the state that makes an update O(1) ----
 * They stand for now: of all of a user's ratings, whatever their label (a sketch for a past
 * target is computed from its siren_history()).  siren_rate() and siren_topic_assign() keep them up
 * to date. */

struct siren_sketch_row {
    int32_t user, topic;
    struct siren_topic_state state;
};
/* One user's rows by topic (user < 0: all users', by user and topic); malloc'ed, free(). */
int siren_sketch_rows_load(struct siren_workspace *ws, int user, struct siren_sketch_row **rows,
                           size_t *n, struct siren_error *err);
/* Insert or replace these rows (a row whose weight is 0 is removed). */
int siren_sketch_rows_save(struct siren_workspace *ws, const struct siren_sketch_row *rows,
                           size_t n, struct siren_error *err);
/* Remove one user's rows (user < 0: all). */
int siren_sketch_rows_delete(struct siren_workspace *ws, int user, struct siren_error *err);
/* 1 when sketches share a rating between the item's two nearest topics (siren_sketch_soft());
 * kept with the topics so that every update does as the first did. */
int siren_sketch_soft_load(struct siren_workspace *ws, int *soft, struct siren_error *err);
int siren_sketch_soft_save(struct siren_workspace *ws, int soft, struct siren_error *err);

/* ---- runs and predictions ---- */

enum siren_run_status { SIREN_RUN_RUNNING, SIREN_RUN_DONE, SIREN_RUN_FAILED, SIREN_RUN_STOPPED };
struct siren_run {
    int64_t id;
    char *kind;     /* "eval", "judge", "baseline", "calibration"; "sft", "align", "grpo", "all" */
    char *name;     /* the user's or a made one; not necessarily unique */
    char *command;  /* the command line */
    char *settings; /* JSON: all that determines the result; equal settings may be resumed */
    char *model;    /* identity: name and hash; "" without */
    char *split;    /* "test", "valid", "fold 2 of 5", … */
    char *metrics;  /* JSON; "" until there are any */
    char *message;  /* why it failed or stopped */
    uint64_t seed;
    int64_t started, finished; /* ms; SIREN_NO_TIME: it runs, or nobody saw its end */
    int status;                /* enum siren_run_status */
    size_t n_predictions;
};
const char *siren_run_status_name(int status);
/* A name stands in a line of a list: it is UTF-8 of at most SIREN_RUN_NAME bytes, without newlines
 * and other control characters.  Empty: no name. */
enum { SIREN_RUN_NAME = 200 };
int siren_run_name_check(const char *name, struct siren_error *err);
/* Stores run's kind, name, command, settings, model, split, seed (NULL is ""); sets id, started. */
int siren_run_start(struct siren_workspace *ws, struct siren_run *run, struct siren_error *err);
/* status, metrics (NULL: as they were) and message (NULL: ""). */
int siren_run_finish(struct siren_workspace *ws, int64_t id, int status, const char *metrics,
                     const char *message, struct siren_error *err);
int siren_run_rename(struct siren_workspace *ws, int64_t id, const char *name,
                     struct siren_error *err);
/* The last unfinished run with this kind and equal settings: *id, or 0 if there is none. */
int siren_run_find_unfinished(struct siren_workspace *ws, const char *kind, const char *settings,
                              int64_t *id, struct siren_error *err);
/* A run that is stored as running but whose process has ended without a word (killed, or the
 * machine with it) is loaded as stopped, and its message says so. */
int siren_run_load(struct siren_run *out, struct siren_workspace *ws, int64_t id,
                   struct siren_error *err);
void siren_run_clear(struct siren_run *run);
/* All runs, oldest first (kind NULL: of every kind). */
int siren_runs_load(struct siren_run **runs, size_t *n, struct siren_workspace *ws,
                    const char *kind, struct siren_error *err);
void siren_runs_free(struct siren_run *runs, size_t n);
/* In place of those that it has; nothing else is changed. */
int siren_run_set_metrics(struct siren_workspace *ws, int64_t id, const char *metrics,
                          struct siren_error *err);
/* SIREN_EBUSY: another process is at it. */
int siren_run_delete(struct siren_workspace *ws, int64_t id, struct siren_error *err);

struct siren_prediction {
    int64_t row; /* number within the run: saving a row again replaces it */
    int32_t user, item;
    double truth;                /* NAN: not known */
    int n_labels;                /* of the two arrays; 0: none */
    const float *probabilities;  /* (n_labels) over the scale's labels, sum 1; NULL: none */
    const float *logprobs;       /* (n_labels) raw joint log-probabilities; NULL: none */
    double argmax, mean, median; /* decoders' values; NAN: none */
    double outside;              /* probability mass outside the labels; NAN: unknown */
    int tokens_in, tokens_out, tokens_cached;
    double latency_ms;
    int invalid;      /* 1: no rating could be read; the policy's value stands in the decoders */
    const char *text; /* the CoT; NULL: none */
    /* JSON, NULL: none: {"texts": 8, "in_format": 7, "unreadable": 1, "number": 3.9,
     * "faults": {"truncated": 1}}; number: the mean of the numbers read, faults: texts with each */
    const char *reasoning;
};
/* SIREN_ENOTFOUND if the run was deleted.  Left out are rows of users who were forgotten since. */
int siren_predictions_save(struct siren_workspace *ws, int64_t run,
                           const struct siren_prediction *predictions, size_t n,
                           struct siren_error *err);
/* All of a run, by row. */
struct siren_predictions {
    size_t n;
    struct siren_prediction *prediction;
    void *owner;
};
int siren_predictions_load(struct siren_predictions *out, struct siren_workspace *ws, int64_t run,
                           struct siren_error *err);
void siren_predictions_clear(struct siren_predictions *predictions);
/* done[row] = 1 for rows below n that the run has: for resuming. */
int siren_predictions_done(struct siren_workspace *ws, int64_t run, uint8_t *done, size_t n,
                           struct siren_error *err);

#ifdef __cplusplus
}
#endif
#endif
