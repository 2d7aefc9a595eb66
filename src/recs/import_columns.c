/* Which column or field holds what, of the ratings and of the items. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "recs/import.h"

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
