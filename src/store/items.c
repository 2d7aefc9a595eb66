#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <xxhash.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "store/store.h"

static void put_list(struct buf *b, const char *label, const char *const *list, const char *between)
{
    if (!list || !list[0]) return;
    buf_puts(b, label);
    for (int i = 0; list[i]; i++) {
        if (i) buf_puts(b, between);
        buf_puts(b, list[i]);
    }
}

/* The id where the source has none. */
static const char *title_of(const struct siren_item *item)
{
    return item->title && *item->title ? item->title : item->external;
}

int siren_item_text(const struct siren_item *item, int with_description, char **text,
                    struct siren_error *err)
{
    struct buf b = {0};
    buf_puts(&b, "Title: ");
    buf_puts(&b, title_of(item));
    put_list(&b, "\nCategory: ", item->categories, "|");
    put_list(&b, "\nFeature: ", item->features, "###");
    if (item->features && item->features[0]) buf_putc(&b, '.');
    if (with_description && item->description && item->description[0]) {
        buf_puts(&b, "\nDescription: ");
        buf_puts(&b, item->description);
    }
    *text = buf_take(&b);
    return *text ? SIREN_OK : siren_fail_memory(err, "an item's text", 0);
}

/* ---- lists as JSON arrays ---- */

static char *list_json(const char *const *list)
{
    json_t *array = json_array();
    for (int i = 0; array && list && list[i]; i++)
        if (json_array_append_new(array, json_string(list[i]))) {
            json_decref(array);
            array = NULL;
        }
    char *text = array ? json_dumps(array, JSON_COMPACT) : NULL;
    json_decref(array);
    return text;
}

static int list_parse(struct strings *owner, const char *text, const char ***list, int *n)
{
    json_t *array = json_loads(text, 0, NULL);
    size_t size = json_array_size(array); /* 0 for what is no array */
    int ok = json_is_array(array);
    *list = ok ? strings_room(owner, (size + 1) * sizeof **list) : NULL;
    *n = 0;
    for (size_t i = 0; *list && i < size; i++) {
        json_t *entry = json_array_get(array, i);
        if (!json_is_string(entry)) continue;
        (*list)[*n] = strings_add(owner, json_string_value(entry), json_string_length(entry));
        if (!(*list)[*n]) {
            *list = NULL;
            break;
        }
        ++*n;
    }
    if (*list) (*list)[*n] = NULL;
    json_decref(array);
    if (!ok) return SIREN_EFORMAT;
    return *list ? SIREN_OK : SIREN_ENOMEM;
}

/* ---- loading ---- */

static int load_item(struct strings *owner, sqlite3_stmt *q, struct siren_item *item)
{
    const char *text[5];
    for (int i = 0; i < 5; i++) {
        const char *column = (const char *)sqlite3_column_text(q, i + 1);
        text[i] = column ? column : "";
    }
    item->external = strings_add(owner, text[0], strlen(text[0]));
    item->title = strings_add(owner, text[1], strlen(text[1]));
    item->description = strings_add(owner, text[4], strlen(text[4]));
    item->year = sqlite3_column_int(q, 6);
    item->hash = (uint64_t)sqlite3_column_int64(q, 7);
    if (!item->external || !item->title || !item->description) return SIREN_ENOMEM;
    const char **list;
    int code = list_parse(owner, text[2], &list, &item->n_categories);
    item->categories = list;
    if (!code) code = list_parse(owner, text[3], &list, &item->n_features);
    item->features = list;
    return code;
}

static int fail_load(struct siren_workspace *ws, int code, int row, struct siren_error *err)
{
    if (code == SIREN_ENOMEM) return siren_fail_memory(err, "items", 0);
    return siren_fail(err, code, "%s: items.id %d: categories or features are no JSON array",
                      siren_workspace_path(ws), row);
}

int siren_items_load(struct siren_items *out, struct siren_workspace *ws, struct siren_error *err)
{
    *out = (struct siren_items){0};
    sqlite3_stmt *q;
    int code = store_prepare(ws, &q,
                             "SELECT id, external, title, categories, features, description, year,"
                             " hash FROM items ORDER BY id",
                             err);
    if (code) return code;
    struct strings *owner = calloc(1, sizeof *owner);
    size_t capacity = 0;
    out->owner = owner;
    if (!owner) code = siren_fail_memory(err, "items", sizeof *owner);
    while (!code && (code = store_step(ws, q, "read the items", err)) == 1) {
        if (sqlite3_column_int64(q, 0) != out->n) {
            code =
                siren_fail(err, SIREN_EFORMAT, "%s: items.id %lld: expected %d (no gaps)",
                           siren_workspace_path(ws), (long long)sqlite3_column_int64(q, 0), out->n);
            break;
        }
        code = alloc_grow(&out->item, &capacity, (size_t)out->n + 1, sizeof *out->item);
        if (!code) {
            out->item[out->n] = (struct siren_item){0};
            code = load_item(owner, q, &out->item[out->n]);
        }
        if (code)
            code = fail_load(ws, code, out->n, err);
        else
            out->n++;
    }
    sqlite3_finalize(q);
    if (code) siren_items_clear(out);
    return code;
}

void siren_items_clear(struct siren_items *items)
{
    strings_free(items->owner);
    free(items->owner);
    free(items->item);
    *items = (struct siren_items){0};
}

/* ---- adding ---- */

int store_item_hash(const struct siren_item *item, uint64_t *hash, struct siren_error *err)
{
    char *text;
    int code = siren_item_text(item, 1, &text, err);
    if (code) return code;
    *hash = XXH3_64bits(text, strlen(text));
    free(text);
    return SIREN_OK;
}

int store_item_insert(struct siren_workspace *ws, sqlite3_stmt *insert, int64_t id,
                      const struct siren_item *item, struct siren_error *err)
{
    uint64_t hash;
    int code = store_item_hash(item, &hash, err);
    if (code) return code;
    char *categories = list_json(item->categories), *features = list_json(item->features);
    if (!categories || !features) {
        code =
            siren_fail(err, SIREN_EINVAL, "item '%.60s': its lists are not UTF-8", item->external);
    } else {
        sqlite3_bind_int64(insert, 1, id);
        sqlite3_bind_text(insert, 2, item->external, -1, SQLITE_STATIC);
        sqlite3_bind_text(insert, 3, title_of(item), -1, SQLITE_STATIC);
        sqlite3_bind_text(insert, 4, categories, -1, SQLITE_STATIC);
        sqlite3_bind_text(insert, 5, features, -1, SQLITE_STATIC);
        store_bind_text(insert, 6, item->description);
        if (item->year)
            sqlite3_bind_int(insert, 7, item->year);
        else
            sqlite3_bind_null(insert, 7);
        sqlite3_bind_int64(insert, 8, (int64_t)hash);
        code = store_run(ws, insert, "add an item", err);
    }
    free(categories);
    free(features);
    return code;
}

static int check_id(const char *what, const char *external, struct siren_error *err)
{
    size_t n = strlen(external);
    if (n > SIREN_ID_BYTES)
        return siren_fail(err, SIREN_EINVAL, "%s: has %zu bytes (at most %d)", what, n,
                          SIREN_ID_BYTES);
    if (n) return store_check_text(what, external, err);
    return siren_fail(err, SIREN_EINVAL, "%s: is empty", what);
}

static int check_list(const char *what, const char *const *list, struct siren_error *err)
{
    int code = SIREN_OK;
    for (int i = 0; !code && list && list[i]; i++) code = store_check_text(what, list[i], err);
    return code;
}

static int check_item(const struct siren_item *item, struct siren_error *err)
{
    int code = check_id("the id of a new item", item->external, err);
    if (code) return code;
    code = store_check_text("its title", item->title, err);
    if (!code) code = store_check_text("its description", item->description, err);
    if (!code) code = check_list("its categories", item->categories, err);
    if (!code) code = check_list("its features", item->features, err);
    return code ? siren_fail_prefix(err, code, "item '%.100s'", item->external) : SIREN_OK;
}

/* 1: *id is set; 0: not there. */
static int find_id(struct siren_workspace *ws, const char *sql, const char *external, int *id,
                   struct siren_error *err)
{
    sqlite3_stmt *q;
    int code = store_prepare(ws, &q, sql, err);
    if (code) return code;
    sqlite3_bind_text(q, 1, external, -1, SQLITE_STATIC);
    code = store_step(ws, q, "look up an id", err);
    if (code == 1) *id = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    return code;
}

static int find_item(struct siren_workspace *ws, const char *external, int *id,
                     struct siren_error *err)
{
    return find_id(ws, "SELECT id FROM items WHERE external = ?", external, id, err);
}

static int find_user(struct siren_workspace *ws, const char *external, int *id,
                     struct siren_error *err)
{
    return find_id(ws, "SELECT id FROM users WHERE external = ?", external, id, err);
}

/* Rankings show titles: who gives one is told the id. */
static int no_item(struct siren_workspace *ws, const char *external, struct siren_error *err)
{
    sqlite3_stmt *q;
    int64_t n = 0;
    int code = store_integer(ws, "SELECT count(*) FROM items", 0, &n, err);
    if (!code)
        code = store_prepare(
            ws, &q, "SELECT external FROM items WHERE title = ? COLLATE NOCASE ORDER BY id", err);
    if (code) return code;
    sqlite3_bind_text(q, 1, external, -1, SQLITE_STATIC);
    code = store_step(ws, q, "look up a title", err);
    if (code == 1)
        siren_fail(err, SIREN_ENOTFOUND,
                   "%s: no item has the id '%.100s'; it is the title of item '%.100s'",
                   siren_workspace_path(ws), external, (const char *)sqlite3_column_text(q, 0));
    else if (!code)
        siren_fail(err, SIREN_ENOTFOUND, "%s: no item '%.100s' among its %lld",
                   siren_workspace_path(ws), external, (long long)n);
    sqlite3_finalize(q);
    return code < 0 ? code : SIREN_ENOTFOUND;
}

int siren_item_find(struct siren_workspace *ws, const char *external, int *id,
                    struct siren_error *err)
{
    int code = find_item(ws, external, id, err);
    if (code) return code < 0 ? code : SIREN_OK;
    return no_item(ws, external, err);
}

int siren_item_add(struct siren_workspace *ws, const struct siren_item *item, int *id,
                   struct siren_error *err)
{
    int64_t next = 0;
    sqlite3_stmt *insert = NULL;
    int code = check_item(item, err);
    if (!code) code = siren_workspace_begin(ws, err);
    if (code) return code;
    code = find_item(ws, item->external, id, err);
    if (code == 1)
        code = siren_fail(err, SIREN_EEXISTS, "%s: item '%.100s' is there already",
                          siren_workspace_path(ws), item->external);
    if (!code) code = store_integer(ws, "SELECT max(id) + 1 FROM items", 0, &next, err);
    if (!code) code = store_prepare(ws, &insert, STORE_ITEM_INSERT, err);
    if (!code) code = store_item_insert(ws, insert, next, item, err);
    sqlite3_finalize(insert);
    *id = (int)next;
    return siren_workspace_end(ws, code, err);
}

/* ---- users ---- */

int siren_user_find(struct siren_workspace *ws, const char *external, int *id,
                    struct siren_error *err)
{
    int64_t n = 0;
    int code = find_user(ws, external, id, err);
    if (code) return code < 0 ? code : SIREN_OK;
    code = store_integer(ws, "SELECT count(*) FROM users", 0, &n, err);
    if (code) return code;
    return siren_fail(err, SIREN_ENOTFOUND, "%s: no user '%.100s' among its %lld",
                      siren_workspace_path(ws), external, (long long)n);
}

int store_next_user(struct siren_workspace *ws, int64_t *next, struct siren_error *err)
{
    return store_integer(ws,
                         "SELECT max(ifnull((SELECT max(id) + 1 FROM users), 0), ifnull((SELECT"
                         " CAST(value AS INTEGER) FROM meta WHERE key = '" STORE_NEXT_USER
                         "'), 0))",
                         0, next, err);
}

int siren_user_add(struct siren_workspace *ws, const char *external, int *id,
                   struct siren_error *err)
{
    int64_t next = 0;
    sqlite3_stmt *insert = NULL;
    int code = check_id("the id of a new user", external, err);
    if (!code) code = siren_workspace_begin(ws, err);
    if (code) return code;
    code = find_user(ws, external, id, err);
    if (code == 1)
        code = siren_fail(err, SIREN_EEXISTS, "%s: user '%.100s' is there already",
                          siren_workspace_path(ws), external);
    if (!code) code = store_next_user(ws, &next, err);
    if (!code) code = store_prepare(ws, &insert, STORE_USER_INSERT, err);
    if (!code) {
        sqlite3_bind_int64(insert, 1, next);
        sqlite3_bind_text(insert, 2, external, -1, SQLITE_STATIC);
        code = store_run(ws, insert, "add a user", err);
    }
    sqlite3_finalize(insert);
    *id = (int)next;
    return siren_workspace_end(ws, code, err);
}

int siren_users_load(struct siren_users *out, struct siren_workspace *ws, struct siren_error *err)
{
    *out = (struct siren_users){0};
    int64_t n = 0;
    sqlite3_stmt *q = NULL;
    struct strings *owner = calloc(1, sizeof *owner);
    int code = owner ? SIREN_OK : siren_fail_memory(err, "users", sizeof *owner);
    out->owner = owner;
    if (!code) code = siren_workspace_begin_read(ws, err);
    if (code) {
        siren_users_clear(out);
        return code;
    }
    code = store_integer(ws, "SELECT max(id) + 1 FROM users", 0, &n, err);
    if (!code && (n < 0 || n > INT32_MAX))
        code = siren_fail(err, SIREN_EFORMAT, "%s: users.id up to %lld", siren_workspace_path(ws),
                          (long long)n);
    if (!code && !(out->external = alloc_zeroed((size_t)n, sizeof *out->external)))
        code = siren_fail_memory(err, "users", (unsigned long long)n);
    if (!code) code = store_prepare(ws, &q, "SELECT id, external FROM users WHERE id >= 0", err);
    while (!code && (code = store_step(ws, q, "read the users", err)) == 1) {
        const char *text = (const char *)sqlite3_column_text(q, 1);
        char *copy = strings_add(owner, text ? text : "", text ? strlen(text) : 0);
        out->external[sqlite3_column_int64(q, 0)] = copy;
        code = copy ? SIREN_OK : siren_fail_memory(err, "users", 0);
    }
    out->n = (int)n;
    sqlite3_finalize(q);
    code = siren_workspace_end(ws, code, err);
    if (code) siren_users_clear(out);
    return code;
}

void siren_users_clear(struct siren_users *users)
{
    strings_free(users->owner);
    free(users->owner);
    free(users->external);
    *users = (struct siren_users){0};
}
