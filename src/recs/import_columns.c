/* Which column or field holds what, of the ratings and of the items. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/path.h"
#include "recs/import.h"

/* ---- columns ---- */

static const char *const user_names[] = {"user_id", "userId",  "user",       "userid", "uid",
                                         "UserID",  "User-ID", "reviewerID", NULL};
static const char *const item_names[] = {
    "item_id", "itemId",  "movieId", "movie_id", "parent_asin", "asin", "item",
    "itemid",  "book_id", "iid",     "MovieID",  "product_id",  "ISBN", NULL};
static const char *const plain_id[] = {"id", NULL}; /* of an items file that has none of these */
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

/* What is looked for: `given` as an option --WHAT-column, else the usual names. */
struct wanted {
    const char *what, *given, *const *usual;
    int *at;            /* the column's place; -1: it is not there */
    const char **field; /* the JSON field's name; NULL: it is not there */
};

/* `where`: the file, and the line where it is one. */
static int fail_name(const char *where, const struct wanted *w, const struct buf *have,
                     struct siren_error *err)
{
    if (!have->size)
        return siren_fail(err, SIREN_EFORMAT,
                          "%s: has no columns or fields, expected one for the %s", where, w->what);
    if (w->given)
        return siren_fail(err, SIREN_EFORMAT,
                          "%s: no column '%.60s' for the %s (--%s-column); there are: %.300s",
                          where, w->given, w->what, w->what, buf_text(have));
    return siren_fail(err, SIREN_EFORMAT,
                      "%s: which column is the %s? Name it with --%s-column; there are: %.300s",
                      where, w->what, w->what, buf_text(have));
}

static struct buf names_of(const struct fields *header)
{
    struct buf have = {0};
    for (size_t i = 0; i < header->n && have.size < 300; i++)
        buf_printf(&have, "%s%.40s", i ? ", " : "", header->at[i]);
    return have;
}

static int no_column(const char *where, const struct fields *header, const struct wanted *w,
                     struct siren_error *err)
{
    struct buf have = names_of(header);
    const char *other = header->n == 1 ? strpbrk(header->at[0], ";|") : NULL;
    if (other) buf_printf(&have, " (one column: does --separator '%c' part it?)", *other);
    int code = fail_name(where, w, &have, err);
    buf_free(&have);
    return code;
}

/* RecBole: name:type */
static int is_column(const char *name, const char *wanted)
{
    size_t length = strcspn(name, ":");
    return !strcmp(name, wanted) || (strlen(wanted) == length && !strncmp(name, wanted, length));
}

static int find_column(const struct fields *header, const struct wanted *w)
{
    for (size_t i = 0; i < header->n; i++) {
        if (w->given && is_column(header->at[i], w->given)) return (int)i;
        for (int k = 0; !w->given && w->usual[k]; k++)
            if (is_column(header->at[i], w->usual[k])) return (int)i;
    }
    return -1;
}

static int find_all(const char *where, const struct fields *header, const struct wanted *wanted,
                    size_t n, struct siren_error *err)
{
    for (const struct wanted *w = wanted; w < wanted + n; w++) {
        int at = *w->at = find_column(header, w);
        if (at < 0 && w->given) return no_column(where, header, w, err);
        for (size_t i = (size_t)at + 1; at >= 0 && i < header->n; i++)
            if (!strcmp(header->at[i], header->at[at]))
                return siren_fail(err, SIREN_EFORMAT,
                                  "%s: columns %d and %zu are both '%.60s', expected one for the "
                                  "%s",
                                  where, at + 1, i + 1, header->at[at], w->what);
    }
    return SIREN_OK;
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

int never_seen(const char *path, const char *given, const char *what, struct siren_error *err)
{
    return siren_fail(err, SIREN_EFORMAT, "%s: no line has '%.60s' for the %s (--%s-column)", path,
                      given, what, what);
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

/* Of the ratings. */
static void want_ratings(struct source *s, struct wanted wanted[4])
{
    const struct siren_import_columns *c = &s->options->columns;
    struct layout *l = &s->layout;
    wanted[0] = (struct wanted){"user", c->user, user_names, &l->user_at, &l->user};
    wanted[1] = (struct wanted){"item", c->item, item_names, &l->item_at, &l->item};
    wanted[2] = (struct wanted){"rating", c->rating, rating_names, &l->rating_at, &l->rating};
    wanted[3] = (struct wanted){"time", c->time, time_names, &l->time_at, &l->time};
}

static int columns_by_name(struct source *s, struct fields *f, const char *where,
                           struct siren_error *err)
{
    struct wanted wanted[4];
    want_ratings(s, wanted);
    s->layout.header = f->n;
    /* The items may have another name for it: find_items() looks. */
    struct wanted usual = wanted[1];
    usual.given = NULL;
    if (wanted[1].given && find_column(f, &wanted[1]) < 0 && find_column(f, &usual) >= 0) {
        s->layout.item_elsewhere = no_column(where, f, &wanted[1], &s->layout.no_item);
        wanted[1] = usual;
    }
    int code = find_all(where, f, wanted, 4, err);
    for (int i = 0; !code && i < 3; i++)
        if (*wanted[i].at < 0) code = no_column(where, f, wanted + i, err);
    return code;
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

/* The names in a first line, and where it is: "FILE:LINE", or the file where it has none. */
static int split_header(struct fields *f, const char *path, struct text_line *line,
                        const char *separator, int quotes, struct buf *where,
                        struct siren_error *err)
{
    buf_puts(where, path);
    if (line->length) buf_printf(where, ":%" PRIu64, line->number);
    if (buf_failed(where)) return siren_fail_memory(err, "a path", strlen(path));
    int code = fields_split(f, line->text, line->length, separator, quotes, err);
    return code ? siren_fail_prefix(err, code, "%s", buf_text(where)) : SIREN_OK;
}

static int find_columns(struct source *s, const char *separator, int quotes,
                        struct siren_error *err)
{
    struct layout *l = &s->layout;
    strcpy(l->separator, s->options->separator ? s->options->separator : separator);
    l->quotes = quotes;
    struct text_line line;
    struct fields f = {0};
    struct buf where = {0};
    int code = first_line(s->path, s->encoding, &line, err);
    if (code) return code;
    if (columns_by_number(l, &s->options->columns)) {
        code = SIREN_OK;
    } else {
        code = split_header(&f, s->path, &line, l->separator, quotes, &where, err);
        if (!code) code = columns_by_name(s, &f, buf_text(&where), err);
    }
    int at[] = {l->user_at, l->item_at, l->rating_at, l->time_at};
    l->n_columns = largest(at, 3);
    if (!code) name_columns(s, &f, at);
    buf_free(&where);
    fields_free(&f);
    free(line.text);
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

/* ---- JSON ---- */

static int add_names(struct idmap *names, char *line, size_t length, struct siren_error *err)
{
    struct json_cursor c;
    struct json_span key, value;
    if (json_open(&c, line, length, '{')) return SIREN_OK; /* for the reader to say */
    while (json_next(&c, &key, &value) == 1)
        if (idmap_add(names, key.text, key.length) < 0)
            return siren_fail_memory(err, "fields", names->text_size);
    return SIREN_OK;
}

/* Names of the first hundred objects' fields: not every object has all. */
static int field_names(const char *path, enum siren_encoding encoding, struct idmap *names,
                       struct siren_error *err)
{
    struct siren_lines *lines;
    char *line;
    size_t length, bytes = 0;
    int code = import_lines(&lines, path, encoding, err), more = 1;
    if (code) return code;
    for (int n = 0; !code && n < 100 && bytes<1 << 20; n += length> 0) {
        more = siren_lines_next(lines, &line, &length, err);
        if (more != 1) break;
        bytes += length;
        code = add_names(names, line, length, err);
    }
    siren_lines_close(lines);
    return more < 0 && !names->n ? more : code; /* a later line is for the reader to judge */
}

static int no_field(const char *path, const struct idmap *names, const struct wanted *w,
                    struct siren_error *err)
{
    struct buf have = {0};
    for (size_t i = 0; i < names->n && have.size < 300; i++)
        buf_printf(&have, "%s%.40s", i ? ", " : "", idmap_id(names, i));
    int code = fail_name(path, w, &have, err);
    buf_free(&have);
    return code;
}

/* A given name need not be among the first objects'. */
static void find_field(const struct idmap *names, const struct wanted *w)
{
    *w->field = w->given;
    for (int k = 0; !*w->field && w->usual[k]; k++)
        if (idmap_find(names, w->usual[k], strlen(w->usual[k])) >= 0) *w->field = w->usual[k];
}

static int find_fields(struct source *s, struct siren_error *err)
{
    struct wanted wanted[4];
    struct idmap names = {0};
    want_ratings(s, wanted);
    s->layout.json = 1;
    int code = field_names(s->path, s->encoding, &names, err);
    for (int i = 0; !code && i < 4; i++) {
        find_field(&names, wanted + i);
        if (!*wanted[i].field && i < 3) code = no_field(s->path, &names, wanted + i, err);
        if (!code) name_column(s, i, *wanted[i].field ? *wanted[i].field : "none");
    }
    idmap_free(&names);
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
    const char *name = path_name(path), *end = strstr(name, ".jsonl");
    struct buf b = {0};
    buf_printf(&b, "meta_%.*s", (int)(end ? end + 6 - name : (long)strlen(name)), name);
    char *found = b.data ? find_file(folder, b.data) : NULL;
    buf_free(&b);
    return found ? found : find_file(folder, "meta.jsonl");
}

/* The last ".inter" that ends a name or a part of it; NULL: there is none. */
static const char *inter_ending(const char *name)
{
    const char *last = NULL;
    for (const char *at = name; (at = strstr(at, ".inter")); at += 6)
        if (!at[6] || at[6] == '.') last = at;
    return last;
}

/* data.inter has its items in data.item, and so has data.part1.inter. */
static char *find_item_file(const char *path, const char *folder)
{
    const char *name = path_name(path), *end = inter_ending(name);
    if (!end) return find_ending(folder, ".item");
    char *found = NULL;
    for (size_t n = (size_t)(end - name); !found && n;) {
        struct buf b = {0};
        buf_printf(&b, "%.*s.item", (int)n, name);
        if (b.data) found = find_file(folder, b.data);
        buf_free(&b);
        do n--;
        while (n && name[n] != '.');
    }
    return found;
}

static char *beside(struct source *s)
{
    static const char *const others[] = {"movies.csv", "items.csv",   "items.tsv",
                                         "meta.jsonl", "items.jsonl", NULL};
    char *folder = path_folder(s->path), *found = NULL;
    if (!folder) return NULL;
    if (s->format == FORMAT_AMAZON)
        found = find_metadata(s->path, folder);
    else if (s->format == FORMAT_ML100K)
        found = find_file(folder, "u.item");
    else if (s->format == FORMAT_ML1M)
        found = find_file(folder, "movies.dat");
    else if (s->format == FORMAT_RECBOLE)
        found = find_item_file(s->path, folder);
    else
        for (int i = 0; !found && others[i]; i++) found = find_file(folder, others[i]);
    free(folder);
    return found;
}

enum { ITEM_PARTS = 6 };

/* The id first: its name may be that of the ratings or not. */
static void want_items(struct source *s, struct wanted wanted[ITEM_PARTS])
{
    const struct siren_import_columns *c = &s->options->columns;
    struct items_layout *l = &s->items;
    wanted[0] = (struct wanted){"item", c->item, item_names, &l->id_at, &l->id};
    wanted[1] = (struct wanted){"title", c->title, title_names, &l->title_at, &l->title};
    wanted[2] = (struct wanted){"categories", c->categories, category_names, &l->categories_at,
                                &l->categories};
    wanted[3] =
        (struct wanted){"features", c->features, feature_names, &l->features_at, &l->features};
    wanted[4] = (struct wanted){"description", c->description, description_names,
                                &l->description_at, &l->description};
    wanted[5] = (struct wanted){"year", c->year, year_names, &l->year_at, &l->year};
}

static int item_columns(struct source *s, struct fields *f, const char *where,
                        struct siren_error *err)
{
    struct wanted wanted[ITEM_PARTS];
    want_items(s, wanted);
    s->items.header = f->n;
    if (wanted->given && find_column(f, wanted) >= 0)
        s->layout.item_elsewhere = 0;
    else
        wanted->given = NULL;
    if (!wanted->given && find_column(f, wanted) < 0) wanted->usual = plain_id;
    int code = find_all(where, f, wanted, ITEM_PARTS, err);
    if (!code && s->items.id_at < 0) code = no_column(where, f, wanted, err);
    if (code || s->items.title_at >= 0) return code;
    struct buf have = names_of(f);
    source_note(s,
                "which column of the items is the title? Name it with --title-column; "
                "there are: %.100s",
                buf_text(&have));
    buf_free(&have);
    return code;
}

static int item_fields(struct source *s, struct siren_error *err)
{
    static const char *const amazon[] = {"parent_asin", NULL};
    struct wanted wanted[ITEM_PARTS];
    struct idmap names = {0};
    want_items(s, wanted);
    if (s->format == FORMAT_AMAZON) wanted->usual = amazon;
    s->items.kind = ITEMS_JSON;
    int code = field_names(s->items_path, s->encoding, &names, err);
    if (wanted->given && idmap_find(&names, wanted->given, strlen(wanted->given)) >= 0)
        s->layout.item_elsewhere = 0;
    else
        wanted->given = NULL;
    for (int i = 0; !code && i < ITEM_PARTS; i++) find_field(&names, wanted + i);
    if (!code && !s->items.id) {
        wanted->usual = plain_id;
        find_field(&names, wanted);
    }
    if (!code && !s->items.id) code = no_field(s->items_path, &names, wanted, err);
    idmap_free(&names);
    return code;
}

static int look_at_items(struct source *s, struct siren_error *err)
{
    struct items_layout *l = &s->items;
    struct text_line line;
    struct fields f = {0};
    struct buf where = {0};
    int code = first_line(s->items_path, s->encoding, &line, err);
    if (code) return code;
    l->kind = ITEMS_COLUMNS;
    if (*line.text == '{') {
        code = item_fields(s, err);
    } else {
        const char *own = s->options->separator; /* of the ratings, and perhaps of the items */
        const char *separator = own && strstr(line.text, own) ? own
                                : strchr(line.text, '\t')     ? "\t"
                                                              : ",";
        l->quotes = s->format != FORMAT_RECBOLE;
        strcpy(l->separator, separator);
        code = split_header(&f, s->items_path, &line, separator, l->quotes, &where, err);
        if (!code) code = item_columns(s, &f, buf_text(&where), err);
    }
    buf_free(&where);
    fields_free(&f);
    free(line.text);
    return code;
}

static int find_items_file(struct source *s, struct siren_error *err)
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
    int code = check_source(s->items_path, err);
    if (code) return code;
    if (!list) list = s->format == FORMAT_RECBOLE ? " " : "|";
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

int find_items(struct source *s, struct siren_error *err)
{
    int code = find_items_file(s, err);
    if (code || !s->layout.item_elsewhere) return code;
    if (err) *err = s->layout.no_item;
    return s->layout.item_elsewhere;
}

/* ---- options without effect ---- */

static int no_effect(struct source *s, const char *option, const char *whose,
                     struct siren_error *err)
{
    return siren_fail(err, SIREN_EINVAL, "--%s changes nothing: format %s %s", option,
                      format_name(s->format), whose);
}

int check_effect(struct source *s, struct siren_error *err)
{
    const struct siren_import_options *o = s->options;
    const struct siren_import_columns *c = &o->columns;
    const char *ratings[] = {c->user, c->item, c->rating, c->time};
    const char *items[] = {c->title, c->categories, c->features, c->description, c->year};
    static const char *const names[] = {
        "user-column",       "item-column",     "rating-column",      "time-column", "title-column",
        "categories-column", "features-column", "description-column", "year-column"};
    int own = s->format == FORMAT_MOVIES || s->format == FORMAT_AMAZON ||
              s->format == FORMAT_ML100K || s->format == FORMAT_ML1M;
    enum items_kind kind = s->items.kind;
    int own_items = kind == ITEMS_ML100K || s->format == FORMAT_ML1M;
    const char *none = s->format == FORMAT_MOVIES ? "brings its items along"
                                                  : "has no items file here (--items FILE)";
    const char *why = kind == ITEMS_NONE ? none : own_items ? "has its own columns of items" : NULL;
    for (int i = 0; own && i < 4; i++)
        if (ratings[i])
            return no_effect(s, names[i],
                             "has its own columns; --format csv, tsv or jsonl reads others", err);
    for (int i = 0; why && i < 5; i++)
        if (items[i]) return no_effect(s, names[4 + i], why, err);
    if (o->separator && (own || s->layout.json) && (own_items || kind != ITEMS_COLUMNS))
        return no_effect(s, "separator", "has its own", err);
    if (o->list_separator && (kind == ITEMS_NONE || kind == ITEMS_ML100K))
        return no_effect(s, "list-separator", why, err);
    if (o->all_items && kind == ITEMS_NONE) return no_effect(s, "all-items", none, err);
    return SIREN_OK;
}
