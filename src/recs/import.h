/* What the files of the import share.  import_*.c of this folder read and reduce; the workspace
 * is written by store/import.c. */
#ifndef SIREN_RECS_IMPORT_H
#define SIREN_RECS_IMPORT_H

#include <xxhash.h>

#include "base/buf.h"
#include "recs/idmap.h"
#include "siren/file.h"
#include "siren/import.h"

/* ---- JSON, one object a line, read in place ---- */

enum json_kind { JSON_STRING_, JSON_NUMBER_, JSON_LITERAL_, JSON_ARRAY_, JSON_OBJECT_ };
struct json_span {
    enum json_kind kind;
    char *text; /* strings: between the quotes, escapes as they stand */
    size_t length;
    int escaped; /* strings: holds a backslash */
};
struct json_cursor {
    char *at, *end;
    const char *expected; /* after a failure: what */
    int first;
};
/* Begin with an object or array that spans the whole text. 0, or -1. */
int json_open(struct json_cursor *c, char *text, size_t length, char bracket);
/* Next member of an object or (key NULL) entry of an array: 1, 0 at the end, -1 for bad JSON. */
int json_next(struct json_cursor *c, struct json_span *key, struct json_span *value);
/* Decode a string's escapes in place and NUL-terminate it. 0, or -1 (bad escape, NUL). */
int json_decode(struct json_span *string);
int json_is(const struct json_span *key, const char *name);

/* ---- delimited text ---- */

struct fields {
    char **at; /* NUL-terminated each */
    size_t *length;
    size_t n, at_capacity, length_capacity;
};
/* Split a line in place.  quotes: RFC 4180.  SIREN_EFORMAT, SIREN_ENOMEM. */
int fields_split(struct fields *f, char *line, size_t length, const char *separator, int quotes,
                 struct siren_error *err);
/* No field behind those of the header (0: there is none) but empty ones. */
int fields_check(const struct fields *f, size_t header, struct siren_error *err);
void fields_free(struct fields *f);
/* As fields_split() reads a NUL-terminated line that begins with a field, or within a quoted one
 * (open): a quote is open at its end, and the record goes on in the next line. */
int fields_open_quote(const char *line, size_t length, const char *separator, int open);

/* A record as its lines come: one, or several where quotes hold line breaks. */
struct joined_record {
    struct buf lines; /* empty where it is a single one */
    int open;         /* a quote is */
};
void joined_begin(struct joined_record *r);
/* 1: the line after this one belongs to it, too. */
int joined_add(struct joined_record *r, const char *line, size_t length, const char *separator);
/* Whole: *line and *length, those of its last line, become the record's.  A quote that is still
 * open is an error at `first`, the record's first line of the file `path`; at_end: no line was
 * left. */
int joined_end(struct joined_record *r, const char *path, uint64_t first, int at_end, char **line,
               size_t *length, struct siren_error *err);

/* Whole text to a finite number; 0 or -1. */
int parse_number(const char *text, size_t length, double *number);
/* A number, or YYYY-MM-DD[ T]HH:MM[:SS][Z] as ms (*is_date). Empty: NaN. 0 or -1. */
int parse_time(const char *text, size_t length, double *time, int *is_date);

/* ---- the ratings as read ---- */

struct raw_table {
    size_t n, capacity[5];
    uint32_t *user, *item;
    float *rating;
    double *time;   /* as it stands; NaN: unknown */
    uint8_t *label; /* of the source's own split */
    struct idmap users, items;
    int time_kind;  /* 0: none yet, 1: numbers, 2: dates in ms */
    int own_order;  /* 1: the input's order is the users' order (movies) */
    int own_labels; /* 1: label[] is the split */
};
void raw_free(struct raw_table *t);

struct record {
    const char *user, *item;
    size_t user_length, item_length;
    double rating, time;
    int is_date, timed; /* timed: there is a time, known or not */
};

/* ---- the source ---- */

enum format {
    FORMAT_MOVIES,
    FORMAT_AMAZON,
    FORMAT_ML100K,
    FORMAT_ML1M,
    FORMAT_MLLATEST,
    FORMAT_RECBOLE,
    FORMAT_CSV,
    FORMAT_TSV,
    FORMAT_JSONL,
};
const char *format_name(enum format format);

/* How records of one file are read. */
struct layout {
    int json;
    const char *user, *item, *rating, *time;  /* JSON fields */
    int user_at, item_at, rating_at, time_at; /* columns, -1: none */
    char separator[8];
    int quotes;
    size_t header;    /* columns of the first line that is not empty; 0: it is none */
    size_t n_columns; /* least number of columns of a line */
    /* The name that is given for the item is not here, so it has to be the items': else this. */
    int item_elsewhere;
    struct siren_error no_item;
};

/* The same for the items file. */
enum items_kind { ITEMS_NONE, ITEMS_COLUMNS, ITEMS_ML100K, ITEMS_JSON };
struct items_layout {
    enum items_kind kind;
    const char *id, *title, *categories, *features, *description, *year; /* JSON fields */
    int id_at, title_at, categories_at, features_at, description_at, year_at;
    char separator[8], list_separator[8];
    int quotes;
    size_t header;
};

struct source {
    enum format format;
    const struct siren_import_options *options;
    char *path;       /* the file of ratings, or the folder (movies) */
    char *items_path; /* NULL: none */
    enum siren_encoding encoding;
    struct layout layout;
    struct items_layout items;
    struct siren_scale scale; /* step 0: to be detected */
    const char *noun;
    int protocol, k_core;
    struct buf names; /* "; user: COLUMN, item: COLUMN, …", where they were found by name */
    struct siren_import_report *report;
    const struct siren_progress *progress;
    XXH3_state_t *hash; /* of all that was read */
};

/* Recognise the format, find the files and the columns. */
int source_open(struct source *s, const char *path, struct siren_error *err);
void source_close(struct source *s);
/* A file or a folder, and no pipe. */
int check_source(const char *path, struct siren_error *err);
int detect_format(struct source *s, const char *path, struct siren_error *err);
int find_layout(struct source *s, struct siren_error *err);
int find_items(struct source *s, struct siren_error *err);
/* SIREN_EINVAL: an option that changes nothing in this source. */
int check_effect(struct source *s, struct siren_error *err);
/* A column or field that was asked for is in no line. */
int never_seen(const char *path, const char *given, const char *what, struct siren_error *err);
/* A file NAME, NAME.gz or NAME.zst in a folder; malloc'ed, NULL if there is none. */
char *find_file(const char *folder, const char *name);
/* "folder/ml-100k.inter" for ".inter": the first by name, or .gz or .zst. */
char *find_ending(const char *folder, const char *ending);
/* The first line that is not empty, "" if there is none; free the text. */
struct text_line {
    char *text;
    size_t length;
    uint64_t number; /* from 1 */
};
int first_line(const char *path, enum siren_encoding encoding, struct text_line *out,
               struct siren_error *err);
void source_note(struct source *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Lines of a file with the source's hash, progress and policy for bad lines. */
struct reader {
    struct source *source;
    struct siren_lines *lines;
    const char *path, *what;
    const char *separator; /* with quotes */
    int skip_header, quotes;
    struct joined_record joined;
    uint64_t first; /* the record's first line */
};
/* siren_lines_open(), with what --encoding may do about bytes that are no UTF-8. */
int import_lines(struct siren_lines **out, const char *path, enum siren_encoding encoding,
                 struct siren_error *err);
int reader_open(struct reader *r, struct source *s, const char *path, enum siren_encoding encoding,
                const char *what, struct siren_error *err);
/* 1, 0 or an error. */
int reader_next(struct reader *r, char **line, size_t *length, struct siren_error *err);
/* A record was bad (*err holds why, without place): 0 if it is skipped, else the error. */
int reader_bad(struct reader *r, int code, struct siren_error *err);
void reader_close(struct reader *r);

int read_ratings(struct source *s, struct raw_table *t, struct siren_error *err);
/* The scale of the values, or a check against the one that is given. */
struct scale_watch {
    double value[64];
    uint64_t line[64];
    int n;
    int overflow;
};
int scale_check(const struct siren_scale *scale, struct scale_watch *w, double rating,
                uint64_t line, struct siren_error *err);
int scale_detect(struct source *s, const struct scale_watch *w, struct siren_error *err);
int raw_add(struct raw_table *t, const struct record *record, int label, struct siren_error *err);

/* movies: titles[item] = "Title, Category|Category". */
int read_movies(struct source *s, struct raw_table *t, struct idmap *texts,
                struct siren_error *err);

/* An item of the items file; strings live until the next one. */
typedef int item_sink(void *context, const struct siren_item *item, struct siren_error *err);
int read_items(struct source *s, item_sink *sink, void *context, struct siren_error *err);

/* ---- reduction ---- */

/* Deduplicate, k-core, order, renumber.  new_user[old], new_item[old]: -1 where dropped. */
struct reduced {
    struct siren_ratings ratings;
    int32_t *new_user, *new_item;
};
int reduce(struct source *s, struct raw_table *t, struct reduced *out, struct siren_error *err);
void reduced_free(struct reduced *r);
int split_ratings(struct source *s, struct siren_ratings *r, int own_labels,
                  struct siren_error *err);

#endif
