/* Items join the topics: a new one with its embedding, and those that were embedded later. */
#include <stdlib.h>

#include "app/parts.h"
#include "base/alloc.h"
#include "siren/app.h"
#include "siren/kmeans.h"

/* v becomes of length 1 where the clustering did that. */
static int assign_topic(struct siren_workspace *ws, int item, float *v,
                        const struct siren_topics *t, int *topic, struct siren_error *err)
{
    int32_t topics[2];
    double distances[2];
    if (t->spherical) siren_kmeans_unit(v, t->d);
    siren_kmeans_nearest2(t->centre, t->k, t->d, v, topics, distances);
    *topic = topics[0];
    return siren_topic_assign(ws, item, topics[0], (float)distances[0], topics[1],
                              topics[1] < 0 ? 0 : (float)distances[1], err);
}

static int store_embedding(struct siren_workspace *ws, const struct siren_encoder *encoder,
                           int item, uint64_t hash, float *v, const struct siren_topics *t,
                           int *topic, struct siren_error *err)
{
    int id;
    int32_t items[1] = {item};
    int rc = siren_encoder_add(ws, encoder->identity, encoder->d, encoder->unit, &id, err);
    if (!rc) rc = siren_embeddings_save(ws, id, items, 1, v, &hash, err);
    if (rc || !t->k) return rc;
    if (!app_is_finite(v, t->d))
        return siren_fail(err, SIREN_ENUMERIC, "item %d: its embedding is not finite", item);
    return assign_topic(ws, item, v, t, topic, err);
}

int siren_place_item(struct siren_workspace *ws, struct siren_encoder *encoder, int item,
                     int *topic, struct siren_error *err)
{
    struct siren_topics t;
    struct siren_items items;
    char *text = NULL;
    float *v = NULL;
    *topic = -1;
    int rc = siren_topics_load(&t, ws, err);
    if (rc && rc != SIREN_ENOTFOUND) return rc;
    rc = app_check_encoder(ws, &t, encoder, err);
    if (rc) {
        siren_topics_clear(&t);
        return rc;
    }
    rc = siren_items_load(&items, ws, err);
    if (!rc && (item < 0 || item >= items.n))
        rc = siren_fail(err, SIREN_ENOTFOUND, "%s: no item of id %d", siren_workspace_path(ws),
                        item);
    if (!rc) rc = siren_item_text(items.item + item, 0, &text, err);
    v = alloc_array((size_t)encoder->d, sizeof *v);
    if (!rc && !v) rc = siren_fail_memory(err, "an embedding", (size_t)encoder->d * sizeof *v);
    if (!rc) rc = siren_encoder_embed(encoder, (const char *const *)&text, 1, v, NULL, err);
    if (!rc) rc = store_embedding(ws, encoder, item, items.item[item].hash, v, &t, topic, err);
    free(text);
    free(v);
    siren_items_clear(&items);
    siren_topics_clear(&t);
    return rc;
}

static int place_all(struct siren_workspace *ws, const struct siren_topics *t,
                     const struct siren_encoder *encoder, int *n, struct siren_error *err)
{
    struct siren_embeddings e;
    int without = 0, topic;
    for (int i = 0; i < t->n; i++) without += t->topic[i] < 0;
    if (!without) return SIREN_OK;
    int rc = siren_embeddings_load(&e, ws, encoder->identity, err);
    if (rc) return rc;
    for (int i = 0; i < t->n && !rc; i++) {
        float *v = e.vector + (size_t)i * (size_t)e.d;
        if (t->topic[i] >= 0 || !e.has[i] || !app_is_finite(v, e.d)) continue;
        rc = assign_topic(ws, i, v, t, &topic, err);
        ++*n;
    }
    siren_embeddings_clear(&e);
    return rc;
}

int app_place_embedded(struct siren_workspace *ws, const struct siren_encoder *encoder, int *n,
                       struct siren_error *err)
{
    struct siren_topics t;
    *n = 0;
    int rc = siren_workspace_begin(ws, err);
    if (rc) return rc;
    rc = siren_topics_load(&t, ws, err);
    if (!rc) {
        if (t.d == encoder->d && siren_identity_same(t.encoder, encoder->identity))
            rc = place_all(ws, &t, encoder, n, err);
        siren_topics_clear(&t);
    } else if (rc == SIREN_ENOTFOUND) {
        rc = SIREN_OK;
    }
    return siren_workspace_end(ws, rc, err);
}
