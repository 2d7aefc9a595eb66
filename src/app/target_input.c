/* What a prompt is made from: only what precedes the target. */
#include <stdlib.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "siren/random.h"

struct owner {
    size_t *rows;
    struct siren_prompt_rating *history;
    struct siren_sketch_event *events;
    struct siren_topic_state *states;
    struct siren_sketch sketch;
    struct siren_prompt_topic *liked, *disliked;
    size_t *others;
};

static void owner_free(struct owner *o)
{
    if (!o) return;
    free(o->rows);
    free(o->history);
    free(o->events);
    free(o->states);
    siren_sketch_clear(&o->sketch);
    free(o->liked);
    free(o->disliked);
    free(o->others);
    free(o);
}

void siren_target_input_clear(struct siren_target_input *input)
{
    if (!input) return;
    owner_free(input->owner);
    *input = (struct siren_target_input){0};
}

/* The rows that precede the target, but for the last `gap`; *n of them. */
static int find_rows(const struct siren_app *app, const struct siren_target *t, size_t gap,
                     struct owner *o, size_t *n, struct siren_error *err)
{
    const struct siren_ratings *r = &app->ratings;
    size_t most;
    *n = 0;
    if (t->user < 0 || t->user >= r->n_users) return 0;
    most = r->user_start[t->user + 1] - r->user_start[t->user];
    o->rows = alloc_array(most + 1, sizeof *o->rows);
    if (!o->rows) return siren_fail_memory(err, "a user's history", most * sizeof *o->rows);
    *n = t->row == SIREN_NO_ROW ? siren_history_now(r, t->user, gap, o->rows)
                                : siren_history(r, t->row, gap, o->rows);
    return 0;
}

static int fill_history(const struct siren_app *app, struct owner *o, size_t n,
                        struct siren_error *err)
{
    o->history = alloc_zeroed(n + 1, sizeof *o->history);
    if (!o->history) return siren_fail_memory(err, "a user's history", n * sizeof *o->history);
    for (size_t i = 0; i < n; i++) {
        int item = app->ratings.item[o->rows[i]];
        o->history[i] = (struct siren_prompt_rating){
            app->items.item[item].title, app->categories[item], app->ratings.rating[o->rows[i]]};
    }
    return 0;
}

struct siren_sketch_event app_sketch_event(const struct siren_app *app, size_t row)
{
    const struct siren_topics *t = &app->topics;
    int item = app->ratings.item[row];
    struct siren_sketch_event e = {.rating = app->ratings.rating[row],
                                   .time = app->ratings.time[row],
                                   .topics = {-1, -1},
                                   .weights = {1, 0}};
    if (item >= t->n) return e;
    e.topics[0] = t->topic[item];
    if (app->soft && e.topics[0] >= 0 && t->second[item] >= 0) {
        double distances[2] = {t->distance[item], t->second_distance[item]};
        e.topics[1] = t->second[item];
        siren_sketch_soft(distances, e.weights);
    }
    return e;
}

/* The sketch's events: of the target's history, n rows. */
static int own_events(const struct siren_app *app, struct owner *o, size_t *n,
                      struct siren_error *err)
{
    o->events = alloc_zeroed(*n + 1, sizeof *o->events);
    if (!o->events) return siren_fail_memory(err, "a sketch", *n * sizeof *o->events);
    for (size_t i = 0; i < *n; i++) o->events[i] = app_sketch_event(app, o->rows[i]);
    return 0;
}

/* Of another user, who has ratings that train. */
static int other_events(const struct siren_app *app, const struct siren_target *target,
                        uint64_t seed, struct owner *o, size_t *n, struct siren_error *err)
{
    enum { TRIES = 1000 };
    const struct siren_ratings *r = &app->ratings;
    uint64_t user = (uint64_t)target->user, item = (uint64_t)target->item;
    *n = 0;
    for (uint64_t i = 0; i < TRIES && !*n && r->n_users > 1; i++) {
        int other = (int)siren_random_below(seed, user << 32 ^ item, i, (uint64_t)r->n_users);
        size_t from = r->user_start[other], to = r->user_start[other + 1];
        if (other == target->user || from == to) continue;
        free(o->events);
        o->events = alloc_zeroed(to - from, sizeof *o->events);
        if (!o->events) return siren_fail_memory(err, "a sketch", (to - from) * sizeof *o->events);
        for (size_t row = from; row < to; row++)
            if (siren_label_trains(r->label[row])) o->events[(*n)++] = app_sketch_event(app, row);
    }
    return *n ? 0
              : siren_fail(err, SIREN_ENOTFOUND,
                           "%s: no other user with train ratings, whose sketch could be shown",
                           siren_workspace_path(app->ws));
}

static struct siren_prompt_topic *topics_of(const struct siren_sketch_entry *entries, size_t n)
{
    struct siren_prompt_topic *out = alloc_zeroed(n + 1, sizeof *out);
    for (size_t i = 0; out && i < n; i++)
        out[i] = (struct siren_prompt_topic){entries[i].name, (int)entries[i].count,
                                             (int)entries[i].liked};
    return out;
}

/* When the sketch is read: at the target's time; of a prediction for now, or where it is another
 * user's, at that of the latest rating in it. */
static int64_t sketch_now(const struct siren_app *app, const struct siren_target *target,
                          const struct siren_predict_options *options, const struct owner *o,
                          size_t n)
{
    int64_t now = SIREN_NO_TIME;
    if (target->row != SIREN_NO_ROW && !options->swap_sketch) now = app->ratings.time[target->row];
    for (size_t i = 0; i < n; i++)
        if (o->events[i].time > now) now = o->events[i].time;
    return now;
}

static int fill_sketch(const struct siren_app *app, const struct siren_target *target,
                       const struct siren_predict_options *options, struct owner *o, size_t n,
                       struct siren_error *err)
{
    int k = app->topics.k;
    struct siren_sketch_options read = {.rule = options->rule,
                                        .theta = siren_scale_theta(&app->meta.scale),
                                        .decay = options->decay,
                                        .min_support = options->min_support};
    int rc;
    if (!k)
        return siren_fail(err, SIREN_ENOTFOUND,
                          "%s has no topics, and the strategy wants the user's sketch: run siren "
                          "topics first, or take --strategy recent",
                          siren_workspace_path(app->ws));
    rc = options->swap_sketch ? other_events(app, target, options->swap_seed, o, &n, err)
                              : own_events(app, o, &n, err);
    if (rc) return rc;
    o->states = alloc_zeroed((size_t)k, sizeof *o->states);
    if (!o->states) return siren_fail_memory(err, "a sketch", (size_t)k * sizeof *o->states);
    siren_sketch_compute(o->states, k, o->events, n, read.theta);
    read.now = sketch_now(app, target, options, o, n);
    rc = siren_sketch_read(&o->sketch, o->states, k, (const char *const *)app->topic_names, &read,
                           err);
    if (rc) return rc;
    o->liked = topics_of(o->sketch.liked, o->sketch.n_liked);
    o->disliked = topics_of(o->sketch.disliked, o->sketch.n_disliked);
    return o->liked && o->disliked ? 0 : siren_fail_memory(err, "a sketch", 0);
}

size_t app_item_rows(const struct siren_app *app, const struct siren_target *t, size_t *at)
{
    const struct siren_ratings *r = &app->ratings;
    const struct siren_by_item *b = app->by_item;
    if (t->item < 0 || t->item >= r->n_items) return SIREN_NO_ROW;
    while (b->start[t->item] + *at < b->start[t->item + 1]) {
        size_t row = b->row[b->start[t->item] + (*at)++];
        if (t->row == SIREN_NO_ROW ? siren_label_trains(r->label[row])
                                   : siren_row_precedes(r, row, t->row))
            return row;
    }
    return SIREN_NO_ROW;
}

/* An item that the workspace does not know has no ratings. */
static int count_others(const struct siren_app *app, const struct siren_target *target,
                        struct owner *o, struct siren_error *err)
{
    size_t n_labels = (size_t)siren_scale_labels(&app->meta.scale), at = 0;
    int rc = app_index_items(app, err);
    if (rc) return rc;
    o->others = alloc_zeroed(n_labels, sizeof *o->others);
    if (!o->others) return siren_fail_memory(err, "a prompt", n_labels * sizeof *o->others);
    for (size_t row; (row = app_item_rows(app, target, &at)) != SIREN_NO_ROW;) {
        int label = siren_scale_label(&app->meta.scale, app->ratings.rating[row]);
        if (label >= 0) o->others[label]++;
    }
    return 0;
}

static void fill_candidate(const struct siren_app *app, const struct siren_target *target,
                           struct siren_prompt_input *in)
{
    in->title = target->title;
    in->categories = target->categories;
    in->description = target->description;
    if (target->item >= 0) {
        in->title = app->items.item[target->item].title;
        in->categories = app->categories[target->item];
        in->description = app->items.item[target->item].description;
    }
    if (app->meta.protocol == SIREN_PROTOCOL_PAPER) in->description = NULL;
}

int siren_target_input(const struct siren_app *app, const struct siren_target *target,
                       const struct siren_predict_options *options, struct siren_target_input *out,
                       struct siren_error *err)
{
    struct owner *o = alloc_zeroed(1, sizeof *o);
    size_t n = 0;
    int rc;
    *out = (struct siren_target_input){.owner = o};
    if (!o) return siren_fail_memory(err, "a prompt", sizeof *o);
    rc = find_rows(app, target, options->gap, o, &n, err);
    if (!rc) rc = fill_history(app, o, n, err);
    if (!rc && (options->strategy.flags & SIREN_WITH_SKETCH))
        rc = fill_sketch(app, target, options, o, n, err);
    if (!rc && (options->strategy.flags & SIREN_WITH_OTHERS))
        rc = count_others(app, target, o, err);
    if (rc) {
        siren_target_input_clear(out);
        return rc;
    }
    out->n_history = n;
    out->input = (struct siren_prompt_input){.noun = app->meta.noun,
                                             .scale = app->meta.scale,
                                             .theta = siren_scale_theta(&app->meta.scale),
                                             .history = o->history,
                                             .n_history = n,
                                             .liked = o->liked,
                                             .n_liked = o->sketch.n_liked,
                                             .disliked = o->disliked,
                                             .n_disliked = o->sketch.n_disliked,
                                             .others = o->others};
    fill_candidate(app, target, &out->input);
    return 0;
}
