/* From items to interests, over a workspace: embeddings, topics, sketches.
 *
 *     siren_embed_items(ws, &encoder, 0, &embedded, progress, &err);
 *     struct siren_cluster_options options = {.k = 20, .seed = 1};
 *     siren_namer_local(&namer, &lm);
 *     options.namer = &namer;                       // NULL: class-TF-IDF
 *     siren_cluster_items(ws, &options, pool, &clustered, progress, &err);
 *     siren_user_sketch(&app, user, &when, &read, &sketch, &n, &err); */
#ifndef SIREN_UNDERSTAND_H
#define SIREN_UNDERSTAND_H

#include <stddef.h>
#include <stdint.h>

#include "siren/app.h"
#include "siren/error.h"
#include "siren/openai.h"
#include "siren/pool.h"
#include "siren/progress.h"
#include "siren/sketch.h"
#include "siren/topics.h"
#include "siren/workspace.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- embed ---- */

struct siren_embed_report {
    int n_items;    /* of the workspace */
    int n_embedded; /* now */
    int n_kept;     /* had a vector of this encoder, made from the text that they have now */
    int n_placed;   /* had no topic, and joined their nearest */
    double seconds;
};
/* Vectors of the items' texts ("Title: …\nCategory: …").  Only new and changed items, unless
 * `all`.  Vectors are stored in batches: what is done is kept when it is stopped, and the encoder
 * is the workspace's (siren_encoder_finish()) once all are there.  Items that the topics lack join
 * them then, if the topics are this encoder's. */
int siren_embed_items(struct siren_workspace *ws, struct siren_encoder *encoder, int all,
                      struct siren_embed_report *report, const struct siren_progress *progress,
                      struct siren_error *err);

/* ---- topics ---- */

/* Namers: the local model, or a server.  They borrow what they are given. */
void siren_namer_local(struct siren_namer *out, struct siren_lm *lm);
void siren_namer_endpoint(struct siren_namer *out, struct siren_openai *client);

struct siren_cluster_options {
    int k, iterations, restarts; /* 0: 20, 30, 5 */
    int spherical;
    int soft; /* sketches share a rating between the item's two nearest topics */
    uint64_t seed;
    const char *encoder;             /* identity; NULL: the one finished last */
    const struct siren_namer *namer; /* NULL: class-TF-IDF */
    int shown;                       /* most items that the namer reads; 0: 100 */
    int forget_names;                /* 1: names edited by hand are not carried over */
};
struct siren_cluster_report {
    int k, n_items, n_without; /* without a vector: they have no topic */
    int iterations, converged;
    double inertia;
    int named_by_model, named_by_tfidf, named_by_hand;
    int n_users; /* whose sketches were rebuilt */
    double seconds;
};
/* Clusters the items' vectors, names the topics, assigns the items and rebuilds all sketches; one
 * transaction at the end.  A name edited by hand goes on to the topic that continues its topic
 * (siren_topics_match()), if the encoder is the same. */
int siren_cluster_items(struct siren_workspace *ws, const struct siren_cluster_options *options,
                        struct siren_pool *pool, struct siren_cluster_report *report,
                        const struct siren_progress *progress, struct siren_error *err);
/* New names for the topics as they are; those edited by hand stay (unless forget_names). */
int siren_rename_topics(struct siren_workspace *ws, const struct siren_cluster_options *options,
                        struct siren_cluster_report *report, const struct siren_progress *progress,
                        struct siren_error *err);

/* ---- sketches ---- */

/* When: now (all of the user's ratings, as stored), before a rating (row), or before a time;
 * ratings of unknown time stand before all others. */
struct siren_when {
    size_t row;   /* SIREN_NO_ROW: none */
    int64_t time; /* SIREN_NO_TIME: none */
};
/* options NULL: the mean rule with the scale's theta.  Their `now` is not read: a decayed sketch is
 * as of `when`, and of the user's last rating where that has no time.  *n_ratings: how many it
 * rests on.  SIREN_EBUSY: other topics have replaced those that the app holds. */
int siren_user_sketch(struct siren_app *app, int user, const struct siren_when *when,
                      const struct siren_sketch_options *options, struct siren_sketch *out,
                      size_t *n_ratings, struct siren_error *err);

#ifdef __cplusplus
}
#endif
#endif
