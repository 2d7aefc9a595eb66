#include "app/sketches.h"

#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "siren/understand.h"

/* ---- all users' ---- */

/* The events of one user's ratings, all of them. */
static void user_states(const struct siren_app *app, int user, double theta,
                        struct siren_topic_state *states)
{
    const struct siren_ratings *r = &app->ratings;
    for (int c = 0; c < app->topics.k; c++) siren_topic_state_clear(&states[c]);
    for (size_t row = r->user_start[user]; row < r->user_start[user + 1]; row++) {
        struct siren_sketch_event e = app_sketch_event(app, row);
        siren_sketch_add(states, app->topics.k, &e, theta);
    }
}

/* Each call that stores prepares its statements and begins a savepoint: many users share one. */
enum { ROWS_AT_ONCE = 4096 };

static size_t add_rows(int user, const struct siren_topic_state *states, int k,
                       struct siren_sketch_row *rows)
{
    size_t n = 0;
    for (int c = 0; c < k; c++)
        if (states[c].weight > 0) rows[n++] = (struct siren_sketch_row){user, c, states[c]};
    return n;
}

static int store_all(struct siren_workspace *ws, const struct siren_app *view, int *n_users,
                     struct siren_error *err)
{
    const struct siren_ratings *r = &view->ratings;
    size_t k = (size_t)view->topics.k, n = 0, room = ROWS_AT_ONCE + k;
    double theta = siren_scale_theta(&r->scale);
    struct siren_topic_state *states = alloc_array(k, sizeof *states);
    struct siren_sketch_row *rows = alloc_array(room, sizeof *rows);
    int rc = states && rows ? 0 : siren_fail_memory(err, "sketches", room * sizeof *rows);
    for (int user = 0; user < r->n_users && !rc; user++) {
        if (r->user_start[user] == r->user_start[user + 1]) continue;
        user_states(view, user, theta, states);
        n += add_rows(user, states, view->topics.k, rows + n);
        ++*n_users;
        if (n < ROWS_AT_ONCE) continue;
        rc = siren_sketch_rows_save(ws, rows, n, err);
        n = 0;
    }
    if (!rc && n) rc = siren_sketch_rows_save(ws, rows, n, err);
    free(states);
    free(rows);
    return rc;
}

int app_sketches_store(struct siren_workspace *ws, const struct siren_topics *t, int soft,
                       int *n_users, struct siren_error *err)
{
    struct siren_app view = {.topics = *t, .soft = soft};
    *n_users = 0;
    int rc = siren_ratings_load(&view.ratings, ws, err);
    if (rc) return rc;
    rc = siren_sketch_rows_delete(ws, -1, err);
    if (!rc) rc = store_all(ws, &view, n_users, err);
    siren_ratings_clear(&view.ratings);
    return rc;
}

/* ---- one user's ---- */

static int load_rows(struct siren_app *app, int user, struct siren_sketch_row **rows, size_t *n,
                     struct siren_error *err)
{
    int rc = siren_workspace_begin_read(app->ws, err);
    if (rc) return rc;
    rc = app_check_topics(app, err);
    if (!rc) rc = siren_sketch_rows_load(app->ws, user, rows, n, err);
    return siren_workspace_end(app->ws, rc, err);
}

/* As they are stored: kept up to date by every rating.  *latest: see past_states(). */
static int stored_states(struct siren_app *app, int user, struct siren_topic_state *states,
                         size_t *n_ratings, int64_t *latest, struct siren_error *err)
{
    const struct siren_ratings *r = &app->ratings;
    struct siren_sketch_row *rows = NULL;
    size_t n = 0;
    int rc = load_rows(app, user, &rows, &n, err);
    for (size_t i = 0; i < n && !rc; i++)
        if (rows[i].topic < app->topics.k) states[rows[i].topic] = rows[i].state;
    free(rows);
    for (size_t row = r->user_start[user]; row < r->user_start[user + 1]; row++)
        if (r->time[row] > *latest) *latest = r->time[row];
    if (!rc) *n_ratings = r->user_start[user + 1] - r->user_start[user];
    return rc;
}

/* From the ratings before a row or a time; with neither, from all.  *latest becomes the time of the
 * latest of them, where that is after it. */
static int past_states(struct siren_app *app, int user, const struct siren_when *when, double theta,
                       struct siren_topic_state *states, size_t *n_ratings, int64_t *latest,
                       struct siren_error *err)
{
    const struct siren_ratings *r = &app->ratings;
    size_t most = r->user_start[user + 1] - r->user_start[user];
    size_t *rows = alloc_array(most + 1, sizeof *rows);
    if (!rows) return siren_fail_memory(err, "a user's history", most * sizeof *rows);
    int by_row = when->row != SIREN_NO_ROW, until = !by_row && when->time != SIREN_NO_TIME;
    size_t n = by_row ? siren_history(r, when->row, 0, rows) : siren_history_now(r, user, 0, rows);
    *n_ratings = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t time = r->time[rows[i]];
        if (until && time != SIREN_NO_TIME && time >= when->time) continue;
        if (time > *latest) *latest = time;
        struct siren_sketch_event e = app_sketch_event(app, rows[i]);
        siren_sketch_add(states, app->topics.k, &e, theta);
        ++*n_ratings;
    }
    free(rows);
    return 0;
}

static int check_when(const struct siren_app *app, int user, const struct siren_when *when,
                      struct siren_error *err)
{
    const struct siren_ratings *r = &app->ratings;
    if (!app->topics.k)
        return siren_fail(err, SIREN_ENOTFOUND, "%s: no topics yet (`siren topics` makes them)",
                          siren_workspace_path(app->ws));
    if (user < 0 || user >= r->n_users)
        return siren_fail(err, SIREN_ENOTFOUND, "no user of id %d: there are %d", user, r->n_users);
    if (when->row != SIREN_NO_ROW && (when->row >= r->n || r->user[when->row] != user))
        return siren_fail(err, SIREN_EINVAL, "row %zu is not a rating of user %d", when->row, user);
    return 0;
}

int siren_user_sketch(struct siren_app *app, int user, const struct siren_when *when,
                      const struct siren_sketch_options *options, struct siren_sketch *out,
                      size_t *n_ratings, struct siren_error *err)
{
    struct siren_sketch_options o = {.theta = siren_scale_theta(&app->meta.scale)};
    memset(out, 0, sizeof *out);
    if (options) o = *options;
    int rc = check_when(app, user, when, err);
    if (rc) return rc;
    struct siren_topic_state *states = alloc_array((size_t)app->topics.k, sizeof *states);
    if (!states) return siren_fail_memory(err, "a sketch", (size_t)app->topics.k * 64);
    for (int c = 0; c < app->topics.k; c++) siren_topic_state_clear(&states[c]);
    o.now = when->row != SIREN_NO_ROW ? app->ratings.time[when->row] : when->time;
    /* what is stored counts as liked what reaches the scale's theta */
    if (when->row == SIREN_NO_ROW && when->time == SIREN_NO_TIME &&
        o.theta == siren_scale_theta(&app->meta.scale))
        rc = stored_states(app, user, states, n_ratings, &o.now, err);
    else
        rc = past_states(app, user, when, o.theta, states, n_ratings, &o.now, err);
    if (!rc)
        rc = siren_sketch_read(out, states, app->topics.k, (const char *const *)app->topic_names,
                               &o, err);
    free(states);
    return rc;
}
