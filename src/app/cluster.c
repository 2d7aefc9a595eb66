/* Topics of a workspace's items. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "app/parts.h"
#include "app/sketches.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "siren/kmeans.h"
#include "siren/understand.h"

/* ---- the vectors ---- */

/* Those of the items that have one. */
struct vectors {
    struct siren_embeddings all;
    int32_t *item; /* (n) */
    float *x;      /* (n, d) */
    size_t n;
};

static void vectors_clear(struct vectors *v)
{
    siren_embeddings_clear(&v->all);
    free(v->item);
    free(v->x);
    *v = (struct vectors){0};
}

static int vectors_load(struct vectors *v, struct siren_workspace *ws, const char *encoder,
                        struct siren_error *err)
{
    memset(v, 0, sizeof *v);
    int rc = siren_embeddings_load(&v->all, ws, encoder, err);
    if (rc) return rc;
    size_t d = (size_t)v->all.d, n = (size_t)v->all.n;
    v->item = alloc_array(n, sizeof *v->item);
    v->x = n > SIZE_MAX / d ? NULL : alloc_array(n * d, sizeof *v->x);
    if (!v->item || !v->x) rc = siren_fail_memory(err, "embeddings", n * d * sizeof *v->x);
    for (size_t i = 0; i < n && !rc; i++) {
        if (!v->all.has[i]) continue;
        memcpy(v->x + v->n * d, v->all.vector + i * d, d * sizeof *v->x);
        v->item[v->n++] = (int32_t)i;
    }
    if (!rc && !v->n)
        rc = siren_fail(err, SIREN_ENOTFOUND, "%s: no item has an embedding of its present text",
                        siren_workspace_path(ws));
    if (rc) vectors_clear(v);
    return rc;
}

/* ---- the clustering ---- */

static char *settings_json(const struct siren_cluster_options *o, const struct siren_kmeans *km)
{
    char *text = NULL;
    json_t *j =
        json_pack("{s:i, s:i, s:i, s:b, s:I, s:b, s:b}", "k", km->k, "iterations", km->iterations,
                  "restarts", o->restarts ? o->restarts : 5, "spherical", o->spherical, "seed",
                  (json_int_t)o->seed, "converged", km->converged, "soft", o->soft);
    app_json_text(j, JSON_COMPACT | JSON_SORT_KEYS, &text, NULL);
    return text;
}

static void assign_item(struct siren_topics *t, int item, const float *row)
{
    int32_t two[2];
    double distances[2];
    siren_kmeans_nearest2(t->centre, t->k, t->d, row, two, distances);
    t->topic[item] = two[0];
    t->distance[item] = (float)distances[0];
    t->second[item] = two[1];
    t->second_distance[item] = two[1] < 0 ? 0 : (float)distances[1];
}

static int cluster(struct siren_topics *t, struct vectors *v, const struct siren_cluster_options *o,
                   struct siren_pool *pool, struct siren_cluster_report *report,
                   const struct siren_progress *progress, struct siren_error *err)
{
    struct siren_kmeans km;
    int k = o->k ? o->k : SIREN_KMEANS_K;
    struct siren_kmeans_options ko = {k, o->iterations, o->restarts, o->spherical, o->seed, NULL};
    if (v->n < (size_t)k)
        return siren_fail(
            err, SIREN_EINVAL,
            "%zu items with a vector are fewer than the %d topics: --k is at most %zu", v->n, k,
            v->n);
    /* so that distances to the centres are those of the fit */
    for (size_t i = 0; i < v->n && o->spherical; i++)
        siren_kmeans_unit(v->x + i * (size_t)v->all.d, v->all.d);
    int rc = siren_kmeans_fit(&km, v->x, v->n, v->all.d, &ko, pool, progress, err);
    if (rc) return rc;
    rc = siren_topics_create(t, km.k, km.d, v->all.n, err);
    if (!rc) {
        snprintf(t->encoder, sizeof t->encoder, "%s", v->all.identity);
        t->spherical = o->spherical;
        t->inertia = km.inertia;
        memcpy(t->centre, km.centres, (size_t)km.k * (size_t)km.d * sizeof *t->centre);
        t->settings = settings_json(o, &km);
        if (!t->settings) rc = siren_fail_memory(err, "settings", 0);
        for (size_t i = 0; i < v->n; i++) assign_item(t, v->item[i], v->x + i * (size_t)t->d);
    }
    report->iterations = km.iterations;
    report->converged = km.converged;
    report->inertia = km.inertia;
    siren_kmeans_clear(&km);
    return rc;
}

/* Names edited by hand go on to the topics that continue theirs. */
static int carry_names(struct siren_topics *t, const struct siren_topics *old,
                       struct siren_error *err)
{
    if (!old->k || old->d != t->d || !siren_identity_same(old->encoder, t->encoder)) return 0;
    int32_t *previous = alloc_array((size_t)t->k, sizeof *previous);
    if (!previous) return siren_fail_memory(err, "topics", (size_t)t->k * sizeof *previous);
    int rc = siren_topics_match(old->centre, old->k, t->centre, t->k, t->d, previous, err);
    for (int c = 0; c < t->k && !rc; c++) {
        int from = previous[c];
        if (from < 0 || !old->name[from] || old->name_source[from] != SIREN_NAME_HAND) continue;
        t->name[c] = strdup(old->name[from]);
        t->name_source[c] = SIREN_NAME_HAND;
        if (!t->name[c]) rc = siren_fail_memory(err, "a topic's name", 64);
    }
    free(previous);
    return rc;
}

/* ---- others write meanwhile ---- */

/* The work takes long: what it stores must rest on what is there. */
static int changed(struct siren_workspace *ws, struct siren_error *err)
{
    return siren_fail(err, SIREN_EBUSY,
                      "%s: another process has changed its items, vectors or topics meanwhile: "
                      "nothing is stored, run it again",
                      siren_workspace_path(ws));
}

/* Inside the transaction that stores. */
static int check_stamp(struct siren_workspace *ws, uint64_t stamp, struct siren_error *err)
{
    uint64_t now;
    int rc = siren_topics_stamp(ws, &now, err);
    return rc || now == stamp ? rc : changed(ws, err);
}

/* All vectors are still there. */
static int holds(const struct siren_embeddings *now, const struct vectors *v)
{
    size_t bytes = (size_t)v->all.d * sizeof *v->x;
    if (now->d != v->all.d || now->n < v->all.n) return 0;
    for (size_t i = 0; i < v->n; i++) {
        size_t item = (size_t)v->item[i], at = item * (size_t)v->all.d;
        if (!now->has[item] || memcmp(now->vector + at, v->all.vector + at, bytes) != 0) return 0;
    }
    return 1;
}

static int grow_topics(struct siren_topics *t, int n, struct siren_error *err)
{
    size_t topic = (size_t)t->n, distance = topic, second = topic, second_distance = topic;
    if (alloc_grow(&t->topic, &topic, (size_t)n, sizeof *t->topic) ||
        alloc_grow(&t->distance, &distance, (size_t)n, sizeof *t->distance) ||
        alloc_grow(&t->second, &second, (size_t)n, sizeof *t->second) ||
        alloc_grow(&t->second_distance, &second_distance, (size_t)n, sizeof *t->second_distance))
        return siren_fail_memory(err, "topics", (size_t)n * 16);
    for (; t->n < n; t->n++) t->topic[t->n] = t->second[t->n] = -1;
    return 0;
}

/* Items that got their vectors meanwhile (`siren rate` adds such) join their nearest topics. */
static int take_up(struct siren_topics *t, const struct vectors *v, struct siren_workspace *ws,
                   struct siren_error *err)
{
    struct siren_embeddings now;
    int rc = siren_embeddings_load(&now, ws, t->encoder, err);
    if (rc) return rc == SIREN_ENOTFOUND ? changed(ws, err) : rc;
    rc = holds(&now, v) ? grow_topics(t, now.n, err) : changed(ws, err);
    for (int i = 0; i < now.n && !rc; i++) {
        float *row = now.vector + (size_t)i * (size_t)t->d;
        if (!now.has[i] || t->topic[i] >= 0 || !app_is_finite(row, t->d)) continue;
        if (t->spherical) siren_kmeans_unit(row, t->d);
        assign_item(t, i, row);
    }
    siren_embeddings_clear(&now);
    return rc;
}

/* ---- names ---- */

/* What the namer is told about the items; categories "a|b|c". */
static struct siren_topic_item *describe_items(const struct siren_items *items, char **owner)
{
    struct siren_topic_item *out = alloc_zeroed((size_t)items->n + 1, sizeof *out);
    size_t *at = alloc_array((size_t)items->n + 1, sizeof *at);
    struct buf b = {0};
    for (int i = 0; out && at && i < items->n; i++) {
        at[i] = b.size;
        for (int c = 0; c < items->item[i].n_categories; c++) {
            if (c) buf_putc(&b, '|');
            buf_puts(&b, items->item[i].categories[c]);
        }
        buf_append(&b, "", 1);
    }
    *owner = buf_take(&b);
    for (int i = 0; out && at && *owner && i < items->n; i++)
        out[i] = (struct siren_topic_item){items->item[i].title, *owner + at[i]};
    if (!at || (!*owner && items->n)) {
        free(out);
        out = NULL;
    }
    free(at);
    return out;
}

static void count_sources(const struct siren_topics *t, struct siren_cluster_report *report)
{
    for (int c = 0; c < t->k; c++) {
        report->named_by_model += t->name_source[c] == SIREN_NAME_LLM;
        report->named_by_tfidf += t->name_source[c] == SIREN_NAME_TFIDF;
        report->named_by_hand += t->name_source[c] == SIREN_NAME_HAND;
    }
}

static int name_with(struct siren_topics *t, const struct siren_topic_item *items, const char *kind,
                     const struct siren_cluster_options *o, const struct siren_progress *progress,
                     struct siren_error *err)
{
    int shown = o->shown ? o->shown : SIREN_TOPIC_NEAREST;
    struct siren_named_topic *names = alloc_zeroed((size_t)t->k, sizeof *names);
    int32_t *nearest = alloc_array((size_t)t->k, (size_t)shown * sizeof *nearest);
    int rc = names && nearest ? 0 : siren_fail_memory(err, "topics' names", 0);
    if (!rc)
        rc = siren_topics_nearest(t->topic, t->distance, (size_t)t->n, t->k, shown, nearest, err);
    for (int c = 0; c < t->k && !rc; c++) {
        names[c] = (struct siren_named_topic){t->name[c], t->name_source[c], 0};
        t->name[c] = NULL;
    }
    if (!rc)
        rc = siren_topics_name(names, t->k, kind, items, t->topic, (size_t)t->n, nearest, shown,
                               o->namer, progress, err);
    for (int c = 0; c < t->k && names; c++) {
        if (!names[c].text) continue;
        t->name[c] = names[c].text;
        t->name_source[c] = (uint8_t)names[c].source;
    }
    free(names);
    free(nearest);
    return rc;
}

static int name_topics(struct siren_workspace *ws, struct siren_topics *t,
                       const struct siren_cluster_options *o, struct siren_cluster_report *report,
                       const struct siren_progress *progress, struct siren_error *err)
{
    struct siren_items items;
    struct siren_meta meta;
    char kind[80], *owner = NULL;
    int rc = siren_meta_load(&meta, ws, err);
    if (!rc) rc = siren_items_load(&items, ws, err);
    if (rc) return rc;
    struct siren_topic_item *described = describe_items(&items, &owner);
    snprintf(kind, sizeof kind, "%ss", meta.noun);
    if (!described) rc = siren_fail_memory(err, "items' texts", (size_t)items.n * 64);
    if (!rc && items.n < t->n) rc = changed(ws, err);
    if (!rc) rc = name_with(t, described, kind, o, progress, err);
    if (!rc) count_sources(t, report);
    free(described);
    free(owner);
    siren_items_clear(&items);
    return rc;
}

/* ---- all of it ---- */

static int load_old(struct siren_topics *old, struct siren_workspace *ws, struct siren_error *err)
{
    int rc = siren_topics_load(old, ws, err);
    if (rc == SIREN_ENOTFOUND) *old = (struct siren_topics){0};
    return rc == SIREN_ENOTFOUND ? 0 : rc;
}

/* The vectors, the topics that will be replaced, and a stamp of both: one view. */
static int load_all(struct siren_workspace *ws, const char *encoder, struct vectors *v,
                    struct siren_topics *old, uint64_t *stamp, struct siren_error *err)
{
    int rc = siren_workspace_begin_read(ws, err);
    if (rc) return rc;
    rc = vectors_load(v, ws, encoder, err);
    if (!rc) rc = load_old(old, ws, err);
    if (!rc) rc = siren_topics_stamp(ws, stamp, err);
    return siren_workspace_end(ws, rc, err);
}

/* Topics and sketches, together or not at all. */
static int store_topics(struct siren_workspace *ws, struct siren_topics *t, const struct vectors *v,
                        uint64_t stamp, int soft, struct siren_cluster_report *report,
                        struct siren_error *err)
{
    int rc = siren_workspace_begin(ws, err);
    if (rc) return rc;
    rc = check_stamp(ws, stamp, err);
    if (!rc) rc = take_up(t, v, ws, err);
    if (!rc) rc = siren_topics_save(ws, t, err);
    if (!rc) rc = siren_sketch_soft_save(ws, soft, err);
    if (!rc) rc = app_sketches_store(ws, t, soft, &report->n_users, err);
    return siren_workspace_end(ws, rc, err);
}

int siren_cluster_items(struct siren_workspace *ws, const struct siren_cluster_options *options,
                        struct siren_pool *pool, struct siren_cluster_report *report,
                        const struct siren_progress *progress, struct siren_error *err)
{
    struct siren_topics t = {0}, old = {0};
    struct vectors v = {0};
    uint64_t stamp;
    double start = clock_seconds();
    memset(report, 0, sizeof *report);
    int rc = load_all(ws, options->encoder, &v, &old, &stamp, err);
    if (!rc) rc = cluster(&t, &v, options, pool, report, progress, err);
    if (!rc && !options->forget_names) rc = carry_names(&t, &old, err);
    if (!rc) rc = name_topics(ws, &t, options, report, progress, err);
    if (!rc) rc = store_topics(ws, &t, &v, stamp, options->soft, report, err);
    vectors_clear(&v);
    report->k = t.k;
    report->n_items = t.n;
    for (int i = 0; i < t.n; i++) report->n_without += t.topic[i] < 0;
    report->seconds = clock_seconds() - start;
    siren_topics_clear(&t);
    siren_topics_clear(&old);
    return rc;
}

/* Names may have been exchanged between topics: first all get one that nobody has. */
static int store_names(struct siren_workspace *ws, const struct siren_topics *t, uint64_t stamp,
                       struct siren_error *err)
{
    char passing[80];
    int rc = siren_workspace_begin(ws, err);
    if (rc) return rc;
    rc = check_stamp(ws, stamp, err);
    for (int c = 0; c < t->k && !rc; c++) {
        snprintf(passing, sizeof passing, "topic %d, about to be named", c);
        rc = siren_topic_name(ws, c, passing, SIREN_NAME_NONE, err);
    }
    for (int c = 0; c < t->k && !rc; c++)
        rc = siren_topic_name(ws, c, t->name[c], (enum siren_name_source)t->name_source[c], err);
    return siren_workspace_end(ws, rc, err);
}

static int load_stamped(struct siren_topics *t, uint64_t *stamp, struct siren_workspace *ws,
                        struct siren_error *err)
{
    int rc = siren_workspace_begin_read(ws, err);
    if (rc) return rc;
    rc = siren_topics_load(t, ws, err);
    if (!rc) rc = siren_topics_stamp(ws, stamp, err);
    return siren_workspace_end(ws, rc, err);
}

int siren_rename_topics(struct siren_workspace *ws, const struct siren_cluster_options *options,
                        struct siren_cluster_report *report, const struct siren_progress *progress,
                        struct siren_error *err)
{
    struct siren_topics t = {0};
    uint64_t stamp;
    double start = clock_seconds();
    memset(report, 0, sizeof *report);
    int rc = load_stamped(&t, &stamp, ws, err);
    for (int c = 0; c < t.k && options->forget_names; c++) t.name_source[c] = SIREN_NAME_NONE;
    report->k = t.k;
    report->n_items = t.n;
    report->inertia = t.inertia;
    if (!rc) rc = name_topics(ws, &t, options, report, progress, err);
    if (!rc) rc = store_names(ws, &t, stamp, err);
    report->seconds = clock_seconds() - start;
    siren_topics_clear(&t);
    return rc;
}
