/* What lies at a path: formats, files, columns. */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "recs/import.h"

static const char *const names[] = {"movies",  "amazon", "ml-100k", "ml-1m", "ml-latest",
                                    "recbole", "csv",    "tsv",     "jsonl"};
#define N_FORMATS (sizeof names / sizeof *names)

const char *format_name(enum format format)
{
    return names[format];
}

void source_note(struct source *s, const char *format, ...)
{
    struct siren_import_report *r = s->report;
    if (r->n_notes == SIREN_IMPORT_MESSAGES) return;
    va_list args;
    va_start(args, format);
    vsnprintf(r->notes[r->n_notes++], sizeof r->notes[0], format, args);
    va_end(args);
}

static int is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static int is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && !S_ISDIR(info.st_mode);
}

char *find_file(const char *folder, const char *name)
{
    static const char *const endings[] = {"", ".gz", ".zst"};
    for (int i = 0; i < 3; i++) {
        struct buf b = {0};
        buf_printf(&b, "%s/%s%s", folder, name, endings[i]);
        char *path = buf_take(&b);
        if (path && is_file(path)) return path;
        free(path);
    }
    return NULL;
}

/* "folder/ml-100k.inter" for ".inter": the first by name. */
static char *find_ending(const char *folder, const char *ending)
{
    struct dirent **list;
    int n = scandir(folder, &list, NULL, alphasort);
    char *found = NULL;
    for (int i = 0; i < n; i++) {
        const char *name = list[i]->d_name;
        const char *at = strstr(name, ending);
        const char *rest = at ? at + strlen(ending) : "";
        if (!found && at && (!*rest || !strcmp(rest, ".gz") || !strcmp(rest, ".zst"))) {
            struct buf b = {0};
            buf_printf(&b, "%s/%s", folder, name);
            found = buf_take(&b);
        }
        free(list[i]);
    }
    if (n >= 0) free(list);
    return found;
}

/* ---- recognition ---- */

struct candidate {
    const char *file; /* in the folder; starting with '*': an ending */
    enum format format;
};

/* In this order; the CSVs are looked into. */
static const struct candidate candidates[] = {
    {"history.jsonl", FORMAT_MOVIES}, {"*.inter", FORMAT_RECBOLE}, {"u.data", FORMAT_ML100K},
    {"ratings.dat", FORMAT_ML1M},     {"ratings.csv", FORMAT_CSV}, {"ratings.tsv", FORMAT_TSV},
    {"ratings.jsonl", FORMAT_JSONL},
};

static int detect_folder(struct source *s, const char *path, struct siren_error *err)
{
    struct buf looked = {0};
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        const char *file = candidates[i].file;
        char *found = *file == '*' ? find_ending(path, file + 1) : find_file(path, file);
        buf_printf(&looked, "%s%s", i ? ", " : "", file);
        if (!found) continue;
        s->format = candidates[i].format;
        s->path = found;
        if (s->format == FORMAT_MOVIES) {
            free(found);
            s->path = alloc_string(path, strlen(path));
        }
        buf_free(&looked);
        return s->path ? SIREN_OK : siren_fail_memory(err, "a path", strlen(path));
    }
    int code = siren_fail(err, SIREN_EFORMAT, "%s: no ratings in this folder: looked for %s", path,
                          buf_text(&looked));
    buf_free(&looked);
    return code;
}

static size_t count_of(const char *text, const char *part)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, part)); p += strlen(part)) n++;
    return n;
}

static enum format guess_line(char *line, size_t length)
{
    if (*line == '{') {
        int rating = strstr(line, "\"rating\"") != NULL, user = strstr(line, "\"user_id\"") != NULL;
        if (strstr(line, "\"history_asins\"")) return FORMAT_MOVIES;
        return rating && user && strstr(line, "\"parent_asin\"") ? FORMAT_AMAZON : FORMAT_JSONL;
    }
    if (strstr(line, ":token")) return FORMAT_RECBOLE;
    if (count_of(line, "::") == 3) return FORMAT_ML1M;
    if (!strncmp(line, "userId,movieId,rating", 21)) return FORMAT_MLLATEST;
    size_t tabs = count_of(line, "\t");
    if (tabs == 3 && strspn(line, "0123456789\t") == length) return FORMAT_ML100K;
    return tabs ? FORMAT_TSV : FORMAT_CSV;
}

/* The first line that is not empty; malloc'ed, "" if there is none. */
static int first_line(const char *path, enum siren_encoding encoding, char **line, size_t *length,
                      struct siren_error *err)
{
    struct siren_lines *lines;
    char *text = "";
    size_t n = 0;
    int code = siren_lines_open(&lines, path, encoding, err);
    if (code) return code;
    while ((code = siren_lines_next(lines, &text, &n, err)) == 1 && n == 0) {
    }
    if (code >= 0) {
        *length = code == 1 ? n : 0;
        *line = alloc_string(code == 1 ? text : "", *length);
        code = *line ? SIREN_OK : siren_fail_memory(err, "a line", n);
    }
    siren_lines_close(lines);
    return code;
}

static int named_format(const char *name, enum format *format, struct siren_error *err)
{
    for (size_t i = 0; i < N_FORMATS; i++)
        if (!strcmp(name, names[i])) {
            *format = (enum format)i;
            return SIREN_OK;
        }
    return siren_fail(
        err, SIREN_EINVAL,
        "format '%.40s': expected movies, amazon, ml-100k, ml-1m, ml-latest, recbole, "
        "csv, tsv or jsonl",
        name);
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? alloc_string(path, (size_t)(slash - path)) : alloc_string(".", 1);
}

int detect_format(struct source *s, const char *path, struct siren_error *err)
{
    struct stat info;
    if (stat(path, &info))
        return siren_fail(err, errno == ENOENT ? SIREN_ENOTFOUND : SIREN_EIO, "%s: %s", path,
                          strerror(errno));
    int folder = is_folder(path), code = SIREN_OK;
    if (folder)
        code = detect_folder(s, path, err);
    else if (!(s->path = alloc_string(path, strlen(path))))
        code = siren_fail_memory(err, "a path", strlen(path));
    if (code) return code;
    if (s->options->format) return named_format(s->options->format, &s->format, err);
    if (folder && s->format != FORMAT_CSV) return SIREN_OK;
    char *line;
    size_t length;
    enum siren_encoding any = SIREN_LATIN1; /* reads whatever it is: only to look */
    code = first_line(s->path, any, &line, &length, err);
    if (code) return code;
    static const char mark[] = "\xc3\xaf\xc2\xbb\xc2\xbf"; /* a UTF-8 byte order mark, as Latin-1 */
    size_t skip = strncmp(line, mark, 6) ? 0 : 6;
    s->format = guess_line(line + skip, length - skip);
    free(line);
    if (s->format == FORMAT_MOVIES) { /* one file of the folder was given */
        char *whole = folder_of(s->path);
        free(s->path);
        s->path = whole;
    }
    return s->path ? SIREN_OK : siren_fail_memory(err, "a path", strlen(path));
}

/* ---- columns ---- */

static const char *const user_names[] = {"user_id", "userId",  "user",       "userid", "uid",
                                         "UserID",  "User-ID", "reviewerID", NULL};
static const char *const item_names[] = {
    "item_id", "itemId",  "movieId", "movie_id", "parent_asin", "asin", "item",
    "itemid",  "book_id", "iid",     "MovieID",  "product_id",  "ISBN", NULL};
static const char *const rating_names[] = {"rating", "Rating", "score",       "overall",
                                           "stars",  "label",  "Book-Rating", NULL};
static const char *const time_names[] = {"timestamp",  "time", "Timestamp", "unixReviewTime",
                                         "date_added", "date", "ts",        NULL};
static const char *const title_names[] = {"title", "movie_title", "item_name",  "name",
                                          "Title", "book_title",  "Book-Title", NULL};
static const char *const category_names[] = {"categories", "genres", "genre", "class",
                                             "category",   "Genres", NULL};
static const char *const feature_names[] = {"features", "feature", NULL};
static const char *const description_names[] = {"description", "overview", "plot", NULL};
static const char *const year_names[] = {"release_year", "year", NULL};

/* A column by the given name or number, or by its usual names; -1: not there. */
static int find_column(const struct fields *header, const char *given, const char *const *usual)
{
    for (size_t i = 0; i < header->n; i++) {
        const char *name = header->at[i];
        size_t length = strcspn(name, ":"); /* RecBole: name:type */
        if (given && !strcmp(name, given)) return (int)i;
        if (given && strlen(given) == length && !strncmp(name, given, length)) return (int)i;
        for (int k = 0; !given && usual[k]; k++)
            if (strlen(usual[k]) == length && !strncmp(name, usual[k], length)) return (int)i;
    }
    return -1;
}

static int is_number(const char *text)
{
    return text && *text && strspn(text, "0123456789") == strlen(text) && strlen(text) < 5 &&
           atoi(text) > 0;
}

static int numbered(const char *text)
{
    return text ? atoi(text) - 1 : -1;
}

static int no_column(struct source *s, const struct fields *header, const char *what,
                     const char *flag, const char *given, struct siren_error *err)
{
    struct buf have = {0};
    for (size_t i = 0; i < header->n && have.size < 300; i++)
        buf_printf(&have, "%s%.40s", i ? ", " : "", header->at[i]);
    int code;
    if (given)
        code = siren_fail(err, SIREN_EFORMAT, "%s:1: no column '%.60s' for the %s; there are: %s",
                          s->path, given, what, buf_text(&have));
    else
        code = siren_fail(err, SIREN_EFORMAT,
                          "%s:1: which column is the %s? Name it with %s; there are: %s", s->path,
                          what, flag, buf_text(&have));
    buf_free(&have);
    return code;
}

static size_t largest(const int *columns, int n)
{
    int most = -1;
    for (int i = 0; i < n; i++)
        if (columns[i] > most) most = columns[i];
    return (size_t)(most + 1);
}

static int columns_by_number(struct layout *l, const struct siren_import_columns *c)
{
    if (!is_number(c->user) || !is_number(c->item) || !is_number(c->rating)) return 0;
    if (c->time && !is_number(c->time)) return 0;
    l->user_at = numbered(c->user);
    l->item_at = numbered(c->item);
    l->rating_at = numbered(c->rating);
    l->time_at = numbered(c->time);
    return 1;
}

static int columns_by_name(struct source *s, struct fields *f, struct siren_error *err)
{
    const struct siren_import_columns *c = &s->options->columns;
    struct layout *l = &s->layout;
    l->header = 1;
    l->user_at = find_column(f, c->user, user_names);
    l->item_at = find_column(f, c->item, item_names);
    l->rating_at = find_column(f, c->rating, rating_names);
    l->time_at = find_column(f, c->time, time_names);
    if (l->user_at < 0) return no_column(s, f, "user", "--user-column", c->user, err);
    if (l->item_at < 0) return no_column(s, f, "item", "--item-column", c->item, err);
    if (l->rating_at < 0) return no_column(s, f, "rating", "--rating-column", c->rating, err);
    if (l->time_at < 0 && c->time) return no_column(s, f, "time", "--time-column", c->time, err);
    return SIREN_OK;
}

/* What was taken for what, in words. */
static void name_column(struct source *s, int which, const char *name)
{
    static const char *const whats[] = {"user", "item", "rating", "time"};
    buf_printf(&s->names, "%s%s: %.40s", which ? ", " : "; ", whats[which], name);
}

static void name_columns(struct source *s, const struct fields *f, const int at[4])
{
    for (int i = 0; i < 4; i++) {
        char numbered_name[20];
        snprintf(numbered_name, sizeof numbered_name, "column %d", at[i] + 1);
        name_column(s, i, at[i] < 0 ? "none" : (size_t)at[i] < f->n ? f->at[at[i]] : numbered_name);
    }
}

static int find_columns(struct source *s, const char *separator, int quotes,
                        struct siren_error *err)
{
    struct layout *l = &s->layout;
    if (s->options->separator) separator = s->options->separator;
    if (!*separator || strlen(separator) >= sizeof l->separator)
        return siren_fail(err, SIREN_EINVAL, "separator '%s': expected 1 to 7 bytes", separator);
    strcpy(l->separator, separator);
    l->quotes = quotes;
    char *line;
    size_t length;
    struct fields f = {0};
    int code = first_line(s->path, s->encoding, &line, &length, err);
    if (code) return code;
    if (columns_by_number(l, &s->options->columns)) {
        code = SIREN_OK;
    } else {
        code = fields_split(&f, line, length, l->separator, quotes, err);
        if (code)
            siren_fail_prefix(err, code, "%s:1", s->path);
        else
            code = columns_by_name(s, &f, err);
    }
    int at[] = {l->user_at, l->item_at, l->rating_at, l->time_at};
    l->n_columns = largest(at, 3);
    if (!code) name_columns(s, &f, at);
    fields_free(&f);
    free(line);
    return code;
}

static void fixed_columns(struct layout *l, const char *separator)
{
    strcpy(l->separator, separator);
    l->user_at = 0;
    l->item_at = 1;
    l->rating_at = 2;
    l->time_at = 3;
    l->n_columns = 4;
}

/* A JSON field by its usual names in the first line. */
static const char *find_field(struct source *s, const char *line, const char *given,
                              const char *const *usual)
{
    for (int k = 0; !given && usual[k]; k++) {
        char quoted[60];
        snprintf(quoted, sizeof quoted, "\"%s\"", usual[k]);
        if (strstr(line, quoted)) return usual[k];
    }
    return given;
}

static int find_fields(struct source *s, struct siren_error *err)
{
    const struct siren_import_columns *c = &s->options->columns;
    struct layout *l = &s->layout;
    char *line;
    size_t length;
    int code = first_line(s->path, s->encoding, &line, &length, err);
    if (code) return code;
    l->json = 1;
    l->user = find_field(s, line, c->user, user_names);
    l->item = find_field(s, line, c->item, item_names);
    l->rating = find_field(s, line, c->rating, rating_names);
    l->time = find_field(s, line, c->time, time_names);
    const char *missing = !l->user ? "user" : !l->item ? "item" : !l->rating ? "rating" : NULL;
    if (missing)
        code = siren_fail(err, SIREN_EFORMAT,
                          "%s:1: which field is the %s? Name it with --%s-column; the line is "
                          "%.100s",
                          s->path, missing, missing, line);
    const char *used[] = {l->user, l->item, l->rating, l->time};
    for (int i = 0; !code && i < 4; i++) name_column(s, i, used[i] ? used[i] : "none");
    free(line);
    return code;
}

int find_layout(struct source *s, struct siren_error *err)
{
    struct layout *l = &s->layout;
    static const char *const amazon[] = {"user_id", "parent_asin", "rating", "timestamp"};
    switch (s->format) {
    case FORMAT_MOVIES:
        return SIREN_OK;
    case FORMAT_AMAZON:
        *l = (struct layout){.json = 1,
                             .user = amazon[0],
                             .item = amazon[1],
                             .rating = amazon[2],
                             .time = amazon[3]};
        return SIREN_OK;
    case FORMAT_JSONL:
        return find_fields(s, err);
    case FORMAT_ML100K:
        fixed_columns(l, "\t");
        return SIREN_OK;
    case FORMAT_ML1M:
        fixed_columns(l, "::");
        return SIREN_OK;
    case FORMAT_RECBOLE:
        return find_columns(s, "\t", 0, err);
    case FORMAT_TSV:
        return find_columns(s, "\t", 1, err);
    default:
        return find_columns(s, ",", 1, err);
    }
}

/* ---- the items file ---- */

/* All_Beauty.jsonl.gz has its items in meta_All_Beauty.jsonl, .gz or .zst. */
static char *find_metadata(const char *path, const char *folder)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *end = strstr(name, ".jsonl");
    struct buf b = {0};
    buf_printf(&b, "meta_%.*s", (int)(end ? end + 6 - name : (long)strlen(name)), name);
    char *found = b.data ? find_file(folder, b.data) : NULL;
    buf_free(&b);
    return found ? found : find_file(folder, "meta.jsonl");
}

static char *beside(struct source *s)
{
    static const char *const others[] = {"movies.csv", "items.csv",   "items.tsv",
                                         "meta.jsonl", "items.jsonl", NULL};
    char *folder = folder_of(s->path), *found = NULL;
    if (!folder) return NULL;
    if (s->format == FORMAT_AMAZON)
        found = find_metadata(s->path, folder);
    else if (s->format == FORMAT_ML100K)
        found = find_file(folder, "u.item");
    else if (s->format == FORMAT_ML1M)
        found = find_file(folder, "movies.dat");
    else if (s->format == FORMAT_RECBOLE)
        found = find_ending(folder, ".item");
    else
        for (int i = 0; !found && others[i]; i++) found = find_file(folder, others[i]);
    free(folder);
    return found;
}

static int item_columns(struct source *s, struct fields *f, struct siren_error *err)
{
    const struct siren_import_columns *c = &s->options->columns;
    struct items_layout *l = &s->items;
    l->header = 1;
    l->id_at = find_column(f, is_number(c->item) ? NULL : c->item, item_names);
    if (l->id_at < 0 && c->item) l->id_at = find_column(f, NULL, item_names);
    l->title_at = find_column(f, c->title, title_names);
    l->categories_at = find_column(f, c->categories, category_names);
    l->features_at = find_column(f, c->features, feature_names);
    l->description_at = find_column(f, c->description, description_names);
    l->year_at = find_column(f, c->year, year_names);
    if (l->id_at < 0)
        return siren_fail(err, SIREN_EFORMAT,
                          "%s:1: no column with the item's id (name it with --item-column)",
                          s->items_path);
    return SIREN_OK;
}

static void item_fields(struct source *s, const char *line)
{
    const struct siren_import_columns *c = &s->options->columns;
    struct items_layout *l = &s->items;
    l->kind = ITEMS_JSON;
    l->id = find_field(s, line, c->item && strstr(line, c->item) ? c->item : NULL,
                       s->format == FORMAT_AMAZON ? (const char *const[]){"parent_asin", NULL}
                                                  : item_names);
    l->title = find_field(s, line, c->title, title_names);
    l->categories = find_field(s, line, c->categories, category_names);
    l->features = find_field(s, line, c->features, feature_names);
    l->description = find_field(s, line, c->description, description_names);
    l->year = find_field(s, line, c->year, year_names);
}

static int look_at_items(struct source *s, struct siren_error *err)
{
    struct items_layout *l = &s->items;
    char *line;
    size_t length;
    struct fields f = {0};
    int code = first_line(s->items_path, s->encoding, &line, &length, err);
    if (code) return code;
    l->kind = ITEMS_COLUMNS;
    if (*line == '{') {
        item_fields(s, line);
        if (!l->id)
            code = siren_fail(err, SIREN_EFORMAT,
                              "%s:1: no field with the item's id (name it with --item-column)",
                              s->items_path);
    } else {
        const char *separator = strchr(line, '\t') ? "\t" : ",";
        l->quotes = s->format != FORMAT_RECBOLE;
        strcpy(l->separator, separator);
        code = fields_split(&f, line, length, separator, l->quotes, err);
        if (code)
            siren_fail_prefix(err, code, "%s:1", s->items_path);
        else
            code = item_columns(s, &f, err);
    }
    fields_free(&f);
    free(line);
    return code;
}

int find_items(struct source *s, struct siren_error *err)
{
    struct items_layout *l = &s->items;
    const char *given = s->options->items;
    const char *list = s->options->list_separator;
    if (s->format == FORMAT_MOVIES) {
        if (given && *given)
            return siren_fail(err, SIREN_EINVAL, "format movies brings its items along; got %s",
                              given);
        return SIREN_OK;
    }
    if (!given)
        s->items_path = beside(s);
    else if (*given && !(s->items_path = alloc_string(given, strlen(given))))
        return siren_fail_memory(err, "a path", strlen(given));
    if (!s->items_path) return SIREN_OK;
    if (!list) list = s->format == FORMAT_RECBOLE ? " " : "|";
    if (!*list || strlen(list) >= sizeof l->list_separator)
        return siren_fail(err, SIREN_EINVAL, "list separator '%s': expected 1 to 7 bytes", list);
    strcpy(l->list_separator, list);
    if (s->format == FORMAT_ML100K) {
        l->kind = ITEMS_ML100K;
        return SIREN_OK;
    }
    if (s->format != FORMAT_ML1M) return look_at_items(s, err);
    *l = (struct items_layout){.kind = ITEMS_COLUMNS,
                               .title_at = 1,
                               .categories_at = 2,
                               .features_at = -1,
                               .description_at = -1,
                               .year_at = -1,
                               .separator = "::"};
    strcpy(l->list_separator, list);
    return SIREN_OK;
}

/* ---- all of it ---- */

static void choose(struct source *s)
{
    const struct siren_import_options *o = s->options;
    int films = s->format != FORMAT_AMAZON && s->format != FORMAT_CSV && s->format != FORMAT_TSV &&
                s->format != FORMAT_JSONL;
    int latin = s->format == FORMAT_ML100K || s->format == FORMAT_ML1M;
    if (s->format == FORMAT_RECBOLE) films = strstr(s->path, "ml-") != NULL;
    s->noun = o->noun ? o->noun : films ? "movie" : "item";
    s->encoding = o->encoding == SIREN_TEXT_LATIN1 || (latin && o->encoding == SIREN_TEXT_AUTO)
                      ? SIREN_LATIN1
                      : SIREN_UTF8;
    s->protocol = o->protocol >= 0             ? o->protocol
                  : s->format == FORMAT_MOVIES ? SIREN_PROTOCOL_PAPER
                                               : SIREN_PROTOCOL_FULL;
    s->k_core = o->k_core >= 0 ? o->k_core : s->format == FORMAT_MOVIES ? 0 : 5;
    s->scale = o->scale;
    if (s->scale.step > 0) return;
    if (s->format == FORMAT_MLLATEST)
        s->scale = (struct siren_scale){0.5, 5, 0.5};
    else if (s->format == FORMAT_MOVIES || s->format == FORMAT_AMAZON || latin)
        s->scale = (struct siren_scale){1, 5, 1};
}

static int check_options(const struct siren_import_options *o, enum format format,
                         struct siren_error *err)
{
    if (o->scale.step != 0 && siren_scale_check(&o->scale, err)) return SIREN_EINVAL;
    if (format == FORMAT_MOVIES && (o->k_core > 0 || o->split != SIREN_SPLIT_DEFAULT))
        return siren_fail(err, SIREN_EINVAL,
                          "the paper's Movies brings its own reduction and split: no k-core, no "
                          "other split");
    if (o->folds && (o->folds < 2 || o->folds > 254))
        return siren_fail(err, SIREN_EINVAL, "%d folds: expected 2 to 254", o->folds);
    return SIREN_OK;
}

int source_open(struct source *s, const char *path, struct siren_error *err)
{
    int code = detect_format(s, path, err);
    if (!code) code = check_options(s->options, s->format, err);
    if (code) return code;
    choose(s);
    s->layout = (struct layout){.user_at = -1, .item_at = -1, .rating_at = -1, .time_at = -1};
    s->hash = XXH3_createState();
    if (!s->hash) return siren_fail_memory(err, "a hash", 0);
    XXH3_64bits_reset(s->hash);
    code = find_layout(s, err);
    if (!code) code = find_items(s, err);
    if (code) return code;
    snprintf(s->report->format, sizeof s->report->format, "%s", names[s->format]);
    snprintf(s->report->items_file, sizeof s->report->items_file, "%s",
             s->items_path ? s->items_path : "");
    s->report->protocol = (enum siren_protocol)s->protocol;
    s->report->k_core = s->k_core;
    return SIREN_OK;
}

void source_close(struct source *s)
{
    free(s->path);
    free(s->items_path);
    buf_free(&s->names);
    XXH3_freeState(s->hash);
}
