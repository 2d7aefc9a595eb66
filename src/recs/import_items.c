/* The items file: titles, categories and the rest. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/list.h"
#include "recs/import.h"

/* An item under construction; memory is reused for the next one. */
struct building {
    struct siren_item item;
    const char **categories, **features;
    size_t n_categories, n_features, categories_capacity, features_capacity;
    struct buf description;
    unsigned seen; /* bits of the parts below: in some object */
};

enum { TITLE, CATEGORIES, FEATURES, DESCRIPTION, YEAR, N_PARTS };

static void building_clear(struct building *b)
{
    b->item = (struct siren_item){0};
    b->n_categories = b->n_features = 0;
    buf_clear(&b->description);
}

static void building_free(struct building *b)
{
    free(b->categories);
    free(b->features);
    buf_free(&b->description);
}

static int push_text(const char ***list, size_t *n, size_t *capacity, const char *text,
                     struct siren_error *err)
{
    if (alloc_grow(list, capacity, *n + 1, sizeof **list))
        return siren_fail_memory(err, "categories", *n);
    (*list)[(*n)++] = text;
    return SIREN_OK;
}

static int push_category(struct building *b, const char *text, struct siren_error *err)
{
    return push_text(&b->categories, &b->n_categories, &b->categories_capacity, text, err);
}

static int push_feature(struct building *b, const char *text, struct siren_error *err)
{
    return push_text(&b->features, &b->n_features, &b->features_capacity, text, err);
}

/* "Toy Story (1995)": 1995. */
static int year_of_title(const char *title)
{
    size_t n = strlen(title);
    while (n && title[n - 1] == ' ') n--;
    if (n < 6 || title[n - 1] != ')' || title[n - 6] != '(') return 0;
    for (size_t i = n - 5; i < n - 1; i++)
        if (title[i] < '0' || title[i] > '9') return 0;
    return atoi(title + n - 5);
}

static int finish_item(struct building *b, item_sink *sink, void *context, struct siren_error *err)
{
    b->item.n_categories = (int)b->n_categories;
    b->item.n_features = (int)b->n_features;
    int code = push_category(b, NULL, err);
    if (!code) code = push_feature(b, NULL, err);
    if (code) return code;
    b->item.categories = b->categories;
    b->item.features = b->features;
    b->item.description = buf_text(&b->description);
    if (b->item.title && list_is_blank(b->item.title)) b->item.title = NULL;
    if (!b->item.year && b->item.title) b->item.year = year_of_title(b->item.title);
    if (buf_failed(&b->description)) return siren_fail_memory(err, "a description", 0);
    return sink(context, &b->item, err);
}

/* Split a list in place; an entry like "(no genres listed)" is none. */
static int split_list(struct building *b, char *text, const char *separator, int features,
                      struct siren_error *err)
{
    int code = SIREN_OK;
    char *entry;
    while (!code && (entry = list_next(&text, separator)))
        if (strcmp(entry, "(no genres listed)"))
            code = features ? push_feature(b, entry, err) : push_category(b, entry, err);
    return code;
}

static char *column(struct fields *f, int at)
{
    return at >= 0 && (size_t)at < f->n ? f->at[at] : NULL;
}

static int parse_columns(const struct items_layout *l, struct fields *f, char *line, size_t length,
                         struct building *b, struct siren_error *err)
{
    int code = fields_split(f, line, length, l->separator, l->quotes, err);
    if (!code) code = fields_check(f, l->header, err);
    if (code) return code;
    b->item.external = column(f, l->id_at);
    if (!b->item.external || !*b->item.external)
        return siren_fail(err, SIREN_EFORMAT, "no item id in column %d", l->id_at + 1);
    b->item.title = column(f, l->title_at);
    char *description = column(f, l->description_at), *year = column(f, l->year_at);
    double number;
    if (description) buf_puts(&b->description, description);
    if (year && !parse_number(year, strlen(year), &number) && number > 0 && number < 10000)
        b->item.year = (int)number;
    code = split_list(b, column(f, l->categories_at), l->list_separator, 0, err);
    return code ? code : split_list(b, column(f, l->features_at), l->list_separator, 1, err);
}

/* id|title|release date|video date|address|19 flags of 0 or 1 */
static int parse_ml100k(struct fields *f, char *line, size_t length, struct building *b,
                        struct siren_error *err)
{
    static const char *const genres[] = {
        "unknown",     "Action", "Adventure", "Animation", "Children's", "Comedy",  "Crime",
        "Documentary", "Drama",  "Fantasy",   "Film-Noir", "Horror",     "Musical", "Mystery",
        "Romance",     "Sci-Fi", "Thriller",  "War",       "Western"};
    enum { N_GENRES = 19, FIRST = 5 };
    int code = fields_split(f, line, length, "|", 0, err);
    if (code) return code;
    if (f->n < FIRST + N_GENRES)
        return siren_fail(err, SIREN_EFORMAT, "%zu columns, expected %d separated by '|'", f->n,
                          FIRST + N_GENRES);
    b->item.external = f->at[0];
    b->item.title = f->at[1];
    if (f->length[2] >= 4) b->item.year = atoi(f->at[2] + f->length[2] - 4);
    for (int i = 1; !code && i < N_GENRES; i++)
        if (!strcmp(f->at[FIRST + i], "1")) code = push_category(b, genres[i], err);
    return code;
}

/* ---- JSON ---- */

static int bad_json(const struct json_cursor *c, struct siren_error *err)
{
    return siren_fail(err, SIREN_EFORMAT, "bad JSON: expected %s",
                      c->expected ? c->expected : "something else");
}

enum target { TO_CATEGORIES, TO_FEATURES, TO_DESCRIPTION };

static int put_text(struct building *b, enum target to, const char *text, struct siren_error *err)
{
    if (!*text) return SIREN_OK;
    if (to == TO_CATEGORIES) return push_category(b, text, err);
    if (to == TO_FEATURES) return push_feature(b, text, err);
    if (b->description.size) buf_putc(&b->description, ' ');
    buf_puts(&b->description, text);
    return SIREN_OK;
}

/* A string, a list of strings, or null. */
static int put_value(struct building *b, enum target to, struct json_span *value,
                     const char *separator, struct siren_error *err)
{
    struct json_cursor c;
    struct json_span entry;
    if (value->kind == JSON_STRING_) {
        if (json_decode(value)) return siren_fail(err, SIREN_EFORMAT, "a bad escape in a string");
        if (to == TO_DESCRIPTION) return put_text(b, to, value->text, err);
        return split_list(b, value->text, separator, to == TO_FEATURES, err);
    }
    if (value->kind == JSON_LITERAL_) return SIREN_OK;
    if (value->kind != JSON_ARRAY_)
        return siren_fail(err, SIREN_EFORMAT, "'%.20s…': expected a string or a list of them",
                          value->text);
    int more = json_open(&c, value->text, value->length, '[') ? -1 : 1, code = SIREN_OK;
    while (!code && more == 1 && (more = json_next(&c, NULL, &entry)) == 1) {
        if (entry.kind != JSON_STRING_) continue;
        if (json_decode(&entry)) return siren_fail(err, SIREN_EFORMAT, "a bad escape in a string");
        code = put_text(b, to, entry.text, err);
    }
    return more < 0 ? bad_json(&c, err) : code;
}

/* Text of a string or number, NUL-terminated in place; NULL for null.  After the whole line was
 * scanned: the byte behind a number is the scanner's. */
static int take_text(struct json_span *value, const char **text, struct siren_error *err)
{
    *text = NULL;
    if (value->kind == JSON_LITERAL_) return SIREN_OK;
    if (value->kind != JSON_STRING_ && value->kind != JSON_NUMBER_)
        return siren_fail(err, SIREN_EFORMAT, "'%.20s…': expected a string", value->text);
    if (value->kind == JSON_STRING_ && json_decode(value))
        return siren_fail(err, SIREN_EFORMAT, "a bad escape in a string");
    value->text[value->length] = 0;
    *text = value->text;
    return SIREN_OK;
}

static void see(struct building *b, const struct items_layout *l, const struct json_span *key)
{
    const char *const names[N_PARTS] = {l->title, l->categories, l->features, l->description,
                                        l->year};
    for (int i = 0; i < N_PARTS; i++)
        if (json_is(key, names[i])) b->seen |= 1u << i;
}

/* Of JSON: a field that was asked for and is nowhere. */
static int check_seen(struct source *s, unsigned seen, struct siren_error *err)
{
    static const char *const whats[N_PARTS] = {"title", "categories", "features", "description",
                                               "year"};
    const struct siren_import_columns *c = &s->options->columns;
    const char *const given[N_PARTS] = {c->title, c->categories, c->features, c->description,
                                        c->year};
    for (int i = 0; i < N_PARTS; i++)
        if (given[i] && !(seen & 1u << i))
            return never_seen(s->items_path, given[i], whats[i], err);
    return SIREN_OK;
}

static int parse_json(const struct items_layout *l, char *line, size_t length, struct building *b,
                      struct siren_error *err)
{
    struct json_cursor c;
    struct json_span key, value, id = {0}, title = {0}, main_category = {0};
    double year;
    int code = SIREN_OK, more = json_open(&c, line, length, '{') ? -1 : 1;
    while (!code && more == 1 && (more = json_next(&c, &key, &value)) == 1) {
        see(b, l, &key);
        if (json_is(&key, l->id))
            id = value;
        else if (json_is(&key, l->title))
            title = value;
        else if (json_is(&key, l->categories))
            code = put_value(b, TO_CATEGORIES, &value, l->list_separator, err);
        else if (json_is(&key, l->features))
            code = put_value(b, TO_FEATURES, &value, l->list_separator, err);
        else if (json_is(&key, l->description))
            code = put_value(b, TO_DESCRIPTION, &value, l->list_separator, err);
        else if (json_is(&key, "main_category"))
            main_category = value;
        else if (json_is(&key, l->year) && value.kind != JSON_ARRAY_ &&
                 !parse_number(value.text, value.length, &year) && year > 0 && year < 10000)
            b->item.year = (int)year;
    }
    if (more < 0) return bad_json(&c, err);
    if (code) return code;
    if (id.text) code = take_text(&id, &b->item.external, err);
    if (!code && title.text) code = take_text(&title, &b->item.title, err);
    if (!code && (!b->item.external || !*b->item.external))
        return siren_fail(err, SIREN_EFORMAT, "no field '%s'", l->id);
    if (!code && !b->n_categories && main_category.text && main_category.kind == JSON_STRING_)
        code = put_value(b, TO_CATEGORIES, &main_category, l->list_separator, err);
    return code;
}

int read_items(struct source *s, item_sink *sink, void *context, struct siren_error *err)
{
    struct reader r;
    struct fields f = {0};
    struct building b = {0};
    char *line;
    size_t length;
    if (s->items.kind == ITEMS_NONE) return SIREN_OK;
    int code = reader_open(&r, s, s->items_path, s->encoding, "bytes of items", err);
    r.skip_header = s->items.header > 0;
    r.quotes = s->items.quotes;
    r.separator = s->items.separator;
    while (!code && (code = reader_next(&r, &line, &length, err)) == 1) {
        building_clear(&b);
        if (s->items.kind == ITEMS_JSON)
            code = parse_json(&s->items, line, length, &b, err);
        else if (s->items.kind == ITEMS_ML100K)
            code = parse_ml100k(&f, line, length, &b, err);
        else
            code = parse_columns(&s->items, &f, line, length, &b, err);
        if (code)
            code = reader_bad(&r, code, err);
        else
            code = finish_item(&b, sink, context, err);
    }
    if (!code && s->items.kind == ITEMS_JSON) code = check_seen(s, b.seen, err);
    fields_free(&f);
    building_free(&b);
    reader_close(&r);
    return code;
}
