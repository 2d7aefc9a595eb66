/* Import: a file of ratings becomes a workspace.
 *
 * Formats are recognised by content; plain, gzip and zstd files are read alike.
 *
 *   movies      a folder with history, train, valid and test .jsonl (the paper's split)
 *   amazon      Amazon Reviews 2023: raw reviews, JSONL; items: its metadata JSONL
 *   ml-100k     u.data, with u.item beside it (Latin-1)
 *   ml-1m       ratings.dat "user::item::rating::time", with movies.dat (Latin-1)
 *   ml-latest   ratings.csv, with movies.csv
 *   recbole     NAME.inter with a typed header, with NAME.item
 *   csv, tsv    columns named by options, or by their usual names
 *   jsonl       the same for JSON objects, one a line
 *
 * What is read passes these steps, and each counts what it drops in the report:
 * bad lines (an error that stops, or skipped; a quote that is never closed stops in any case, since
 * where its lines end is not known), one rating per user and item (the
 * latest kept), iterative k-core, the user's order (by time; ties by the
 * input's order; unknown times first), the split.
 *
 * An import is one transaction: it is there completely or not at all.  Importing
 * the same data again changes nothing; other data is refused unless `replace`. */
#ifndef SIREN_IMPORT_H
#define SIREN_IMPORT_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"
#include "siren/progress.h"
#include "siren/workspace.h"

#ifdef __cplusplus
extern "C" {
#endif

enum siren_split_kind {
    SIREN_SPLIT_DEFAULT, /* movies: its own; else leave-last-out */
    SIREN_SPLIT_NONE,    /* all are TRAIN */
    SIREN_SPLIT_LAST,    /* leave-last-out */
    SIREN_SPLIT_TIME,    /* global time */
};
/* AUTO: by the size of the largest; times that look like those of two units are an error. */
enum siren_time_unit {
    SIREN_TIME_AUTO,
    SIREN_TIME_S,
    SIREN_TIME_MS,
    SIREN_TIME_US,
    SIREN_TIME_NS,
};
enum siren_text_encoding { SIREN_TEXT_AUTO, SIREN_TEXT_UTF8, SIREN_TEXT_LATIN1 };

/* Names of columns or JSON fields; 1-based numbers for a file without a header.
 * NULL: the usual names are looked for ("user_id", "userId", "user", …). */
struct siren_import_columns {
    const char *user, *item, *rating, *time;
    const char *title, *categories, *features, *description, *year; /* of the items file */
};

/* All zero is the default, but for k_core and protocol: siren_import_defaults(). */
struct siren_import_options {
    const char *format; /* NULL: by content */
    const char *items;  /* items file; NULL: what lies beside the ratings; "": none */
    struct siren_import_columns columns;
    const char *separator;      /* of columns; NULL: by content */
    const char *list_separator; /* within categories; NULL: "|", in .item files a space */
    enum siren_text_encoding encoding;
    enum siren_time_unit time_unit;
    struct siren_scale scale; /* step 0: from the format or the values */
    int k_core;               /* -1: 5, and none for movies; 0: off */
    enum siren_split_kind split;
    int64_t train_until, valid_until; /* SPLIT_TIME, ms; 0: by shares */
    double train_share, valid_share;  /* 0: 0.8 and 0.1 */
    int folds;                        /* besides the split; 0: none */
    uint64_t seed;                    /* of the folds */
    int protocol;                     /* enum siren_protocol; -1: movies paper, else full */
    const char *noun;                 /* NULL: from the format */
    int skip_bad;                     /* count bad lines instead of stopping at the first */
    int all_items;                    /* keep items that nobody rated */
    int replace;                      /* throw away what the workspace holds */
};
void siren_import_defaults(struct siren_import_options *options);

#define SIREN_IMPORT_MESSAGES 5
struct siren_import_report {
    char format[16];
    char detected[1024]; /* what was recognised, in words */
    char items_file[256];
    int unchanged; /* the workspace held this import already; nothing was written */
    uint64_t lines, ratings_read;
    uint64_t bad_lines;                            /* skipped */
    int n_bad;                                     /* messages in bad[] */
    char bad[SIREN_IMPORT_MESSAGES][200];          /* about the first of them */
    uint64_t duplicates;                           /* earlier ratings of the same user and item */
    int k_core, core_rounds;                       /* 0: off */
    uint64_t core_ratings, core_users, core_items; /* dropped by it */
    uint64_t ratings, users, items;                /* kept */
    uint64_t no_time;                              /* kept ratings whose time is unknown */
    uint64_t labels[5];                            /* by enum siren_label */
    uint64_t short_users;  /* leave-last-out: users with fewer than 3 ratings */
    double median_history; /* ratings before a test target under the protocol */
    uint64_t items_read, items_unrated, items_repeated, items_untitled;
    int folds;
    struct siren_scale scale;
    enum siren_protocol protocol;
    char time_unit[8];
    char split[32];
    char notes[SIREN_IMPORT_MESSAGES][200]; /* peculiarities of the source */
    int n_notes;
    double seconds;
};

/* path: a file or a folder.  report may be NULL.  SIREN_EINVAL: options that are wrong, or that
 * change nothing in this source. */
int siren_import(struct siren_workspace *ws, const char *path,
                 const struct siren_import_options *options, struct siren_import_report *report,
                 const struct siren_progress *progress, struct siren_error *err);

/* The same for the workspace at a path.  One that is not there is filled under a temporary name
 * beside it (PATH.tmp-…) and takes its own when it is complete: a failed import leaves nothing, and
 * no other process sees it half way. */
int siren_import_into(const char *workspace, const char *path,
                      const struct siren_import_options *options,
                      struct siren_import_report *report, const struct siren_progress *progress,
                      struct siren_error *err);

/* The report as JSON, malloc'ed (also in the workspace: meta `import`). */
int siren_import_report_json(const struct siren_import_report *report, char **json,
                             struct siren_error *err);

/* "0.5:5:0.5", "1:5" (step 1). */
int siren_scale_parse(const char *text, struct siren_scale *scale, struct siren_error *err);

/* "2019-07-01", "2019-07-01T12:00:00Z", or a number of seconds or milliseconds since 1970: ms. */
int siren_time_parse(const char *text, int64_t *time, struct siren_error *err);

/* The paper's "Title, Category|Category": where the title ends and where the categories
 * begin.  *title_length may be the whole text. */
void siren_movies_border(const char *text, size_t length, size_t *title_length,
                         size_t *categories_at);

#ifdef __cplusplus
}
#endif
#endif
