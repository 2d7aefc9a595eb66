/* The import as a whole: read, reduce, split, write in one transaction. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/path.h"
#include "base/utf8.h"
#include "recs/import.h"
#include "store/import_settings.h"
#include "store/store.h"

void siren_import_defaults(struct siren_import_options *options)
{
    *options = (struct siren_import_options){.k_core = -1, .protocol = -1};
}

/* All that the steps hand on to each other. */
struct import {
    struct source source;
    struct raw_table table;
    struct reduced reduced;
    struct idmap texts; /* movies: "NUMBER\tTitle, Category|Category" by raw item */
    struct siren_workspace *ws;
    int write; /* 0: only hash the items, nothing is stored */
    sqlite3_stmt *insert;
    uint8_t *written; /* by new item; items that nobody rated get ids behind the others */
    int n_items;
    struct idmap unrated;
};

static void import_free(struct import *im)
{
    sqlite3_finalize(im->insert);
    free(im->written);
    idmap_free(&im->texts);
    idmap_free(&im->unrated);
    reduced_free(&im->reduced);
    raw_free(&im->table);
    source_close(&im->source);
}

/* ---- items ---- */

/* Of an item that nobody rated: its new id, -1 if it is not to be kept, -2 without memory. */
static int unrated_id(struct import *im, const char *external, int *repeated)
{
    struct siren_import_report *report = im->source.report;
    size_t length = strlen(external);
    if (!im->source.options->all_items) {
        report->items_unrated++;
        return -1;
    }
    *repeated = idmap_find(&im->unrated, external, length) >= 0;
    int64_t number = idmap_add(&im->unrated, external, length);
    if (number < 0) return -2;
    if (!*repeated) {
        im->n_items++;
        report->items_unrated++;
    }
    return im->reduced.ratings.n_items + (int)number;
}

static int take_item(void *context, const struct siren_item *item, struct siren_error *err)
{
    struct import *im = context;
    struct siren_import_report *report = im->source.report;
    int repeated = 0;
    report->items_read++;
    int64_t raw = idmap_find(&im->table.items, item->external, strlen(item->external));
    int id = raw >= 0 ? im->reduced.new_item[raw] : -1;
    if (id >= 0) {
        repeated = im->written[id];
        im->written[id] = 1;
    } else {
        id = unrated_id(im, item->external, &repeated);
        if (id == -2) return siren_fail_memory(err, "items", im->unrated.n);
        if (id < 0) return SIREN_OK;
    }
    if (repeated) {
        report->items_repeated++;
        return SIREN_OK;
    }
    report->items_untitled += !item->title;
    return im->write ? store_item_insert(im->ws, im->insert, id, item, err) : SIREN_OK;
}

/* The categories of "a|b|c", split in place; an empty list for "". */
static int split_categories(char *text, const char ***list, size_t *capacity,
                            struct siren_error *err)
{
    size_t n = 0;
    for (char *next; text && *text; text = next) {
        next = strchr(text, '|');
        if (next) *next++ = 0;
        if (alloc_grow(list, capacity, n + 2, sizeof **list))
            return siren_fail_memory(err, "categories", n);
        (*list)[n++] = text;
    }
    if (alloc_grow(list, capacity, n + 1, sizeof **list))
        return siren_fail_memory(err, "categories", n);
    (*list)[n] = NULL;
    return SIREN_OK;
}

static int movies_items(struct import *im, struct siren_error *err)
{
    const char **categories = NULL;
    size_t capacity = 0;
    int code = SIREN_OK;
    for (size_t i = 0; !code && i < im->texts.n; i++) {
        char *end, *copy;
        const char *line = idmap_id(&im->texts, i);
        long long raw = strtoll(line, &end, 10);
        const char *text = end + 1;
        size_t title, at, length = strlen(text);
        siren_movies_border(text, length, &title, &at);
        copy = alloc_string(text, length);
        if (!copy) return siren_fail_memory(err, "an item", length);
        copy[title] = 0;
        code = split_categories(copy + at, &categories, &capacity, err);
        struct siren_item item = {.external = idmap_id(&im->table.items, (size_t)raw),
                                  .title = *copy ? copy : NULL,
                                  .categories = categories};
        if (!code) code = take_item(im, &item, err);
        free(copy);
    }
    free(categories);
    return code;
}

/* Rated items without an entry in the items file. */
static int bare_items(struct import *im, struct siren_error *err)
{
    int code = SIREN_OK;
    for (size_t raw = 0; !code && raw < im->table.items.n; raw++) {
        int id = im->reduced.new_item[raw];
        if (id < 0 || im->written[id]) continue;
        struct siren_item item = {.external = idmap_id(&im->table.items, raw)};
        im->source.report->items_untitled++;
        if (im->write) code = store_item_insert(im->ws, im->insert, id, &item, err);
    }
    return code;
}

static int pass_items(struct import *im, struct siren_error *err)
{
    im->n_items = im->reduced.ratings.n_items;
    im->written = alloc_zeroed((size_t)im->n_items, 1);
    if (!im->written) return siren_fail_memory(err, "items", (size_t)im->n_items);
    int code = im->write ? store_prepare(im->ws, &im->insert, STORE_ITEM_INSERT, err) : SIREN_OK;
    if (!code && im->source.format == FORMAT_MOVIES)
        code = movies_items(im, err);
    else if (!code)
        code = read_items(&im->source, take_item, im, err);
    return code ? code : bare_items(im, err);
}

/* ---- users and ratings ---- */

static int write_users(struct import *im, struct siren_error *err)
{
    sqlite3_stmt *q;
    int code = store_prepare(im->ws, &q, STORE_USER_INSERT, err);
    for (size_t raw = 0; !code && raw < im->table.users.n; raw++) {
        if (im->reduced.new_user[raw] < 0) continue;
        sqlite3_bind_int(q, 1, im->reduced.new_user[raw]);
        sqlite3_bind_text(q, 2, idmap_id(&im->table.users, raw), -1, SQLITE_STATIC);
        code = store_run(im->ws, q, "write a user", err);
    }
    sqlite3_finalize(q);
    return code;
}

struct item_row {
    int32_t item;
    uint32_t row;
};

static int compare_items(const void *a, const void *b)
{
    const struct item_row *x = a, *y = b;
    return (x->item > y->item) - (x->item < y->item);
}

static int tell_written(struct import *im, size_t n, struct siren_error *err)
{
    size_t total = im->reduced.ratings.n;
    if (siren_progress_update(im->source.progress, "ratings written", n, total))
        return siren_fail(err, SIREN_ECANCEL, "import stopped; nothing was changed");
    return SIREN_OK;
}

static int write_row(struct import *im, sqlite3_stmt *q, size_t i, struct siren_error *err)
{
    const struct siren_ratings *r = &im->reduced.ratings;
    sqlite3_bind_int(q, 1, r->user[i]);
    sqlite3_bind_int(q, 2, r->item[i]);
    sqlite3_bind_double(q, 3, (double)r->rating[i]);
    store_bind_time(q, 4, r->time[i]);
    sqlite3_bind_int(q, 5, r->sequence[i]);
    sqlite3_bind_int(q, 6, r->label[i]);
    if (r->fold[i] == 255)
        sqlite3_bind_null(q, 7);
    else
        sqlite3_bind_int(q, 7, r->fold[i]);
    if ((i & 0xffff) == 0 && tell_written(im, i, err)) return SIREN_ECANCEL;
    return store_run(im->ws, q, "write a rating", err);
}

/* In the order of the primary key (user, item), so that the table only grows at its end. */
static int write_ratings(struct import *im, struct siren_error *err)
{
    const struct siren_ratings *r = &im->reduced.ratings;
    sqlite3_stmt *q = NULL;
    struct item_row *rows = NULL;
    size_t capacity = 0;
    int code = store_prepare(im->ws, &q, "INSERT INTO ratings VALUES (?, ?, ?, ?, ?, ?, ?)", err);
    for (int u = 0; !code && u < r->n_users; u++) {
        size_t from = r->user_start[u], n = r->user_start[u + 1] - from;
        if (alloc_grow(&rows, &capacity, n, sizeof *rows)) {
            code = siren_fail_memory(err, "ratings", n * sizeof *rows);
            break;
        }
        for (size_t k = 0; k < n; k++)
            rows[k] = (struct item_row){r->item[from + k], (uint32_t)(from + k)};
        qsort(rows, n, sizeof *rows, compare_items);
        for (size_t k = 0; !code && k < n; k++) code = write_row(im, q, rows[k].row, err);
    }
    free(rows);
    sqlite3_finalize(q);
    return code;
}

static int write_splits(struct import *im, struct siren_error *err)
{
    char settings[160];
    const struct siren_import_report *report = im->source.report;
    const struct siren_import_options *o = im->source.options;
    int by_time = !strcmp(report->split, "global-time"), code = SIREN_OK;
    snprintf(settings, sizeof settings,
             "{\"train_until\":%lld,\"valid_until\":%lld,\"train_share\":%g,\"valid_share\":%g}",
             (long long)o->train_until, (long long)o->valid_until, o->train_share, o->valid_share);
    if (*report->split)
        code = store_split(im->ws, "labels", report->split, 0, by_time ? settings : NULL, err);
    snprintf(settings, sizeof settings, "{\"seed\":%llu}", (unsigned long long)o->seed);
    if (!code && report->folds)
        code = store_split(im->ws, "folds", "k-fold", report->folds, settings, err);
    return code;
}

static int clear_tables(struct import *im, struct siren_error *err)
{
    return store_exec(im->ws,
                      "DELETE FROM predictions; DELETE FROM runs; DELETE FROM sketches;"
                      "DELETE FROM item_topics; DELETE FROM topics; DELETE FROM clustering;"
                      "DELETE FROM embeddings; DELETE FROM encoders; DELETE FROM splits;"
                      "DELETE FROM ratings; DELETE FROM users; DELETE FROM items;"
                      "DELETE FROM meta WHERE key NOT LIKE 'app.%' AND key <> 'erase_pending';"
                      "DROP INDEX IF EXISTS ratings_item",
                      "empty the workspace", err);
}

/* "csv: ratings.csv", cut between characters; a file's name may have any bytes. */
static int name_source(const struct import *im, char *text, size_t size, struct siren_error *err)
{
    const char *path = path_name(im->source.path);
    struct buf b = {0};
    buf_printf(&b, "%s: ", im->source.report->format);
    utf8_repair(&b, path, strlen(path));
    int failed = buf_failed(&b);
    if (!failed) {
        snprintf(text, size, "%s", b.data);
        text[utf8_valid_prefix(text, strlen(text))] = '\0';
    }
    buf_free(&b);
    return failed ? siren_fail_memory(err, "the source's name", strlen(path)) : SIREN_OK;
}

static int write_meta(struct import *im, struct siren_error *err)
{
    struct siren_meta meta = {.scale = im->source.scale,
                              .protocol = (enum siren_protocol)im->source.protocol};
    snprintf(meta.noun, sizeof meta.noun, "%s", im->source.noun);
    int code = name_source(im, meta.source, sizeof meta.source, err);
    return code ? code : siren_meta_save(im->ws, &meta, err);
}

static int write_all(struct import *im, struct siren_error *err)
{
    int code = clear_tables(im, err);
    if (!code) code = pass_items(im, err);
    if (!code) code = write_users(im, err);
    if (!code) code = write_ratings(im, err);
    if (!code) code = store_exec(im->ws, STORE_RATINGS_INDEX, "index the ratings", err);
    if (!code) code = write_splits(im, err);
    if (!code) code = write_meta(im, err);
    return code ? code : tell_written(im, im->reduced.ratings.n, err); /* the last way back */
}

/* ---- what is there already ---- */

/* Content, and (whole) content and settings: the same twice is the same workspace. */
static void import_hash(struct import *im, char data[20], char whole[20])
{
    snprintf(data, 20, "%016llx", (unsigned long long)XXH3_64bits_digest(im->source.hash));
    const struct siren_import_options *o = im->source.options;
    const struct siren_scale *scale = &im->source.scale;
    struct buf b = {0};
    buf_printf(&b, "%d %d %d %d %lld %lld %g %g %d %llu %g %g %g %d %d %d %s", im->source.format,
               im->source.k_core, im->source.protocol, (int)o->split, (long long)o->train_until,
               (long long)o->valid_until, o->train_share, o->valid_share, o->folds,
               (unsigned long long)o->seed, scale->min, scale->max, scale->step, (int)o->time_unit,
               o->all_items, (int)im->source.encoding, im->source.noun);
    const char *columns[] = {o->columns.user,     o->columns.item,        o->columns.rating,
                             o->columns.time,     o->columns.title,       o->columns.categories,
                             o->columns.features, o->columns.description, o->columns.year,
                             o->separator,        o->list_separator};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        buf_printf(&b, "\n%s", columns[i] ? columns[i] : "");
    XXH3_64bits_update(im->source.hash, buf_text(&b), b.size);
    buf_free(&b);
    snprintf(whole, 20, "%016llx", (unsigned long long)XXH3_64bits_digest(im->source.hash));
}

static int holds_data(struct import *im, int *holds, struct siren_error *err)
{
    int64_t n;
    int code = store_integer(
        im->ws, "SELECT EXISTS(SELECT 1 FROM items) OR EXISTS(SELECT 1 FROM users)", 0, &n, err);
    *holds = n != 0;
    return code;
}

/* In what the import differs from the workspace's, as a message says it.  Which file of items is
 * read, and how bytes are, is of the settings and changes the data, too.  A workspace of an older
 * version keeps neither. */
static int compare_import(struct import *im, const char *data, struct buf *out,
                          struct siren_error *err)
{
    char *source = NULL, *old_data = NULL, *old = NULL;
    struct buf mine = {0}, settings = {0};
    int code = siren_meta_get(im->ws, "source", &source, err);
    if (!code) code = siren_meta_get(im->ws, "import_data", &old_data, err);
    if (!code) code = siren_meta_get(im->ws, "import_settings", &old, err);
    import_settings_put(&im->source, &mine);
    if (!code && old) import_settings_compare(buf_text(&mine), old, &settings);
    int same = old_data && !strcmp(old_data, data);
    if (same && settings.size)
        buf_puts(out, "the same data, imported with other settings");
    else
        buf_printf(out, "other data (%.100s)%s", source ? source : "of unknown source",
                   settings.size || same || !old_data ? ", or was imported with other settings"
                                                      : "");
    if (settings.size) buf_printf(out, ": %.500s", buf_text(&settings));
    buf_free(&mine);
    buf_free(&settings);
    free(source);
    free(old_data);
    free(old);
    return code;
}

static int refuse_other(struct import *im, const char *data, struct siren_error *err)
{
    struct buf what = {0};
    int code = compare_import(im, data, &what, err);
    if (!code)
        code = siren_fail(err, SIREN_EEXISTS,
                          "%s: holds %s; --replace throws it away with all that was computed from "
                          "it",
                          im->ws->path, buf_text(&what));
    buf_free(&what);
    return code;
}

/* The workspace holds something: the same import is a success that changes nothing. */
static int compare_with_old(struct import *im, struct siren_error *err)
{
    char data[20], hash[20], *old = NULL;
    im->write = 0;
    int code = pass_items(im, err);
    if (!code) code = siren_meta_get(im->ws, "import_hash", &old, err);
    import_hash(im, data, hash);
    if (!code && old && !strcmp(hash, old))
        im->source.report->unchanged = 1;
    else if (!code)
        code = refuse_other(im, data, err);
    free(old);
    return code;
}

/* By which another import is recognised as the same, or told what it does otherwise. */
static int write_identity(struct import *im, struct siren_error *err)
{
    char data[20], hash[20];
    struct buf settings = {0};
    import_hash(im, data, hash);
    import_settings_put(&im->source, &settings);
    int code = buf_failed(&settings) ? siren_fail_memory(err, "the settings", 0) : SIREN_OK;
    if (!code) code = siren_meta_set(im->ws, "import_hash", hash, err);
    if (!code) code = siren_meta_set(im->ws, "import_data", data, err);
    if (!code) code = siren_meta_set(im->ws, "import_settings", buf_text(&settings), err);
    buf_free(&settings);
    return code;
}

static int store_whole(struct import *im, struct siren_error *err)
{
    int holds;
    char *json = NULL;
    int code = siren_workspace_begin(im->ws, err);
    if (code) return code;
    code = holds_data(im, &holds, err);
    if (!code && holds && !im->source.options->replace) {
        code = compare_with_old(im, err);
        siren_workspace_rollback(im->ws);
        return code;
    }
    im->write = 1;
    if (!code) code = write_all(im, err);
    im->source.report->items = (uint64_t)im->n_items;
    if (!code) code = write_identity(im, err);
    if (!code) code = siren_import_report_json(im->source.report, &json, err);
    if (!code) code = siren_meta_set(im->ws, "import", json, err);
    free(json);
    sqlite3_finalize(im->insert);
    im->insert = NULL;
    return siren_workspace_end(im->ws, code, err);
}

/* Foreign keys are enforced only if another program's table refers to ours: the import numbers
 * users and items itself and writes them all, and without enforcement tables are emptied at once.
 * (In a caller's transaction SQLite does not change it.) */
static int store_all(struct import *im, struct siren_error *err)
{
    static const char others[] =
        "SELECT EXISTS(SELECT 1 FROM sqlite_schema s, pragma_foreign_key_list(s.name) WHERE"
        " s.type = 'table' AND s.name NOT IN ('ratings', 'embeddings', 'item_topics', 'sketches',"
        " 'predictions'))";
    int64_t look = 1;
    int code = im->ws->depth ? SIREN_OK : store_integer(im->ws, others, 1, &look, err);
    if (!code && !look) code = store_exec(im->ws, "PRAGMA foreign_keys = 0", "import", err);
    if (!code) code = store_whole(im, err);
    if (!look) sqlite3_exec(im->ws->db, "PRAGMA foreign_keys = 1", NULL, NULL, NULL);
    return code;
}

/* ---- the report ---- */

static int compare_sizes(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

static int count_kept(struct import *im, struct siren_error *err)
{
    const struct siren_ratings *r = &im->reduced.ratings;
    struct siren_import_report *report = im->source.report;
    size_t n = 0, *sizes = alloc_array(r->n, sizeof *sizes);
    if (!sizes) return siren_fail_memory(err, "a report", r->n * sizeof *sizes);
    report->ratings = r->n;
    report->users = (uint64_t)r->n_users;
    report->items = (uint64_t)r->n_items;
    for (size_t i = 0; i < r->n; i++) {
        report->labels[r->label[i]]++;
        report->no_time += r->time[i] == SIREN_NO_TIME;
        if (r->label[i] == SIREN_LABEL_TEST) sizes[n++] = siren_history(r, i, 0, NULL);
    }
    if (n) qsort(sizes, n, sizeof *sizes, compare_sizes);
    report->median_history = n == 0 ? 0 : ((double)sizes[(n - 1) / 2] + (double)sizes[n / 2]) / 2;
    report->scale = im->source.scale;
    free(sizes);
    return SIREN_OK;
}

static void describe_source(struct import *im)
{
    struct siren_import_report *report = im->source.report;
    const char *items = im->source.items_path;
    snprintf(report->detected, sizeof report->detected, "%s format%s in %.255s%s%.255s%.400s",
             report->format, im->source.options->format ? " (as told)" : "",
             path_name(im->source.path), items ? ", items in " : "", items ? path_name(items) : "",
             buf_text(&im->source.names));
}

int siren_import(struct siren_workspace *ws, const char *path,
                 const struct siren_import_options *options, struct siren_import_report *report,
                 const struct siren_progress *progress, struct siren_error *err)
{
    struct siren_import_report own_report;
    struct siren_error own_error;
    struct siren_import_options defaults;
    if (!report) report = &own_report;
    if (!err) err = &own_error; /* messages of skipped lines are taken from it */
    siren_import_defaults(&defaults);
    if (!options) options = &defaults;
    *report = (struct siren_import_report){0};
    double start = clock_seconds();
    struct import im = {.ws = ws,
                        .source = {.options = options, .report = report, .progress = progress}};
    int code = source_open(&im.source, path, err);
    if (!code) describe_source(&im);
    if (!code)
        code = im.source.format == FORMAT_MOVIES
                   ? read_movies(&im.source, &im.table, &im.texts, err)
                   : read_ratings(&im.source, &im.table, err);
    if (!code) code = reduce(&im.source, &im.table, &im.reduced, err);
    if (!code) code = split_ratings(&im.source, &im.reduced.ratings, im.table.own_labels, err);
    if (!code) code = count_kept(&im, err);
    if (!code) code = store_all(&im, err);
    import_free(&im);
    report->seconds = clock_seconds() - start;
    return code;
}

/* ---- the report as JSON ---- */

static json_t *integer(uint64_t value)
{
    return json_integer((json_int_t)value);
}

/* A message may have been cut within a character, a path need not be UTF-8 at all. */
static json_t *text(const char *bytes)
{
    struct buf b = {0};
    utf8_repair(&b, bytes, strlen(bytes));
    json_t *string = buf_failed(&b) ? NULL : json_string(buf_text(&b));
    buf_free(&b);
    return string;
}

static json_t *strings(const char (*list)[200], int n)
{
    json_t *array = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(array, text(list[i]));
    return array;
}

static json_t *labels_json(const struct siren_import_report *r)
{
    json_t *object = json_object();
    for (int i = 0; i < 5; i++)
        if (r->labels[i]) json_object_set_new(object, siren_label_name(i), integer(r->labels[i]));
    return object;
}

static json_t *dropped_json(const struct siren_import_report *r)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:i, s:i}", "bad_lines", integer(r->bad_lines),
                     "duplicates", integer(r->duplicates), "core_ratings", integer(r->core_ratings),
                     "core_users", integer(r->core_users), "core_items", integer(r->core_items),
                     "k_core", r->k_core, "core_rounds", r->core_rounds);
}

static json_t *items_json(const struct siren_import_report *r)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "file", text(r->items_file), "read",
                     integer(r->items_read), "unrated", integer(r->items_unrated), "repeated",
                     integer(r->items_repeated), "untitled", integer(r->items_untitled));
}

int siren_import_report_json(const struct siren_import_report *r, char **json,
                             struct siren_error *err)
{
    json_t *root = json_pack(
        "{s:s, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:i, s:f, s:o, s:[f, f, f],"
        " s:s, s:s, s:o, s:o, s:o, s:f}",
        "format", r->format, "detected", text(r->detected), "unchanged", r->unchanged, "lines",
        integer(r->lines), "ratings_read", integer(r->ratings_read), "dropped", dropped_json(r),
        "ratings", integer(r->ratings), "users", integer(r->users), "items", integer(r->items),
        "no_time", integer(r->no_time), "labels", labels_json(r), "split", r->split, "folds",
        r->folds, "median_history", r->median_history, "short_users", integer(r->short_users),
        "scale", r->scale.min, r->scale.max, r->scale.step, "protocol",
        siren_protocol_name(r->protocol), "time_unit", r->time_unit, "item", items_json(r), "bad",
        strings(r->bad, r->n_bad), "notes", strings(r->notes, r->n_notes), "seconds", r->seconds);
    *json = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return *json ? SIREN_OK : siren_fail_memory(err, "a report", 0);
}
