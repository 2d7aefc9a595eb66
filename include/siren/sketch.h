/* The long-term interest sketch: what a user liked and disliked, by topic.
 *
 * For each user and topic a few sums are kept; a rating is added, corrected or
 * taken away in O(1).  Ratings are taken to the nearest 2^-20 and soft weights
 * to the nearest 2^-10, so the undecayed sums are exact: in whatever order
 * ratings came and went, they have the bits of a recomputation.  Decayed sums
 * are rounded: they agree with a recomputation to 1e-12 of the largest
 * contribution. */
#ifndef SIREN_SKETCH_H
#define SIREN_SKETCH_H

#include <stddef.h>
#include <stdint.h>

#include "siren/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SIREN_NO_TIME INT64_MIN /* for a time (ms since 1970) that is not known */

struct siren_scale; /* siren/workspace.h */

/* Where liking begins: min + 3/4 (max - min), 4 on 1..5. */
double siren_scale_theta(const struct siren_scale *scale);
/* rating >= theta, both to the nearest 2^-20: ratings are stored as floats. */
int siren_is_liked(double rating, double theta);

/* One topic of one user.  All zero (time SIREN_NO_TIME): no rating. */
struct siren_topic_state {
    double weight;                      /* of the ratings: their number, unless soft */
    double sum;                         /* of weight × rating */
    int64_t liked, disliked;            /* ratings >= theta, < theta */
    double decayed_weight, decayed_sum; /* as of `time`; half-life one year */
    int64_t time; /* milliseconds since 1970; the latest time that was ever added */
};

/* A rating and the topics of its item. */
struct siren_sketch_event {
    double rating;
    int64_t time;      /* ms; SIREN_NO_TIME: enters the undecayed sums only */
    int32_t topics[2]; /* topics[1] = -1: one topic; topics[0] = -1: none, the event is skipped */
    double weights[2]; /* of the topics, from siren_sketch_soft(); one topic: 1 */
};

void siren_topic_state_clear(struct siren_topic_state *state);
void siren_topic_state_add(struct siren_topic_state *state, double rating, double weight,
                           int64_t time, double theta);
/* Takes away a rating that was added with the same arguments. */
void siren_topic_state_remove(struct siren_topic_state *state, double rating, double weight,
                              int64_t time, double theta);

/* All topics of a user: states (k). */
void siren_sketch_add(struct siren_topic_state *states, int k,
                      const struct siren_sketch_event *event, double theta);
void siren_sketch_remove(struct siren_topic_state *states, int k,
                         const struct siren_sketch_event *event, double theta);
/* From a history: point in time, when the caller gives only what precedes the target. */
void siren_sketch_compute(struct siren_topic_state *states, int k,
                          const struct siren_sketch_event *events, size_t n, double theta);

/* Weights of an item's two nearest topics from its squared distances to their
 * centres: the nearer gets d2 / (d1 + d2), to the nearest 2^-10. */
void siren_sketch_soft(const double distances[2], double weights[2]);

enum siren_sketch_rule {
    SIREN_RULE_MEAN,    /* liked: mean rating >= theta; disliked: below */
    SIREN_RULE_MAJORITY /* liked: more liked than disliked ratings; ties are dropped */
};

struct siren_sketch_options {
    enum siren_sketch_rule rule;
    double theta;       /* siren_scale_theta() */
    int decay;          /* SIREN_RULE_MEAN and the order use the decayed sums */
    int64_t now;        /* decay: when it is read, not before the ratings; SIREN_NO_TIME: at the
                           time of the latest of them */
    double min_support; /* leave out topics of less weight; 0: none */
};

struct siren_sketch_entry {
    int32_t topic;
    const char *name;     /* points into the caller's names */
    double mean;          /* by which it was judged (decayed or not) */
    double support;       /* its weight (decayed or not) */
    int64_t liked, count; /* "7 of 9": ratings >= theta, of all */
};

/* Both lists ordered by support, the greatest first, then by name (bytes). */
struct siren_sketch {
    struct siren_sketch_entry *liked, *disliked;
    size_t n_liked, n_disliked;
    size_t n_slight; /* topics in neither list, of less than min_support */
    size_t n_tied;   /* and such as SIREN_RULE_MAJORITY drops */
};

/* names: (k). */
int siren_sketch_read(struct siren_sketch *out, const struct siren_topic_state *states, int k,
                      const char *const *names, const struct siren_sketch_options *options,
                      struct siren_error *err);
void siren_sketch_clear(struct siren_sketch *sketch);

#ifdef __cplusplus
}
#endif
#endif
