/* Topics: clusters of items and their names.
 *
 * A topic is named by a language model that reads the items nearest its centre,
 * by class-TF-IDF where no model is given or its answer is of no use, or by
 * hand.  A name is never empty and no two topics share one. */
#ifndef SIREN_TOPICS_H
#define SIREN_TOPICS_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"
#include "siren/progress.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SIREN_TOPIC_NEAREST 100 /* items shown to the namer */
#define SIREN_TOPIC_WORDS 10    /* longest name */

/* An item as the namer reads it. */
struct siren_topic_item {
    const char *title;      /* UTF-8 */
    const char *categories; /* "Drama|Comedy"; "" or NULL: none */
};

/* For each topic its m items nearest the centre, nearest first (of equals the lower item):
 * out (k, m), -1 where a topic has fewer.  labels, distances: (n) each item's topic (-1: none)
 * and its squared distance to the centre. */
int siren_topics_nearest(const int32_t *labels, const float *distances, size_t n, int k, int m,
                         int32_t *out, struct siren_error *err);

/* Something that answers a prompt. */
struct siren_namer {
    /* *answer: malloc'ed; one that is of no use is passed over.  A negative code, such as a
     * server's SIREN_ENETWORK, ends the naming. */
    int (*name)(void *context, const char *prompt, char **answer, struct siren_error *err);
    /* Whether the prompt fits the namer's context; NULL: every prompt does.  Items
     * farthest from the centre are left out until it fits. */
    int (*fits)(void *context, const char *prompt);
    void *context;
};

/* The prompt over the given items; `kind` says what they are ("movies").  Malloc'ed. */
int siren_topic_prompt(char **prompt, const char *kind, const struct siren_topic_item *items,
                       size_t n_items, struct siren_error *err);

/* The name in an answer: what follows "Theme:" on its line (the first such line that is of use;
 * without "Theme:" the first line that holds text), free of quotes, markup and a final stop, at
 * most SIREN_TOPIC_WORDS words, valid UTF-8.  Reasoning up to a last "</think>" is passed over.
 * 1: *name is set (malloc'ed); 0: of no use; or SIREN_ENOMEM. */
int siren_topic_parse(const char *answer, char **name, struct siren_error *err);

/* Names by class-TF-IDF over titles and categories: the words (and word pairs) that are
 * frequent in a topic and rare in the others.  names: (k), malloc'ed each, distinct,
 * never empty; after an error all are NULL. */
int siren_topics_tfidf(char **names, int k, const struct siren_topic_item *items,
                       const int32_t *labels, size_t n, struct siren_error *err);

struct siren_named_topic {
    char *text;  /* malloc'ed; set and source SIREN_NAME_HAND on entry: kept as it is */
    int source;  /* enum siren_name_source (siren/workspace.h) */
    int n_shown; /* items that the namer read */
};

/* Name all topics.  nearest: (k, m) from siren_topics_nearest(); namer NULL: TF-IDF.
 * An unusable or repeated answer is replaced by the topic's TF-IDF name.  names: (k), each text
 * NULL or malloc'ed; those that are not kept are freed and replaced.  The caller clears them, after
 * an error (a namer's, SIREN_ECANCEL) too. */
int siren_topics_name(struct siren_named_topic *names, int k, const char *kind,
                      const struct siren_topic_item *items, const int32_t *labels, size_t n,
                      const int32_t *nearest, int m, const struct siren_namer *namer,
                      const struct siren_progress *progress, struct siren_error *err);
void siren_named_topics_clear(struct siren_named_topic *names, int k);

/* What became of the topics of an earlier clustering: previous[j] = the old topic that new
 * topic j continues, or -1.  A pair continues when each is the other's nearest centre; so
 * names edited by hand survive a new clustering. */
int siren_topics_match(const float *old_centres, int old_k, const float *new_centres, int new_k,
                       int d, int32_t *previous, struct siren_error *err);

#ifdef __cplusplus
}
#endif
#endif
