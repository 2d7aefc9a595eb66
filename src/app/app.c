/* A workspace with its tables in memory. */
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "base/buf.h"

static int join_categories(struct siren_app *app, struct siren_error *err)
{
    app->categories = alloc_zeroed((size_t)app->items.n + 1, sizeof *app->categories);
    for (int i = 0; app->categories && i < app->items.n; i++) {
        const struct siren_item *item = &app->items.item[i];
        struct buf b = {0};
        buf_puts(&b, "");
        for (int c = 0; c < item->n_categories; c++) {
            if (c) buf_putc(&b, '|');
            buf_puts(&b, item->categories[c]);
        }
        app->categories[i] = buf_take(&b);
        if (!app->categories[i]) return siren_fail_memory(err, "categories", 0);
    }
    return app->categories ? 0 : siren_fail_memory(err, "categories", 0);
}

static int name_topics(struct siren_app *app, struct siren_error *err)
{
    app->topic_names = alloc_zeroed((size_t)app->topics.k + 1, sizeof *app->topic_names);
    for (int k = 0; app->topic_names && k < app->topics.k; k++) {
        struct buf b = {0};
        if (app->topics.name[k])
            buf_puts(&b, app->topics.name[k]);
        else
            buf_printf(&b, "topic %d", k);
        app->topic_names[k] = buf_take(&b);
        if (!app->topic_names[k]) return siren_fail_memory(err, "topic names", 0);
    }
    return app->topic_names ? 0 : siren_fail_memory(err, "topic names", 0);
}

static int load_topics(struct siren_app *app, struct siren_error *err)
{
    int rc = siren_topics_load(&app->topics, app->ws, err);
    if (rc == SIREN_ENOTFOUND) {
        app->topics = (struct siren_topics){0};
        rc = 0;
    } else if (!rc) {
        rc = siren_sketch_soft_load(app->ws, &app->soft, err);
    }
    return rc ? rc : name_topics(app, err);
}

/* Each item's rows in their order. */
static int make_index(struct siren_by_item *b, const struct siren_ratings *r,
                      struct siren_error *err)
{
    size_t *start = alloc_zeroed((size_t)r->n_items + 2, sizeof *start);
    size_t *row = alloc_array(r->n, sizeof *row);
    if (!start || !row) {
        free(start);
        free(row);
        return siren_fail_memory(err, "ratings by item", r->n * sizeof *row);
    }
    for (size_t i = 0; i < r->n; i++) start[r->item[i] + 2]++;
    for (int i = 1; i <= r->n_items; i++) start[i + 1] += start[i];
    for (size_t i = 0; i < r->n; i++) row[start[r->item[i] + 1]++] = i;
    b->start = start;
    b->row = row;
    return 0;
}

int app_index_items(const struct siren_app *app, struct siren_error *err)
{
    struct siren_by_item *b = app->by_item;
    pthread_mutex_lock(&b->lock);
    int rc = b->row ? 0 : make_index(b, &app->ratings, err);
    pthread_mutex_unlock(&b->lock);
    return rc;
}

static int prepare_index(struct siren_app *app, struct siren_error *err)
{
    app->by_item = alloc_zeroed(1, sizeof *app->by_item);
    if (!app->by_item) return siren_fail_memory(err, "ratings by item", sizeof *app->by_item);
    pthread_mutex_init(&app->by_item->lock, NULL);
    return 0;
}

static void free_index(struct siren_by_item *b)
{
    if (!b) return;
    pthread_mutex_destroy(&b->lock);
    free(b->start);
    free(b->row);
    free(b);
}

static int load_workspace(struct siren_app *app, struct siren_error *err)
{
    int rc = siren_workspace_begin_read(app->ws, err);
    if (rc) return rc;
    rc = siren_meta_load(&app->meta, app->ws, err);
    if (!rc) rc = siren_meta_get(app->ws, "import_hash", &app->import_hash, err);
    if (!rc) rc = siren_items_load(&app->items, app->ws, err);
    if (!rc) rc = siren_users_load(&app->users, app->ws, err);
    if (!rc) rc = siren_ratings_load(&app->ratings, app->ws, err);
    if (!rc) rc = load_topics(app, err);
    if (!rc) rc = siren_topics_stamp(app->ws, &app->topics_stamp, err);
    rc = siren_workspace_end(app->ws, rc, err);
    if (!rc) rc = prepare_index(app, err);
    return rc ? rc : join_categories(app, err);
}

int siren_app_open(struct siren_app *out, const char *path, enum siren_workspace_mode mode,
                   struct siren_error *err)
{
    int rc;
    *out = (struct siren_app){0};
    rc = siren_workspace_open(&out->ws, path, mode, err);
    if (!rc) rc = load_workspace(out, err);
    if (rc) siren_app_close(out);
    return rc;
}

static int replaced(const struct siren_app *app, const char *what, struct siren_error *err)
{
    return siren_fail(err, SIREN_EBUSY, "%s: %s replaced what was read from it: run it again",
                      siren_workspace_path(app->ws), what);
}

int app_check_topics(const struct siren_app *app, struct siren_error *err)
{
    uint64_t now;
    int rc = siren_topics_stamp(app->ws, &now, err);
    return rc || now == app->topics_stamp ? rc : replaced(app, "other topics have", err);
}

int app_check_import(const struct siren_app *app, struct siren_error *err)
{
    char *now;
    int rc = siren_meta_get(app->ws, "import_hash", &now, err);
    if (rc) return rc;
    int same = now && app->import_hash ? !strcmp(now, app->import_hash) : now == app->import_hash;
    free(now);
    return same ? 0 : replaced(app, "another import has", err);
}

int app_run_start(const struct siren_app *app, struct siren_run *run, struct siren_error *err)
{
    int rc = siren_workspace_begin(app->ws, err);
    if (rc) return rc;
    rc = app_check_import(app, err);
    if (!rc) rc = siren_run_start(app->ws, run, err);
    return siren_workspace_end(app->ws, rc, err);
}

int app_run_done(struct siren_app *app, const char *kind, const char *settings, int64_t *run,
                 struct siren_error *err)
{
    struct siren_run *runs;
    size_t n;
    int rc = siren_runs_load(&runs, &n, app->ws, kind, err);
    *run = 0;
    if (rc) return rc;
    for (size_t i = 0; i < n; i++)
        if (runs[i].status == SIREN_RUN_DONE && !strcmp(runs[i].settings, settings))
            *run = runs[i].id;
    siren_runs_free(runs, n);
    return 0;
}

static void free_strings(char **strings, int n)
{
    for (int i = 0; strings && i < n; i++) free(strings[i]);
    free(strings);
}

void siren_app_close(struct siren_app *app)
{
    if (!app) return;
    free_strings(app->categories, app->items.n);
    free_strings(app->topic_names, app->topics.k);
    siren_items_clear(&app->items);
    siren_users_clear(&app->users);
    siren_ratings_clear(&app->ratings);
    free_index(app->by_item);
    siren_topics_clear(&app->topics);
    free(app->import_hash);
    siren_workspace_close(app->ws);
    *app = (struct siren_app){0};
}

/* The file may know more by now than was loaded: another process has added it since. */
static int check_loaded(const struct siren_app *app, const char *what, const char *external,
                        const char *loaded, struct siren_error *err)
{
    if (loaded && !strcmp(loaded, external)) return 0;
    return siren_fail(err, SIREN_EBUSY,
                      "%s: %s '%.100s' was added by another process after the ratings were loaded: "
                      "start again",
                      siren_workspace_path(app->ws), what, external);
}

static int find_user(const struct siren_app *app, const char *external, int *user,
                     struct siren_error *err)
{
    const struct siren_users *users = &app->users;
    int rc = siren_user_find(app->ws, external, user, err);
    if (rc == SIREN_ENOTFOUND) *user = -1;
    if (rc) return rc == SIREN_ENOTFOUND ? 0 : rc;
    return check_loaded(app, "user", external, *user < users->n ? users->external[*user] : NULL,
                        err);
}

static int find_item(const struct siren_app *app, const char *external, int *item,
                     struct siren_error *err)
{
    const struct siren_items *items = &app->items;
    int rc = siren_item_find(app->ws, external, item, err);
    if (rc) return rc;
    return check_loaded(app, "item", external,
                        *item < items->n ? items->item[*item].external : NULL, err);
}

int siren_app_target(const struct siren_app *app, const char *user, const char *item,
                     struct siren_target *out, struct siren_error *err)
{
    int rc = 0;
    *out = (struct siren_target){.user = -1, .item = -1, .row = SIREN_NO_ROW};
    if (user) rc = find_user(app, user, &out->user, err);
    if (!rc && item) rc = find_item(app, item, &out->item, err);
    if (!rc && item && out->user >= 0)
        out->row = siren_ratings_row(&app->ratings, out->user, out->item);
    return rc;
}
