/* Candidates for a user: nearest to what was liked, or the most popular. */
#include <math.h>
#include <stdlib.h>

#include "app/parts.h"
#include "base/alloc.h"

struct retrieval {
    const struct siren_app *app;
    int user;
    unsigned char *seen; /* (items) rated by the user */
    int *popularity;     /* (items) ratings that train */
    struct siren_embeddings embeddings;
    double *centre; /* (d) mean of the liked items' vectors; NULL: by popularity */
    enum siren_by_popularity why;
};

static int count_ratings(struct retrieval *r, struct siren_error *err)
{
    const struct siren_ratings *ratings = &r->app->ratings;
    size_t n = (size_t)r->app->items.n;
    r->seen = alloc_zeroed(n + 1, sizeof *r->seen);
    r->popularity = alloc_zeroed(n + 1, sizeof *r->popularity);
    if (!r->seen || !r->popularity) return siren_fail_memory(err, "candidates", n * 5);
    for (size_t i = 0; i < ratings->n; i++) {
        r->popularity[ratings->item[i]] += siren_label_trains(ratings->label[i]);
        if (ratings->user[i] == r->user) r->seen[ratings->item[i]] = 1;
    }
    return 0;
}

/* Without any split every rating counts. */
static void count_all_if_none(struct retrieval *r)
{
    const struct siren_ratings *ratings = &r->app->ratings;
    for (size_t i = 0; i < ratings->n; i++)
        if (siren_label_trains(ratings->label[i])) return;
    for (size_t i = 0; i < ratings->n; i++) r->popularity[ratings->item[i]]++;
}

/* The mean vector of the liked items; r->centre stays NULL if there is none, which r->why says. */
static int find_centre(struct retrieval *r, struct siren_error *err)
{
    const struct siren_ratings *ratings = &r->app->ratings;
    const struct siren_embeddings *e = &r->embeddings;
    double theta = siren_scale_theta(&r->app->meta.scale), *sum;
    size_t n_liked = 0;
    r->why = SIREN_NOTHING_LIKED;
    if (r->user < 0 || r->user >= ratings->n_users) return 0;
    sum = alloc_zeroed((size_t)e->d, sizeof *sum);
    if (!sum) return siren_fail_memory(err, "a mean embedding", (size_t)e->d * sizeof *sum);
    for (size_t i = ratings->user_start[r->user]; i < ratings->user_start[r->user + 1]; i++) {
        int item = ratings->item[i];
        if (!siren_is_liked(ratings->rating[i], theta)) continue;
        if (!n_liked) r->why = SIREN_LIKED_NOT_EMBEDDED;
        if (item >= e->n || !e->has[item]) continue;
        for (int k = 0; k < e->d; k++) sum[k] += e->vector[(size_t)item * (size_t)e->d + (size_t)k];
        n_liked++;
    }
    if (!n_liked) {
        free(sum);
        return 0;
    }
    r->why = SIREN_BY_SIMILARITY;
    r->centre = sum;
    return 0;
}

static double cosine(const struct retrieval *r, int item)
{
    const struct siren_embeddings *e = &r->embeddings;
    const float *v = e->vector + (size_t)item * (size_t)e->d;
    double dot = 0, a = 0, b = 0;
    for (int k = 0; k < e->d; k++) {
        dot += r->centre[k] * v[k];
        a += r->centre[k] * r->centre[k];
        b += (double)v[k] * v[k];
    }
    return a > 0 && b > 0 ? dot / sqrt(a * b) : -1;
}

/* The better candidate first: similarity, then popularity, then the item's number. */
static int by_worth(const void *x, const void *y)
{
    const struct siren_ranked *a = x, *b = y;
    if (!isnan(a->similarity) && a->similarity != b->similarity)
        return a->similarity > b->similarity ? -1 : 1;
    if (a->n_ratings != b->n_ratings) return a->n_ratings > b->n_ratings ? -1 : 1;
    return (a->target.item > b->target.item) - (a->target.item < b->target.item);
}

static int fill_ranking(struct retrieval *r, int n, struct siren_ranking *out,
                        struct siren_error *err)
{
    const struct siren_embeddings *e = &r->embeddings;
    out->ranked = alloc_zeroed((size_t)r->app->items.n + 1, sizeof *out->ranked);
    if (!out->ranked)
        return siren_fail_memory(err, "candidates", (size_t)r->app->items.n * sizeof *out->ranked);
    for (int i = 0; i < r->app->items.n; i++) {
        int embedded = r->centre && i < e->n && e->has[i];
        if (r->seen[i] || (r->centre && !embedded)) continue;
        out->ranked[out->n++] =
            (struct siren_ranked){.target = {.user = r->user, .item = i, .row = SIREN_NO_ROW},
                                  .similarity = embedded ? cosine(r, i) : NAN,
                                  .n_ratings = r->popularity[i]};
    }
    out->by_popularity = r->why;
    qsort(out->ranked, out->n, sizeof *out->ranked, by_worth);
    if (n >= 0 && out->n > (size_t)n) out->n = (size_t)n;
    return 0;
}

/* Without any vectors r->embeddings stay empty. */
static int load_vectors(struct retrieval *r, struct siren_error *err)
{
    struct siren_workspace *ws = r->app->ws;
    int rc = siren_workspace_begin_read(ws, err);
    if (rc) return rc;
    rc = app_check_import(r->app, err);
    if (!rc) rc = siren_embeddings_load(&r->embeddings, ws, NULL, err);
    return siren_workspace_end(ws, rc == SIREN_ENOTFOUND ? 0 : rc, err);
}

int siren_retrieve(struct siren_app *app, int user, int n, struct siren_ranking *out,
                   struct siren_error *err)
{
    struct retrieval r = {.app = app, .user = user};
    int rc;
    *out = (struct siren_ranking){0};
    rc = count_ratings(&r, err);
    if (!rc) {
        count_all_if_none(&r);
        rc = load_vectors(&r, err);
        r.why = user < 0 ? SIREN_UNKNOWN_USER : SIREN_NO_EMBEDDINGS;
        if (!rc && user >= 0 && r.embeddings.n) rc = find_centre(&r, err);
    }
    if (!rc) rc = fill_ranking(&r, n, out, err);
    siren_embeddings_clear(&r.embeddings);
    free(r.seen);
    free(r.popularity);
    free(r.centre);
    return rc;
}
