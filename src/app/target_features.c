#include "app/target_features.h"

#include <stdlib.h>

#include "app/parts.h"
#include "base/alloc.h"

static size_t longest_history(const struct siren_ratings *r)
{
    size_t most = 1;
    for (int u = 0; u < r->n_users; u++) {
        size_t n = r->user_start[u + 1] - r->user_start[u];
        if (n > most) most = n;
    }
    return most;
}

int target_features_open(struct target_features *f, const struct siren_app *app, unsigned groups,
                         size_t gap, struct siren_error *err)
{
    const struct siren_ratings *r = &app->ratings;
    size_t most = longest_history(r);
    *f = (struct target_features){.app = app,
                                  .groups = groups,
                                  .gap = gap,
                                  .d = siren_features_count(&app->meta.scale, groups),
                                  .rows = alloc_array(most, sizeof(size_t)),
                                  .history = alloc_array(most, sizeof(double))};
    int rc = f->rows && f->history
                 ? 0
                 : siren_fail_memory(err, "a user's history", most * sizeof(double));
    if (!rc && groups & SIREN_FEATURE_ITEM) rc = app_index_items(app, err);
    if (rc) target_features_close(f);
    return rc;
}

void target_features_close(struct target_features *f)
{
    free(f->rows);
    free(f->history);
    *f = (struct target_features){0};
}

/* Count and sum of the item's ratings. */
static void item_before(const struct target_features *f, const struct siren_target *t,
                        struct siren_feature_source *s)
{
    size_t at = 0;
    for (size_t row; (row = app_item_rows(f->app, t, &at)) != SIREN_NO_ROW;) {
        s->item_count += 1;
        s->item_sum += (double)f->app->ratings.rating[row];
    }
}

/* The user's earlier ratings in the topic of the candidate. */
static void topic_before(const struct target_features *f, const struct siren_target *t,
                         struct siren_feature_source *s)
{
    const struct siren_topics *topics = &f->app->topics;
    int topic = t->item >= 0 && t->item < topics->n ? topics->topic[t->item] : -1;
    for (size_t i = 0; i < s->n_history && topic >= 0; i++) {
        struct siren_sketch_event e = app_sketch_event(f->app, f->rows[i]);
        for (int k = 0; k < 2; k++) {
            if (e.topics[k] != topic) continue;
            s->topic_weight += e.weights[k];
            s->topic_sum += e.weights[k] * e.rating;
        }
    }
}

void target_features_fill(const struct target_features *f, const struct siren_target *t,
                          const double *logprobs, double *x)
{
    const struct siren_ratings *r = &f->app->ratings;
    struct siren_feature_source s = {.history = f->history, .logprobs = logprobs};
    if (t->row != SIREN_NO_ROW)
        s.n_history = siren_history(r, t->row, f->gap, f->rows);
    else
        s.n_history = siren_history_now(r, t->user, f->gap, f->rows);
    for (size_t k = 0; k < s.n_history; k++) f->history[k] = (double)r->rating[f->rows[k]];
    if (f->groups & SIREN_FEATURE_ITEM) item_before(f, t, &s);
    if (f->groups & SIREN_FEATURE_TOPIC) topic_before(f, t, &s);
    siren_features_fill(&f->app->meta.scale, f->groups, &s, x);
}
