/* One rating more, or another one: the user's order and sketch follow.  An item's topic, and the
 * sketches of those who rated it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "store/store.h"

/* A user's ratings in order. */
struct history {
    size_t n;
    int *item;
    double *rating;
    int64_t *time;
};

static void history_clear(struct history *h)
{
    free(h->item);
    free(h->rating);
    free(h->time);
}

static int history_load(struct history *h, struct siren_workspace *ws, int user,
                        struct siren_error *err)
{
    sqlite3_stmt *q;
    size_t item_room = 0, rating_room = 0, time_room = 0;
    *h = (struct history){0};
    int code = store_prepare(
        ws, &q, "SELECT item, rating, time FROM ratings WHERE user = ? ORDER BY sequence", err);
    if (code) return code;
    sqlite3_bind_int(q, 1, user);
    while ((code = store_step(ws, q, "read the ratings", err)) == 1) {
        if (alloc_grow(&h->item, &item_room, h->n + 1, sizeof *h->item) ||
            alloc_grow(&h->rating, &rating_room, h->n + 1, sizeof *h->rating) ||
            alloc_grow(&h->time, &time_room, h->n + 1, sizeof *h->time)) {
            code = siren_fail_memory(err, "a history", h->n * 20);
            break;
        }
        h->item[h->n] = sqlite3_column_int(q, 0);
        h->rating[h->n] = sqlite3_column_double(q, 1);
        h->time[h->n] = store_column_time(q, 2);
        h->n++;
    }
    sqlite3_finalize(q);
    if (code) history_clear(h);
    return code;
}

/* ---- the sketch ---- */

/* How this workspace's sketches are kept. */
struct sketch_rule {
    int soft, k;
    double theta;
};

static int load_rule(struct sketch_rule *rule, struct siren_workspace *ws,
                     const struct siren_meta *meta, int k, struct siren_error *err)
{
    *rule = (struct sketch_rule){.k = k, .theta = siren_scale_theta(&meta->scale)};
    return siren_sketch_soft_load(ws, &rule->soft, err);
}

/* 1: the item has a topic. */
static int make_event(struct siren_workspace *ws, const struct sketch_rule *rule, int item,
                      double rating, int64_t time, struct siren_sketch_event *event,
                      struct siren_error *err)
{
    sqlite3_stmt *q;
    *event = (struct siren_sketch_event){
        .rating = rating, .time = time, .topics = {-1, -1}, .weights = {1, 0}};
    int code = store_prepare(
        ws, &q, "SELECT topic, second, distance, second_distance FROM item_topics WHERE item = ?",
        err);
    if (code) return code;
    sqlite3_bind_int(q, 1, item);
    code = store_step(ws, q, "read an item's topic", err);
    if (code == 1) {
        int topic = sqlite3_column_int(q, 0), second = sqlite3_column_int(q, 1);
        if (topic < 0 || topic >= rule->k || second < 0 || second >= rule->k)
            code = siren_fail(err, SIREN_EFORMAT, "%s: item_topics: item %d: topic %d of %d",
                              ws->path, item, topic, rule->k);
        event->topics[0] = topic;
        if (rule->soft && sqlite3_column_type(q, 1) != SQLITE_NULL) {
            double distances[2] = {sqlite3_column_double(q, 2), sqlite3_column_double(q, 3)};
            event->topics[1] = sqlite3_column_int(q, 1);
            siren_sketch_soft(distances, event->weights);
        }
    }
    sqlite3_finalize(q);
    return code;
}

static int load_states(struct siren_workspace *ws, int user, struct siren_topic_state *states,
                       int k, size_t *n_rows, struct siren_error *err)
{
    struct siren_sketch_row *rows;
    for (int i = 0; i < k; i++) siren_topic_state_clear(states + i);
    int code = siren_sketch_rows_load(ws, user, &rows, n_rows, err);
    if (code) return code;
    for (size_t i = 0; i < *n_rows; i++)
        if (rows[i].topic >= 0 && rows[i].topic < k) states[rows[i].topic] = rows[i].state;
    free(rows);
    return SIREN_OK;
}

static int save_states(struct siren_workspace *ws, int user, const struct siren_topic_state *states,
                       int k, struct siren_error *err)
{
    struct siren_sketch_row *rows = alloc_array((size_t)k, sizeof *rows);
    if (!rows) return siren_fail_memory(err, "a sketch", (size_t)k * sizeof *rows);
    for (int i = 0; i < k; i++)
        rows[i] = (struct siren_sketch_row){.user = user, .topic = i, .state = states[i]};
    int code = siren_sketch_rows_save(ws, rows, (size_t)k, err);
    free(rows);
    return code;
}

static int add_all(struct siren_workspace *ws, const struct sketch_rule *rule, int user,
                   struct siren_topic_state *states, int k, struct siren_error *err)
{
    struct history h;
    int code = history_load(&h, ws, user, err);
    if (code) return code;
    for (size_t i = 0; !code && i < h.n; i++) {
        struct siren_sketch_event event;
        int has = make_event(ws, rule, h.item[i], h.rating[i], h.time[i], &event, err);
        if (has == 1)
            siren_sketch_add(states, k, &event, rule->theta);
        else
            code = has;
    }
    history_clear(&h);
    return code;
}

/* Before the ratings change, so that a sketch that was never built is built from what was there. */
static int update_sketch(struct siren_workspace *ws, int user, int item, double rating,
                         const struct siren_rate_result *r, int64_t old_time,
                         const struct siren_meta *meta, int k, struct siren_error *err)
{
    struct siren_sketch_event before, after;
    struct sketch_rule rule;
    size_t n_rows;
    int code = load_rule(&rule, ws, meta, k, err);
    if (code) return code;
    code = make_event(ws, &rule, item, rating, r->time, &after, err);
    if (code != 1) return code;
    before = after;
    before.rating = r->previous;
    before.time = old_time;
    struct siren_topic_state *states = alloc_array((size_t)k, sizeof *states);
    if (!states) return siren_fail_memory(err, "a sketch", (size_t)k * sizeof *states);
    code = load_states(ws, user, states, k, &n_rows, err);
    if (!code && n_rows == 0) code = add_all(ws, &rule, user, states, k, err);
    if (!code) {
        if (r->corrected) siren_sketch_remove(states, k, &before, rule.theta);
        siren_sketch_add(states, k, &after, rule.theta);
        code = save_states(ws, user, states, k, err);
    }
    free(states);
    return code;
}

/* ---- an item's topic ---- */

/* What a rating of the item counts for is another thing now: that sketch follows.  One that was
 * never built is built from what is there. */
static int follow_rating(struct siren_workspace *ws, const struct sketch_rule *rule, int user,
                         const struct siren_sketch_event *before,
                         const struct siren_sketch_event *after, struct siren_topic_state *states,
                         struct siren_error *err)
{
    size_t n_rows;
    int code = load_states(ws, user, states, rule->k, &n_rows, err);
    if (!code && n_rows) {
        if (before->topics[0] >= 0) siren_sketch_remove(states, rule->k, before, rule->theta);
        siren_sketch_add(states, rule->k, after, rule->theta);
    } else if (!code) {
        code = add_all(ws, rule, user, states, rule->k, err);
    }
    return code ? code : save_states(ws, user, states, rule->k, err);
}

static int follow_all(struct siren_workspace *ws, const struct sketch_rule *rule, int item,
                      struct siren_sketch_event before, struct siren_sketch_event after,
                      struct siren_error *err)
{
    sqlite3_stmt *q = NULL;
    struct siren_topic_state *states = alloc_array((size_t)rule->k, sizeof *states);
    int code =
        states ? SIREN_OK : siren_fail_memory(err, "a sketch", (size_t)rule->k * sizeof *states);
    if (!code)
        code = store_prepare(ws, &q, "SELECT user, rating, time FROM ratings WHERE item = ?", err);
    if (!code) sqlite3_bind_int(q, 1, item);
    while (!code && (code = store_step(ws, q, "read the ratings", err)) == 1) {
        before.rating = after.rating = sqlite3_column_double(q, 1);
        before.time = after.time = store_column_time(q, 2);
        code = follow_rating(ws, rule, sqlite3_column_int(q, 0), &before, &after, states, err);
    }
    sqlite3_finalize(q);
    free(states);
    return code;
}

int siren_topic_assign(struct siren_workspace *ws, int item, int topic, float distance, int second,
                       float second_distance, struct siren_error *err)
{
    struct siren_sketch_event before, after;
    struct sketch_rule rule;
    struct siren_meta meta;
    int64_t k = 0;
    int code = siren_workspace_begin(ws, err);
    if (code) return code;
    code = siren_meta_load(&meta, ws, err);
    if (!code) code = store_integer(ws, "SELECT topics FROM clustering", 0, &k, err);
    if (!code) code = load_rule(&rule, ws, &meta, (int)k, err);
    if (!code) code = make_event(ws, &rule, item, 0, SIREN_NO_TIME, &before, err);
    if (code >= 0) code = store_item_topic(ws, item, topic, distance, second, second_distance, err);
    if (!code) code = make_event(ws, &rule, item, 0, SIREN_NO_TIME, &after, err);
    if (code == 1 && !memcmp(before.topics, after.topics, sizeof before.topics) &&
        !memcmp(before.weights, after.weights, sizeof before.weights))
        code = SIREN_OK; /* nothing has changed */
    if (code == 1) code = follow_all(ws, &rule, item, before, after, err);
    return siren_workspace_end(ws, code, err);
}

/* ---- the order ---- */

/* Where a rating of this time goes among the others: before the first that is known to be later,
 * else last. */
static size_t place_in_time(const struct history *h, int64_t time)
{
    size_t at = 0;
    if (time == SIREN_NO_TIME) return h->n;
    while (at < h->n && !(h->time[at] != SIREN_NO_TIME && h->time[at] > time)) at++;
    return at;
}

static void take_out(struct history *h, size_t at)
{
    h->n--;
    for (size_t i = at; i < h->n; i++) {
        h->item[i] = h->item[i + 1];
        h->rating[i] = h->rating[i + 1];
        h->time[i] = h->time[i + 1];
    }
}

static int shift(struct siren_workspace *ws, int user, size_t from, int by, struct siren_error *err)
{
    char sql[140];
    sqlite3_snprintf(sizeof sql, sql,
                     "UPDATE ratings SET sequence = sequence + (%d) WHERE user = %d"
                     " AND sequence >= %d",
                     by, user, (int)from);
    return store_exec(ws, sql, "reorder the ratings", err);
}

static int write_rating(struct siren_workspace *ws, int user, int item, double rating,
                        const struct siren_rate_result *r, struct siren_error *err)
{
    sqlite3_stmt *q;
    int code = store_prepare(ws, &q,
                             "INSERT INTO ratings(user, item, rating, time, sequence)"
                             " VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE"
                             " SET rating = ?3, time = ?4, sequence = ?5",
                             err);
    if (code) return code;
    sqlite3_bind_int(q, 1, user);
    sqlite3_bind_int(q, 2, item);
    sqlite3_bind_double(q, 3, rating);
    store_bind_time(q, 4, r->time);
    sqlite3_bind_int(q, 5, r->sequence);
    code = store_run(ws, q, "write a rating", err);
    sqlite3_finalize(q);
    return code;
}

static int check_ids(struct siren_workspace *ws, int user, int item, struct siren_error *err)
{
    char sql[80];
    int64_t found;
    sqlite3_snprintf(sizeof sql, sql, "SELECT 1 FROM users WHERE id = %d", user);
    int code = store_integer(ws, sql, 0, &found, err);
    if (code) return code;
    if (!found) return siren_fail(err, SIREN_ENOTFOUND, "%s: no user of id %d", ws->path, user);
    sqlite3_snprintf(sizeof sql, sql, "SELECT 1 FROM items WHERE id = %d", item);
    code = store_integer(ws, sql, 0, &found, err);
    if (!code && !found)
        code = siren_fail(err, SIREN_ENOTFOUND, "%s: no item of id %d", ws->path, item);
    return code;
}

/* h: the user's ratings before. */
static int rate_in_order(struct siren_workspace *ws, struct history *h, int user, int item,
                         double rating, int64_t time, const struct siren_meta *meta, int k,
                         struct siren_rate_result *r, struct siren_error *err)
{
    size_t old = 0;
    int64_t old_time = SIREN_NO_TIME;
    while (old < h->n && h->item[old] != item) old++;
    r->corrected = old < h->n;
    if (time == SIREN_NOW) time = r->corrected ? SIREN_NO_TIME : store_now();
    r->time = time;
    size_t at = place_in_time(h, time);
    if (r->corrected) {
        r->previous = h->rating[old];
        old_time = h->time[old];
        take_out(h, old);
        if (time == SIREN_NO_TIME || time == old_time) {
            r->time = old_time;
            at = old;
        } else {
            at = place_in_time(h, time);
        }
    }
    r->sequence = (int)at;
    r->late = at < h->n;
    r->order_changed = r->corrected ? at != old : at < h->n;
    int code = k > 0 ? update_sketch(ws, user, item, rating, r, old_time, meta, k, err) : SIREN_OK;
    if (!code && r->corrected && at != old) code = shift(ws, user, old + 1, -1, err);
    if (!code && (!r->corrected || at != old)) code = shift(ws, user, at, 1, err);
    if (!code) code = write_rating(ws, user, item, rating, r, err);
    return code;
}

/* Those whose sketch states a rating of the item goes to. */
static int find_topics(struct siren_workspace *ws, int item, struct siren_rate_result *result,
                       struct siren_error *err)
{
    char sql[80];
    int64_t topic, second = -1;
    int soft;
    sqlite3_snprintf(sizeof sql, sql, "SELECT topic FROM item_topics WHERE item = %d", item);
    int code = store_integer(ws, sql, -1, &topic, err);
    if (code) return code;
    code = siren_sketch_soft_load(ws, &soft, err);
    if (!code && soft) {
        sqlite3_snprintf(sizeof sql, sql,
                         "SELECT ifnull(second, -1) FROM item_topics WHERE item = %d", item);
        code = store_integer(ws, sql, -1, &second, err);
    }
    result->topic = (int)topic;
    result->second_topic = (int)second;
    return code;
}

static int check_rating(const struct siren_scale *scale, double rating, struct siren_error *err)
{
    if (siren_scale_exact_label(scale, rating) >= 0) return SIREN_OK;
    return siren_fail(err, SIREN_EINVAL, "rating %g: expected %g to %g in steps of %g", rating,
                      scale->min, scale->max, scale->step);
}

int siren_rate(struct siren_workspace *ws, int user, int item, double rating, int64_t time,
               struct siren_rate_result *result, struct siren_error *err)
{
    struct siren_rate_result ignored;
    struct siren_meta meta;
    struct history h = {0};
    int64_t k = 0;
    if (!result) result = &ignored;
    *result = (struct siren_rate_result){.topic = -1, .second_topic = -1, .previous = NAN};
    int code = siren_workspace_begin(ws, err);
    if (code) return code;
    code = siren_meta_load(&meta, ws, err);
    if (!code) code = check_rating(&meta.scale, rating, err);
    if (!code) code = check_ids(ws, user, item, err);
    if (!code) code = store_integer(ws, "SELECT topics FROM clustering", 0, &k, err);
    if (!code) code = find_topics(ws, item, result, err);
    if (!code) code = history_load(&h, ws, user, err);
    if (!code) code = rate_in_order(ws, &h, user, item, rating, time, &meta, (int)k, result, err);
    history_clear(&h);
    return siren_workspace_end(ws, code, err);
}
